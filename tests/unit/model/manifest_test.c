/* manifest.json: reading, writing, and what is refused by name. */
#include "model/manifest.h"

#include "tap.h"

#include <stdlib.h>

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEAD "{\"schema\": \"overtake.bundle/1\", \"format\": \"onnx\", "
#define HEAD2 "{\"schema\": \"overtake.bundle/2\", \"format\": \"onnx\", "
#define IN "\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1, 64]}], "
#define OUT "\"outputs\": [{\"name\": \"p\", \"datatype\": \"FP32\", \"shape\": [-1, 10]}], "
#define FILES "\"files\": [{\"path\": \"model/m.onnx\", \"size\": 5, \"sha256\": \"" A64 "\"}]}"

static const char good[] = HEAD IN OUT "\"batch\": {\"axis\": 0, \"max\": 64}, \"prediction\": "
                                       "{\"output\": \"p\", \"kind\": \"scores\"}, " FILES;

static ot_rc parse(const char *z, ot_manifest *m, ot_error *err)
{
    return ot_manifest_parse(z, strlen(z), m, err);
}

static void test_good(void)
{
    ot_error e = {0};
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    if (!ok(parse(good, &m, &e) == OT_OK, "a whole manifest is read: %s", e.msg)) {
        return;
    }
    is_str(m.format, "onnx", "format");
    is_int(m.n_inputs, 1, "one input");
    is_str(m.inputs[0].name, "x", "input name");
    is_int(m.inputs[0].dtype, OT_DT_FP32, "input type");
    ok(m.inputs[0].rank == 2 && m.inputs[0].dims[0] == -1 && m.inputs[0].dims[1] == 64, "shape");
    is_int(m.batch_max, 64, "batch");
    is_int(m.prediction_kind, OT_PREDICTION_SCORES, "kind");
    is_int(m.prediction_output, 0, "its output");
    is_int(m.n_files, 1, "files");
    is_int(m.files[0].size, 5, "size");
    ok(m.files[0].sha256.b[31] == 0xaa, "digest");
    is_int(ot_manifest_input(&m, "x"), 0, "input by name");
    is_int(ot_manifest_output(&m, "x"), -1, "no such output");
    ok(ot_manifest_file_find(&m, "model/m.onnx") == &m.files[0], "file by path");
    ok(ot_manifest_file_find(&m, "model/m.onn") == NULL, "no such file");

    OT_AUTO(ot_str_done) ot_str first = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str second = OT_STR_INIT;
    OT_AUTO(ot_manifest_done) ot_manifest again = {0};
    ok(ot_manifest_write(&m, &first, &e) == OT_OK, "written");
    ok(ot_manifest_parse(first.data, first.len, &again, &e) == OT_OK, "and read again");
    ok(ot_manifest_write(&again, &second, &e) == OT_OK, "and written again");
    is_str(second.data, first.data, "the same bytes");

    OT_AUTO(ot_manifest_done) ot_manifest copy = {0};
    ok(ot_manifest_copy_signature(&m, &copy, &e) == OT_OK, "signature copied");
    ok(copy.n_files == 0 && copy.n_outputs == 1 && copy.outputs != m.outputs &&
           copy.prediction_kind == OT_PREDICTION_SCORES && copy.batch_max == 64,
       "without the files, with all else");
    is_str(copy.outputs[0].name, "p", "its names are copies");
}

static void test_serve(void)
{
    ot_error e = {0};
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    OT_AUTO(ot_manifest_done) ot_manifest again = {0};
    OT_AUTO(ot_manifest_done) ot_manifest copy = {0};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ok(parse(HEAD2 IN OUT "\"serve\": {\"instances\": 2, \"queue\": 9, \"deadline_us\": 5000, "
                          "\"process_memory_bytes\": 4096}, " FILES,
             &m, &e) == OT_OK,
       "how it wants to be served: %s", e.msg);
    ok(m.serve.instances == 2 && m.serve.queue == 9 && m.serve.deadline_us == 5000 &&
           m.serve.process_memory_bytes == 4096,
       "all of it");
    ok(ot_manifest_write(&m, &out, &e) == OT_OK && strstr(out.data, "overtake.bundle/2") != NULL &&
           ot_manifest_parse(out.data, out.len, &again, &e) == OT_OK,
       "written and read again: %s", e.msg);
    ok(ot_manifest_copy_signature(&again, &copy, &e) == OT_OK, "copied");
    ok(memcmp(&copy.serve, &m.serve, sizeof m.serve) == 0, "and the same");
}

