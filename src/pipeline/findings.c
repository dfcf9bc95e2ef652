/* Findings of quality, as they come and as the log has them: a process that died between quality's
 * transaction and ours has lost what was found, and quality tells it once. */
#include "pipeline/internal.h"

#include "base/log.h"

#include <stdio.h>

static void note(pl_state *s, ot_finding_kind kind, uint64_t seq)
{
    switch (kind) {
    case OT_FINDING_DRIFT:
        s->drift = true;
        s->drift_seq = seq;
        break;
    case OT_FINDING_AT_RISK:
        s->at_risk = true;
        s->at_risk_seq = seq;
        break;
    case OT_FINDING_DEGRADED:
        s->degraded = true;
        s->degraded_seq = seq;
        break;
    case OT_FINDING_RECOVERED:
        s->degraded = false;
        s->degraded_seq = seq;
        break;
    case OT_FINDING_LABELS:
    case OT_FINDING_PAIR:
        break;
    }
}

void pl_on_finding(void *arg, const ot_finding *f)
{
    pl_app *a = arg;
    if (f->kind == OT_FINDING_PAIR) {
        pl_release_tick(a);
        return;
    }
    if (f->kind != OT_FINDING_LABELS) {
        pl_change c = pl_change_of(a);
        note(&c.next, f->kind, f->event_seq);
        if (!pl_commit_logged(&c)) {
            return;
        }
        pl_alert(a, f->event_seq);
    }
    pl_trigger_tick(a);
}

static ot_rc take_seq(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    *(uint64_t *)arg = e->seq;
    return OT_OK;
}

static ot_rc catch_up(ot_txn *txn, void *arg, ot_error *err)
{
    static const struct {
        const char *type;
        ot_finding_kind kind;
    } told[] = {{"drift.detected", OT_FINDING_DRIFT},
                {"quality.at_risk", OT_FINDING_AT_RISK},
                {"quality.degraded", OT_FINDING_DEGRADED},
                {"quality.recovered", OT_FINDING_RECOVERED}};
    pl_app *a = arg;
    char object[96];
    snprintf(object, sizeof object, "deployment/%s", a->app->serve.deployment);
    for (size_t i = 0; i < OT_COUNT(told); i++) {
        const pl_state *s = &a->st;
        uint64_t known = told[i].kind == OT_FINDING_DRIFT     ? s->drift_seq
                         : told[i].kind == OT_FINDING_AT_RISK ? s->at_risk_seq
                                                              : s->degraded_seq;
        /* What was found about an earlier champion says nothing about this one. */
        ot_event_query q = {.type_prefix = told[i].type,
                            .object = object,
                            .after_seq = OT_MAX(known, s->champion_seq),
                            .newest_first = true,
                            .limit = 1};
        uint64_t seq = 0;
        OT_TRY(ot_events_read(txn, &q, take_seq, &seq, err));
        if (seq != 0) {
            note(&a->st, told[i].kind, seq);
        }
    }
    return OT_OK;
}

ot_rc pl_findings_catch_up(pl_app *a, ot_error *err)
{
    return ot_store_read(a->p->store, catch_up, a, err);
}
