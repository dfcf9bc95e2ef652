#include "model/trust.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/random.h"

#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <string.h>

_Static_assert(crypto_sign_PUBLICKEYBYTES == sizeof(ot_key), "Ed25519");
_Static_assert(crypto_sign_BYTES == 64, "Ed25519");

#define BASE64_STANDARD sodium_base64_VARIANT_ORIGINAL
#define PUBLIC_BYTES 44
#define PRIVATE_BYTES 48
#define PRIVATE_TEXT 65 /* base64 + NUL */

/* DER up to the key's own 32 bytes: RFC 8410, sections 4 and 7. */
static const uint8_t public_head[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                      0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
static const uint8_t private_head[] = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                       0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};

static void public_der(const ot_key *k, uint8_t out[PUBLIC_BYTES])
{
    memcpy(out, public_head, sizeof public_head);
    memcpy(out + sizeof public_head, k->b, sizeof k->b);
}

char *ot_key_id(const ot_key *k, char out[OT_KEY_ID])
{
    uint8_t der[PUBLIC_BYTES];
    public_der(k, der);
    ot_digest d = ot_sha256_of(der, sizeof der);
    ot_hex(d.b, (OT_KEY_ID - 1) / 2, out);
    return out;
}

char *ot_key_text(const ot_key *k, char out[OT_KEY_TEXT])
{
    uint8_t der[PUBLIC_BYTES];
    public_der(k, der);
    return sodium_bin2base64(out, OT_KEY_TEXT, der, sizeof der, BASE64_STANDARD);
}

bool ot_key_equal(const ot_key *a, const ot_key *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

/* The bytes between "-----BEGIN label-----" and its end, or of the whole text when there is no such
 * line; false: not `want` bytes of base64. */
static bool unarmour(const char *text, size_t n, const char *label, uint8_t *out, size_t want)
{
    char begin[64], end[64];
    size_t got = 0;
    snprintf(begin, sizeof begin, "-----BEGIN %s-----", label);
    snprintf(end, sizeof end, "-----END %s-----", label);
    const char *from = memmem(text, n, begin, strlen(begin));
    if (from != NULL) {
        from += strlen(begin);
        n -= (size_t)(from - text);
        const char *stop = memmem(from, n, end, strlen(end));
        if (stop == NULL) {
            return false;
        }
        text = from;
        n = (size_t)(stop - from);
    }
    return sodium_base642bin(out, want, text, n, " \t\r\n", &got, NULL, BASE64_STANDARD) == 0 &&
           got == want;
}

ot_rc ot_key_parse(const char *text, size_t n, ot_key *out, ot_error *err)
{
    uint8_t der[PUBLIC_BYTES];
    if (n > OT_KEY_FILE_MAX || !unarmour(text, n, "PUBLIC KEY", der, sizeof der) ||
        memcmp(der, public_head, sizeof public_head) != 0) {
        return ot_fail(err, OT_INVALID,
                       "not an Ed25519 public key; what `overtake keys` prints is expected, or a "
                       "PEM file with it");
    }
    memcpy(out->b, der + sizeof public_head, sizeof out->b);
    return OT_OK;
}

/* ------------------------------------------------------------------ the key to sign with */

void ot_signer_wipe(ot_signer *s)
{
    sodium_memzero(s, sizeof *s);
}

static void from_seed(const uint8_t *seed, ot_signer *out)
{
    crypto_sign_seed_keypair(out->key.b, out->secret, seed);
}

static ot_rc make_key(ot_disk *disk, const char *path, ot_signer *out, ot_error *err)
{
    uint8_t der[PRIVATE_BYTES];
    char text[PRIVATE_TEXT], pem[128];
    memcpy(der, private_head, sizeof private_head);
    ot_random_bytes(der + sizeof private_head, sizeof der - sizeof private_head);
    from_seed(der + sizeof private_head, out);
    sodium_bin2base64(text, sizeof text, der, sizeof der, BASE64_STANDARD);
    int n = snprintf(pem, sizeof pem,
                     "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n", text);
    ot_rc rc = ot_disk_write_atomic(disk, path, pem, (size_t)n, 0600, err);
    sodium_memzero(der, sizeof der);
    sodium_memzero(text, sizeof text);
    sodium_memzero(pem, sizeof pem);
    return rc;
}

static ot_rc read_key(ot_disk *disk, const char *path, ot_signer *out, ot_error *err)
{
    uint8_t der[PRIVATE_BYTES];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(disk, path, OT_KEY_FILE_MAX, &text, err));
    bool good = unarmour(text.data, text.len, "PRIVATE KEY", der, sizeof der) &&
                memcmp(der, private_head, sizeof private_head) == 0;
    if (good) {
        from_seed(der + sizeof private_head, out);
    }
    sodium_memzero(der, sizeof der);
    if (text.len > 0) {
        sodium_memzero(text.data, text.len);
    }
    return good ? OT_OK
                : ot_fail(err, OT_INVALID,
                          "%s: not an Ed25519 private key (PKCS #8, PEM); put the right one back, "
                          "or remove it for a new key that others have to trust anew",
                          path);
}