static void test_optional(void)
{
    ot_error e = {0};
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    ok(parse(HEAD IN OUT FILES, &m, &e) == OT_OK, "without batch and prediction: %s", e.msg);
    ok(m.batch_max == 0 && m.prediction_kind == OT_PREDICTION_NONE, "neither is assumed");
    const char *sig = "{\"inputs\": [{\"name\": \"a\", \"datatype\": \"BYTES\", \"shape\": []}],"
                      " \"outputs\": [{\"name\": \"b\", \"datatype\": \"INT64\", \"shape\": [1]}],"
                      " \"prediction\": {\"output\": \"b\", \"kind\": \"label\"}}";
    OT_AUTO(ot_manifest_done) ot_manifest s = {0};
    ok(ot_manifest_parse_signature(sig, strlen(sig), &s, &e) == OT_OK, "a signature alone: %s",
       e.msg);
    ok(s.format == NULL && s.inputs[0].rank == 0 && s.prediction_kind == OT_PREDICTION_LABEL,
       "format is open, a scalar input is fine");
}

typedef struct refusal {
    const char *json;
    const char *says; /* in the message */
    const char *what;
} refusal;

static const refusal refusals[] = {
    {"", "manifest.json", "nothing"},
    {"[]", "object", "an array"},
    {"{\"schema\"", "line 1", "cut short"},
    {"{}", "schema: missing", "no schema"},
    {"{\"schema\": \"overtake.bundle/3\"}", "overtake.bundle/1", "another schema"},
    {HEAD2 IN OUT FILES, "has 'serve', which is missing", "the schema with serve, without it"},
    {HEAD IN OUT "\"serve\": {\"queue\": 1}, " FILES, "overtake.bundle/2 has",
     "serve in the other"},
    {HEAD2 IN OUT "\"serve\": {}, " FILES, "serve: an object; an object that",
     "serve says nothing"},
    {HEAD2 IN OUT "\"serve\": {\"instance\": 1}, " FILES, "did you mean 'instances'?", "a typo"},
    {HEAD2 IN OUT "\"serve\": {\"instances\": 65}, " FILES, "serve.instances: 65; 1 to 64", "many"},
    {HEAD2 IN OUT "\"serve\": {\"queue\": 0}, " FILES, "serve.queue: 0; 1 to", "no queue"},
    {HEAD2 IN OUT "\"serve\": {\"deadline_us\": 1.5}, " FILES, "serve.deadline_us: a number with",
     "half"},
    {HEAD IN IN OUT FILES, "duplicate", "a key twice"},
    {HEAD "\"fromat\": 1, " IN OUT FILES, "did you mean 'format'", "a misspelt key"},
    {HEAD OUT FILES, "inputs: missing", "no inputs"},
    {HEAD "\"inputs\": [], " OUT FILES, "inputs: 0 tensors", "an empty list"},
    {HEAD "\"inputs\": [1], " OUT FILES, "inputs[0]", "a number as tensor"},
    {HEAD "\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP31\", \"shape\": []}], " OUT FILES,
     "inputs[0].datatype: 'FP31'", "an unknown type"},
    {HEAD "\"inputs\": [{\"name\": \"\", \"datatype\": \"FP32\", \"shape\": []}], " OUT FILES,
     "inputs[0].name", "an empty name"},
    {HEAD "\"inputs\": [{\"name\": \"a\\nb\", \"datatype\": \"FP32\", \"shape\": []}], " OUT FILES,
     "inputs[0].name", "a line break in a name"},
    {HEAD
     "\"inputs\": [{\"name\": \"a\\u0000b\", \"datatype\": \"FP32\", \"shape\": []}], " OUT FILES,
     "manifest.json", "a NUL in a name"},
    {HEAD "\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-2]}], " OUT FILES,
     "inputs[0].shape[0]: -2", "a negative size"},
    {HEAD "\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1.5]}], " OUT FILES,
     "inputs[0].shape[0]", "a size with a fraction"},
    {HEAD "\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", "
          "\"shape\": [1,1,1,1,1,1,1,1,1]}], " OUT FILES,
     "rank 9", "nine dimensions"},
    {HEAD IN "\"outputs\": [{\"name\": \"p\", \"datatype\": \"FP32\", \"shape\": [1]}, "
             "{\"name\": \"p\", \"datatype\": \"FP32\", \"shape\": [1]}], " FILES,
     "'p' is there twice", "an output twice"},
    {HEAD IN OUT "\"batch\": {\"axis\": 1, \"max\": 4}, " FILES, "batch.axis: 1", "batch axis 1"},
    {HEAD IN OUT "\"batch\": {\"axis\": 0, \"max\": 0}, " FILES, "batch.max: 0", "batch of 0"},
    {HEAD IN OUT "\"batch\": {\"axis\": 0, \"max\": 65537}, " FILES, "65536", "batch too large"},
    {HEAD IN OUT "\"batch\": {\"axis\": 0}, " FILES, "batch.max: missing", "batch without max"},
    {HEAD "\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1, 64]}], " OUT
          "\"batch\": {\"axis\": 0, \"max\": 4}, " FILES,
     "no free first axis", "batch of a fixed first axis"},
    {HEAD IN OUT "\"prediction\": {\"output\": \"q\", \"kind\": \"scores\"}, " FILES,
     "prediction.output: 'q'", "a prediction of no output"},
    {HEAD IN OUT "\"prediction\": {\"output\": \"p\", \"kind\": \"score\"}, " FILES,
     "prediction.kind: 'score'", "an unknown kind"},
    {HEAD IN OUT "\"prediction\": {\"output\": \"p\", \"kind\": \"label\"}, " FILES,
     "does not fit output 'p'", "a label of floats"},
    {HEAD IN OUT "\"files\": {}}", "files: an object", "files as an object"},
    {HEAD IN OUT "\"files\": [{\"path\": \"../m\", \"size\": 5, \"sha256\": \"" A64 "\"}]}",
     "files[0].path: '../m'", "a path that leaves"},
    {HEAD IN OUT "\"files\": [{\"path\": \"/m\", \"size\": 5, \"sha256\": \"" A64 "\"}]}",
     "files[0].path: '/m'", "an absolute path"},
    {HEAD IN OUT "\"files\": [{\"path\": \"manifest.json\", \"size\": 5, \"sha256\": \"" A64
                 "\"}]}",
     "cannot list itself", "itself"},
    {HEAD IN OUT "\"files\": [{\"path\": \"b\", \"size\": 5, \"sha256\": \"" A64 "\"}, "
                 "{\"path\": \"a\", \"size\": 5, \"sha256\": \"" A64 "\"}]}",
     "sorted by path", "files out of order"},
    {HEAD IN OUT "\"files\": [{\"path\": \"a\", \"size\": 5, \"sha256\": \"" A64 "\"}, "
                 "{\"path\": \"a\", \"size\": 5, \"sha256\": \"" A64 "\"}]}",
     "each once", "a file twice"},
    {HEAD IN OUT "\"files\": [{\"path\": \"a\", \"size\": -1, \"sha256\": \"" A64 "\"}]}",
     "files[0].size: -1", "a negative file"},
    {HEAD IN OUT "\"files\": [{\"path\": \"a\", \"size\": 1, \"sha256\": \"AA\"}]}",
     "files[0].sha256: 'AA'", "a digest that is none"},
    {"{\"schema\": \"overtake.bundle/1\", \"format\": \"../x\", " IN OUT FILES, "format: '../x'",
     "a format that is a path"},
};

