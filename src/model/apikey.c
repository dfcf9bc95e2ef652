#include "model/apikey.h"

#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "otk_"
#define PREFIX_LEN 4u
#define SECRET_BYTES 32u
#define SECRET_LEN 43u
#define TEXT_LEN (PREFIX_LEN + 16u + 1u + SECRET_LEN)
_Static_assert(TEXT_LEN + 1 == OT_APIKEY_TEXT, "a key's text");

void ot_apikey_make(ot_apikey *k, char text_out[OT_APIKEY_TEXT])
{
    uint8_t id[8], secret[SECRET_BYTES];
    char tail[SECRET_LEN + 1];
    ot_random_bytes(id, sizeof id);
    ot_random_bytes(secret, sizeof secret);
    sodium_bin2hex(k->id, sizeof k->id, id, sizeof id);
    sodium_bin2base64(tail, sizeof tail, secret, sizeof secret,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    snprintf(text_out, OT_APIKEY_TEXT, PREFIX "%s_%s", k->id, tail);
    k->hash = ot_sha256_of(text_out, TEXT_LEN);
    sodium_memzero(secret, sizeof secret);
    sodium_memzero(tail, sizeof tail);
}

static bool is_hex(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f'))) {
            return false;
        }
    }
    return true;
}

bool ot_apikey_id(const char *text, size_t n, char id_out[OT_APIKEY_ID])
{
    if (n != TEXT_LEN || memcmp(text, PREFIX, PREFIX_LEN) != 0 || !is_hex(text + PREFIX_LEN, 16) ||
        text[PREFIX_LEN + 16] != '_') {
        return false;
    }
    memcpy(id_out, text + PREFIX_LEN, 16);
    id_out[16] = '\0';
    return true;
}

bool ot_apikey_is(const ot_apikey *k, const char *text, size_t n)
{
    ot_digest d = ot_sha256_of(text, n);
    return ot_secret_equal(d.b, k->hash.b, sizeof d.b);
}

bool ot_apikey_covers(const ot_apikey *k, const char *deployment, size_t n)
{
    for (size_t i = 0; i < k->n_deployments; i++) {
        if (strlen(k->deployments[i]) == n && memcmp(k->deployments[i], deployment, n) == 0) {
            return true;
        }
    }
    return k->n_deployments == 0;
}

/* ---- JSON */

static ot_rc read_rate(const json_t *j, const char *key, const char *name, double *out,
                       ot_error *err)
{
    const json_t *v = json_object_get(j, key);
    *out = json_number_value(v);
    if (v != NULL && (!json_is_number(v) || !(*out >= 0 && *out <= OT_APIKEY_RATE_MAX))) {
        return ot_fail(err, OT_INVALID, "key '%s': %s is not a number of 0 to %g", name, key,
                       OT_APIKEY_RATE_MAX);
    }
    return OT_OK;
}

static ot_rc read_deployments(const json_t *j, ot_apikey *k, ot_error *err)
{
    const json_t *list = json_object_get(j, "deployments");
    size_t n = json_array_size(list);
    if (list != NULL && (!json_is_array(list) || n > OT_APIKEY_DEPLOYMENTS_MAX)) {
        return ot_fail(err, OT_INVALID, "key '%s': deployments is not a list of at most %d names",
                       k->name, OT_APIKEY_DEPLOYMENTS_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL || !ot_name_ok(name)) {
            return ot_fail(err, OT_INVALID, "key '%s': '%.80s' is not the name of a deployment",
                           k->name, name != NULL ? name : "");
        }
        strcpy(k->deployments[i], name);
        k->n_deployments = i + 1;
    }
    return OT_OK;
}

ot_rc ot_apikey_read(const json_t *j, ot_apikey *out, ot_error *err)
{
    ot_apikey k = {0};
    const char *name = json_string_value(json_object_get(j, "name"));
    const char *id = json_string_value(json_object_get(j, "id"));
    const char *hash = json_string_value(json_object_get(j, "hash"));
    if (name == NULL || !ot_name_ok(name)) {
        return ot_fail(err, OT_INVALID,
                       "a key's name '%.80s' has 1 to 64 characters of A-Z a-z 0-9 . _ - and does "
                       "not start with . or -",
                       name != NULL ? name : "");
    }
    strcpy(k.name, name);
    if (id == NULL || strlen(id) != 16 || !is_hex(id, 16)) {
        return ot_fail(err, OT_INVALID, "key '%s': id '%.40s' is not 16 hex digits", name,
                       id != NULL ? id : "");
    }
    strcpy(k.id, id);
    if (hash == NULL || !ot_digest_parse(hash, &k.hash)) {
        return ot_fail(err, OT_INVALID, "key '%s': hash is not a SHA-256 in hex", name);
    }
    OT_TRY(read_deployments(j, &k, err));
    OT_TRY(read_rate(j, "requests_per_s", name, &k.requests_per_s, err));
    OT_TRY(read_rate(j, "rows_per_s", name, &k.rows_per_s, err));
    const json_t *expires = json_object_get(j, "expires_us");
    k.expires_us = json_integer_value(expires);
    if (expires != NULL && (!json_is_integer(expires) || k.expires_us < 0)) {
        return ot_fail(err, OT_INVALID, "key '%s': expires_us is not a time", name);
    }
    const json_t *admin = json_object_get(j, "admin");
    k.admin = json_is_true(admin);
    if (admin != NULL && !json_is_boolean(admin)) {
        return ot_fail(err, OT_INVALID, "key '%s': admin is not true or false", name);
    }
    *out = k;
    return OT_OK;
}

json_t *ot_apikey_json(const ot_apikey *k)
{
    char hex[OT_DIGEST_HEX];
    json_t *list = json_array();
    for (size_t i = 0; i < k->n_deployments; i++) {
        json_array_append_new(list, json_string(k->deployments[i]));
    }
    return json_pack("{s:s,s:s,s:s,s:o,s:I,s:f,s:f,s:b}", "name", k->name, "id", k->id, "hash",
                     ot_digest_hex(&k->hash, hex), "deployments", list, "expires_us",
                     (json_int_t)k->expires_us, "requests_per_s", k->requests_per_s, "rows_per_s",
                     k->rows_per_s, "admin", k->admin);
}
