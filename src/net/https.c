#include "net/https.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* From curl/curl.h: the numbers are part of libcurl's ABI. */
enum {
    CURL_NOSIGNAL = 99,
    CURL_TIMEOUT_MS = 155,
    CURL_PROTOCOLS = 181,
    CURL_WRITEDATA = 10001,
    CURL_URL = 10002,
    CURL_ERRORBUFFER = 10010,
    CURL_POSTFIELDS = 10015,
    CURL_HTTPHEADER = 10023,
    CURL_CUSTOMREQUEST = 10036,
    CURL_CAINFO = 10065,
    CURL_POSTFIELDSIZE_LARGE = 30120,
    CURL_WRITEFUNCTION = 20011,
    CURL_INFO_RESPONSE_CODE = 0x200002,
    CURL_PROTO_HTTPS = 2,
    CURL_ERROR_BYTES = 256,
};

typedef struct curl_list curl_list;

static struct {
    void *(*easy_init)(void);
    int (*easy_setopt)(void *, int, ...);
    int (*easy_perform)(void *);
    int (*easy_getinfo)(void *, int, ...);
    const char *(*easy_strerror)(int);
    void (*easy_cleanup)(void *);
    curl_list *(*slist_append)(curl_list *, const char *);
    void (*slist_free_all)(curl_list *);
} curl;

static bool load(void)
{
    const struct {
        const char *name;
        void *slot;
    } symbols[] = {
        {"curl_easy_init", &curl.easy_init},         {"curl_easy_setopt", &curl.easy_setopt},
        {"curl_easy_perform", &curl.easy_perform},   {"curl_easy_getinfo", &curl.easy_getinfo},
        {"curl_easy_strerror", &curl.easy_strerror}, {"curl_easy_cleanup", &curl.easy_cleanup},
        {"curl_slist_append", &curl.slist_append},   {"curl_slist_free_all", &curl.slist_free_all},
    };
    if (curl.easy_init != NULL) {
        return true;
    }
    void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; lib != NULL && i < OT_COUNT(symbols); i++) {
        void *found = dlsym(lib, symbols[i].name);
        memcpy(symbols[i].slot, &found, sizeof found); /* ISO C has no such cast */
        if (found == NULL) {
            dlclose(lib);
            memset(&curl, 0, sizeof curl);
            return false;
        }
    }
    return lib != NULL;
}

#define ANSWER_MAX (1u << 20)

typedef struct answer {
    void *curl;
    const ot_http_call *call;
    ot_str *body;
    uint64_t max;
    bool too_large;
    ot_rc stopped; /* what on_data said */
    ot_error *err;
} answer;

static size_t take(char *p, size_t size, size_t n, void *arg)
{
    answer *a = arg;
    size_t len = size * n;
    long status = 0;
    curl.easy_getinfo(a->curl, CURL_INFO_RESPONSE_CODE, &status);
    if (a->call->on_data != NULL && status < 300) {
        a->stopped = a->call->on_data(a->call->arg, p, len, a->err);
        return a->stopped == OT_OK ? len : 0;
    }
    if (len > a->max - a->body->len) {
        a->too_large = true;
        return 0; /* ends it */
    }
    ot_str_add(a->body, p, len);
    return a->body->failed ? 0 : len;
}

static curl_list *header_list(const char *lines, bool *failed)
{
    curl_list *list = curl.slist_append(NULL, "Expect:"); /* no waiting for leave to send */
    *failed = list == NULL;
    while (lines != NULL && *lines != 0 && !*failed) {
        size_t n = strcspn(lines, "\r\n");
        char *one = ot_asprintf("%.*s", (int)n, lines);
        curl_list *longer = one != NULL ? curl.slist_append(list, one) : NULL;
        *failed = longer == NULL;
        list = longer != NULL ? longer : list;
        ot_free(one);
        lines += n + strspn(lines + n, "\r\n");
    }
    return list;
}