static void test_refused(void)
{
    for (size_t i = 0; i < OT_COUNT(refusals); i++) {
        OT_AUTO(ot_manifest_done) ot_manifest m = {0};
        ot_error e = {0};
        ot_rc rc = parse(refusals[i].json, &m, &e);
        if (!ok(rc == OT_INVALID && strstr(e.msg, refusals[i].says) != NULL && m.n_files == 0,
                "refused: %s", refusals[i].what)) {
            printf("# rc %d, '%s' has no '%s'\n", (int)rc, e.msg, refusals[i].says);
        }
        ok(parse(refusals[i].json, &m, NULL) != OT_OK, "also without an error to fill");
    }
}

static void test_limits(void)
{
    ot_error e = {0};
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    char *huge = calloc(1, OT_MANIFEST_BYTES_MAX + 2);
    memset(huge, ' ', OT_MANIFEST_BYTES_MAX + 1);
    ok(ot_manifest_parse(huge, OT_MANIFEST_BYTES_MAX + 1, &m, &e) == OT_EXHAUSTED,
       "too many bytes: %s", e.msg);
    free(huge);
    OT_AUTO(ot_str_done) ot_str many = OT_STR_INIT;
    ot_str_adds(&many, HEAD "\"inputs\": [");
    for (int i = 0; i <= OT_MANIFEST_TENSORS_MAX; i++) {
        ot_str_addf(&many, "%s{\"name\": \"x%d\", \"datatype\": \"FP32\", \"shape\": [1]}",
                    i == 0 ? "" : ", ", i);
    }
    ot_str_adds(&many, "], " OUT FILES);
    ok(ot_manifest_parse(many.data, many.len, &m, &e) == OT_INVALID &&
           strstr(e.msg, "257 tensors") != NULL,
       "too many tensors: %s", e.msg);
    OT_AUTO(ot_str_done) ot_str deep = OT_STR_INIT;
    for (int i = 0; i < 100000; i++) {
        ot_str_addc(&deep, '[');
    }
    ok(ot_manifest_parse(deep.data, deep.len, &m, &e) == OT_INVALID, "deep nesting: %s", e.msg);
}

static void test_memory(void)
{
    OT_AUTO(ot_manifest_done) ot_manifest kept = {0};
    ot_error e = {0};
    ok(parse(good, &kept, &e) == OT_OK, "one to keep");
    int failed = 0;
    for (uint64_t n = 1; n < 100; n++) {
        ot_mem_fail_nth(n);
        ot_rc rc = parse(good, &kept, &e);
        uint64_t seen = ot_mem_fail_nth(0);
        if (rc == OT_OK && seen < n) {
            break;
        }
        failed += rc == OT_EXHAUSTED;
        is_str(kept.format, "onnx", "after failing allocation %llu the old one stays",
               (unsigned long long)n);
    }
    ok(failed > 0, "some allocations failed");
}

int main(void)
{
    test_good();
    test_serve();
    test_optional();
    test_refused();
    test_limits();
    test_memory();
    return tap_done();
}
