/* The calls of include/overtake/collective.h. */
#include "overtake/collective.h"

#include "base/clock.h"
#include "base/mem.h"
#include "collective/api_internal.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One a process. Synchronization: of its lock; `owner` is atomic, for a child to read after a fork
 * that may have left the lock taken. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t quiet; /* users has become 0 */
    _Atomic pid_t owner;
    bool changing; /* init or finalize is under way */
    int users;
    ot_api api;
} process = {.lock = PTHREAD_MUTEX_INITIALIZER,
             .quiet = PTHREAD_COND_INITIALIZER,
             .api.residuals.lock = PTHREAD_MUTEX_INITIALIZER};

int ot_api_answer(const ot_error *err, ot_rc rc, char *message, size_t size)
{
    if (message != NULL && size > 0) {
        snprintf(message, size, "%s", rc == OT_OK ? "" : err->msg);
    }
    return rc;
}

static ot_rc check_owner(ot_error *err)
{
    pid_t owner = atomic_load(&process.owner);
    if (owner != 0 && owner != getpid()) {
        return ot_fail(err, OT_PRECONDITION,
                       "this process was forked from rank %d after overtake_init: it may not "
                       "communicate. Fork before overtake_init, or use spawn",
                       process.api.rank);
    }
    return OT_OK;
}

ot_rc ot_api_enter(ot_api **out, ot_error *err)
{
    OT_TRY(check_owner(err));
    pthread_mutex_lock(&process.lock);
    bool there = process.api.engine != NULL && !process.changing;
    process.users += there;
    pthread_mutex_unlock(&process.lock);
    if (!there) {
        return ot_fail(err, OT_PRECONDITION,
                       "overtake_init has not been called, or this process is between two epochs "
                       "(overtake_reform)");
    }
    *out = &process.api;
    return OT_OK;
}

void ot_api_leave(void)
{
    pthread_mutex_lock(&process.lock);
    if (--process.users == 0) {
        pthread_cond_broadcast(&process.quiet);
    }
    pthread_mutex_unlock(&process.lock);
}

/* --- init and finalize ----------------------------------------------------------------------- */

static ot_rc identity(const overtake_init_options *o, ot_identity *id, ot_error *err)
{
    bool given = o->rendezvous != NULL || o->rank >= 0 || o->size > 0;
    if (!given) {
        return ot_identity_read(id, err);
    }
    *id = (ot_identity){
        .rank = o->rank, .size = o->size, .local_rank = -1, .local_size = -1, .worker = -1};
    size_t key_len = o->key != NULL ? strlen(o->key) : 0;
    if (o->size < 1 || o->size > OT_MEET_RANKS_MAX || o->rank < 0 || o->rank >= o->size) {
        return ot_fail(err, OT_INVALID, "overtake_init: rank %d of %d: give both, from 0", o->rank,
                       o->size);
    }
    if (o->size > 1 && (o->rendezvous == NULL || key_len == 0)) {
        return ot_fail(err, OT_INVALID,
                       "overtake_init: %d ranks need a rendezvous (\"host:port\" of rank 0) and "
                       "a key, the same on all",
                       o->size);
    }
    if (key_len >= sizeof id->key ||
        (o->rendezvous != NULL && strlen(o->rendezvous) >= sizeof id->rendezvous)) {
        return ot_fail(err, OT_INVALID, "overtake_init: key or rendezvous longer than %zu bytes",
                       sizeof id->key - 1);
    }
    snprintf(id->source, sizeof id->source, "options");
    snprintf(id->rendezvous, sizeof id->rendezvous, "%s", o->size > 1 ? o->rendezvous : "");
    snprintf(id->key, sizeof id->key, "%s", o->key != NULL ? o->key : "");
    id->key_len = key_len;
    id->serves = o->rank == 0;
    return OT_OK;
}

