#include "collective/meet.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "collective/auth.h"
#include "collective/meet_wire.h"
#include "tap.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define KEY "the key of this job"
#define PATIENCE_US 30000000 /* a limit against hanging, not a measure */

/* --- what the server tells ------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    int arrived, all_here, events, pulses, waitings, refusals;
    ot_event event;
    ot_pulse pulse;
    char waiting[512], refused[4096];
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_arrived(void *arg, const ot_member *m)
{
    (void)arg, (void)m;
    pthread_mutex_lock(&seen.lock);
    seen.arrived++;
    pthread_mutex_unlock(&seen.lock);
}

static void on_all(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&seen.lock);
    seen.all_here++;
    pthread_mutex_unlock(&seen.lock);
}

static void on_event(void *arg, const ot_event *e)
{
    (void)arg;
    pthread_mutex_lock(&seen.lock);
    seen.events++;
    seen.event = *e;
    pthread_mutex_unlock(&seen.lock);
}

static void on_pulse(void *arg, int32_t rank, const ot_pulse *p)
{
    (void)arg;
    pthread_mutex_lock(&seen.lock);
    seen.pulses++;
    seen.pulse = *p;
    seen.pulse.slowest += 100 * rank;
    pthread_mutex_unlock(&seen.lock);
}

static void on_waiting(void *arg, const char *text)
{
    (void)arg;
    pthread_mutex_lock(&seen.lock);
    seen.waitings++;
    snprintf(seen.waiting, sizeof seen.waiting, "%s", text);
    pthread_mutex_unlock(&seen.lock);
}

static void on_refused(void *arg, const char *text)
{
    (void)arg;
    pthread_mutex_lock(&seen.lock);
    seen.refusals++;
    size_t n = strlen(seen.refused);
    snprintf(seen.refused + n, sizeof seen.refused - n, "%s\n", text);
    pthread_mutex_unlock(&seen.lock);
}

static const ot_meet_server_ops ops = {.arrived = on_arrived,
                                       .all_here = on_all,
                                       .event = on_event,
                                       .pulse = on_pulse,
                                       .waiting = on_waiting,
                                       .refused = on_refused};

static int get(const int *what)
{
    pthread_mutex_lock(&seen.lock);
    int x = *what;
    pthread_mutex_unlock(&seen.lock);
    return x;
}

static bool comes(const int *what, int at_least)
{
    for (int i = 0; i < PATIENCE_US / 1000 && get(what) < at_least; i++) {
        ot_clock_sleep_us(1000);
    }
    return get(what) >= at_least;
}

static bool refused_with(const char *text)
{
    for (int i = 0; i < PATIENCE_US / 1000; i++) {
        pthread_mutex_lock(&seen.lock);
        bool there = strstr(seen.refused, text) != NULL;
        pthread_mutex_unlock(&seen.lock);
        if (there) {
            return true;
        }
        ot_clock_sleep_us(1000);
    }
    printf("# refused: %s\n", seen.refused);
    return false;
}

static ot_meet_server *serve(ot_meet_server_options o)
{
    pthread_mutex_lock(&seen.lock);
    seen.arrived = seen.all_here = seen.events = seen.pulses = seen.waitings = seen.refusals = 0;
    seen.refused[0] = seen.waiting[0] = 0;
    pthread_mutex_unlock(&seen.lock);
    ot_error err = {0};
    ot_meet_server *s = NULL;
    snprintf(o.listen.host, sizeof o.listen.host, "127.0.0.1");
    o.key = KEY;
    o.key_len = strlen(KEY);
    ok(ot_meet_server_create(&o, &ops, &s, &err) == OT_OK, "a meeting point of %d %s", (int)o.size,
       err.msg);
    return s;
}

/* --- ranks ----------------------------------------------------------------------------------- */

typedef struct rank {
    ot_meet_options o;
    char server[300];
    pthread_t thread;
    ot_meet *m;
    ot_rc rc;
    ot_error err;
} rank;

static void *join_thread(void *arg)
{
    rank *r = arg;
    r->rc = ot_meet_join(&r->o, &r->m, &r->err);
    return NULL;
}

