/* The filter of system calls. An allow-list: what a program needs that computes, reads and has
 * threads. What people try (starting programs, connecting) is refused with EPERM, so that the error
 * they see says so; the rest doesn't exist (ENOSYS), which is what libraries expect of an old
 * kernel. */
#include "launch/sandbox.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define X32_BIT 0x40000000u
#define PR_SET_VMA_NUMBER 0x53564d41u
#define ARG_LOW(n) (offsetof(struct seccomp_data, args) + 8u * (n)) /* little-endian */

/* clang-format off */
static const int allowed[] = {
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev,
    SYS_preadv2, SYS_pwritev2, SYS_close, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_lseek,
    SYS_faccessat, SYS_readlinkat, SYS_getdents64, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_fsync,
    SYS_fdatasync, SYS_ftruncate, SYS_fallocate, SYS_fadvise64, SYS_flock, SYS_fcntl, SYS_dup,
    SYS_dup3, SYS_pipe2, SYS_eventfd2, SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl,
    SYS_epoll_pwait, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime, SYS_ioctl,
    SYS_statfs, SYS_fstatfs, SYS_umask, SYS_getxattr, SYS_fgetxattr, SYS_copy_file_range,
    SYS_sendfile, SYS_splice, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_msync,
    SYS_mlock, SYS_munlock, SYS_mlock2, SYS_mincore, SYS_brk, SYS_memfd_create, SYS_membarrier,
    SYS_mbind, SYS_get_mempolicy, SYS_set_mempolicy, SYS_rt_sigaction, SYS_rt_sigprocmask,
    SYS_rt_sigreturn, SYS_rt_sigtimedwait, SYS_rt_sigsuspend, SYS_rt_sigpending, SYS_sigaltstack,
    SYS_restart_syscall, SYS_futex, SYS_set_robust_list, SYS_get_robust_list, SYS_set_tid_address,
    SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_sched_getparam,
    SYS_sched_getscheduler, SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_getcpu,
    SYS_exit, SYS_exit_group, SYS_gettid, SYS_getpid, SYS_getppid, SYS_getuid, SYS_geteuid,
    SYS_getgid, SYS_getegid, SYS_getgroups, SYS_getpgid, SYS_getsid, SYS_getpriority, SYS_uname,
    SYS_sysinfo, SYS_getrusage, SYS_times, SYS_clock_gettime, SYS_clock_getres,
    SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_getitimer, SYS_setitimer,
    SYS_getrandom, SYS_recvmsg, SYS_sendmsg, SYS_recvfrom, SYS_sendto,
#ifdef SYS_faccessat2
    SYS_faccessat2,
#endif
#ifdef SYS_rseq
    SYS_rseq,
#endif
#ifdef SYS_close_range
    SYS_close_range,
#endif
#ifdef SYS_futex_waitv
    SYS_futex_waitv,
#endif
#ifdef SYS_getrlimit
    SYS_getrlimit,
#endif
#ifdef __x86_64__
    SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_getdents, SYS_dup2, SYS_pipe, SYS_eventfd,
    SYS_poll, SYS_select, SYS_epoll_create, SYS_epoll_wait, SYS_time, SYS_alarm, SYS_getpgrp,
    SYS_arch_prctl,
#endif
};

/* Changes of files: Landlock keeps them in the cache. */
static const int changes[] = {
    SYS_mkdirat, SYS_unlinkat, SYS_renameat2, SYS_truncate,
#ifdef SYS_renameat
    SYS_renameat,
#endif
#ifdef __x86_64__
    SYS_mkdir, SYS_rmdir, SYS_unlink, SYS_rename,
#endif
};

static const int refused[] = {
    SYS_execve, SYS_execveat, SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen,
    SYS_accept, SYS_accept4, SYS_ptrace, SYS_kill, SYS_tkill, SYS_mount, SYS_setsid, SYS_setpgid,
    SYS_setuid, SYS_setgid, SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_utimensat,
    SYS_symlinkat, SYS_linkat, SYS_mknodat,
#ifdef __x86_64__
    SYS_fork, SYS_vfork, SYS_chmod, SYS_chown, SYS_symlink, SYS_link, SYS_mknod,
#endif
};

static const unsigned prctl_allowed[] = {
    PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_GET_NO_NEW_PRIVS, PR_GET_TIMERSLACK,
    PR_SET_TIMERSLACK, PR_CAPBSET_READ, PR_SET_VMA_NUMBER,
};
/* clang-format on */

typedef struct program {
    struct sock_filter *at;
    size_t n;
} program;

