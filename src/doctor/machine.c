/* Clock, limits, disk. */
#include "doctor/internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#define MIB (UINT64_C(1) << 20)
#define YEAR_2024_US INT64_C(1704067200000000)
#define STEP_US 50000
#define SYNCS 32
#define SYNC_TOO_FAST_NS 15000 /* no disk answers that fast */
#define SYNC_SLOW_NS 20000000
#define PAGE 4096

/* --- clock ------------------------------------------------------------------------------------ */

/* The wall clock against the monotonic one over a twentieth of a second. */
static int64_t wall_jump_us(void)
{
    uint64_t mono = ot_clock_mono_ns();
    int64_t wall = ot_clock_wall_us();
    ot_clock_sleep_us(STEP_US);
    return ot_clock_wall_us() - wall - (int64_t)((ot_clock_mono_ns() - mono) / 1000);
}

void dr_clock(doctor *d)
{
    char now[32], error[32];
    int64_t jump = wall_jump_us(), error_us = 0;
    ot_format_time(ot_clock_wall_us(), now);
    now[19] = 0;
    if (ot_clock_wall_us() < YEAR_2024_US) {
        dr_say(d, "clock", OT_CHECK_FAIL, "set the clock, and let an NTP service keep it",
               "it says %s UTC", now);
        return;
    }
    ot_clock_sync sync = ot_clock_synced(&error_us);
    bool jumps = jump > STEP_US || jump < -STEP_US;
    if (jumps) {
        dr_say(d, "clock", OT_CHECK_WARN,
               "see what else sets the clock; a virtual machine needs one service that does",
               "%s UTC; the wall clock moved %" PRId64 " us against the monotonic one", now, jump);
    } else if (sync == OT_CLOCK_UNSYNCED) {
        dr_say(d, "clock", OT_CHECK_WARN,
               "start chrony or systemd-timesyncd; labels and windows are joined by time",
               "%s UTC; the kernel says that nothing keeps it right", now);
    } else if (sync == OT_CLOCK_UNKNOWN) {
        dr_say(d, "clock", OT_CHECK_OK, NULL, "%s UTC; whether NTP keeps it can't be read here",
               now);
    } else {
        dr_say(d, "clock", OT_CHECK_OK, NULL, "%s UTC; kept by NTP, off by %s at most", now,
               ot_format_duration(error_us, error));
    }
}

/* --- limits ----------------------------------------------------------------------------------- */

static void say_files(doctor *d)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) {
        return;
    }
    unsigned long long have = (unsigned long long)r.rlim_cur;
    if (have < 1024) {
        dr_say(d, "limits.files", have < 256 ? OT_CHECK_FAIL : OT_CHECK_WARN,
               "ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit",
               "%llu open files; each connection needs one", have);
    } else {
        dr_say(d, "limits.files", OT_CHECK_OK, NULL, "%llu open files (hard limit %llu)", have,
               (unsigned long long)r.rlim_max);
    }
}

/* A file of our cgroup (v2, or the v1 controller's); "" when there is none. */
static void read_cgroup(const char *v2, char *out, size_t n)
{
    char self[4096], path[OT_PATH_MAX];
    dr_read("/proc/self/cgroup", self, sizeof self);
    const char *own = strstr(self, "0::");
    size_t len = own != NULL ? strcspn(own + 3, "\n") : 0;
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%.*s/%s", (int)(len > 1 ? len : 0),
                 own != NULL ? own + 3 : "", v2);
        dr_read(path, out, n);
        if ((out[0] != 0 && strcmp(out, "max") != 0) || len <= 1) {
            return;
        }
        while (len > 1 && own[3 + --len] != '/') {
        }
    }
}

