/* links: simulate pipeline quality store base */
/* How long a rehearsal of 30 days takes: 43,200 windows of a minute with 64 inputs and as many
 * labels as are asked for, two falls, under the policy in force and another one. Prints one JSON
 * line a figure. The recording stays: `overtake simulate DIR/app.yaml --data DIR` is what
 * docs/simulate.md shows.
 *
 *   simulate_bench DIR [DAYS] [ROUNDS]    DIR is made */
#define WINDOW (60 * SECOND)
#define BLOCK (3600 * SECOND)
#define INPUTS 64
#define ROWS 4         /* labelled rows a window */
#define LABEL_EVERY 60 /* windows: labels come once an hour */
#define FIXTURE_SIGNATURE                                                                          \
    "{\"format\": \"null\","                                                                       \
    " \"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 64]}],"               \
    " \"outputs\": [{\"name\": \"scores\", \"datatype\": \"FP32\", \"shape\": [-1, 3]}],"          \
    " \"prediction\": {\"output\": \"scores\", \"kind\": \"scores\"}}"
#define FIXTURE_GOLDEN                                                                             \
    "{\"tolerance\": {\"abs\": 1e-4, \"rel\": 1e-3}, \"cases\": [{\"inputs\": [{\"name\": \"x\","  \
    " \"datatype\": \"FP32\", \"shape\": [1, 64], \"data\": ["                                     \
    "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"                                                             \
    "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"                                                             \
    "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"                                                             \
    "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"                                                              \
    "]}], \"outputs\": [{\"name\": \"scores\", \"datatype\": \"FP32\", \"shape\": [1, 3],"         \
    " \"data\": [0.1, 0.7, 0.2]}]}]}"
#define RECORDED_YAML                                                                              \
    "schema: overtake/1\n"                                                                         \
    "app: digits\n"                                                                                \
    "data:\n"                                                                                      \
    "  base:   {path: base, label: y}\n"                                                           \
    "  recent: {from: digits.labelled, last: 7d, max_rows: 20k}\n"                                 \
    "train: {run: python train.py, data: [base, recent], model: out/model}\n"                      \
    "serve: {deployment: digits, sample: {keep: 40d}}\n"                                           \
    "quality: {cycles: none}\n"                                                                    \
    "objectives:\n"                                                                                \
    "  accuracy: {at_least: 0.9, over: 28d}\n"                                                     \
    "  latency_p99: {at_most: 5ms}\n"                                                              \
    "  false_alarms: {at_most: 1 per year}\n"                                                      \
    "retrain: {when: [\"accuracy.degraded and labels.new >= 500\"], at_most: 2 per day}\n"         \
    "release:\n"                                                                                   \
    "  - gate: {better_on: recent, not_worse_on: {base: 0.02}}\n"                                  \
    "  - shadow: {until: 400 compared, at_most: 6h, otherwise: stop}\n"                            \
    "  - canary: {shares: [50%], margin: 0.05, at_most: 12h, otherwise: roll_back}\n"              \
    "  - probation: {for: 24h, roll_back_if: worse_than_previous}\n"
#include "unit/simulate/recorded.h"

#include <time.h>

#define DAY_WINDOWS 1440

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void open_store(void)
{
    ot_error err = {0};
    disk = ot_disk_scratch();
    now_us = BEGIN;
    ot_clock_install(&clock_source);
    make_references();
    if (ot_store_open(disk, at("store"), NULL, &store, &err) != OT_OK) {
        bail("store", &err);
    }
}

static void record(int64_t days)
{
    recorder rec;
    rec_begin(&rec);
    for (int64_t i = 0; i < days * DAY_WINDOWS; i++) {
        int64_t start = BEGIN + (i + 1) * WINDOW;
        if (i == 8 * DAY_WINDOWS || i == 20 * DAY_WINDOWS) {
            rec.fall_us = start;
            rec.fallen = serves(&rec).champion;
        }
        rec_window(&rec, start, &(law){0}, i % 3000 < 9 ? 9000000 : 1000000);
    }
    ot_pipeline_destroy(rec.p);
}

static void rehearse(const char *yaml, const char *what, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        char name[48];
        ot_error err = {0};
        json_t *out = NULL;
        snprintf(name, sizeof name, "rehearsal-%s-%d", what, i);
        if (ot_disk_mkdirs(disk, at(name), 0755, &err) != OT_OK) {
            bail(name, &err);
        }
        ot_simulate_config cfg = {.recorded = store,
                                  .blobs = at("store/blobs"),
                                  .scratch = at(name),
                                  .yaml = yaml,
                                  .file = "app.yaml",
                                  .dir = scratch,
                                  .last_us = 30 * 86400 * SECOND,
                                  .assume_accuracy = -1};
        double begin = seconds();
        clock_t cpu = clock();
        if (ot_simulate(&cfg, &out, &err) != OT_OK) {
            bail(what, &err);
        }
        printf("{\"bench\":\"simulate\",\"name\":\"%s\",\"windows\":%lld,\"labels\":%lld,\"unit\":"
               "\"s\",\"wall\":%.2f,\"cpu\":%.2f}\n",
               what, (long long)json_integer_value(json_object_get(out, "windows")),
               (long long)json_integer_value(json_object_get(out, "labels")), seconds() - begin,
               (double)(clock() - cpu) / CLOCKS_PER_SEC);
        json_decref(out);
        if (ot_disk_remove_tree(disk, at(name), &err) != OT_OK) {
            bail(name, &err);
        }
    }
}

int main(int argc, char **argv)
{
    static char other[4096];
    ot_error err = {0};
    if (argc < 2 || strlen(argv[1]) >= sizeof scratch) {
        fprintf(stderr, "usage: simulate_bench DIR [DAYS] [ROUNDS]\n");
        return 2;
    }
    snprintf(scratch, sizeof scratch, "%s", argv[1]);
    if (ot_disk_mkdirs(ot_disk_posix(), scratch, 0755, &err) != OT_OK) {
        bail(scratch, &err);
    }
    open_store();
    record(argc > 2 ? atoi(argv[2]) : 30);
    int rounds = argc > 3 ? atoi(argv[3]) : 3;
    snprintf(other, sizeof other, "%s", recorded_yaml);
    memcpy(strstr(other, "400 compared"), "100 compared", 12);
    memcpy(strstr(other, ">= 500"), ">= 100", 6);
    write_text(at("app.yaml"), other);
    rehearse(recorded_yaml, "in-force", rounds);
    rehearse(other, "both", rounds);
    ot_store_close(store);
    ot_clock_install(NULL);
    ot_reference_done(&inputs_ref);
    ot_reference_done(&outputs_ref);
    return 0;
}
