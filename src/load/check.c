#include "load/check.h"

#include "base/hash.h"
#include "load/reply.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SAME_MAX 8              /* bodies of a version and input that are known word by word */
#define KEPT_MAX (256ull << 20) /* bytes of first answers */
#define FAULT_MAX 400

/* What a version has answered to an input. */
typedef struct known {
    struct known *next;
    uint32_t version; /* index */
    size_t n_same;
    ot_slice same[SAME_MAX]; /* whole bodies that were found to agree */
    ot_load_outputs first;   /* what is compared with, unless there are expected outputs */
} known;

struct ot_load_check {
    const ot_load_target *target;
    const ot_load_inputs *expected;
    double abs, rel;
    size_t n_inputs;
    known **known; /* one list an input */
    ot_arena kept, scratch;
    ot_load_version *versions;
    size_t n_versions;
    char fault[FAULT_MAX];
};

ot_rc ot_load_check_create(const ot_load_target *t, size_t n_inputs, const ot_load_inputs *expected,
                           double abs, double rel, ot_load_check **out, ot_error *err)
{
    ot_load_check *c = ot_calloc(1, sizeof *c);
    if (c == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for checking");
    }
    *c = (ot_load_check){
        .target = t, .expected = expected, .abs = abs, .rel = rel, .n_inputs = n_inputs};
    ot_arena_init(&c->kept, 1u << 16, KEPT_MAX);
    ot_arena_init(&c->scratch, 1u << 16, KEPT_MAX);
    c->known = ot_calloc(n_inputs, sizeof(known *));
    c->versions = ot_calloc(OT_LOAD_VERSIONS_MAX, sizeof *c->versions);
    if (c->known == NULL || c->versions == NULL) {
        ot_load_check_destroy(c);
        return ot_fail(err, OT_EXHAUSTED, "load: out of memory for checking");
    }
    *out = c;
    return OT_OK;
}

void ot_load_check_destroy(ot_load_check *c)
{
    if (c != NULL) {
        ot_arena_done(&c->kept);
        ot_arena_done(&c->scratch);
        ot_free(c->known);
        ot_free(c->versions);
        ot_free(c);
    }
}

/* ---- tensors */

static bool disagree(char *why, size_t cap, const ot_tensor *t, const char *fmt, ...)
{
    int n = snprintf(why, cap, "output '%s': ", t->name != NULL ? t->name : "");
    va_list ap;
    va_start(ap, fmt);
    if (n > 0 && (size_t)n < cap) {
        vsnprintf(why + n, cap - (size_t)n, fmt, ap);
    }
    va_end(ap);
    return false;
}

static bool is_number(ot_dtype dt)
{
    return dt != OT_DT_BYTES;
}

bool ot_load_agrees(const ot_tensor *got, const ot_tensor *want, double abs, double rel, char *why,
                    size_t why_cap)
{
    if (got->rank != want->rank ||
        memcmp(got->dims, want->dims, (size_t)got->rank * sizeof got->dims[0]) != 0) {
        char a[OT_SHAPE_TEXT], b[OT_SHAPE_TEXT];
        return disagree(why, why_cap, got, "shape %s instead of %s",
                        ot_shape_format(got->dims, got->rank, a),
                        ot_shape_format(want->dims, want->rank, b));
    }
    if (got->dtype == want->dtype && got->size_bytes == want->size_bytes &&
        (got->size_bytes == 0 || memcmp(got->data, want->data, got->size_bytes) == 0)) {
        return true;
    }
    if (!is_number(got->dtype) || !is_number(want->dtype)) {
        return disagree(why, why_cap, got, "other text than expected");
    }
    int64_t n = ot_tensor_count(got);
    for (int64_t i = 0; i < n; i++) {
        double x = ot_tensor_f64_at(got, i), y = ot_tensor_f64_at(want, i);
        bool same = x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= abs + rel * fabs(y);
        if (!same) {
            return disagree(why, why_cap, got, "element %lld is %.9g instead of %.9g", (long long)i,
                            x, y);
        }
    }
    return true;
}

bool ot_load_outputs_agree(const ot_load_outputs *got, const ot_tensor *want, size_t n, double abs,
                           double rel, char *why, size_t cap)
{
    if (got->n != n) {
        snprintf(why, cap, "%zu outputs instead of %zu", got->n, n);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const ot_tensor *found = NULL;
        for (size_t k = 0; k < n; k++) {
            const char *name = got->tensors[k].name;
            if (name != NULL && strcmp(name, want[i].name) == 0) {
                found = &got->tensors[k];
            }
        }
        if (found == NULL) {
            snprintf(why, cap, "output '%s' is missing", want[i].name);
            return false;
        }
        if (!ot_load_agrees(found, &want[i], abs, rel, why, cap)) {
            return false;
        }
    }
    return true;
}

/* ---- versions */

/* The version as the answer's head says it; of ours alone, and of any protocol: the third part of
 * the prediction id. */
static bool version_of_head(const ot_load_answer *a, char out[24])
{
    ot_slice id = ot_load_reply_field(a->head.p, a->head.n, "overtake-prediction-id");
    unsigned long long version;
    char text[80];
    if (id.p == NULL || id.n >= sizeof text) {
        return false;
    }
    memcpy(text, id.p, id.n);
    text[id.n] = '\0';
    if (sscanf(text, "%*[0-9a-f]-%*[0-9a-f]-%llx-", &version) != 1) {
        return false;
    }
    snprintf(out, 24, "%llu", version);
    return true;
}

