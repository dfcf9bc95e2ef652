#include "serve/access.h"

#include "base/mem.h"
#include "tap.h"

#include <stdio.h>
#include <string.h>

#define SEC UINT64_C(1000000000)

/* How many of `n` requests, `gap` ns apart, are let in. */
static int let_in(double rate, double cost, int n, uint64_t gap)
{
    ot_bucket b = {0};
    int got = 0;
    for (int i = 0; i < n; i++) {
        got += ot_bucket_take(&b, rate, cost, 1000 * SEC + (uint64_t)i * gap) == 0;
    }
    return got;
}

static void buckets(void)
{
    is_int(let_in(10, 1, 100, 0), 10, "a second's worth at once");
    is_int(let_in(10, 1, 1000, SEC / 100), 109, "ten seconds at ten times the rate");
    is_int(let_in(10, 1, 100, SEC / 5), 100, "below the rate none is refused");
    is_int(let_in(0, 1, 100, 0), 100, "no limit");
    is_int(let_in(0.5, 1, 10, SEC), 5, "less than one a second");
    is_int(let_in(100, 1000, 20, SEC), 2,
           "what costs more than a second's worth passes a full one");
    ot_bucket b = {0};
    for (int i = 0; i < 10; i++) {
        (void)ot_bucket_take(&b, 10, 1, 1000 * SEC);
    }
    uint64_t wait = ot_bucket_take(&b, 10, 1, 1000 * SEC);
    is_int((long long)wait, SEC / 10, "how long to wait");
    ok(ot_bucket_take(&b, 10, 1, 1000 * SEC + wait) == 0, "is long enough");
}

static ot_apikey key(const char *name, const char *deployment, double rate, int64_t expires)
{
    char text[OT_APIKEY_TEXT];
    ot_apikey k = {.requests_per_s = rate, .rows_per_s = rate, .expires_us = expires};
    ot_apikey_make(&k, text);
    snprintf(k.name, sizeof k.name, "%s", name);
    if (deployment != NULL) {
        snprintf(k.deployments[0], sizeof k.deployments[0], "%s", deployment);
        k.n_deployments = 1;
    }
    return k;
}

static ot_client *client(ot_access *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++) {
        if (strcmp(a->clients[i].key.name, name) == 0) {
            return &a->clients[i];
        }
    }
    return NULL;
}

static void scopes(void)
{
    ot_apikey keys[] = {key("all", NULL, 2, 0), key("one", "digits", 0, 0)};
    ot_access *a, *b;
    ot_denial why;
    ot_error err;
    is_int(ot_access_create(keys, 2, NULL, &a, &err), OT_OK, "a table");
    ot_client *one = client(a, "one"), *all = client(a, "all");
    ok(ot_access_may(one, "digits", 6, SEC, &why), "in its scope");
    ok(!ot_access_may(one, "digit", 5, SEC, &why) && why.status == 403, "out of it: %s",
       why.err.msg);
    ok(!ot_access_may(one, "digits2", 7, SEC, &why), "by the whole name");
    ok(ot_access_may(all, "x", 1, SEC, &why) && ot_access_may(all, "y", 1, SEC, &why),
       "all, twice a second");
    ok(!ot_access_may(all, "x", 1, SEC, &why) && why.status == 429 && why.retry_s >= 1,
       "not three times: %s", why.err.msg);
    ok(ot_access_rows(all, 2, SEC, &why) && !ot_access_rows(all, 1, SEC, &why) && why.status == 429,
       "rows have a bucket of their own: %s", why.err.msg);

    is_int(ot_access_create(keys, 2, a, &b, &err), OT_OK, "another table");
    ok(!ot_access_may(client(b, "all"), "x", 1, SEC, &why), "is as full as the one before");
    is_int((long long)atomic_load(&client(b, "all")->admitted), 2, "and counts on");
    ot_access_unref(a);
    ot_access_unref(b);
    ot_access_unref(NULL);
}

static void files(void)
{
    static const char *const bad[] = {
        "", "{", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[1]}", "{\"keys\":[],\"keys\":[]}"};
    ot_apikey *keys = NULL;
    size_t n = 9;
    ot_error err;
    is_int(ot_access_parse("{\"keys\":[]}", 11, &keys, &n, &err), OT_OK, "no keys");
    is_int((long long)n, 0, "none");
    ot_free(keys);
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(ot_access_parse(bad[i], strlen(bad[i]), &keys, &n, &err) != OT_OK, "refused: %s",
           bad[i]);
    }
    ot_apikey k = key("a", NULL, 0, 0);
    json_t *one = ot_apikey_json(&k), *root = json_pack("{s:[O,O]}", "keys", one, one);
    char text[1024];
    size_t len = json_dumpb(root, text, sizeof text, 0);
    ok(ot_access_parse(text, len, &keys, &n, &err) == OT_INVALID && strstr(err.msg, "'a'") != NULL,
       "a name is there once: %s", err.msg);
    json_decref(one);
    json_decref(root);
}

int main(void)
{
    buckets();
    scopes();
    files();
    return tap_done();
}