static void rank_init(rank *r, const ot_meet_server *s, int32_t number, int32_t size)
{
    *r = (rank){.o = {.key = KEY, .key_len = strlen(KEY), .size = size, .timeout_us = PATIENCE_US}};
    snprintf(r->server, sizeof r->server, "127.0.0.1:%u", ot_meet_server_port(s));
    r->o.server = r->server;
    r->o.self.rank = number;
    r->o.self.pid = 1000 + number;
    r->o.self.n_addrs = 1;
    snprintf(r->o.self.host, sizeof r->o.self.host, "host%d", (int)number / 2);
    snprintf(r->o.self.machine, sizeof r->o.self.machine, "machine%d", (int)number / 2);
    snprintf(r->o.self.addrs[0], sizeof r->o.self.addrs[0], "127.0.0.1:%d", 5000 + (int)number);
}

static void rank_start(rank *r, const ot_meet_server *s, int32_t number, int32_t size)
{
    rank_init(r, s, number, size);
    pthread_create(&r->thread, NULL, join_thread, r);
}

static bool rank_joined(rank *r)
{
    pthread_join(r->thread, NULL);
    if (r->rc != OT_OK) {
        printf("# rank %d: %s\n", (int)r->o.self.rank, r->err.msg);
    }
    return r->rc == OT_OK;
}

static ot_rc next_event(rank *r, ot_event *e, ot_error *err)
{
    for (;;) {
        ot_rc rc = ot_meet_next(r->m, e, err);
        struct pollfd p = {.fd = ot_meet_fd(r->m), .events = POLLIN};
        if (rc != OT_NOT_FOUND || poll(&p, 1, PATIENCE_US / 1000) != 1) {
            return rc;
        }
    }
}

static void event_is(rank *r, ot_event_kind kind, int32_t who, const char *text)
{
    ot_event e = {0};
    ot_error err = {0};
    ot_rc rc = next_event(r, &e, &err);
    ok(rc == OT_OK && e.kind == kind && e.rank == who && strstr(e.text, text) != NULL,
       "rank %d hears: rank %d (%s) %s %s%s", (int)r->o.self.rank, (int)e.rank, e.host,
       ot_event_kind_text(e.kind), e.text, err.msg);
}

/* --- the tests ------------------------------------------------------------------------------- */

static void all_in(rank *r, ot_meet_server *s, int32_t n)
{
    int good = 0;
    for (int32_t i = n - 1; i >= 0; i--) { /* the last first */
        rank_start(&r[i], s, i, n);
    }
    for (int32_t i = 0; i < n; i++) {
        good += rank_joined(&r[i]);
    }
    is_int(good, n, "all %d are in", (int)n);
}

static void test_table(void)
{
    rank r[5];
    ot_meet_server *s = serve((ot_meet_server_options){.size = 5, .settings = "timeout = 7"});
    all_in(r, s, 5);
    int32_t n = 0;
    const ot_member *m = ot_meet_members(r[1].m, &n);
    ok(n == 5 && m[3].rank == 3 && m[3].pid == 1003 && strcmp(m[3].host, "host1") == 0 &&
           strcmp(m[4].machine, "machine2") == 0 && strcmp(m[2].addrs[0], "127.0.0.1:5002") == 0,
       "each has the table");
    ok(m[0].local_size == 2 && m[1].local_rank == 1 && m[4].local_size == 1 &&
           m[3].local_rank == 1 && m[3].cross_rank == 1 && m[3].cross_size == 2 &&
           m[4].cross_rank == 2 && m[0].cross_size == 3,
       "with local and cross ranks");
    is_str(ot_meet_settings(r[4].m), "timeout = 7", "and the settings");
    ok(get(&seen.arrived) == 5 && get(&seen.all_here) == 1, "the owner has heard of all");
    ot_pulse p = {.steps = 7, .bytes_out = 1ull << 40, .slowest = 2};
    ot_meet_pulse(r[3].m, &p);
    ok(comes(&seen.pulses, 1) && seen.pulse.steps == 7 && seen.pulse.bytes_out == 1ull << 40 &&
           seen.pulse.slowest == 302,
       "a pulse of rank 3");
    ot_meet_server_tell(s, &(ot_event){.kind = OT_EVENT_STOPPED, .rank = 2, .text = "by hand"});
    event_is(&r[0], OT_EVENT_STOPPED, 2, "by hand");
    event_is(&r[4], OT_EVENT_STOPPED, 2, "by hand");
    ot_meet_say(r[1].m, &(ot_event){.kind = OT_EVENT_FAILED, .rank = 1, .text = "a\x1b[31mb"});
    event_is(&r[0], OT_EVENT_FAILED, 1, "a?[31mb");
    ot_meet_say(r[1].m, &(ot_event){.kind = OT_EVENT_STUCK, .rank = 0});
    event_is(&r[4], OT_EVENT_FAILED, 1, "");
    event_is(&r[4], OT_EVENT_STUCK, 0, "");
    ot_meet_say(r[1].m, &(ot_event){.kind = OT_EVENT_STUCK, .rank = 4});
    ot_meet_say(r[1].m, &(ot_event){.kind = OT_EVENT_LEFT, .rank = 0});
    ot_meet_say(r[1].m, &(ot_event){.kind = OT_EVENT_CONTINUED, .rank = 1});
    event_is(&r[4], OT_EVENT_CONTINUED, 1, ""); /* not what it may not say of others */
    for (int i = 0; i < 5; i++) {
        ot_meet_destroy(r[i].m);
    }
    ot_meet_server_destroy(s);
}

