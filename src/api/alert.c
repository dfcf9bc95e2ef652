#include "api/alert.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "base/str.h"
#include "net/http_client.h"
#include "net/https.h"
#include "serve/thread.h"
#include "store/events.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define QUEUE_MAX 256
#define TRIES 3
#define TIMEOUT_US 5000000
#define FIRST_PAUSE_US 500000 /* four times as long before the last */
#define REPLY_MAX 65536

typedef struct alert {
    char *url, *json;
} alert;

struct ot_alerts {
    ot_store *store;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Synchronization: under lock. */
    alert queue[QUEUE_MAX];
    size_t head, n;
    uint64_t dropped;
    bool stopping;
};

/* ------------------------------------------------------------------ one delivery */

typedef struct target {
    const char *url;
    bool secure;
    const char *path; /* in the URL; "" for none */
    char host[320]; /* with its port; all of the URL that is written down: the rest may be secret */
} target;

/* The app file was checked: a scheme and a host are there. */
static target split_url(const char *url)
{
    target t = {.url = url, .secure = ot_has_prefix(url, "https://")};
    const char *host = url + (t.secure ? strlen("https://") : strlen("http://"));
    size_t n = strcspn(host, "/?#");
    t.path = host + n;
    const char *login = memrchr(host, '@', n);
    if (login != NULL) {
        n -= (size_t)(login + 1 - host);
        host = login + 1;
    }
    snprintf(t.host, sizeof t.host, "%.*s", (int)OT_MIN(n, sizeof t.host - 8), host);
    bool port = memchr(host, ':', n) != NULL && host[n - 1] != ']';
    if (!t.secure && !port) {
        strcat(t.host, ":80");
    }
    return t;
}

static ot_rc deliver_plain(const target *t, const char *json, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str path = OT_STR_INIT;
    ot_http_client_options o = {.struct_size = sizeof o,
                                .connect_us = TIMEOUT_US,
                                .io_us = TIMEOUT_US,
                                .body_max = REPLY_MAX};
    ot_http_client *c = NULL;
    ot_http_reply reply;
    ot_addr addr;
    size_t n = strcspn(t->path, "#");
    OT_TRY(ot_addr_parse(t->host, &addr, err));
    ot_str_adds(&path, t->path[0] == '/' ? "" : "/");
    ot_str_add(&path, t->path, n);
    OT_TRY(ot_http_client_create(&addr, &o, &c, err));
    ot_http_reply_init(&reply);
    ot_rc rc = ot_http_client_simple(c, "POST", path.data, "Content-Type: application/json\r\n",
                                     json, strlen(json), &reply, err);
    if (rc == OT_OK && (reply.status < 200 || reply.status > 299)) {
        rc = ot_fail(err, OT_UNAVAILABLE, "%s answered %d", t->host, reply.status);
    }
    ot_http_reply_done(&reply);
    ot_http_client_destroy(c);
    return rc;
}

/* False: the process ends. Alerts that come meanwhile wake it too; they wait. */
static bool pause_us(ot_alerts *a, int64_t us)
{
    pthread_mutex_lock(&a->lock);
    uint64_t due = ot_clock_mono_ns() + (uint64_t)us * 1000;
    for (uint64_t now; !a->stopping && (now = ot_clock_mono_ns()) < due;) {
        ot_cond_wait_us(&a->wake, &a->lock, (int64_t)((due - now) / 1000) + 1);
    }
    bool goes_on = !a->stopping;
    pthread_mutex_unlock(&a->lock);
    return goes_on;
}

static ot_rc append(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_event_append(txn, arg, NULL, err);
}

static void leave_event(ot_alerts *a, const alert *x, const char *host, ot_rc rc, int tries,
                        const ot_error *why)
{
    json_t *j = json_loads(x->json, 0, NULL);
    const char *app = json_string_value(json_object_get(j, "app"));
    char object[96], text[400];
    snprintf(object, sizeof object, "app/%.64s", app != NULL ? app : "");
    snprintf(text, sizeof text, rc == OT_OK ? "alert delivered to %s" : "alert to %s failed: %s",
             host, why->msg);
    json_t *payload = json_pack("{s:s,s:i,s:[I]}", "text", text, "tries", tries, "because",
                                json_integer_value(json_object_get(j, "event")));
    char *dump = payload != NULL ? json_dumps(payload, JSON_COMPACT) : NULL;
    ot_event_in in = {.actor = "overtake",
                      .role = "automation",
                      .scope = app,
                      .type = rc == OT_OK ? "alert.sent" : "alert.failed",
                      .object = object,
                      .payload = dump};
    ot_error err = {0};
    if (ot_store_write(a->store, append, &in, &err) != OT_OK) {
        ot_err("alert", "%s: not in the log: %s", object, err.msg);
    }
    free(dump);
    json_decref(payload);
    json_decref(j);
}

