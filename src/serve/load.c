#include "serve/load.h"

#include "base/clock.h"
#include "base/log.h"
#include "model/folder.h"
#include "model/prediction.h"
#include "serve/isolation.h"
#include "serve/sleep.h"
#include "serve/thread.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define SIGNATURES_MAX 64 /* that are asked for */

struct ot_loader {
    ot_serve *serve;
    char cache[OT_PATH_MAX];
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    /* Synchronization: under lock. */
    ot_load *queue, **tail;
    bool stopping;
};

void ot_load_free(ot_load *load)
{
    if (load != NULL) {
        ot_free(load->path);
        ot_free(load->blobs);
        ot_golden_done(&load->golden);
        ot_free(load);
    }
}

/* ---- signatures */

static ot_rc copy_specs(ot_manifest *m, const ot_tensor_spec *from, int n, ot_tensor_spec **out,
                        ot_error *err)
{
    ot_tensor_spec *to = ot_arena_calloc(&m->arena, (size_t)OT_MAX(n, 1), sizeof *to);
    for (int i = 0; i < n && to != NULL; i++) {
        to[i] = from[i];
        to[i].name = ot_arena_strdup(&m->arena, from[i].name);
        if (to[i].name == NULL) {
            to = NULL;
        }
    }
    if (to == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "signature: out of memory");
    }
    *out = to;
    return OT_OK;
}

static bool rows_vary(const ot_tensor_spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (specs[i].rank < 1 || specs[i].dims[0] >= 0) {
            return false;
        }
    }
    return n > 0;
}

/* A model without a manifest says what it is itself. */
static ot_rc signature_of_model(ot_variant *v, ot_error *err)
{
    const ot_model_info *info = ot_model_info_of(v->loaded);
    ot_manifest *m = &v->sig;
    m->format = ot_arena_strdup(&m->arena, info->format);
    OT_TRY(copy_specs(m, info->inputs, info->n_inputs, &m->inputs, err));
    m->n_inputs = (size_t)info->n_inputs;
    OT_TRY(copy_specs(m, info->outputs, info->n_outputs, &m->outputs, err));
    m->n_outputs = (size_t)info->n_outputs;
    m->prediction_kind = ot_prediction_guess(m, &m->prediction_output);
    v->rows_known = info->batch_axis == 0 && rows_vary(m->inputs, m->n_inputs) &&
                    rows_vary(m->outputs, m->n_outputs);
    v->merge_max = v->rows_known ? OT_SERVE_MERGE_DEFAULT : 1;
    return OT_OK;
}

static ot_rc signature_of_bundle(ot_variant *v, const ot_bundle *b, ot_error *err)
{
    OT_TRY(ot_manifest_copy_signature(&b->manifest, &v->sig, err));
    v->rows_known = v->sig.batch_max > 0 && v->sig.n_inputs > 0;
    v->merge_max = v->rows_known ? v->sig.batch_max : 1;
    v->run_max = v->rows_known ? v->sig.batch_max : 0;
    return OT_OK;
}

/* Beside the signature, which it shares its memory with. */
static ot_rc keep_info(ot_variant *v, ot_error *err)
{
    const ot_model_info *info = ot_model_info_of(v->loaded);
    v->info.plugin = ot_arena_strdup(&v->sig.arena, info->plugin);
    v->info.format = ot_arena_strdup(&v->sig.arena, info->format);
    v->info.runtime_version = ot_arena_strdup(&v->sig.arena, info->runtime_version);
    v->info.signature = ot_arena_strdup(&v->sig.arena, info->signature);
    v->info.method = ot_arena_strdup(&v->sig.arena, info->method);
    v->info.capabilities = info->capabilities;
    v->info.quick = info->quick;
    v->info.isolated = info->isolated;
    return v->info.plugin != NULL && v->info.format != NULL && v->info.runtime_version != NULL &&
                   v->info.signature != NULL && v->info.method != NULL
               ? OT_OK
               : ot_fail(err, OT_EXHAUSTED, "model: out of memory");
}

