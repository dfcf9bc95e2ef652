#include "serve/route.h"

#include "base/hash.h"
#include "base/mem.h"
#include "tap.h"

#include <string.h>

static ot_variant *variant(uint64_t version)
{
    ot_variant *v;
    if (ot_variant_create(1, 1, &v, NULL) != OT_OK) {
        return NULL;
    }
    v->version = version;
    return v;
}

static ot_dep *dep(const char *name, const ot_role *roles, const double *shares, size_t n)
{
    ot_dep *d;
    if (ot_dep_create(name, &d, NULL) != OT_OK) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        d->arms[i] = (ot_arm){.role = roles[i], .variant = variant(i + 1)};
    }
    d->n_arms = n;
    ot_dep_set_shares(d, shares);
    return d;
}

static void shares(void)
{
    ot_role roles[] = {OT_ROLE_SHADOW, OT_ROLE_CHAMPION, OT_ROLE_CANARY};
    ot_dep *d = dep("d", roles, (double[]){0, 0.9, 0.1}, 3);
    is_int(d->n_live, 2, "two live arms");
    is_int(d->arms[0].role, OT_ROLE_CANARY, "the canary first");
    is_int(d->arms[2].role, OT_ROLE_SHADOW, "the shadow last");
    is_int(ot_dep_version(d, 2)->role, OT_ROLE_CHAMPION, "by version");
    ok(ot_dep_version(d, 9) == NULL, "no such version");
    ot_dep *wider = dep("d", roles, (double[]){0, 0.5, 0.5}, 3);
    int canary = 0, more = 0, kept = 0;
    for (uint32_t key = 0; key < 20000; key++) {
        bool was = ot_dep_pick(d, &key, sizeof key)->role == OT_ROLE_CANARY;
        bool is = ot_dep_pick(wider, &key, sizeof key)->role == OT_ROLE_CANARY;
        canary += was;
        more += is;
        kept += was && is;
    }
    ok(canary > 1830 && canary < 2170, "a tenth of 20,000 keys: %d (sd 42)", canary);
    ok(more > 9700 && more < 10300, "half of them: %d (sd 71)", more);
    is_int(kept, canary, "a canary that grows keeps its keys");
    ot_dep_unref(d);
    ot_dep_unref(wider);

    d = dep("d", (ot_role[]){OT_ROLE_CHAMPION, OT_ROLE_CANARY}, (double[]){1, 0}, 2);
    int none = 0;
    for (uint32_t key = 0; key < 1000; key++) {
        none += ot_dep_pick(d, &key, sizeof key)->role == OT_ROLE_CANARY;
    }
    is_int(none, 0, "a share of 0 gets nothing");
    ot_dep_unref(d);
    d = dep("d", roles, (double[]){0}, 1);
    ok(ot_dep_pick(d, "k", 1) == NULL, "a shadow alone answers nothing");
    ot_dep_unref(d);
}

/* The version that answers each of 20,000 keys. */
static void answers(const ot_dep *d, uint64_t *out)
{
    for (uint32_t key = 0; key < 20000; key++) {
        out[key] = ot_dep_pick(d, &key, sizeof key)->variant->version;
    }
}

