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
        dump(j, j->result->process);
    }
    for (size_t i = 0; i < j->n_agents; i++) {
        if (j->agents[i].open && !j->agents[i].done) {
            ot_job_channel_send(&j->agents[i].channel, OT_JOB_STOP,
                                json_pack("{s:I}", "grace_us", (json_int_t)grace_us), NULL, 0);
        }
    }
}

void job_name(const job *j, int32_t process, char out[320])
{
    const job_rank *r = &j->ranks[process];
    bool fresh = j->epoch > 0 && r->epoch == 0; /* no rank has been dealt to it */
    size_t n = fresh ? (size_t)snprintf(out, 320, "a new process ([%" PRId32 "], ", process)
                     : (size_t)snprintf(out, 320, "rank %" PRId32, r->rank);
    if (!fresh && r->epoch > 1) { /* another may have that rank in another epoch */
        n += (size_t)snprintf(out + n, 320 - n, " of epoch %" PRIu64, r->epoch);
    }
    n += (size_t)snprintf(out + n, 320 - n, fresh ? "" : " (");
    if (!fresh && r->rank != process) { /* what it prints has another number before it */
        n += (size_t)snprintf(out + n, 320 - n, "[%" PRId32 "], ", process);
    }
    n += (size_t)snprintf(out + n, 320 - n, "host %s", r->agent->name);
    snprintf(out + n, 320 - n, r->pid != 0 ? ", process %" PRId64 ")" : ")", r->pid);
}

static void log_name(const job *j, int32_t rank, char *out, size_t size)
{
    out[0] = 0;
    if (j->o->output_dir != NULL) {
        snprintf(out, size, "%s/rank-%" PRId32 ".log", j->o->output_dir, rank);
    }
}

/* Whom the ranks blame; false: nobody, or the one that has ended, whose end says more. One that
 * was out of reach before it ended is lost either way. */
