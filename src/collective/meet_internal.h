/* Between the files of the meeting point's server: its connections (meet_conn.c), what it knows of
 * the ranks (meet_ranks.c) and its thread (meet_server.c), which all of this belongs to. */
#ifndef OT_COLLECTIVE_MEET_INTERNAL_H
#define OT_COLLECTIVE_MEET_INTERNAL_H

#include "base/str.h"
#include "collective/auth.h"
#include "collective/meet_clock.h"

#include <pthread.h>

#define MEET_CLOSING_NS 1000000000u
#define MEET_REFUSED_SAID 20 /* turned away and told at once; then once a minute */

typedef enum meet_phase {
    MEET_HELLO,
    MEET_PROOF,
    MEET_MEMBER,
    MEET_ASKS, /* elastic: for the next epoch */
    MEET_IN,
    MEET_CLOSING
} meet_phase;

typedef struct meet_conn meet_conn;
struct meet_conn {
    meet_conn *next, **link; /* the list of all, newest first */
    int fd;
    meet_phase phase;
    uint8_t in[OT_MEET_HEAD + OT_MEET_UP_MAX];
    size_t in_n;
    ot_auth auth;
    ot_auth_who who;
    bool table_due; /* the table comes before what is in `out` */
    size_t table_at;
    ot_str out;
    size_t out_at;
    bool wants_out, dead;
    uint64_t until_ns; /* of the handshake or of closing; 0: none */
    int32_t rank;      /* -1: not a member */
    ot_member member;  /* ASKS: who */
    int32_t slot;      /* ASKS: its rank in the epoch before; -1: it is new */
    bool held;         /* ASKS: it is stopped, so it is not admitted */
    char peer[64];
};

/* What is known of a rank. */
typedef struct meet_slot {
    meet_conn *c;
    bool here, left, told; /* told: its end has been relayed */
    ot_event end;          /* told before all were here: who comes later hears of it then */
    uint64_t lost_at_ns;   /* LOST is said then, unless its parent tells more; 0: no */
    /* Elastic. */
    int32_t worker;
    bool moved, leaving; /* it has ended this epoch by itself; it is to leave */
    meet_conn *next;     /* asks for the next epoch */
} meet_slot;

/* Two that can't link, as one of them says. */
typedef struct meet_pair {
    uint64_t epoch; /* 0: none */
    int32_t worker[2];
    char machine[2][96];
    char how[256];
} meet_pair;

typedef struct meet_trial meet_trial; /* meet_cut.c: who can link with whom is being found out */

struct ot_meet_server {
    ot_meet_server_ops ops;
    int32_t size;
    char *settings;
    uint64_t timeout_ns, waiting_ns, grace_ns;
    ot_auth auth; /* the key, for copying */
    int listener, epoll, wake[2];
    bool accepting;
    pthread_t thread;
    meet_conn *conns, *buried;
    size_t n_pending;
    meet_slot *slots;
    ot_member *members;
    int32_t n_here, n_left;
    bool all_here;
    /* Elastic: meet_epochs.c. */
    int32_t min;
    uint64_t epoch, reform_ns, asked_ns; /* asked: since somebody asks for the next; 0: nobody */
    bool form_due, counts_due;
    /* Links that are missing: meet_cut.c. */
    meet_pair said, said_before; /* of this epoch, the first; and what nothing was found out of */
    meet_trial *trial;           /* NULL: none */
    uint64_t n_trials;
    char (*cut)[96]; /* machines that were set aside, the last CUT_MAX */
    size_t n_cut;
    char cut_text[512]; /* why somebody went from the epoch to come; "" */

    ot_str table;
    char failed[512];                   /* why this job will not begin */
    uint64_t since_ns, next_waiting_ns; /* since: the first may arrive; 0: nobody has come again */
    uint64_t refused, refused_said, refused_next_ns;
    pthread_mutex_t lock;
    /* Synchronization: under lock. */
    ot_event *queue;
    size_t n_queue, cap_queue;
    bool stop;
};

/* A message for a rank goes to `out`, then meet_flush. */
void meet_flush(ot_meet_server *s, meet_conn *c);
void meet_set_phase(ot_meet_server *s, meet_conn *c, meet_phase phase, uint64_t until_ns);
bool meet_pending(const meet_conn *c); /* the key has not been proved */
/* Says why and closes. */
void meet_refuse(ot_meet_server *s, meet_conn *c, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void meet_say_refused(ot_meet_server *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Its memory stays until meet_bury: one of the events at hand may be for it. */
void meet_drop(ot_meet_server *s, meet_conn *c);
void meet_bury(ot_meet_server *s);
void meet_accept_all(ot_meet_server *s);
void meet_readable(ot_meet_server *s, meet_conn *c);
void meet_take_frames(ot_meet_server *s, meet_conn *c);

/* False: not now, it waits for the ranks of the last round to leave. */
bool meet_take_member(ot_meet_server *s, meet_conn *c, const ot_meet_frame *f);
/* A rank speaks of itself, and of what it sees of others on its machine where no launcher does. */
void meet_take_event(ot_meet_server *s, meet_conn *c, ot_event *e);
/* `from`: the rank that says it; -1: its parent, or we. */
void meet_relay(ot_meet_server *s, ot_event *e, int32_t from);
void meet_tick_ranks(ot_meet_server *s, uint64_t now);
void meet_send_to_all(ot_meet_server *s, const ot_str *message, int32_t except);
void meet_say_missing(const ot_meet_server *s, uint64_t now, char *text, size_t size);
/* The table goes out to the members, with the next epoch's number. False: no memory. */
bool meet_complete(ot_meet_server *s);

/* meet_epochs.c. As the one above, of an elastic job. */
bool meet_take_asker(ot_meet_server *s, meet_conn *c, uint64_t epoch, const ot_member *m);
/* What the launcher says of a process. */
void meet_take_told(ot_meet_server *s, ot_event *e);
void meet_asker_gone(ot_meet_server *s, meet_conn *c);
bool meet_lacks(const ot_meet_server *s, int32_t rank);        /* it is waited for */
int32_t meet_slot_of(const ot_meet_server *s, int32_t worker); /* -1: it has none */
bool meet_waits(const meet_conn *c);                           /* to be admitted */
/* One that asks goes: a member; one that is new. */
void meet_cut_off(ot_meet_server *s, int32_t slot, const char *why);
void meet_cut_off_new(ot_meet_server *s, meet_conn *c, const char *why);
void meet_turn_epochs(ot_meet_server *s); /* what is due */
void meet_tick_epochs(ot_meet_server *s, uint64_t now);

/* meet_cut.c: hosts that can't link with others. A rank says that it can't link with `to`. */
void meet_cut_said(ot_meet_server *s, int32_t from, int32_t to, const char *text);
/* All have asked for the next epoch. False: not now, links are being tried. Else who has to go has
 * gone, and s->cut_text says why. */
bool meet_cut_settled(ot_meet_server *s);
void meet_cut_take(ot_meet_server *s, const meet_conn *c, const ot_meet_frame *f);
void meet_cut_tick(ot_meet_server *s, uint64_t now);
void meet_cut_done(ot_meet_server *s);

#endif
