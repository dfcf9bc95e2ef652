/* config.pbtxt: what is read, what is passed over, and where errors say they are. */
#include "model/config.h"
#include "model/pbtxt.h"

#include "tap.h"

static ot_model_config config;
static ot_error err;

static ot_rc parse(const char *text)
{
    ot_model_config_done(&config);
    ot_model_config_init(&config);
    err = (ot_error){0};
    return ot_model_config_parse("c", text, strlen(text), &config, &err);
}

static void says(const char *text, const char *message)
{
    is_int(parse(text), OT_INVALID, "%.60s", text);
    is_str(err.msg, message, "and it says so");
}

static void test_whole(void)
{
    is_int(parse("# a comment\n"
                 "name: \"m\" platform: 'onnxruntime_onnx' max_batch_size: 8\n"
                 "input [ { name: \"x\", data_type: TYPE_FP32; dims: [ 3, -1 ] },\n"
                 "        { name: \"s\" data_type: TYPE_STRING dims: 1 } ]\n"
                 "output { name: \"y\" data_type: TYPE_INT64 dims: [ 2 ] optional: false }\n"
                 "default_model_filename: \"net.onnx\"\n"
                 "instance_group [ { count: 2 kind: KIND_CPU }, { count: 3 } ]\n"
                 "version_policy < specific { versions: [ 3, 7 ] } >\n"
                 "optimization { graph { level: 1 } }\n"),
           OT_OK, "a whole file: %s", err.msg);
    is_str(config.name, "m", "name");
    is_str(config.format, "onnx", "format");
    is_str(config.filename, "net.onnx", "file");
    is_int(config.batch_max, 8, "max_batch_size");
    is_int(config.n_inputs, 2, "inputs");
    ok(config.inputs[0].rank == 2 && config.inputs[0].dims[0] == 3 &&
           config.inputs[0].dims[1] == -1 && config.inputs[0].dtype == OT_DT_FP32,
       "the first input");
    is_int(config.inputs[1].dtype, OT_DT_BYTES, "TYPE_STRING");
    ok(config.n_outputs == 1 && config.outputs[0].dtype == OT_DT_INT64, "output");
    is_int(config.instances, 5, "instances");
    ok(config.policy == OT_VERSIONS_SPECIFIC && config.n_versions == 2 && config.versions[1] == 7,
       "versions");
    is_str(config.notes, "7:29: kind; 9:1: optimization", "what was passed over");
}

static void test_defaults(void)
{
    is_int(parse(""), OT_OK, "an empty file");
    ok(config.batch_max == -1 && config.latest == 1 && config.policy == OT_VERSIONS_LATEST &&
           config.notes[0] == '\0' && config.format == NULL,
       "says nothing");
    is_int(parse("version_policy: { all { } } backend: \"\" max_batch_size: 0x10"), OT_OK, "all");
    ok(config.policy == OT_VERSIONS_ALL && config.batch_max == 16 && config.format == NULL,
       "is read");
    is_int(parse("version_policy { latest { num_versions: 3 } }"), OT_OK, "latest");
    is_int(config.latest, 3, "three of them");
}

static void test_parameters(void)
{
    is_int(parse("parameters { key: \"process_memory\" value: { string_value: \"512MiB\" } }\n"
                 "parameters [ { key: \"x\", value: { string_value: \"1\" } } ]"),
           OT_OK, "parameters");
    is_int((long long)config.process_memory, 512 << 20, "ours");
    is_str(config.notes, "2:14: parameters", "another's");
}

