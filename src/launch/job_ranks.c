/* What becomes of the ranks of a job, and what the launcher does about it. */
#include "base/clock.h"
#include "base/mem.h"
#include "launch/job_internal.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* What the rank that the others wait for is doing: it is asked before it is ended. */
static void dump(job *j, int32_t rank)
{
    job_agent *a = j->ranks[rank].agent;
    if (!j->dumped && !j->ranks[rank].ended && a->open) {
        j->dumped = true;
        ot_job_channel_send(&a->channel, OT_JOB_DUMP, json_pack("{s:i}", "rank", (int)rank), NULL,
                            0);
    }
}

void job_stop(job *j, int64_t grace_us)
{
    j->stopping = true;
    if (j->failed && j->interrupted == 0 && grace_us > 0) {
        dump(j, j->result->rank);
    }
    for (size_t i = 0; i < j->n_agents; i++) {
        if (j->agents[i].open && !j->agents[i].done) {
            ot_job_channel_send(&j->agents[i].channel, OT_JOB_STOP,
                                json_pack("{s:I}", "grace_us", (json_int_t)grace_us), NULL, 0);
        }
    }
}

static void log_name(const job *j, int32_t rank, char *out, size_t size)
{
    out[0] = 0;
    if (j->o->output_dir != NULL) {
        snprintf(out, size, "%s/rank-%" PRId32 ".log", j->o->output_dir, rank);
    }
}

/* Whom the ranks blame; false: nobody, or somebody who ended before and was named for that. */
static bool blamed(job *j, int32_t *rank, char why[640])
{
    pthread_mutex_lock(&j->lock);
    bool is = j->blamed >= 0 && j->blamed != *rank;
    if (is) {
        snprintf(why, 640, "%s", j->blame);
        *rank = j->blamed;
    }
    pthread_mutex_unlock(&j->lock);
    return is;
}

/* The first to fail is the culprit, or whom it blames; what follows is because of it, or of our
 * stopping the rest. */
static void culprit(job *j, int32_t rank, int code, const char *why)
{
    ot_job_result *r = j->result;
    char because[640];
    if (j->failed || j->stopping || j->interrupted != 0) {
        return;
    }
    why = blamed(j, &rank, because) ? because : why;
    j->failed = true;
    r->code = code;
    r->rank = rank;
    r->pid = j->ranks[rank].pid;
    snprintf(r->host, sizeof r->host, "%s", j->ranks[rank].agent->name);
    snprintf(r->why, sizeof r->why, "%s", why);
    ot_job_print_last(j->print, rank, r->line, sizeof r->line);
    log_name(j, rank, r->log, sizeof r->log);
    j->stop_at_ns = ot_clock_mono_ns() + (uint64_t)j->o->settle_us * 1000;
    snprintf(r->who, sizeof r->who, "rank %" PRId32 " (host %s", rank, r->host);
    size_t n = strlen(r->who);
    snprintf(r->who + n, sizeof r->who - n, r->pid != 0 ? ", process %" PRId64 ")" : ")", r->pid);
    ot_job_print_say(j->print, "%s %s%s%s", r->who, why, r->line[0] ? "; its last line: " : "",
                     r->line);
}

static void signal_text(int signo, char *out, size_t size)
{
    snprintf(out, size, "was killed by signal %d (%s%s)", signo, strsignal(signo),
             signo == SIGKILL ? ": somebody, or the system for lack of memory" : "");
}

static void tell(job *j, int32_t rank, ot_event_kind kind, int code, const char *text)
{
    ot_event e = {.kind = kind, .rank = rank, .code = code};
    snprintf(e.host, sizeof e.host, "%s", j->ranks[rank].agent->name);
    snprintf(e.text, sizeof e.text, "%s", text);
    ot_meet_server_tell(j->server, &e);
}

static void take_end(job *j, int32_t rank, ot_event_kind kind, int code)
{
    char why[160], line[400], text[440] = "";
    job_rank *r = &j->ranks[rank];
    r->ended = true;
    r->stopped_ns = 0;
    ot_job_print_ended(j->print, rank);
    ot_job_print_last(j->print, rank, line, sizeof line);
    if (kind == OT_EVENT_KILLED) {
        signal_text(code, why, sizeof why);
        culprit(j, rank, 128 + code, why);
    } else if (code != 0) {
        snprintf(why, sizeof why, "ended with exit code %d", code);
        culprit(j, rank, code, why);
    }
    if (line[0] != 0 && (kind == OT_EVENT_KILLED || code != 0)) {
        snprintf(text, sizeof text, "its last line: %s", line);
    }
    tell(j, rank, kind, code, text);
}

