/* What the files of the engine share: engine.c asks and obeys, engine_progress.c is the thread,
 * engine_blame.c finds out who is to blame, engine_start.c joins and leaves.
 *
 * Threads: see the fields. */
#ifndef OT_COLLECTIVE_ENGINE_INTERNAL_H
#define OT_COLLECTIVE_ENGINE_INTERNAL_H

#include "collective/engine.h"
#include "collective/group.h"
#include "collective/mesh.h"
#include "collective/settings.h"

#include <stdatomic.h>

#define OT_SUSPECT_NS 700000000u /* the meeting point's own grace, and the way */
#define OT_LEFT_NS 2000000000u
#define OT_LOOK_NS 250000000u
#define OT_PULSE_NS 1000000000u

typedef enum ot_command_kind {
    OT_SUBMIT,
    OT_WAITING,
    OT_GROUP_ADD,
    OT_GROUP_DROP,
    OT_ABANDON,
    OT_STOP
} ot_command_kind;

typedef struct ot_order {
    ot_command_kind kind;
    int32_t group;
    uint64_t handle;
    bool more; /* the next one is of the same call and the same group */
    ot_group *add;
} ot_order;

typedef struct ot_rank_state {
    bool stopped, left, moved; /* moved: left for the next epoch */
    bool gone;                 /* its end was told */
    uint64_t left_ns, waited_us;
} ot_rank_state;

struct ot_engine {
    ot_engine_options o;
    int32_t rank, size;
    ot_settings settings;
    ot_meet_server *server;
    ot_meet *meet;
    const ot_member *members;
    const char **host_names;
    int32_t *hosts;
    ot_poller *poller;
    ot_mesh *mesh;
    ot_watch meet_watch, wake_watch, carrier_watch;
    ot_tickets *tickets;
    ot_trace *trace;
    ot_carrier *carrier; /* NULL: the built-in engine */
    pthread_t thread;
    bool started;

    /* Synchronization: of `lock`. */
    pthread_mutex_t lock;
    ot_order *commands;
    size_t n_commands, cap_commands;
    char stall_text[512]; /* what the thread found out last */
    int32_t stall_rank;
    char *timeline_path; /* NULL: the launcher's, or none */

    /* Synchronization: atomic. */
    _Atomic uint64_t steps;
    _Atomic uint64_t program_steps, program_samples; /* overtake_step */
    _Atomic int32_t waiting, leaving;                /* ot_meet_counts */
    _Atomic bool over;

    /* The progress thread's. */
    ot_order *taken;
    size_t cap_taken;
    ot_group **groups;
    size_t n_groups;
    ot_rank_state *ranks;
    uint64_t stop_ns; /* 0: not asked to */
    bool meet_gone;
    bool abandoned;       /* this rank goes on to the next epoch */
    bool failing, failed; /* a verdict is to be carried out, or has been */
    ot_error verdict;
    int32_t culprit;
    bool suspects;
    int32_t suspect;
    ot_error suspect_why;
    uint64_t suspect_ns;
    uint64_t looked_ns, pulse_ns, moved_bytes, moved_ns;
};

/* engine.c */
ot_ticket *ot_engine_on_find(void *arg, uint64_t handle);
void ot_engine_on_failed(void *arg, const ot_error *why);
bool ot_engine_on_has(void *arg, int32_t group);
void ot_engine_on_up(void *arg, int32_t group, int32_t lane, int32_t peer, ot_link *l, bool asked);
void ot_engine_on_unreached(void *arg, int32_t peer, const ot_error *why);
ot_group *ot_engine_group_of(ot_engine *e, int32_t id);

/* engine_progress.c */
ot_rc ot_engine_push(ot_engine *e, ot_order c, bool wakes, ot_error *err);
ot_rc ot_engine_push_locked(ot_engine *e, ot_order c, ot_error *err) OT_CHECKED;
void ot_engine_wake(ot_engine *e);
void ot_engine_on_wake(void *arg, uint32_t events);
void ot_engine_on_carrier(void *arg, uint32_t events);
void ot_engine_take_commands(ot_engine *e);
void ot_engine_drop_group(ot_engine *e, int32_t id);
void ot_engine_pulse(ot_engine *e);
void *ot_engine_progress(void *arg);

/* engine_blame.c */
const char *ot_engine_host_of(const ot_engine *e, int32_t rank);
void ot_engine_judge(ot_engine *e, int32_t culprit, const ot_error *why);
/* The other ranks; `link`: it is the link to the culprit. */
void ot_engine_tell(ot_engine *e, int32_t culprit, bool link, const ot_error *why);
void ot_engine_suspect(ot_engine *e, int32_t peer, const ot_error *why);
void ot_engine_on_meet(void *arg, uint32_t events);
void ot_engine_look_at_open(ot_engine *e, uint64_t now);
void ot_engine_judge_suspect(ot_engine *e, uint64_t now);
void ot_engine_carry_out(ot_engine *e); /* the verdict */

/* engine_trace.c */
void ot_engine_add_account(ot_engine *e, ot_pulse *p);
void ot_engine_take_clock(ot_engine *e); /* what the meeting point has answered */
/* What is being recorded, to whom it is for; once. Blocks while it is written or sent. */
void ot_engine_send_timeline(ot_engine *e);

#endif
