/* What people see of the drift half, and what replicas reported about their service. */
#include "quality/drift.h"

#include "stats/latency.h"
#include "store/windows.h"

#include <inttypes.h>

/* ---- summary */

/* The fields of one side; `reason` stands where there is no evidence. */
static json_t *side_json(const ot_quality *q, const q_side *s)
{
    if (s->detector == NULL) {
        const char *reason = q->drift->champion == 0 ? "no version serves as champion yet"
                             : s->reason[0] != 0     ? s->reason
                                                     : "no reference";
        return json_pack("{s:b, s:i, s:i, s:n, s:n, s:i, s:[], s:s}", "learning", 0, "blocks_seen",
                         0, "blocks_needed", 0, "evidence", "threshold", "alarms", 0, "moved",
                         "reason", reason);
    }
    ot_edetect_status st;
    ot_edetect_get_status(s->detector, &st);
    json_t *moved = s->moved != NULL ? json_incref(s->moved) : json_array();
    return json_pack("{s:b, s:I, s:I, s:f, s:f, s:I, s:o}", "learning", (int)st.warming_up,
                     "blocks_seen", (json_int_t)st.warmup_blocks_seen, "blocks_needed",
                     (json_int_t)st.warmup_blocks, "evidence", st.evidence, "threshold",
                     st.threshold, "alarms", (json_int_t)st.alarms, "moved", moved);
}

static bool promise_suspended(const q_drift *d)
{
    bool any = false;
    for (size_t i = 0; i < Q_SIDES; i++) {
        if (d->side[i].detector != NULL) {
            ot_edetect_status st;
            ot_edetect_get_status(d->side[i].detector, &st);
            any |= st.promise_suspended;
        }
    }
    return any;
}

ot_rc q_drift_summary(ot_quality *q, json_t *into, ot_error *err)
{
    OT_TRY(q_drift_ready(q, err));
    const q_drift *d = q->drift;
    json_t *drift = side_json(q, &d->side[Q_INPUTS]);
    json_t *outputs = side_json(q, &d->side[Q_OUTPUTS]);
    json_t *last = d->last_block >= 0 ? json_integer(d->last_block * q->cfg.block_us) : json_null();
    json_t *rest = json_pack("{s:o, s:I, s:I, s:b, s:o}", "outputs", outputs, "version",
                             (json_int_t)d->champion, "late_windows", (json_int_t)d->late_windows,
                             "promise_suspended", (int)promise_suspended(d), "last_block_us", last);
    bool made = drift != NULL && rest != NULL && json_object_update(drift, rest) == 0;
    json_decref(rest);
    if (!made || json_object_set(into, "drift", drift) != 0) {
        json_decref(drift);
        return ot_fail(err, OT_EXHAUSTED, "evidence of %s: no memory", q->cfg.deployment);
    }
    json_decref(drift);
    return OT_OK;
}

/* ---- service */

typedef struct service {
    ot_service *out;
    int64_t p99_limit_us;
    ot_latency latency;
} service;

/* Shadow copies answer nobody. */
static ot_rc add_window(void *arg, const ot_window_row *r, ot_error *err)
{
    service *s = arg;
    if (r->role == OT_WINDOW_SHADOW) {
        return OT_OK;
    }
    s->out->windows++;
    s->out->requests += r->requests;
    s->out->failed += r->failed;
    s->out->windows_slow +=
        s->p99_limit_us > 0 && r->requests > 0 && r->p99_us > (double)s->p99_limit_us;
    return ot_latency_merge_record(&s->latency, r->latency, r->n_latency, NULL, err);
}

typedef struct service_ask {
    const char *deployment;
    int64_t from_us, to_us;
    service s;
} service_ask;

static ot_rc service_txn(ot_txn *txn, void *arg, ot_error *err)
{
    service_ask *a = arg;
    return ot_windows_ended(txn, a->deployment, a->from_us, a->to_us, add_window, &a->s, err);
}

ot_rc ot_quality_service(ot_quality *q, int64_t from_us, int64_t to_us, int64_t p99_limit_us,
                         ot_service *out, ot_error *err)
{
    ot_service sum = {0};
    service_ask a = {.deployment = q->cfg.deployment,
                     .from_us = from_us,
                     .to_us = to_us,
                     .s = {.out = &sum, .p99_limit_us = p99_limit_us}};
    OT_TRY(ot_store_read(q->store, service_txn, &a, err));
    sum.p50_us = (double)ot_latency_quantile(&a.s.latency, 0.5) / 1000;
    sum.p99_us = (double)ot_latency_quantile(&a.s.latency, 0.99) / 1000;
    *out = sum;
    return OT_OK;
}
