/* One small app, all the way: trained, registered, gated, promoted, served, asked. In a data
 * directory of its own, under an `overtake up` of its own. */
#include "doctor/internal.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "codec/npy.h"
#include "net/http_client.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 128
#define TMPDIR_MAX 50 /* a socket's path has 107 bytes at most */
#define START_US 8000000
#define STEP_US 20000000
#define POLL_US 50000
#define END_US 4000000
#define FIX "see the rest of this list; `overtake up` and `overtake logs RUN` say more"

typedef struct trial {
    doctor *d;
    char root[OT_PATH_MAX], data[OT_PATH_MAX], app[OT_PATH_MAX], log[OT_PATH_MAX];
    dr_child up;
    bool is_up, python;
    ot_addr inference, control;
    char headers[320];
} trial;

/* Learns a plane by the perceptron's rule; no module that Python does not bring along. */
static const char train_py[] =
    "import array, json, os, struct\n"
    "def load(name, code):\n"
    "    with open(os.path.join(os.environ['OVERTAKE_DATA'], 'base', name), 'rb') as f:\n"
    "        f.seek(8)\n"
    "        f.seek(10 + struct.unpack('<H', f.read(2))[0])\n"
    "        return array.array(code, f.read())\n"
    "x, y = load('x.npy', 'f'), load('y.npy', 'q')\n"
    "w = [0.0, 0.0, 0.0]\n"
    "for epoch in range(50):\n"
    "    for i in range(len(y)):\n"
    "        row = (x[2 * i], x[2 * i + 1], 1.0)\n"
    "        error = y[i] - (1 if sum(a * b for a, b in zip(w, row)) > 0 else 0)\n"
    "        w = [a + 0.1 * error * b for a, b in zip(w, row)]\n"
    "print('trained on', len(y), 'rows:', w, flush=True)\n"
    "os.makedirs('out/model')\n"
    "with open('out/model/null.json', 'w') as f:\n"
    "    json.dump({'inputs': [{'name': 'x', 'datatype': 'FP32', 'shape': [-1, 2]}],\n"
    "               'outputs': [{'name': 'y', 'datatype': 'FP32', 'shape': [-1, 2]}],\n"
    "               'op': 'linear', 'weights': [[-w[0], w[0]], [-w[1], w[1]]],\n"
    "               'bias': [-w[2], w[2]], 'softmax': True}, f)\n";

/* Where there is no Python: the model is written down. */
static const char train_sh[] =
    "mkdir -p out/model && cat >out/model/null.json <<'END'\n"
    "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],\n"
    " \"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],\n"
    " \"op\": \"linear\", \"weights\": [[-1, 1], [-1, 1]], \"bias\": [0, 0], \"softmax\": true}\n"
    "END\n";

static const char app_yaml[] =
    "schema: overtake/1\n"
    "app: doctor\n"
    "data: {base: {path: base, label: y}}\n"
    "train: {run: %s, data: [base], model: out/model, resources: {time: 20s}}\n"
    "serve: doctor\n"
    "release: [{gate: {require: candidate.base >= 0.8}}]\n"
    "retrain: {when: []}\n";

/* ------------------------------------------------------------------ the folder */

static ot_rc put(const char *dir, const char *name, const void *p, size_t n, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, dir, name, err));
    return ot_disk_write_atomic(ot_disk_posix(), path, p, n, 0600, err);
}

static ot_rc put_array(const char *dir, const char *name, const ot_tensor *t, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    OT_TRY(ot_npy_header(t, &out, err));
    ot_str_add(&out, t->data, t->size_bytes);
    return out.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for the data")
                      : put(dir, name, out.data, out.len, err);
}

/* Points of the plane; their class is the side of the diagonal that they lie on, not near it. */
static ot_rc put_data(const char *app, ot_error *err)
{
    char dir[OT_PATH_MAX];
    float x[ROWS][2];
    int64_t y[ROWS];
    ot_rng rng;
    ot_rng_seed(&rng, 1);
    for (size_t i = 0; i < ROWS; i++) {
        double a = ot_rng_uniform(&rng), b = 0.2 + ot_rng_uniform(&rng);
        y[i] = (int64_t)(i % 2);
        x[i][0] = (float)(a - 0.5 + (y[i] != 0 ? b : -b));
        x[i][1] = (float)(0.5 - a + (y[i] != 0 ? b : -b));
    }
    ot_tensor tx = {
        .dtype = OT_DT_FP32, .rank = 2, .dims = {ROWS, 2}, .data = x, .size_bytes = sizeof x};
    ot_tensor ty = {
        .dtype = OT_DT_INT64, .rank = 1, .dims = {ROWS}, .data = y, .size_bytes = sizeof y};
    OT_TRY(ot_path_join(dir, app, "base", err));
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), dir, 0700, err));
    OT_TRY(put_array(dir, "x.npy", &tx, err));
    return put_array(dir, "y.npy", &ty, err);
}

