/* The route: which variant answers under a name. A snapshot never changes; a new one replaces it.
 *
 * Workers read the current snapshot through one atomic pointer; the turn of a worker's loop is its
 * quiescent point: a snapshot is freed when every worker has ended a turn after it was replaced.
 * What outlives a turn (a call in the pool) holds a reference on its deployment.
 *
 * Threads: built on the control thread, read by all. Lifetime: routes by their owner, deployments
 * counted. */
#ifndef OT_SERVE_ROUTE_H
#define OT_SERVE_ROUTE_H

#include "codec/tensor.h"
#include "serve/access.h"
#include "serve/target.h"
#include "serve/variant.h"

typedef struct ot_arm {
    ot_role role;
    ot_variant *variant; /* a reference */
    uint64_t below;      /* live arms: answers keys whose hash is below this (and not below the arm
                            before); UINT64_MAX for the last one */
} ot_arm;

/* A deployment as workers see it. */
typedef struct ot_dep {
    atomic_uint refs;
    char name[OT_SERVE_NAME];
    size_t name_len;
    ot_arm arms[OT_TARGET_VARIANTS_MAX]; /* live ones first: arms, canary, champion */
    size_t n_arms, n_live;
    ot_target_label labels[OT_TARGET_LABELS_MAX];
    size_t n_labels;
    ot_variant *previous; /* a reference, or NULL: runs when the champion fails */
    ot_fallback fallback;
    ot_tensor *constant;   /* one row of each output of the champion, or NULL */
    ot_arena memory;       /* of the constant */
    uint64_t sample_below; /* rows whose hash is at or below this are sampled */
    float sample_rate;
    bool sampled, compare;
    ot_limits limits;
    char state[OT_SERVE_NOTE]; /* without a live arm: why there is none */
} ot_dep;

typedef struct ot_route {
    uint64_t revision;
    bool ready;        /* all that this revision wants is loaded */
    ot_access *access; /* a reference; NULL: nobody needs a key */
    ot_manage manage;
    ot_dep **deps; /* sorted by name; a reference each */
    size_t n_deps;
} ot_route;

ot_rc ot_dep_create(const char *name, ot_dep **dep_out, ot_error *err) OT_CHECKED;
ot_dep *ot_dep_ref(ot_dep *d);
void ot_dep_unref(ot_dep *d); /* NULL is fine */
/* Sets the live arms' bounds from their shares (made to sum to 1) and sorts the arms, by role and
 * version. */
void ot_dep_set_shares(ot_dep *d, const double *shares);
/* The deployment's constant as rows of the champion's outputs. */
ot_rc ot_dep_set_constant(ot_dep *d, const char *json, ot_error *err) OT_CHECKED;

/* The live arm that answers this key, always the same for the same shares. A share that grows keeps
 * the keys it had. NULL when there is none. */
const ot_arm *ot_dep_pick(const ot_dep *d, const void *key, size_t n);
const ot_arm *ot_dep_version(const ot_dep *d, uint64_t version); /* NULL when not there */
/* What a label names: `stable` the champion, `canary` the canary, else what the deployment says.
 * NULL when there is no such label, or its version is not loaded. */
const ot_arm *ot_dep_label(const ot_dep *d, const char *label, size_t n);

ot_rc ot_route_create(size_t n_deps, ot_route **route_out, ot_error *err) OT_CHECKED;
void ot_route_destroy(ot_route *r); /* NULL is fine */
ot_dep *ot_route_find(const ot_route *r, const char *name, size_t n);
/* The deployment and the variant that speaks for it: the version asked for, else (0) the champion.
 * OT_NOT_FOUND, or OT_UNAVAILABLE where nothing of it is loaded. */
ot_rc ot_route_variant(const ot_route *r, const char *name, size_t n, uint64_t version,
                       const ot_dep **d_out, const ot_variant **v_out, ot_error *err) OT_CHECKED;

#endif
