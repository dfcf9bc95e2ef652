/* Trust: Ed25519 keys (RFC 8032), and envelopes that say who signed what.
 *
 * An envelope is DSSE v1.0 (https://github.com/secure-systems-lab/dsse): a payload, its type, and
 * signatures over both. Public keys are SubjectPublicKeyInfo, private ones PKCS #8, as PEM files or
 * as the base64 inside them (RFC 8410): what OpenSSL, in-toto and others read.
 *
 * What an envelope holds is bytes of a stranger until ot_envelope_signed_by says whose they are.
 * Threads: any; one envelope belongs to one thread. Lifetime: init by parse, done by
 * ot_envelope_done. */
#ifndef OT_MODEL_TRUST_H
#define OT_MODEL_TRUST_H

#include "base/disk.h"
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_KEY_ID 17                 /* 16 hex digits + NUL */
#define OT_KEY_TEXT 61               /* base64 + NUL */
#define OT_SIGNER_FILE "signing.key" /* in the data directory */
#define OT_KEY_FILE_MAX 4096         /* bytes of a file with a key */
#define OT_ENVELOPE_MAX 393216       /* bytes of an envelope as JSON */
#define OT_ENVELOPE_PAYLOAD_MAX 262144
#define OT_ENVELOPE_TYPE_MAX 127
#define OT_ENVELOPE_SIGNATURES_MAX 8

typedef struct ot_key {
    uint8_t b[32];
} ot_key;

/* The short name of a key: the first digits of the SHA-256 of its SubjectPublicKeyInfo. Not enough
 * to trust a key by. Both return `out`. */
char *ot_key_id(const ot_key *k, char out[OT_KEY_ID]);
char *ot_key_text(const ot_key *k, char out[OT_KEY_TEXT]); /* base64 of SubjectPublicKeyInfo */
bool ot_key_equal(const ot_key *a, const ot_key *b);
/* Reads what ot_key_text wrote, or a PEM file with "PUBLIC KEY". */
ot_rc ot_key_parse(const char *text, size_t n, ot_key *out, ot_error *err) OT_CHECKED;

/* A key to sign with. Wipe it when it is no longer needed. */
typedef struct ot_signer {
    ot_key key;
    uint8_t secret[64]; /* libsodium's form */
} ot_signer;

/* Reads the key file at `path`; where there is none it makes a key and writes it, mode 0600.
 * OT_DENIED: others can read the file. */
ot_rc ot_signer_open(ot_disk *disk, const char *path, ot_signer *out, ot_error *err) OT_CHECKED;
void ot_signer_wipe(ot_signer *s); /* also for OT_AUTO */

/* Appends an envelope of one signature as JSON. */
ot_rc ot_envelope_sign(const ot_signer *s, const char *type, const void *payload, size_t n,
                       ot_str *json_out, ot_error *err) OT_CHECKED;

typedef struct ot_envelope {
    ot_str payload;
    char type[OT_ENVELOPE_TYPE_MAX + 1];
    size_t n_signatures;
    uint8_t signatures[OT_ENVELOPE_SIGNATURES_MAX][64];
} ot_envelope;

ot_rc ot_envelope_parse(const char *json, size_t n, ot_envelope *out, ot_error *err) OT_CHECKED;
void ot_envelope_done(ot_envelope *e); /* also of a zeroed one; also for OT_AUTO */
/* One of its signatures is this key's over this payload and type. */
bool ot_envelope_signed_by(const ot_envelope *e, const ot_key *k);

/* DSSE's pre-authentication encoding, what is signed: appended to `out`. */
void ot_envelope_pae(const char *type, const void *payload, size_t n, ot_str *out);

#endif
