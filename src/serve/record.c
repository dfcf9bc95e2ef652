#include "serve/record.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/log.h"
#include "codec/record.h"
#include "serve/server.h"
#include "serve/thread.h"

#include <string.h>

#define RECORD_SALT UINT64_C(0x7265636f7264)
#define QUEUE_MAX (8u << 20) /* bytes that wait to be written */
#define TICK_US 200000

struct ot_recorder {
    char path[OT_PATH_MAX];
    ot_file *file;
    uint64_t max_bytes, incarnation, below, start_ns;
    bool all;
    pthread_t thread;
    bool running;

    /* Synchronization: relaxed; set once nothing more is taken. */
    atomic_bool over;

    pthread_mutex_t lock;
    pthread_cond_t filled;
    /* Synchronization: under lock. */
    ot_str queue, writing; /* writing: the thread's, but for the swap */
    uint64_t queued;       /* requests in the queue */
    bool stopping;
    ot_recorder_stats stats;
};

/* ---- on the workers */

static ot_rc write_call(const ot_call *call, uint64_t at_ns, ot_str *out, ot_error *err)
{
    ot_oip_tensor inputs[OT_OIP_TENSORS_MAX], outputs[OT_OIP_TENSORS_MAX];
    size_t n = call->variant->sig.n_inputs;
    if (n > OT_OIP_TENSORS_MAX || call->n_outputs > OT_OIP_TENSORS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "more than %d tensors", OT_OIP_TENSORS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        inputs[i] = (ot_oip_tensor){.tensor = call->inputs[i], .binary = true};
    }
    for (int i = 0; i < call->n_outputs; i++) {
        outputs[i] = (ot_oip_tensor){.tensor = call->outputs[i], .binary = true};
        outputs[i].tensor.name = call->variant->sig.outputs[i].name;
    }
    ot_oip_request request = {.inputs = inputs, .n_inputs = (int)n, .binary_default = true};
    ot_oip_response answer = {.model_name = call->dep->name,
                              .model_version = call->variant->version_text,
                              .outputs = outputs,
                              .n_outputs = call->n_outputs};
    return ot_record_write(at_ns, &request, &answer, out, err);
}

void ot_recorder_take(ot_recorder *r, const ot_call *call)
{
    if (atomic_load_explicit(&r->over, memory_order_relaxed) || call->rc != OT_OK ||
        call->n_outputs == 0 || call->fell_back || call->start_ns < r->start_ns ||
        (!r->all && ot_serve_mix(r->incarnation, call->seq, RECORD_SALT) >= r->below)) {
        return;
    }
    ot_error err;
    pthread_mutex_lock(&r->lock);
    if (r->queue.len < QUEUE_MAX &&
        write_call(call, call->start_ns - r->start_ns, &r->queue, &err) == OT_OK) {
        r->queued++;
        if (r->queue.len >= QUEUE_MAX / 2) {
            pthread_cond_signal(&r->filled);
        }
    } else {
        r->queue.failed = false;
        r->stats.dropped++;
    }
    pthread_mutex_unlock(&r->lock);
}

void ot_recorder_stats_get(ot_recorder *r, ot_recorder_stats *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->stats;
    pthread_mutex_unlock(&r->lock);
}

/* ---- the writer's thread */

/* How much of what waits still fits, in whole records. */
static size_t whole_records(const ot_recorder *r, uint64_t room, uint64_t *n_out)
{
    size_t at = 0, end = 0;
    ot_record one;
    ot_error err;
    bool more;
    *n_out = 0;
    while (ot_record_next(r->writing.data, r->writing.len, &at, &one, &more, &err) == OT_OK &&
           more && at <= room) {
        end = at;
        (*n_out)++;
    }
    return end;
}