static void say_processes(doctor *d)
{
    struct rlimit r = {.rlim_cur = RLIM_INFINITY};
    char pids[64];
    (void)getrlimit(RLIMIT_NPROC, &r);
    read_cgroup("pids.max", pids, sizeof pids);
    unsigned long long least = r.rlim_cur == RLIM_INFINITY ? UINT64_MAX : r.rlim_cur;
    if (pids[0] >= '0' && pids[0] <= '9') {
        least = OT_MIN(least, strtoull(pids, NULL, 10));
    }
    if (least < 256) {
        dr_say(d, "limits.processes", OT_CHECK_WARN,
               "ulimit -u, TasksMax= in the systemd unit, or --pids-limit of the container",
               "%llu processes and threads; a training with a framework starts hundreds", least);
    } else if (least == UINT64_MAX) {
        dr_say(d, "limits.processes", OT_CHECK_OK, NULL, "no limit of processes");
    } else {
        dr_say(d, "limits.processes", OT_CHECK_OK, NULL, "%llu processes and threads", least);
    }
}

static uint64_t meminfo(const char *text, const char *name)
{
    const char *p = strstr(text, name);
    return p != NULL ? strtoull(p + strlen(name), NULL, 10) * 1024 : 0;
}

static void say_memory(doctor *d)
{
    char text[8192], cgroup[64], a[32], b[32], c[32] = "no";
    dr_read("/proc/meminfo", text, sizeof text);
    read_cgroup("memory.max", cgroup, sizeof cgroup);
    uint64_t total = meminfo(text, "MemTotal:"), free = meminfo(text, "MemAvailable:");
    uint64_t limit = cgroup[0] >= '0' && cgroup[0] <= '9' ? strtoull(cgroup, NULL, 10) : 0;
    if (limit > 0 && limit < total) {
        ot_format_size(limit, c);
    }
    uint64_t usable = limit > 0 ? OT_MIN(limit, free) : free;
    bool low = usable < 512 * MIB;
    dr_say(d, "limits.memory", low ? OT_CHECK_WARN : OT_CHECK_OK,
           low ? "free memory or raise the limit; training with a framework needs about 1 GiB, "
                 "serving 100 MiB"
               : NULL,
           "%s available of %s; %s cgroup limit", ot_format_size(free, a), ot_format_size(total, b),
           c);
}

static void say_sizes(doctor *d)
{
    struct rlimit space, file;
    if (getrlimit(RLIMIT_AS, &space) == 0 && getrlimit(RLIMIT_FSIZE, &file) == 0 &&
        (space.rlim_cur != RLIM_INFINITY || file.rlim_cur != RLIM_INFINITY)) {
        dr_say(d, "limits.sizes", OT_CHECK_WARN,
               "ulimit -v unlimited; ulimit -f unlimited: frameworks reserve address space by the "
               "terabyte",
               "%s is limited",
               space.rlim_cur != RLIM_INFINITY ? "the address space (ulimit -v)"
                                               : "the size of files (ulimit -f)");
    }
}

void dr_limits(doctor *d)
{
    say_files(d);
    say_processes(d);
    say_memory(d);
    say_sizes(d);
}

/* --- disk ------------------------------------------------------------------------------------- */

