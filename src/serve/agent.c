/* The agent: the replica's end of the agent protocol (docs/architecture.md). Connects, says hello,
 * follows the desired state, pushes the spool. When the control plane is gone the replica serves on
 * and the agent comes back with a growing pause. */
#include "serve/control.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/sock.h"
#include "net/frame.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#define PROTOCOL 1
#define PAUSE_MIN_US 50000
#define PAUSE_MAX_US 5000000
#define GREET_US 2000000       /* for the control plane to speak, before it counts as gone */
#define FLIGHT_MAX (24u << 20) /* bytes handed to a connection before more of the spool is read */

enum {
    FRAME_HELLO = 1,
    FRAME_DESIRED = 2,
    FRAME_OBSERVED = 3,
    FRAME_PUSH = 4,
    FRAME_ACK = 5,
    FRAME_ASK = 6,
    FRAME_ANSWER = 7
};

struct ot_agent {
    ot_control *control;
    ot_addr addr;
    char id[OT_SERVE_NAME];
    char desired_path[OT_PATH_MAX];
    ot_frame_conn *conn;
    bool agreed;  /* the control plane has spoken on this connection */
    bool settled; /* it has spoken, or is not there: see ot_agent_settled */
    ot_timer greet_timer;
    int64_t pause_us;
    ot_timer timer;
    ot_rng rng;
    ot_str last_observed; /* what was sent last on this connection */
};

static void connect_now(void *arg);

static void settle(ot_agent *a)
{
    if (!a->settled) {
        a->settled = true;
        ot_loop_timer_cancel(a->control->serve->loop, &a->greet_timer);
        ot_open_try(a->control);
    }
}

static void on_silence(void *arg)
{
    ot_warn("agent", "the control plane does not speak; serving without it");
    settle(arg);
}

static void try_later(ot_agent *a)
{
    settle(a);
    /* Half of it by chance, so that replicas do not come back all at once. */
    double us = (double)a->pause_us * (0.5 + ot_rng_uniform(&a->rng) / 2);
    a->pause_us = OT_MIN(a->pause_us * 2, PAUSE_MAX_US);
    ot_loop_timer_set(a->control->serve->loop, &a->timer, ot_clock_mono_ns() + (uint64_t)us * 1000,
                      connect_now, a);
}

static bool send_json(ot_agent *a, uint32_t type, const ot_str *json)
{
    ot_error err;
    ot_rc rc = json->failed ? ot_fail(&err, OT_EXHAUSTED, "out of memory")
                            : ot_frame_send(a->conn, type, json->data, json->len, NULL, 0, &err);
    if (rc != OT_OK && rc != OT_UNAVAILABLE) { /* that it is closed is told once: on_close */
        ot_warn("agent", "frame %u not sent: %s", type, err.msg);
    }
    return rc == OT_OK;
}

/* ---- pushes */

void ot_agent_pump(ot_agent *a)
{
    if (a->conn == NULL || !a->agreed) {
        return;
    }
    ot_spool *spool = a->control->serve->spool;
    for (ot_stream s = OT_STREAM_WINDOW; s < OT_STREAMS; s++) {
        ot_spooled p;
        ot_error err;
        while (ot_frame_conn_queued(a->conn) < FLIGHT_MAX &&
               ot_spool_next(spool, s, &p, &err) == OT_OK) {
            ot_rc rc =
                ot_frame_send(a->conn, FRAME_PUSH, p.json, p.json_len, p.bin, p.bin_len, &err);
            ot_str_done(&p.bytes);
            if (rc != OT_OK) {
                ot_info("agent", "push: %s; it is sent again on the next connection", err.msg);
                return;
            }
        }
    }
}

static void take_ack(ot_agent *a, const json_t *j)
{
    const char *stream = json_string_value(json_object_get(j, "stream"));
    const char *hex = json_string_value(json_object_get(j, "incarnation"));
    json_int_t seq = json_integer_value(json_object_get(j, "seq"));
    uint64_t incarnation = 0;
    uint8_t b[8];
    if (hex != NULL && strlen(hex) == 16 && ot_unhex(hex, 8, b)) {
        for (size_t i = 0; i < 8; i++) {
            incarnation = incarnation << 8 | b[i];
        }
    }
    for (ot_stream s = OT_STREAM_WINDOW; s < OT_STREAMS && stream != NULL && seq > 0; s++) {
        if (strcmp(stream, ot_stream_name(s)) == 0) {
            ot_spool_ack(a->control->serve->spool, s, incarnation, (uint64_t)seq);
            ot_agent_pump(a);
            return;
        }
    }
    ot_warn("agent", "an acknowledgement of nothing that is known was ignored");
}

