#include "serve/variant.h"

#include "base/mem.h"
#include "serve/pool.h"

#include <stdlib.h>

ot_rc ot_variant_create(unsigned n_workers, unsigned n_slots, ot_variant **v_out, ot_error *err)
{
    ot_variant *v = ot_calloc(1, sizeof *v);
    if (v == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "variant: out of memory");
    }
    atomic_init(&v->refs, 1);
    pthread_mutex_init(&v->drift_lock, NULL);
    pthread_mutex_init(&v->model_lock, NULL);
    ot_manifest_init(&v->sig);
    v->n_workers = n_workers;
    v->n_slots = n_slots;
    v->slots = ot_calloc(n_slots, sizeof *v->slots);
    v->shares = ot_calloc(n_workers, sizeof *v->shares);
    ot_rc rc = ot_queue_create(&v->queue, err);
    if (rc == OT_OK && (v->slots == NULL || v->shares == NULL)) {
        rc = ot_fail(err, OT_EXHAUSTED, "variant: out of memory");
    }
    if (rc != OT_OK) {
        ot_variant_destroy(v);
        return rc;
    }
    *v_out = v;
    return OT_OK;
}

ot_variant *ot_variant_ref(ot_variant *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

void ot_variant_unref(ot_variant *v)
{
    if (v == NULL || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (v->on_idle != NULL) {
        v->on_idle(v->on_idle_arg, v);
    } else {
        ot_variant_destroy(v);
    }
}

void ot_variant_destroy(ot_variant *v)
{
    if (v == NULL) {
        return;
    }
    for (unsigned i = 0; v->slots != NULL && i < v->n_slots; i++) {
        ot_instance_destroy(v->slots[i].instance);
    }
    for (unsigned i = 0; v->shares != NULL && i < v->n_workers; i++) {
        ot_cell_destroy(v->shares[i].active);
        ot_cell_destroy(v->shares[i].closed);
    }
    while (v->other != NULL) {
        ot_variant *other = v->other;
        v->other = other->other;
        other->other = NULL;
        ot_variant_destroy(other);
    }
    ot_model_unref(v->loaded);
    if (v->accounts != NULL && !v->asleep) {
        atomic_fetch_sub_explicit(v->accounts, v->memory, memory_order_relaxed);
    }
    if (v->external != NULL) {
        ot_external_done(v->external);
        ot_free(v->external);
    }
    ot_queue_destroy(v->queue);
    ot_count_schema_done(&v->schema);
    ot_manifest_done(&v->sig);
    pthread_mutex_destroy(&v->drift_lock);
    pthread_mutex_destroy(&v->model_lock);
    ot_free(v->slots);
    ot_free(v->shares);
    ot_free(v->path);
    ot_free(v);
}

bool ot_variant_hold(ot_variant *v, unsigned slot)
{
    /* Either we see the flag, or who sets it sees us: both in one order for all. */
    atomic_store(&v->slots[slot].held, true);
    if (!atomic_load(&v->asleep)) {
        return true;
    }
    atomic_store(&v->slots[slot].held, false);
    return false;
}

void ot_variant_let(ot_slot *s)
{
    atomic_store_explicit(&s->held, false, memory_order_release);
}

void ot_variant_replace(ot_variant *v, ot_model *model)
{
    pthread_mutex_lock(&v->model_lock);
    ot_model *old = v->loaded;
    v->loaded = model;
    atomic_fetch_add_explicit(&v->generation, 1, memory_order_release);
    pthread_mutex_unlock(&v->model_lock);
    ot_model_unref(old); /* its instances keep it until they are replaced */
}

/* The slot's first instance, or one of the session that took over. */
static ot_rc make_instance(ot_variant *v, ot_slot *s, ot_error *err)
{
    ot_instance *made;
    pthread_mutex_lock(&v->model_lock);
    ot_rc rc = ot_instance_create(v->loaded, &made, err);
    unsigned generation = atomic_load_explicit(&v->generation, memory_order_relaxed);
    pthread_mutex_unlock(&v->model_lock);
    if (rc != OT_OK) {
        return rc;
    }
    ot_instance_destroy(s->instance);
    s->instance = made;
    s->generation = generation;
    return OT_OK;
}

ot_rc ot_variant_instance(ot_variant *v, unsigned slot, ot_instance **inst_out, ot_error *err)
{
    ot_slot *s = &v->slots[slot];
    if (s->instance == NULL ||
        s->generation != atomic_load_explicit(&v->generation, memory_order_acquire)) {
        OT_TRY(make_instance(v, s, err));
    }
    *inst_out = s->instance;
    return OT_OK;
}

int64_t ot_variant_merge_max(const ot_variant *v)
{
    return atomic_load_explicit(&v->merge_off, memory_order_relaxed) ? 1 : v->merge_max;
}

static uint64_t get(const _Atomic uint64_t *x)
{
    return atomic_load_explicit(x, memory_order_relaxed);
}

static void add_totals(const ot_totals *t, ot_totals_sum *out)
{
    out->prompt_tokens += get(&t->prompt_tokens);
    out->completion_tokens += get(&t->completion_tokens);
    out->requests += get(&t->requests);
    out->rows += get(&t->rows);
    out->failed += get(&t->failed);
    out->batches += get(&t->batches);
    out->latency_ns += get(&t->latency_ns);
    out->run_ns += get(&t->run_ns);
    for (unsigned i = 0; i < OT_COST_BUCKETS; i++) {
        out->batch_rows[i] += get(&t->batch_rows[i]);
    }
    for (unsigned i = 0; i < OT_LATENCY_STEPS; i++) {
        out->latency[i] += get(&t->latency[i]);
    }
    for (unsigned k = 0; k < OT_SERVE_STAGES; k++) {
        out->stage_ns[k] += get(&t->stages.ns[k]);
        for (unsigned i = 0; i < OT_LATENCY_STEPS; i++) {
            out->stage[k][i] += get(&t->stages.requests[k][i]);
        }
    }
}

void ot_variant_totals(const ot_variant *v, ot_totals_sum *out)
{
    *out = (ot_totals_sum){0};
    for (; v != NULL; v = v->other) {
        for (unsigned w = 0; w < v->n_workers; w++) {
            add_totals(&v->shares[w].totals, out);
        }
    }
}