static bool blamed(job *j, int32_t *rank, char why[640])
{
    pthread_mutex_lock(&j->lock);
    bool is = j->blamed >= 0 && j->blamed != *rank;
    if (is) {
        snprintf(why, 640, "%s", j->blame);
        *rank = j->blamed;
        j->result->lost = j->blamed_lost;
    } else if (j->blamed == *rank) {
        j->result->lost |= j->blamed_lost;
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
    job_fail(j, rank, code, why);
    ot_job_print_say(j->print, "%s %s%s%s", r->who, why, r->line[0] ? "; its last line: " : "",
                     r->line);
}

void job_fail(job *j, int32_t rank, int code, const char *why)
{
    ot_job_result *r = j->result;
    j->failed = true;
    r->code = code;
    r->rank = j->ranks[rank].rank;
    r->process = rank;
    r->pid = j->ranks[rank].pid;
    snprintf(r->host, sizeof r->host, "%s", j->ranks[rank].agent->name);
    snprintf(r->why, sizeof r->why, "%s", why);
    ot_job_print_last(j->print, rank, r->line, sizeof r->line);
    log_name(j, rank, r->log, sizeof r->log);
    j->stop_at_ns = ot_clock_mono_ns() + (uint64_t)j->o->settle_us * 1000;
    job_name(j, rank, r->who);
}

static void signal_text(int signo, char *out, size_t size)
{
    snprintf(out, size, "was killed by signal %d (%s%s)", signo, strsignal(signo),
             signo == SIGKILL ? ": somebody, or the system for lack of memory"
             : signo == SIGBUS
                 ? ": a file that it had mapped was cut short, or the disk or /dev/shm "
                   "is full"
                 : "");
}

void job_tell(job *j, int32_t rank, ot_event_kind kind, int code, const char *text)
{
    ot_event e = {.kind = kind, .rank = rank, .code = code};
    snprintf(e.host, sizeof e.host, "%s", j->ranks[rank].agent->name);
    snprintf(e.text, sizeof e.text, "%s", text);
    ot_meet_server_tell(j->server, &e);
}

/* What it means for the job. */
static void end_of(job *j, int32_t rank, int code, const char *why)
{
    j->ranks[rank].code = code;
    if (j->o->min_np > 0) {
        job_elastic_ended(j, rank, code, why, false);
    } else if (code != 0) {
        culprit(j, rank, code, why);
    }
}

static void take_end(job *j, int32_t rank, ot_event_kind kind, int code, const char *said)
{
    char why[600] = "", line[400], text[440] = "";
    job_rank *r = &j->ranks[rank];
    r->ended = true;
    r->stopped_ns = 0;
    ot_job_print_ended(j->print, rank);
    ot_job_print_last(j->print, rank, line, sizeof line);
    if (kind == OT_EVENT_KILLED) {
        signal_text(code, why, sizeof why);
    } else if (kind == OT_EVENT_LOST) {
        snprintf(why, sizeof why, "could not be started: %.500s", said);
    } else if (code != 0) {
        snprintf(why, sizeof why, "ended with exit code %d", code);
    }
    end_of(j, rank, kind == OT_EVENT_KILLED ? 128 + code : kind == OT_EVENT_LOST ? 1 : code, why);
    if (line[0] != 0) {
        snprintf(text, sizeof text, "its last line: %s", line);
    }
    job_tell(j, rank, kind, code, text);
}

static void take_event(job *j, job_agent *a, const json_t *json)
{
    int64_t rank = json_integer_value(json_object_get(json, "rank"));
    int64_t kind = json_integer_value(json_object_get(json, "kind"));
    int code = (int)json_integer_value(json_object_get(json, "code"));
    const char *said = json_string_value(json_object_get(json, "text"));
    if (rank < 0 || rank >= j->n_ranks || j->ranks[rank].agent != a || j->ranks[rank].ended) {
        return;
    }
    job_rank *r = &j->ranks[rank];
    char name[320];
    job_name(j, (int32_t)rank, name);
    switch (kind) {
    case OT_EVENT_STOPPED:
        r->stopped_ns = ot_clock_mono_ns();
        ot_job_print_say(j->print, "%s is stopped (%s)", name, strsignal(code));
        job_tell(j, (int32_t)rank, OT_EVENT_STOPPED, code, "");
        break;
    case OT_EVENT_CONTINUED:
        r->stopped_ns = 0;
        ot_job_print_say(j->print, "%s goes on", name);
        job_tell(j, (int32_t)rank, OT_EVENT_CONTINUED, 0, "");
        break;
    case OT_EVENT_EXITED:
    case OT_EVENT_KILLED:
    case OT_EVENT_LOST: /* it could not be started */
        take_end(j, (int32_t)rank, (ot_event_kind)kind, code, said != NULL ? said : "");
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
    if (rank < (uint32_t)j->n_ranks && j->ranks[rank].agent == a) {
        ot_job_print_add(j->print, (int32_t)rank, b[4], text.c, f->bin_len - OT_JOB_OUTPUT_HEAD);
    }
}

/* All that it had goes with it. */
static void lose_all(job *j, job_agent *a, const char *why)
{
    job_elastic_host_failed(j, a);
    for (int32_t r = 0; r < j->n_ranks; r++) {
        if (j->ranks[r].agent != a || j->ranks[r].ended) {
            continue;
        }
        j->ranks[r].ended = true;
        j->ranks[r].code = 1;
        ot_job_print_ended(j->print, r);
        if (j->o->min_np > 0) {
            job_elastic_ended(j, r, 1, why, true);
        } else {
            j->result->lost |= !j->failed;
            culprit(j, r, 1, why);
        }
        job_tell(j, r, OT_EVENT_LOST, 0, why);
    }
}

static void agent_failed(job *j, job_agent *a)
{
    if (j->o->min_np > 0) {
        lose_all(j, a, a->failed);
    } else {
        culprit(j, a->host->first, 1, a->failed);
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
        if (rank >= 0 && rank < j->n_ranks && j->ranks[rank].agent == a) {
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
        agent_failed(j, a);
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
    lose_all(j, a, why);
}

void job_check_stopped(job *j, uint64_t late_ns)
{
    uint64_t now = ot_clock_mono_ns();
    bool all = true;
    int32_t longest = -1;
    char why[160], took[32];
    for (int32_t r = 0; r < j->n_ranks; r++) {
        job_rank *k = &j->ranks[r];
        if (k->stopped_ns == 0) {
            all = all && (k->ended || !k->member);
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
    if (j->o->min_np > 0) {
        j->ranks[longest].stopped_ns = 0;
        job_elastic_give_up(j, longest, why);
    } else {
        culprit(j, longest, 1, why);
    }
}
