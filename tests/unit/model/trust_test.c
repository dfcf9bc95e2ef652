/* Keys and envelopes: vectors of the standards, what is written is read, what is changed is
 * nobody's. */
#include "model/trust.h"

#include "base/hash.h"
#include "base/mem.h"
#include "unit/bundle_fixture.h"

#include <sodium.h>

/* RFC 8032, 7.1, test 1, as PKCS #8 and SubjectPublicKeyInfo (RFC 8410). */
#define PRIVATE_PEM                                                                                \
    "-----BEGIN PRIVATE KEY-----\n"                                                                \
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"                           \
    "-----END PRIVATE KEY-----\n"
#define PUBLIC_TEXT "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

static ot_signer signer;

static void test_keys(void)
{
    ot_error e = {0};
    ot_key k;
    char text[OT_KEY_TEXT], id[OT_KEY_ID];
    write_text(at("known.key"), PRIVATE_PEM);
    chmod(at("known.key"), 0600);
    ok(ot_signer_open(disk, at("known.key"), &signer, &e) == OT_OK, "a key is read %s", e.msg);
    is_str(ot_key_text(&signer.key, text), PUBLIC_TEXT, "its public half is RFC 8032's");
    is_str(ot_key_id(&signer.key, id), "06e3fd8fda29bb60", "its id");
    ok(ot_key_parse(PUBLIC_TEXT, strlen(PUBLIC_TEXT), &k, &e) == OT_OK &&
           ot_key_equal(&k, &signer.key),
       "the text is read again");
    const char *pem = "junk\n-----BEGIN PUBLIC KEY-----\n" PUBLIC_TEXT "\n-----END PUBLIC KEY-----";
    ok(ot_key_parse(pem, strlen(pem), &k, &e) == OT_OK && ot_key_equal(&k, &signer.key),
       "so is a PEM file");
    static const char *const bad[] = {
        "",
        "AAAA",
        "-----BEGIN PUBLIC KEY-----\n" PUBLIC_TEXT,
        "MCowBQYDK2VuAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", /* X25519 */
        PUBLIC_TEXT "AAAA",
        PRIVATE_PEM,
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(ot_key_parse(bad[i], strlen(bad[i]), &k, &e) == OT_INVALID, "no key: %zu", i);
    }
}

