#include "launch/job_state.h"

#include "launch/job_internal.h"
#include "tap.h"

#include <jansson.h>

static json_t *parse(ot_str *text)
{
    json_error_t je;
    json_t *j = json_loadb(text->data, text->len, JSON_REJECT_DUPLICATES, &je);
    ok(json_is_object(j), "JSON: %s: %s", j != NULL ? "" : je.text, text->data);
    ot_str_clear(text);
    return j;
}

static void test_result(void)
{
    ot_str text = OT_STR_INIT;
    ot_job_result r = {.rank = -1, .restarts = 2};
    ot_job_result_json(&r, &text);
    is_str(text.data, "{\"code\":0,\"restarts\":2}", "nothing failed");
    ot_str_clear(&text);
    r = (ot_job_result){.code = 137,
                        .rank = 1,
                        .pid = 47,
                        .lost = true,
                        .host = "b",
                        .why = "was \"killed\"",
                        .line = "loss \xff 0.4"};
    ot_job_result_json(&r, &text);
    json_t *j = parse(&text);
    is_str(json_string_value(json_object_get(j, "why")), "was \"killed\"", "why");
    is_str(json_string_value(json_object_get(j, "last_line")), "loss \xef\xbf\xbd 0.4",
           "what is no text is replaced");
    ok(json_is_true(json_object_get(j, "lost")), "lost");
    ok(json_object_get(j, "log") == NULL, "no log, no member");
    json_decref(j);
    ot_str_done(&text);
}

static void test_state(void)
{
    ot_str text = OT_STR_INIT;
    ot_job_options o = {.np = 2};
    ot_job_result r = {.rank = -1};
    job_agent agents[2] = {{.name = "a"}, {.name = "b"}};
    job_rank ranks[2] = {{.agent = &agents[0], .pid = 11},
                         {.agent = &agents[1], .pid = 12, .stopped_ns = 5}};
    ot_pulse pulses[2] = {{.steps = 7, .samples = 100, .bytes_out = 10},
                          {.steps = 8, .samples = 50, .bytes_out = 20, .waits_us = 3}};
    int32_t members[2] = {0, 1};
    job j = {.o = &o,
             .result = &r,
             .ranks = ranks,
             .members = members,
             .size = 2,
             .pulses = pulses,
             .restart = 1};
    ot_job_rates rates = {.steps = 12.5, .slowest = 1, .waits = 0.25};
    job_state_format(&j, &rates, false, &text);
    json_t *v = parse(&text);
    is_str(json_string_value(json_object_get(v, "state")), "starting", "not all are there");
    is_int(json_integer_value(json_object_get(v, "steps")), 8, "steps: of the one ahead");
    is_int(json_integer_value(json_object_get(v, "samples")), 150, "samples: of all");
    is_int(json_integer_value(json_object_get(v, "bytes")), 30, "bytes: of all");
    is_near(json_real_value(json_object_get(v, "steps_per_s")), 12.5, 1e-9, "a rate");
    json_t *slow = json_object_get(v, "slowest"), *list = json_object_get(v, "ranks");
    is_str(json_string_value(json_object_get(slow, "host")), "b", "the slowest and where it is");
    is_int((int64_t)json_array_size(list), 2, "each rank");
    is_str(json_string_value(json_object_get(json_array_get(list, 1), "state")), "stopped",
           "one is stopped");
    ok(json_is_null(json_object_get(v, "result")), "no result yet");
    json_decref(v);
    j.all_here = true;
    rates.slowest = -1;
    job_state_format(&j, &rates, true, &text);
    v = parse(&text);
    is_str(json_string_value(json_object_get(v, "state")), "ended", "at the end");
    ok(json_is_object(json_object_get(v, "result")), "with its result");
    ok(json_is_null(json_object_get(v, "slowest")), "nobody is slowest");
    json_decref(v);
    ot_str_done(&text);
}

