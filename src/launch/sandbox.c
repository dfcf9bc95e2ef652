#include "launch/sandbox.h"

#include "base/disk.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <linux/landlock.h> of older systems lacks most of this; the numbers are the kernel's for good. */
#define CREATE_RULESET 444
#define ADD_RULE 445
#define RESTRICT_SELF 446
#define VERSION_FLAG 1u
#define RULE_PATH_BENEATH 1

enum {
    FS_EXECUTE = 1 << 0,
    FS_WRITE_FILE = 1 << 1,
    FS_READ_FILE = 1 << 2,
    FS_READ_DIR = 1 << 3,
    FS_REMOVE_DIR = 1 << 4,
    FS_REMOVE_FILE = 1 << 5,
    FS_MAKE_CHAR = 1 << 6,
    FS_MAKE_DIR = 1 << 7,
    FS_MAKE_REG = 1 << 8,
    FS_MAKE_SOCK = 1 << 9,
    FS_MAKE_FIFO = 1 << 10,
    FS_MAKE_BLOCK = 1 << 11,
    FS_MAKE_SYM = 1 << 12,
    FS_REFER = 1 << 13,     /* version 2 */
    FS_TRUNCATE = 1 << 14,  /* 3 */
    FS_IOCTL_DEV = 1 << 15, /* 5 */
};
#define NET_TCP 3u   /* bind and connect; version 4 */
#define SCOPE_ALL 3u /* abstract Unix sockets and signals; version 6 */
#define FS_VERSION_1 0x1fffu
#define FS_READ ((unsigned)(FS_READ_FILE | FS_READ_DIR))
#define FS_CACHE                                                                                   \
    ((unsigned)(FS_READ | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |           \
                FS_MAKE_REG | FS_TRUNCATE))
#define FS_OF_FILES                                                                                \
    ((unsigned)(FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV))

typedef struct ruleset_attr {
    uint64_t fs, net, scoped;
} ruleset_attr;

typedef struct __attribute__((packed)) beneath_attr {
    uint64_t allowed;
    int32_t fd;
} beneath_attr;

/* What any program reads. Of /dev only what has no one behind it. */
static const char *const system_paths[] = {
    "/usr",
    "/lib",
    "/lib64",
    "/lib32",
    "/bin",
    "/sbin",
    "/etc",
    "/opt",
    "/proc",
    "/sys",
    "/dev/urandom",
    "/dev/random",
    "/run/systemd/resolve",
    "/nix/store",
    "/dev/zero",
    "/dev/full",
    "/dev/null",
};

static ot_rc allow(int ruleset, uint64_t handled, const char *path, uint64_t access, ot_error *err)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return OT_OK; /* what isn't there needs no permission */
    }
    struct stat st;
    if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) {
        access &= FS_OF_FILES;
    }
    beneath_attr rule = {.allowed = access & handled, .fd = fd};
    long rc = syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0);
    int errnum = errno;
    close(fd);
    return rc == 0 ? OT_OK : ot_fail_errno(err, errnum, "sandbox: %s", path);
}

static ot_rc allow_all(int ruleset, uint64_t handled, const ot_sandbox *s, ot_error *err)
{
    for (size_t i = 0; i < OT_COUNT(system_paths); i++) {
        OT_TRY(allow(ruleset, handled, system_paths[i], FS_READ, err));
    }
    for (const char *const *p = s->read; p != NULL && *p != NULL; p++) {
        OT_TRY(allow(ruleset, handled, *p, FS_READ, err));
    }
    OT_TRY(allow(ruleset, handled, "/dev/null", FS_READ_FILE | FS_WRITE_FILE, err));
    return allow(ruleset, handled, s->cache, FS_CACHE, err);
}

bool ot_sandbox_has_files(void)
{
    return syscall(CREATE_RULESET, NULL, 0, VERSION_FLAG) >= 1;
}

ot_rc ot_sandbox_files(ot_sandbox *s, ot_str *lacks, ot_error *err)
{
    long version = syscall(CREATE_RULESET, NULL, 0, VERSION_FLAG);
    if (version < 1) {
        ot_str_adds(lacks, OT_SANDBOX_NO_FILES);
        return OT_OK;
    }
    ruleset_attr attr = {.fs = FS_VERSION_1};
    attr.fs &= s->program ? ~(uint64_t)FS_EXECUTE : UINT64_MAX;
    attr.fs |= version >= 2 ? (uint64_t)FS_REFER : 0;
    attr.fs |= version >= 3 ? (uint64_t)FS_TRUNCATE : 0;
    attr.fs |= version >= 5 ? (uint64_t)FS_IOCTL_DEV : 0;
    attr.net = version >= 4 ? NET_TCP : 0;
    attr.scoped = version >= 6 ? SCOPE_ALL : 0;
    size_t size = version >= 6   ? sizeof attr
                  : version >= 4 ? offsetof(ruleset_attr, scoped)
                                 : offsetof(ruleset_attr, net);
    int ruleset = (int)syscall(CREATE_RULESET, &attr, size, 0);
    if (ruleset < 0) {
        return ot_fail_errno(err, errno, "sandbox: Landlock version %ld", version);
    }
    ot_rc rc = allow_all(ruleset, attr.fs, s, err);
    if (rc == OT_OK &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(RESTRICT_SELF, ruleset, 0) != 0)) {
        rc = ot_fail_errno(err, errno, "sandbox: Landlock");
    }
    close(ruleset);
    s->files = rc == OT_OK;
    if (rc == OT_OK && version < 3) {
        ot_str_adds(lacks, "The kernel's Landlock is too old to guard against cutting files "
                           "short. ");
    }
    return rc;
}
