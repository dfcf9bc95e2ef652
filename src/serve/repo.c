/* The model repository: index, load, unload. A worker hands the request to the control thread; the
 * answer goes back when the load has ended one way or the other. */
#include "serve/control.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

struct ot_repo {
    ot_repo *next; /* of those that wait */
    ot_worker *worker;
    ot_http_req *req;
    ot_repo_op op;
    char name[OT_SERVE_NAME];
    uint64_t version; /* of the load that is waited for */
    uint64_t before;  /* the version that served until then; 0: none */
    ot_repo_fn *reply;
    int status;
    ot_str error;
    ot_repo_row *rows;
    size_t n_rows, cap_rows;
};

/* ---- back on the worker */

static void on_answer(void *arg)
{
    ot_repo *r = arg;
    ot_repo_answer a = {r->status, r->status == 200 ? NULL : r->error.data, r->rows, r->n_rows};
    if (r->error.failed) {
        a = (ot_repo_answer){.status = 503, .error = "out of memory for the answer"};
    }
    r->reply(r->worker, r->req, &a);
    ot_str_done(&r->error);
    ot_free(r->rows);
    ot_free(r);
}

static void answer(ot_repo *r)
{
    while (ot_loop_post(r->worker->loop, on_answer, r) != OT_OK) {
        ot_clock_sleep_us(200);
    }
}

static void answer_error(ot_repo *r, int status, const char *message)
{
    r->status = status;
    ot_str_clear(&r->error);
    ot_str_adds(&r->error, message);
    answer(r);
}

static void answer_rc(ot_repo *r, const ot_error *err)
{
    answer_error(r, err->rc == OT_NOT_FOUND ? 404 : 400, err->msg);
}

/* ---- index */

static const ot_entry *entry_of(const ot_control *c, const ot_target_deployment *d,
                                const ot_target_variant *v)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_entry *e = c->entries[i];
        if (e->version == v->version && strcmp(e->deployment, d->name) == 0 &&
            strcmp(e->model, v->model) == 0) {
            return e;
        }
    }
    return NULL;
}

static void add_row(ot_repo *r, const char *name, const ot_entry *e, uint64_t version)
{
    if (r->n_rows == r->cap_rows) {
        size_t cap = r->cap_rows != 0 ? r->cap_rows * 2 : 16;
        ot_repo_row *grown = ot_realloc(r->rows, cap * sizeof *grown);
        if (grown == NULL) {
            r->error.failed = true;
            return;
        }
        r->rows = grown;
        r->cap_rows = cap;
    }
    ot_repo_row *row = &r->rows[r->n_rows++];
    *row = (ot_repo_row){.version = version, .state = "UNAVAILABLE"};
    snprintf(row->name, sizeof row->name, "%s", name);
    snprintf(row->reason, sizeof row->reason, "%s", e == NULL ? "unloaded" : e->error);
    if (e != NULL && e->state != OT_ENTRY_FAILED) {
        row->state = e->state == OT_ENTRY_SERVING ? "READY" : "LOADING";
    }
}

typedef struct index_walk {
    const ot_control *control;
    ot_repo *repo;
} index_walk;

static void add_unloaded(void *arg, const char *name)
{
    index_walk *w = arg;
    if (ot_target_find(w->control->target, name) == NULL) {
        add_row(w->repo, name, NULL, 0);
    }
}

static void run_index(ot_control *c, ot_repo *r)
{
    for (size_t i = 0; i < c->target->n_deployments; i++) {
        const ot_target_deployment *d = &c->target->deployments[i];
        for (size_t k = 0; k < d->n_variants; k++) {
            add_row(r, d->name, entry_of(c, d, &d->variants[k]), d->variants[k].version);
        }
    }
    index_walk w = {c, r};
    ot_error err;
    if (c->agent == NULL && ot_alone_each(c->serve, add_unloaded, &w, &err) != OT_OK) {
        ot_warn("serve", "index: %s", err.msg);
    }
    r->status = 200;
    answer(r);
}

/* ---- load and unload */

