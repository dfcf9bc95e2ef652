/* What the parts of the minder share: its state, starting a worker process (minder_start.c),
 * watching it and its end (minder_watch.c). The thread itself, and all that others call, is in
 * minder.c.
 *
 * Threads: the minder's own, where nothing else is said. */
#ifndef OT_RUNTIME_MINDER_H
#define OT_RUNTIME_MINDER_H

#include "runtime/isolate.h"

#include <pthread.h>

struct ot_minder {
    ot_minder_spec spec;
    char *dir, *cache, *log; /* dir holds the two others; ours alone */
    pthread_t thread;
    int quit[2];
    /* Synchronization: written by the minder with `lock` held, read without. */
    _Atomic uint64_t up;
    pthread_mutex_t talk; /* one message and its answer at a time; before `lock` */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the first load has ended, or a process */
    /* Synchronization: under lock. */
    bool tried, stopping;
    ot_error why;
    json_t *loaded;
    pid_t pid;
    int sock; /* also read by who holds `talk` */
    char killed_for[200];
    /* The minder's own. */
    uint64_t started, number;
    unsigned back_off_ms;
};

/* ---- minder_start.c */

ot_rc ot_minder_make_dir(ot_minder *m, ot_error *err) OT_CHECKED;
/* Starts a process and loads the model in it; when that fails, the process has ended. *loaded_out
 * is what it answered. */
ot_rc ot_minder_start(ot_minder *m, json_t **loaded_out, ot_error *err) OT_CHECKED;
/* A message, and {"ok": true, ...} or the error that the worker has. Whoever holds `talk`. */
ot_rc ot_minder_send(ot_minder *m, const json_t *message, int pass_fd, uint64_t until,
                     ot_error *err) OT_CHECKED;
ot_rc ot_minder_receive(ot_minder *m, uint64_t until, json_t **reply_out, ot_error *err) OT_CHECKED;

/* ---- minder_watch.c */

/* Until the process has ended; false when the model is unloaded. */
bool ot_minder_watch(ot_minder *m);
/* Kills it for a reason that is told when it has ended. Any thread. */
void ot_minder_end(ot_minder *m, const char *reason);
/* Waits for the process's end, then tells everybody who waits for it. */
void ot_minder_reap(ot_minder *m);
/* The orderly end: the socket closes, the process leaves, or is made to. */
void ot_minder_leave(ot_minder *m);

#endif
