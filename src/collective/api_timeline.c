/* The calls that say or ask where time goes. */
#include "collective/api_internal.h"

int overtake_input_wait(int64_t us)
{
    ot_api *a;
    ot_rc rc = us < 0 ? OT_INVALID : ot_api_enter(&a, NULL);
    if (rc == OT_OK) {
        ot_trace_input(ot_engine_trace(a->engine), (uint64_t)us);
        ot_api_leave();
    }
    return rc;
}

int overtake_timeline_start(const char *path, char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = path == NULL || path[0] == '\0'
                   ? ot_fail(&err, OT_INVALID, "overtake_timeline_start: a path is needed")
                   : ot_api_enter(&a, &err);
    if (rc == OT_OK) {
        rc = ot_engine_timeline_start(a->engine, path, &err);
        ot_api_leave();
    }
    return ot_api_answer(&err, rc, message, message_size);
}

int overtake_timeline_stop(char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, &err);
    if (rc == OT_OK) {
        rc = ot_engine_timeline_stop(a->engine, &err);
        ot_api_leave();
    }
    return ot_api_answer(&err, rc, message, message_size);
}