static ot_rc may_change(ot_api_change what, ot_error *err)
{
    ot_engine *e = process.api.engine;
    if (process.changing) {
        return ot_fail(err, OT_PRECONDITION,
                       "overtake_init, _finalize or _reform is under way in another thread");
    }
    if (what == OT_API_INIT) {
        return e == NULL ? OT_OK
                         : ot_fail(err, OT_PRECONDITION,
                                   "overtake_init was called before; call overtake_finalize first");
    }
    if (e == NULL && !(what == OT_API_REFORM && process.api.between)) {
        return ot_fail(err, OT_PRECONDITION, "overtake_init has not been called");
    }
    return what == OT_API_FINALIZE || e == NULL || ot_engine_epoch_of(e).elastic
               ? OT_OK
               : ot_fail(err, OT_PRECONDITION,
                         "overtake_reform: this job isn't elastic: start it with `overtake run "
                         "--min-np N`");
}

ot_rc ot_api_begin(ot_api_change what, ot_api **out, ot_error *err)
{
    OT_TRY(check_owner(err));
    pthread_mutex_lock(&process.lock);
    ot_rc rc = may_change(what, err);
    process.changing |= rc == OT_OK;
    if (rc == OT_OK && what == OT_API_REFORM && process.api.engine != NULL) {
        ot_engine_abandon(process.api.engine);
    }
    while (rc == OT_OK && process.users > 0) {
        pthread_cond_wait(&process.quiet, &process.lock);
    }
    pthread_mutex_unlock(&process.lock);
    *out = &process.api;
    return rc;
}

ot_rc ot_api_end(ot_engine *e, ot_error *err)
{
    ot_rc rc = OT_OK;
    if (e != NULL) {
        process.api.rank = ot_engine_rank(e);
        rc = ot_api_groups_init(&process.api, e, err);
        if (rc != OT_OK) {
            ot_engine_destroy(e);
            e = NULL;
        }
    }
    atomic_store(&process.owner, e != NULL ? getpid() : 0);
    pthread_mutex_lock(&process.lock);
    process.api.engine = e;
    process.changing = false;
    pthread_mutex_unlock(&process.lock);
    return rc;
}

static void forget_residuals(ot_api *a)
{
    ot_residuals_done(&a->residuals);
    ot_residuals_init(&a->residuals);
}

ot_rc ot_api_init(const ot_engine_options *o, ot_error *err)
{
    ot_api *a;
    OT_TRY(ot_api_begin(OT_API_INIT, &a, err));
    if (a->between) {
        ot_tickets_destroy(a->next.tickets);
        a->between = false;
    }
    a->previous_rank = -1;
    a->previous_size = 0;
    ot_engine *e = NULL;
    ot_engine_options with = *o;
    with.residuals = &a->residuals;
    forget_residuals(a);
    ot_rc rc = ot_engine_create(&with, &e, err), ended = ot_api_end(e, err);
    return rc != OT_OK ? rc : ended;
}

int overtake_init(const overtake_init_options *options, char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    overtake_init_options o = {.rank = -1, .size = -1};
    ot_engine_options eo = {.timeout_us = 600000000};
    if (options != NULL) {
        memcpy(&o, options, OT_MIN(options->struct_size, sizeof o));
    }
    if (o.timeout_s > 0) {
        eo.timeout_us = (int64_t)(OT_MIN(o.timeout_s, 1e9) * 1e6);
    }
    ot_rc rc = identity(&o, &eo.id, &err);
    if (rc == OT_OK) {
        rc = ot_api_init(&eo, &err);
    }
    return ot_api_answer(&err, rc, message, message_size);
}

int overtake_finalize(char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_begin(OT_API_FINALIZE, &a, &err);
    if (rc == OT_OK) {
        ot_engine_destroy(a->engine);
        ot_api_groups_done(a);
        forget_residuals(a);
        rc = ot_api_end(NULL, &err);
    }
    return ot_api_answer(&err, rc, message, message_size);
}

/* --- start ----------------------------------------------------------------------------------- */