void dr_space(doctor *d)
{
    char at[OT_PATH_MAX], free[32], total[32];
    struct statvfs v;
    dr_existing(d->o->data_dir, at);
    if (statvfs(at, &v) != 0) {
        dr_say(d, "disk.space", OT_CHECK_WARN, "see whether the disk is mounted",
               "%s: can't be asked", at);
        return;
    }
    uint64_t have = (uint64_t)v.f_bavail * v.f_frsize, all = (uint64_t)v.f_blocks * v.f_frsize;
    bool few = v.f_files > 0 && v.f_favail < v.f_files / 100;
    ot_check_state s = have < 100 * MIB                              ? OT_CHECK_FAIL
                       : have < 1024 * MIB || have < all / 20 || few ? OT_CHECK_WARN
                                                                     : OT_CHECK_OK;
    dr_say(d, "disk.space", s,
           s == OT_CHECK_OK ? NULL
                            : "free some, or move the data directory to a larger disk (--data); a "
                              "full disk stops training and labels, not predictions",
           "%s free of %s at %s%s", ot_format_size(have, free), ot_format_size(all, total), at,
           few ? "; hardly any inodes are left" : "");
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Overwrites a page again and again, as commits do, and waits for the disk. */
static ot_rc measure(ot_file *f, uint64_t ns[SYNCS], ot_error *err)
{
    static char page[PAGE];
    OT_TRY(f->ops->pwrite(f, page, sizeof page, 0, err));
    OT_TRY(f->ops->sync(f, false, err));
    for (size_t i = 0; i < SYNCS; i++) {
        memset(page, (int)i + 1, sizeof page);
        uint64_t since = ot_clock_mono_ns();
        OT_TRY(f->ops->pwrite(f, page, sizeof page, 0, err));
        OT_TRY(f->ops->sync(f, true, err));
        ns[i] = ot_clock_mono_ns() - since;
    }
    qsort(ns, SYNCS, sizeof *ns, by_value);
    return OT_OK;
}

/* Why a sync there keeps nothing; NULL: it may. */
static const char *no_sync(const char *at)
{
    const char *preload = getenv("LD_PRELOAD");
    struct statfs v;
    if (preload != NULL && strstr(preload, "eatmydata") != NULL) {
        return "libeatmydata makes each fsync nothing";
    }
    if (statfs(at, &v) != 0) {
        return NULL;
    }
    switch ((unsigned long)v.f_type) {
    case 0x01021994ul:
    case 0x858458f6ul:
        return "it is in memory (tmpfs)";
    case 0x6969ul:
        return "it is on NFS, where locks and syncs depend on the server";
    case 0xff534d42ul:
    case 0xfe534d42ul:
        return "it is on SMB, where locks and syncs depend on the server";
    default:
        return NULL;
    }
}

static void say_sync(doctor *d, const char *at, const uint64_t ns[SYNCS])
{
    uint64_t median = ns[SYNCS / 2], most = ns[SYNCS - 1];
    char a[32], b[32];
    const char *why = no_sync(at);
    ot_format_duration((int64_t)(median / 1000), a);
    ot_format_duration((int64_t)(most / 1000), b);
    if (why == NULL && median < SYNC_TOO_FAST_NS) {
        why = "no disk is that fast: a cache in between acknowledges what it has not written";
    }
    if (why != NULL) {
        dr_say(d, "disk.sync", OT_CHECK_WARN,
               "use a local disk, mounted with barriers, without a volatile write cache in "
               "between: what was acknowledged can be lost with the power",
               "fdatasync takes %s (at most %s) at %s: %s", a, b, at, why);
    } else if (median > SYNC_SLOW_NS) {
        dr_say(d, "disk.sync", OT_CHECK_WARN,
               "each group of writes waits for one: use a faster disk, or keep others off it",
               "fdatasync takes %s (at most %s) at %s", a, b, at);
    } else {
        dr_say(d, "disk.sync", OT_CHECK_OK, NULL, "fdatasync takes %s (at most %s) at %s", a, b,
               at);
    }
}

/* In a file without a name: the directory stays as it is. */
void dr_sync(doctor *d)
{
    char at[OT_PATH_MAX];
    uint64_t ns[SYNCS];
    ot_error err = {0};
    ot_file *f;
    dr_existing(d->o->data_dir, at);
    ot_rc rc = ot_disk_open_unnamed(at, &f, &err);
    if (rc == OT_OK) {
        rc = measure(f, ns, &err);
        ot_file_close(f);
    }
    if (rc == OT_OK) {
        say_sync(d, at, ns);
    } else if (rc == OT_UNIMPLEMENTED) {
        dr_say(d, "disk.sync", OT_CHECK_OK, NULL,
               "not measured: the file system at %s has no files without names", at);
    } else {
        dr_say(d, "disk.sync", OT_CHECK_FAIL,
               "see that you may write there and that it is not full", "%s", err.msg);
    }
}
