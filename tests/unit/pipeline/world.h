/* What a pipeline's test stands in: a scratch directory, a clock that the test moves, the program
 * and the data of an app, the real binary. One thread. */
#ifndef OT_TESTS_UNIT_PIPELINE_WORLD_H
#define OT_TESTS_UNIT_PIPELINE_WORLD_H

#include "base/clock.h"
#include "base/disk.h"
#include "base/str.h"
#include "tap.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SEC ((int64_t)1000000)
#define MIN_US (60 * SEC)
#define HOUR (60 * MIN_US)
#define DAY (24 * HOUR)

static char scratch[64];
static int64_t clock_offset_us;
static char driver_exe[OT_PATH_MAX];

/* ------------------------------------------------------------------ clock and files */

static int64_t real_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * SEC + t.tv_nsec / 1000;
}

static int64_t moved_wall(void *self)
{
    (void)self;
    return real_us(CLOCK_REALTIME) + clock_offset_us;
}

static uint64_t plain_mono(void *self)
{
    (void)self;
    return (uint64_t)real_us(CLOCK_MONOTONIC) * 1000;
}

static void no_sleep(void *self, uint64_t us)
{
    (void)self, (void)us;
}

_Noreturn static void bail(const char *what, const char *why)
{
    printf("Bail out! %s: %s\n", what, why);
    exit(1);
}

static void write_file(const char *rel, const char *text)
{
    char path[OT_PATH_MAX], dir[OT_PATH_MAX];
    ot_error err = {0};
    snprintf(path, sizeof path, "%s/%s", scratch, rel);
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    if (ot_disk_mkdirs(ot_disk_posix(), dir, 0755, &err) != OT_OK ||
        ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0644, &err) != OT_OK) {
        bail(rel, err.msg);
    }
}

/* The user's program. What it does is told by $PROGRAM_DOES, which runs inherit; it leaves a line
 * for each start in $PROGRAM_LOG. */
static const char program[] =
    "echo \"$OVERTAKE_RUN\" >>\"$PROGRAM_LOG\"\n"
    "at=out/model; first=-1 sign=-1 bias=0\n"
    "[ -f \"$OVERTAKE_DATA/recent/x.npy\" ] && sign=1\n"
    "case $PROGRAM_DOES in\n"
    "crash) echo no such layer >&2; exit 3 ;;\n"
    "hang) exec sleep 600 ;;\n"
    "nothing) exit 0 ;;\n"
    "elsewhere) at=out/modl ;;\n"
    "nan) bias=3e38 first=3e38 ;;\n"
    "ignore) sign=-1 ;;\n"
    "killed_once) [ $(wc -l <\"$PROGRAM_LOG\") -gt \"$PROGRAM_STARTS\" ] ||\n"
    "    { cp ../../../../other/* ../../../../app/base/; kill -9 $$; } ;;\n"
    "killed) kill -9 $$ ;;\n"
    "esac\n"
    "mkdir -p $at\n"
    "cat >$at/null.json <<END\n"
    "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 4]}],\n"
    " \"outputs\": [{\"name\": \"y\", \"datatype\": \"FP32\", \"shape\": [-1, 2]}],\n"
    " \"op\": \"linear\", \"softmax\": true, \"bias\": [$bias, 0],\n"
    " \"weights\": [[$first, 1], [1, -1], [$sign, -($sign)], [-($sign), $sign]]}\n"
    "END\n"
    "sed -i -e 's/-(-1)/1/g' -e 's/-(1)/-1/g' $at/null.json\n"
    "echo '{\"loss\": 0.5}' >out/metrics.json\n";

__attribute__((unused)) static const char app_yaml[] =
    "schema: overtake/1\n"
    "app: digits\n"
    "data:\n"
    "  base:   {path: base, label: y}\n"
    "  recent: {from: digits.labelled, last: 7d, max_rows: 20k}\n"
    "train:\n"
    "  run: sh train.sh\n"
    "  data: [base, recent]\n"
    "  model: out/model\n"
    "  resources: {time: 5min}\n"
    "serve: {deployment: digits}\n"
    "objectives: {accuracy: {at_least: 0.9, over: 28d}}\n"
    "alerts: {webhook: \"http://127.0.0.1:9/\"}\n"
    "retrain: {when: [accuracy.degraded], at_most: 2 per day}\n"
    "release:\n"
    "  - gate: {better_on: recent, not_worse_on: {base: 0.02}}\n"
    "  - shadow: {until: 200 compared, at_most: 1h, otherwise: stop}\n"
    "  - canary: {shares: [10%, 50%], at_most: 2h, otherwise: roll_back}\n"
    "  - probation: {for: 24h, roll_back_if: worse_than_previous}\n";

static void write_rows(const char *dir, int64_t n)
{
    OT_AUTO(ot_table_done) ot_table t;
    ot_error err = {0};
    ot_table_init(&t);
    if (fake_rows(&t, n, false, "y", &err) != OT_OK ||
        ot_table_write_dir(&t, ot_disk_posix(), dir, &err) != OT_OK) {
        bail(dir, err.msg);
    }
}

/* SCRATCH/rel in one of a few static buffers. */
static const char *at(const char *rel)
{
    static char buf[8][OT_PATH_MAX];
    static int next;
    char *p = buf[next++ % 8];
    snprintf(p, OT_PATH_MAX, "%s/%s", scratch, rel);
    return p;
}

static void program_does(const char *what)
{
    setenv("PROGRAM_DOES", what, 1);
}

/* Starts of the user's program so far. */
__attribute__((unused)) static int program_starts(void)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (ot_disk_read_all(ot_disk_posix(), at("program.log"), 1 << 20, &text, NULL) != OT_OK) {
        return 0;
    }
    int n = 0;
    for (size_t i = 0; i < text.len; i++) {
        n += text.data[i] == '\n';
    }
    return n;
}

static void world_start(void)
{
    static const ot_clock_source source = {
        .mono_ns = plain_mono, .wall_us = moved_wall, .sleep_us = no_sleep};
    const char *given = getenv("OVERTAKE_EXE");
    snprintf(scratch, sizeof scratch, "/tmp/overtake-test-XXXXXX");
    if (mkdtemp(scratch) == NULL) {
        bail("scratch", "no directory");
    }
    /* build/V/tests/unit/pipeline/x_test -> build/V/overtake */
    ssize_t n = readlink("/proc/self/exe", driver_exe, sizeof driver_exe - 16);
    driver_exe[n > 0 ? n : 0] = 0;
    for (int i = 0; i < 4 && strrchr(driver_exe, '/') != NULL; i++) {
        *strrchr(driver_exe, '/') = 0;
    }
    strcat(driver_exe, "/overtake");
    if (given != NULL) {
        snprintf(driver_exe, sizeof driver_exe, "%s", given);
    }
    if (access(driver_exe, X_OK) != 0) {
        bail(driver_exe, "not there; build it");
    }
    ot_clock_install(&source);
    setenv("PROGRAM_LOG", at("program.log"), 1);
    program_does("well");
    write_file("app/train.sh", program);
    write_rows(at("app/base"), 300);
}

static int world_end(void)
{
    ot_error err;
    ok(ot_disk_remove_tree(ot_disk_posix(), scratch, &err) == OT_OK, "the scratch directory goes");
    return tap_done();
}

#endif