static void set_up(void *c, const char *url, const ot_http_call *call, curl_list *headers,
                   const char *ca, int64_t timeout_us, answer *a)
{
    const char *authorities = ca != NULL ? ca : getenv("SSL_CERT_FILE");
    curl.easy_setopt(c, CURL_URL, url);
    curl.easy_setopt(c, CURL_PROTOCOLS, (long)CURL_PROTO_HTTPS);
    curl.easy_setopt(c, CURL_NOSIGNAL, 1L);
    curl.easy_setopt(c, CURL_TIMEOUT_MS, (long)(timeout_us / 1000));
    curl.easy_setopt(c, CURL_HTTPHEADER, headers);
    if (strcmp(call->method, "GET") != 0) {
        curl.easy_setopt(c, CURL_POSTFIELDSIZE_LARGE, (int64_t)call->body_len);
        curl.easy_setopt(c, CURL_POSTFIELDS, call->body != NULL ? call->body : "");
        curl.easy_setopt(c, CURL_CUSTOMREQUEST, call->method);
    }
    curl.easy_setopt(c, CURL_WRITEFUNCTION, take);
    curl.easy_setopt(c, CURL_WRITEDATA, a);
    if (authorities != NULL && authorities[0] != 0) {
        curl.easy_setopt(c, CURL_CAINFO, authorities);
    }
}

static ot_rc perform(void *c, const answer *a, ot_http_reply *reply, ot_error *err)
{
    char why[CURL_ERROR_BYTES] = "";
    long status = 0;
    curl.easy_setopt(c, CURL_ERRORBUFFER, why);
    int code = curl.easy_perform(c);
    curl.easy_setopt(c, CURL_ERRORBUFFER, NULL);
    if (a->stopped != OT_OK) {
        return a->stopped;
    }
    if (a->too_large) {
        return ot_fail(err, OT_EXHAUSTED, "the answer is larger than %llu bytes",
                       (unsigned long long)a->max);
    }
    if (a->body->failed) {
        return ot_fail(err, OT_EXHAUSTED, "https: no memory for the answer");
    }
    if (code != 0) {
        return ot_fail(err, OT_UNAVAILABLE, "%s", why[0] != 0 ? why : curl.easy_strerror(code));
    }
    curl.easy_getinfo(c, CURL_INFO_RESPONSE_CODE, &status);
    reply->status = (int)status;
    return OT_OK;
}

/* `whole`: address and target. */
static ot_rc request(const char *whole, const ot_http_call *call, const char *ca, uint64_t body_max,
                     int64_t timeout_us, ot_http_reply *reply, ot_error *err)
{
    if (!load()) {
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "https:// needs libcurl.so.4, which is not installed (Debian: libcurl4)");
    }
    bool failed = false;
    void *c = curl.easy_init();
    answer a = {.curl = c, .call = call, .body = &reply->body, .max = body_max, .err = err};
    curl_list *headers = header_list(call->headers, &failed);
    ot_str_clear(&reply->body);
    ot_rc rc = OT_OK;
    if (c == NULL || failed) {
        rc = ot_fail(err, OT_EXHAUSTED, "https: no memory");
    } else {
        set_up(c, whole, call, headers, ca, timeout_us, &a);
        rc = perform(c, &a, reply, err);
    }
    curl.slist_free_all(headers);
    if (c != NULL) {
        curl.easy_cleanup(c);
    }
    return rc;
}

ot_rc ot_https_request(const char *url, const ot_http_call *call, const char *ca, uint64_t body_max,
                       int64_t timeout_us, ot_http_reply *reply, ot_error *err)
{
    char *whole = ot_asprintf("%s%s", url, call->target);
    ot_rc rc = whole == NULL ? ot_fail(err, OT_EXHAUSTED, "https: no memory")
                             : request(whole, call, ca, body_max, timeout_us, reply, err);
    ot_free(whole);
    return rc;
}

ot_rc ot_https_post(const char *url, const char *json, int64_t timeout_us, ot_error *err)
{
    ot_http_reply reply;
    ot_http_call call = {.method = "POST",
                         .headers = "Content-Type: application/json\r\n",
                         .body = json,
                         .body_len = strlen(json)};
    ot_http_reply_init(&reply);
    ot_rc rc = request(url, &call, NULL, ANSWER_MAX, timeout_us, &reply, err);
    if (rc == OT_OK && (reply.status < 200 || reply.status > 299)) {
        const char *host = url + strlen("https://");
        rc = ot_fail(err, OT_UNAVAILABLE, "%.*s answered %d", (int)strcspn(host, "/?#"), host,
                     reply.status);
    }
    ot_http_reply_done(&reply);
    return rc;
}
