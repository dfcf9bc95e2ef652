#include "pipeline/internal.h"
#include "tap.h"

/* "key: from -> to; ..." with ~ for none. */
static void differs(const char *before, const char *after, const char *want, const char *what)
{
    json_t *list = NULL;
    ot_error err = {0};
    OT_AUTO(ot_str_done) ot_str got = OT_STR_INIT;
    ok(pl_diff(before, after, &list, &err) == OT_OK, "%s: %s", what, err.msg);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *d = json_array_get(list, i);
        const char *from = json_string_value(json_object_get(d, "from"));
        const char *to = json_string_value(json_object_get(d, "to"));
        is_int((int64_t)json_object_size(d), 3, "key, from and to are always there");
        ot_str_addf(&got, "%s%s: %s -> %s", i > 0 ? "; " : "",
                    json_string_value(json_object_get(d, "key")), from != NULL ? from : "~",
                    to != NULL ? to : "~");
    }
    is_str(got.data, want, "%s", what);
    json_decref(list);
}

int main(void)
{
    static const char release[] = "release:\n  - canary:\n      shares: [10%, 50%]\n";
    differs("", "", "", "nothing");
    differs("a: 1\nb:\n  c: x y\n", "a: 1\nb:\n  c: x y\n", "", "the same");
    differs("a: 1\nb:\n  c: 2\n  d: 3\n", "b:\n  e: 4\n  c: 5\n",
            "a: 1 -> ~; b.c: 2 -> 5; b.d: 3 -> ~; b.e: ~ -> 4", "gone, changed, come");
    differs("", "when: [a, \"b > 1\"]\nnone: []\n", "when: ~ -> [a, b > 1]; none: ~ -> []",
            "lists");
    differs(release,
            "release:\n  - gate:\n      require: \"\"\n  - canary:\n      shares: [10%]\n"
            "  - canary:\n      shares: [50%]\n",
            "release.canary.shares: [10%, 50%] -> [10%]; release.gate.require: ~ -> ; "
            "release.canary[2].shares: ~ -> [50%]",
            "a stage keeps its key when another comes before it");
    differs(release, "release: []\n", "release.canary.shares: [10%, 50%] -> ~; release: ~ -> []",
            "no stages");
    differs("", "a:\n  - x\n  - [y]\n  - b: 1\n", "a.b: ~ -> 1", "a list of all kinds");
    json_t *list = NULL;
    ot_error err = {0};
    ok(pl_diff("a: [", "", &list, &err) != OT_OK && list == NULL && err.msg[0] != 0,
       "what is not YAML is an error: %s", err.msg);
    return tap_done();
}