static void test_ends(void)
{
    rank r[4];
    ot_meet_server *s = serve((ot_meet_server_options){.size = 4, .grace_us = 400000});
    all_in(r, s, 4);
    ot_meet_say(r[1].m, &(ot_event){.kind = OT_EVENT_LEFT, .rank = 1});
    ot_meet_destroy(r[1].m);
    event_is(&r[0], OT_EVENT_LEFT, 1, "");
    ot_meet_server_tell(s, &(ot_event){.kind = OT_EVENT_EXITED, .rank = 1, .code = 3});
    ot_meet_destroy(r[2].m); /* without a word */
    ot_meet_server_tell(s, &(ot_event){.kind = OT_EVENT_KILLED, .rank = 2, .code = 9});
    event_is(&r[0], OT_EVENT_KILLED, 2, ""); /* and nothing of what became of rank 1 later */
    ot_meet_destroy(r[3].m);
    event_is(&r[0], OT_EVENT_LOST, 3, "connection"); /* nobody knew more; rank 2 is told once */
    ok(comes(&seen.events, 2) && seen.event.kind == OT_EVENT_LOST && seen.event.rank == 3 &&
           strcmp(seen.event.host, "host1") == 0,
       "the owner hears it too, with the host");
    ot_meet_server_destroy(s);
    ot_event e;
    ot_error err = {0};
    ok(next_event(&r[0], &e, &err) == OT_UNAVAILABLE && strstr(err.msg, "127.0.0.1:") != NULL,
       "the meeting point ends: %s", err.msg);
    ot_meet_destroy(r[0].m);
}

static void test_waiting(void)
{
    rank r[3];
    ot_meet_server *s = serve((ot_meet_server_options){.size = 3, .waiting_us = 50000});
    rank_start(&r[1], s, 1, 3);
    ok(comes(&seen.arrived, 1) && comes(&seen.waitings, get(&seen.waitings) + 2),
       "it says for whom it waits"); /* what it said before the arrival is not counted */
    ok(strstr(seen.waiting, "waiting for ranks 0, 2 (2 of 3 have not arrived after ") != NULL,
       "'%s'", seen.waiting);
    rank_start(&r[0], s, 0, 3);
    rank_start(&r[2], s, 2, 3);
    ok(rank_joined(&r[0]) & rank_joined(&r[1]) & rank_joined(&r[2]), "who comes late is let in");
    for (int i = 0; i < 3; i++) {
        ot_meet_destroy(r[i].m);
    }
    ot_meet_server_destroy(s);

    s = serve((ot_meet_server_options){.size = 2, .timeout_us = 300000});
    rank_start(&r[0], s, 0, 2);
    ok(!rank_joined(&r[0]) && r[0].rc == OT_PRECONDITION && strstr(r[0].err.msg, "rank 1") != NULL,
       "gives up and names who lacks: %s", r[0].err.msg);
    rank_start(&r[1], s, 1, 2);
    ok(!rank_joined(&r[1]) && strstr(r[1].err.msg, "gave up") != NULL, "too late: %s",
       r[1].err.msg);
    ot_meet_server_destroy(s);

    s = serve((ot_meet_server_options){.size = 2});
    rank_start(&r[0], s, 0, 2);
    ok(comes(&seen.arrived, 1), "rank 0 is in");
    ot_meet_server_tell(s, &(ot_event){.kind = OT_EVENT_EXITED,
                                       .rank = 1,
                                       .host = "b",
                                       .code = 1,
                                       .text = "exit 1: no such file"});
    ok(!rank_joined(&r[0]) && r[0].rc == OT_ABORTED &&
           strstr(r[0].err.msg, "rank 1 (host b) exited") != NULL,
       "rank 1 will not come: %s", r[0].err.msg);
    rank_start(&r[0], s, 0, 2);
    ok(!rank_joined(&r[0]) && strstr(r[0].err.msg, "rank 1 (host b) exited") != NULL,
       "who comes later hears it too: %s", r[0].err.msg);
    ot_meet_server_destroy(s);
}