static void deliver(ot_alerts *a, const alert *x)
{
    target t = split_url(x->url);
    ot_error err = {0};
    int tries = 0;
    ot_rc rc = OT_UNAVAILABLE;
    for (int64_t us = FIRST_PAUSE_US; rc != OT_OK && tries < TRIES; us *= 4) {
        if (tries > 0 && !pause_us(a, us)) {
            break;
        }
        tries++;
        rc = t.secure ? ot_https_post(t.url, x->json, TIMEOUT_US, &err)
                      : deliver_plain(&t, x->json, &err);
    }
    if (rc != OT_OK) {
        ot_warn("alert", "webhook %s: not delivered in %d tries: %s", t.host, tries, err.msg);
    }
    leave_event(a, x, t.host, rc, tries, &err);
}

/* ------------------------------------------------------------------ queue and thread */

static void *run(void *arg)
{
    ot_alerts *a = arg;
    pthread_mutex_lock(&a->lock);
    while (!a->stopping) {
        if (a->n == 0) {
            pthread_cond_wait(&a->wake, &a->lock);
            continue;
        }
        alert x = a->queue[a->head];
        a->head = (a->head + 1) % QUEUE_MAX;
        a->n--;
        pthread_mutex_unlock(&a->lock);
        deliver(a, &x);
        ot_free(x.url);
        ot_free(x.json);
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

ot_rc ot_alerts_create(ot_store *store, ot_alerts **out, ot_error *err)
{
    ot_alerts *a = ot_calloc(1, sizeof *a);
    if (a == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "alerts: no memory");
    }
    a->store = store;
    pthread_mutex_init(&a->lock, NULL);
    ot_cond_init_mono(&a->wake);
    *out = a;
    return OT_OK;
}

/* The thread starts with the first alert: most processes never have one. */
static bool start_locked(ot_alerts *a)
{
    ot_error err = {0};
    if (!a->running && ot_thread_start(&a->thread, "alerts", run, a, &err) != OT_OK) {
        ot_err("alert", "%s", err.msg);
        return false;
    }
    a->running = true;
    return true;
}

void ot_alerts_post(ot_alerts *a, const char *url, const char *json)
{
    alert x = {.url = ot_strdup(url), .json = ot_strdup(json)};
    pthread_mutex_lock(&a->lock);
    bool fits = x.url != NULL && x.json != NULL && a->n < QUEUE_MAX && start_locked(a);
    if (fits) {
        a->queue[(a->head + a->n++) % QUEUE_MAX] = x;
        pthread_cond_signal(&a->wake);
    } else {
        a->dropped++;
    }
    uint64_t dropped = a->dropped;
    pthread_mutex_unlock(&a->lock);
    if (!fits) {
        ot_err("alert", "dropped: %d wait already; %" PRIu64 " dropped so far", QUEUE_MAX, dropped);
        ot_free(x.url);
        ot_free(x.json);
    }
}

uint64_t ot_alerts_dropped(ot_alerts *a)
{
    pthread_mutex_lock(&a->lock);
    uint64_t n = a->dropped;
    pthread_mutex_unlock(&a->lock);
    return n;
}

void ot_alerts_destroy(ot_alerts *a)
{
    if (a == NULL) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    pthread_cond_broadcast(&a->wake);
    pthread_mutex_unlock(&a->lock);
    if (a->running) {
        pthread_join(a->thread, NULL);
    }
    if (a->n > 0) {
        ot_warn("alert", "%zu alerts were not delivered before the end", a->n);
    }
    for (; a->n > 0; a->n--, a->head = (a->head + 1) % QUEUE_MAX) {
        ot_free(a->queue[a->head].url);
        ot_free(a->queue[a->head].json);
    }
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    ot_free(a);
}