static ot_rc aim(ot_control *c, ot_repo *r, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_alone_find(c->serve, r->name, path, err));
    ot_target_deployment *d = ot_target_find(c->target, r->name);
    if (d == NULL) {
        OT_TRY(ot_target_add(c->target, r->name, &d, err));
        ot_target_variant *v = &d->variants[0];
        *v = (ot_target_variant){.role = OT_ROLE_CHAMPION, .share = 1};
        strcpy(v->model, d->name);
        v->path = ot_strdup(path);
        d->n_variants = 1;
        if (v->path == NULL) {
            ot_target_remove(c->target, r->name);
            return ot_fail(err, OT_EXHAUSTED, "out of memory");
        }
    }
    const ot_entry *e = entry_of(c, d, &d->variants[0]);
    if (e != NULL && e->state == OT_ENTRY_LOADING) {
        return ot_fail(err, OT_ABORTED, "model '%s' is being loaded already", r->name);
    }
    r->before = e != NULL && e->state == OT_ENTRY_SERVING ? e->version : 0;
    r->version = ++d->variants[0].version;
    return OT_OK;
}

static void run_load(ot_control *c, ot_repo *r)
{
    ot_error err;
    if (aim(c, r, &err) != OT_OK) {
        answer_rc(r, &err);
        return;
    }
    r->next = c->waiting;
    c->waiting = r;
    ot_control_apply(c, c->target);
}

static void run_unload(ot_control *c, ot_repo *r)
{
    if (ot_target_find(c->target, r->name) == NULL) {
        char text[OT_SERVE_NAME + 40];
        snprintf(text, sizeof text, "model '%s' is not loaded", r->name);
        answer_error(r, 404, text);
        return;
    }
    ot_target_remove(c->target, r->name);
    ot_control_apply(c, c->target);
    r->status = 200;
    answer(r);
}

/* A load that failed leaves what served before. */
static void revert(ot_control *c, const ot_repo *r)
{
    ot_target_deployment *d = ot_target_find(c->target, r->name);
    if (d == NULL || d->variants[0].version != r->version) {
        return;
    }
    if (r->before == 0) {
        ot_target_remove(c->target, r->name);
    } else {
        d->variants[0].version = r->before;
    }
    ot_control_apply(c, c->target);
}

void ot_repo_settled(ot_control *c, const ot_entry *e)
{
    for (ot_repo **at = &c->waiting; *at != NULL;) {
        ot_repo *r = *at;
        if (r->version != e->version || strcmp(r->name, e->deployment) != 0) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        if (e->state == OT_ENTRY_SERVING) {
            r->status = 200;
            answer(r);
        } else {
            revert(c, r);
            answer_error(r, 400, e->error);
        }
        at = &c->waiting; /* revert may have changed the list */
    }
}

void ot_repo_give_up(ot_control *c)
{
    while (c->waiting != NULL) {
        ot_repo *r = c->waiting;
        c->waiting = r->next;
        answer_error(r, 503, "the server is going down");
    }
}

/* ---- from the worker */

static void on_ask(void *arg)
{
    ot_repo *r = arg;
    ot_control *c = r->worker->serve->control;
    if (c->draining) {
        answer_error(r, 503, "the server is going down");
    } else if (r->op == OT_REPO_INDEX) {
        run_index(c, r);
    } else if (c->agent != NULL) {
        answer_error(r, 400,
                     "what is loaded is decided by the control plane: apply an app instead");
    } else if (r->op == OT_REPO_LOAD) {
        run_load(c, r);
    } else {
        run_unload(c, r);
    }
}

static void refuse(ot_worker *w, ot_http_req *req, ot_repo_fn *reply, int status, const char *why)
{
    reply(w, req, &(ot_repo_answer){.status = status, .error = why});
}

void ot_control_repo(ot_worker *w, ot_http_req *req, ot_repo_op op, const char *name, size_t n,
                     ot_repo_fn *reply)
{
    if (n >= OT_SERVE_NAME) {
        char text[OT_SERVE_NAME];
        snprintf(text, sizeof text, "model '%.40s...' is not known", name);
        refuse(w, req, reply, 404, text);
        return;
    }
    const ot_route *route = atomic_load_explicit(&w->serve->route, memory_order_acquire);
    ot_denial why;
    if (op != OT_REPO_INDEX && !ot_access_all(route->access, req, &why)) {
        refuse(w, req, reply, why.status, why.err.msg);
        return;
    }
    ot_repo *r = ot_calloc(1, sizeof *r);
    if (r == NULL) {
        refuse(w, req, reply, 503, "out of memory");
        return;
    }
    r->reply = reply;
    r->worker = w;
    r->req = req;
    r->op = op;
    memcpy(r->name, name, n);
    ot_str_init(&r->error);
    if (ot_loop_post(w->serve->loop, on_ask, r) != OT_OK) {
        ot_free(r);
        refuse(w, req, reply, 503, "the control thread is busy: try again");
    }
}
