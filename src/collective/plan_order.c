/* What rank 0 decides: the one order, the buckets, when a plan is made and when it ends. */
#include "base/mem.h"
#include "collective/plan_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BESIDE_MAX 3   /* times a name is ordered beside the plan before a new plan is made */
#define SKIP_MAX 1024u /* steps between plans that do not hold */

/* Ends the record that was begun at `begun` and has rank 0 do itself what it says. */
static ot_rc said(ot_plan *p, size_t begun, plan_record type, ot_error *err)
{
    plan_record_end(&p->down, begun);
    if (p->down.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a control message of the plan");
    }
    size_t n = p->down.len - begun - 4;
    void *copy = ot_alloc(n + 1); /* what is done may say more, which moves the bytes */
    if (copy == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a control message of %zu bytes", n);
    }
    memcpy(copy, p->down.data + begun + 4, n);
    plan_reader r = {copy, (const uint8_t *)copy + n, false};
    ot_rc rc = plan_take_down(p, type, &r, err);
    ot_free(copy);
    return rc;
}

ot_rc plan_say(ot_plan *p, plan_record type, ot_error *err)
{
    return said(p, plan_record_begin(&p->down, type), type, err);
}

ot_rc plan_say_named(ot_plan *p, plan_record type, const char *name, int32_t rank, ot_error *err)
{
    size_t begun = plan_record_begin(&p->down, type);
    if (name != NULL) {
        plan_put_text(&p->down, name);
    }
    if (rank >= 0) {
        plan_put_u32(&p->down, (uint32_t)rank);
    }
    return said(p, begun, type, err);
}

ot_rc plan_say_fail(ot_plan *p, const char *name, const char *text, ot_error *err)
{
    size_t begun = plan_record_begin(&p->down, PLAN_FAIL);
    plan_put_text(&p->down, name);
    plan_put_text(&p->down, text);
    return said(p, begun, PLAN_FAIL, err);
}

ot_rc plan_say_thaw(ot_plan *p, ot_error *err)
{
    size_t begun = plan_record_begin(&p->down, PLAN_THAW);
    plan_put_u64(&p->down, p->begun);
    plan_put_text(&p->down, p->exclude);
    return said(p, begun, PLAN_THAW, err);
}

ot_rc plan_freeze(ot_plan *p, const char *exclude, ot_error *err)
{
    if (exclude[0] != '\0') {
        snprintf(p->exclude, sizeof p->exclude, "%s", exclude);
    }
    if (p->mode != PLAN_ON) {
        return OT_OK;
    }
    unsigned plans = (unsigned)OT_MIN(p->stats.plans, 10);
    p->skip = OT_MIN((1u << plans) / 2, SKIP_MAX); /* plans that break again and again pay less */
    return plan_say(p, PLAN_FREEZE, err);
}

static bool may_share(const ot_signature *a, const ot_signature *b)
{
    return a->kind == OVERTAKE_ALLREDUCE && b->kind == OVERTAKE_ALLREDUCE && a->dtype == b->dtype &&
           a->reduction == b->reduction && a->prescale == b->prescale &&
           a->postscale == b->postscale;
}

/* Deals names to buckets: bucket_of[i] for entry i. Each bucket holds names of one kind, type and
 * reduction, asked for between the same two waits; the first and the last are small, so that the
 * wire starts early and the last wait is short. Returns how many buckets. */