ot_rc ot_api_start(ot_api *a, const ot_prepared *p, size_t n, overtake_handle *handles_out,
                   ot_error *err)
{
    ot_tickets *t = ot_engine_tickets(a->engine);
    OT_AUTO(ot_free_ptr) ot_ticket **list = ot_calloc(n > 0 ? n : 1, sizeof *list);
    size_t made = 0;
    ot_rc rc = list != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "requests: out of memory");
    for (; rc == OT_OK && made < n; made++) {
        rc = ot_ticket_add(t, &list[made], err);
        if (rc != OT_OK) {
            break;
        }
        ot_ticket *k = list[made];
        k->group = p[made].group;
        k->named = p[made].named;
        k->sig = p[made].sig;
        k->splits = p[made].splits;
        k->in = p[made].in;
        k->out = p[made].out;
        k->out_bytes = p[made].out_bytes;
    }
    if (rc == OT_OK) {
        for (size_t i = 0; i < n; i++) {
            handles_out[i] = list[i]->handle;
        }
        rc = ot_engine_submit(a->engine, list, n, err);
    }
    if (rc == OT_OK) {
        return OT_OK;
    }
    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < made; i++) {
        list[i]->splits = NULL; /* still the caller's */
        ot_ticket_remove_locked(t, list[i]);
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

int overtake_start(const overtake_request *requests, size_t n, overtake_handle *handles_out,
                   char *message, size_t message_size)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, &err);
    if (rc != OT_OK) {
        return ot_api_answer(&err, rc, message, message_size);
    }
    size_t prepared = 0;
    OT_AUTO(ot_free_ptr) ot_prepared *p = NULL;
    if (n > OT_TICKETS_MAX) {
        rc = ot_fail(&err, OT_EXHAUSTED, "overtake_start: %zu requests; at most %d", n,
                     OT_TICKETS_MAX);
    } else if ((p = ot_calloc(n > 0 ? n : 1, sizeof *p)) == NULL) {
        rc = ot_fail(&err, OT_EXHAUSTED, "overtake_start: out of memory");
    }
    const uint8_t *at = (const uint8_t *)requests;
    for (; rc == OT_OK && prepared < n; prepared++) {
        const overtake_request *r = (const overtake_request *)(const void *)at;
        rc = ot_api_prepare(a, r, &p[prepared], &err);
        at += r->struct_size;
        if (rc != OT_OK) {
            break;
        }
    }
    if (rc == OT_OK) {
        ot_api_number(a, p, n);
        rc = ot_api_start(a, p, n, handles_out, &err);
    }
    for (size_t i = 0; rc != OT_OK && i < prepared; i++) {
        ot_free(p[i].splits);
    }
    ot_api_leave();
    return ot_api_answer(&err, rc, message, message_size);
}

/* --- wait ------------------------------------------------------------------------------------ */

#define POLL_NS 50000000u /* who polls for longer waits */

int overtake_test(overtake_handle handle)
{
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, NULL);
    if (rc != OT_OK) {
        return rc;
    }
    ot_tickets *t = ot_engine_tickets(a->engine);
    pthread_mutex_lock(&t->lock);
    ot_ticket *k = ot_ticket_find_locked(t, handle);
    int answer = k == NULL ? OT_NOT_FOUND : k->done;
    if (answer == 0 && ot_clock_mono_ns() - k->since_ns > POLL_NS && !k->polled) {
        k->polled = true;
        ot_engine_waiting(a->engine, k);
    }
    pthread_mutex_unlock(&t->lock);
    ot_api_leave();
    return answer;
}

static void say_failure(ot_api *a, ot_rc rc, const ot_error *why, int32_t culprit,
                        const char *tensor, overtake_failure *out)
{
    if (out == NULL) {
        return;
    }
    overtake_failure f = {.code = rc, .rank = culprit};
    int32_t n = 0;
    const ot_member *members = a != NULL ? ot_engine_members(a->engine, &n) : NULL;
    f.step = a != NULL ? (int64_t)ot_engine_steps(a->engine) : 0;
    if (culprit >= 0 && culprit < n) {
        snprintf(f.host, sizeof f.host, "%s", members[culprit].host);
    }
    snprintf(f.tensor, sizeof f.tensor, "%s", tensor);
    bool named = tensor[0] == '\0' || strstr(why->msg, tensor) != NULL;
    snprintf(f.message, sizeof f.message, "%s%s%s%s", named ? "" : "'", named ? "" : tensor,
             named ? "" : "' can't be done: ", why->msg);
    size_t size = out->struct_size > 0 ? OT_MIN(out->struct_size, sizeof f) : sizeof f;
    f.struct_size = size;
    memcpy(out, &f, size);
}