static void test_errors(void)
{
    says("parameters { key: \"process_memory\" value: { string_value: \"much\" } }",
         "c:1:1: process_memory: 'much' is not a quantity; write it like 20k, 512MiB or 4GiB");

    says("\n  max_batch_siz: 3",
         "c:2:3: 'max_batch_siz' is not known; did you mean 'max_batch_size'?");
    says("zzzzzz: 3", "c:1:1: 'zzzzzz' is not known");
    says("max_batch_size: -1",
         "c:1:1: max_batch_size is '-1'; expected a whole number of 0 to 65536");
    says("max_batch_size: \"8\"",
         "c:1:1: max_batch_size is '8'; expected a whole number of 0 to 65536");
    says("input { name: \"x\" dims: 1 }", "c:1:1: input needs name, data_type and dims");
    says("input { data_type: TYPE_FP33 }",
         "c:1:9: data_type 'TYPE_FP33' is not known; it is TYPE_FP32, TYPE_INT64, TYPE_STRING and "
         "so on");
    says("input { reshape { shape: [] } }",
         "c:1:9: reshape is not supported: write the model's own shape into dims");
    says("input { optional: true }", "c:1:9: optional: true is not supported");
    says("ensemble_scheduling { }",
         "c:1:1: ensemble_scheduling is not supported: a folder is one model");
    says("name: m", "c:1:1: name is m; expected \"text\"");
    says("backend: \"python\"",
         "c:1:1: backend 'python' is not supported; it is one of onnxruntime_onnx, onnxruntime, "
         "tensorflow_savedmodel, tensorflow");
    says("default_model_filename: \"../x\"",
         "c:1:1: '../x' is not a path inside a version's folder");
    says("version_policy { all {} latest {} }", "c:1:25: latest beside all; version_policy is one");
    says("version_policy { specific {} }", "c:1:18: specific names no versions");
    says("input { name: \"x\" data_type: TYPE_FP32 dims: 1 }\n"
         "input { name: \"x\" data_type: TYPE_FP32 dims: 1 }",
         "c:2:1: input 'x' is there twice");
    says("name: \"x\nmore", "c:1:9: the text is not closed on this line");
    says("name: \"x\\q\"", "c:1:10: 'q'; expected an escape as in \"\\n\", \"\\x41\", \"\\101\", "
                           "and no NUL");
    says("input {", "c:1:8: the file ends; expected a field's name");
    says("input [ {} {} ]", "c:1:12: '{'; expected ',' or ']'");
    says("name \"x\"", "c:1:6: '\"'; expected ':' or '{'");
    says("[a.b] {}", "c:1:1: '['; expected a field's name");
    says("\x01", "c:1:1: byte 0x01; expected a field's name");
}

static void test_text(void)
{
    ot_arena arena;
    ot_pbtxt *f;
    const char *s = NULL;
    ot_arena_init(&arena, 4096, 1 << 20);
    static const char text[] = "a: \"x\\x41\\101\\n\" # c\n 'y'\nb { }";
    is_int(ot_pbtxt_parse("t", text, sizeof text - 1, &arena, &f, &err), OT_OK, "text: %s",
           err.msg);
    is_int(ot_pbtxt_text("t", f, &s, &err), OT_OK, "is text");
    is_str(s, "xAA\ny", "decoded and put together");
    ok(f->next->is_message && f->next->fields == NULL && f->next->line == 3, "an empty message");
    static const char nul[] = "a: 1 \0 b: 2";
    is_int(ot_pbtxt_parse("t", nul, sizeof nul - 1, &arena, &f, &err), OT_INVALID, "NUL: %s",
           err.msg);
    ot_arena_done(&arena);
}

static void test_limits(void)
{
    char deep[64];
    memset(deep, 0, sizeof deep);
    for (int i = 0; i < 20; i++) {
        strcat(deep, "a{");
    }
    is_int(parse(deep), OT_EXHAUSTED, "deep: %s", err.msg);
    static char many[OT_PBTXT_BYTES_MAX + 2];
    memset(many, ' ', sizeof many);
    is_int(ot_model_config_parse("c", many, sizeof many, &config, &err), OT_EXHAUSTED, "large: %s",
           err.msg);
    for (size_t i = 0; i + 4 < sizeof many; i += 4) {
        memcpy(many + i, "a:1 ", 4);
    }
    is_int(ot_model_config_parse("c", many, OT_PBTXT_BYTES_MAX, &config, &err), OT_EXHAUSTED,
           "many fields: %s", err.msg);
}

int main(void)
{
    ot_model_config_init(&config);
    test_whole();
    test_defaults();
    test_parameters();
    test_errors();
    test_text();
    test_limits();
    ot_model_config_done(&config);
    return tap_done();
}
