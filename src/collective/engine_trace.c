/* What the engine says of this rank's time, and its timeline to the launcher. */
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "collective/engine_internal.h"

void ot_engine_add_account(ot_engine *e, ot_pulse *p)
{
    p->account = ot_trace_account(e->trace);
    if (!e->meet_gone) {
        ot_meet_ask_clock(e->meet);
    }
}

void ot_engine_take_clock(ot_engine *e)
{
    int64_t offset_ns;
    uint64_t error_ns;
    if (ot_meet_clock(e->meet, &offset_ns, &error_ns)) {
        ot_trace_clock(e->trace, offset_ns, error_ns);
    }
}

/* To its file, else to the launcher. */
static ot_rc hand_over(ot_engine *e, const char *path, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT, said = OT_STR_INIT, file = OT_STR_INIT;
    const char *host = ot_engine_host_of(e, e->rank);
    ot_trace_info info;
    OT_TRY(ot_trace_stop(e->trace, host, &text, &info, err));
    ot_trace_info_text(&said, e->rank, host, &info);
    if (path == NULL) {
        return ot_meet_send_timeline(e->meet, said.data, said.len, text.data, text.len, err);
    }
    ot_trace_file(&file, said.data, text.data, text.len);
    return said.failed || file.failed
               ? ot_fail(err, OT_EXHAUSTED, "%s: no memory for the timeline", path)
               : ot_disk_write_atomic(ot_disk_posix(), path, file.data, file.len, 0644, err);
}

static char *take_path(ot_engine *e)
{
    pthread_mutex_lock(&e->lock);
    char *path = e->timeline_path;
    e->timeline_path = NULL;
    pthread_mutex_unlock(&e->lock);
    return path;
}

void ot_engine_send_timeline(ot_engine *e)
{
    ot_error err = {.rc = OT_OK};
    OT_AUTO(ot_free_ptr) char *path = take_path(e);
    if (ot_trace_on(e->trace) && (path != NULL || !e->meet_gone) &&
        hand_over(e, path, &err) != OT_OK) {
        ot_warn("collective", "rank %d: its timeline is lost: %s", e->rank, err.msg);
    }
}

ot_rc ot_engine_timeline_start(ot_engine *e, const char *path, ot_error *err)
{
    OT_AUTO(ot_free_ptr) char *own = ot_strdup(path);
    if (own == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "timeline: out of memory");
    }
    OT_TRY(ot_trace_start(e->trace, err));
    pthread_mutex_lock(&e->lock);
    e->timeline_path = own;
    own = NULL;
    pthread_mutex_unlock(&e->lock);
    return OT_OK;
}

ot_rc ot_engine_timeline_stop(ot_engine *e, ot_error *err)
{
    OT_AUTO(ot_free_ptr) char *path = take_path(e);
    return path != NULL ? hand_over(e, path, err)
                        : ot_fail(err, OT_PRECONDITION,
                                  "no timeline that this program has started is being recorded");
}
