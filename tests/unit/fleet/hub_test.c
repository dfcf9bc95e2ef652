#include "fleet/hub.h"

#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"
#include "net/frame.h"
#include "tap.h"

#include <stdlib.h>
#include <unistd.h>

/* What the owner of the hub saw, and what it answers. */
static struct owner {
    ot_rc push_rc;
    int pushes, observed, asked, connected, lost;
    char last[256];
} owner;

/* What the agent received. */
static struct agent {
    int desired, acks, closed, hellos;
    char last[256], hello[512];
} agent;

static ot_loop *loop;
static char dir[] = "/tmp/hub_test_XXXXXX";

static ot_rc on_push(void *self, const char *json, size_t n, const void *bin, size_t bin_n,
                     ot_error *err)
{
    (void)self;
    owner.pushes++;
    snprintf(owner.last, sizeof owner.last, "%.*s|%.*s", (int)n, json, (int)bin_n,
             (const char *)bin);
    return owner.push_rc == OT_OK ? OT_OK : ot_fail(err, owner.push_rc, "as the test says");
}

static void on_observed(void *self, const char *id, const char *json, size_t n)
{
    (void)self;
    owner.observed++;
    snprintf(owner.last, sizeof owner.last, "%s %.*s", id, (int)n, json);
}

static void on_connected(void *self, const char *id, bool is)
{
    (void)self;
    (void)id;
    owner.connected += is;
    owner.lost += !is;
}

static void on_asked(void *self, const char *id, const char *json, size_t n, ot_str *out)
{
    (void)self;
    owner.asked++;
    snprintf(owner.last, sizeof owner.last, "%s %.*s", id, (int)n, json);
    ot_str_adds(out, "\"revision\":7");
}

static ot_rc on_desired(void *self, ot_str *out, ot_error *err)
{
    (void)self;
    (void)err;
    ot_str_adds(out, "{\"revision\":7}");
    return OT_OK;
}

static void got_frame(void *arg, ot_frame_conn *c, const ot_frame *f)
{
    (void)arg;
    (void)c;
    agent.desired += f->type == OT_AGENT_DESIRED;
    agent.acks += f->type == OT_AGENT_ACK;
    if (f->type == OT_AGENT_HELLO) {
        agent.hellos++;
        snprintf(agent.hello, sizeof agent.hello, "%.*s", (int)f->json_len, f->json);
        return;
    }
    snprintf(agent.last, sizeof agent.last, "%.*s", (int)f->json_len, f->json);
}

static void got_close(void *arg, ot_frame_conn *c, const ot_error *err)
{
    (void)arg;
    (void)c;
    (void)err;
    agent.closed++;
}

static const ot_frame_ops agent_ops = {.on_frame = got_frame, .on_close = got_close};

static void turns(void)
{
    for (int i = 0; i < 20; i++) {
        if (ot_loop_turn(loop, 2, NULL) != OT_OK) {
            return;
        }
    }
}

static ot_frame_conn *dial(const ot_addr *a)
{
    int fd;
    ot_frame_conn *c = NULL;
    memset(&agent, 0, sizeof agent);
    ok(ot_sock_connect_start(a, &fd, NULL) == OT_OK &&
           ot_frame_conn_create(loop, fd, NULL, &agent_ops, NULL, &c, NULL) == OT_OK,
       "an agent connects");
    return c;
}

static void say(ot_frame_conn *c, uint32_t type, const char *json, const char *bin)
{
    ok(ot_frame_send(c, type, json, strlen(json), bin, strlen(bin), NULL) == OT_OK, "sent: %s",
       json);
    turns();
}

#define HELLO "{\"protocol\":1,\"id\":\"replica-0\",\"kind\":\"replica\",\"pid\":5}"
#define PUSH "{\"stream\":\"sample\",\"seq\":12,\"incarnation\":\"00000000000000ff\"}"