static ot_rc make_folder(trial *t, ot_error *err)
{
    const char *tmp = getenv("TMPDIR");
    char name[64];
    uint64_t tag;
    ot_random_bytes(&tag, sizeof tag);
    snprintf(name, sizeof name, "overtake-doctor-%016" PRIx64, tag);
    bool fits = tmp != NULL && tmp[0] == '/' && strlen(tmp) <= TMPDIR_MAX;
    OT_TRY(ot_path_join(t->root, fits ? tmp : "/tmp", name, err));
    OT_TRY(ot_path_join(t->data, t->root, "data", err));
    OT_TRY(ot_path_join(t->app, t->root, "app", err));
    OT_TRY(ot_path_join(t->log, t->root, "log", err));
    OT_TRY(ot_disk_mkdirs(ot_disk_posix(), t->app, 0700, err));
    OT_TRY(put_data(t->app, err));
    OT_TRY(put(t->app, "train.py", train_py, sizeof train_py - 1, err));
    return put(t->app, "train.sh", train_sh, sizeof train_sh - 1, err);
}

/* ------------------------------------------------------------------ requests */

static ot_rc ask(trial *t, const ot_addr *at, const char *method, const char *target,
                 const char *body, json_t **out, ot_error *err)
{
    ot_http_client *http;
    ot_http_reply reply;
    ot_http_client_options o = {.struct_size = sizeof o, .io_us = dr_left_us(t->d, STEP_US) + 1};
    OT_TRY(ot_http_client_create(at, &o, &http, err));
    ot_http_reply_init(&reply);
    ot_http_call call = {.method = method,
                         .target = target,
                         .headers = t->headers,
                         .body = body,
                         .body_len = body != NULL ? strlen(body) : 0};
    ot_rc rc = ot_http_client_request(http, &call, &reply, err);
    json_t *answer = rc == OT_OK ? json_loadb(reply.body.data, reply.body.len, 0, NULL) : NULL;
    if (rc == OT_OK && (reply.status != 200 || answer == NULL)) {
        const char *text = json_string_value(json_object_get(answer, "error"));
        rc = ot_fail(err, OT_ABORTED, "%s", text != NULL ? text : "an answer that is no JSON");
        json_decref(answer);
    } else if (rc == OT_OK) {
        *out = answer;
    }
    ot_http_reply_done(&reply);
    ot_http_client_destroy(http);
    return rc;
}

static ot_rc start(trial *t, ot_error *err)
{
    const char *argv[] = {t->d->o->exe,  "up",        "--data",      t->data,     "--listen",
                          "127.0.0.1:0", "--control", "127.0.0.1:0", "--workers", "1",
                          "--output",    "json",      NULL};
    OT_AUTO(ot_str_done) ot_str line = OT_STR_INIT;
    char path[OT_PATH_MAX], token[256];
    OT_TRY(dr_child_start(argv, t->log, &t->up, err));
    t->is_up = true;
    OT_TRY(dr_child_read(&t->up, true, dr_left_us(t->d, START_US), &line, err));
    json_t *said = json_loadb(line.data, line.len, JSON_DISABLE_EOF_CHECK, NULL);
    const char *inference = json_string_value(json_object_get(said, "inference"));
    const char *control = json_string_value(json_object_get(said, "control"));
    ot_rc rc = inference != NULL && control != NULL
                   ? OT_OK
                   : ot_fail(err, OT_ABORTED, "overtake up did not start: %.200s", line.data);
    if (rc == OT_OK) {
        rc = ot_addr_parse(inference, &t->inference, err);
    }
    if (rc == OT_OK) {
        rc = ot_addr_parse(control, &t->control, err);
    }
    json_decref(said);
    OT_TRY(rc);
    OT_TRY(ot_path_join(path, t->data, "token", err));
    dr_read(path, token, sizeof token);
    snprintf(t->headers, sizeof t->headers, "Authorization: Bearer %s\r\n", token);
    return OT_OK;
}

static ot_rc apply(trial *t, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    char yaml[1024];
    json_t *answer = NULL;
    snprintf(yaml, sizeof yaml, app_yaml, t->python ? "python3 train.py" : "sh train.sh");
    ot_str_adds(&target, "/api/v1/apps?file=app.yaml&dir=");
    ot_http_encode(&target, t->app);
    OT_TRY(ask(t, &t->control, "POST", target.data, yaml, &answer, err));
    json_decref(answer);
    return OT_OK;
}

