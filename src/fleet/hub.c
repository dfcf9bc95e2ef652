#include "fleet/hub.h"

#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "net/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct agent {
    ot_hub *hub;
    ot_frame_conn *conn;
    bool greeted, refused;
    bool leaving; /* another process has come under its id */
    char id[65], kind[33], incarnation[33], version[33];
    int64_t pid;
    char *observed; /* the last report, JSON */
} agent;

struct ot_hub {
    ot_loop *loop;
    ot_hub_ops ops;
    ot_watch watch;
    agent *agents[OT_HUB_AGENTS_MAX];
    size_t n_agents;
};

static agent *find(const ot_hub *h, const char *id, bool leaving)
{
    for (size_t i = 0; i < h->n_agents; i++) {
        agent *a = h->agents[i];
        if (a->greeted && a->leaving == leaving && strcmp(a->id, id) == 0) {
            return a;
        }
    }
    return NULL;
}

static void send_desired(agent *a)
{
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ot_error err = {0};
    ot_rc rc = a->hub->ops.desired(a->hub->ops.self, &json, &err);
    if (rc == OT_OK) {
        rc = ot_frame_send(a->conn, OT_AGENT_DESIRED, json.data, json.len, NULL, 0, &err);
        if (rc == OT_UNAVAILABLE) {
            return; /* it has gone: its end shows next */
        }
    }
    if (rc != OT_OK) {
        ot_warn("hub", "agent %s: desired state not sent: %s", a->id, err.msg);
    }
}

static void agent_drop(agent *a)
{
    ot_hub *h = a->hub;
    for (size_t i = 0; i < h->n_agents; i++) {
        if (h->agents[i] == a) {
            h->agents[i] = h->agents[--h->n_agents];
            break;
        }
    }
    ot_frame_conn_destroy(a->conn);
    bool tell = a->greeted && !a->leaving;
    agent *other = tell ? find(h, a->id, true) : NULL;
    char id[65];
    memcpy(id, a->id, sizeof id);
    ot_free(a->observed);
    ot_free(a);
    if (other != NULL) { /* the new one did not come to work: the other speaks for it again */
        other->leaving = false;
        send_desired(other);
        if (other->observed != NULL) {
            h->ops.observed(h->ops.self, id, other->observed, strlen(other->observed));
        }
    } else if (tell) {
        h->ops.connected(h->ops.self, id, false);
    }
}

static void copy_text(char *out, size_t size, const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    snprintf(out, size, "%s", s != NULL ? s : "");
}

/* A replica that was started again may be here before the end of its last connection has shown; one
 * that is to replace another comes while that one still is. At most one is on its way out. */
static void make_way(const agent *a)
{
    agent *other = find(a->hub, a->id, false), *leaving = find(a->hub, a->id, true);
    if (other == NULL) {
        return;
    }
    ot_info("hub", "agent %s came again (process %" PRId64 " after %" PRId64 ")", a->id, a->pid,
            other->pid);
    if (leaving != NULL) {
        agent_drop(leaving);
    }
    if (strcmp(other->incarnation, a->incarnation) == 0) {
        agent_drop(other);
    } else {
        other->leaving = true;
    }
}

static bool say_hello(agent *a, const char *refused)
{
    json_t *j = json_pack("{s:i,s:s*}", "protocol", OT_AGENT_PROTOCOL, "refused", refused);
    char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    bool sent = text != NULL &&
                ot_frame_send(a->conn, OT_AGENT_HELLO, text, strlen(text), NULL, 0, NULL) == OT_OK;
    free(text);
    return sent;
}

/* It learns why, and closes. */
static bool refuse(agent *a, int64_t protocol)
{
    char why[256];
    snprintf(why, sizeof why,
             "the agent %s (version %s) speaks protocol %" PRId64
             " and the control plane protocol %d; they may differ by one: upgrade the older one "
             "step by step",
             a->id, a->version, protocol, OT_AGENT_PROTOCOL);
    ot_warn("hub", "refused: %s", why);
    a->refused = true;
    return say_hello(a, why);
}