static ot_rc check_signature(ot_variant *v, ot_error *err)
{
    if (v->sig.n_inputs < 1 || v->sig.n_inputs > OT_RUNTIME_INPUTS_MAX || v->sig.n_outputs < 1 ||
        v->sig.n_outputs > OT_RUNTIME_OUTPUTS_MAX) {
        return ot_fail(
            err, OT_INVALID,
            "the model has %zu inputs and %zu outputs; 1 to %d and 1 to %d can be served",
            v->sig.n_inputs, v->sig.n_outputs, OT_RUNTIME_INPUTS_MAX, OT_RUNTIME_OUTPUTS_MAX);
    }
    for (size_t i = 0; i < v->sig.n_inputs; i++) {
        for (int k = v->rows_known ? 1 : 0; k < v->sig.inputs[i].rank; k++) {
            v->dynamic |= v->sig.inputs[i].dims[k] < 0;
        }
    }
    return keep_info(v, err);
}

/* ---- counting */

static ot_rc read_part(ot_serve *s, const ot_bundle *b, const char *part, ot_str *out,
                       ot_error *err)
{
    ot_rc rc = ot_bundle_read_part(s->disk, b, part, out, err);
    return rc == OT_NOT_FOUND ? OT_OK : rc;
}

static ot_rc prepare_counts(ot_serve *s, ot_variant *v, const ot_bundle *b, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str inputs = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str outputs = OT_STR_INIT;
    if (b != NULL) {
        OT_TRY(read_part(s, b, OT_BUNDLE_TRAINED_ON, &inputs, err));
        OT_TRY(read_part(s, b, OT_BUNDLE_OUTPUTS, &outputs, err));
    }
    OT_TRY(ot_count_schema_read(&v->schema, &v->sig, inputs.data, inputs.len, outputs.data,
                                outputs.len, err));
    for (unsigned w = 0; w < v->n_workers; w++) {
        OT_TRY(ot_cell_create(&v->schema, &v->shares[w].active, err));
        OT_TRY(ot_cell_create(&v->schema, &v->shares[w].closed, err));
    }
    return OT_OK;
}

/* ---- loading */

static ot_rc open_external(ot_variant *v, const char *path, ot_error *err)
{
    ot_external *x = ot_calloc(1, sizeof *x);
    if (x == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "model: out of memory");
    }
    ot_rc rc = ot_external_open(path, x, err);
    if (rc != OT_OK) {
        ot_free(x);
        return rc;
    }
    v->external = x;
    if (x->unverified) {
        size_t at = strlen(v->note);
        snprintf(v->note + at, sizeof v->note - at, "%sthe server's certificate is not verified",
                 at > 0 ? "; " : "");
    }
    return OT_OK;
}

/* Takes the memory that the model will need into account, where there is a limit before it is
 * loaded: `load->needs` then says what there is no room for. */
static ot_rc reserve(ot_serve *s, ot_load *load, ot_variant *v, const char *format,
                     const char *path, ot_error *err)
{
    char needs[32], limit[32], used[32];
    if (ot_model_estimate(s->runtime, format, path, &v->memory, err) != OT_OK) {
        v->memory = 0; /* the plug-in cannot tell; a broken model is told of when it is loaded */
    }
    if (load->memory_max != 0 && v->memory > load->memory_max) {
        return ot_fail(err, OT_EXHAUSTED,
                       "the model needs about %s of memory; serve.memory allows %s",
                       ot_format_size(v->memory, needs), ot_format_size(load->memory_max, limit));
    }
    uint64_t before = atomic_load_explicit(&s->memory_used, memory_order_relaxed);
    if (s->o.memory_max != 0 && before + v->memory > s->o.memory_max) {
        load->needs = v->memory;
        return ot_fail(err, OT_EXHAUSTED,
                       "the model needs about %s of memory; of %s (--memory-max) %s are taken and "
                       "cannot be freed now",
                       ot_format_size(v->memory, needs), ot_format_size(s->o.memory_max, limit),
                       ot_format_size(before, used));
    }
    v->accounts = &s->memory_used;
    atomic_fetch_add_explicit(&s->memory_used, v->memory, memory_order_relaxed);
    return OT_OK;
}

