/* The statement that goes with a version from one server to another: what an envelope signs.
 *
 * It is an in-toto Statement v1 (https://in-toto.io/Statement/v1): its subject is the bundle by
 * digest, its predicate says which version it was, what it was made from, how it was judged, who
 * sent it. The bundle's digest is that of its manifest, which names every file by digest.
 * Threads: one a statement. Lifetime: init by parse or by hand, done by ot_statement_done. */
#ifndef OT_MODEL_STATEMENT_H
#define OT_MODEL_STATEMENT_H

#include "base/error.h"
#include "base/hash.h"
#include "base/str.h"
#include "model/trust.h"

#include <jansson.h>
#include <stdint.h>

#define OT_STATEMENT_TYPE "application/vnd.in-toto+json" /* an envelope's payloadType */
#define OT_STATEMENT_PREDICATE "urn:overtake:promotion:1"

typedef struct ot_statement {
    ot_digest bundle;
    char model[65];
    int64_t version;     /* at the source */
    char status[17];     /* there: "champion" */
    char key[OT_KEY_ID]; /* of the server that signed */
    char actor[65];      /* who asked for it */
    int64_t time_us;
    json_t *lineage;    /* an object: the bundle's lineage.json. Owned, as the next two */
    json_t *evaluation; /* an object: what its gate found; null when none judged it */
    json_t *reported;   /* an object: what the program said of it */
} ot_statement;

void ot_statement_done(ot_statement *s); /* also of a zeroed one; also for OT_AUTO */
/* Appends the JSON; equal statements give equal bytes. */
ot_rc ot_statement_write(const ot_statement *s, ot_str *out, ot_error *err) OT_CHECKED;
/* OT_INVALID names what is missing or wrong; unknown keys are refused, since nobody would act by
 * them. */
ot_rc ot_statement_parse(const char *json, size_t n, ot_statement *out, ot_error *err) OT_CHECKED;

#endif
