/* Runs through the plug-in host, with the tutorial plug-in doing all that the ABI allows. */
#include "base/clock.h"
#include "base/log.h"
#include "null_model.h"
#include "overtake/plugin.h"

#include <pthread.h>
#include <stdatomic.h>

static ot_runtime *rt;
static const float data[] = {1, 2, 3, 4, 5, 6, 7, 8};

static ot_run_input rows(const float *p, int64_t n)
{
    return (ot_run_input){.tensor = {.name = "x",
                                     .dtype = OT_DT_FP32,
                                     .rank = 2,
                                     .dims = {n, 2},
                                     .data = p,
                                     .size_bytes = (size_t)n * 8}};
}

static float y_at(const ot_run_result *r, int i)
{
    return (float)ot_tensor_f64_at(&r->outputs[0], i);
}

/* ---- results of an asynchronous run, collected */

typedef struct inbox {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n, n_final;
    ot_rc rc;
    float first[16];
    unsigned sequence[16];
    bool same_thread;
    pthread_t submitter;
    char message[128];
} inbox;

static void inbox_init(inbox *b)
{
    memset(b, 0, sizeof *b);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->submitter = pthread_self();
}

static void take(void *arg, const ot_run_result *result)
{
    inbox *b = arg;
    ot_run_result copy = *result;
    pthread_mutex_lock(&b->lock);
    if (b->n < 16) {
        b->first[b->n] = copy.n_outputs > 0 ? y_at(&copy, 0) : -1;
        b->sequence[b->n] = copy.sequence;
    }
    b->n++;
    b->rc = copy.rc;
    b->same_thread = pthread_equal(b->submitter, pthread_self());
    snprintf(b->message, sizeof b->message, "%s", copy.message);
    b->n_final += copy.final;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    ot_run_result_release(&copy);
}

static void wait_final(inbox *b, int n)
{
    pthread_mutex_lock(&b->lock);
    while (b->n_final < n) {
        pthread_cond_wait(&b->changed, &b->lock);
    }
    pthread_mutex_unlock(&b->lock);
}

/* ---- tests */

static void test_inline(void)
{
    ot_model *m = load_null(rt, SUM_MODEL, "{}");
    ot_instance *inst;
    ot_run_result r;
    ot_error err;
    ot_run_input in = rows(data, 4);
    ot_run run = {.inputs = &in, .n_inputs = 1};
    ok(ot_instance_create(m, &inst, &err) == OT_OK, "an instance");
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "a run");
    ok(r.final && r.n_outputs == 1 && r.outputs[0].dims[0] == 4, "four rows come back");
    is_near(y_at(&r, 3), 15, 0, "the last is 7 + 8");
    is_str(r.outputs[0].name, "y", "named as in the signature");
    ot_run_result_release(&r);
    inbox b;
    inbox_init(&b);
    uint64_t ticket = 0;
    is_int(ot_instance_submit(inst, &run, take, &b, &ticket, &err), OT_OK, "submit");
    ok(b.n == 1 && b.n_final == 1 && b.same_thread, "answered once, before submit returned");
    ok(ot_instance_model(inst) == m, "an instance knows its model");
    ot_model_unref(m);
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "the instance keeps the model alive");
    ot_run_result_release(&r);
    ot_instance_destroy(inst);
    ot_instance_destroy(NULL);
    ot_model_unref(NULL);
}

static void test_late(void)
{
    ot_model *m = load_null(rt, SUM_MODEL, "{\"late\": true, \"delay_us\": 2000}");
    ot_instance *inst;
    ot_error err;
    ot_run_result r;
    ot_run_input in = rows(data, 2);
    ot_run run = {.inputs = &in, .n_inputs = 1};
    inbox b;
    inbox_init(&b);
    is_int(ot_model_info_of(m)->max_in_flight, 4, "a late model takes four runs at a time");
    ok(ot_instance_create(m, &inst, &err) == OT_OK, "an instance");
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "run waits for a late answer");
    is_near(y_at(&r, 1), 7, 0, "and has it");
    ot_run_result_release(&r);
    for (int i = 0; i < 4; i++) {
        is_int(ot_instance_submit(inst, &run, take, &b, NULL, &err), OT_OK, "submit %d", i);
    }
    is_int(ot_instance_submit(inst, &run, take, &b, NULL, &err), OT_EXHAUSTED,
           "a fifth is refused: %s", err.msg);
    wait_final(&b, 4);
    ok(b.n == 4 && !b.same_thread, "four answers from another thread");
    for (int i = 0; i < 50; i++) { /* places are free again at once */
        if (ot_instance_run(inst, &run, &r, &err) != OT_OK) {
            ok(false, "run %d: %s", i, err.msg);
            break;
        }
        ot_run_result_release(&r);
    }
    for (int i = 0; i < 3; i++) {
        ok(ot_instance_submit(inst, &run, take, &b, NULL, &err) == OT_OK, "three more");
    }
    ot_instance_destroy(inst);
    is_int(b.n_final, 7, "destroy waited for them");
    ot_model_unref(m);
}