ot_rc ot_load_session(ot_serve *s, const ot_load *load, const char *format, const char *path,
                      bool quick, ot_model **model_out, ot_error *err)
{
    ot_isolation_choice isolation;
    OT_TRY(ot_isolation_choose(s, load, &isolation, err));
    /* Nothing of an external server runs here, and a sandbox would not reach it. */
    bool external = strcmp(format, OT_EXTERNAL_FORMAT) == 0;
    ot_model_options options = {.threads = 1,
                                .quick = quick && isolation.how.if_needed,
                                .isolation = external ? NULL : &isolation.how};
    return ot_model_load(s->runtime, format, path, &options, model_out, err);
}

static ot_rc load_model(ot_serve *s, ot_variant *v, ot_load *load, const char *format,
                        const char *path, bool quick, ot_error *err)
{
    v->path = ot_strdup(path);
    if (v->path == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "model: out of memory");
    }
    v->isolate = load->isolate;
    v->process_memory = load->process_memory;
    OT_TRY(reserve(s, load, v, format, path, err));
    uint64_t start = ot_clock_mono_ns();
    OT_TRY(ot_load_session(s, load, format, path, quick, &v->loaded, err));
    v->load_us.session = (ot_clock_mono_ns() - start) / 1000;
    atomic_store_explicit(&v->back_us, v->load_us.session, memory_order_relaxed);
    ot_isolation_note(v);
    return strcmp(format, OT_EXTERNAL_FORMAT) == 0 ? open_external(v, path, err) : OT_OK;
}

/* Texts differ from run to run: there is nothing to verify them by. */
static bool is_text_server(const ot_bundle *b, const char *path)
{
    ot_external x;
    ot_error err;
    if (strcmp(b->manifest.format, OT_EXTERNAL_FORMAT) != 0 ||
        ot_external_open(path, &x, &err) != OT_OK) {
        return false;
    }
    bool text = x.protocol == OT_EXTERNAL_OPENAI;
    ot_external_done(&x);
    return text;
}

/* The model is asked for quickly where golden answers can tell that the better session that follows
 * is right too; `refine` is then what has to be done for it. */
static ot_rc load_bundle(ot_serve *s, ot_variant *v, ot_load *load, const ot_bundle *b,
                         bool must_verify, ot_load **refine, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_golden_done) ot_golden golden = {0};
    OT_TRY(ot_bundle_model_path(b, path, err));
    ot_digest_hex(&b->digest, v->bundle);
    ot_rc rc = ot_bundle_golden(s->disk, b, &golden, err);
    bool has_golden = rc == OT_OK;
    if (rc == OT_NOT_FOUND && must_verify && !is_text_server(b, path)) {
        return ot_fail(err, OT_PRECONDITION,
                       "the bundle has no golden answers; nothing unverified runs under a control "
                       "plane: build it with golden inputs and outputs");
    }
    if (rc != OT_OK && rc != OT_NOT_FOUND) {
        return rc;
    }
    if (load->process_memory == 0) {
        load->process_memory = (uint64_t)b->manifest.serve.process_memory_bytes;
    }
    OT_TRY(load_model(s, v, load, b->manifest.format, path, has_golden, err));
    OT_TRY(signature_of_bundle(v, b, err));
    OT_TRY(check_signature(v, err));
    OT_TRY(prepare_counts(s, v, b, err));
    OT_TRY(ot_variant_prove(s, v, has_golden ? &golden : NULL, err));
    ot_load *next = v->info.quick ? ot_calloc(1, sizeof *next) : NULL;
    if (next != NULL) {
        next->path = ot_strdup(path);
        next->golden = golden;
        golden = (ot_golden){0};
        next->refine = ot_variant_ref(v);
        *refine = next;
    }
    return OT_OK;
}

/* A session without a manifest says what it is itself, and nothing proves that it is right. */
static ot_rc take_unproved(ot_serve *s, ot_variant *v, const ot_model_config *c, ot_error *err)
{
    OT_TRY(signature_of_model(v, err));
    if (c != NULL) {
        OT_TRY(ot_variant_configure(v, c, err));
    }
    OT_TRY(check_signature(v, err));
    OT_TRY(prepare_counts(s, v, NULL, err));
    return ot_variant_prove(s, v, NULL, err);
}