static void test_talk(ot_hub *hub, const ot_addr *a)
{
    ot_frame_conn *c = dial(a);
    say(c, OT_AGENT_HELLO, HELLO, "");
    is_int(owner.connected, 1, "the owner is told");
    is_int(agent.desired, 1, "hello is answered with the desired state");
    is_str(agent.last, "{\"revision\":7}", "as the owner has it");
    is_str(agent.hello, "{\"protocol\":1}", "the hub says what it speaks");
    ot_hub_desired_changed(hub);
    turns();
    is_int(agent.desired, 2, "a change is sent");
    say(c, OT_AGENT_OBSERVED, "{\"revision\":7}", "");
    is_str(owner.last, "replica-0 {\"revision\":7}", "what is observed comes with the agent's id");
    say(c, OT_AGENT_ASK, "{\"seq\":3,\"verb\":\"load\"}", "");
    is_str(owner.last, "replica-0 {\"seq\":3,\"verb\":\"load\"}", "what it asks is the owner's");
    is_str(agent.last, "{\"seq\":3,\"revision\":7}", "and so is the answer");
    is_int(owner.asked, 1, "once");
    say(c, OT_AGENT_PUSH, PUSH, "rows");
    is_str(owner.last, PUSH "|rows", "a push arrives with both parts");
    is_str(agent.last, PUSH, "and is acknowledged by stream, seq and incarnation");
    owner.push_rc = OT_INVALID;
    say(c, OT_AGENT_PUSH, PUSH, "bad");
    is_int(agent.acks, 2, "a push that never will be right does not block the next");
    say(c, 99, "{}", "");
    is_int(agent.closed, 0, "a frame of a newer agent is passed over");
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ot_hub_json(hub, &json);
    ok(strstr(json.data, "\"id\": \"replica-0\"") || strstr(json.data, "\"id\":\"replica-0\""),
       "the hub lists it: %s", json.data);
    owner.push_rc = OT_UNAVAILABLE;
    say(c, OT_AGENT_PUSH, PUSH, "later");
    is_int(agent.acks, 2, "what is not durable is not acknowledged");
    is_int(agent.closed, 1, "the agent is cut off and sends it again");
    is_int(owner.lost, 1, "the owner is told that it is gone");
    ot_frame_conn_destroy(c);
    owner.push_rc = OT_OK;
}

static void test_strangers(const ot_addr *a)
{
    int pushes = owner.pushes;
    ot_frame_conn *c = dial(a);
    say(c, OT_AGENT_PUSH, PUSH, "");
    is_int(agent.closed, 1, "who does not say hello is not heard");
    is_int(owner.pushes, pushes, "the owner saw nothing");
    ot_frame_conn_destroy(c);
    static const char *const bad[] = {"{\"protocol\":1,\"id\":\"../x\"}",
                                      "{\"protocol\":0,\"id\":\"a\"}", "{\"id\":\"a\"}", "not json",
                                      "[]"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        c = dial(a);
        say(c, OT_AGENT_HELLO, bad[i], "");
        is_int(agent.closed, 1, "refused");
        is_int(agent.desired, 0, "and told nothing");
        ot_frame_conn_destroy(c);
    }
    is_int(owner.connected, 1, "none of them was announced");
}

/* A replica that was started again before its last connection has ended here. */
static void test_namesake(ot_hub *hub, const ot_addr *a)
{
    struct owner before = owner;
    ot_frame_conn *old = dial(a);
    say(old, OT_AGENT_HELLO, HELLO, "");
    ot_frame_conn *new = dial(a);
    say(new, OT_AGENT_HELLO, HELLO, "");
    is_int(agent.closed, 1, "the old connection is closed");
    is_int((long long)ot_hub_agents(hub), 1, "one replica is here");
    is_int(owner.connected - before.connected, 2, "announced twice");
    is_int(owner.lost - before.lost, 1, "and lost once, before it came again");
    say(new, OT_AGENT_PUSH, PUSH, "rows");
    is_int(agent.acks, 1, "the new one is heard");
    ot_frame_conn_destroy(old);
    ot_frame_conn_destroy(new);
    turns();
    is_int((long long)ot_hub_agents(hub), 0, "none is here");
}

#define HELLO_OF(incarnation)                                                                      \
    "{\"protocol\":1,\"id\":\"replica-0\",\"kind\":\"replica\",\"incarnation\":\"" incarnation "\"}"