static void test_several_responses(void)
{
    ot_model *m = load_null(rt, SUM_MODEL, "{\"late\": true, \"responses\": 3}");
    ot_instance *inst;
    ot_error err;
    ot_run_result r;
    ot_run_input in = rows(data, 1);
    ot_run run = {.inputs = &in, .n_inputs = 1};
    inbox b;
    inbox_init(&b);
    ok(ot_instance_create(m, &inst, &err) == OT_OK, "an instance");
    ok(ot_instance_submit(inst, &run, take, &b, NULL, &err) == OT_OK, "submit");
    wait_final(&b, 1);
    ok(b.n == 3 && b.n_final == 1, "three responses, one of them final");
    ok(b.sequence[0] == 0 && b.sequence[1] == 1 && b.sequence[2] == 2, "in order");
    ok(b.first[0] == 3 && b.first[2] == 3, "each with its outputs");
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "run gives the last one");
    is_int(r.sequence, 2, "which is number 2");
    ot_run_result_release(&r);
    ot_instance_destroy(inst);
    ot_model_unref(m);
}

typedef struct canceller {
    ot_instance *inst;
    atomic_ullong ticket;
} canceller;

static void *cancel_soon(void *arg)
{
    canceller *c = arg;
    ot_clock_sleep_us(20000);
    ot_instance_cancel(c->inst, atomic_load(&c->ticket));
    return NULL;
}

static void test_cancel_and_deadline(bool late)
{
    ot_model *m = load_null(rt, SUM_MODEL,
                            late ? "{\"late\": true, \"delay_us\": 30000000}"
                                 : "{\"late\": false, \"delay_us\": 30000000}");
    ot_instance *inst;
    ot_error err;
    ot_run_input in = rows(data, 1);
    ot_run run = {.inputs = &in, .n_inputs = 1};
    inbox b;
    inbox_init(&b);
    ok(ot_instance_create(m, &inst, &err) == OT_OK, "an instance");
    canceller c = {.inst = inst};
    pthread_t t;
    /* The first ticket of an instance: an inline run is cancelled before its submit returns. */
    atomic_store(&c.ticket, 1u << 8);
    pthread_create(&t, NULL, cancel_soon, &c);
    uint64_t ticket = 0;
    ok(ot_instance_submit(inst, &run, take, &b, &ticket, &err) == OT_OK, "a run of 30 s");
    wait_final(&b, 1);
    pthread_join(t, NULL);
    is_int(b.rc, OT_CANCELLED, "is cancelled (%s)", late ? "late" : "inline");
    is_int(ticket, 1u << 8, "its ticket was the first");
    ot_run_result r;
    run.deadline_ns = ot_clock_mono_ns() + 20000000;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_TIMEOUT, "a deadline in 20 ms: %s", err.msg);
    ot_instance_destroy(inst);
    ot_model_unref(m);
}

static void test_failures(void)
{
    ot_model *m = load_null(rt, SUM_MODEL, "{\"fail_every\": 3}");
    ot_instance *inst;
    ot_error err;
    ot_run_result r;
    ot_run_input in = rows(data, 1);
    ot_run run = {.inputs = &in, .n_inputs = 1};
    ok(ot_instance_create(m, &inst, &err) == OT_OK, "an instance");
    ot_rc rc[3];
    for (int i = 0; i < 3; i++) {
        rc[i] = ot_instance_run(inst, &run, &r, &err);
        ot_run_result_release(&r);
    }
    ok(rc[0] == OT_OK && rc[1] == OT_OK && rc[2] == OT_INTERNAL, "the third run fails");
    is_str(err.msg, "null: run 3 fails because fail_every is 3", "with the plug-in's message");
    ot_instance_destroy(inst);
    ot_model_unref(m);
}

