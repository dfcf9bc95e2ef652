/* What the files of the plan share. The records of the two streams are drawn in plan_wire.c. */
#ifndef OT_COLLECTIVE_PLAN_INTERNAL_H
#define OT_COLLECTIVE_PLAN_INTERNAL_H

#include "base/str.h"
#include "collective/plan.h"

#define PLAN_FAN 8 /* children of a rank in the tree */

typedef enum plan_state {
    PLAN_NONE,    /* no request of this rank */
    PLAN_FILLED,  /* waits for its planned bucket */
    PLAN_OFFERED, /* in negotiation */
    PLAN_HELD,    /* off the plan: waits until the ranks have agreed where it ends */
    PLAN_RUNNING,
} plan_state;

/* A name: this rank's request, the negotiation of it in this rank's subtree, its place in the plan.
 */
typedef struct plan_entry {
    struct plan_entry *next_name, *next_ticket; /* chains of the two tables */
    ot_signature mine; /* of this rank's request; its name stands when there is none, too */
    uint64_t ticket;   /* 0: none */
    plan_state state;
    uint64_t asked; /* number of this rank's request */
    uint64_t phase; /* between which waits of this rank it was asked for */
    uint64_t
        phases;   /* a hash over those of the subtree: equal for names that no rank waits between */
    bool waited;  /* the program waits for it */
    char *doomed; /* the request that this rank has yet to make fails with this */

    ot_signature sig; /* the first heard, of rank `first`; after that the one that was ordered */
    int32_t first;
    bool heard, passed,
        refused;        /* this negotiation: somebody asks; told upwards; told as a conflict */
    bool gap;           /* a rank of the subtree has joined and does not ask for it */
    unsigned kids;      /* children whose whole subtree has it, a bit each */
    int64_t *rows;      /* dims[0] of each rank, -1 unknown; kinds whose parts may differ */
    uint64_t failed_at; /* what children sent before they heard of its failure is stale */

    uint64_t set_phases, set_asked; /* `phases` and `asked` in the step that is being learnt */
    bool in_set;                    /* asked for in the step that is being learnt */
    size_t set_at;                  /* its place in the set, while a plan is made of it */
    bool never;                     /* left out of plans: its signature changes */
    unsigned beside;                /* rank 0: times ordered beside the plan */
    size_t slot;                    /* among the names of that bucket */
    int32_t place;                  /* its bucket in the plan; -1: none */
    uint64_t filled;                /* times this rank asked for it as planned */
} plan_entry;

typedef struct plan_bucket {
    size_t n, missing;
    plan_entry **entries;
    ot_signature *signatures;
    uint64_t *tickets;
    int64_t *rows; /* ALLGATHER; else NULL */
    uint64_t hash;
} plan_bucket;

typedef struct plan_running {
    ot_lane lane;
    uint64_t seq;
    size_t n;
    plan_entry **entries; /* NULL where another rank's */
} plan_running;

typedef enum plan_mode {
    PLAN_OPEN,    /* no plan */
    PLAN_ON,      /* buckets begin by the plan */
    PLAN_FROZEN,  /* none begins until the ranks know how many have begun anywhere */
    PLAN_CLOSING, /* the first `limit` are finished as planned, the rest is negotiated */
} plan_mode;

struct ot_plan {
    ot_plan_options o;
    ot_plan_ops ops;
    ot_plan_stats stats;
    int32_t parent, kid0; /* -1: rank 0; the children are kid0 ... kid0 + n_kids - 1 */
    unsigned n_kids, all_kids;

    plan_entry **names, **tickets; /* tables of `slots` chains */
    size_t slots, n_entries;
    plan_running *running;
    size_t n_running, cap_running;

    ot_str up, down; /* records to be sent at the end of the turn */
    uint64_t seen;   /* number of the last message from above; of rank 0: of the next one */
    uint64_t kid_seen[PLAN_FAN];
    uint64_t seq[OT_LANES]; /* next */
    uint64_t phase, asks;

    plan_mode mode;
    uint64_t epoch, base, limit, planned_at; /* base: seq of the plan's first bucket */
    plan_bucket *buckets;
    size_t n_buckets;
    bool off_told;
    bool off_wanted;                  /* rank 0: freeze at the end of the turn */
    unsigned kids_begun, kids_closed; /* children that have answered */
    uint64_t begun;                   /* most in this subtree */
    bool closed;

    plan_entry **set; /* names of the step that is being learnt, in the order of ordering */
    size_t n_set, cap_set;
    bool learning;

    bool joined;
    unsigned kids_joined;
    uint64_t join_ticket;

    /* Rank 0 alone. */
    plan_entry **ready; /* complete on all ranks, not yet ordered */
    size_t n_ready, cap_ready;
    bool marked; /* the set began with a whole step */
    bool somebody_joined;
    unsigned skip; /* steps to let pass before a plan is learnt again */
    char exclude[OVERTAKE_NAME_MAX + 1];

    char asked[OVERTAKE_NAME_MAX + 1]; /* ot_plan_ask and what came of it */
    int32_t lacks[16];
    unsigned n_lacks;

    ot_error broken; /* rc not OT_OK: nothing more can run */
};

static inline bool plan_is_root(const ot_plan *p)
{
    return p->parent < 0;
}