/* In an upgrade a second process has the id before the first has handed in its last. */
static void test_successor(ot_hub *hub, const ot_addr *a)
{
    struct owner before = owner;
    ot_frame_conn *old = dial(a);
    say(old, OT_AGENT_HELLO, HELLO_OF("00000000000000aa"), "");
    say(old, OT_AGENT_OBSERVED, "{\"of\":\"old\"}", "");
    ot_frame_conn *new = dial(a);
    say(new, OT_AGENT_HELLO, HELLO_OF("00000000000000bb"), "");
    is_int(agent.closed, 0, "the old one stays");
    is_int((long long)ot_hub_agents(hub), 1, "one speaks for the id");
    is_str(ot_hub_incarnation(hub, "replica-0"), "00000000000000bb", "the new one");
    is_int(owner.lost - before.lost, 0, "nothing was lost");
    say(new, OT_AGENT_OBSERVED, "{\"of\":\"new\"}", "");
    say(old, OT_AGENT_OBSERVED, "{\"of\":\"old again\"}", "");
    is_str(owner.last, "replica-0 {\"of\":\"new\"}",
           "what the old one observes says nothing any more");
    say(old, OT_AGENT_PUSH, PUSH, "rows");
    is_str(owner.last, PUSH "|rows", "what it pushes is taken");
    agent.desired = 0;
    ot_hub_desired_changed(hub);
    turns();
    is_int(agent.desired, 1, "a change goes to the new one");
    ot_frame_conn_destroy(new);
    turns();
    is_int(owner.lost - before.lost, 0, "the new one ends: the old one is there");
    is_str(owner.last, "replica-0 {\"of\":\"old again\"}", "and counts again");
    is_int(agent.desired, 2, "and hears what is desired by now");
    is_str(ot_hub_incarnation(hub, "replica-0"), "00000000000000aa", "it speaks for the id");
    new = dial(a);
    say(new, OT_AGENT_HELLO, HELLO_OF("00000000000000cc"), "");
    ot_frame_conn_destroy(old);
    turns();
    is_int(owner.lost - before.lost, 0, "the old one ends: nobody misses it");
    ot_frame_conn *third = dial(a);
    say(third, OT_AGENT_HELLO, HELLO_OF("00000000000000dd"), "");
    ot_frame_conn *fourth = dial(a);
    say(fourth, OT_AGENT_HELLO, HELLO_OF("00000000000000ee"), "");
    is_int(agent.closed, 1, "of three the oldest is closed");
    ot_frame_conn_destroy(new);
    ot_frame_conn_destroy(third);
    ot_frame_conn_destroy(fourth);
    turns();
    is_int(owner.lost - before.lost, 1, "the last one is missed");
    is_int((long long)ot_hub_agents(hub), 0, "none is here");
}

static void test_protocols(ot_hub *hub, const ot_addr *a)
{
    struct owner before = owner;
    ot_frame_conn *c = dial(a);
    say(c, OT_AGENT_HELLO, "{\"protocol\":2,\"id\":\"replica-0\",\"new\":{\"x\":1}}", "");
    is_int(agent.desired, 1, "the next version is taken, with what is not known");
    ot_frame_conn_destroy(c);
    turns();
    c = dial(a);
    say(c, OT_AGENT_HELLO, "{\"protocol\":3,\"id\":\"replica-0\",\"version\":\"7.0\"}", "");
    is_int(agent.desired, 0, "the one after it is not");
    ok(strstr(agent.hello, "\"refused\"") != NULL &&
           strstr(agent.hello, "(version 7.0) speaks protocol 3") != NULL,
       "and learns why: %s", agent.hello);
    is_int((long long)ot_hub_agents(hub), 0, "it is not here");
    say(c, OT_AGENT_PUSH, PUSH, "rows");
    is_int(agent.closed, 1, "and not heard");
    is_int(owner.pushes - before.pushes, 0, "by nobody");
    ot_frame_conn_destroy(c);
    turns();
}

int main(void)
{
    ot_addr a = {.is_unix = true};
    int fd = -1;
    ot_hub *hub = NULL;
    ot_error err = {0};
    const ot_hub_ops ops = {.push = on_push,
                            .observed = on_observed,
                            .asked = on_asked,
                            .connected = on_connected,
                            .desired = on_desired};
    if (mkdtemp(dir) == NULL || ot_loop_create(0, &loop, &err) != OT_OK) {
        ok(false, "set-up: %s", err.msg);
        return tap_done();
    }
    snprintf(a.host, sizeof a.host, "%s/sock", dir);
    ok(ot_sock_listen(&a, 8, &fd, &err) == OT_OK &&
           ot_hub_create(loop, fd, &ops, &hub, &err) == OT_OK,
       "a hub listens: %s", err.msg);
    if (hub != NULL) {
        test_talk(hub, &a);
        test_strangers(&a);
        test_namesake(hub, &a);
        test_successor(hub, &a);
        test_protocols(hub, &a);
        ot_frame_conn *c = dial(&a);
        say(c, OT_AGENT_HELLO, HELLO, "");
        int lost = owner.lost;
        ot_hub_destroy(hub);
        turns();
        is_int(owner.lost, lost, "a hub that goes announces no losses");
        is_int(agent.closed, 1, "and closes its agents");
        ot_frame_conn_destroy(c);
    }
    ot_loop_destroy(loop);
    ot_fd_close(&fd);
    ok(ot_disk_remove_tree(ot_disk_posix(), dir, &err) == OT_OK, "clean up");
    return tap_done();
}
