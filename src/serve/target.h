/* The target: what a replica should serve, as the control plane's desired state says
 * (docs/architecture.md, "Agent protocol"), or as a directory suggests when it is alone.
 *
 * Threads: control thread. Lifetime: heap, ot_target_destroy. */
#ifndef OT_SERVE_TARGET_H
#define OT_SERVE_TARGET_H

#include "base/error.h"
#include "base/str.h"
#include "model/apikey.h"
#include "model/manifest.h"
#include "serve/access.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OT_TARGET_DEPLOYMENTS_MAX 1024
#define OT_TARGET_VARIANTS_MAX 16 /* of a deployment */
#define OT_TARGET_LABELS_MAX 16
#define OT_TARGET_JSON_MAX (1u << 20)

/* In the order of the arms of a route: those with fixed shares first, so that a canary that grows
 * takes keys from the champion only. An arm of share 0 is at hand: loaded, proven and asked for by
 * version or label. */
typedef enum ot_role { OT_ROLE_ARM, OT_ROLE_CANARY, OT_ROLE_CHAMPION, OT_ROLE_SHADOW } ot_role;
const char *ot_role_name(ot_role role);

typedef enum ot_fallback {
    OT_FALLBACK_REFUSE,
    OT_FALLBACK_PREVIOUS,
    OT_FALLBACK_CONSTANT,
} ot_fallback;

/* Which requests go first when they have to wait. Numbers as Triton has them: 1 is the highest and
 * 0 says nothing; those above 3 count as 3. */
typedef enum ot_priority {
    OT_PRIORITY_DEFAULT,
    OT_PRIORITY_HIGH,
    OT_PRIORITY_NORMAL,
    OT_PRIORITY_LOW,
} ot_priority;
#define OT_PRIORITIES 3
/* "high", "normal", "low" or a number. False: it is none. */
bool ot_priority_parse(const char *p, size_t n, ot_priority *out);

/* How much of a replica a deployment may use (docs/scheduling.md). 0 is the replica's own rule. */
typedef struct ot_limits {
    uint32_t concurrency;    /* runs at a time, and so instances; more than that wait */
    uint32_t queue;          /* requests that may wait */
    uint64_t memory;         /* bytes that each version may take */
    uint64_t process_memory; /* bytes that a worker process may hold */
    int64_t deadline_us;     /* of a request that brings none */
    ot_priority priority;    /* of a request that brings none */
} ot_limits;

/* What nobody has said is as the version's manifest has it. */
void ot_limits_default(ot_limits *l, const ot_manifest_serve *own);

/* Whether a version runs in a worker process of its own (docs/isolation.md). */
typedef enum ot_isolate { OT_ISOLATE_AUTO, OT_ISOLATE_NONE, OT_ISOLATE_PROCESS } ot_isolate;
bool ot_isolate_parse(const char *s, ot_isolate *out); /* "none" or "process" */

typedef struct ot_target_variant {
    ot_role role;
    char model[65];
    uint64_t version;
    char bundle[65]; /* digest in hex; with `path` what tells states of its files apart, or "" */
    char *path;      /* alone: where the model lies; or NULL */
    double share;
    ot_isolate isolate; /* ISOLATE_AUTO: the replica's own rule */
} ot_target_variant;

typedef struct ot_target_label {
    char name[65];
    uint64_t version;
} ot_target_label;

typedef struct ot_target_deployment {
    char name[65];
    ot_fallback fallback;
    char *constant; /* JSON text, or NULL */
    double sample_rate;
    uint64_t sample_max_bytes;
    bool compare;
    ot_limits limits;
    ot_target_variant variants[OT_TARGET_VARIANTS_MAX];
    size_t n_variants;
    ot_target_label labels[OT_TARGET_LABELS_MAX];
    size_t n_labels;
    uint64_t
        previous; /* the version that runs when the champion fails; 0: a shadow older than it */
} ot_target_deployment;

typedef struct ot_target {
    uint64_t revision;
    char *blobs; /* directory of the content store; NULL when alone */
    int64_t window_us;
    ot_target_deployment *deployments; /* sorted by name, no two alike */
    size_t n_deployments, cap;
    bool keys_needed; /* requests need one of these */
    ot_apikey *keys;
    size_t n_keys;
    ot_manage manage; /* whose requests to load and unload are passed on */
} ot_target;

ot_rc ot_target_create(ot_target **t_out, ot_error *err) OT_CHECKED;
void ot_target_destroy(ot_target *t); /* NULL is fine */
/* Labels that are always there. */
#define OT_LABEL_STABLE "stable" /* the champion */
#define OT_LABEL_CANARY "canary" /* the version that is being released, while it has a share */

/* Refused, naming the field: unknown roles and fallbacks, names that cannot be names, shares that
 * do not add to 1 over champion, canary and arms, two champions, digests that are none, labels that
 * are built in. */
ot_rc ot_target_parse(const char *json, size_t n, ot_target **t_out, ot_error *err) OT_CHECKED;

/* The deployments of a replica alone, in the same form: {"deployments": [...]}; a variant has, in
 * place of its bundle, a `path` below `dir`, and is called like its deployment where it has no
 * `model`. `dir` NULL: as above. */
ot_rc ot_target_parse_at(const char *json, size_t n, const char *dir, ot_target **t_out,
                         ot_error *err) OT_CHECKED;

/* Adds an empty deployment in its place; OT_EXISTS, OT_EXHAUSTED. */
ot_rc ot_target_add(ot_target *t, const char *name, ot_target_deployment **d_out,
                    ot_error *err) OT_CHECKED;
ot_target_deployment *ot_target_find(const ot_target *t, const char *name);
void ot_target_remove(ot_target *t, const char *name);

#endif