/* Takes the view over. */
static ot_rc take_signature(ot_serve *s, ot_variant *of, ot_model *view, ot_variant **out,
                            ot_error *err)
{
    ot_variant *v;
    ot_rc rc = ot_variant_create(of->n_workers, of->n_slots, &v, err);
    if (rc != OT_OK) {
        ot_model_unref(view);
        return rc;
    }
    v->loaded = view;
    memcpy(v->deployment, of->deployment, sizeof v->deployment);
    memcpy(v->model, of->model, sizeof v->model);
    v->version = of->version;
    memcpy(v->version_text, of->version_text, sizeof v->version_text);
    rc = take_unproved(s, v, NULL, err);
    if (rc != OT_OK) {
        ot_variant_destroy(v);
        return rc;
    }
    *out = v;
    return OT_OK;
}

/* The model's signatures beside the default one; those that can't be served are left out. */
static void take_signatures(ot_serve *s, ot_variant *v)
{
    ot_variant **tail = &v->other;
    for (unsigned i = 0; i < SIGNATURES_MAX; i++) {
        ot_model *view;
        ot_error err;
        ot_rc rc = ot_model_view(v->loaded, i, &view, &err);
        if (rc == OT_NOT_FOUND) {
            return;
        }
        if (rc == OT_OK) {
            rc = take_signature(s, v, view, tail, &err);
        }
        if (rc == OT_OK) {
            tail = &(*tail)->other;
        } else {
            ot_info("serve", "%s: a signature is left out: %s", v->deployment, err.msg);
        }
    }
}

static ot_rc load_raw(ot_serve *s, ot_variant *v, ot_load *load, const ot_detected *d,
                      const ot_model_config *c, ot_error *err)
{
    OT_TRY(load_model(s, v, load, d->format, d->path, false, err));
    OT_TRY(take_unproved(s, v, c, err));
    take_signatures(s, v);
    return OT_OK;
}

static ot_rc load_from(ot_loader *l, ot_load *load, ot_variant *v, ot_load **refine, ot_error *err)
{
    ot_serve *s = l->serve;
    OT_AUTO(ot_bundle_done) ot_bundle b = {0};
    if (load->path == NULL) {
        uint64_t start = ot_clock_mono_ns();
        OT_TRY(ot_fetch_bundle(s->disk, load->blobs, l->cache, load->bundle, &b, err));
        v->load_us.fetch = (ot_clock_mono_ns() - start) / 1000;
        return load_bundle(s, v, load, &b, true, refine, err);
    }
    ot_detected d;
    OT_AUTO(ot_model_config_done) ot_model_config config;
    ot_model_config_init(&config);
    OT_TRY(ot_folder_open(s->disk, load->path, &d, &config, err));
    if (strcmp(d.format, OT_FORMAT_BUNDLE) != 0) {
        return load_raw(s, v, load, &d, &config, err);
    }
    OT_TRY(ot_bundle_open(s->disk, d.path, 0, NULL, &b, err));
    return load_bundle(s, v, load, &b, false, refine, err);
}

/* What is to be done afterwards, or NULL. */
static ot_load *run_load(ot_loader *l, ot_load *load)
{
    ot_variant *v = NULL;
    ot_load *refine = NULL;
    uint64_t start = ot_clock_mono_ns();
    load->rc = ot_variant_create(l->serve->n_workers, l->serve->n_slots, &v, &load->err);
    if (load->rc == OT_OK) {
        memcpy(v->deployment, load->deployment, sizeof v->deployment);
        memcpy(v->model, load->model, sizeof v->model);
        v->version = load->version;
        snprintf(v->version_text, sizeof v->version_text, "%" PRIu64, load->version);
        load->rc = load_from(l, load, v, &refine, &load->err);
    }
    if (load->rc == OT_OK) {
        v->load_us.all = (ot_clock_mono_ns() - start) / 1000;
        load->variant = v;
    } else {
        ot_variant_destroy(v);
    }
    return refine;
}

static void run_refine(ot_loader *l, ot_load *load)
{
    ot_variant *v = load->refine;
    ot_error err;
    uint64_t start = ot_clock_mono_ns();
    /* With the last other reference its use is over. */
    if (load->path != NULL && !v->asleep &&
        atomic_load_explicit(&v->refs, memory_order_relaxed) > 1) {
        if (ot_variant_refine(l->serve, v, load->path, &load->golden, &err) == OT_OK) {
            ot_info("serve", "%s: %s@%s: the better session took over after %.1f ms", v->deployment,
                    v->model, v->version_text, (double)(ot_clock_mono_ns() - start) / 1e6);
        } else {
            ot_warn("serve", "%s: %s@%s stays as it was loaded first, which is slower: %s",
                    v->deployment, v->model, v->version_text, err.msg);
        }
    }
    ot_variant_unref(v);
}

