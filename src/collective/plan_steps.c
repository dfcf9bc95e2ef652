/* The plan itself, and what every rank does with what rank 0 has said. All ranks take the same
 * records in the same order, so what they derive from them is the same everywhere. */
#include "base/mem.h"
#include "collective/plan_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void forget_talk(plan_entry *e)
{
    e->heard = e->passed = e->refused = e->gap = false;
    e->kids = 0;
    e->phases = 0;
    ot_free(e->rows);
    e->rows = NULL;
}

static void set_clear(ot_plan *p)
{
    for (size_t i = 0; i < p->n_set; i++) {
        p->set[i]->in_set = false;
        plan_entry_release(p, p->set[i]);
    }
    p->n_set = 0;
}

static void buckets_free(plan_bucket *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ot_free(b[i].entries);
        ot_free(b[i].signatures);
        ot_free(b[i].tickets);
        ot_free(b[i].rows);
    }
    ot_free(b);
}

void plan_drop(ot_plan *p)
{
    for (size_t i = 0; i < p->n_buckets; i++) {
        for (size_t j = 0; j < p->buckets[i].n; j++) {
            p->buckets[i].entries[j]->place = -1;
            p->buckets[i].entries[j]->filled = 0;
        }
    }
    buckets_free(p->buckets, p->n_buckets);
    p->buckets = NULL;
    p->n_buckets = 0;
    p->mode = PLAN_OPEN;
}

bool plan_is_plannable(const ot_plan *p, const plan_entry *e, const int64_t *rows)
{
    if (e->never || !p->o.learn) {
        return false;
    }
    for (int32_t i = 1; i < p->o.size && rows != NULL; i++) {
        if (rows[i] != rows[0]) {
            return false;
        }
    }
    return e->sig.kind == OVERTAKE_ALLREDUCE || e->sig.kind == OVERTAKE_REDUCESCATTER ||
           e->sig.kind == OVERTAKE_BROADCAST || e->sig.kind == OVERTAKE_ALLGATHER;
}

/* Gives the bucket to the engine and remembers whose tickets end with it. */
static ot_rc run(ot_plan *p, ot_bucket *b, plan_entry *const *entries, ot_error *err)
{
    if (p->n_running == p->cap_running) {
        size_t more = p->cap_running == 0 ? 16 : 2 * p->cap_running;
        plan_running *grown = ot_realloc(p->running, more * sizeof *grown);
        if (grown == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for %zu running operations", more);
        }
        p->running = grown;
        p->cap_running = more;
    }
    plan_entry **kept = b->n == 0 ? NULL : ot_alloc(b->n * sizeof *kept);
    if (kept == NULL && b->n > 0) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for an operation on %zu tensors", b->n);
    }
    for (size_t i = 0; i < b->n; i++) {
        kept[i] = b->tickets[i] == 0 || entries == NULL ? NULL : entries[i];
        if (kept[i] != NULL) {
            kept[i]->state = PLAN_RUNNING;
        }
    }
    b->seq = p->seq[b->lane]++;
    p->running[p->n_running++] =
        (plan_running){.lane = b->lane, .seq = b->seq, .n = b->n, .entries = kept};
    if (b->lane == OT_LANE_PLANNED) {
        p->stats.buckets_planned++;
    } else {
        p->stats.buckets_negotiated++;
    }
    p->ops.begin(p->ops.arg, b);
    return OT_OK;
}

/* Where this rank's next request of a planned name comes in the lane. */
static uint64_t seq_of(const ot_plan *p, const plan_entry *e)
{
    return p->base + e->filled * p->n_buckets + (uint64_t)e->place;
}

static plan_bucket *bucket_of(const ot_plan *p, const plan_entry *e)
{
    return &p->buckets[e->place];
}

ot_rc plan_off(ot_plan *p, const char *exclude, ot_error *err)
{
    if (p->mode != PLAN_ON || p->off_told) {
        return OT_OK;
    }
    p->off_told = true;
    if (plan_is_root(p)) {
        p->off_wanted = true; /* at the end of the turn: callers are in the middle of the plan */
        snprintf(p->exclude, sizeof p->exclude, "%s", exclude);
        return OT_OK;
    }
    size_t begun = plan_record_begin(&p->up, PLAN_OFF);
    plan_put_u64(&p->up, p->epoch);
    plan_put_text(&p->up, exclude);
    plan_record_end(&p->up, begun);
    return p->up.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a control message") : OT_OK;
}

