#include "launch/usage.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"

#define SCAN_NS 500000000u
#define WALK_NS 1000000000u
#define WALK_DEPTH 64

struct walk {
    const char *dir;
    unsigned depth;
    uint64_t bytes, limit;
};

static ot_rc walk_entry(void *arg, const char *name, ot_error *err);

static void walk_dir(const char *dir, struct walk *w)
{
    ot_disk *d = ot_disk_posix();
    struct walk inner = {.dir = dir, .depth = w->depth + 1, .bytes = w->bytes, .limit = w->limit};
    (void)d->ops->list(d, dir, walk_entry, &inner, NULL); /* what vanishes takes no room */
    w->bytes = inner.bytes;
}

static ot_rc walk_entry(void *arg, const char *name, ot_error *err)
{
    struct walk *w = arg;
    char path[OT_PATH_MAX];
    ot_disk *d = ot_disk_posix();
    ot_stat st;
    if (ot_path_join(path, w->dir, name, NULL) != OT_OK ||
        d->ops->stat(d, path, &st, NULL) != OT_OK) {
        return OT_OK;
    }
    if (st.is_dir && w->depth < WALK_DEPTH) {
        walk_dir(path, w);
    } else if (st.is_regular) {
        w->bytes += st.size;
    }
    return w->bytes > w->limit ? ot_fail(err, OT_EXHAUSTED, "%s: over", path) : OT_OK;
}

static void poll_disk(ot_launch_usage *u, uint64_t now_ns)
{
    if (u->disk_limit == 0 || now_ns < u->walk_at_ns) {
        return;
    }
    struct walk w = {.limit = u->disk_limit};
    walk_dir(u->disk_dir, &w);
    uint64_t took = ot_clock_mono_ns() - now_ns;
    u->disk = w.bytes;
    u->disk_over = w.bytes > u->disk_limit;
    u->walk_at_ns = now_ns + OT_MAX((uint64_t)WALK_NS, took * 20);
}

static void poll_memory(ot_launch_usage *u, uint64_t now_ns)
{
    if (now_ns >= u->scan_at_ns) {
        if (ot_launch_procs_tree(&u->procs, u->root, NULL) != OT_OK) {
            u->procs.n = 0; /* too many to list: what is not seen is not counted */
        }
        u->scan_at_ns = now_ns + SCAN_NS;
        for (size_t i = 0; i < u->procs.n; i++) {
            if (u->background && u->procs.v[i].session != u->session) {
                ot_launch_proc_background(u->procs.v[i].pid);
            }
        }
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < u->procs.n; i++) {
        ot_launch_proc *p = &u->procs.v[i], now;
        bool same =
            ot_launch_proc_read(p->pid, &now, NULL) == OT_OK && now.start_time == p->start_time;
        p->rss_bytes = same ? now.rss_bytes : 0;
        sum += p->rss_bytes;
    }
    bool over = u->memory_limit > 0 && sum > u->memory_limit;
    if (over && u->procs.n > 1) {
        sum = 0;
        for (size_t i = 0; i < u->procs.n; i++) {
            sum += u->procs.v[i].rss_bytes > 0 ? ot_launch_proc_pss(&u->procs.v[i]) : 0;
        }
        over = sum > u->memory_limit;
    }
    u->memory = sum;
    u->memory_over = over;
    u->memory_peak = OT_MAX(u->memory_peak, sum);
}

void ot_launch_usage_poll(ot_launch_usage *u, uint64_t now_ns)
{
    poll_memory(u, now_ns);
    poll_disk(u, now_ns);
}

void ot_launch_usage_done(ot_launch_usage *u)
{
    ot_launch_procs_done(&u->procs);
}
