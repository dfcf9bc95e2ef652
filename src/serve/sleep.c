#include "serve/sleep.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

#define TICK_NS 250000000u

/* ---- calls that wait */

/* Takes those off the list that `due` says; NULL: all. */
static ot_call *take_locked(ot_variant *v, bool (*due)(const ot_call *, uint64_t now), uint64_t now)
{
    ot_call *taken = NULL, **end = &taken;
    for (ot_call **at = &v->sleepers; *at != NULL;) {
        ot_call *call = *at;
        if (due != NULL && !due(call, now)) {
            at = &call->next;
            continue;
        }
        *at = call->next;
        call->next = NULL;
        *end = call;
        end = &call->next;
        v->n_sleepers--;
    }
    return taken;
}

static void refuse_all(ot_call *list, unsigned retry_s, const char *why)
{
    while (list != NULL) {
        ot_call *call = list;
        list = call->next;
        ot_call_fail(call, OT_UNAVAILABLE, why);
        call->retry_s = retry_s;
        ot_worker_done(NULL, call);
    }
}

static uint64_t back_us(const ot_variant *v)
{
    return atomic_load_explicit(&v->back_us, memory_order_relaxed);
}

static unsigned retry_after(const ot_variant *v)
{
    return (unsigned)(back_us(v) / 1000000) + 1;
}

static void run_again(ot_serve *s, ot_call *call)
{
    ot_error err;
    ot_rc rc = ot_pool_add(s->pool, call, &err);
    if (rc != OT_OK) {
        ot_call_fail(call, rc, err.msg);
        ot_worker_done(NULL, call);
    }
}

static void on_wake_asked(void *arg);

typedef struct wake_ask {
    ot_control *control;
    ot_variant *variant; /* a reference */
} wake_ask;

/* Where that is not possible now the next tick sees the call. */
static void ask_to_wake(ot_serve *s, ot_variant *v)
{
    wake_ask *ask = ot_alloc(sizeof *ask);
    if (ask == NULL) {
        return;
    }
    *ask = (wake_ask){s->control, ot_variant_ref(v)};
    if (ot_loop_post(s->loop, on_wake_asked, ask) != OT_OK) {
        ot_variant_unref(v);
        ot_free(ask);
    }
}

void ot_sleep_wait(ot_serve *s, ot_call *call)
{
    ot_variant *v = call->variant;
    uint64_t back_ns = ot_clock_mono_ns() + back_us(v) * 1000;
    bool too_late = call->deadline_ns != 0 && back_ns > call->deadline_ns;
    pthread_mutex_lock(&v->model_lock);
    bool going = atomic_load_explicit(&s->draining, memory_order_relaxed);
    bool asleep = atomic_load_explicit(&v->asleep, memory_order_relaxed);
    bool full = v->n_sleepers >= s->o.queue_max;
    bool first = v->sleepers == NULL;
    call->next = NULL;
    if (asleep && !too_late && !full && !going) {
        ot_call **end = &v->sleepers;
        while (*end != NULL) {
            end = &(*end)->next;
        }
        *end = call;
        v->n_sleepers++;
    }
    pthread_mutex_unlock(&v->model_lock);
    if (asleep && !going && (first || too_late)) {
        ask_to_wake(s, v);
    }
    if (!asleep) {
        run_again(s, call);
    } else if (going) {
        refuse_all(call, 0, "the server is going down");
    } else if (too_late) {
        refuse_all(call, retry_after(v),
                   "it was unloaded while idle and comes back only after the "
                   "deadline: try again");
    } else if (full) {
        refuse_all(call, retry_after(v),
                   "it was unloaded while idle, and as many requests as may wait for it do");
    }
}

/* ---- on the loader's thread */

void ot_sleep_unload(ot_variant *v)
{
    for (unsigned i = 0; i < v->n_slots; i++) { /* nobody runs it: see ot_variant_hold */
        ot_instance_destroy(v->slots[i].instance);
        v->slots[i].instance = NULL;
    }
    ot_variant_replace(v, NULL);
}