static void take_event(job *j, job_agent *a, const json_t *json)
{
    int64_t rank = json_integer_value(json_object_get(json, "rank"));
    int64_t kind = json_integer_value(json_object_get(json, "kind"));
    int code = (int)json_integer_value(json_object_get(json, "code"));
    if (rank < 0 || rank >= j->o->np || j->ranks[rank].agent != a || j->ranks[rank].ended) {
        return;
    }
    job_rank *r = &j->ranks[rank];
    switch (kind) {
    case OT_EVENT_STOPPED:
        r->stopped_ns = ot_clock_mono_ns();
        ot_job_print_say(j->print,
                         "rank %" PRId64 " (host %s, process %" PRId64 ") is stopped (%s)", rank,
                         a->name, r->pid, strsignal(code));
        tell(j, (int32_t)rank, OT_EVENT_STOPPED, code, "");
        break;
    case OT_EVENT_CONTINUED:
        r->stopped_ns = 0;
        ot_job_print_say(j->print, "rank %" PRId64 " (host %s, process %" PRId64 ") goes on", rank,
                         a->name, r->pid);
        tell(j, (int32_t)rank, OT_EVENT_CONTINUED, 0, "");
        break;
    case OT_EVENT_EXITED:
    case OT_EVENT_KILLED:
        take_end(j, (int32_t)rank, (ot_event_kind)kind, code);
        break;
    default:
        break;
    }
}

static void take_output(job *j, const job_agent *a, const ot_frame *f)
{
    if (f->bin_len < OT_JOB_OUTPUT_HEAD) {
        return;
    }
    const uint8_t *b = f->bin;
    uint32_t rank = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    union {
        const uint8_t *u;
        const char *c;
    } text = {.u = b + OT_JOB_OUTPUT_HEAD};
    if (rank < (uint32_t)j->o->np && j->ranks[rank].agent == a) {
        ot_job_print_add(j->print, (int32_t)rank, b[4], text.c, f->bin_len - OT_JOB_OUTPUT_HEAD);
    }
}

void job_take_frame(job *j, job_agent *a, const ot_frame *f)
{
    json_t *json = ot_job_frame_json(f);
    int64_t rank = json_integer_value(json_object_get(json, "rank"));
    const char *text = json_string_value(json_object_get(json, "text"));
    a->heard = true;
    switch (f->type) {
    case OT_JOB_STARTED:
        if (rank >= 0 && rank < j->o->np && j->ranks[rank].agent == a) {
            j->ranks[rank].pid = json_integer_value(json_object_get(json, "pid"));
        }
        break;
    case OT_JOB_OUTPUT:
        take_output(j, a, f);
        break;
    case OT_JOB_EVENT:
        take_event(j, a, json);
        break;
    case OT_JOB_FAILED:
        snprintf(a->failed, sizeof a->failed, "%s", text != NULL ? text : "");
        culprit(j, a->host->first, 1, a->failed);
        break;
    case OT_JOB_DUMPED:
        ot_job_print_say(j->print, "rank %" PRId64 " (host %s) %s", rank, a->name,
                         text != NULL ? text : "");
        break;
    case OT_JOB_DONE:
        a->done = true;
        break;
    default:
        break; /* of a newer agent */
    }
    json_decref(json);
}

void job_agent_lost(job *j, job_agent *a, int status)
{
    char why[400];
    if (a->done) {
        return;
    }
    a->done = true;
    if (!a->heard && !a->local) {
        snprintf(why, sizeof why,
                 "could not be started: '%.200s' for host %.80s ended with %s %d before Overtake "
                 "answered there (is it installed at the same path, is a login without a password "
                 "possible?)",
                 j->o->ssh, a->name, WIFSIGNALED(status) ? "signal" : "exit code",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    } else {
        snprintf(why, sizeof why, "is lost: the agent of host %s is gone", a->name);
    }
    for (int32_t r = a->host->first; r < a->host->first + a->host->ranks; r++) {
        if (!j->ranks[r].ended) {
            j->ranks[r].ended = true;
            ot_job_print_ended(j->print, r);
            culprit(j, r, 1, why);
            tell(j, r, OT_EVENT_LOST, 0, why);
        }
    }
}

void job_check_stopped(job *j, uint64_t late_ns)
{
    uint64_t now = ot_clock_mono_ns();
    bool all = true;
    int32_t longest = -1;
    char why[160], took[32];
    for (int32_t r = 0; r < j->o->np; r++) {
        job_rank *k = &j->ranks[r];
        if (k->stopped_ns == 0) {
            all = all && k->ended;
            continue;
        }
        k->stopped_ns += late_ns; /* we slept: nobody is to blame for that time */
        if (longest < 0 || k->stopped_ns < j->ranks[longest].stopped_ns) {
            longest = r;
        }
    }
    if (all || longest < 0 || j->o->stopped_after_us == 0 ||
        now - OT_MIN(now, j->ranks[longest].stopped_ns) < (uint64_t)j->o->stopped_after_us * 1000) {
        return;
    }
    snprintf(why, sizeof why, "has been stopped for %s (--stopped-after)",
             ot_format_duration(j->o->stopped_after_us, took));
    culprit(j, longest, 1, why);
}
