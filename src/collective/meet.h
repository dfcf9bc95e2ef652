/* The meeting point of a job: where ranks find each other, and where they hear what became of
 * others.
 *
 * One server a job: in the launcher (`overtake run`), else in rank 0. Every rank keeps one
 * connection to it. When all have arrived each gets the table of members; from then on the server
 * relays events. Events name; they do not act: what to do about a stopped rank is decided above.
 *
 * Threads: the server runs a thread of its own, and its callbacks come from there; tell and stop
 * may be called from any thread. A client belongs to one thread; it never blocks after
 * ot_meet_join. Lifetime: create/destroy. */
#ifndef OT_COLLECTIVE_MEET_H
#define OT_COLLECTIVE_MEET_H

#include "base/error.h"
#include "base/sock.h"
#include "collective/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_MEET_RANKS_MAX 4096
#define OT_MEET_ADDRS_MAX 8
#define OT_MEET_ENGINE 400

typedef struct ot_member {
    int32_t rank;
    int32_t
        worker; /* in an elastic job: the number of the process, which is never given again; -1 */
    char host[256];   /* for people */
    char machine[96]; /* equal for two ranks that can share memory: boot id, network namespace, user
                       */
    int64_t pid;
    char engine[OT_MEET_ENGINE]; /* its name and version, or "!" and why it can't be had there */
    char addrs[OT_MEET_ADDRS_MAX][64]; /* where its links are listened for: "ip:port" */
    int32_t n_addrs;
    int32_t local_rank, local_size, cross_rank, cross_size; /* filled in by the server */
} ot_member;

typedef enum ot_event_kind {
    OT_EVENT_STOPPED, /* SIGSTOP, a debugger, a frozen cgroup */
    OT_EVENT_CONTINUED,
    OT_EVENT_EXITED,  /* by itself, with a code, without overtake_finalize */
    OT_EVENT_KILLED,  /* by a signal */
    OT_EVENT_LOST,    /* its host or its connection is gone */
    OT_EVENT_LEFT,    /* after overtake_finalize */
    OT_EVENT_STUCK,   /* alive, but its library's thread does not answer */
    OT_EVENT_FAILED,  /* it says of itself (a mismatch, an exception): text */
    OT_EVENT_MOVED,   /* elastic: it has ended its epoch and asks for the next */
    OT_EVENT_LEAVING, /* elastic, from the launcher to the meeting point: it is to leave */
} ot_event_kind;

const char *ot_event_kind_text(ot_event_kind k); /* "stopped" */

typedef struct ot_event {
    ot_event_kind kind;
    int32_t rank;
    int32_t code; /* exit code or signal; FAILED: 1 + the rank that it blames, 0: itself */
    bool link;    /* FAILED: for the link between the two, which is dead or can't be made */
    char host[256];
    char text[512]; /* its last line, the reason; may be empty */
} ot_event;

/* Pushed by every rank once a second: the launcher's progress line and `--explain` live on it. */
typedef struct ot_pulse {
    uint64_t steps, operations, bytes_in, bytes_out;
    uint64_t
        waited_for_us; /* how long others waited for this rank, as it knows from their messages */
    uint64_t waits_us; /* how long this rank waited for others */
    uint64_t samples;  /* as the program says; 0 */
    int32_t slowest;   /* rank that this one waited for longest; -1 */
    ot_account account;
} ot_pulse;

typedef struct ot_meet_server ot_meet_server;

/* Every one may be NULL. In an elastic job `event` names processes (ot_member.worker) where others
 * name ranks. */
typedef struct ot_meet_server_ops {
    void (*arrived)(void *arg, const ot_member *m);
    void (*all_here)(void *arg);
    void (*event)(void *arg, const ot_event *e); /* from a rank or an agent, also relayed */
    void (*pulse)(void *arg, int32_t rank, const ot_pulse *p);
    /* Every 30 s while ranks lack: "waiting for ranks 3, 5 (2 of 8 have not arrived after 30 s)".
     */
    void (*waiting)(void *arg, const char *text);
    /* A connection was turned away: a port scan, another job's key, a second rank 3. A flood of
     * them is counted and said once a minute. */
    void (*refused)(void *arg, const char *text);
    /* Elastic: an epoch begins, with these processes, by rank. */
    void (*formed)(void *arg, uint64_t epoch, const int32_t *workers, int32_t n);
    /* Elastic: a process that goes because hosts can't link with each other; and the whole of it,
     * for people. */
    void (*cut)(void *arg, int32_t worker, const char *why);
    /* A piece of the rank's timeline: events as text, whole lines, each with a comma at its end;
     * the last piece is what is said about them, a JSON object. */
    void (*timeline)(void *arg, int32_t rank, bool last, const char *p, size_t n);
    void *arg;
} ot_meet_server_ops;