/* An elastic job: counts go on from epoch to epoch, and the last epochs are listed. */
static void test_epochs(void)
{
    enum { N = OT_MEET_RANKS_MAX };
    static job_rank ranks[N];
    static ot_pulse pulses[N], before[N];
    static int32_t members[N], next[N];
    static job_agent agent = {.name = "a"};
    ot_str text = OT_STR_INIT;
    ot_job_options o = {.np = 3, .min_np = 1};
    ot_job_result r = {.rank = -1};
    job j = {.o = &o,
             .result = &r,
             .ranks = ranks,
             .members = members,
             .members_next = next,
             .size = 3,
             .pulses = pulses,
             .pulses_before = before,
             .wake_fd = -1};
    ot_error err = {0};
    ok(ot_job_print_create(&(ot_job_print_options){.ranks = 1}, &j.print, &err) == OT_OK,
       "a print %s", err.msg);
    pthread_mutex_init(&j.lock, NULL);
    for (int i = 0; i < 3; i++) {
        ranks[i] = (job_rank){.agent = &agent, .rank = i, .member = true};
        members[i] = i;
    }
    for (uint64_t epoch = 1; epoch <= JOB_EPOCHS_KEPT + 2; epoch++) {
        int32_t n = epoch == 1 ? 3 : 2;
        job_elastic_formed(&j, epoch, (const int32_t[]){0, 2, 1}, n);
        job_take_formed(&j);
        for (int32_t k = 0; k < n; k++) {
            pulses[k] = (ot_pulse){.steps = 10, .samples = 5, .bytes_out = 7};
        }
    }
    job_epoch_lost(&j, j.epoch);
    job_state_format(&j, &(ot_job_rates){.slowest = -1}, false, &text);
    json_t *v = parse(&text), *list = json_object_get(v, "epochs");
    is_int(json_integer_value(json_object_get(v, "epoch")), JOB_EPOCHS_KEPT + 2, "the epoch");
    is_int(json_integer_value(json_object_get(v, "steps")), 10 * (JOB_EPOCHS_KEPT + 2),
           "steps of all epochs");
    is_int(json_integer_value(json_object_get(v, "samples")), 15 + 10 * (JOB_EPOCHS_KEPT + 1),
           "samples of all ranks of all epochs");
    is_int((int64_t)json_array_size(list), JOB_EPOCHS_KEPT, "the last epochs");
    json_t *last = json_array_get(list, JOB_EPOCHS_KEPT - 1);
    is_int(json_integer_value(json_object_get(last, "np")), 2, "how many ranks");
    is_int(json_integer_value(json_object_get(last, "lost")), 1, "how many of them are lost");
    is_int(json_integer_value(json_object_get(json_array_get(list, 0), "epoch")), 3, "the first");
    json_t *second = json_array_get(json_object_get(v, "ranks"), 1);
    is_int(json_integer_value(json_object_get(second, "process")), 2, "which process rank 1 is");
    json_decref(v);
    ot_str_done(&text);
    ot_job_print_destroy(j.print);
    pthread_mutex_destroy(&j.lock);
}

/* So many ranks that the file would be read in vain: those at the begin are listed. */
static void test_many(void)
{
    enum { N = 4096 };
    static job_rank ranks[N];
    static ot_pulse pulses[N];
    static int32_t members[N];
    static job_agent agent = {.name = "a-host-with-a-name-that-is-rather-long.example.org"};
    ot_str text = OT_STR_INIT;
    ot_job_options o = {.np = N};
    for (int i = 0; i < N; i++) {
        ranks[i].agent = &agent;
        members[i] = i;
    }
    job j = {.o = &o, .ranks = ranks, .members = members, .size = N, .pulses = pulses};
    job_state_format(&j, &(ot_job_rates){.slowest = -1}, false, &text);
    ok(text.len < OT_JOB_STATE_MAX / 4, "%zu bytes", text.len);
    json_t *v = parse(&text);
    is_int((int64_t)json_array_size(json_object_get(v, "ranks")), OT_JOB_STATE_RANKS, "the first");
    json_decref(v);
    ot_str_done(&text);
}

int main(void)
{
    test_result();
    test_state();
    test_epochs();
    test_many();
    return tap_done();
}