static void test_early(void)
{
    /* A port that is free now; the server comes there later. */
    ot_addr a;
    int fd = -1;
    rank r;
    ok(ot_addr_parse("127.0.0.1:0", &a, NULL) == OT_OK && ot_sock_listen(&a, 1, &fd, NULL) == OT_OK,
       "a port");
    a.port = ot_sock_port(fd);
    close(fd);
    r = (rank){.o = {.key = KEY, .key_len = strlen(KEY), .size = 1, .timeout_us = PATIENCE_US}};
    snprintf(r.server, sizeof r.server, "127.0.0.1:1,127.0.0.1:%u", a.port);
    r.o.server = r.server;
    pthread_create(&r.thread, NULL, join_thread, &r);
    ot_clock_sleep_us(100000);
    ot_meet_server_options o = {.listen = a, .size = 1, .key = KEY, .key_len = strlen(KEY)};
    ot_meet_server *s = NULL;
    ot_error err = {0};
    if (ot_meet_server_create(&o, &ops, &s, &err) != OT_OK) {
        skip("somebody took the port meanwhile");
        r.o.timeout_us = 0;
        pthread_detach(r.thread);
        return;
    }
    ok(rank_joined(&r),
       "a rank that comes before the meeting point waits, and tries all addresses");
    ot_meet_destroy(r.m);
    ot_meet_server_destroy(s);
}

static int dial(const ot_meet_server *s)
{
    ot_addr a;
    int fd = -1;
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%u", ot_meet_server_port(s));
    if (ot_addr_parse(text, &a, NULL) != OT_OK ||
        ot_sock_connect(&a, PATIENCE_US, &fd, NULL) != OT_OK ||
        ot_sock_set_timeout(fd, PATIENCE_US, NULL) != OT_OK) {
        return -1;
    }
    return fd;
}

static void dial_and_say(const ot_meet_server *s, const void *p, size_t n)
{
    int fd = dial(s);
    char c;
    ok(n == 0 || ot_sock_write_all(fd, p, n, NULL) == OT_OK, "a stranger says %zu bytes", n);
    ot_sock_shutdown_write(fd);
    while (ot_sock_read(fd, &c, 1) > 0) {
    }
    close(fd);
}

static void test_strangers(void)
{
    rank r[3], wrong;
    uint8_t hello[OT_AUTH_HELLO], junk[4096];
    ot_auth a;
    ot_meet_server *s = serve((ot_meet_server_options){.size = 2});
    rank_start(&r[0], s, 0, 2);
    ok(comes(&seen.arrived, 1), "rank 0 is in");
    dial_and_say(s, "", 0);
    ok(refused_with("port scan"), "a scan is named");
    memset(junk, 0xA5, sizeof junk);
    dial_and_say(s, junk, sizeof junk);
    ok(refused_with("not the protocol"), "garbage is named");
    ot_auth_init(&a, KEY, strlen(KEY));
    ot_auth_hello(&a, &(ot_auth_who){.purpose = OT_AUTH_MEMBER, .from = 1}, hello);
    hello[8] = 99;
    dial_and_say(s, hello, sizeof hello);
    ok(refused_with("version 99"), "another version is named");
    ot_auth_hello(&a, &(ot_auth_who){.purpose = OT_AUTH_LINK, .from = 1}, hello);
    dial_and_say(s, hello, sizeof hello);
    ok(refused_with("another purpose"), "a link that is lost is named");
    rank_init(&wrong, s, 1, 2);
    wrong.o.key = "another key";
    wrong.o.key_len = 11;
    pthread_create(&wrong.thread, NULL, join_thread, &wrong);
    ok(!rank_joined(&wrong) && wrong.rc == OT_DENIED && strstr(wrong.err.msg, "another job"),
       "another key: %s", wrong.err.msg);
    ok(refused_with("rank 1 of another job"), "both sides say so");
    rank_start(&r[2], s, 0, 2);
    ok(!rank_joined(&r[2]) && r[2].rc == OT_PRECONDITION &&
           strstr(r[2].err.msg, "rank 0 is here already: process 1000 of host host0") != NULL,
       "a second rank 0: %s", r[2].err.msg);
    rank_start(&r[2], s, 1, 3);
    ok(!rank_joined(&r[2]) && strstr(r[2].err.msg, "this job has 2 ranks") != NULL,
       "one of a larger world: %s", r[2].err.msg);
    rank_start(&r[1], s, 1, 2);
    ok(rank_joined(&r[0]) & rank_joined(&r[1]), "and the job goes on");
    ot_meet_destroy(r[0].m);
    ot_meet_destroy(r[1].m);
    ot_meet_server_destroy(s);
}