static void emit(program *p, unsigned code, size_t k, unsigned yes, unsigned no)
{
    if (p->n < OT_SANDBOX_FILTER_MAX) {
        p->at[p->n] = (struct sock_filter){(uint16_t)code, (uint8_t)yes, (uint8_t)no, (uint32_t)k};
    }
    p->n++;
}

static void answer(program *p, unsigned verdict)
{
    emit(p, BPF_RET | BPF_K, verdict, 0, 0);
}

static void load(program *p, size_t offset)
{
    emit(p, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

/* The accumulator holds the number of the call. */
static void each(program *p, const int *calls, size_t n, unsigned verdict)
{
    for (size_t i = 0; i < n; i++) {
        emit(p, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
        answer(p, verdict);
    }
}

/* `call` is allowed when bits of its argument are as wanted: (arg & mask) == want. */
static void when(program *p, int call, unsigned arg, unsigned mask, unsigned want)
{
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 5);
    load(p, ARG_LOW(arg));
    emit(p, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, want, 0, 1);
    answer(p, SECCOMP_RET_ALLOW);
    answer(p, SECCOMP_RET_ERRNO | EPERM);
}

static void filter_prctl(program *p)
{
    size_t n = OT_COUNT(prctl_allowed);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, (unsigned)(2 * n + 2));
    load(p, ARG_LOW(0));
    for (size_t i = 0; i < n; i++) {
        emit(p, BPF_JMP | BPF_JEQ | BPF_K, prctl_allowed[i], 0, 1);
        answer(p, SECCOMP_RET_ALLOW);
    }
    answer(p, SECCOMP_RET_ERRNO | EPERM);
}

/* Limits may be read, not set: both halves of the pointer to new ones are zero. */
static void filter_prlimit(program *p)
{
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 6);
    load(p, ARG_LOW(2));
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3);
    load(p, ARG_LOW(2) + 4);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
    answer(p, SECCOMP_RET_ALLOW);
    answer(p, SECCOMP_RET_ERRNO | EPERM);
}

static void filter_checked(program *p, bool files, pid_t pid)
{
    unsigned writes = files ? 0 : (unsigned)(O_ACCMODE | O_CREAT | O_TRUNC);
    when(p, SYS_clone, 0, CLONE_THREAD, CLONE_THREAD);
    when(p, SYS_tgkill, 0, ~0u, (unsigned)pid);
    filter_prlimit(p);
    when(p, SYS_openat, 2, writes, 0);
#ifdef SYS_open
    when(p, SYS_open, 1, writes, 0);
#endif
#ifdef SYS_creat
    if (files) {
        when(p, SYS_creat, 0, 0, 0);
    }
#endif
    filter_prctl(p);
}

size_t ot_sandbox_filter(bool files, pid_t pid, struct sock_filter out[OT_SANDBOX_FILTER_MAX])
{
    program p = {.at = out};
#ifdef ARCH
    load(&p, offsetof(struct seccomp_data, arch));
    emit(&p, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    answer(&p, SECCOMP_RET_KILL_PROCESS);
    load(&p, offsetof(struct seccomp_data, nr));
    emit(&p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
    answer(&p, SECCOMP_RET_ERRNO | ENOSYS);
    each(&p, allowed, OT_COUNT(allowed), SECCOMP_RET_ALLOW);
    each(&p, changes, OT_COUNT(changes), files ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | EPERM);
    each(&p, refused, OT_COUNT(refused), SECCOMP_RET_ERRNO | EPERM);
    filter_checked(&p, files, pid);
    answer(&p, SECCOMP_RET_ERRNO | ENOSYS);
#endif
    return p.n <= OT_SANDBOX_FILTER_MAX ? p.n : 0;
}

ot_rc ot_sandbox_calls(const ot_sandbox *s, ot_str *lacks, ot_error *err)
{
    struct sock_filter code[OT_SANDBOX_FILTER_MAX];
    struct sock_fprog prog = {.filter = code};
    prog.len = (unsigned short)ot_sandbox_filter(s->files, getpid(), code);
    /* Others of this account can't look into it, nor can it be made to dump. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return ot_fail_errno(err, errno, "sandbox: prctl");
    }
    long rc = prog.len == 0
                  ? -1
                  : syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
    if (rc > 0) {
        return ot_fail(err, OT_INTERNAL, "sandbox: thread %ld has a filter of its own", rc);
    }
    if (rc < 0) {
        ot_str_adds(lacks, "The kernel filters no system calls (seccomp): it can start programs "
                           "and use the network. ");
    }
    return OT_OK;
}