static size_t deal(const ot_plan *p, plan_entry *const *e, size_t n, bool shaped, size_t *bucket_of)
{
    size_t buckets = 0;
    for (size_t i = 0; i < n; i++) {
        bucket_of[i] = SIZE_MAX;
    }
    for (size_t i = 0; i < n; i++) {
        if (bucket_of[i] != SIZE_MAX) {
            continue;
        }
        size_t b = buckets++;
        uint64_t most = shaped && b == 0 ? p->o.first_bytes : p->o.bucket_bytes;
        uint64_t bytes = plan_bytes(&e[i]->sig);
        bucket_of[i] = b;
        for (size_t j = i + 1; j < n && bytes < most; j++) {
            uint64_t more = plan_bytes(&e[j]->sig);
            if (bucket_of[j] == SIZE_MAX && may_share(&e[i]->sig, &e[j]->sig) &&
                (!shaped || e[j]->set_phases == e[i]->set_phases) && bytes + more <= most) {
                bucket_of[j] = b;
                bytes += more;
            } else if (bucket_of[j] == SIZE_MAX && may_share(&e[i]->sig, &e[j]->sig)) {
                break; /* keeps the order of names of one type */
            }
        }
    }
    return buckets;
}

/* Cuts the end off a last bucket that is large. */
static size_t cut_last(const ot_plan *p, plan_entry *const *e, size_t n, size_t buckets,
                       size_t *bucket_of)
{
    size_t last = buckets - 1, members = 0, cut = n;
    uint64_t tail = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        if (bucket_of[i] == last) {
            members++;
            total += plan_bytes(&e[i]->sig);
        }
    }
    for (size_t i = n; i-- > 0 && total > 2 * p->o.last_bytes && members > 1;) {
        if (bucket_of[i] == last) {
            tail += plan_bytes(&e[i]->sig);
            if (tail > p->o.last_bytes) {
                break;
            }
            cut = i;
        }
    }
    for (size_t i = cut; i < n; i++) {
        if (bucket_of[i] == last) {
            bucket_of[i] = buckets;
        }
    }
    return cut < n ? buckets + 1 : buckets;
}

static int asked_before(const void *a, const void *b)
{
    const plan_entry *x = *(plan_entry *const *)a, *y = *(plan_entry *const *)b;
    return x->set_asked != y->set_asked ? (x->set_asked < y->set_asked ? -1 : 1)
                                        : (x->set_at > y->set_at) - (x->set_at < y->set_at);
}

/* Names became complete in an order that depends on who was late. Those that no rank waits between
 * come as rank 0 has asked for them. */
static void in_order(const ot_plan *p, plan_entry **set)
{
    for (size_t i = 0; i < p->n_set; i++) {
        set[i] = p->set[i];
        set[i]->set_at = i;
    }
    for (size_t i = 0, n; i < p->n_set; i += n) {
        for (n = 1; i + n < p->n_set && set[i + n]->set_phases == set[i]->set_phases;) {
            n++;
        }
        qsort(set + i, n, sizeof(plan_entry *), asked_before);
    }
}

static ot_rc adopt(ot_plan *p, ot_error *err)
{
    size_t n = p->n_set;
    OT_AUTO(ot_free_ptr) size_t *bucket_of = ot_calloc(n, sizeof *bucket_of);
    OT_AUTO(ot_free_ptr) plan_entry **set = ot_calloc(n, sizeof(plan_entry *));
    if (bucket_of == NULL || set == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to plan %zu names", n);
    }
    in_order(p, set);
    size_t buckets = cut_last(p, set, n, deal(p, set, n, true, bucket_of), bucket_of);
    size_t begun = plan_record_begin(&p->down, PLAN_ADOPT);
    plan_put_u64(&p->down, p->epoch + 1);
    plan_put_u32(&p->down, (uint32_t)buckets);
    for (size_t b = 0; b < buckets; b++) {
        uint32_t members = 0;
        for (size_t i = 0; i < n; i++) {
            members += bucket_of[i] == b;
        }
        plan_put_u32(&p->down, members);
        for (size_t i = 0; i < n; i++) {
            if (bucket_of[i] == b) {
                plan_put_u32(&p->down, (uint32_t)set[i]->set_at);
            }
        }
    }
    return said(p, begun, PLAN_ADOPT, err);
}

