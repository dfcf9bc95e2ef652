/* The model repository: index, load, unload. A worker hands the request to the control thread; the
 * answer goes back when the load has ended one way or the other. */
#include "serve/folders.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

struct ot_repo {
    ot_repo *next; /* of those that wait */
    ot_worker *worker;
    ot_http_req *req;
    ot_repo_op op;
    char name[OT_SERVE_NAME];
    ot_repo_fn *reply;
    int status;
    ot_str error; /* of a load: of the first version that could not be loaded */
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

static void answer_good(ot_repo *r)
{
    r->status = 200;
    answer(r);
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
    answer_error(r, ot_rc_http(err->rc), err->msg);
}

/* ---- index */

static void add_row(void *arg, const char *name, uint64_t version, const char *state,
                    const char *reason)
{
    ot_repo *r = arg;
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
    *row = (ot_repo_row){.version = version, .state = state};
    snprintf(row->name, sizeof row->name, "%s", name);
    snprintf(row->reason, sizeof row->reason, "%s", reason);
}

static void each_wanted(const ot_control *c, ot_repo *r)
{
    static const char *const names[] = {[OT_ENTRY_LOADING] = "LOADING",
                                        [OT_ENTRY_SERVING] = "READY",
                                        [OT_ENTRY_FAILED] = "UNAVAILABLE"};
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_entry *e = c->entries[i];
        if (e->wanted) {
            add_row(r, e->deployment, e->version, names[e->state], e->error);
        }
    }
}

static void run_index(ot_control *c, ot_repo *r)
{
    if (c->folders != NULL) {
        ot_folders_each(c->folders, add_row, r);
    } else {
        each_wanted(c, r);
    }
    answer_good(r);
}

/* ---- load and unload */

bool ot_control_loading(const ot_control *c, const char *name)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_entry *e = c->entries[i];
        if (e->wanted && e->state == OT_ENTRY_LOADING && strcmp(e->deployment, name) == 0) {
            return true;
        }
    }
    return false;
}

static void run_load(ot_control *c, ot_repo *r)
{
    ot_error err;
    if (ot_folders_load(c->folders, r->name, &err) != OT_OK) {
        answer_rc(r, &err);
    } else if (ot_control_loading(c, r->name)) {
        r->next = c->waiting;
        c->waiting = r;
    } else {
        answer_good(r); /* it is served as it is */
    }
}

static void run_unload(ot_control *c, ot_repo *r)
{
    ot_error err;
    if (ot_folders_unload(c->folders, r->name, &err) != OT_OK) {
        answer_rc(r, &err);
    } else {
        answer_good(r);
    }
}

static bool any_failed(const ot_control *c, const char *name)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_entry *e = c->entries[i];
        if (e->wanted && e->state == OT_ENTRY_FAILED && strcmp(e->deployment, name) == 0) {
            return true;
        }
    }
    return false;
}

/* A control plane or a file of deployments decides what is wanted, and the inference port has no
 * say in that: a load tries again what could not be loaded, and ends when that is there. */
static void run_managed(ot_control *c, ot_repo *r)
{
    const char *who = c->agent != NULL ? "the control plane" : "the file of --deployments";
    const char *how = c->agent != NULL
                          ? "change it there (overtake apply, overtake release, overtake rollback)"
                          : "change it there and start again";
    char text[OT_SERVE_NAME + 200];
    bool known = ot_target_find(c->target, r->name) != NULL;
    if (!known || r->op == OT_REPO_UNLOAD) {
        snprintf(text, sizeof text, "model '%s' is %s because %s says so: %s", r->name,
                 known ? "served" : "not served", who, how);
        answer_error(r, known ? 409 : 404, text);
        return;
    }
    if (any_failed(c, r->name)) {
        ot_control_apply(c, c->target);
    }
    if (ot_control_loading(c, r->name)) {
        r->next = c->waiting;
        c->waiting = r;
    } else {
        answer_good(r);
    }
}

/* True: it was waiting, and failed. */
static bool end_wait(ot_control *c, ot_repo **at, const ot_entry *e)
{
    ot_repo *r = *at;
    if (e->state == OT_ENTRY_FAILED && r->error.len == 0) {
        ot_str_adds(&r->error, e->error);
    }
    if (ot_control_loading(c, r->name)) {
        return false; /* another version of it */
    }
    *at = r->next;
    if (r->error.len == 0) {
        answer_good(r);
        return false;
    }
    r->status = 400;
    answer(r);
    return true;
}

void ot_repo_settled(ot_control *c, const ot_entry *e)
{
    bool failed = false;
    if (c->folders != NULL) {
        ot_folders_settled(c->folders, e);
    }
    for (ot_repo **at = &c->waiting; *at != NULL;) {
        ot_repo *r = *at;
        if (strcmp(r->name, e->deployment) == 0) {
            failed |= end_wait(c, at, e);
        }
        at = *at == r ? &r->next : at;
    }
    if (failed && c->folders != NULL) {
        ot_folders_give_up(c->folders, e->deployment);
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
    } else if (c->folders == NULL) {
        run_managed(c, r);
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