void ot_sleep_wake(ot_serve *s, ot_load *load)
{
    ot_variant *v = load->wake;
    ot_model *model;
    ot_error err;
    uint64_t start = ot_clock_mono_ns();
    ot_rc rc = ot_load_session(s, load, v->info.format, v->path, false, &model, &err);
    if (rc == OT_OK) {
        atomic_store_explicit(&v->back_us, (ot_clock_mono_ns() - start) / 1000,
                              memory_order_relaxed);
        ot_variant_replace(v, model);
    } else {
        atomic_fetch_sub_explicit(&s->memory_used, v->memory, memory_order_relaxed);
        ot_err("serve", "%s: %s@%s could not be loaded again: %s", v->deployment, v->model,
               v->version_text, err.msg);
    }
    pthread_mutex_lock(&v->model_lock);
    if (rc == OT_OK) {
        atomic_store(&v->asleep, false);
    }
    ot_call *list = take_locked(v, NULL, 0);
    pthread_mutex_unlock(&v->model_lock);
    while (rc == OT_OK && list != NULL) {
        ot_call *call = list;
        list = call->next;
        run_again(s, call);
    }
    refuse_all(list, retry_after(v), err.msg);
}

/* ---- who sleeps */

static uint64_t requests_of(const ot_variant *v)
{
    uint64_t n = 0;
    for (unsigned w = 0; w < v->n_workers; w++) {
        n += atomic_load_explicit(&v->shares[w].totals.requests, memory_order_relaxed);
    }
    return n;
}

static bool is_asleep(const ot_variant *v)
{
    return atomic_load_explicit(&v->asleep, memory_order_relaxed);
}

/* Sees who was used since the last look. */
static void look(ot_control *c, uint64_t now)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        ot_variant *v = c->entries[i]->variant;
        if (v != NULL) {
            uint64_t n = requests_of(v);
            if (n != v->seen || ot_queue_waiting(v->queue) > 0) {
                v->used_ns = now;
            }
            v->seen = n;
        }
    }
}

/* When a deployment was last used; UINT64_MAX: none of it could sleep. */
static uint64_t used_ns(const ot_control *c, const char *deployment)
{
    uint64_t used = 0;
    bool awake = false;
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_entry *e = c->entries[i];
        if (strcmp(e->deployment, deployment) == 0) {
            const ot_variant *v = e->variant;
            /* Other signatures of a model keep its session. */
            if (e->state == OT_ENTRY_LOADING || (v != NULL && (v->waking || v->other != NULL))) {
                return UINT64_MAX;
            }
            if (v != NULL && !is_asleep(v)) {
                awake = true;
                used = OT_MAX(used, v->used_ns);
            }
        }
    }
    return awake ? used : UINT64_MAX;
}

/* Sets the flag where no run is on; after that none begins. */
static bool fall_asleep(ot_variant *v)
{
    atomic_store(&v->asleep, true);
    for (unsigned i = 0; i < v->n_slots; i++) {
        if (atomic_load(&v->slots[i].held)) {
            return false;
        }
    }
    return true;
}

static void send_to_sleep(ot_control *c, const char *deployment)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        ot_variant *v = c->entries[i]->variant;
        if (v == NULL || strcmp(c->entries[i]->deployment, deployment) != 0 || is_asleep(v)) {
            continue;
        }
        ot_load *load = ot_calloc(1, sizeof *load);
        if (load == NULL || !fall_asleep(v)) {
            /* A call that saw the flag waits: it has to be woken. */
            v->used_ns = ot_clock_mono_ns();
            ot_free(load);
            pthread_mutex_lock(&v->model_lock);
            atomic_store(&v->asleep, false);
            ot_call *list = take_locked(v, NULL, 0);
            pthread_mutex_unlock(&v->model_lock);
            while (list != NULL) {
                ot_call *call = list;
                list = call->next;
                run_again(c->serve, call);
            }
            continue;
        }
        char size[32];
        ot_info("serve", "%s: %s@%s sleeps; %s are free again", v->deployment, v->model,
                v->version_text, ot_format_size(v->memory, size));
        atomic_fetch_sub_explicit(&c->serve->memory_used, v->memory, memory_order_relaxed);
        load->sleep = ot_variant_ref(v);
        ot_loader_add(c->loader, load);
    }
}

static bool may_sleep(const ot_control *c, const char *deployment, uint64_t now)
{
    uint64_t used = used_ns(c, deployment);
    return used != UINT64_MAX && now - OT_MIN(used, now) >= OT_SLEEP_IDLE_NS;
}

/* Bytes that idle deployments could give back. */
static uint64_t reclaimable(const ot_control *c, uint64_t now)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_variant *v = c->entries[i]->variant;
        if (v != NULL && !is_asleep(v) && may_sleep(c, c->entries[i]->deployment, now)) {
            sum += v->memory;
        }
    }
    return sum;
}

static bool fits(const ot_control *c, uint64_t bytes)
{
    uint64_t max = c->serve->o.memory_max;
    uint64_t used = atomic_load_explicit(&c->serve->memory_used, memory_order_relaxed);
    return max == 0 || (used <= max && bytes <= max - used);
}