static void write_some(ot_recorder *r, uint64_t n)
{
    ot_error err;
    uint64_t fit = 0, before = r->stats.bytes;
    size_t bytes = whole_records(r, r->max_bytes - OT_MIN(before, r->max_bytes), &fit);
    ot_rc rc = bytes > 0 ? r->file->ops->append(r->file, r->writing.data, bytes, &err) : OT_OK;
    bool full = rc == OT_OK && fit < n;
    if (rc != OT_OK) {
        ot_err("serve", "recording ends: %s: %s", r->path, err.msg);
    } else if (full) {
        ot_info("serve", "recording ends: %s is full (--record-max)", r->path);
    }
    if (rc != OT_OK || full) {
        atomic_store_explicit(&r->over, true, memory_order_relaxed);
    }
    pthread_mutex_lock(&r->lock);
    r->stats.full |= full;
    r->stats.bytes += rc == OT_OK ? bytes : 0;
    r->stats.requests += rc == OT_OK ? fit : 0;
    r->stats.dropped += rc == OT_OK ? n - fit : n;
    pthread_mutex_unlock(&r->lock);
}

static void *recorder_main(void *arg)
{
    ot_recorder *r = arg;
    ot_thread_lower(OT_THREAD_NICE_BACKGROUND);
    for (bool last = false; !last;) {
        pthread_mutex_lock(&r->lock);
        if (!r->stopping && r->queue.len < QUEUE_MAX / 2) {
            ot_cond_wait_us(&r->filled, &r->lock, TICK_US);
        }
        last = r->stopping;
        ot_str swap = r->queue;
        r->queue = r->writing;
        r->writing = swap;
        uint64_t n = r->queued;
        r->queued = 0;
        pthread_mutex_unlock(&r->lock);
        if (n > 0) {
            write_some(r, n);
        }
        ot_str_clear(&r->writing);
    }
    return NULL;
}

/* ---- life */

static ot_rc open_file(ot_recorder *r, const char *path, ot_error *err)
{
    ot_disk *disk = ot_disk_posix();
    size_t magic = sizeof OT_RECORD_FILE_MAGIC - 1;
    if (strlen(path) >= sizeof r->path) {
        return ot_fail(err, OT_INVALID, "--record: the path is too long");
    }
    snprintf(r->path, sizeof r->path, "%s", path);
    OT_TRY(disk->ops->open(disk, path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_EXCL, 0600,
                           &r->file, err));
    r->stats.bytes = magic;
    return r->file->ops->append(r->file, OT_RECORD_FILE_MAGIC, magic, err);
}

ot_rc ot_recorder_create(const char *path, uint64_t max_bytes, double sample, uint64_t incarnation,
                         ot_recorder **out, ot_error *err)
{
    ot_recorder *r = ot_calloc(1, sizeof *r);
    if (r == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "recorder: out of memory");
    }
    r->max_bytes = max_bytes;
    r->incarnation = incarnation;
    r->all = sample >= 1;
    r->below = r->all ? 0 : (uint64_t)(sample * 0x1p64);
    r->start_ns = ot_clock_mono_ns();
    ot_str_init(&r->queue);
    ot_str_init(&r->writing);
    pthread_mutex_init(&r->lock, NULL);
    ot_cond_init_mono(&r->filled);
    ot_rc rc = open_file(r, path, err);
    if (rc != OT_OK) {
        ot_recorder_destroy(r);
        return ot_error_prefix(err, rc, "--record");
    }
    *out = r;
    return OT_OK;
}

ot_rc ot_recorder_start(ot_recorder *r, ot_error *err)
{
    OT_TRY(ot_thread_start(&r->thread, "recorder", recorder_main, r, err));
    r->running = true;
    return OT_OK;
}

void ot_recorder_stop(ot_recorder *r)
{
    if (r == NULL || !r->running) {
        return;
    }
    atomic_store_explicit(&r->over, true, memory_order_relaxed);
    pthread_mutex_lock(&r->lock);
    r->stopping = true;
    pthread_cond_signal(&r->filled);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    r->running = false;
}

void ot_recorder_destroy(ot_recorder *r)
{
    if (r == NULL) {
        return;
    }
    if (r->file != NULL) {
        ot_file_close(r->file);
    }
    ot_str_done(&r->queue);
    ot_str_done(&r->writing);
    pthread_cond_destroy(&r->filled);
    pthread_mutex_destroy(&r->lock);
    ot_free(r);
}