ot_rc plan_route(ot_plan *p, plan_entry *e, ot_error *err)
{
    if (e->place < 0 || (p->mode == PLAN_CLOSING && seq_of(p, e) >= p->limit)) {
        return plan_offer(p, e, err);
    }
    const ot_signature *planned = &bucket_of(p, e)->signatures[e->slot];
    if (plan_same(planned, &e->mine)) {
        e->state = PLAN_FILLED;
        e->filled++;
        bucket_of(p, e)->missing--;
        return OT_OK;
    }
    if (p->mode == PLAN_CLOSING) {
        char was[256], is[256];
        plan_describe(planned, was, sizeof was);
        plan_describe(&e->mine, is, sizeof is);
        return ot_fail(
            err, OT_PRECONDITION,
            "'%.200s': rank %d asks for %s, where its last steps asked for %s, and other "
            "ranks have begun with the latter; all ranks must ask alike",
            e->mine.name, (int)p->o.rank, is, was);
    }
    e->state = PLAN_HELD;
    return plan_off(p, e->mine.name, err);
}

ot_rc plan_try(ot_plan *p, ot_error *err)
{
    uint64_t *next = &p->seq[OT_LANE_PLANNED];
    while (p->mode == PLAN_ON || (p->mode == PLAN_CLOSING && *next < p->limit)) {
        plan_bucket *b = &p->buckets[(*next - p->base) % p->n_buckets];
        if (b->missing > 0 && !(p->joined && p->mode == PLAN_CLOSING)) {
            return OT_OK;
        }
        for (size_t i = 0; i < b->n; i++) {
            b->tickets[i] = b->entries[i]->state == PLAN_FILLED ? b->entries[i]->ticket : 0;
        }
        b->missing = b->n;
        ot_bucket go = {.lane = OT_LANE_PLANNED,
                        .epoch = p->epoch,
                        .hash = b->hash,
                        .n = b->n,
                        .tickets = b->tickets,
                        .signatures = b->signatures,
                        .rows = b->rows,
                        .last_joined = -1};
        OT_TRY(run(p, &go, b->entries, err));
    }
    if (p->mode == PLAN_CLOSING) {
        plan_drop(p);
        p->closed = true;
        return plan_closed(p, err);
    }
    return OT_OK;
}

static ot_rc bad_record(const char *what, ot_error *err)
{
    return ot_fail(err, OT_DATA_LOSS, "rank 0 sent a bad %s of the plan", what);
}

static ot_rc order_one(ot_plan *p, const ot_signature *s, const int64_t *rows, plan_entry **out,
                       uint64_t *ticket_out, ot_error *err)
{
    plan_entry *e;
    OT_TRY(plan_entry_get(p, s->name, &e, err));
    if (e->state != PLAN_OFFERED && !p->joined) {
        return ot_fail(err, OT_DATA_LOSS,
                       "rank 0 orders '%.200s', which this rank has not asked for", s->name);
    }
    *ticket_out = e->state == PLAN_OFFERED ? e->ticket : 0;
    uint64_t phases = e->phases; /* rank 0 alone makes plans of them */
    e->sig = *s;
    forget_talk(e);
    if (p->learning && plan_is_plannable(p, e, rows)) {
        OT_TRY(plan_push(&p->set, &p->n_set, &p->cap_set, e, err));
        e->in_set = true;
        e->set_phases = phases;
        e->set_asked = e->asked;
    }
    *out = e;
    return OT_OK;
}

static ot_rc take_order(ot_plan *p, plan_reader *r, ot_error *err)
{
    uint32_t n = plan_get_u32(r);
    if (r->bad || n == 0 || n > (size_t)(r->end - r->at)) {
        return bad_record("ORDER", err);
    }
    OT_AUTO(ot_free_ptr) ot_signature *s = ot_calloc(n, sizeof *s);
    OT_AUTO(ot_free_ptr) plan_entry **entries = ot_calloc(n, sizeof *entries);
    OT_AUTO(ot_free_ptr) uint64_t *tickets = ot_calloc(n, sizeof *tickets);
    OT_AUTO(ot_free_ptr) int64_t *rows = NULL;
    if (s == NULL || entries == NULL || tickets == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to run %u tensors", n);
    }
    ot_bucket b = {.lane = OT_LANE_NEGOTIATED, .n = n, .last_joined = -1};
    for (uint32_t i = 0; i < n; i++) {
        plan_get_signature(r, &s[i]);
        b.hash = plan_hash(&s[i], b.hash);
    }
    uint32_t n_rows = plan_get_u32(r);
    if (r->bad || (n_rows != 0 && n_rows != (uint32_t)p->o.size)) {
        return bad_record("ORDER", err);
    }
    if (n_rows > 0) {
        rows = ot_calloc(n_rows, sizeof *rows);
        if (rows == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for the rows of %u ranks", n_rows);
        }
    }
    for (uint32_t i = 0; i < n_rows; i++) {
        rows[i] = (int64_t)plan_get_u64(r);
    }
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        OT_TRY(order_one(p, &s[i], rows, &entries[i], &tickets[i], err));
    }
    if (r->bad) {
        return bad_record("ORDER", err);
    }
    b.tickets = tickets;
    b.signatures = s;
    b.rows = rows;
    return run(p, &b, entries, err);
}