/* Kinds whose parts may differ between ranks. */
static inline bool plan_is_ragged(const ot_signature *s)
{
    return s->kind == OVERTAKE_ALLGATHER || s->kind == OVERTAKE_ALLTOALL;
}

/* plan_names.c */
plan_entry *plan_find(ot_plan *p, const char *name);
plan_entry *plan_find_ticket(ot_plan *p, uint64_t ticket);
ot_rc plan_entry_get(ot_plan *p, const char *name, plan_entry **out, ot_error *err) OT_CHECKED;
void plan_ticket_set(ot_plan *p, plan_entry *e, uint64_t ticket);
void plan_ticket_clear(ot_plan *p, plan_entry *e);
void plan_entry_release(ot_plan *p,
                        plan_entry *e); /* frees it where nothing speaks of it any more */
void plan_sweep(ot_plan *p);
void plan_names_done(ot_plan *p);
ot_rc plan_push(plan_entry ***list, size_t *n, size_t *cap, plan_entry *e,
                ot_error *err) OT_CHECKED;
bool plan_same(const ot_signature *a, const ot_signature *b);   /* all but the name */
bool plan_agrees(const ot_signature *a, const ot_signature *b); /* may run together */
uint64_t plan_hash(const ot_signature *s, uint64_t before);
uint64_t plan_bytes(const ot_signature *s);
void plan_describe(const ot_signature *s, char *text, size_t size);

/* plan_wire.c */
typedef enum plan_record {
    PLAN_READY = 1, /* up */
    PLAN_CONFLICT,
    PLAN_OFF,
    PLAN_BEGUN,
    PLAN_CLOSED,
    PLAN_JOINED,
    PLAN_JOINING,
    PLAN_STALL,
    PLAN_LACK,
    PLAN_ORDER, /* down */
    PLAN_FAIL,
    PLAN_MARK,
    PLAN_ADOPT,
    PLAN_FREEZE,
    PLAN_THAW,
    PLAN_LEARN,
    PLAN_ALL_JOINED,
    PLAN_WHO,
    PLAN_LACKS,
    PLAN_RECORDS
} plan_record;

typedef struct plan_reader {
    const uint8_t *at, *end;
    bool bad; /* too short, or a value that can't be */
} plan_reader;

uint32_t plan_get_u32(plan_reader *r);
uint64_t plan_get_u64(plan_reader *r);
void plan_get_text(plan_reader *r, char *out, size_t size);
void plan_get_signature(plan_reader *r, ot_signature *out);
void plan_put_u32(ot_str *s, uint32_t x);
void plan_put_u64(ot_str *s, uint64_t x);
void plan_put_text(ot_str *s, const char *text);
void plan_put_signature(ot_str *s, const ot_signature *sig);
size_t plan_record_begin(ot_str *s, plan_record type); /* returns what plan_record_end wants */
void plan_record_end(ot_str *s, size_t begun);
void plan_flush_up(ot_plan *p);
void plan_flush_down(ot_plan *p);

/* plan_talk.c: negotiation in this rank's subtree */
ot_rc plan_offer(ot_plan *p, plan_entry *e, ot_error *err) OT_CHECKED;
ot_rc plan_hear(ot_plan *p, plan_entry *e, const ot_signature *s, int32_t rank,
                ot_error *err) OT_CHECKED;
ot_rc plan_check(ot_plan *p, plan_entry *e, ot_error *err) OT_CHECKED; /* complete here? */
ot_rc plan_take_up(ot_plan *p, unsigned kid, uint64_t seen, plan_record type, plan_reader *r,
                   ot_error *err) OT_CHECKED;
ot_rc plan_check_joined(ot_plan *p, int32_t last, ot_error *err) OT_CHECKED;
ot_rc plan_begun(ot_plan *p, ot_error *err) OT_CHECKED;
ot_rc plan_closed(ot_plan *p, ot_error *err) OT_CHECKED;

/* plan_order.c: what rank 0 decides */
ot_rc plan_order(ot_plan *p, ot_error *err) OT_CHECKED;
ot_rc plan_say_fail(ot_plan *p, const char *name, const char *text, ot_error *err) OT_CHECKED;
ot_rc plan_say(ot_plan *p, plan_record type,
               ot_error *err) OT_CHECKED; /* a record without content */
ot_rc plan_say_named(ot_plan *p, plan_record type, const char *name, int32_t rank,
                     ot_error *err) OT_CHECKED;
ot_rc plan_freeze(ot_plan *p, const char *exclude, ot_error *err) OT_CHECKED;
ot_rc plan_say_thaw(ot_plan *p, ot_error *err) OT_CHECKED;

/* plan_steps.c: what every rank does with what rank 0 said; the plan itself */
ot_rc plan_take_down(ot_plan *p, plan_record type, plan_reader *r, ot_error *err) OT_CHECKED;
ot_rc plan_route(ot_plan *p, plan_entry *e, ot_error *err) OT_CHECKED;
ot_rc plan_try(ot_plan *p, ot_error *err) OT_CHECKED;
ot_rc plan_off(ot_plan *p, const char *exclude, ot_error *err) OT_CHECKED;
void plan_drop(ot_plan *p);
bool plan_is_plannable(const ot_plan *p, const plan_entry *e, const int64_t *rows);

#endif
