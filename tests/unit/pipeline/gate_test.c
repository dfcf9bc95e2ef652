#include "pipeline/internal.h"
#include "tap.h"

#define APP                                                                                        \
    "schema: overtake/1\napp: digits\n"                                                            \
    "data: {base: {path: b.npz}, recent: {from: digits.labelled}}\n"                               \
    "train: {run: x, data: [base], model: m}\nserve: digits\n"

typedef struct verdict {
    bool passed, failed; /* failed: it could not be judged */
    char text[900];
} verdict;

static verdict judge(const char *gate, int64_t champion, const char *result)
{
    verdict v = {0};
    ot_error err = {0};
    OT_AUTO(ot_str_done) ot_str yaml = OT_STR_INIT;
    ot_str_addf(&yaml, APP "release:\n  - gate: %s\n", gate);
    pl_app a = {.st = {.champion = champion, .cycle = {.version = 4}}};
    json_t *j = json_loads(result, 0, NULL), *out = NULL;
    if (ot_app_parse(yaml.data, yaml.len, "app.yaml", "/", &a.app, &err) != OT_OK || j == NULL) {
        ok(false, "the test's own input: %s", err.msg);
    } else if (pl_gate_judge(&a, j, &v.passed, &out, &err) != OT_OK) {
        v.failed = true;
        snprintf(v.text, sizeof v.text, "%s", err.msg);
    } else {
        snprintf(v.text, sizeof v.text, "%s", json_string_value(json_object_get(out, "text")));
        ok(json_object_get(out, "data") != NULL, "the verdict holds the numbers");
    }
    json_decref(out);
    json_decref(j);
    ot_app_destroy(a.app);
    return v;
}

static const char repair[] =
    "{\"data\":{\"recent\":{\"rows\":80,\"candidate\":{\"accuracy\":0.9},\"champion\":{"
    "\"accuracy\":0."
    "61},\"only_candidate\":25,\"only_champion\":2,\"p_better\":1e-6},\"base\":{\"rows\":300,"
    "\"candidate\":{\"accuracy\":0.95},\"champion\":{\"accuracy\":0.96},\"only_candidate\":1,"
    "\"only_"
    "champion\":4,\"p_better\":0.97}}}";
/* What a program that ignores the new data gives: the same model again. */
static const char same[] = "{\"data\":{\"recent\":{\"rows\":80,\"candidate\":{\"accuracy\":0.61},"
                           "\"champion\":{\"accuracy\":"
                           "0.61},\"only_candidate\":0,\"only_champion\":0,\"p_better\":1.0}}}";
/* Better by chance: three rows to one. */
static const char lucky[] = "{\"data\":{\"recent\":{\"rows\":80,\"candidate\":{\"accuracy\":0.64},"
                            "\"champion\":{\"accuracy\":"
                            "0.61},\"only_candidate\":3,\"only_champion\":1,\"p_better\":0.3125}}}";

int main(void)
{
    verdict v = judge("{better_on: recent, not_worse_on: {base: 0.02}}", 3, repair);
    ok(v.passed, "a repair passes: %s", v.text);
    ok(strstr(v.text, "0.900 against 0.610") != NULL, "and the text has the numbers");
    v = judge("{better_on: recent, not_worse_on: {base: 0.005}}", 3, repair);
    ok(!v.passed && strstr(v.text, "worse on base") != NULL, "a margin is held: %s", v.text);
    v = judge("{better_on: recent}", 3, same);
    ok(!v.passed && strstr(v.text, "not better on recent") != NULL, "no better: %s", v.text);
    v = judge("{better_on: recent}", 3, lucky);
    ok(!v.passed, "better by chance is not better: %s", v.text);
    v = judge("{better_on: recent}", 3, "{\"data\":{}}");
    ok(!v.passed && strstr(v.text, "no held-out rows of 'recent'") != NULL,
       "nothing to compare on does not pass: %s", v.text);
    v = judge("{better_on: recent}", 0, "{\"data\":{}}");
    ok(v.passed, "a first version has nothing to beat: %s", v.text);
    v = judge("{require: \"candidate.recent >= 90% and candidate.base > champion.base - 0.02\"}", 3,
              repair);
    ok(v.passed, "a condition that holds: %s", v.text);
    v = judge("{require: \"candidate.base >= 0.99\"}", 3, repair);
    ok(!v.passed, "one that does not: %s", v.text);
    v = judge("{require: \"candidate.base >= 0.9\"}", 3, same);
    ok(!v.passed, "one over what is not known does not pass: %s", v.text);
    v = judge("{require: \"winner.base > 1\"}", 3, repair);
    ok(v.failed && strstr(v.text, "winner.base") != NULL, "an unknown name is an error: %s",
       v.text);
    v = judge("{better_on: recent}", 3, "{\"data\":{\"recent\":{\"rows\":\"many\"}}}");
    ok(!v.passed, "a damaged result does not pass: %s", v.text);
    return tap_done();
}