static void test_key_file(void)
{
    ot_error e = {0};
    ot_signer first, again;
    ot_stat st;
    ok(ot_signer_open(disk, at("new.key"), &first, &e) == OT_OK, "a key is made %s", e.msg);
    ok(disk->ops->stat(disk, at("new.key"), &st, &e) == OT_OK && st.mode == 0600, "mode 0600");
    ok(ot_signer_open(disk, at("new.key"), &again, &e) == OT_OK &&
           memcmp(&first, &again, sizeof first) == 0,
       "and found again");
    ok(!ot_key_equal(&first.key, &signer.key), "no two are alike");
    chmod(at("new.key"), 0640);
    ok(ot_signer_open(disk, at("new.key"), &again, &e) == OT_DENIED, "others can read it: %s",
       e.msg);
    write_text(at("bad.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    chmod(at("bad.key"), 0600);
    ok(ot_signer_open(disk, at("bad.key"), &again, &e) == OT_INVALID, "no key in it: %s", e.msg);
    ot_signer_wipe(&first);
    static const ot_signer zero;
    ok(memcmp(&first, &zero, sizeof zero) == 0, "wiped");
}

/* https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, "Test Vectors". */
static void test_pae(void)
{
    OT_AUTO(ot_str_done) ot_str pae = OT_STR_INIT;
    ot_envelope_pae("http://example.com/HelloWorld", "hello world", 11, &pae);
    is_str(pae.data, "DSSEv1 29 http://example.com/HelloWorld 11 hello world", "DSSE's vector");
    ot_str_clear(&pae);
    ot_envelope_pae("", "", 0, &pae);
    is_str(pae.data, "DSSEv1 0  0 ", "nothing of no type");
}

static bool signed_by(const char *json, const ot_key *k)
{
    OT_AUTO(ot_envelope_done) ot_envelope e = {0};
    return ot_envelope_parse(json, strlen(json), &e, NULL) == OT_OK && ot_envelope_signed_by(&e, k);
}

/* The envelope with `from` as `to`, of the same length or not. */
static char *edited(const char *json, const char *from, const char *to)
{
    const char *at_ = strstr(json, from);
    return ot_asprintf("%.*s%s%s", (int)(at_ - json), json, to, at_ + strlen(from));
}

static void test_envelope(void)
{
    ot_error e = {0};
    ot_key other = signer.key;
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    OT_AUTO(ot_envelope_done) ot_envelope env = {0};
    ok(ot_envelope_sign(&signer, "http://example.com/HelloWorld", "hello world", 11, &json, &e) ==
           OT_OK,
       "signed");
    ok(ot_envelope_parse(json.data, json.len, &env, &e) == OT_OK, "read %s", e.msg);
    is_str(env.payload.data, "hello world", "its payload");
    is_str(env.type, "http://example.com/HelloWorld", "its type");
    ok(ot_envelope_signed_by(&env, &signer.key), "it is the signer's");
    other.b[0] ^= 1;
    ok(!ot_envelope_signed_by(&env, &other), "and nobody else's");
    static const char *const changes[][2] = {
        {"aGVsbG8gd29ybGQ=", "aGVsbG8gd29ybGR="}, /* the same bits but unused ones: not canonical */
        {"aGVsbG8gd29ybGQ=", "aGVsbG8gd29ybGQh"},
        {"HelloWorld", "HelloWorle"},
        {"\"signatures\":[{", "\"signatures\":[{},{},{},{},{},{},{},{},{"},
        {"\"payload\":", "\"payload\":\"\",\"payload\":"},
    };
    for (size_t i = 0; i < OT_COUNT(changes); i++) {
        OT_AUTO(ot_free_ptr) char *z = edited(json.data, changes[i][0], changes[i][1]);
        ok(!signed_by(z, &signer.key), "changed: %s", changes[i][1]);
    }
    OT_AUTO(ot_free_ptr)
    char *more =
        edited(json.data, "\"signatures\":[", "\"x\":1,\"signatures\":[{\"sig\":\"AAAA\"},");
    ok(signed_by(more, &signer.key), "what is not known does not count");
    for (size_t n = 0; n < json.len; n++) {
        OT_AUTO(ot_envelope_done) ot_envelope cut = {0};
        if (ot_envelope_parse(json.data, n, &cut, &e) == OT_OK) {
            ok(false, "cut after %zu bytes", n);
        }
    }
}

static void test_url_alphabet(void)
{
    ot_error e = {0};
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ok(ot_envelope_sign(&signer, "t", "\xfb\xff\xfe", 3, &json, &e) == OT_OK, "signed");
    OT_AUTO(ot_free_ptr) char *z = edited(json.data, "+//+", "-__-");
    ok(signed_by(z, &signer.key), "base64 of URLs is read too");
}

static void test_limits(void)
{
    ot_error e = {0};
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    OT_AUTO(ot_envelope_done) ot_envelope env = {0};
    OT_AUTO(ot_free_ptr) char *big = ot_calloc(1, OT_ENVELOPE_MAX + 1);
    ok(ot_envelope_sign(&signer, "t", big, OT_ENVELOPE_PAYLOAD_MAX + 1, &json, &e) == OT_EXHAUSTED,
       "a large statement: %s", e.msg);
    memset(big, ' ', OT_ENVELOPE_MAX + 1);
    ok(ot_envelope_parse(big, OT_ENVELOPE_MAX + 1, &env, &e) == OT_EXHAUSTED,
       "a large envelope: %s", e.msg);
    ok(ot_envelope_sign(&signer, "t", big, OT_ENVELOPE_PAYLOAD_MAX, &json, &e) == OT_OK &&
           json.len < OT_ENVELOPE_MAX && signed_by(json.data, &signer.key),
       "the largest one goes");
    static const char *const bad[] = {
        "[]", "{}", "{\"payload\":\"\",\"payloadType\":\"\"}",
        "{\"payload\":1,\"payloadType\":\"t\",\"signatures\":[]}",
        "{\"payload\":\"\",\"payloadType\":\"t\",\"signatures\":[1]}"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(ot_envelope_parse(bad[i], strlen(bad[i]), &env, &e) == OT_INVALID, "%s: %s", bad[i],
           e.msg);
    }
}

int main(void)
{
    scratch_start();
    test_keys();
    test_key_file();
    test_pae();
    test_envelope();
    test_url_alphabet();
    test_limits();
    scratch_end();
    return tap_done();
}
