/* Repository requests of a replica whose models are decided elsewhere: a control plane is asked for
 * them, and the answer waits until what it decided is carried out here. */
#include "serve/repo.h"

#include "base/clock.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASKED_MAX 64                        /* requests that wait for the control plane */
#define ANSWER_NS UINT64_C(10000000000)     /* for it to answer */
#define CARRY_OUT_NS UINT64_C(120000000000) /* and then for the model to be loaded */

/* ---- waiting */

static bool take_out(ot_repo **list, const ot_repo *r)
{
    for (ot_repo **at = list; *at != NULL; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            return true;
        }
    }
    return false;
}

void ot_repo_unwait(ot_repo *r)
{
    ot_loop_timer_cancel(r->worker->serve->loop, &r->timer);
}

static void end(ot_repo *r, int status, const char *message)
{
    ot_repo_unwait(r);
    ot_repo_answer_error(r, status, message);
}

static void on_late(void *arg)
{
    ot_repo *r = arg;
    ot_control *c = r->worker->serve->control;
    char text[OT_SERVE_NAME + 160];
    if (!take_out(&c->asked, r)) {
        (void)take_out(&c->waiting, r);
    }
    snprintf(text, sizeof text,
             r->revision == 0 ? "the control plane has not answered in 10 s; what was asked of it "
                                "for model '%s' may still be done"
                              : "the control plane has agreed, and model '%s' is not %s after 120 "
                                "s; it goes on",
             r->name, r->op == OT_REPO_LOAD ? "loaded" : "unloaded");
    ot_repo_answer_error(r, 504, text);
}

static void wait_at_most(ot_repo *r, uint64_t ns)
{
    ot_loop_timer_set(r->worker->serve->loop, &r->timer, ot_clock_mono_ns() + ns, on_late, r);
}

/* ---- asking */

static bool send(ot_control *c, ot_repo *r)
{
    r->seq = ++c->asked_seq;
    json_t *j = json_pack("{s:I,s:s,s:s,s:s?,s:s}", "seq", (json_int_t)r->seq, "verb",
                          r->op == OT_REPO_LOAD ? "load" : "unload", "deployment", r->name, "key",
                          r->key[0] != '\0' ? r->key : NULL, "from", r->from);
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
    bool sent = text != NULL && ot_agent_ask(c->agent, text);
    free(text);
    json_decref(j);
    return sent;
}

static void ask(ot_control *c, ot_repo *r)
{
    size_t n = 0;
    for (const ot_repo *o = c->asked; o != NULL; o = o->next) {
        n++;
    }
    if (n >= ASKED_MAX) {
        ot_repo_answer_error(r, 429, "too many requests wait for the control plane: try again");
    } else if (!ot_agent_connected(c->agent) || !send(c, r)) {
        ot_repo_answer_error(r, 503,
                             "the control plane, which decides what is loaded, is not there: try "
                             "again");
    } else {
        r->next = c->asked;
        c->asked = r;
        wait_at_most(r, ANSWER_NS);
    }
}

/* A file of deployments or an older control plane, which takes no requests: a load tries again what
 * could not be loaded, and that is all. */
static void by_itself(ot_control *c, ot_repo *r)
{
    bool known = ot_target_find(c->target, r->name) != NULL;
    if (known && r->op == OT_REPO_LOAD) {
        if (ot_repo_failure(c, r->name) != NULL) {
            ot_control_apply(c, c->target);
        }
        ot_repo_wait_loaded(c, r);
        return;
    }
    char text[OT_SERVE_NAME + 200];
    snprintf(text, sizeof text, "model '%s' is %s because %s says so: change it there%s", r->name,
             known ? "served" : "not served",
             c->agent != NULL ? "the control plane" : "the file of --deployments",
             c->agent != NULL ? " (overtake apply, overtake release, overtake rollback)"
                              : " and start again");
    ot_repo_answer_error(r, known ? 409 : 404, text);
}

void ot_repo_managed(ot_control *c, ot_repo *r)
{
    if (c->agent != NULL && c->target->manage != OT_MANAGE_ALONE) {
        ask(c, r);
    } else {
        by_itself(c, r);
    }
}

/* ---- its answer */

/* The replica follows the revision that was agreed to. */
static void carry_out(ot_control *c, ot_repo *r)
{
    if (r->op == OT_REPO_UNLOAD) {
        ot_repo_unwait(r);
        ot_repo_answer_good(r);
    } else if (ot_target_find(c->target, r->name) == NULL) {
        end(r, 409, "it was unloaded again in the meantime");
    } else {
        wait_at_most(r, CARRY_OUT_NS);
        ot_repo_wait_loaded(c, r);
    }
}

void ot_repo_answered(ot_control *c, uint64_t seq, ot_rc rc, const char *why, uint64_t revision)
{
    ot_repo *r = c->asked;
    while (r != NULL && (r->seq != seq || r->revision != 0)) {
        r = r->next;
    }
    if (r == NULL) {
        return; /* it has waited too long */
    }
    if (rc == OT_OK && revision > c->target->revision) {
        r->revision = revision;
        return;
    }
    (void)take_out(&c->asked, r);
    r->revision = revision;
    if (rc == OT_OK) {
        carry_out(c, r);
    } else {
        end(r, ot_rc_http(rc), why);
    }
}

void ot_repo_followed(ot_control *c)
{
    for (ot_repo **at = &c->asked; *at != NULL;) {
        ot_repo *r = *at;
        if (r->revision == 0 || r->revision > c->target->revision) {
            at = &r->next;
        } else {
            *at = r->next;
            carry_out(c, r);
        }
    }
}

void ot_repo_unanswered(ot_control *c)
{
    for (ot_repo **at = &c->asked; *at != NULL;) {
        ot_repo *r = *at;
        if (r->revision != 0) {
            at = &r->next;
        } else {
            *at = r->next;
            end(r, 503,
                "the control plane went away before it answered; what was asked of it may have "
                "been done");
        }
    }
}
