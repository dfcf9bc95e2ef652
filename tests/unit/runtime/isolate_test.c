/* Isolated models: what comes back, and what a worker process may do to its host. This program is
 * also its own worker. */
#include "runtime/isolate.h"

#include "base/log.h"
#include "fake_worker.h"
#include "null_model.h"
#include "runtime/worker.h"

#define MODEL                                                                                      \
    "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"                \
    " \"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"               \
    " \"op\": \"identity\"%s}"

static ot_runtime *rt;
static char model_dir[OT_PATH_MAX];
static ot_isolation how = {.name = "m version 1", .hang_us = 20000000, .load_us = 20000000};

static void set_scenario(const char *name)
{
    setenv("ORT_SCENARIO", name, 1); /* of the variables that pass */
}

static ot_rc load(const char *options, ot_model **out, ot_error *err)
{
    ot_model_options o = {.options_json = options, .isolation = &how};
    return ot_model_load(rt, "null", model_dir, &o, out, err);
}

static const float feed[] = {1, 2, 3, 4, 5, 6};

static ot_rc run_rows(ot_instance *inst, int64_t n, uint64_t deadline_ns, ot_run_result *r,
                      ot_error *err)
{
    ot_run_input in = {.tensor = {.name = "x",
                                  .dtype = OT_DT_FP32,
                                  .rank = 2,
                                  .dims = {n, 2},
                                  .data = feed,
                                  .size_bytes = (size_t)n * 8}};
    ot_run run = {.inputs = &in, .n_inputs = 1, .deadline_ns = deadline_ns};
    return ot_instance_run(inst, &run, r, err);
}

/* A worker that was ended is started again; until then runs say so. */
static bool answers_again(ot_instance *inst, ot_error *err)
{
    ot_run_result r;
    for (int i = 0; i < 3000; i++) {
        ot_rc rc = run_rows(inst, 1, 0, &r, err);
        if (rc == OT_OK) {
            ot_run_result_release(&r);
            return true;
        }
        if (rc != OT_UNAVAILABLE) {
            return false;
        }
        ot_clock_sleep_us(10000);
    }
    return false;
}

static void test_bad_runs(void)
{
    static const struct {
        const char *name, *says;
    } bad[] = {
        {"crash", "signal 6"},
        {"exit", "code 3"},
        {"stop", "did not come back within 1s"},
        {"hang", "did not come back within 1s"},
        {"hang_up", "its worker process"},
        {"offset", "lies at"},
        {"wraps", "lies at"},
        {"size", "not its shape's"},
        {"rank", "1000 axes"},
        {"dims", "not its shape's"},
        {"negative", "size -5"},
        {"dtype", "has type 14"},
        {"outputs", "1000000 outputs"},
        {"ticket", "instead of"},
        {"room_huge", "room for outputs"},
        {"room_none", "room for outputs"},
        {"kind", "broke the protocol"},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_model *m = NULL;
        ot_instance *inst = NULL;
        ot_run_result r;
        ot_error err = {0};
        char pid[24];
        set_scenario(bad[i].name);
        bool hangs = strstr(bad[i].says, "within") != NULL;
        how.hang_us = hangs ? 1000000 : 20000000;
        if (!ok(load("{}", &m, &err) == OT_OK && ot_instance_create(m, &inst, &err) == OT_OK,
                "%s: loads", bad[i].name)) {
            printf("# %s\n", err.msg);
            ot_model_unref(m);
            continue;
        }
        snprintf(pid, sizeof pid, "process %d ", (int)ot_model_worker_pid(m));
        set_scenario("good"); /* for the next process */
        ot_rc rc = run_rows(inst, 2, 0, &r, &err);
        ok(rc == OT_UNAVAILABLE && strstr(err.msg, bad[i].says) != NULL &&
               strstr(err.msg, "model m version 1") != NULL && strstr(err.msg, pid) != NULL,
           "%s: %s", bad[i].name, err.msg);
        ok(answers_again(inst, &err), "%s: it answers again", bad[i].name);
        ot_instance_destroy(inst);
        ot_model_unref(m);
    }
    how.hang_us = 20000000;
}

static void test_bad_loads(void)
{
    static const struct {
        const char *name, *says;
    } bad[] = {
        {"load_crash", "signal 11"},    {"load_hang", "loading took over"},
        {"load_garbage", "not JSON"},   {"load_list", "not JSON"},
        {"load_rank", "too many axes"}, {"load_huge", "4294967295 bytes"},
    };
    ot_isolation before = how;
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ot_model *m = NULL;
        ot_error err = {0};
        set_scenario(bad[i].name);
        how.load_us = strcmp(bad[i].name, "load_hang") == 0 ? 500000 : before.load_us;
        ot_rc rc = load("{}", &m, &err);
        ok(rc != OT_OK && strstr(err.msg, bad[i].says) != NULL, "%s: %s", bad[i].name, err.msg);
        ot_model_unref(m);
    }
    how = before;
}

static void test_harmless(void)
{
    static const char *const names[] = {"good", "flip", "message", "cut"};
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        ot_model *m = NULL;
        ot_instance *inst = NULL;
        ot_run_result r;
        ot_error err = {0};
        set_scenario(names[i]);
        if (!ok(load("{}", &m, &err) == OT_OK && ot_instance_create(m, &inst, &err) == OT_OK,
                "%s: loads", names[i])) {
            continue;
        }
        int good = 0, told = 0;
        for (int k = 0; k < 50; k++) {
            ot_rc rc = run_rows(inst, 2, 0, &r, &err);
            good += rc == OT_OK && r.n_outputs == 1 && r.outputs[0].size_bytes == 16;
            told += rc != OT_OK && err.msg[0] != '\0';
            if (rc == OT_OK) {
                ot_run_result_release(&r);
            }
        }
        is_int(good + told, 50, "%s: each run has its outputs or a reason (%d outputs)", names[i],
               good);
        ok(strcmp(names[i], "good") != 0 || good == 50, "%s: %d good ones", names[i], good);
        ok(strcmp(names[i], "cut") != 0 || good == 50, "memory can't be cut short");
        ot_instance_destroy(inst);
        ot_model_unref(m);
    }
}