/* False: the connection is of no use. */
static bool hello(agent *a, const ot_frame *f)
{
    json_t *j = json_loadb(f->json, f->json_len, 0, NULL);
    int64_t protocol = json_integer_value(json_object_get(j, "protocol"));
    copy_text(a->id, sizeof a->id, j, "id");
    copy_text(a->kind, sizeof a->kind, j, "kind");
    copy_text(a->incarnation, sizeof a->incarnation, j, "incarnation");
    copy_text(a->version, sizeof a->version, j, "version");
    a->pid = json_integer_value(json_object_get(j, "pid"));
    json_decref(j);
    if (protocol < 1 || !ot_name_ok(a->id)) {
        ot_warn("hub", "an agent said hello with protocol %" PRId64 " and id '%s'; refused",
                protocol, a->id);
        return false;
    }
    if (protocol > OT_AGENT_PROTOCOL + 1 || protocol < OT_AGENT_PROTOCOL - 1) {
        return refuse(a, protocol);
    }
    make_way(a);
    if (!say_hello(a, NULL)) {
        return false;
    }
    a->greeted = true;
    a->hub->ops.connected(a->hub->ops.self, a->id, true);
    send_desired(a);
    return true;
}

static bool ack(agent *a, const json_t *j, ot_error *err)
{
    json_t *reply =
        json_pack("{s:O?,s:O?,s:O?}", "stream", json_object_get(j, "stream"), "seq",
                  json_object_get(j, "seq"), "incarnation", json_object_get(j, "incarnation"));
    char *text = reply != NULL ? json_dumps(reply, JSON_COMPACT) : NULL;
    json_decref(reply);
    bool sent = text != NULL &&
                ot_frame_send(a->conn, OT_AGENT_ACK, text, strlen(text), NULL, 0, err) == OT_OK;
    free(text);
    return sent;
}

static bool push(agent *a, const ot_frame *f)
{
    ot_error err = {0};
    ot_rc rc = a->hub->ops.push(a->hub->ops.self, f->json, f->json_len, f->bin, f->bin_len, &err);
    if (rc == OT_INVALID || rc == OT_NOT_FOUND) {
        ot_warn("hub", "agent %s: push dropped: %s", a->id, err.msg);
    } else if (rc != OT_OK) {
        ot_err("hub", "agent %s: push not taken: %s", a->id, err.msg);
        return false;
    }
    json_t *j = json_loadb(f->json, f->json_len, 0, NULL);
    bool fine = j != NULL && ack(a, j, &err);
    json_decref(j);
    return fine;
}

static void observed(agent *a, const ot_frame *f)
{
    char *copy = ot_strndup(f->json, f->json_len);
    if (copy != NULL) {
        ot_free(a->observed);
        a->observed = copy;
    }
    if (!a->leaving) {
        a->hub->ops.observed(a->hub->ops.self, a->id, f->json, f->json_len);
    }
}

/* {"seq": ..., and the rest is the owner's}. */
static bool asked(agent *a, const ot_frame *f)
{
    OT_AUTO(ot_str_done) ot_str answer = OT_STR_INIT;
    json_t *j = json_loadb(f->json, f->json_len, 0, NULL);
    int64_t seq = json_integer_value(json_object_get(j, "seq"));
    json_decref(j);
    ot_str_addf(&answer, "{\"seq\":%" PRId64 ",", seq);
    a->hub->ops.asked(a->hub->ops.self, a->id, f->json, f->json_len, &answer);
    ot_str_addc(&answer, '}');
    return !answer.failed &&
           ot_frame_send(a->conn, OT_AGENT_ANSWER, answer.data, answer.len, NULL, 0, NULL) == OT_OK;
}

static void on_frame(void *arg, ot_frame_conn *c, const ot_frame *f)
{
    (void)c;
    agent *a = arg;
    bool fine = true;
    if (f->type == OT_AGENT_HELLO && !a->greeted && !a->refused) {
        fine = hello(a, f);
    } else if (!a->greeted) {
        fine = false;
    } else if (f->type == OT_AGENT_OBSERVED) {
        observed(a, f);
    } else if (f->type == OT_AGENT_PUSH) {
        fine = push(a, f);
    } else if (f->type == OT_AGENT_ASK) {
        fine = asked(a, f);
    }
    /* Frames of an unknown type come from a newer agent: passed over. */
    if (!fine) {
        agent_drop(a);
    }
}

