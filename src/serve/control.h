/* The control thread: makes what is served follow the target, closes windows, talks to the control
 * plane, and ends it all.
 *
 * Entries are the variants that the target names (or named a moment ago) with their state. A
 * deployment's route changes only when all of its variants are loaded or have failed; without its
 * champion it stays as it was.
 *
 * Threads: the control thread, except ot_control_variant_idle and ot_control_repo (any). */
#ifndef OT_SERVE_CONTROL_H
#define OT_SERVE_CONTROL_H

#include "base/disk.h"
#include "net/lines.h"
#include "serve/load.h"
#include "serve/worker.h"

typedef enum ot_entry_state { OT_ENTRY_LOADING, OT_ENTRY_SERVING, OT_ENTRY_FAILED } ot_entry_state;

typedef struct ot_entry {
    char deployment[OT_SERVE_NAME], model[OT_SERVE_NAME];
    uint64_t version;
    char bundle[65];
    char *path;
    ot_isolate isolate;
    bool wanted;
    ot_role role;
    ot_entry_state state;
    char error[OT_SERVE_NOTE];
    ot_variant *variant; /* a reference, when serving */
} ot_entry;

typedef struct ot_repo ot_repo;
typedef struct ot_agent ot_agent;
typedef struct ot_folders ot_folders;

typedef struct ot_retirement ot_retirement;

struct ot_control {
    ot_serve *serve;
    ot_loader *loader;
    ot_agent *agent;     /* NULL when alone */
    ot_folders *folders; /* NULL under a control plane */
    ot_target *target;
    ot_entry **entries;
    size_t n_entries, cap_entries;
    ot_retirement *retiring; /* replaced routes that some worker may still use */
    ot_repo *waiting;        /* repository requests that wait for their load */
    ot_repo *asked;          /* and for what the control plane says */
    uint64_t asked_seq;
    bool ready;

    ot_timer watchdog, sleep_timer;

    /* windows.c */
    ot_timer window_timer;
    int64_t window_start_us;
    ot_ask window_asks[OT_SERVE_WORKERS_MAX];
    unsigned window_left;
    bool window_busy;

    /* Synchronization: under idle_lock. Variants without a reference. */
    pthread_mutex_t idle_lock;
    ot_variant *idle;

    /* keys.c */
    ot_access *access; /* a reference, or NULL */
    ot_stat keys_stat;
    ot_timer keys_timer;

    /* open.c */
    bool open; /* the workers were asked to accept */
    ot_ask open_asks[OT_SERVE_WORKERS_MAX];
    ot_timer open_timer;
    unsigned open_left; /* workers that do not accept yet */
    ot_error open_err;  /* why a worker could not; the replica ends with it */

    /* company.c */
    bool beside;
    ot_lines lines;

    /* The end. */
    bool draining;
    ot_ask drain_asks[OT_SERVE_WORKERS_MAX];
    unsigned drain_left;
    ot_timer drain_timer;
    uint64_t drain_end_ns;
};

ot_rc ot_control_create(ot_serve *s, ot_control **c_out, ot_error *err) OT_CHECKED;
ot_rc ot_control_start(ot_control *c, ot_error *err) OT_CHECKED;
void ot_control_drain(ot_control *c);
void ot_control_destroy(ot_control *c); /* NULL is fine */

/* Takes the target over and follows it. */
void ot_control_apply(ot_control *c, ot_target *target);
void ot_control_rebuild(ot_control *c); /* a new route from what is known */
void ot_control_variant_idle(void *arg, ot_variant *v);
/* Appends the `observed` message. */
void ot_control_observed(const ot_control *c, ot_str *out);

/* open.c: accepting begins; until then connections wait. */
void ot_open_start(ot_control *c); /* once, when the first target is known */
void ot_open_try(ot_control *c);   /* something was loaded */
void ot_open_stop(ot_control *c);

/* keys.c: who may predict. */
ot_rc ot_keys_start(ot_control *c, ot_error *err) OT_CHECKED; /* of the options' file */
void ot_keys_follow(ot_control *c, const ot_target *t);       /* of a control plane */
void ot_keys_stop(ot_control *c);

/* windows.c */
void ot_windows_start(ot_control *c);
void ot_windows_stop(ot_control *c);
/* What is in the closed cells of all variants of the route, as windows that ended then. */
void ot_windows_collect(ot_control *c, int64_t end_us);
/* All cells of a variant that nobody uses any more. */
void ot_windows_collect_last(ot_control *c, ot_variant *v);

/* The last window's drift of a variant, as JSON; any thread. */
void ot_drift_json(const ot_variant *v, ot_str *out);

/* repo.c: the repository requests that a worker hands over. */
typedef enum ot_repo_op { OT_REPO_INDEX, OT_REPO_LOAD, OT_REPO_UNLOAD } ot_repo_op;
typedef struct ot_repo_row {
    char name[OT_SERVE_NAME], reason[OT_SERVE_NOTE];
    uint64_t version; /* 0: none */
    const char *state;
} ot_repo_row;
typedef struct ot_repo_answer {
    int status;        /* HTTP's */
    unsigned retry_s;  /* worth trying again after so many seconds; 0: not said */
    const char *error; /* NULL when status is 200 */
    const ot_repo_row *rows;
    size_t n_rows; /* of the index */
} ot_repo_answer;
/* Answers `req` in the form of its protocol, on its worker. */
typedef void ot_repo_fn(ot_worker *w, ot_http_req *req, const ot_repo_answer *a);
void ot_control_repo(ot_worker *w, ot_http_req *req, ot_repo_op op, const char *name, size_t n,
                     ot_repo_fn *reply);
/* A version of that deployment is being loaded. */
bool ot_control_loading(const ot_control *c, const char *name);
/* An entry came to rest: answers who waits for it. */
void ot_repo_settled(ot_control *c, const ot_entry *e);
void ot_repo_give_up(ot_control *c); /* answers all that wait: the server goes down */
/* managed.c: what the control plane says to a request: OT_OK and the revision that carries it out,
 * or why not. */
void ot_repo_answered(ot_control *c, uint64_t seq, ot_rc rc, const char *why, uint64_t revision);
void ot_repo_followed(ot_control *c);   /* another target is followed */
void ot_repo_unanswered(ot_control *c); /* the connection it would come on has gone */

/* agent.c */
ot_rc ot_agent_create(ot_control *c, ot_agent **a_out, ot_error *err) OT_CHECKED;
void ot_agent_start(ot_agent *a);
void ot_agent_destroy(ot_agent *a); /* NULL is fine */
void ot_agent_observe(ot_agent *a); /* the observed state may have changed */
void ot_agent_pump(ot_agent *a);    /* the spool may have something */
bool ot_agent_connected(const ot_agent *a);
bool ot_agent_ask(ot_agent *a, const char *json); /* false: it can't be sent */
/* The control plane has spoken once, so that it knows who we are before the first label of one of
 * our answers reaches it; or it is not there. */
bool ot_agent_settled(const ot_agent *a);

/* company.c: what the supervisor says, and is told. While another replica works on the same data
 * directory (`beside`), its spool and the cache are left alone. */
ot_rc ot_company_start(ot_control *c, ot_error *err) OT_CHECKED;
void ot_company_ready(ot_control *c); /* it accepts */
void ot_company_stop(ot_control *c);

#endif