/* ---- desired and observed */

static void take_desired(ot_agent *a, const ot_frame *f)
{
    ot_target *t;
    ot_error err;
    a->agreed = true;
    if (ot_target_parse(f->json, f->json_len, &t, &err) != OT_OK) {
        ot_err("agent", "refused: %s", err.msg);
        return;
    }
    ot_info("agent", "desired state: revision %" PRIu64 ", %zu deployments", t->revision,
            t->n_deployments);
    /* First to disk: after a restart the replica serves what it was last told. */
    if (ot_disk_write_atomic(a->control->serve->disk, a->desired_path, f->json, f->json_len, 0600,
                             &err) != OT_OK) {
        ot_warn("agent", "desired state not kept: %s", err.msg);
    }
    ot_control_apply(a->control, t);
    settle(a);
    ot_agent_pump(a);
}

/* The hub's own hello: false when we can't work with it. Hubs of protocol 1 may send none. */
static bool take_hello(const ot_frame *f)
{
    json_t *j = json_loadb(f->json, f->json_len, 0, NULL);
    json_int_t protocol = json_integer_value(json_object_get(j, "protocol"));
    const char *refused = json_string_value(json_object_get(j, "refused"));
    bool fine = refused == NULL && protocol >= PROTOCOL - 1 && protocol <= PROTOCOL + 1;
    if (!fine && refused != NULL) {
        ot_err("agent", "the control plane refuses this replica: %s", refused);
    } else if (!fine) {
        ot_err("agent",
               "the control plane speaks protocol %" JSON_INTEGER_FORMAT " and this replica (%s) "
               "protocol %d; they may differ by one: upgrade the older one step by step",
               protocol, OT_SERVE_VERSION, PROTOCOL);
    }
    json_decref(j);
    return fine;
}

void ot_agent_observe(ot_agent *a)
{
    if (a->conn == NULL || !a->agreed) {
        return;
    }
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ot_control_observed(a->control, &json);
    if (json.len == a->last_observed.len &&
        memcmp(json.data, a->last_observed.data, json.len) == 0) {
        return;
    }
    if (send_json(a, FRAME_OBSERVED, &json)) {
        ot_str_clear(&a->last_observed);
        ot_str_add(&a->last_observed, json.data, json.len);
    }
}

/* ---- requests */

bool ot_agent_ask(ot_agent *a, const char *json)
{
    ot_error err;
    return ot_frame_send(a->conn, FRAME_ASK, json, strlen(json), NULL, 0, &err) == OT_OK;
}

static void take_answer(ot_agent *a, const json_t *j)
{
    json_int_t code = json_integer_value(json_object_get(j, "code"));
    const char *why = json_string_value(json_object_get(j, "error"));
    ot_repo_answered(a->control, (uint64_t)json_integer_value(json_object_get(j, "seq")),
                     code == 0               ? OT_OK
                     : code > 0 && code < 17 ? (ot_rc)-code
                                             : OT_INTERNAL,
                     why != NULL ? why : "the control plane refuses",
                     (uint64_t)json_integer_value(json_object_get(j, "revision")));
}

/* ---- the connection */

static void drop_connection(ot_agent *a)
{
    ot_frame_conn_destroy(a->conn);
    a->conn = NULL;
    a->agreed = false;
    ot_spool_rewind(a->control->serve->spool);
    ot_repo_unanswered(a->control);
}

static void on_frame(void *arg, ot_frame_conn *c, const ot_frame *f)
{
    ot_agent *a = arg;
    (void)c;
    if (f->type == FRAME_HELLO && !take_hello(f)) {
        drop_connection(a);
        a->pause_us = PAUSE_MAX_US;
        if (!a->control->draining) {
            try_later(a);
        }
        return;
    }
    if (f->type == FRAME_DESIRED) {
        a->pause_us = PAUSE_MIN_US;
        take_desired(a, f);
        return;
    }
    if (f->type != FRAME_ACK && f->type != FRAME_ANSWER) {
        return; /* of a later version of the protocol */
    }
    json_t *j = json_loadb(f->json, f->json_len, 0, NULL);
    if (f->type == FRAME_ACK) {
        take_ack(a, j);
    } else {
        take_answer(a, j);
    }
    json_decref(j);
}