/* A name of the learnt set comes again: a step has ended. */
static ot_rc step_ended(ot_plan *p, bool *adopted_out, ot_error *err)
{
    if (p->marked && p->skip == 0 && !p->somebody_joined) {
        *adopted_out = true;
        return adopt(p, err);
    }
    p->skip -= p->marked && p->skip > 0;
    p->marked = true;
    return plan_say(p, PLAN_MARK, err);
}

static ot_rc order_bucket(ot_plan *p, plan_entry *const *e, const size_t *bucket_of, size_t n,
                          size_t b, ot_error *err)
{
    uint32_t members = 0;
    const plan_entry *first = NULL;
    for (size_t i = 0; i < n; i++) {
        if (bucket_of[i] == b) {
            members++;
            first = first == NULL ? e[i] : first;
        }
    }
    size_t begun = plan_record_begin(&p->down, PLAN_ORDER);
    plan_put_u32(&p->down, members);
    for (size_t i = 0; i < n; i++) {
        if (bucket_of[i] == b) {
            plan_put_signature(&p->down, &e[i]->sig);
        }
    }
    bool ragged = first != NULL && plan_is_ragged(&first->sig);
    plan_put_u32(&p->down, ragged ? (uint32_t)p->o.size : 0);
    for (int32_t i = 0; i < p->o.size && ragged; i++) {
        plan_put_u64(&p->down, (uint64_t)OT_MAX(first->rows[i], 0));
    }
    return said(p, begun, PLAN_ORDER, err);
}

/* Only sums go on without the ranks that have joined. */
static ot_rc refuse_joined(ot_plan *p, const plan_entry *e, bool *refused_out, ot_error *err)
{
    if (e->sig.kind == OVERTAKE_ALLREDUCE || e->sig.kind == OVERTAKE_BARRIER || !e->gap) {
        return OT_OK;
    }
    char what[256], text[OT_ERROR_MSG_MAX];
    plan_describe(&e->sig, what, sizeof what);
    snprintf(text, sizeof text,
             "'%.200s': rank %d asks for %s after another rank has joined; only allreduce and "
             "barrier go "
             "on without it",
             e->mine.name, (int)e->first, what);
    *refused_out = true;
    return plan_say_fail(p, e->mine.name, text, err);
}

ot_rc plan_order(ot_plan *p, ot_error *err)
{
    bool adopted = false;
    for (size_t i = 0; i < p->n_ready && !adopted; i++) {
        if (p->learning && p->ready[i]->in_set) {
            OT_TRY(step_ended(p, &adopted, err));
        }
    }
    size_t n = 0;
    for (size_t i = 0; i < p->n_ready; i++) {
        plan_entry *e = p->ready[i];
        bool refused = false;
        /* Adoption takes the names of the plan out of negotiation; a failure ends it. */
        if (!e->passed || e->refused) {
            continue;
        }
        OT_TRY(refuse_joined(p, e, &refused, err));
        if (!refused) {
            p->ready[n++] = e;
        }
    }
    p->n_ready = 0;
    size_t *bucket_of = n == 0 ? NULL : ot_calloc(n, sizeof *bucket_of);
    if (n > 0 && bucket_of == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to order %zu names", n);
    }
    size_t buckets = deal(p, p->ready, n, false, bucket_of);
    bool replan = false;
    for (size_t i = 0; i < n; i++) {
        plan_entry *e = p->ready[i];
        if (p->mode == PLAN_ON && plan_is_plannable(p, e, e->rows)) {
            replan = ++e->beside >= BESIDE_MAX || replan;
        }
    }
    ot_rc rc = OT_OK;
    for (size_t b = 0; b < buckets && rc == OT_OK; b++) {
        rc = order_bucket(p, p->ready, bucket_of, n, b, err);
    }
    ot_free(bucket_of);
    if (rc == OT_OK && p->n_set > OT_PLAN_NAMES_MAX / 4) { /* names that never come again */
        p->marked = false;
        rc = plan_say(p, PLAN_MARK, err);
    }
    return rc == OT_OK && replan ? plan_freeze(p, "", err) : rc;
}
