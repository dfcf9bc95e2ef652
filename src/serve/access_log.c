#include "serve/access_log.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "serve/thread.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RING 4096u /* records of a worker; a power of two */
#define WRITE_EVERY_US 100000
#define PATH_KEPT 120
#define LINES_MAX (256u << 10) /* bytes put together before they are written */

typedef struct record {
    int64_t time_us;
    uint64_t took_us, in, out, version;
    int64_t rows;
    int status, http;
    char method[12], path[PATH_KEPT + 1];
    char client[65], deployment[65], prediction[64];
} record;

typedef struct ring {
    /* Synchronization: head by the worker, tail by the writer; release and acquire. */
    _Atomic uint64_t head, tail;
    _Atomic uint64_t dropped; /* relaxed, the worker's */
    ot_rng rng;               /* the worker's */
    record *records;
} ring;

struct ot_access_log {
    ot_disk *disk;
    char path[OT_PATH_MAX];
    double sample;
    uint64_t file_max;
    unsigned n;
    ring *rings;
    /* The writer's. */
    ot_file *file;
    uint64_t size;
    ot_str text;
    bool told;                      /* that it can't write */
    _Atomic uint64_t lines, failed; /* relaxed, the writer's */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stopping; /* under lock */
};

/* ---- on the worker */

static bool is_sampled(ot_access_log *l, ring *r, int status)
{
    return status >= 400 || l->sample >= 1 || ot_rng_uniform(&r->rng) < l->sample;
}

static void keep(char *to, size_t size, ot_slice from)
{
    size_t n = OT_MIN(from.n, size - 1);
    if (n > 0) {
        memcpy(to, from.p, n);
    }
    to[n] = '\0';
}

static void on_answered(ot_http_req *req)
{
    const ot_log_note *note = req->note;
    ot_access_log *l = note->log;
    ring *r = &l->rings[note->worker];
    if (!is_sampled(l, r, req->status)) {
        return;
    }
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    if (head - atomic_load_explicit(&r->tail, memory_order_acquire) == RING) {
        atomic_fetch_add_explicit(&r->dropped, 1, memory_order_relaxed);
        return;
    }
    record *x = &r->records[head % RING];
    uint64_t now = ot_clock_mono_ns();
    *x = (record){.time_us = ot_clock_wall_us(),
                  .took_us = (now - OT_MIN(req->start_ns, now)) / 1000,
                  .in = req->body.n,
                  .out = req->sent,
                  .version = note->version,
                  .rows = note->rows,
                  .status = req->status,
                  .http = req->version};
    keep(x->method, sizeof x->method, req->method_text);
    keep(x->path, sizeof x->path, req->path);
    memcpy(x->client, note->client, sizeof x->client);
    memcpy(x->deployment, note->deployment, sizeof x->deployment);
    memcpy(x->prediction, note->prediction, sizeof x->prediction);
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
}

void ot_access_log_begin(ot_access_log *l, unsigned worker, ot_http_req *req)
{
    ot_log_note *note = ot_arena_calloc(req->arena, 1, sizeof *note);
    if (note != NULL) {
        note->log = l;
        note->worker = worker;
        req->note = note;
        req->answered = on_answered;
    }
}

/* ---- on the writer's thread */

static void add_text(ot_str *out, const char *key, const char *text)
{
    if (text[0] != '\0') {
        ot_str_addf(out, ",\"%s\":\"", key);
        ot_str_add_json(out, text, strlen(text));
        ot_str_addc(out, '"');
    }
}

static void add_line(const record *x, ot_str *out)
{
    struct tm tm;
    char time[32];
    time_t s = (time_t)(x->time_us / 1000000);
    gmtime_r(&s, &tm);
    strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &tm);
    ot_str_addf(out,
                "{\"time\":\"%s.%06" PRId64 "Z\",\"status\":%d,\"took_us\":%" PRIu64
                ",\"in\":%" PRIu64 ",\"out\":%" PRIu64 ",\"http\":\"%d%s\"",
                time, x->time_us % 1000000, x->status, x->took_us, x->in, x->out, x->http / 10,
                x->http == 10   ? ".0"
                : x->http == 11 ? ".1"
                                : "");
    add_text(out, "method", x->method);
    add_text(out, "path", x->path);
    add_text(out, "client", x->client);
    add_text(out, "deployment", x->deployment);
    if (x->version > 0) {
        ot_str_addf(out, ",\"version\":%" PRIu64 ",\"rows\":%" PRId64, x->version, x->rows);
    }
    add_text(out, "prediction", x->prediction);
    ot_str_adds(out, "}\n");
}

static void name_of(const ot_access_log *l, unsigned k, char out[OT_PATH_MAX])
{
    if (k == 0) {
        snprintf(out, OT_PATH_MAX, "%s", l->path);
    } else {
        snprintf(out, OT_PATH_MAX, "%s.%u", l->path, k);
    }
}

static ot_rc open_file(ot_access_log *l, ot_error *err)
{
    OT_TRY(l->disk->ops->open(l->disk, l->path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_APPEND,
                              0600, &l->file, err));
    return l->file->ops->size(l->file, &l->size, err);
}

/* FILE becomes FILE.1, and so on; the oldest goes. */
static ot_rc rotate(ot_access_log *l, ot_error *err)
{
    char from[OT_PATH_MAX], to[OT_PATH_MAX];
    ot_file_close(l->file);
    l->file = NULL;
    for (unsigned k = OT_ACCESS_LOG_KEPT - 1; k > 0; k--) {
        name_of(l, k - 1, from);
        name_of(l, k, to);
        if (ot_disk_exists(l->disk, from)) {
            OT_TRY(l->disk->ops->rename(l->disk, from, to, err));
        }
    }
    return open_file(l, err);
}

