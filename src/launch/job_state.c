#include "launch/job_state.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "launch/job_internal.h"
#include "launch/job_progress.h"

#include <inttypes.h>

static void add_text(ot_str *out, const char *key, const char *text)
{
    if (text[0] != 0) {
        ot_str_addf(out, ",\"%s\":", key);
        ot_str_add_quoted(out, text);
    }
}

void ot_job_result_json(const ot_job_result *r, ot_str *out)
{
    ot_str_addf(out, "{\"code\":%d,\"restarts\":%" PRId32, r->code, r->restarts);
    add_text(out, "why", r->why);
    if (r->rank >= 0) {
        ot_str_addf(out, ",\"rank\":%" PRId32 ",\"pid\":%" PRId64 ",\"lost\":%s", r->rank, r->pid,
                    r->lost ? "true" : "false");
        add_text(out, "host", r->host);
        add_text(out, "last_line", r->line);
        add_text(out, "log", r->log);
    }
    if (r->epochs > 0) {
        ot_str_addf(out, ",\"epochs\":%" PRId32 ",\"admitted\":%" PRId32 ",\"ranks_lost\":%" PRId32,
                    r->epochs, r->admitted, r->lost_n);
        add_text(out, "who_was_lost", r->lost_list);
    }
    ot_str_addc(out, '}');
}

json_t *ot_job_state_read(const char *path)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (ot_disk_read_all(ot_disk_posix(), path, OT_JOB_STATE_MAX, &text, NULL) != OT_OK) {
        return NULL;
    }
    json_t *j = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(j)) {
        json_decref(j);
        return NULL;
    }
    return j;
}

static void add_rank(const job *j, int32_t rank, ot_str *out)
{
    const job_rank *r = &j->ranks[j->members[rank]];
    const ot_pulse *p = &j->pulses[rank];
    ot_str_addf(out, "%s{\"rank\":%" PRId32 ",\"host\":", rank > 0 ? "," : "", rank);
    ot_str_add_quoted(out, r->agent->name);
    if (j->o->min_np > 0) {
        ot_str_addf(out, ",\"process\":%" PRId32, j->members[rank]);
    }
    ot_str_addf(out,
                ",\"pid\":%" PRId64 ",\"state\":\"%s\",\"steps\":%" PRIu64 ",\"samples\":%" PRIu64
                ",\"bytes\":%" PRIu64 ",\"waits_us\":%" PRIu64 "}",
                r->pid,
                r->ended             ? "ended"
                : r->stopped_ns != 0 ? "stopped"
                                     : "running",
                p->steps, p->samples, p->bytes_out, p->waits_us);
}

static void add_sums(const job *j, ot_str *out)
{
    uint64_t steps = 0, operations = 0;
    uint64_t samples = j->before.samples, bytes = j->before.bytes_out;
    for (int32_t r = 0; r < j->size; r++) {
        steps = OT_MAX(steps, j->pulses[r].steps);
        operations = OT_MAX(operations, j->pulses[r].operations);
        samples += j->pulses[r].samples;
        bytes += j->pulses[r].bytes_out;
    }
    ot_str_addf(out,
                ",\"steps\":%" PRIu64 ",\"operations\":%" PRIu64 ",\"samples\":%" PRIu64
                ",\"bytes\":%" PRIu64,
                j->before.steps + steps, j->before.operations + operations, samples, bytes);
}

void job_state_format(const job *j, const ot_job_rates *rates, bool over, ot_str *out)
{
    uint64_t took = ot_clock_mono_ns() - j->started_ns;
    ot_str_addf(out,
                "{\"state\":\"%s\",\"updated_us\":%" PRId64 ",\"took_us\":%" PRIu64
                ",\"restart\":%d,\"np\":%" PRId32,
                over          ? "ended"
                : j->all_here ? "running"
                              : "starting",
                ot_clock_wall_us(), took / 1000, j->restart, j->size);
    if (j->o->min_np > 0) {
        job_epochs_json(j, out);
    }
    add_sums(j, out);
    ot_str_addf(out,
                ",\"steps_per_s\":%.6g,\"operations_per_s\":%.6g,\"samples_per_s\":%.6g,"
                "\"bytes_per_s\":%.6g,\"slowest\":",
                rates->steps, rates->operations, rates->samples, rates->bytes);
    if (rates->slowest >= 0) {
        ot_str_addf(out, "{\"rank\":%" PRId32 ",\"host\":", rates->slowest);
        ot_str_add_quoted(out, j->ranks[j->members[rates->slowest]].agent->name);
        ot_str_addf(out, ",\"waits\":%.3f}", rates->waits);
    } else {
        ot_str_adds(out, "null");
    }
    ot_str_adds(out, ",\"ranks\":[");
    for (int32_t r = 0; r < OT_MIN(j->size, OT_JOB_STATE_RANKS); r++) {
        add_rank(j, r, out);
    }
    ot_str_adds(out, "],");
    ot_explain e;
    if (job_explain(j, &e)) {
        ot_str_adds(out, "\"explain\":");
        ot_job_explain_json(&e, out);
        ot_str_addc(out, ',');
    }
    ot_str_adds(out, "\"result\":");
    if (over) {
        ot_job_result_json(j->result, out);
    } else {
        ot_str_adds(out, "null");
    }
    ot_str_addc(out, '}');
}

void job_state_write(job *j, const ot_job_rates *rates, bool over)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_error err = {0};
    if (j->o->state_file == NULL) {
        return;
    }
    pthread_mutex_lock(&j->lock);
    job_state_format(j, rates, over, &text);
    pthread_mutex_unlock(&j->lock);
    /* How it goes is old in a second; how it ended has to outlive the machine. */
    ot_disk *d = over ? ot_disk_posix() : ot_disk_scratch();
    ot_rc rc = text.failed
                   ? ot_fail(&err, OT_EXHAUSTED, "no memory")
                   : ot_disk_write_atomic(d, j->o->state_file, text.data, text.len, 0644, &err);
    if (rc != OT_OK && !j->state_broken) {
        j->state_broken = true; /* said once; a later write may go well */
        ot_job_print_say(j->print, "--state-file: %s", err.msg);
    }
}
