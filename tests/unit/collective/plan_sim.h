/* A simulated network of plans: every rank's state machine in one process, messages in one queue a
 * pair of ranks, everything else in the order that a seed chooses.
 *
 * A rank runs a script: ask for a name, wait for a name, join. An operation ends on all ranks when
 * all have begun it. Threads: one. */
#ifndef OT_TESTS_PLAN_SIM_H
#define OT_TESTS_PLAN_SIM_H

#include "base/mem.h"
#include "base/random.h"
#include "collective/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum sim_act { SIM_ASK, SIM_WAIT, SIM_JOIN, SIM_TURN } sim_act;

typedef struct sim_step {
    sim_act act;
    int name;
    int64_t rows; /* of ASK: dims[0] */
    int kind;     /* overtake_kind */
} sim_step;

typedef struct sim_message {
    struct sim_message *next;
    size_t n;
    unsigned char bytes[];
} sim_message;

typedef struct sim_op {
    uint64_t hash;
    size_t n;
    int begun;          /* ranks; -1: done */
    uint64_t **tickets; /* of each rank, n */
} sim_op;

#define SIM_NAMES 512

typedef struct sim_rank {
    struct sim *sim;
    ot_plan *plan;
    int rank;
    sim_step *steps;
    size_t n, cap, at;
    uint64_t ticket_of[SIM_NAMES]; /* 0: not in flight */
    bool failed[SIM_NAMES];
    uint64_t next_ticket, join_ticket;
    int failures, n_done;
    bool waiting, broken, turn;
    int last_joined;
    ot_error why;
} sim_rank;

typedef struct sim {
    int n;
    sim_rank *ranks;
    sim_message **head, **tail; /* n * n */
    sim_op *ops[OT_LANES];
    size_t n_ops[OT_LANES];
    uint64_t messages, bytes; /* control, all ranks */
    ot_rng rng;
    bool differs; /* ranks began different things under one number */
} sim;

static void sim_send(void *arg, int32_t peer, const void *bytes, size_t n)
{
    sim_rank *r = arg;
    sim *s = r->sim;
    sim_message *m = malloc(sizeof *m + n);
    m->next = NULL;
    m->n = n;
    memcpy(m->bytes, bytes, n);
    size_t at = (size_t)(r->rank * s->n + peer);
    if (s->head[at] == NULL) {
        s->head[at] = m;
    } else {
        s->tail[at]->next = m;
    }
    s->tail[at] = m;
    s->messages++;
    s->bytes += n;
}

static void sim_begin(void *arg, const ot_bucket *b)
{
    sim_rank *r = arg;
    sim *s = r->sim;
    while (s->n_ops[b->lane] <= b->seq) {
        s->ops[b->lane] =
            realloc(s->ops[b->lane], (s->n_ops[b->lane] + 1) * sizeof *s->ops[b->lane]);
        s->ops[b->lane][s->n_ops[b->lane]++] =
            (sim_op){.tickets = calloc((size_t)s->n, sizeof(uint64_t *))};
    }
    sim_op *op = &s->ops[b->lane][b->seq];
    if (op->begun > 0 && (op->hash != b->hash || op->n != b->n)) {
        s->differs = true;
    }
    op->hash = b->hash;
    op->n = b->n;
    op->tickets[r->rank] = malloc(b->n * sizeof(uint64_t));
    memcpy(op->tickets[r->rank], b->tickets, b->n * sizeof(uint64_t));
    op->begun++;
    if (b->signatures[0].kind == OVERTAKE_JOIN) {
        r->last_joined = b->last_joined;
    }
}

static void sim_fail(void *arg, uint64_t ticket, const ot_error *why, int32_t culprit)
{
    sim_rank *r = arg;
    (void)culprit;
    r->why = *why;
    if (ticket == 0) {
        r->broken = true;
        return;
    }
    r->failures++;
    for (int i = 0; i < SIM_NAMES; i++) {
        if (r->ticket_of[i] == ticket) {
            r->ticket_of[i] = 0;
        }
    }
}

static sim *sim_create(int n, uint64_t seed, bool learn)
{
    sim *s = calloc(1, sizeof *s);
    s->n = n;
    s->ranks = calloc((size_t)n, sizeof *s->ranks);
    s->head = calloc((size_t)(n * n), sizeof *s->head);
    s->tail = calloc((size_t)(n * n), sizeof *s->tail);
    ot_rng_seed(&s->rng, seed);
    for (int i = 0; i < n; i++) {
        sim_rank *r = &s->ranks[i];
        r->sim = s;
        r->rank = i;
        r->next_ticket = 1;
        r->last_joined = -1;
        ot_plan_options o = {.rank = i, .size = n, .learn = learn};
        ot_plan_ops ops = {sim_send, sim_begin, sim_fail, r};
        if (ot_plan_create(&o, &ops, &r->plan, NULL) != OT_OK) {
            abort();
        }
    }
    return s;
}

static void sim_destroy(sim *s)
{
    for (int i = 0; i < s->n; i++) {
        ot_plan_destroy(s->ranks[i].plan);
        free(s->ranks[i].steps);
    }
    for (int i = 0; i < s->n * s->n; i++) {
        for (sim_message *m = s->head[i], *next; m != NULL; m = next) {
            next = m->next;
            free(m);
        }
    }
    for (int l = 0; l < OT_LANES; l++) {
        for (size_t i = 0; i < s->n_ops[l]; i++) {
            for (int r = 0; r < s->n; r++) {
                free(s->ops[l][i].tickets[r]);
            }
            free(s->ops[l][i].tickets);
        }
        free(s->ops[l]);
    }
    free(s->head);
    free(s->tail);
    free(s->ranks);
    free(s);
}

