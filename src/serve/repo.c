/* The model repository: index, load, unload. A worker hands the request to the control thread; the
 * answer goes back when the load has ended one way or the other. */
#include "serve/repo.h"

#include "base/clock.h"
#include "serve/folders.h"

#include <stdio.h>
#include <string.h>

/* ---- back on the worker */

static void on_answer(void *arg)
{
    ot_repo *r = arg;
    ot_repo_answer a = {.status = r->status,
                        .retry_s = r->status == 429 || r->status == 503,
                        .error = r->status == 200 ? NULL : r->error.data,
                        .rows = r->rows,
                        .n_rows = r->n_rows};
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

void ot_repo_answer_good(ot_repo *r)
{
    r->status = 200;
    answer(r);
}

void ot_repo_answer_error(ot_repo *r, int status, const char *message)
{
    r->status = status;
    ot_str_clear(&r->error);
    ot_str_adds(&r->error, message);
    answer(r);
}

static void answer_rc(ot_repo *r, const ot_error *err)
{
    ot_repo_answer_error(r, ot_rc_http(err->rc), err->msg);
}

/* ---- index */

static void add_row(void *arg, const char *name, uint64_t version, const char *state,
                    const char *reason)
{
    ot_repo *r = arg;
    if (!ot_grow(&r->rows, &r->cap_rows, r->n_rows, sizeof *r->rows, 0)) {
        r->error.failed = true;
        return;
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
    ot_repo_answer_good(r);
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

const char *ot_repo_failure(const ot_control *c, const char *name)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        const ot_entry *e = c->entries[i];
        if (e->wanted && e->state == OT_ENTRY_FAILED && strcmp(e->deployment, name) == 0) {
            return e->error;
        }
    }
    return NULL;
}

void ot_repo_wait_loaded(ot_control *c, ot_repo *r)
{
    if (ot_control_loading(c, r->name)) {
        r->next = c->waiting;
        c->waiting = r;
        return;
    }
    const char *why = ot_repo_failure(c, r->name);
    ot_repo_unwait(r);
    if (why != NULL) {
        ot_repo_answer_error(r, 400, why);
    } else {
        ot_repo_answer_good(r); /* it is served as it is */
    }
}

static void run_load(ot_control *c, ot_repo *r)
{
    ot_error err;
    if (ot_folders_load(c->folders, r->name, &err) != OT_OK) {
        answer_rc(r, &err);
    } else {
        ot_repo_wait_loaded(c, r);
    }
}

static void run_unload(ot_control *c, ot_repo *r)
{
    ot_error err;
    if (ot_folders_unload(c->folders, r->name, &err) != OT_OK) {
        answer_rc(r, &err);
    } else {
        ot_repo_answer_good(r);
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
    ot_repo_unwait(r);
    if (r->error.len == 0) {
        ot_repo_answer_good(r);
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

static void give_up(ot_repo **list)
{
    while (*list != NULL) {
        ot_repo *r = *list;
        *list = r->next;
        ot_repo_unwait(r);
        ot_repo_answer_error(r, 503, "the server is going down");
    }
}

void ot_repo_give_up(ot_control *c)
{
    give_up(&c->waiting);
    give_up(&c->asked);
}

/* ---- from the worker */

static void on_ask(void *arg)
{
    ot_repo *r = arg;
    ot_control *c = r->worker->serve->control;
    if (c->draining) {
        ot_repo_answer_error(r, 503, "the server is going down");
    } else if (r->op == OT_REPO_INDEX) {
        run_index(c, r);
    } else if (c->folders == NULL) {
        ot_repo_managed(c, r);
    } else if (r->op == OT_REPO_LOAD) {
        run_load(c, r);
    } else {
        run_unload(c, r);
    }
}

static void refuse(ot_worker *w, ot_http_req *req, ot_repo_fn *reply, int status, const char *why)
{
    reply(w, req, &(ot_repo_answer){.status = status, .retry_s = status == 503, .error = why});
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
    ot_client *client = NULL;
    ot_denial why;
    bool may = op == OT_REPO_INDEX ||
               (ot_access_manage(route->access, req, route->manage, name, n, &client, &why) &&
                (client != NULL || ot_worker_guest(w, req, &why)));
    if (client != NULL) {
        ot_worker_note_client(req, client);
    }
    if (!may) {
        reply(
            w, req,
            &(ot_repo_answer){.status = why.status, .retry_s = why.retry_s, .error = why.err.msg});
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
    if (client != NULL) {
        memcpy(r->key, client->key.id, sizeof r->key);
    }
    ot_sock_peer_text(req->fd, r->from);
    ot_str_init(&r->error);
    if (ot_loop_post(w->serve->loop, on_ask, r) != OT_OK) {
        ot_free(r);
        refuse(w, req, reply, 503, "the control thread is busy: try again");
    }
}