static void test_part_status(void)
{
    const float mixed[] = {1, 2, NAN, 1, 3, 4};
    ot_model *m = load_null(rt, SUM_MODEL, "{\"fail_on_nan\": true}");
    ot_instance *inst;
    ot_error err;
    ot_run_result r;
    ot_run_input in = rows(mixed, 3);
    ot_run_part parts[] = {{.id = 7, .first_row = 0, .n_rows = 1},
                           {.id = 8, .first_row = 1, .n_rows = 1},
                           {.id = 9, .first_row = 2, .n_rows = 1}};
    ot_run run = {.inputs = &in, .n_inputs = 1, .parts = parts, .n_parts = 3};
    ok(ot_instance_create(m, &inst, &err) == OT_OK, "an instance");
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "a batch with one bad part");
    ok(r.part_rc != NULL && r.part_rc[0] == OT_OK && r.part_rc[1] == OT_INVALID &&
           r.part_rc[2] == OT_OK,
       "fails that part only");
    is_near(y_at(&r, 2), 7, 0, "the others have their answers");
    ot_run_result_release(&r);
    run.n_parts = 0;
    run.parts = NULL;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_INVALID, "without parts it is one failure");
    in = rows(data, 3);
    run.parts = parts;
    run.n_parts = 3;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "no bad part");
    ok(r.part_rc == NULL, "no codes of parts");
    ot_run_result_release(&r);
    run.n_parts = -1;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_INVALID, "a negative number of parts");
    ot_instance_destroy(inst);
    ot_model_unref(m);
}

static void test_two_outputs(void)
{
    static const char text[] =
        "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],"
        " \"outputs\": [{\"name\": \"p\", \"datatype\": \"FP32\", \"shape\": [-1, 2]},"
        "               {\"name\": \"c\", \"datatype\": \"INT64\", \"shape\": [-1]}],"
        " \"op\": \"linear\", \"weights\": [[1, 0], [0, 2]], \"bias\": [0, 1]}";
    ot_model *m = load_null(rt, text, "{}");
    ot_instance *inst;
    ot_error err;
    ot_run_result r;
    ot_run_input in = rows(data, 2);
    ot_run_output out[] = {{.name = "c"}, {.name = "p"}};
    ot_run run = {.inputs = &in, .n_inputs = 1, .outputs = out, .n_outputs = 2};
    ok(ot_instance_create(m, &inst, &err) == OT_OK, "an instance");
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "outputs in another order");
    ok(strcmp(r.outputs[0].name, "c") == 0 && r.outputs[0].dtype == OT_DT_INT64, "c comes first");
    is_near(ot_tensor_f64_at(&r.outputs[1], 3), 9, 0, "p of row 1 is (3, 2*4+1)");
    is_near(ot_tensor_f64_at(&r.outputs[0], 1), 1, 0, "its class is 1");
    ot_run_result_release(&r);
    run.n_outputs = 1;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_OK, "one output only");
    is_int(r.n_outputs, 1, "comes alone");
    ot_run_result_release(&r);
    out[1].name = "c";
    run.n_outputs = 2;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_INVALID, "one twice: %s", err.msg);
    run.n_outputs = 3;
    is_int(ot_instance_run(inst, &run, &r, &err), OT_INVALID, "more than there are: %s", err.msg);
    ot_instance_destroy(inst);
    ot_model_unref(m);
}

/* Every allocation of load, instance and run fails once; nothing leaks (ASan) or crashes. */
static void test_no_memory(void)
{
    const char *path = write_file("m/null.json", SUM_MODEL);
    int failed = 0, good = 0;
    for (uint64_t nth = 1; nth < 100 && good == 0; nth++) {
        ot_model *m = NULL;
        ot_instance *inst = NULL;
        ot_run_result r;
        ot_error err;
        ot_run_input in = rows(data, 1);
        ot_run run = {.inputs = &in, .n_inputs = 1};
        ot_mem_fail_nth(nth);
        ot_rc rc = ot_model_load(rt, "null", path, NULL, &m, &err);
        if (rc == OT_OK) {
            rc = ot_instance_create(m, &inst, &err);
        }
        if (rc == OT_OK) {
            rc = ot_instance_run(inst, &run, &r, &err);
        }
        ot_mem_fail_nth(0);
        if (rc == OT_OK) {
            ot_run_result_release(&r);
            good++;
        } else {
            failed += rc == OT_EXHAUSTED;
        }
        ot_instance_destroy(inst);
        ot_model_unref(m);
    }
    ok(failed >= 5 && good == 1, "%d failed allocations gave OT_EXHAUSTED, then all was well",
       failed);
}

int main(void)
{
    ot_error err;
    if (!have_null_plugin()) {
        return tap_done();
    }
    test_dir_make();
    if (ok(ot_runtime_create(build_plugins(), &rt, &err) == OT_OK, "registry")) {
        test_inline();
        test_late();
        test_several_responses();
        test_cancel_and_deadline(true);
        test_cancel_and_deadline(false);
        test_failures();
        test_part_status();
        test_two_outputs();
        test_no_memory();
    }
    ot_runtime_unref(rt);
    test_dir_remove();
    return tap_done();
}
