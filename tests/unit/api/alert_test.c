/* Alerts against a webhook of our own: what arrives, how often it is tried, what is written down,
 * and what happens when more come than can be told. */
#include "api/alert.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/events.h"
#include "tap.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE 256

static ot_store *store;
static char dir[] = "/tmp/ot_alert_XXXXXX";

/* --- the webhook */

static int listener;
static unsigned short port;
static char request[4][2048]; /* the first ones */
static uint64_t came_ns[4];
static const char *answers[4]; /* of the first ones; NULL: none, until it is released */
static atomic_int requests, released;

static void answer_one(int fd, int i)
{
    size_t n = 0;
    char *r = request[i < 4 ? i : 3];
    while (n < sizeof request[0] - 1) {
        ssize_t k = recv(fd, r + n, sizeof request[0] - 1 - n, 0);
        if (k <= 0) {
            break;
        }
        n += (size_t)k;
        r[n] = 0;
        const char *end = strstr(r, "\r\n\r\n"), *length = strcasestr(r, "content-length:");
        if (end != NULL && length != NULL && strlen(end + 4) >= strtoul(length + 15, NULL, 10)) {
            break;
        }
    }
    if (i < 4) {
        came_ns[i] = ot_clock_mono_ns();
    }
    atomic_fetch_add(&requests, 1);
    while (i < 4 && answers[i] == NULL && atomic_load(&released) == 0) {
        ot_clock_sleep_us(1000);
    }
    const char *a = i < 4 && answers[i] != NULL ? answers[i] : "200 OK";
    dprintf(fd, "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", a);
    close(fd);
}

static void *webhook(void *arg)
{
    (void)arg;
    for (int i = 0;; i++) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            return NULL;
        }
        answer_one(fd, i);
    }
}

static pthread_t webhook_begin(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof in;
    pthread_t t;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&in, n) != 0 || listen(listener, 300) != 0 ||
        getsockname(listener, (struct sockaddr *)&in, &n) != 0 ||
        pthread_create(&t, NULL, webhook, NULL) != 0) {
        abort();
    }
    port = ntohs(in.sin_port);
    atomic_store(&requests, 0);
    atomic_store(&released, 0);
    return t;
}

static void webhook_end(pthread_t t)
{
    atomic_store(&released, 1);
    shutdown(listener, SHUT_RDWR);
    pthread_join(t, NULL);
    close(listener);
}

static void wait_requests(int n)
{
    for (int i = 0; i < 60000 && atomic_load(&requests) < n; i++) {
        ot_clock_sleep_us(1000);
    }
    ok(atomic_load(&requests) >= n, "request %d came", n);
}

/* --- the log */

static ot_rc add_line(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    ot_str_addf(arg, "%s %s %s\n", e->type, e->object, e->payload);
    return OT_OK;
}

static ot_rc read_txn(ot_txn *txn, void *arg, ot_error *err)
{
    ot_event_query q = {0};
    return ot_events_read(txn, &q, add_line, arg, err);
}

/* Waits for `n` events; returns all of them. */
static ot_str log_of(size_t n)
{
    ot_str text = OT_STR_INIT;
    for (int i = 0; i < 60000; i++) {
        size_t lines = 0;
        ot_str_clear(&text);
        if (ot_store_read(store, read_txn, &text, NULL) != OT_OK) {
            break;
        }
        for (const char *p = text.data; (p = strchr(p, '\n')) != NULL; p++) {
            lines++;
        }
        if (lines >= n) {
            return text;
        }
        ot_clock_sleep_us(1000);
    }
    ok(false, "%d events, not '%s'", (int)n, text.data);
    return text;
}

static ot_alerts *begin(const char *path, char url[200])
{
    ot_alerts *a = NULL;
    snprintf(url, 200, "http://key:secret@127.0.0.1:%d%s", port, path);
    ok(ot_alerts_create(store, &a, NULL) == OT_OK, "alerts of %s", path);
    return a;
}

#define JSON "{\"app\": \"digits\", \"event\": 41, \"text\": \"drift\"}"

static void test_tries(void)
{
    char url[200];
    answers[0] = "500 Not now";
    answers[1] = "204 Fine";
    answers[2] = "200 OK";
    pthread_t t = webhook_begin();
    ot_alerts *a = begin("/hook/secret?k=secret#part", url);
    ot_alerts_post(a, url, JSON);
    wait_requests(1);
    ot_alerts_post(a, url, "{}"); /* waits behind it, and hurries nothing */
    wait_requests(3);
    ot_str log = log_of(2);
    ok(strncmp(request[0], "POST /hook/secret?k=secret HTTP/1.1\r\n", 37) == 0 &&
           strcasestr(request[0], "\r\ncontent-type: application/json\r\n") != NULL &&
           strstr(request[0], "\r\n\r\n" JSON) != NULL,
       "what is posted: %.60s", request[0]);
    ok(strstr(request[1], "\r\n\r\n" JSON) != NULL && strstr(request[2], "\r\n\r\n{}") != NULL,
       "tried again, and the next one after it");
    ok(came_ns[1] - came_ns[0] >= 500000000u, "after a pause that no other alert cuts short");
    char want[200];
    snprintf(want, sizeof want,
             "alert.sent app/digits {\"text\":\"alert delivered to 127.0.0.1:%d\",\"tries\":2,"
             "\"because\":[41]}\n",
             port);
    ok(strncmp(log.data, want, strlen(want)) == 0, "what is written down: %s", log.data);
    ok(strstr(log.data, "secret") == NULL && strstr(log.data, "hook") == NULL,
       "neither path nor password");
    ot_str_done(&log);
    ot_alerts_destroy(a);
    webhook_end(t);
}

static void test_queue(void)
{
    char url[200];
    answers[0] = NULL;
    pthread_t t = webhook_begin();
    ot_alerts *a = begin("/", url);
    ot_alerts_post(a, url, JSON);
    wait_requests(1); /* it is on its way: the queue is empty */
    for (int i = 0; i < QUEUE; i++) {
        ot_alerts_post(a, url, JSON);
    }
    is_int(ot_alerts_dropped(a), 0, "%d wait", QUEUE);
    ot_alerts_post(a, url, JSON);
    ot_alerts_post(a, url, JSON);
    is_int(ot_alerts_dropped(a), 2, "more are dropped and counted");
    (void)ot_mem_fail_nth(1);
    ot_alerts_post(a, url, JSON);
    (void)ot_mem_fail_nth(0);
    is_int(ot_alerts_dropped(a), 3, "so is one without memory");
    atomic_store(&released, 1);
    ot_alerts_destroy(a);
    ok(atomic_load(&requests) <= 1 + QUEUE, "ends without telling the rest");
    webhook_end(t);
}

static void test_nobody(void)
{
    char url[200];
    pthread_t t = webhook_begin();
    webhook_end(t);
    ot_alerts *a = begin("/", url);
    ot_alerts_destroy(a);
    a = begin("/", url);
    ot_alerts_post(a, url, JSON);
    ot_alerts_destroy(a); /* in the middle of its tries */
    ot_alerts_destroy(NULL);
    ok(true, "ends with nobody there");
}

int main(void)
{
    ot_store_options o = {.struct_size = sizeof o};
    ot_error err = {0};
    if (mkdtemp(dir) == NULL || ot_store_open(ot_disk_posix(), dir, &o, &store, &err) != OT_OK) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    test_tries();
    test_queue();
    test_nobody();
    ot_store_close(store);
    is_int(ot_disk_remove_tree(ot_disk_posix(), dir, NULL), OT_OK, "cleaned up");
    return tap_done();
}