ot_rc ot_signer_open(ot_disk *disk, const char *path, ot_signer *out, ot_error *err)
{
    ot_stat st;
    ot_rc rc = disk->ops->stat(disk, path, &st, err);
    if (rc == OT_NOT_FOUND) {
        return make_key(disk, path, out, err);
    }
    OT_TRY(rc);
    if (!st.is_regular || (st.mode & 077) != 0) {
        return ot_fail(err, OT_DENIED,
                       "%s can be read by others (mode %03o); who has read it can sign in this "
                       "server's name. Remove it for a new key, or chmod 600 it",
                       path, st.mode);
    }
    return read_key(disk, path, out, err);
}

/* ------------------------------------------------------------------ envelopes */

void ot_envelope_pae(const char *type, const void *payload, size_t n, ot_str *out)
{
    ot_str_addf(out, "DSSEv1 %zu %s %zu ", strlen(type), type, n);
    ot_str_add(out, payload, n);
}

static void add_base64(ot_str *out, const void *p, size_t n)
{
    size_t room = sodium_base64_encoded_len(n, BASE64_STANDARD);
    if (ot_str_reserve(out, room)) {
        sodium_bin2base64(out->data + out->len, room, p, n, BASE64_STANDARD);
        out->len += room - 1;
    }
}

ot_rc ot_envelope_sign(const ot_signer *s, const char *type, const void *payload, size_t n,
                       ot_str *json_out, ot_error *err)
{
    uint8_t sig[crypto_sign_BYTES];
    char id[OT_KEY_ID];
    OT_AUTO(ot_str_done) ot_str pae = OT_STR_INIT;
    if (n > OT_ENVELOPE_PAYLOAD_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "a statement of %zu bytes; the limit is %d", n,
                       OT_ENVELOPE_PAYLOAD_MAX);
    }
    ot_envelope_pae(type, payload, n, &pae);
    if (pae.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to sign");
    }
    crypto_sign_detached(sig, NULL, (const uint8_t *)pae.data, pae.len, s->secret);
    ot_str_adds(json_out, "{\"payload\":\"");
    add_base64(json_out, payload, n);
    ot_str_adds(json_out, "\",\"payloadType\":\"");
    ot_str_add_json(json_out, type, strlen(type));
    ot_str_addf(json_out, "\",\"signatures\":[{\"keyid\":\"%s\",\"sig\":\"",
                ot_key_id(&s->key, id));
    add_base64(json_out, sig, sizeof sig);
    ot_str_adds(json_out, "\"}]}");
    return json_out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory to sign") : OT_OK;
}

void ot_envelope_done(ot_envelope *e)
{
    ot_str_done(&e->payload);
    *e = (ot_envelope){0};
}