/* Connections that never say anything do not keep ranks out. */
static void test_flood(void)
{
    enum { N = 300 };
    int fds[N];
    rank r[2];
    ot_meet_server *s = serve((ot_meet_server_options){.size = 2});
    for (int i = 0; i < N; i++) {
        fds[i] = dial(s);
    }
    all_in(r, s, 2);
    ok(get(&seen.refusals) > 0 && get(&seen.refusals) <= 20, "%d of the refusals are said",
       get(&seen.refusals));
    for (int i = 0; i < N; i++) {
        close(fds[i]);
    }
    ot_meet_destroy(r[0].m);
    ot_meet_destroy(r[1].m);
    ot_meet_server_destroy(s);
}

/* init -> finalize -> init, with one that is back before the others have left. */
static void test_again(void)
{
    rank r[3], again[3];
    ot_meet_server *s = serve((ot_meet_server_options){.size = 3});
    all_in(r, s, 3);
    for (int i = 0; i < 3; i++) {
        ot_meet_say(r[i].m, &(ot_event){.kind = OT_EVENT_LEFT, .rank = i});
        ot_meet_destroy(r[i].m);
        rank_start(&again[i], s, i, 3);
    }
    ok(rank_joined(&again[0]) & rank_joined(&again[1]) & rank_joined(&again[2]), "all come back");
    for (int i = 0; i < 3; i++) {
        ot_meet_destroy(again[i].m);
    }
    ot_meet_server_destroy(s);
}

static void test_wire(void)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    rank r;
    ot_meet_server *s = serve((ot_meet_server_options){.size = 1});
    rank_init(&r, s, 0, 1);
    ot_meet_server_destroy(s);
    ot_meet_put_member(&out, 1, 7, &r.o.self);
    uint8_t bytes[2048];
    size_t n = out.len;
    memcpy(bytes, out.data, n);
    int whole = 0, taken = 0;
    ot_meet_frame f;
    for (size_t k = 0; k <= n; k++) {
        whole += ot_meet_take(bytes, k, OT_MEET_UP_MAX, &f, NULL) == OT_OK && f.whole > 0;
        ot_meet_frame cut = {.type = OT_MEET_MEMBER, .body = bytes + OT_MEET_HEAD};
        cut.n = k > OT_MEET_HEAD ? k - OT_MEET_HEAD : 0;
        int32_t size;
        uint64_t epoch;
        ot_member m;
        taken += ot_meet_get_member(&cut, &size, &epoch, &m, NULL) == OT_OK;
    }
    ok(whole == 1 && taken == 1, "only the whole of a message is one");
    ot_error err = {0};
    memset(bytes, 0xff, 4);
    is_int(ot_meet_take(bytes, n, OT_MEET_UP_MAX, &f, &err), OT_RANGE, "too long: %s", err.msg);
}

static void test_options(void)
{
    ot_meet_server *s = NULL;
    ot_error err = {0};
    ot_meet_server_options o = {.size = 0, .key = KEY, .key_len = 4};
    is_int(ot_meet_server_create(&o, &ops, &s, &err), OT_INVALID, "%s", err.msg);
    o.size = OT_MEET_RANKS_MAX + 1;
    is_int(ot_meet_server_create(&o, &ops, &s, &err), OT_INVALID, "%s", err.msg);
    o = (ot_meet_server_options){.size = 1};
    is_int(ot_meet_server_create(&o, &ops, &s, &err), OT_INVALID, "%s", err.msg);
    ot_meet *m = NULL;
    ot_meet_options mo = {.server = "", .key = KEY, .key_len = 3, .timeout_us = 1000};
    is_int(ot_meet_join(&mo, &m, &err), OT_INVALID, "%s", err.msg);
    mo.server = "127.0.0.1:1";
    ok(ot_meet_join(&mo, &m, &err) == OT_UNAVAILABLE && strstr(err.msg, "127.0.0.1:1") != NULL,
       "nobody there: %s", err.msg);
    ot_meet_server_destroy(NULL);
    ot_meet_destroy(NULL);
}

int main(void)
{
    test_wire();
    test_options();
    test_table();
    test_ends();
    test_waiting();
    test_early();
    test_strangers();
    test_flood();
    test_again();
    return tap_done();
}
