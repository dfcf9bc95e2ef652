#include "launch/job_spare.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/sock.h"
#include "launch/internal.h"
#include "launch/job_channel.h"
#include "launch/job_internal.h"
#include "launch/run.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAR_NS 5000000000ull
#define WHY_MAX 300

extern char **environ;

typedef struct waiting {
    int fd;
    pid_t agent;
    ot_job_channel channel; /* to it */
    char why[WHY_MAX];      /* it is of no use any more */
} waiting;

static void say(const waiting *w, const char *text)
{
    uint64_t until = ot_clock_mono_ns() + HEAR_NS;
    (void)!ot_sock_send_msg(w->fd, text, strlen(text), -1, until, NULL);
}

static json_t *ask_of(const ot_job_spare *s)
{
    json_t *python = json_array(), *modules = json_array();
    size_t i = 0;
    for (; i < s->n_words && strcmp(s->words[i], "--") != 0; i++) {
        json_array_append_new(python, json_string(s->words[i]));
    }
    for (i++; i < s->n_words; i++) {
        json_array_append_new(modules, json_string(s->words[i]));
    }
    return json_pack("{s:i,s:o,s:o}", "np", (int)s->np, "python", python, "modules", modules);
}

static void take_frames(waiting *w)
{
    ot_frame f;
    ot_error err = {0};
    bool there = ot_job_channel_fill(&w->channel);
    while (ot_job_channel_take(&w->channel, &f, &err) == OT_OK) {
        json_t *json = ot_job_frame_json(&f);
        const char *text = json_string_value(json_object_get(json, "text"));
        if (f.type == OT_JOB_READY) {
            say(w, "ready");
        } else if (w->why[0] == 0) {
            snprintf(w->why, sizeof w->why, "%s", text != NULL ? text : "its agent is not ours");
        }
        json_decref(json);
    }
    if (!there && w->why[0] == 0) {
        snprintf(w->why, sizeof w->why, "its agent has ended");
    }
}

/* --- becoming the job ------------------------------------------------------------------------ */

/* The next text of those with a NUL behind each; NULL: there is none. */
static const char *next(const char **at, const char *end)
{
    const char *text = *at;
    if (text >= end) {
        return NULL;
    }
    *at += strlen(text) + 1;
    return text;
}

static void set_environment(const char **at, const char *end)
{
    for (char **e = environ; *e != NULL;) {
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)OT_MIN(strcspn(*e, "="), sizeof name - 1), *e);
        bool own = ot_has_prefix(name, "OVERTAKE_") && strcmp(name, OT_LAUNCH_MARK) != 0;
        if (!own || unsetenv(name) != 0) {
            e++;
        }
    }
    for (const char *entry; (entry = next(at, end)) != NULL;) {
        char name[256];
        const char *is = strchr(entry, '=');
        if (is != NULL) {
            snprintf(name, sizeof name, "%.*s", (int)OT_MIN(is - entry, 255), entry);
            (void)setenv(name, is + 1, 1);
        }
    }
}

static ot_rc become(waiting *w, const char *text, size_t n, ot_error *err)
{
    const char *at = text, *end = text + n, *cwd = next(&at, end), *count = next(&at, end);
    const char *words[OT_LAUNCH_ARGS_MAX + 5] = {"overtake", "run", "--prepared"};
    char prepared[48];
    int64_t n_words = 0;
    size_t used = 3;
    if (count == NULL || ot_parse_i64(count, &n_words, NULL) != OT_OK || n_words < 1 ||
        n_words > OT_LAUNCH_ARGS_MAX || strcmp(at, "run") != 0) {
        return ot_fail(err, OT_INVALID, "what it was handed is no job");
    }
    snprintf(prepared, sizeof prepared, "%d:%d", w->channel.in, (int)w->agent);
    words[used++] = prepared;
    (void)next(&at, end);
    for (int64_t i = 1; i < n_words; i++) {
        const char *word = next(&at, end);
        if (word == NULL) {
            return ot_fail(err, OT_INVALID, "what it was handed lacks words");
        }
        words[used++] = word;
    }
    set_environment(&at, end);
    if (chdir(cwd) != 0 || fcntl(w->channel.in, F_SETFD, 0) != 0) {
        return ot_fail(err, OT_UNAVAILABLE, "directory '%.200s' of the run", cwd);
    }
    (void)setenv("PWD", cwd, 1);
    union {
        const char *const *in;
        char *const *out;
    } argv = {.in = words}; /* exec changes nothing */
    say(w, "taken");
    execv("/proc/self/exe", argv.out);
    fprintf(stderr, "overtake run: a job in waiting can't start\n");
    _exit(127);
}

/* The run has come, or nobody wants it any more. */
static void take_run(waiting *w)
{
    char *text = NULL;
    size_t n = 0;
    int fd = -1;
    ot_error err = {0};
    ot_rc rc = ot_sock_recv_msg(w->fd, OT_LAUNCH_SPEC_BYTES_MAX, ot_clock_mono_ns() + HEAR_NS,
                                &text, &n, &fd, &err);
    ot_fd_close(&fd);
    if (rc == OT_OK) {
        rc = become(w, text, n, &err);
    }
    ot_free(text);
    if (rc != OT_OK) {
        snprintf(w->why, sizeof w->why, "%.290s", err.msg);
    }
}

int ot_job_spare_main(const ot_job_spare *s)
{
    static const char *const agent[] = {"overtake", "run", "--agent", NULL};
    waiting w = {.fd = s->fd};
    ot_error err = {0};
    int end;
    if (fcntl(w.fd, F_SETFD, FD_CLOEXEC) != 0 ||
        job_agent_spawn("/proc/self/exe", agent, &w.agent, &end, &err) != OT_OK) {
        fprintf(stderr, "overtake run: a job in waiting: %s\n", err.msg);
        return 1;
    }
    ot_job_channel_init(&w.channel, end, end);
    ot_job_channel_send(&w.channel, OT_JOB_PREPARE, ask_of(s), NULL, 0);
    while (w.why[0] == 0) {
        bool out = ot_job_channel_queued(&w.channel) > 0;
        struct pollfd p[] = {{.fd = w.fd, .events = POLLIN},
                             {.fd = end, .events = (short)(POLLIN | (out ? POLLOUT : 0))}};
        (void)poll(p, OT_COUNT(p), -1);
        if (out) {
            (void)ot_job_channel_flush(&w.channel);
        }
        if ((p[1].revents & (POLLIN | POLLHUP)) != 0) {
            take_frames(&w);
        } else if (p[0].revents != 0) {
            take_run(&w);
        }
    }
    say(&w, w.why);
    ot_job_channel_done(&w.channel); /* by that the agent ends, and all that it has */
    return 1;
}
