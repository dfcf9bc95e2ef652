/* The channel between the launcher of a job and the agent on each of its hosts: frames
 * (net/frame.h) over two descriptors, which may be the two ends of an ssh.
 *
 * Threads: one at a time. Lifetime: init/done. */
#ifndef OT_LAUNCH_JOB_CHANNEL_H
#define OT_LAUNCH_JOB_CHANNEL_H

#include "base/str.h"
#include "net/frame.h"

#include <jansson.h>

typedef enum ot_job_frame {
    /* To the agent. */
    OT_JOB_START = 1, /* what to run: see job_agent.c */
    OT_JOB_SIGNAL,    /* {"signal": 10, "group": true}: to its ranks, or their process groups */
    OT_JOB_STOP,      /* {"grace_us": 5000000}: SIGTERM, then SIGKILL */
    OT_JOB_INPUT,     /* bytes for the rank that reads; none: they end */
    OT_JOB_DUMP,      /* {"rank": 3}: what it is doing */
    /* Elastic: one more, {"rank": 5, "local": 1, "env": {"NAME": "value"}}; `rank` is the number of
     * the process. */
    OT_JOB_SPAWN,
    OT_JOB_KILL, /* {"rank": 5, "grace_us": 5000000}: it alone */
    /* From it. */
    OT_JOB_STARTED, /* {"rank": 3, "pid": 4711} */
    OT_JOB_OUTPUT,  /* rank 4 | stream 1 (1: output, 2: error) | bytes */
    OT_JOB_EVENT,   /* {"rank": 3, "kind": 3, "code": 9, "text": ""}: collective/meet.h */
    OT_JOB_FAILED,  /* {"text": "..."}: the agent can't do its work */
    OT_JOB_DUMPED,  /* {"rank": 3, "text": "..."} */
    OT_JOB_DONE,    /* all its ranks have ended, and nothing of them is left */
    /* A job in waiting (job_spare.h). */
    OT_JOB_PREPARE, /* to the agent, before OT_JOB_START: {"np": 2, "python": [...], "modules":
                       [...]} */
    OT_JOB_READY,   /* from it: what was to be prepared is */
} ot_job_frame;

#define OT_JOB_OUTPUT_HEAD 5

typedef struct ot_job_channel {
    int in, out; /* may be the same; -1: closed */
    ot_str rx, tx;
    size_t rx_at, tx_at;
} ot_job_channel;

/* Takes the descriptors over and makes them non-blocking. */
void ot_job_channel_init(ot_job_channel *c, int in, int out);
void ot_job_channel_done(ot_job_channel *c);
/* Queues a frame and writes what can be written. `json` may be NULL and is given away. */
void ot_job_channel_send(ot_job_channel *c, ot_job_frame type, json_t *json, const void *bin,
                         size_t n);
/* False: the other side is gone. */
bool ot_job_channel_flush(ot_job_channel *c);
size_t ot_job_channel_queued(const ot_job_channel *c);
/* Reads what is there. False: the other side is gone, or memory is short. */
bool ot_job_channel_fill(ot_job_channel *c);
/* The next whole frame; it is valid until the next fill. OT_NOT_FOUND: none now. */
ot_rc ot_job_channel_take(ot_job_channel *c, ot_frame *out, ot_error *err) OT_CHECKED;
/* The JSON of a frame; NULL when it has none. */
json_t *ot_job_frame_json(const ot_frame *f);

#endif