bool ot_sleep_make_room(ot_control *c, uint64_t bytes)
{
    uint64_t now = ot_clock_mono_ns();
    look(c, now);
    uint64_t idle = reclaimable(c, now);
    if (!fits(c, bytes - OT_MIN(bytes, idle)) || bytes > c->serve->o.memory_max) {
        return fits(c, bytes); /* nobody is sent to sleep for nothing */
    }
    while (!fits(c, bytes)) {
        const char *victim = NULL;
        uint64_t least = UINT64_MAX;
        for (size_t i = 0; i < c->n_entries; i++) {
            const char *name = c->entries[i]->deployment;
            uint64_t used = used_ns(c, name);
            if (used < least && may_sleep(c, name, now)) {
                least = used;
                victim = name;
            }
        }
        if (victim == NULL) {
            return false;
        }
        send_to_sleep(c, victim);
    }
    return true;
}

/* ---- who wakes */

static void on_woken(void *arg)
{
    ot_load *load = arg;
    ot_variant *v = load->wake;
    v->waking = false;
    v->used_ns = ot_clock_mono_ns();
    if (!is_asleep(v)) {
        ot_info("serve", "%s: %s@%s is awake again after %.1f ms", v->deployment, v->model,
                v->version_text, (double)back_us(v) / 1000);
    }
    ot_variant_unref(v);
    ot_load_free(load);
}

static void wake(ot_control *c, ot_variant *v)
{
    ot_load *load = NULL;
    if (!is_asleep(v) || v->waking || c->draining || !ot_sleep_make_room(c, v->memory) ||
        (load = ot_calloc(1, sizeof *load)) == NULL) {
        return;
    }
    atomic_fetch_add_explicit(&c->serve->memory_used, v->memory, memory_order_relaxed);
    v->waking = true;
    load->wake = ot_variant_ref(v);
    memcpy(load->model, v->model, sizeof load->model);
    load->version = v->version;
    load->isolate = v->isolate;
    load->process_memory = v->process_memory;
    load->then = on_woken;
    load->arg = c;
    ot_loader_add(c->loader, load);
}

static void wake_deployment(ot_control *c, ot_variant *v)
{
    wake(c, v); /* first: a call waits for it */
    for (size_t i = 0; i < c->n_entries; i++) {
        ot_variant *other = c->entries[i]->variant;
        if (other != NULL && strcmp(c->entries[i]->deployment, v->deployment) == 0) {
            wake(c, other);
        }
    }
}

static void on_wake_asked(void *arg)
{
    wake_ask *ask = arg;
    wake_deployment(ask->control, ask->variant);
    ot_variant_unref(ask->variant);
    ot_free(ask);
}

/* ---- time */

static bool is_due(const ot_call *call, uint64_t now)
{
    uint64_t end = call->deadline_ns != 0 ? call->deadline_ns : call->start_ns + OT_SLEEP_WAIT_NS;
    return now >= end;
}

static void tick(void *arg)
{
    ot_control *c = arg;
    uint64_t now = ot_clock_mono_ns();
    look(c, now);
    for (size_t i = 0; i < c->n_entries; i++) {
        ot_variant *v = c->entries[i]->variant;
        if (v == NULL || !is_asleep(v)) {
            continue;
        }
        pthread_mutex_lock(&v->model_lock);
        ot_call *late = take_locked(v, is_due, now);
        bool wanted = v->sleepers != NULL;
        pthread_mutex_unlock(&v->model_lock);
        refuse_all(late, retry_after(v),
                   "it was unloaded while idle, and there was no memory for it in time: what is "
                   "loaded is in use (--memory-max)");
        if (wanted) {
            wake_deployment(c, v);
        }
    }
    ot_loop_timer_set(c->serve->loop, &c->sleep_timer, now + TICK_NS, tick, c);
}

void ot_sleep_start(ot_control *c)
{
    if (c->serve->o.memory_max != 0) {
        ot_loop_timer_set(c->serve->loop, &c->sleep_timer, ot_clock_mono_ns() + TICK_NS, tick, c);
    }
}

void ot_sleep_forget(ot_variant *v, const char *why)
{
    pthread_mutex_lock(&v->model_lock);
    ot_call *list = take_locked(v, NULL, 0);
    pthread_mutex_unlock(&v->model_lock);
    refuse_all(list, 1, why);
}

void ot_sleep_stop(ot_control *c)
{
    ot_loop_timer_cancel(c->serve->loop, &c->sleep_timer);
    for (size_t i = 0; i < c->n_entries; i++) {
        if (c->entries[i]->variant != NULL) {
            ot_sleep_forget(c->entries[i]->variant, "the server is going down");
        }
    }
}