typedef struct ot_meet_server_options {
    ot_addr listen; /* port 0: chosen; see ot_meet_server_port */
    int listen_fd;  /* > 0: taken over instead */
    int32_t size;
    const void *key;
    size_t key_len;
    int64_t timeout_us;   /* for all to arrive; 0: for ever */
    const char *settings; /* text that every rank gets with the table (cost model, options) */
    int64_t waiting_us;   /* how often to say for whom it waits; 0: 30 s */
    int64_t grace_us;     /* between the end of a connection and LOST, in which its parent may tell
                             more; 0: 300 ms */
    int32_t min;          /* elastic: the least number of ranks; 0: the job isn't elastic */
    int64_t reform_us;    /* elastic: a rank that does not ask for the next epoch for so long, while
                             others wait for it, is set aside; 0: timeout_us */
} ot_meet_server_options;

ot_rc ot_meet_server_create(const ot_meet_server_options *o, const ot_meet_server_ops *ops,
                            ot_meet_server **server_out, ot_error *err) OT_CHECKED;
uint16_t ot_meet_server_port(const ot_meet_server *s);
/* To all ranks. In an elastic job `rank` is the number of a process. */
void ot_meet_server_tell(ot_meet_server *s, const ot_event *e);
/* What the ranks are still to be told is sent first, for a second at most. */
void ot_meet_server_destroy(ot_meet_server *s);

typedef struct ot_meet ot_meet;

typedef struct ot_meet_options {
    const char *server; /* "host:port"; several, with commas: the first that answers */
    const void *key;
    size_t key_len;
    int32_t size;
    ot_member self;
    int64_t timeout_us;
    uint64_t epoch;   /* elastic: the next one after this; 0: this process is new */
    int64_t reach_us; /* the meeting point itself is given up after this; 0: timeout_us */
} ot_meet_options;

/* Blocks until all are here; a meeting point that is not there yet is waited for. OT_DENIED: it
 * holds another key; OT_PRECONDITION: it turned this rank away and says why; OT_UNAVAILABLE: a rank
 * ended before all were here, or too few are left; OT_TIMEOUT: names who lacks. A new process of an
 * elastic job waits to be admitted, without a limit. */
ot_rc ot_meet_join(const ot_meet_options *o, ot_meet **meet_out, ot_error *err) OT_CHECKED;
const ot_member *ot_meet_members(const ot_meet *m, int32_t *n_out); /* by rank */
const char *ot_meet_settings(const ot_meet *m);
int32_t ot_meet_rank(const ot_meet *m);   /* of this process */
uint64_t ot_meet_epoch(const ot_meet *m); /* 1, 2, ... */
/* Elastic: processes that wait to be admitted, ranks that are to leave. */
void ot_meet_counts(const ot_meet *m, int32_t *waiting_out, int32_t *leaving_out);
int ot_meet_fd(const ot_meet *m); /* readable: call ot_meet_next */
/* OT_NOT_FOUND: nothing now; OT_UNAVAILABLE: the meeting point itself is gone (its host is named);
 * OT_PRECONDITION: it has set this rank aside and says why. */
ot_rc ot_meet_next(ot_meet *m, ot_event *event_out, ot_error *err) OT_CHECKED;
void ot_meet_say(ot_meet *m, const ot_event *e);
void ot_meet_pulse(ot_meet *m, const ot_pulse *p);
/* Asks what time it is at the meeting point; ot_meet_next takes the answer. */
void ot_meet_ask_clock(ot_meet *m);
/* Its ot_clock_mono_ns less ours, right to `error_ns`: from the exchange that was quickest; 0 where
 * both run on one kernel. False: nothing is known yet. */
bool ot_meet_clock(const ot_meet *m, int64_t *offset_ns, uint64_t *error_ns);
/* Blocks until the meeting point has read all of it, or nothing has been taken for 10 s. Events
 * that come meanwhile are lost. */
ot_rc ot_meet_send_timeline(ot_meet *m, const char *said, size_t n_said, const char *events,
                            size_t n_events, ot_error *err) OT_CHECKED;
void ot_meet_destroy(ot_meet *m); /* leaves; say OT_EVENT_LEFT before when on purpose */

/* Who this process is in which job, from the environment: OVERTAKE_RANK, OVERTAKE_SIZE,
 * OVERTAKE_RENDEZVOUS, OVERTAKE_KEY_FD (a descriptor that the launcher left open with the key in
 * it: never argv, never the environment), else Slurm's, Open MPI's, torchrun's, Horovod's
 * variables. Those bring no key: it is derived from the job's name and a secret of the user, the
 * file OVERTAKE_KEY_FILE, else ~/.config/overtake/job.key, which is made when it is not there. */
typedef struct ot_identity {
    int32_t rank, size, local_rank, local_size; /* -1: not said */
    char rendezvous[300];
    char key[129];
    size_t key_len;
    char source[32]; /* "overtake", "slurm", "openmpi", "torchrun", "horovod", "alone" */
    int32_t worker;  /* number of the process in an elastic job of our launcher; -1 */
    bool launched;   /* our launcher runs the meeting point */
    bool serves;     /* this process runs the meeting point, at the port of `rendezvous`: rank 0
                        where no launcher of ours does */
} ot_identity;
ot_rc ot_identity_read(ot_identity *out, ot_error *err) OT_CHECKED;
/* host and machine of this process. */
void ot_identity_host(char host[256], char machine[96]);

#endif
