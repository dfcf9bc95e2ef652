/* From one epoch of an elastic job to the next, in the same process, and what is kept on the way.
 */
#include "base/log.h"
#include "base/mem.h"
#include "collective/api_internal.h"

#include <string.h>

#define FOR_EVER_US ((int64_t)1000000000 * 1000000)
/* For the launcher to answer: a side that can't reach it has no next epoch. */
#define REACH_US 10000000

int overtake_membership_get(overtake_membership *out)
{
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, NULL);
    if (rc != OT_OK) {
        return rc;
    }
    ot_engine_epoch e = ot_engine_epoch_of(a->engine);
    overtake_membership m = {.epoch = e.number,
                             .elastic = e.elastic,
                             .rank = a->rank,
                             .previous_rank = a->previous_rank,
                             .previous_size = a->previous_size,
                             .waiting = e.waiting,
                             .leaving = e.leaving,
                             .failed = e.over,
                             .batch_ranks = e.batch_ranks};
    (void)ot_engine_members(a->engine, &m.size);
    ot_api_leave();
    m.struct_size = out->struct_size > 0 ? OT_MIN(out->struct_size, sizeof m) : sizeof m;
    memcpy(out, &m, m.struct_size);
    return OT_OK;
}

/* What a rank that is gone has not sent yet of sums that lose bits is gone with it. */
static void say_lost(ot_api *a, ot_engine *e)
{
    int32_t size;
    (void)ot_engine_members(e, &size);
    int32_t gone = a->previous_size - size;
    if (a->residuals.n > 0 && gone > 0 && ot_engine_rank(e) == 0) {
        ot_info(
            "collective",
            "%d rank%s less: what %s had kept of %zu tensors for later steps (--wire auto) is lost",
            gone, gone == 1 ? "" : "s", gone == 1 ? "it" : "they", a->residuals.n);
    }
}

/* The old engine ends whatever comes; a second try begins where the first has stopped. */
static ot_rc reform(ot_api *a, int64_t timeout_us, ot_engine **out, ot_error *err)
{
    if (!a->between) {
        ot_engine_move(a->engine, &a->next);
        ot_api_groups_done(a);
        a->between = true;
        a->previous_rank = a->next.id.rank;
        a->previous_size = a->next.id.size;
        a->next.reach_us = REACH_US;
    }
    a->next.timeout_us = timeout_us;
    ot_rc rc = ot_engine_create(&a->next, out, err);
    a->between = rc != OT_OK;
    if (rc == OT_OK) {
        say_lost(a, *out);
    }
    return rc;
}

int overtake_residuals_save(void *out, uint64_t room, uint64_t *bytes_out, char *message,
                            size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, &err);
    if (rc == OT_OK) {
        rc = ot_residuals_save(&a->residuals, out, room, bytes_out, &err);
        ot_api_leave();
    }
    return ot_api_answer(&err, rc, message, message_size);
}

int overtake_residuals_load(const void *bytes, uint64_t n, char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, &err);
    if (rc == OT_OK) {
        rc = ot_residuals_load(&a->residuals, bytes, n, &err);
        ot_api_leave();
    }
    return ot_api_answer(&err, rc, message, message_size);
}

int overtake_reform(double timeout_s, char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_begin(OT_API_REFORM, &a, &err);
    if (rc == OT_OK) {
        ot_engine *e = NULL;
        int64_t us = timeout_s > 0 ? (int64_t)(OT_MIN(timeout_s, 1e9) * 1e6) : FOR_EVER_US;
        rc = reform(a, us, &e, &err);
        ot_rc ended = ot_api_end(e, &err);
        rc = rc != OT_OK ? rc : ended;
    }
    return ot_api_answer(&err, rc, message, message_size);
}