/* Both alphabets are DSSE's. */
static bool unbase64(const json_t *text, uint8_t *out, size_t max, size_t *n_out)
{
    static const int variants[] = {BASE64_STANDARD, sodium_base64_VARIANT_URLSAFE};
    const char *z = json_string_value(text);
    for (size_t i = 0; z != NULL && i < OT_COUNT(variants); i++) {
        if (sodium_base642bin(out, max, z, json_string_length(text), NULL, n_out, NULL,
                              variants[i]) == 0) {
            return true;
        }
    }
    return false;
}

static ot_rc take_payload(const json_t *j, ot_envelope *e, ot_error *err)
{
    const json_t *payload = json_object_get(j, "payload");
    const json_t *type = json_object_get(j, "payloadType");
    size_t len = json_string_length(type);
    if (len == 0 || len > OT_ENVELOPE_TYPE_MAX || strlen(json_string_value(type)) != len) {
        return ot_fail(err, OT_INVALID, "envelope: 'payloadType' must be text of 1 to %d bytes",
                       OT_ENVELOPE_TYPE_MAX);
    }
    memcpy(e->type, json_string_value(type), len + 1);
    size_t max = json_string_length(payload) / 4 * 3 + 3;
    if (!ot_str_reserve(&e->payload, max)) {
        return ot_fail(err, OT_EXHAUSTED, "envelope: no memory for its payload");
    }
    if (!unbase64(payload, (uint8_t *)e->payload.data, max, &e->payload.len)) {
        return ot_fail(err, OT_INVALID, "envelope: 'payload' must be base64");
    }
    e->payload.data[e->payload.len] = 0;
    return OT_OK;
}

static ot_rc take_signatures(const json_t *j, ot_envelope *e, ot_error *err)
{
    const json_t *list = json_object_get(j, "signatures");
    size_t n = json_array_size(list), got;
    if (n == 0 || n > OT_ENVELOPE_SIGNATURES_MAX) {
        return ot_fail(err, OT_INVALID,
                       "envelope: 'signatures' must be a list of 1 to %d; it has %zu",
                       OT_ENVELOPE_SIGNATURES_MAX, n);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *sig = json_object_get(json_array_get(list, i), "sig");
        /* Another algorithm's signature may stand beside ours: it is nobody's here. */
        if (unbase64(sig, e->signatures[e->n_signatures], crypto_sign_BYTES, &got) &&
            got == crypto_sign_BYTES) {
            e->n_signatures++;
        }
    }
    return e->n_signatures > 0
               ? OT_OK
               : ot_fail(err, OT_INVALID, "envelope: no signature of 64 bytes in base64");
}

ot_rc ot_envelope_parse(const char *json, size_t n, ot_envelope *out, ot_error *err)
{
    json_error_t je;
    if (n > OT_ENVELOPE_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "envelope: %zu bytes; the limit is %d", n,
                       OT_ENVELOPE_MAX);
    }
    json_t *j = json_loadb(json, n, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(j)) {
        bool bad = j == NULL;
        json_decref(j);
        return ot_fail(err, OT_INVALID, "envelope: %s",
                       bad ? je.text : "a JSON object is expected");
    }
    ot_envelope e = {0};
    ot_str_init(&e.payload);
    ot_rc rc = take_payload(j, &e, err);
    if (rc == OT_OK) {
        rc = take_signatures(j, &e, err);
    }
    json_decref(j);
    if (rc != OT_OK) {
        ot_envelope_done(&e);
        return rc;
    }
    *out = e;
    return OT_OK;
}

bool ot_envelope_signed_by(const ot_envelope *e, const ot_key *k)
{
    OT_AUTO(ot_str_done) ot_str pae = OT_STR_INIT;
    ot_envelope_pae(e->type, e->payload.data, e->payload.len, &pae);
    bool good = false;
    for (size_t i = 0; !pae.failed && i < e->n_signatures; i++) {
        good = good || crypto_sign_verify_detached(e->signatures[i], (const uint8_t *)pae.data,
                                                   pae.len, k->b) == 0;
    }
    return good;
}