static void sim_add(sim_rank *r, sim_step step)
{
    if (r->n == r->cap) {
        r->cap = r->cap == 0 ? 64 : 2 * r->cap;
        r->steps = realloc(r->steps, r->cap * sizeof *r->steps);
    }
    r->steps[r->n++] = step;
}

static void sim_signature(ot_signature *out, const sim_step *step)
{
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "layer%d/w", step->name);
    out->kind = (uint8_t)step->kind;
    out->dtype = OVERTAKE_F32;
    out->ndim = 2;
    out->dims[0] = step->rows;
    out->dims[1] = 4;
    out->prescale = out->postscale = 1;
}

/* One action of the rank's script; false where it can't go on now. */
static bool sim_act_one(sim_rank *r)
{
    if (r->at == r->n || r->broken) {
        return false;
    }
    const sim_step *step = &r->steps[r->at];
    ot_signature s;
    ot_error err;
    switch (step->act) {
    case SIM_ASK:
        sim_signature(&s, step);
        r->ticket_of[step->name] = r->next_ticket;
        if (ot_plan_submit(r->plan, &s, r->next_ticket++, &err) != OT_OK) {
            r->ticket_of[step->name] = 0;
            r->failures++;
            r->why = err;
        }
        break;
    case SIM_WAIT:
        if (!r->waiting) {
            ot_plan_waiting(r->plan, r->ticket_of[step->name]);
            r->turn = true;
        }
        r->waiting = r->ticket_of[step->name] != 0;
        if (r->waiting) {
            return false;
        }
        r->at++;
        return true;
    case SIM_JOIN:
        if (r->join_ticket == 0) {
            memset(&s, 0, sizeof s);
            s.kind = OVERTAKE_JOIN;
            r->join_ticket = r->next_ticket++;
            r->last_joined = -1;
            if (ot_plan_submit(r->plan, &s, r->join_ticket, &err) != OT_OK) {
                r->broken = true;
                r->why = err;
            }
            r->turn = true;
            return true;
        }
        if (r->last_joined < 0) {
            return false;
        }
        r->join_ticket = 0;
        break;
    case SIM_TURN:
        break;
    }
    r->turn = true;
    r->at++;
    return true;
}

static void sim_done(sim_rank *r, const uint64_t *tickets, size_t n)
{
    for (size_t t = 0; t < n; t++) {
        for (int i = 0; i < SIM_NAMES && tickets[t] != 0; i++) {
            if (r->ticket_of[i] == tickets[t]) {
                r->ticket_of[i] = 0;
                r->n_done++;
            }
        }
    }
}

/* Ends on every rank what all have begun. */
static bool sim_complete(sim *s)
{
    bool any = false;
    for (int l = 0; l < OT_LANES; l++) {
        for (size_t i = 0; i < s->n_ops[l]; i++) {
            sim_op *op = &s->ops[l][i];
            if (op->begun != s->n) {
                continue;
            }
            op->begun = -1;
            any = true;
            for (int r = 0; r < s->n; r++) {
                sim_done(&s->ranks[r], op->tickets[r], op->n);
                ot_plan_done(s->ranks[r].plan, (ot_lane)l, i);
            }
        }
    }
    return any;
}

static bool sim_deliver(sim *s, int from, int to)
{
    size_t at = (size_t)(from * s->n + to);
    sim_message *m = s->head[at];
    if (m == NULL) {
        return false;
    }
    s->head[at] = m->next;
    sim_rank *r = &s->ranks[to];
    if (!r->broken && ot_plan_message(r->plan, from, m->bytes, m->n, &r->why) != OT_OK) {
        r->broken = true;
    }
    r->turn = true;
    free(m);
    return true;
}

/* Runs all scripts to their ends in an order that the seed chooses. False: some rank can't go on
 * though nothing is under way. */
static bool sim_run(sim *s)
{
    for (;;) {
        bool any = false;
        int first = (int)ot_rng_below(&s->rng, (uint64_t)s->n);
        for (int i = 0; i < s->n; i++) {
            sim_rank *r = &s->ranks[(first + i) % s->n];
            for (uint64_t k = ot_rng_below(&s->rng, 6); k-- > 0 && sim_act_one(r);) {
                any = true;
            }
            int from = (int)ot_rng_below(&s->rng, (uint64_t)s->n);
            for (int j = 0; j < s->n && ot_rng_below(&s->rng, 3) != 0; j++) {
                any = sim_deliver(s, (from + j) % s->n, r->rank) || any;
            }
            if (r->turn && ot_rng_below(&s->rng, 2) == 0) {
                r->turn = false;
                ot_plan_turn(r->plan);
                any = true;
            }
        }
        if (ot_rng_below(&s->rng, 2) == 0) {
            any = sim_complete(s) || any;
        }
        if (any) {
            continue;
        }
        /* Chance left everybody out: once more without chance. */
        for (int i = 0; i < s->n; i++) {
            any = sim_act_one(&s->ranks[i]) || any;
            for (int j = 0; j < s->n; j++) {
                any = sim_deliver(s, j, i) || any;
            }
            any = s->ranks[i].turn || any;
            s->ranks[i].turn = false;
            ot_plan_turn(s->ranks[i].plan);
        }
        if (!sim_complete(s) && !any) {
            break;
        }
    }
    for (int i = 0; i < s->n; i++) {
        if (s->ranks[i].at != s->ranks[i].n) {
            return false;
        }
    }
    return true;
}
#endif