/* What went wrong, in the words of the log. */
static ot_rc look_for_trouble(trial *t, ot_error *err)
{
    json_t *answer = NULL, *e;
    size_t i;
    ot_rc rc = OT_OK;
    OT_TRY(ask(t, &t->control, "GET", "/api/v1/events?limit=1000", NULL, &answer, err));
    json_array_foreach(json_object_get(answer, "events"), i, e)
    {
        const char *type = json_string_value(json_object_get(e, "type"));
        const char *text =
            json_string_value(json_object_get(json_object_get(e, "payload"), "text"));
        if (type != NULL &&
            (strcmp(type, "cycle.failed") == 0 || strcmp(type, "gate.refused") == 0 ||
             strcmp(type, "version.unservable") == 0)) {
            rc = ot_fail(err, OT_ABORTED, "%s: %s", type, text != NULL ? text : "?");
        }
    }
    json_decref(answer);
    return rc;
}

static ot_rc wait_served(trial *t, ot_error *err)
{
    uint64_t end = ot_clock_mono_ns() + (uint64_t)dr_left_us(t->d, STEP_US) * 1000;
    for (;;) {
        json_t *answer = NULL;
        OT_TRY(ask(t, &t->control, "GET", "/api/v1/apps/doctor", NULL, &answer, err));
        bool served = json_integer_value(json_object_get(answer, "champion")) > 0;
        json_decref(answer);
        if (served) {
            return OT_OK;
        }
        OT_TRY(look_for_trouble(t, err));
        if (ot_clock_mono_ns() >= end) {
            return ot_fail(err, OT_TIMEOUT, "no version was promoted in time: the machine is busy");
        }
        ot_clock_sleep_us(POLL_US);
    }
}

/* Promoted is what the control plane wants; the replica loads it meanwhile. */
static ot_rc predict(trial *t, ot_error *err)
{
    static const char body[] = "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", "
                               "\"shape\": [2, 2], \"data\": [1, 1, -1, -1]}]}";
    uint64_t end = ot_clock_mono_ns() + (uint64_t)dr_left_us(t->d, START_US) * 1000;
    json_t *answer = NULL;
    ot_rc rc;
    while ((rc = ask(t, &t->inference, "POST", "/v2/models/doctor/infer", body, &answer, err)) !=
               OT_OK &&
           ot_clock_mono_ns() < end) {
        ot_clock_sleep_us(POLL_US);
    }
    OT_TRY(rc);
    const json_t *y =
        json_object_get(json_array_get(json_object_get(answer, "outputs"), 0), "data");
    double got[4] = {0};
    for (size_t i = 0; i < 4; i++) {
        got[i] = json_number_value(json_array_get(y, i));
    }
    json_decref(answer);
    return got[1] > got[0] && got[2] > got[3]
               ? OT_OK
               : ot_fail(err, OT_DATA_LOSS, "the wrong classes: %g %g, %g %g", got[0], got[1],
                         got[2], got[3]);
}

static void finish(trial *t)
{
    ot_rc ignored;
    if (t->is_up) {
        (void)dr_child_end(&t->up, END_US);
    }
    ignored = ot_disk_remove_tree(ot_disk_posix(), t->root, NULL);
    (void)ignored;
}

void dr_app(doctor *d)
{
    static const struct {
        const char *what;
        ot_rc (*run)(trial *t, ot_error *err);
    } steps[] = {{"a folder for it", make_folder},
                 {"overtake up", start},
                 {"apply", apply},
                 {"train, register, gate, promote", wait_served},
                 {"predict", predict}};
    const char *version[] = {"python3", "-c", "import array, json, struct", NULL};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    trial t = {.d = d};
    ot_error err = {0};
    char took[32];
    uint64_t since = ot_clock_mono_ns();
    t.python = dr_child_run(version, dr_left_us(d, START_US), &out, NULL) == OT_OK;
    for (size_t i = 0; i < OT_COUNT(steps); i++) {
        if (steps[i].run(&t, &err) != OT_OK) {
            dr_say(d, "app", OT_CHECK_FAIL, FIX, "%s: %s", steps[i].what, err.msg);
            finish(&t);
            return;
        }
    }
    ot_format_duration((int64_t)((ot_clock_mono_ns() - since) / 1000), took);
    finish(&t);
    if (t.python) {
        dr_say(d, "app", OT_CHECK_OK, NULL,
               "a small app was trained, registered, gated, promoted, served and asked in %s",
               took);
    } else {
        dr_say(
            d, "app", OT_CHECK_WARN, "only if your programs are Python: put python3 on PATH",
            "a small app was gated, promoted, served and asked in %s; its model was written, not "
            "trained: there is no python3",
            took);
    }
}