/* ---- with the real worker and the tutorial plug-in */

static void test_answers_held(void)
{
    ot_model *m = NULL;
    ot_instance *inst = NULL;
    ot_run_result held[14], r;
    ot_error err = {0};
    if (!ok(load("{}", &m, &err) == OT_OK && ot_instance_create(m, &inst, &err) == OT_OK,
            "loads")) {
        printf("# %s\n", err.msg);
        return;
    }
    const ot_model_info *info = ot_model_info_of(m);
    ok(info->isolated && strcmp(info->plugin, "null") == 0 && info->max_in_flight == 1,
       "isolated, and called by its plug-in");
    printf("# lacks: %s\n", info->isolation_lacks);
    int good = 0;
    for (int i = 0; i < 14; i++) {
        good += run_rows(inst, 1 + i % 3, 0, &held[i], &err) == OT_OK;
    }
    is_int(good, 14, "fourteen answers held");
    good = 0;
    for (int i = 0; i < 14; i++) {
        good += memcmp(held[i].outputs[0].data, feed, held[i].outputs[0].size_bytes) == 0;
    }
    is_int(good, 14, "and all of them right");
    ok(run_rows(inst, 1, 0, &r, &err) == OT_OK, "a fifteenth");
    ot_run_result one_more;
    ok(run_rows(inst, 1, 0, &one_more, &err) == OT_EXHAUSTED, "no sixteenth: %s", err.msg);
    ot_run_result_release(&r);
    for (int i = 0; i < 14; i++) {
        ot_run_result_release(&held[i]);
    }
    ok(run_rows(inst, 3, 0, &r, &err) == OT_OK, "released ones serve again");
    pid_t pid = ot_model_worker_pid(m);
    kill(pid, SIGKILL);
    ok(answers_again(inst, &err), "after its death too");
    ok(memcmp(r.outputs[0].data, feed, 24) == 0, "what is held outlives the process");
    ot_run_result_release(&r);
    ot_instance_destroy(inst);
    ot_model_unref(m);
    ok(kill(pid, 0) != 0, "no process is left");
}

typedef struct responses {
    int n, finals;
    ot_rc rc;
} responses;

static void take(void *arg, const ot_run_result *result)
{
    responses *got = arg;
    ot_run_result copy = *result;
    got->n++;
    got->finals += copy.final;
    got->rc = copy.rc;
    ot_run_result_release(&copy);
}

static void test_many_responses(void)
{
    ot_model *m = NULL;
    ot_instance *inst = NULL;
    ot_error err = {0};
    responses got = {0};
    ot_run_input in = {.tensor = {"x", OT_DT_FP32, 2, {3, 2}, feed, 24}};
    ot_run run = {.inputs = &in, .n_inputs = 1};
    if (ok(load("{\"responses\": 20, \"late\": true}", &m, &err) == OT_OK &&
               ot_instance_create(m, &inst, &err) == OT_OK,
           "a model of twenty responses")) {
        ok(ot_instance_submit(inst, &run, take, &got, NULL, &err) == OT_OK && got.n == 20 &&
               got.finals == 1 && got.rc == OT_OK,
           "twenty came, one of them the last");
    }
    ot_instance_destroy(inst);
    ot_model_unref(m);
}

static void test_deadline(void)
{
    ot_model *m = NULL;
    ot_instance *inst = NULL;
    ot_run_result r;
    ot_error err = {0};
    if (ok(load("{\"delay_us\": 200000}", &m, &err) == OT_OK &&
               ot_instance_create(m, &inst, &err) == OT_OK,
           "a slow model")) {
        pid_t pid = ot_model_worker_pid(m);
        is_int(run_rows(inst, 1, ot_clock_mono_ns() + 20000000, &r, &err), OT_TIMEOUT,
               "the deadline passes: %s", err.msg);
        is_int(run_rows(inst, 2, 0, &r, &err), OT_OK, "the next run is answered");
        is_int(r.outputs[0].dims[0], 2, "with its own rows");
        ot_run_result_release(&r);
        is_int(ot_model_worker_pid(m), pid, "by the same process");
    }
    ot_instance_destroy(inst);
    ot_model_unref(m);
}

static void quiet(void *self, ot_log_level level, const char *component, const char *msg)
{
    (void)self;
    (void)level;
    printf("# %s: %s\n", component, msg);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0) {
        fake_scenario = getenv("ORT_SCENARIO");
        return fake_scenario == NULL ? ot_runtime_worker() : fake_worker();
    }
    ot_error err;
    test_dir_make();
    if (have_null_plugin() && ot_runtime_create(build_plugins(), &rt, &err) == OT_OK) {
        char text[512];
        snprintf(text, sizeof text, MODEL, "");
        snprintf(model_dir, sizeof model_dir, "%s", write_file("m/null.json", text));
        *strrchr(model_dir, '/') = '\0';
        ot_log_setup("test", OT_LOG_ERROR, OT_LOG_TEXT);
        ot_log_sink_set(quiet, NULL);
        test_bad_runs();
        test_bad_loads();
        test_harmless();
        unsetenv("ORT_SCENARIO");
        test_answers_held();
        test_many_responses();
        test_deadline();
        ot_runtime_unref(rt);
    }
    test_dir_remove();
    return tap_done();
}