static ot_rc take_fail(ot_plan *p, plan_reader *r, ot_error *err)
{
    char name[OVERTAKE_NAME_MAX + 1], text[OT_ERROR_MSG_MAX];
    plan_get_text(r, name, sizeof name);
    plan_get_text(r, text, sizeof text);
    if (r->bad) {
        return bad_record("FAIL", err);
    }
    plan_entry *e;
    OT_TRY(plan_entry_get(p, name, &e, err));
    forget_talk(e);
    e->failed_at = p->seen;
    if (e->state == PLAN_OFFERED) {
        ot_error why;
        (void)ot_fail(&why, OT_INVALID, "%s", text);
        uint64_t ticket = e->ticket;
        plan_ticket_clear(p, e);
        p->ops.fail(p->ops.arg, ticket, &why, -1);
        return OT_OK;
    }
    if (!p->joined) {
        ot_free(e->doomed);
        e->doomed = ot_strdup(text);
    }
    return OT_OK;
}

static ot_rc bucket_read(ot_plan *p, plan_reader *r, plan_bucket *b, int32_t place, ot_error *err)
{
    uint32_t n = plan_get_u32(r);
    if (r->bad || n == 0 || n > p->n_set) {
        return bad_record("ADOPT", err);
    }
    b->entries = ot_calloc(n, sizeof *b->entries);
    b->signatures = ot_calloc(n, sizeof *b->signatures);
    b->tickets = ot_calloc(n, sizeof *b->tickets);
    if (b->entries == NULL || b->signatures == NULL || b->tickets == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to plan %u names", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = plan_get_u32(r);
        if (r->bad || at >= p->n_set || p->set[at]->place >= 0) {
            return bad_record("ADOPT", err);
        }
        plan_entry *e = p->set[at];
        e->place = place;
        e->slot = b->n;
        b->entries[b->n] = e;
        b->signatures[b->n++] = e->sig;
        b->hash = plan_hash(&e->sig, b->hash);
    }
    b->missing = b->n;
    if (b->signatures[0].kind == OVERTAKE_ALLGATHER) {
        const ot_signature *s = &b->signatures[0];
        b->rows = ot_calloc((size_t)p->o.size, sizeof *b->rows);
        if (b->rows == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for the rows of %d ranks", (int)p->o.size);
        }
        for (int32_t i = 0; i < p->o.size; i++) {
            b->rows[i] = s->ndim > 0 ? s->dims[0] : 1;
        }
    }
    return OT_OK;
}

static ot_rc take_adopt(ot_plan *p, plan_reader *r, ot_error *err)
{
    uint64_t epoch = plan_get_u64(r);
    uint32_t n = plan_get_u32(r);
    if (r->bad || p->mode != PLAN_OPEN || n == 0 || n > p->n_set) {
        return bad_record("ADOPT", err);
    }
    p->buckets = ot_calloc(n, sizeof *p->buckets);
    if (p->buckets == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to plan %u buckets", n);
    }
    p->n_buckets = n;
    for (uint32_t i = 0; i < n; i++) {
        OT_TRY(bucket_read(p, r, &p->buckets[i], (int32_t)i, err));
    }
    set_clear(p);
    p->mode = PLAN_ON;
    p->epoch = epoch;
    p->base = p->seq[OT_LANE_PLANNED];
    p->planned_at = p->seen;
    p->learning = p->off_told = false;
    p->stats.plans++;
    for (uint32_t i = 0; i < n; i++) {
        for (size_t j = 0; j < p->buckets[i].n; j++) {
            plan_entry *e = p->buckets[i].entries[j];
            forget_talk(e);
            e->filled = 0;
            if (e->state == PLAN_OFFERED) {
                OT_TRY(plan_route(p, e, err));
            }
        }
    }
    OT_TRY(plan_try(p, err));
    bool stuck = p->joined;
    for (uint32_t i = 0; i < n; i++) {
        for (size_t j = 0; j < p->buckets[i].n; j++) {
            const plan_entry *e = p->buckets[i].entries[j];
            stuck = stuck || (e->state == PLAN_FILLED && e->waited);
        }
    }
    return stuck ? plan_off(p, "", err) : OT_OK;
}