void ot_load_answered_by(const ot_load_target *t, const ot_load_answer *a, char out[24])
{
    if (!version_of_head(a, out)) {
        ot_load_version_of(t, a, out);
    }
}

/* OT_LOAD_VERSIONS_MAX: too many. */
static uint32_t version_index(ot_load_check *c, const ot_load_answer *a)
{
    char name[24];
    ot_load_answered_by(c->target, a, name);
    /* Versions come in order: the newest first. */
    for (size_t i = c->n_versions; i > 0; i--) {
        if (strcmp(c->versions[i - 1].name, name) == 0) {
            return (uint32_t)(i - 1);
        }
    }
    if (c->n_versions < OT_LOAD_VERSIONS_MAX) {
        snprintf(c->versions[c->n_versions++].name, sizeof name, "%s", name);
        return (uint32_t)(c->n_versions - 1);
    }
    return OT_LOAD_VERSIONS_MAX;
}

size_t ot_load_check_versions(const ot_load_check *c, const ot_load_version **out)
{
    *out = c->versions;
    return c->n_versions;
}

const char *ot_load_check_first_fault(const ot_load_check *c)
{
    return c->fault;
}

/* ---- judging */

static ot_load_outcome fault(ot_load_check *c, ot_load_outcome how, const char *fmt, ...)
{
    if (c->fault[0] == '\0') {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(c->fault, sizeof c->fault, fmt, ap);
        va_end(ap);
    }
    return how;
}

static known *known_of(ot_load_check *c, size_t input, uint32_t version)
{
    known *k = c->known[input];
    while (k != NULL && k->version != version) {
        k = k->next;
    }
    if (k == NULL) {
        k = ot_arena_calloc(&c->kept, 1, sizeof *k);
        if (k != NULL) {
            k->version = version;
            k->next = c->known[input];
            c->known[input] = k;
        }
    }
    return k;
}

/* Keeps the body, so that the same one need not be read again. */
static ot_slice keep(ot_load_check *c, known *k, const ot_load_answer *a)
{
    char *copy = k->n_same < SAME_MAX ? ot_arena_alloc(&c->kept, OT_MAX(a->body.n, 1u)) : NULL;
    if (copy == NULL) {
        return (ot_slice){0};
    }
    memcpy(copy, a->body.p, a->body.n);
    k->same[k->n_same] = (ot_slice){copy, a->body.n};
    return k->same[k->n_same++];
}

/* Decodes and compares an answer that is not known word by word. */
static ot_load_outcome compare(ot_load_check *c, size_t input, known *k, const ot_load_answer *a)
{
    ot_error err;
    ot_load_outputs got;
    char why[FAULT_MAX];
    bool is_first = c->expected == NULL && k->first.tensors == NULL;
    ot_load_answer kept = *a;
    if (is_first) { /* what is compared with later has to stay */
        kept.body = keep(c, k, a);
        if (kept.body.p == NULL) {
            return fault(c, OT_LOAD_MALFORMED, "more than %llu MiB of answers to compare with",
                         KEPT_MAX >> 20);
        }
    }
    ot_arena_reset(&c->scratch);
    ot_arena *arena = is_first ? &c->kept : &c->scratch;
    if (ot_load_decode(c->target, &kept, arena, &got, &err) != OT_OK) {
        k->n_same = is_first ? 0 : k->n_same;
        return fault(c, OT_LOAD_MALFORMED, "%s", err.msg);
    }
    if (is_first) {
        k->first = got;
        return OT_LOAD_CORRECT;
    }
    const ot_tensor *want =
        c->expected != NULL ? ot_load_inputs_at(c->expected, input) : k->first.tensors;
    size_t n = c->expected != NULL ? c->expected->per_request : k->first.n;
    if (!ot_load_outputs_agree(&got, want, n, c->abs, c->rel, why, sizeof why)) {
        return fault(c, OT_LOAD_WRONG, "input %zu, version %s: %s", input,
                     c->versions[k->version].name, why);
    }
    (void)keep(c, k, a);
    return OT_LOAD_CORRECT;
}

ot_load_outcome ot_load_check_judge(void *arg, size_t request, const ot_load_answer *a,
                                    bool measured)
{
    ot_load_check *c = arg;
    ot_load_outcome how = ot_load_status(a);
    if (how == OT_LOAD_REFUSED) {
        return how;
    }
    if (how != OT_LOAD_CORRECT) {
        return fault(c, how, "status %d: %.*s", a->grpc_status > 0 ? a->grpc_status : a->status,
                     (int)OT_MIN(a->body.n, 300u), a->body.p);
    }
    size_t input = request % c->n_inputs;
    uint32_t version = version_index(c, a);
    known *k = version < OT_LOAD_VERSIONS_MAX ? known_of(c, input, version) : NULL;
    if (k == NULL) {
        return fault(c, OT_LOAD_MALFORMED, "more versions or answers than can be told apart");
    }
    for (size_t i = 0; i < k->n_same && how == OT_LOAD_CORRECT; i++) {
        if (k->same[i].n == a->body.n && memcmp(k->same[i].p, a->body.p, a->body.n) == 0) {
            c->versions[version].correct += measured;
            return OT_LOAD_CORRECT;
        }
    }
    how = compare(c, input, k, a);
    c->versions[version].correct += measured && how == OT_LOAD_CORRECT;
    c->versions[version].wrong += measured && how == OT_LOAD_WRONG;
    return how;
}
