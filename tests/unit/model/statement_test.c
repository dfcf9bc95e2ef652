/* The statement of a promotion: what is written is read, and what it must not say. */
#include "model/statement.h"

#include "base/mem.h"
#include "tap.h"

#include <stdlib.h>

static const char good[] =
    "{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicate\":{\"actor\":\"anna\","
    "\"evaluation\":{\"text\":\"v7 passed\"},\"lineage\":{\"data\":{\"base\":\"aa\"},\"run\":12},"
    "\"model\":\"digits\",\"reported\":{\"loss\":0.5},\"server\":{\"key\":\"0123456789abcdef\"},"
    "\"status\":\"champion\",\"time_us\":1700000000000000,\"version\":7},"
    "\"predicateType\":\"urn:overtake:promotion:1\",\"subject\":[{\"digest\":{\"sha256\":"
    "\"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"},\"name\":\"digits@7\"}]"
    "}";

static ot_rc parse(const char *z, ot_statement *s, ot_error *e)
{
    return ot_statement_parse(z, strlen(z), s, e);
}

static void test_round_trip(void)
{
    ot_error e = {0};
    OT_AUTO(ot_statement_done) ot_statement s = {0};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (!ok(parse(good, &s, &e) == OT_OK, "a whole statement is read: %s", e.msg)) {
        return;
    }
    is_str(s.model, "digits", "model");
    is_int(s.version, 7, "version");
    is_int(s.bundle.b[31], 31, "bundle");
    is_str(s.status, "champion", "status");
    is_str(s.key, "0123456789abcdef", "key");
    is_str(s.actor, "anna", "actor");
    is_int(s.time_us, 1700000000000000, "time");
    is_int(json_integer_value(json_object_get(s.lineage, "run")), 12, "lineage");
    ok(ot_statement_write(&s, &out, &e) == OT_OK, "written");
    is_str(out.data, good, "the same bytes");
    json_decref(s.evaluation);
    s.evaluation = json_null();
    OT_AUTO(ot_statement_done) ot_statement again = {0};
    ot_str_clear(&out);
    ok(ot_statement_write(&s, &out, &e) == OT_OK && parse(out.data, &again, &e) == OT_OK &&
           json_is_null(again.evaluation),
       "one that nobody judged");
}

static void refused(const char *from, const char *to, const char *why)
{
    ot_error e = {0};
    ot_statement s = {.version = -1};
    const char *at = strstr(good, from);
    OT_AUTO(ot_free_ptr)
    char *z = ot_asprintf("%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    ok(parse(z, &s, &e) == OT_INVALID && strstr(e.msg, why) != NULL && s.version == -1, "%s: %s",
       to, e.msg);
}

static void test_refused(void)
{
    ot_error e = {0};
    ot_statement s = {.version = -1};
    refused("Statement/v1", "Statement/v0.1", "a statement of type");
    refused("promotion:1", "promotion:2", "a statement of type");
    refused("digits@7", "digits@8", "the subject is");
    refused("\"version\":7", "\"version\":0", "version 0");
    refused("\"version\":7", "\"version\":7.5", "");
    refused("\"version\":7", "\"more\":1,\"version\":7", "more");
    refused("\"version\":7", "\"version\":7,\"version\":7", "");
    refused("\"model\":\"digits\"", "\"model\":\"../digits\"", "is not a name");
    refused("\"actor\":\"anna\",", "", "actor");
    refused("{\"data\":{\"base\":\"aa\"},\"run\":12}", "null", "lineage is missing");
    refused("{\"loss\":0.5}", "[]", "must be objects");
    refused("{\"text\":\"v7 passed\"}", "3", "must be objects");
    refused("000102", "00010", "sha256 is not one");
    refused("\"0123456789abcdef\"", "\"0123456789abcdef0\"", "longer than it can be");
    refused("\"subject\":[", "\"subject\":[{\"name\":\"x\",\"digest\":{\"sha256\":\"x\"}},", "");
    for (size_t n = 0; n < sizeof good - 1; n++) {
        if (ot_statement_parse(good, n, &s, &e) == OT_OK) {
            ok(false, "cut after %zu bytes", n);
        }
    }
}

int main(void)
{
    test_round_trip();
    test_refused();
    return tap_done();
}