static ot_rc write_text(ot_access_log *l, ot_error *err)
{
    if (l->file == NULL) {
        OT_TRY(open_file(l, err));
    }
    if (l->size > 0 && l->size + l->text.len > l->file_max) {
        OT_TRY(rotate(l, err));
    }
    OT_TRY(l->file->ops->append(l->file, l->text.data, l->text.len, err));
    l->size += l->text.len;
    return OT_OK;
}

static void flush(ot_access_log *l, uint64_t lines)
{
    ot_error err;
    if (l->text.len == 0) {
        return;
    }
    ot_rc rc = l->text.failed ? ot_fail(&err, OT_EXHAUSTED, "no memory") : write_text(l, &err);
    if (rc == OT_OK) {
        atomic_fetch_add_explicit(&l->lines, lines, memory_order_relaxed);
        l->told = false;
    } else {
        atomic_fetch_add_explicit(&l->failed, lines, memory_order_relaxed);
        if (!l->told) {
            ot_warn("serve", "access log: %s; lines are lost until it can be written", err.msg);
        }
        l->told = true;
    }
    l->text.failed = false;
    ot_str_clear(&l->text);
}

static void drain(ot_access_log *l)
{
    uint64_t lines = 0;
    for (unsigned i = 0; i < l->n; i++) {
        ring *r = &l->rings[i];
        uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
        uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
        while (tail != head) {
            add_line(&r->records[tail % RING], &l->text);
            atomic_store_explicit(&r->tail, ++tail, memory_order_release);
            if (++lines > 0 && l->text.len > OT_MIN(LINES_MAX, l->file_max / 2)) {
                flush(l, lines);
                lines = 0;
            }
        }
    }
    flush(l, lines);
}

static void *writer_main(void *arg)
{
    ot_access_log *l = arg;
    ot_thread_lower(OT_THREAD_NICE_BACKGROUND);
    for (bool last = false; !last;) {
        pthread_mutex_lock(&l->lock);
        if (!l->stopping) {
            ot_cond_wait_us(&l->wake, &l->lock, WRITE_EVERY_US);
        }
        last = l->stopping;
        pthread_mutex_unlock(&l->lock);
        drain(l);
    }
    return NULL;
}

/* ---- life */

static ot_rc make_rings(ot_access_log *l, ot_error *err)
{
    l->rings = ot_calloc(l->n, sizeof *l->rings);
    for (unsigned i = 0; l->rings != NULL && i < l->n; i++) {
        uint64_t seed;
        ot_random_bytes(&seed, sizeof seed);
        ot_rng_seed(&l->rings[i].rng, seed);
        l->rings[i].records = ot_calloc(RING, sizeof(record));
        if (l->rings[i].records == NULL) {
            return ot_fail(err, OT_EXHAUSTED, "access log: out of memory");
        }
    }
    return l->rings != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "access log: out of memory");
}

ot_rc ot_access_log_create(ot_disk *disk, const char *path, double sample, uint64_t max_bytes,
                           unsigned n_workers, ot_access_log **log_out, ot_error *err)
{
    ot_access_log *l = ot_calloc(1, sizeof *l);
    if (l == NULL || strlen(path) + 4 > sizeof l->path) {
        ot_free(l);
        return ot_fail(err, OT_INVALID, "access log: its path is too long, or no memory");
    }
    l->disk = disk;
    strcpy(l->path, path);
    l->sample = sample;
    l->file_max = OT_MAX(max_bytes / OT_ACCESS_LOG_KEPT, 4096u);
    l->n = n_workers;
    ot_str_init(&l->text);
    pthread_mutex_init(&l->lock, NULL);
    ot_cond_init_mono(&l->wake);
    ot_rc rc = make_rings(l, err);
    if (rc == OT_OK) {
        rc = open_file(l, err);
    }
    if (rc != OT_OK) {
        ot_access_log_destroy(l);
        return rc;
    }
    *log_out = l;
    return OT_OK;
}

ot_rc ot_access_log_start(ot_access_log *l, ot_error *err)
{
    OT_TRY(ot_thread_start(&l->thread, "access-log", writer_main, l, err));
    l->running = true;
    return OT_OK;
}

void ot_access_log_stop(ot_access_log *l)
{
    if (l == NULL || !l->running) {
        return;
    }
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    l->running = false;
}

void ot_access_log_destroy(ot_access_log *l)
{
    if (l == NULL) {
        return;
    }
    for (unsigned i = 0; l->rings != NULL && i < l->n; i++) {
        ot_free(l->rings[i].records);
    }
    ot_free(l->rings);
    ot_file_close(l->file);
    ot_str_done(&l->text);
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    ot_free(l);
}

void ot_access_log_stats_get(const ot_access_log *l, ot_access_log_stats *out)
{
    *out = (ot_access_log_stats){.lines = atomic_load_explicit(&l->lines, memory_order_relaxed),
                                 .failed_writes =
                                     atomic_load_explicit(&l->failed, memory_order_relaxed)};
    for (unsigned i = 0; i < l->n; i++) {
        out->dropped += atomic_load_explicit(&l->rings[i].dropped, memory_order_relaxed);
    }
}
