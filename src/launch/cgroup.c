#include "launch/cgroup.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool join(char out[OT_PATH_MAX], const char *dir, const char *name)
{
    return ot_path_join(out, dir, name, NULL) == OT_OK;
}

static bool write_value(const char *dir, const char *name, const char *text)
{
    char path[OT_PATH_MAX];
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    if (!join(path, dir, name) || d->ops->open(d, path, OT_OPEN_WRITE, 0, &f, NULL) != OT_OK) {
        return false;
    }
    bool good = f->ops->append(f, text, strlen(text), NULL) == OT_OK;
    ot_file_close(f);
    return good;
}

static bool read_value(const char *dir, const char *name, ot_str *out)
{
    char path[OT_PATH_MAX];
    return join(path, dir, name) &&
           ot_disk_read_all(ot_disk_posix(), path, 1 << 20, out, NULL) == OT_OK;
}

static bool has(const char *dir, const char *name)
{
    char path[OT_PATH_MAX];
    return join(path, dir, name) && ot_disk_exists(ot_disk_posix(), path);
}

/* Where version 2 is mounted: the line "... MOUNTPOINT ... - cgroup2 ..." of mountinfo. */
static bool mount_point(char out[OT_PATH_MAX])
{
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    if (!read_value("/proc/self", "mountinfo", &s)) {
        return false;
    }
    char *save = NULL;
    for (char *line = strtok_r(s.data, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (strstr(line, " - cgroup2 ") != NULL &&
            sscanf(line, "%*s %*s %*s %*s %4095s", out) == 1) {
            return true;
        }
    }
    return false;
}

/* Our own group's directory: the line "0::/path" of /proc/self/cgroup. */
static bool own_group(char out[OT_PATH_MAX])
{
    char mount[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    if (!mount_point(mount) || !read_value("/proc/self", "cgroup", &s)) {
        return false;
    }
    const char *at = ot_has_prefix(s.data, "0::/") ? s.data : strstr(s.data, "\n0::/");
    if (at == NULL) {
        return false;
    }
    at = strchr(at, '/');
    int n = (int)strcspn(at, "\n");
    return snprintf(out, OT_PATH_MAX, "%s%.*s", mount, n == 1 ? 0 : n, at) < OT_PATH_MAX &&
           has(out, "cgroup.procs");
}

static bool make_in(const char *parent, const char *name, const ot_launch_cgroup_limits *limits,
                    ot_launch_cgroup *out)
{
    ot_launch_cgroup g = {0};
    ot_disk *d = ot_disk_posix();
    char text[32];
    if (!join(g.path, parent, name) || d->ops->mkdir(d, g.path, 0755, NULL) != OT_OK) {
        return false;
    }
    if (limits->memory > 0) {
        snprintf(text, sizeof text, "%" PRIu64, limits->memory);
        g.memory = write_value(g.path, "memory.max", text);
        /* Without these a program would swap for minutes, or lose a child and go on half dead. */
        (void)write_value(g.path, "memory.swap.max", "0");
        (void)write_value(g.path, "memory.oom.group", "1");
    }
    /* A group has a weight of its own, whatever the class of the processes in it. */
    if (limits->cpu_weight > 0) {
        snprintf(text, sizeof text, "%u", limits->cpu_weight);
        g.cpu = write_value(g.path, "cpu.weight", text);
    } else if (limits->background) {
        g.cpu = write_value(g.path, "cpu.idle", "1") || write_value(g.path, "cpu.weight", "1");
    }
    *out = g;
    return true;
}

void ot_launch_cgroup_create(const char *name, const ot_launch_cgroup_limits *limits,
                             ot_launch_cgroup *out)
{
    char own[OT_PATH_MAX];
    *out = (ot_launch_cgroup){0};
    if (!own_group(own)) {
        return;
    }
    /* Refused while our own group has processes (unless it is the root): then only the parent,
     * where its owner has enabled the controllers, can give limits. */
    (void)write_value(own, "cgroup.subtree_control", "+memory");
    (void)write_value(own, "cgroup.subtree_control", "+cpu");
    bool made = make_in(own, name, limits, out);
    char *slash = strrchr(own, '/');
    if ((made && (limits->memory == 0 || out->memory)) || slash == NULL) {
        return;
    }
    ot_launch_cgroup beside = {0};
    *slash = 0;
    if (has(own, "cgroup.procs") && make_in(own, name, limits, &beside)) {
        if (made && !beside.memory) {
            ot_launch_cgroup_remove(beside.path);
            return;
        }
        if (made) {
            ot_launch_cgroup_remove(out->path);
        }
        *out = beside;
    }
}

bool ot_launch_cgroup_add(const ot_launch_cgroup *g, pid_t pid)
{
    char text[24];
    snprintf(text, sizeof text, "%d", (int)pid);
    return g->path[0] != 0 && write_value(g->path, "cgroup.procs", text);
}

uint64_t ot_launch_cgroup_oom_kills(const ot_launch_cgroup *g)
{
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    uint64_t n = 0;
    if (g->memory && read_value(g->path, "memory.events", &s)) {
        const char *at = strstr(s.data, "oom_kill ");
        if (at == NULL || sscanf(at + 9, "%" SCNu64, &n) != 1) {
            n = 0;
        }
    }
    return n;
}

uint64_t ot_launch_cgroup_memory_peak(const ot_launch_cgroup *g)
{
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    return g->memory && read_value(g->path, "memory.peak", &s) ? strtoull(s.data, NULL, 10) : 0;
}

bool ot_launch_cgroup_kill(const char *path)
{
    return path[0] != 0 && write_value(path, "cgroup.kill", "1");
}

void ot_launch_cgroup_remove(const char *path)
{
    ot_disk *d = ot_disk_posix();
    for (int i = 0; path[0] != 0 && i < 100 && d->ops->rmdir(d, path, NULL) != OT_OK; i++) {
        if (!ot_disk_exists(d, path)) {
            return;
        }
        ot_clock_sleep_us(10000);
    }
}