/* What a wait that timed out can say. */
static void say_timeout(ot_api *a, const ot_ticket *k, double timeout_s, overtake_failure *out)
{
    char text[512];
    int32_t rank;
    ot_error e;
    ot_engine_stall(a->engine, k, text, sizeof text, &rank);
    (void)ot_fail(&e, OT_TIMEOUT,
                  "'%s' is not done after %.3g s: %s. It goes on: wait again, or look at that rank",
                  k->sig.name, timeout_s, text[0] != '\0' ? text : "no rank is known to be late");
    say_failure(a, OT_TIMEOUT, &e, rank, k->sig.name, out);
}

static int await(ot_api *a, overtake_handle handle, double timeout_s, overtake_result *result_out,
                 overtake_failure *failure_out)
{
    ot_tickets *t = ot_engine_tickets(a->engine);
    ot_trace *trace = ot_engine_trace(a->engine);
    uint64_t until =
        timeout_s > 0 ? ot_clock_mono_ns() + (uint64_t)(OT_MIN(timeout_s, 1e9) * 1e9) : 0;
    pthread_mutex_lock(&t->lock);
    ot_ticket *k = ot_ticket_find_locked(t, handle);
    if (k == NULL || k->waited) {
        pthread_mutex_unlock(&t->lock);
        ot_error e;
        (void)ot_fail(&e, OT_NOT_FOUND, "no such handle: %" PRId64 " (waited for already?)",
                      handle);
        say_failure(a, OT_NOT_FOUND, &e, -1, "", failure_out);
        return OT_NOT_FOUND;
    }
    k->waited = true; /* by this thread: nobody else may take it away */
    if (k->named) {
        ot_engine_waiting(a->engine, k);
    }
    bool there = k->done;
    if (!there) {
        ot_trace_block(trace);
    }
    bool came = ot_ticket_await_locked(t, k, until);
    if (!there) {
        ot_trace_unblock(trace, k->sig.name, came ? k->late : (ot_late){.rank = -1});
    }
    if (!came) {
        k->waited = false;
        pthread_mutex_unlock(&t->lock);
        say_timeout(a, k, timeout_s, failure_out);
        return OT_TIMEOUT;
    }
    ot_rc rc = k->why.rc;
    if (rc != OT_OK) {
        say_failure(a, rc, &k->why, k->culprit, k->sig.name, failure_out);
    } else if (result_out != NULL) {
        size_t size = result_out->struct_size > 0
                          ? OT_MIN(result_out->struct_size, sizeof *result_out)
                          : sizeof *result_out;
        k->result.struct_size = size;
        memcpy(result_out, &k->result, size);
    }
    ot_ticket_remove_locked(t, k);
    pthread_mutex_unlock(&t->lock);
    return rc;
}

int overtake_wait(overtake_handle handle, double timeout_s, overtake_result *result_out,
                  overtake_failure *failure_out)
{
    ot_error err = {.rc = OT_OK};
    ot_api *a;
    ot_rc rc = ot_api_enter(&a, &err);
    if (rc != OT_OK) {
        say_failure(NULL, rc, &err, -1, "", failure_out);
        return rc;
    }
    int answer = await(a, handle, timeout_s, result_out, failure_out);
    ot_api_leave();
    return answer;
}

int overtake_release(void *out)
{
    return out == NULL || ot_out_free(out) ? OT_OK : OT_NOT_FOUND;
}

int overtake_step(int64_t samples)
{
    ot_api *a;
    ot_rc rc = samples < 0 ? OT_INVALID : ot_api_enter(&a, NULL);
    if (rc == OT_OK) {
        ot_engine_step(a->engine, (uint64_t)samples);
        ot_api_leave();
    }
    return rc;
}
