/* A job of n ranks in one test: children of this process, joined through a meeting point in it.
 *
 * Each child runs `part` and ends with what it returns; job_run gives how many did not end with 0.
 * Children print nothing but lines that begin with '#'. */
#ifndef OT_TESTS_COLLECTIVE_JOB_H
#define OT_TESTS_COLLECTIVE_JOB_H

#include "base/clock.h"
#include "base/mem.h"
#include "collective/api_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOB_RANKS_MAX 8
#define JOB_LIMIT_S 900 /* against hanging, not a measure */

typedef struct job {
    int32_t size;
    bool no_shm, no_learn;
    bool alone; /* no launcher watches the ranks */
    const char *settings;
    int (*part)(const struct job *j, int32_t rank);
    void *arg;
    int64_t timeout_us; /* to arrive; 0: 30 s */
    int32_t rogue;      /* this rank has another key; -1: none */
    const char *engine; /* of all ranks but the last; NULL: the built-in one */
    const char *last_engine;
    int32_t min;   /* elastic: the least number of ranks; 0: it isn't */
    int32_t later; /* elastic: so many of the last ranks are no members of the first epoch */
    int64_t reform_us;
    /* After the run. */
    int status[JOB_RANKS_MAX];
    pid_t pids[JOB_RANKS_MAX];
} job;

static inline ot_rc job_join(const job *j, int32_t rank, int port, ot_error *err)
{
    ot_engine_options o = {.timeout_us = j->timeout_us > 0 ? j->timeout_us : 30000000,
                           .no_shm = j->no_shm,
                           .no_learn = j->no_learn,
                           .engine = rank + 1 == j->size ? j->last_engine : j->engine};
    o.engine = o.engine != NULL ? o.engine : "overtake";
    o.id = (ot_identity){.rank = rank, .size = j->size, .launched = !j->alone};
    o.id.worker = j->min > 0 ? rank : -1;
    snprintf(o.id.key, sizeof o.id.key, rank == j->rogue ? "another key" : "the key of this job");
    o.id.key_len = strlen(o.id.key);
    snprintf(o.id.rendezvous, sizeof o.id.rendezvous, "127.0.0.1:%d", port);
    snprintf(o.id.source, sizeof o.id.source, "test");
    return ot_api_init(&o, err);
}

static inline int job_child(const job *j, int32_t rank, int pipe_fd)
{
    int port = 0;
    ot_error e = {.rc = OT_OK};
    alarm(JOB_LIMIT_S);
    if (read(pipe_fd, &port, sizeof port) != sizeof port) {
        return 90;
    }
    close(pipe_fd);
    if (job_join(j, rank, port, &e) != OT_OK) {
        printf("# rank %d: init: %s\n", rank, e.msg);
        return 91;
    }
    int rc = j->part(j, rank);
    char text[OVERTAKE_MESSAGE_SIZE];
    if (overtake_finalize(text, sizeof text) != 0) {
        printf("# rank %d: finalize: %s\n", rank, text);
        return 92;
    }
    return rc;
}

static _Atomic int job_epochs;

static inline void job_formed(void *arg, uint64_t epoch, const int32_t *workers, int32_t n)
{
    (void)arg, (void)workers, (void)n;
    job_epochs = (int)epoch;
}

/* Starts the ranks and the meeting point. */
static inline ot_meet_server *job_start(job *j, const ot_meet_server_ops *ops)
{
    int pipes[JOB_RANKS_MAX][2];
    fflush(stdout);
    for (int32_t r = 0; r < j->size; r++) {
        if (pipe(pipes[r]) != 0 || (j->pids[r] = fork()) < 0) {
            perror("# job");
            exit(1);
        }
        if (j->pids[r] == 0) {
            close(pipes[r][1]);
            int rc = job_child(j, r, pipes[r][0]);
            fflush(stdout);
            _exit(rc);
        }
        close(pipes[r][0]);
    }
    static const char key[] = "the key of this job";
    ot_meet_server_options o = {.listen = {.host = "127.0.0.1"},
                                .size = j->size - j->later,
                                .min = j->min,
                                .reform_us = j->reform_us,
                                .key = key,
                                .key_len = sizeof key - 1,
                                .settings = j->settings};
    ot_meet_server_ops none = {.formed = job_formed};
    job_epochs = 0;
    ot_meet_server *s = NULL;
    ot_error e;
    if (ot_meet_server_create(&o, ops != NULL ? ops : &none, &s, &e) != OT_OK) {
        printf("# meeting point: %s\n", e.msg);
    }
    int port = s != NULL ? ot_meet_server_port(s) : 0;
    for (int32_t r = 0; r < j->size; r++) {
        for (int i = 0; r >= j->size - j->later && job_epochs == 0 && i < JOB_LIMIT_S * 1000; i++) {
            ot_clock_sleep_us(1000);
        }
        if (write(pipes[r][1], &port, sizeof port) != sizeof port) {
            printf("# rank %d ended early\n", r);
        }
        close(pipes[r][1]);
    }
    return s;
}

/* A job whose ranks have both ends of `pipes`, as `arg`; the test has them too. */
__attribute__((unused)) static ot_meet_server *job_start_piped(job *j, int pipes[2])
{
    if (pipe(pipes) != 0) {
        perror("# pipe");
        exit(1);
    }
    j->arg = pipes;
    return job_start(j, NULL);
}

/* Waits for all; how many did not end with 0. */
static inline int job_end(job *j, ot_meet_server *s)
{
    int bad = 0;
    for (int32_t r = 0; r < j->size; r++) {
        while (waitpid(j->pids[r], &j->status[r], 0) < 0 && errno == EINTR) {
        }
        bad += j->status[r] != 0;
    }
    ot_meet_server_destroy(s);
    return bad;
}

static inline int job_run(job *j)
{
    return job_end(j, job_start(j, NULL));
}

/* In a child: what was not as it should be. */
static int failures;

__attribute__((format(printf, 1, 2), unused)) static void wrong(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (failures++ < 5) {
        printf("# ");
        vprintf(fmt, ap);
        printf("\n");
    }
    va_end(ap);
}

/* The sum of `count` floats. */
__attribute__((unused)) static overtake_request sum_of(const char *name, const int64_t *count,
                                                       const float *in, float *out)
{
    return (overtake_request){.struct_size = sizeof(overtake_request),
                              .kind = OVERTAKE_ALLREDUCE,
                              .name = name,
                              .dtype = OVERTAKE_F32,
                              .ndim = 1,
                              .dims = count,
                              .in = in,
                              .out = out};
}

/* Asks and waits. */
__attribute__((unused)) static bool do_one(overtake_request *r, overtake_result *result)
{
    overtake_handle h;
    overtake_failure f = {.struct_size = sizeof f};
    result->struct_size = sizeof *result;
    r->struct_size = sizeof *r;
    if (overtake_start(r, 1, &h, f.message, sizeof f.message) != 0 ||
        overtake_wait(h, 100, result, &f) != 0) {
        wrong("%s", f.message);
        return false;
    }
    return true;
}

#endif
