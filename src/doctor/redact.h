/* Takes secrets out of text before it leaves the machine: known ones wherever they stand, and what
 * looks like one.
 *
 *     https://user:pass@host/x?key=1    https://[redacted]@host/x?[redacted]
 *     Authorization: ...                Authorization: [redacted]     (also Bearer, Basic)
 *     DB_PASSWORD=..., "token": "..."   the value: names with password, secret, token, ...
 *     AKIA..., ghp_..., a JWT           [redacted]
 *     -----BEGIN ... PRIVATE KEY-----   [redacted], to its end
 *     the home directory                ~
 *
 * Threads: one at a time. Lifetime: init/done. */
#ifndef OT_DOCTOR_REDACT_H
#define OT_DOCTOR_REDACT_H

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_REDACTED "[redacted]"
#define OT_REDACT_SECRET_MIN 6 /* bytes; a shorter one would be found in other words */
#define OT_REDACT_SECRETS_MAX 64

typedef struct ot_redactor {
    char *secrets[OT_REDACT_SECRETS_MAX];
    size_t n;
    char *home; /* NULL: stays */
    uint64_t count;
    bool failed; /* memory was short, or there are too many secrets: give nothing out */
} ot_redactor;

void ot_redactor_init(ot_redactor *r);
void ot_redactor_done(ot_redactor *r);
/* A secret that is known, as it stands and as JSON and URLs write it. */
void ot_redactor_add(ot_redactor *r, const char *secret);
/* The values of our environment's variables that are named like secrets. */
void ot_redactor_add_environment(ot_redactor *r);
void ot_redactor_hide_home(ot_redactor *r);
/* True for DB_PASSWORD, api-key, AWS_SECRET_ACCESS_KEY, ...; n bytes. */
bool ot_redact_is_secret_name(const char *name, size_t n);

/* Appends n bytes of text to `out` without the secrets. */
void ot_redact(ot_redactor *r, const char *p, size_t n, ot_str *out);

#endif