static void arms(void)
{
    static uint64_t before[20000], after[20000];
    ot_role roles[] = {OT_ROLE_CHAMPION, OT_ROLE_ARM, OT_ROLE_ARM, OT_ROLE_ARM, OT_ROLE_CANARY};
    ot_dep *d = dep("d", roles, (double[]){0.5, 0.2, 0.3, 0, 0}, 5);
    int n[6] = {0}, moved = 0, from_champion = 0;
    is_int(d->n_live, 5, "all are live");
    is_int(d->arms[4].role, OT_ROLE_CHAMPION, "the champion last");
    answers(d, before);
    for (int i = 0; i < 20000; i++) {
        n[before[i]]++;
    }
    ok(n[2] > 3770 && n[2] < 4230, "a fifth: %d (sd 57)", n[2]);
    ok(n[3] > 5740 && n[3] < 6260, "three tenths: %d (sd 65)", n[3]);
    is_int(n[4] + n[5], 0, "no share, no traffic");
    is_int(ot_dep_version(d, 4)->role, OT_ROLE_ARM, "but at hand");

    memcpy(d->labels[0].name, "blue", 5);
    memcpy(d->labels[1].name, "gone", 5);
    d->labels[0].version = 4;
    d->labels[1].version = 77;
    d->n_labels = 2;
    is_int(ot_dep_label(d, "blue", 4)->variant->version, 4, "by its label");
    is_int(ot_dep_label(d, "stable", 6)->variant->version, 1, "the champion");
    is_int(ot_dep_label(d, "canary", 6)->variant->version, 5, "the canary");
    ok(ot_dep_label(d, "gone", 4) == NULL, "its version is not here");
    ok(ot_dep_label(d, "blu", 3) == NULL && ot_dep_label(d, "blues", 5) == NULL &&
           ot_dep_label(d, "", 0) == NULL,
       "no such label");
    ot_dep_unref(d);

    d = dep("d", roles, (double[]){0.4, 0.2, 0.3, 0, 0.1}, 5);
    answers(d, after);
    for (int i = 0; i < 20000; i++) {
        moved += before[i] != after[i];
        from_champion += before[i] == 1 && after[i] == 5;
    }
    ok(moved > 1830 && moved < 2170, "a tenth moved: %d (sd 42)", moved);
    is_int(from_champion, moved, "from the champion to the canary, and no other");
    ot_dep_unref(d);

    d = dep("d", roles, (double[]){0, 0.1, 0.9}, 3);
    answers(d, after);
    n[1] = 0;
    for (int i = 0; i < 20000; i++) {
        n[1] += after[i] == 1;
    }
    is_int(n[1], 0, "a champion may have none");
    ot_dep_unref(d);
}

static void find(void)
{
    ot_route *r;
    is_int(ot_route_create(4, &r, NULL), OT_OK, "route");
    const char *names[] = {"a", "ab", "abc", "b"};
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        r->deps[r->n_deps++] = dep(names[i], NULL, (double[]){0}, 0);
    }
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        ok(ot_route_find(r, names[i], strlen(names[i])) == r->deps[i], "found %s", names[i]);
    }
    const char *absent[] = {"", "aa", "abcd", "c", "A"};
    for (size_t i = 0; i < OT_COUNT(absent); i++) {
        ok(ot_route_find(r, absent[i], strlen(absent[i])) == NULL, "not '%s'", absent[i]);
    }
    ot_route_destroy(r);
}

static void sign(ot_manifest *m, ot_dtype dtype, int64_t columns)
{
    m->outputs = ot_arena_calloc(&m->arena, 1, sizeof *m->outputs);
    m->outputs[0] = (ot_tensor_spec){.name = "y", .dtype = dtype, .rank = 2, .dims = {-1, columns}};
    m->n_outputs = 1;
}

static void constant(void)
{
    ot_error err;
    ot_dep *d = dep("d", (ot_role[]){OT_ROLE_CHAMPION}, (double[]){1}, 1);
    sign(&d->arms[0].variant->sig, OT_DT_INT32, 2);
    is_int(ot_dep_set_constant(d, "[3, -4]", &err), OT_OK, "a row of integers");
    ok(d->constant[0].dims[0] == 1 && ot_tensor_f64_at(&d->constant[0], 1) == -4, "its values");
    is_int(ot_dep_set_constant(d, "{\"y\": 9}", &err), OT_OK, "one number for all");
    is_int((int)ot_tensor_f64_at(&d->constant[0], 0), 9, "everywhere");
    const char *bad[] = {"[1,2,3]",   "[]",        "\"x\"", "{\"z\": 1}",
                         "[1,\"2\"]", "[1e300,0]", "{",     "null"};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(ot_dep_set_constant(d, bad[i], &err) != OT_OK, "refused: %s", bad[i]);
    }
    ot_dep_unref(d);
    d = dep("d", (ot_role[]){OT_ROLE_CHAMPION}, (double[]){1}, 1);
    sign(&d->arms[0].variant->sig, OT_DT_FP16, -1);
    ok(ot_dep_set_constant(d, "1", &err) != OT_OK, "a row of unknown size has no constant");
    ot_dep_unref(d);
}

int main(void)
{
    shares();
    arms();
    find();
    constant();
    return tap_done();
}