static ot_rc take_thaw(ot_plan *p, plan_reader *r, ot_error *err)
{
    char name[OVERTAKE_NAME_MAX + 1];
    uint64_t limit = plan_get_u64(r);
    plan_get_text(r, name, sizeof name);
    if (r->bad || p->mode != PLAN_FROZEN || limit < p->seq[OT_LANE_PLANNED]) {
        return bad_record("THAW", err);
    }
    if (name[0] != '\0') {
        plan_entry *e;
        OT_TRY(plan_entry_get(p, name, &e, err));
        e->never = true;
    }
    p->mode = PLAN_CLOSING;
    p->limit = limit;
    p->begun = 0;
    p->exclude[0] = '\0';
    for (size_t i = 0; i < p->n_buckets; i++) {
        for (size_t j = 0; j < p->buckets[i].n; j++) {
            plan_entry *e = p->buckets[i].entries[j];
            if (e->state == PLAN_HELD) {
                OT_TRY(plan_route(p, e, err));
            } else if (e->state == PLAN_FILLED && seq_of(p, e) - p->n_buckets >= limit) {
                e->filled--;
                p->buckets[i].missing++;
                OT_TRY(plan_offer(p, e, err));
            }
        }
    }
    return plan_try(p, err);
}

static ot_rc take_all_joined(ot_plan *p, plan_reader *r, ot_error *err)
{
    uint32_t last = plan_get_u32(r);
    if (r->bad || last >= (uint32_t)p->o.size || !p->joined) {
        return bad_record("JOINED", err);
    }
    uint64_t ticket = p->join_ticket;
    p->joined = p->somebody_joined = false;
    p->kids_joined = 0;
    p->join_ticket = 0;
    const ot_signature s = {.kind = OVERTAKE_JOIN, .name = "join", .prescale = 1, .postscale = 1};
    ot_bucket b = {.lane = OT_LANE_NEGOTIATED,
                   .hash = plan_hash(&s, 0),
                   .n = 1,
                   .tickets = &ticket,
                   .signatures = &s,
                   .last_joined = (int32_t)last};
    return run(p, &b, NULL, err);
}

static ot_rc take_named(ot_plan *p, plan_record type, plan_reader *r, ot_error *err)
{
    char name[OVERTAKE_NAME_MAX + 1];
    plan_get_text(r, name, sizeof name);
    uint32_t rank = type == PLAN_LACKS ? plan_get_u32(r) : 0;
    if (r->bad || rank >= (uint32_t)p->o.size) {
        return bad_record("name", err);
    }
    bool asked = strcmp(p->asked, name) == 0;
    if (type == PLAN_LACKS) {
        bool known = false; /* others have asked for it, too */
        for (unsigned i = 0; i < p->n_lacks; i++) {
            known |= p->lacks[i] == (int32_t)rank;
        }
        if (asked && !known && p->n_lacks < OT_COUNT(p->lacks)) {
            p->lacks[p->n_lacks++] = (int32_t)rank;
        }
        return OT_OK;
    }
    if (asked) {
        p->n_lacks = 0;
    }
    const plan_entry *e = plan_find(p, name);
    if ((e != NULL && e->ticket != 0) || p->joined) {
        return OT_OK;
    }
    if (plan_is_root(p)) {
        return plan_say_named(p, PLAN_LACKS, name, p->o.rank, err);
    }
    size_t begun = plan_record_begin(&p->up, PLAN_LACK);
    plan_put_text(&p->up, name);
    plan_put_u32(&p->up, (uint32_t)p->o.rank);
    plan_record_end(&p->up, begun);
    return OT_OK;
}

ot_rc plan_take_down(ot_plan *p, plan_record type, plan_reader *r, ot_error *err)
{
    switch (type) {
    case PLAN_ORDER:
        return take_order(p, r, err);
    case PLAN_FAIL:
        return take_fail(p, r, err);
    case PLAN_LEARN:
        p->learning = p->o.learn;
        p->marked = false;
        set_clear(p);
        plan_sweep(p);
        return OT_OK;
    case PLAN_MARK:
        set_clear(p);
        return OT_OK;
    case PLAN_ADOPT:
        return take_adopt(p, r, err);
    case PLAN_FREEZE:
        if (p->mode != PLAN_ON) {
            return bad_record("FREEZE", err);
        }
        p->mode = PLAN_FROZEN;
        return plan_begun(p, err);
    case PLAN_THAW:
        return take_thaw(p, r, err);
    case PLAN_ALL_JOINED:
        return take_all_joined(p, r, err);
    case PLAN_WHO:
    case PLAN_LACKS:
        return take_named(p, type, r, err);
    default:
        return bad_record("record", err);
    }
}
