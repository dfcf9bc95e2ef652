#include "model/apikey.h"

#include "base/mem.h"
#include "tap.h"

#include <stdio.h>
#include <string.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void keys(void)
{
    ot_apikey k, other;
    char text[OT_APIKEY_TEXT], second[OT_APIKEY_TEXT], id[OT_APIKEY_ID];
    ot_apikey_make(&k, text);
    ot_apikey_make(&other, second);
    is_int((long long)strlen(text), OT_APIKEY_TEXT - 1, "the length of a key");
    ok(strcmp(text, second) != 0 && strcmp(k.id, other.id) != 0, "no two alike");
    ok(ot_apikey_id(text, strlen(text), id), "it has the form");
    is_str(id, k.id, "and says its id");
    ok(ot_apikey_is(&k, text, strlen(text)), "it is itself");
    ok(!ot_apikey_is(&k, second, strlen(second)), "and no other");
    for (size_t i = 0; i < strlen(text); i++) {
        char changed[OT_APIKEY_TEXT];
        memcpy(changed, text, sizeof changed);
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        ok(!ot_apikey_is(&k, changed, strlen(changed)), "another with byte %zu changed", i);
    }
    ok(!ot_apikey_id("", 0, id) && !ot_apikey_id(text, strlen(text) - 1, id) &&
           !ot_apikey_id("otk_XYZ", 7, id),
       "what has not the form of a key");
}

static void refused(const char *json, const char *word)
{
    ot_apikey k;
    ot_error err = {0};
    json_t *j = json_loads(json, 0, NULL);
    ok(ot_apikey_read(j, &k, &err) == OT_INVALID && strstr(err.msg, word) != NULL,
       "refused, naming '%s': %s", word, err.msg);
    json_decref(j);
}

static void records(void)
{
    ot_apikey k, again;
    ot_error err;
    json_t *j = json_loads("{\"name\":\"shop\",\"id\":\"0123456789abcdef\",\"hash\":\"" HEX "\","
                           "\"deployments\":[\"digits\",\"letters\"],\"expires_us\":5,"
                           "\"requests_per_s\":10,\"rows_per_s\":0.5,\"admin\":true,\"later\":1}",
                           0, NULL);
    is_int(ot_apikey_read(j, &k, &err), OT_OK, "read");
    json_decref(j);
    j = ot_apikey_json(&k);
    is_int(ot_apikey_read(j, &again, &err), OT_OK, "and what was written");
    json_decref(j);
    ok(memcmp(&k, &again, sizeof k) == 0, "is the same");
    is_str(again.deployments[1], "letters", "scope");
    ok(ot_apikey_covers(&again, "letters", 7) && !ot_apikey_covers(&again, "letter", 6),
       "by the whole name");
    ok(again.admin, "an admin's");
    ok(again.rows_per_s == 0.5 && again.requests_per_s == 10 && again.expires_us == 5, "limits");

#define KEY "\"name\":\"a\",\"id\":\"0123456789abcdef\",\"hash\":\"" HEX "\""
    refused("{}", "''");
    refused("{\"name\":\"../a\"}", "../a");
    refused("{\"name\":\"a\",\"id\":\"0123\"}", "0123");
    refused("{\"name\":\"a\",\"id\":\"0123456789ABCDEF\"}", "0123456789ABCDEF");
    refused("{\"name\":\"a\",\"id\":\"0123456789abcdef\",\"hash\":\"x\"}", "SHA-256");
    refused("{" KEY ",\"deployments\":\"d\"}", "deployments");
    refused("{" KEY ",\"deployments\":[\"a b\"]}", "a b");
    refused("{" KEY ",\"expires_us\":-1}", "expires_us");
    refused("{" KEY ",\"requests_per_s\":-1}", "requests_per_s");
    refused("{" KEY ",\"rows_per_s\":\"x\"}", "rows_per_s");
    refused("{" KEY ",\"admin\":1}", "admin");
    refused("[]", "''");
}

int main(void)
{
    keys();
    records();
    return tap_done();
}