/* ---- the thread */

static void answer(ot_loader *l, ot_load *load)
{
    while (ot_loop_post(l->serve->loop, load->then, load) != OT_OK) {
        ot_clock_sleep_us(1000);
    }
}

static ot_load *next_load(ot_loader *l, bool *stopping_out)
{
    pthread_mutex_lock(&l->lock);
    while (l->queue == NULL && !l->stopping) {
        pthread_cond_wait(&l->filled, &l->lock);
    }
    ot_load *load = l->queue;
    if (load != NULL) {
        l->queue = load->next;
        if (l->queue == NULL) {
            l->tail = &l->queue;
        }
    }
    *stopping_out = l->stopping;
    pthread_mutex_unlock(&l->lock);
    return load;
}

static void *loader_main(void *arg)
{
    ot_loader *l = arg;
    ot_thread_lower(OT_THREAD_NICE_BACKGROUND);
    for (;;) {
        bool stopping;
        ot_load *load = next_load(l, &stopping);
        if (load == NULL) {
            return NULL;
        }
        if (load->unload != NULL) {
            ot_variant_destroy(load->unload);
            ot_load_free(load);
        } else if (load->refine != NULL) {
            if (stopping) {
                ot_variant_unref(load->refine);
            } else {
                run_refine(l, load);
            }
            ot_load_free(load);
        } else if (load->sleep != NULL) {
            ot_sleep_unload(load->sleep);
            ot_variant_unref(load->sleep);
            ot_load_free(load);
        } else if (stopping) {
            ot_variant_unref(load->wake);
            ot_load_free(load);
        } else if (load->wake != NULL) {
            ot_sleep_wake(l->serve, load);
            answer(l, load);
        } else {
            ot_load *refine = run_load(l, load);
            answer(l, load);
            if (refine != NULL) {
                ot_loader_add(l, refine);
            }
        }
    }
}

ot_rc ot_loader_create(ot_serve *s, ot_loader **loader_out, ot_error *err)
{
    ot_loader *l = ot_calloc(1, sizeof *l);
    if (l == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "loader: out of memory");
    }
    l->serve = s;
    l->tail = &l->queue;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->filled, NULL);
    ot_rc rc = OT_OK;
    ot_isolation_tidy(s);
    if (s->o.data != NULL) {
        rc = ot_path_join(l->cache, s->o.data, "replica/cache", err);
        if (rc == OT_OK) {
            rc = ot_disk_mkdirs(s->disk, l->cache, 0700, err);
        }
    }
    if (rc == OT_OK) {
        rc = ot_thread_start(&l->thread, "loader", loader_main, l, err);
        l->running = rc == OT_OK;
    }
    if (rc != OT_OK) {
        ot_loader_destroy(l);
        return rc;
    }
    *loader_out = l;
    return OT_OK;
}

void ot_loader_stop(ot_loader *l)
{
    if (l == NULL || !l->running) {
        return;
    }
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_signal(&l->filled);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    l->running = false;
}

void ot_loader_destroy(ot_loader *l)
{
    if (l == NULL) {
        return;
    }
    pthread_cond_destroy(&l->filled);
    pthread_mutex_destroy(&l->lock);
    ot_free(l);
}

void ot_loader_add(ot_loader *l, ot_load *load)
{
    load->next = NULL;
    pthread_mutex_lock(&l->lock);
    *l->tail = load;
    l->tail = &load->next;
    pthread_cond_signal(&l->filled);
    pthread_mutex_unlock(&l->lock);
}

void ot_loader_unload(ot_loader *l, ot_variant *v)
{
    ot_load *load = l != NULL && l->running ? ot_calloc(1, sizeof *load) : NULL;
    if (load == NULL) {
        ot_variant_destroy(v);
        return;
    }
    load->unload = v;
    ot_loader_add(l, load);
}
