#include "api/https.h"

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
    CURL_URL = 10002,
    CURL_ERRORBUFFER = 10010,
    CURL_POSTFIELDS = 10015,
    CURL_HTTPHEADER = 10023,
    CURL_CAINFO = 10065,
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

/* What the server says beside its status is of no use here. */
static size_t discard(char *p, size_t size, size_t n, void *arg)
{
    (void)p;
    (void)arg;
    return size * n;
}

static ot_rc perform(void *c, const char *url, ot_error *err)
{
    char why[CURL_ERROR_BYTES] = "";
    long status = 0;
    curl.easy_setopt(c, CURL_ERRORBUFFER, why);
    int code = curl.easy_perform(c);
    curl.easy_setopt(c, CURL_ERRORBUFFER, NULL);
    if (code != 0) {
        return ot_fail(err, OT_UNAVAILABLE, "%s", why[0] != 0 ? why : curl.easy_strerror(code));
    }
    curl.easy_getinfo(c, CURL_INFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) {
        const char *host = url + strlen("https://");
        return ot_fail(err, OT_UNAVAILABLE, "%.*s answered %ld", (int)strcspn(host, "/?#"), host,
                       status);
    }
    return OT_OK;
}

ot_rc ot_https_post(const char *url, const char *json, int64_t timeout_us, ot_error *err)
{
    if (!load()) {
        return ot_fail(err, OT_UNIMPLEMENTED,
                       "https:// needs libcurl.so.4, which is not installed (Debian: libcurl4)");
    }
    void *c = curl.easy_init();
    curl_list *head = curl.slist_append(NULL, "Content-Type: application/json");
    if (c == NULL || head == NULL) {
        curl.slist_free_all(head);
        if (c != NULL) {
            curl.easy_cleanup(c);
        }
        return ot_fail(err, OT_EXHAUSTED, "https: no memory");
    }
    const char *authorities = getenv("SSL_CERT_FILE");
    curl.easy_setopt(c, CURL_URL, url);
    curl.easy_setopt(c, CURL_PROTOCOLS, (long)CURL_PROTO_HTTPS);
    curl.easy_setopt(c, CURL_NOSIGNAL, 1L);
    curl.easy_setopt(c, CURL_TIMEOUT_MS, (long)(timeout_us / 1000));
    curl.easy_setopt(c, CURL_HTTPHEADER, head);
    curl.easy_setopt(c, CURL_POSTFIELDS, json);
    curl.easy_setopt(c, CURL_WRITEFUNCTION, discard);
    if (authorities != NULL && authorities[0] != 0) {
        curl.easy_setopt(c, CURL_CAINFO, authorities);
    }
    ot_rc rc = perform(c, url, err);
    curl.slist_free_all(head);
    curl.easy_cleanup(c);
    return rc;
}