static void on_close(void *arg, ot_frame_conn *c, const ot_error *err)
{
    ot_agent *a = arg;
    (void)c;
    if (a->agreed) {
        ot_warn("agent", "the control plane is gone (%s); serving on", err->msg);
    }
    drop_connection(a);
    if (!a->control->draining) {
        try_later(a);
    }
}

static void on_drain(void *arg, ot_frame_conn *c)
{
    (void)c;
    ot_agent_pump(arg);
}

static const ot_frame_ops ops = {on_frame, on_close, on_drain};

static bool say_hello(ot_agent *a)
{
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ot_str_addf(&json,
                "{\"protocol\":%d,\"id\":\"%s\",\"kind\":\"replica\",\"incarnation\":\"%016" PRIx64
                "\",\"version\":\"%s\",\"pid\":%ld}",
                PROTOCOL, a->id, a->control->serve->incarnation, OT_SERVE_VERSION, (long)getpid());
    return send_json(a, FRAME_HELLO, &json);
}

static void connect_now(void *arg)
{
    ot_agent *a = arg;
    int fd = -1;
    ot_error err;
    ot_rc rc = ot_sock_connect_start(&a->addr, &fd, &err);
    if (rc == OT_OK) {
        rc = ot_frame_conn_create(a->control->serve->loop, fd, NULL, &ops, a, &a->conn, &err);
        if (rc != OT_OK) {
            ot_fd_close(&fd);
        }
    }
    if (rc != OT_OK) {
        ot_debug("agent", "%s", err.msg);
        try_later(a);
        return;
    }
    a->agreed = false;
    ot_str_clear(&a->last_observed);
    if (!say_hello(a)) {
        drop_connection(a);
        try_later(a);
    }
}

/* ---- life */

/* What the control plane said last, from before a restart. */
static void recall_desired(ot_agent *a)
{
    ot_disk *disk = a->control->serve->disk;
    if (!ot_disk_exists(disk, a->desired_path)) {
        return;
    }
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ot_error err;
    ot_target *t;
    if (ot_disk_read_all(disk, a->desired_path, OT_TARGET_JSON_MAX, &json, &err) != OT_OK ||
        ot_target_parse(json.data, json.len, &t, &err) != OT_OK) {
        ot_warn("agent", "the kept desired state is of no use: %s", err.msg);
        return;
    }
    ot_info("agent", "serving what revision %" PRIu64 " said, until the control plane speaks",
            t->revision);
    ot_control_apply(a->control, t);
}

ot_rc ot_agent_create(ot_control *c, ot_agent **a_out, ot_error *err)
{
    ot_agent *a = ot_calloc(1, sizeof *a);
    if (a == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "agent: out of memory");
    }
    a->control = c;
    a->pause_us = PAUSE_MIN_US;
    uint64_t seed;
    ot_random_bytes(&seed, sizeof seed);
    ot_rng_seed(&a->rng, seed);
    ot_str_init(&a->last_observed);
    const ot_serve_options *o = &c->serve->o;
    ot_rc rc = ot_addr_parse(o->agent, &a->addr, err);
    if (rc == OT_OK && !ot_name_ok(o->id)) {
        rc = ot_fail(err, OT_INVALID, "replica id '%.80s' is not a name", o->id);
    }
    if (rc == OT_OK) {
        memcpy(a->id, o->id, strlen(o->id) + 1);
        rc = ot_path_join(a->desired_path, o->data, "replica/desired.json", err);
    }
    if (rc != OT_OK) {
        ot_agent_destroy(a);
        return rc;
    }
    *a_out = a;
    return OT_OK;
}

void ot_agent_start(ot_agent *a)
{
    recall_desired(a);
    ot_loop_timer_set(a->control->serve->loop, &a->greet_timer,
                      ot_clock_mono_ns() + GREET_US * UINT64_C(1000), on_silence, a);
    connect_now(a);
}

void ot_agent_destroy(ot_agent *a)
{
    if (a == NULL) {
        return;
    }
    ot_loop_timer_cancel(a->control->serve->loop, &a->timer);
    ot_loop_timer_cancel(a->control->serve->loop, &a->greet_timer);
    ot_frame_conn_destroy(a->conn);
    ot_str_done(&a->last_observed);
    ot_free(a);
}

bool ot_agent_settled(const ot_agent *a)
{
    return a->settled;
}

bool ot_agent_connected(const ot_agent *a)
{
    return a->conn != NULL && a->agreed;
}