static void on_close(void *arg, ot_frame_conn *c, const ot_error *err)
{
    (void)c;
    agent *a = arg;
    ot_debug("hub", "agent %s: %s", a->id, err->msg);
    agent_drop(a);
}

static const ot_frame_ops frame_ops = {.on_frame = on_frame, .on_close = on_close};

static bool may_connect(int fd)
{
    uid_t uid;
    return ot_sock_peer_uid(fd, &uid) && (uid == geteuid() || uid == 0);
}

static void accept_one(ot_hub *h, int fd)
{
    ot_error err = {0};
    agent *a = NULL;
    if (!may_connect(fd)) {
        ot_warn("hub", "a connection of another user was refused");
    } else if (h->n_agents == OT_HUB_AGENTS_MAX) {
        ot_warn("hub", "more than %d agents; one was refused", OT_HUB_AGENTS_MAX);
    } else if ((a = ot_calloc(1, sizeof *a)) != NULL) {
        a->hub = h;
        if (ot_frame_conn_create(h->loop, fd, NULL, &frame_ops, a, &a->conn, &err) == OT_OK) {
            h->agents[h->n_agents++] = a;
            return;
        }
        ot_warn("hub", "agent: %s", err.msg);
        ot_free(a);
    }
    ot_fd_close(&fd);
}

static void on_listen(void *arg, unsigned events)
{
    (void)events;
    ot_hub *h = arg;
    for (int i = 0; i < 64; i++) {
        int fd = ot_sock_accept(h->watch.fd);
        if (fd < 0) {
            if (errno != EAGAIN) {
                ot_warn("hub", "accept: %s", strerror(errno));
            }
            return;
        }
        accept_one(h, fd);
    }
}

ot_rc ot_hub_create(ot_loop *loop, int listen_fd, const ot_hub_ops *ops, ot_hub **out,
                    ot_error *err)
{
    ot_hub *h = ot_calloc(1, sizeof *h);
    if (h == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "hub: no memory");
    }
    h->loop = loop;
    h->ops = *ops;
    ot_rc rc = ot_loop_watch(loop, &h->watch, listen_fd, OT_LOOP_READ, on_listen, h, err);
    if (rc != OT_OK) {
        ot_free(h);
        return rc;
    }
    *out = h;
    return OT_OK;
}

void ot_hub_destroy(ot_hub *h)
{
    if (h == NULL) {
        return;
    }
    ot_loop_unwatch(h->loop, &h->watch);
    while (h->n_agents > 0) {
        agent *a = h->agents[h->n_agents - 1];
        a->greeted = false; /* nobody is told: the control plane itself goes */
        agent_drop(a);
    }
    ot_free(h);
}

void ot_hub_desired_changed(ot_hub *h)
{
    for (size_t i = 0; i < h->n_agents; i++) {
        if (h->agents[i]->greeted && !h->agents[i]->leaving) {
            send_desired(h->agents[i]);
        }
    }
}

const char *ot_hub_incarnation(const ot_hub *h, const char *id)
{
    const agent *a = find(h, id, false);
    return a != NULL ? a->incarnation : NULL;
}

size_t ot_hub_agents(const ot_hub *h)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n_agents; i++) {
        n += h->agents[i]->greeted && !h->agents[i]->leaving;
    }
    return n;
}

void ot_hub_json(const ot_hub *h, ot_str *out)
{
    ot_str_addc(out, '[');
    size_t begin = out->len;
    for (size_t i = 0; i < h->n_agents; i++) {
        const agent *a = h->agents[i];
        if (!a->greeted || a->leaving) {
            continue;
        }
        json_t *seen = a->observed != NULL ? json_loads(a->observed, 0, NULL) : NULL;
        json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:I,s:o}", "id", a->id, "kind", a->kind,
                              "incarnation", a->incarnation, "version", a->version, "pid",
                              (json_int_t)a->pid, "observed", seen != NULL ? seen : json_null());
        char *text = j != NULL ? json_dumps(j, JSON_COMPACT) : NULL;
        ot_str_addf(out, "%s%s", out->len > begin ? "," : "", text != NULL ? text : "null");
        free(text);
        json_decref(j);
    }
    ot_str_addc(out, ']');
}
