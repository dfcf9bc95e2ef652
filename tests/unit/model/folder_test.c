/* Folders of numbered versions: what is seen, by which stamp, and which model a version holds. */
#include "model/folder.h"

#include "unit/bundle_fixture.h"

static const char onnx[] = "\x08\x08\x12\x01t\x3a\x03\x0a\x01g";
static const char saved[] = "\x08\x01\x12\x02\x0a\x00";
static ot_folder_look look;
static ot_error e;

static ot_rc look_at(const char *path)
{
    e = (ot_error){0};
    return ot_folder_look_at(disk, path, &look, &e);
}

static uint64_t stamp_of(const char *path, size_t i)
{
    return look_at(path) == OT_OK && i < look.n_versions ? look.versions[i].stamp : 0;
}

static void opens(const char *path, ot_rc rc, const char *format_or_text)
{
    ot_detected d = {0};
    ot_model_config c;
    ot_model_config_init(&c);
    e = (ot_error){0};
    is_int(ot_folder_open(disk, path, &d, &c, &e), rc, "opening: %s", e.msg);
    ok(strstr(rc == OT_OK ? d.format : e.msg, format_or_text) != NULL, "it is %s", format_or_text);
    ot_model_config_done(&c);
}

static void test_versions(void)
{
    write_bytes(at("m/1/model.onnx"), onnx, sizeof onnx - 1);
    write_bytes(at("m/0012/model.savedmodel/saved_model.pb"), saved, sizeof saved - 1);
    write_bytes(at("m/3/saved_model.pb"), saved, sizeof saved - 1);
    write_text(at("m/7"), "a file");
    write_text(at("m/0/x"), "0 is none");
    write_text(at("m/1234567890123456789/x"), "too long");
    write_text(at("m/x4/y"), "no number");
    is_int(look_at(at("m")), OT_OK, "three versions: %s", e.msg);
    ok(!look.plain && look.n_versions == 3 && look.versions[0].version == 12 &&
           look.versions[1].version == 3 && look.versions[2].version == 1,
       "the newest first");
    is_str(look.versions[0].name, "0012", "by the folder's own name");
    ok(ot_folder_is(disk, at("m")) && !ot_folder_is(disk, at("m/1")), "it is such a folder");
    opens(at("m/1"), OT_OK, "onnx");
    opens(at("m/0012"), OT_OK, "saved_model");
    opens(at("m/3"), OT_OK, "saved_model");
    opens(at("m/0"), OT_INVALID, "no model");
}

static void test_stamps(void)
{
    uint64_t first = stamp_of(at("m"), 1), other = stamp_of(at("m"), 2);
    ok(first != 0 && first == stamp_of(at("m"), 1), "the same files, the same stamp");
    write_text(at("m/3/variables/index"), "x");
    uint64_t second = stamp_of(at("m"), 1);
    ok(second != first && other == stamp_of(at("m"), 2), "one more file, in that version alone");
    write_text(at("m/3/variables/index"), "xy");
    ok(stamp_of(at("m"), 1) != second, "another size");
    write_text(at("m/config.pbtxt"), "");
    ok(other != stamp_of(at("m"), 2), "a config counts for all of them");
    ok(ot_disk_mkdirs(disk, at("m/20"), 0755, &e) == OT_OK && stamp_of(at("m"), 0) == 0 &&
           look.versions[0].version == 20,
       "an empty folder has none");
}

static void test_policies(void)
{
    write_text(at("m/config.pbtxt"), "version_policy { specific { versions: [3, 4] } }");
    is_int(look_at(at("m")), OT_OK, "specific: %s", e.msg);
    ok(look.n_versions == 1 && look.versions[0].version == 3, "only those that are named");
    write_text(at("m/config.pbtxt"), "version_policy { specific { versions: 4 } }");
    is_int(look_at(at("m")), OT_INVALID, "none: %s", e.msg);
    write_text(at("m/config.pbtxt"), "version_policy { latest { num_versions: 2 } }");
    ok(look_at(at("m")) == OT_OK && look.latest == 2 && look.n_versions == 4, "latest");
    write_text(at("m/config.pbtxt"), "backend: \"onnxruntime\"");
    opens(at("m/1"), OT_OK, "onnx");
    opens(at("m/3"), OT_INVALID, "config.pbtxt says onnx");
    write_text(at("m/config.pbtxt"), "default_model_filename: \"net.onnx\"");
    opens(at("m/1"), OT_NOT_FOUND, "net.onnx");
    write_text(at("m/config.pbtxt"), "name: \"other\"");
    is_int(look_at(at("m")), OT_INVALID, "name: %s", e.msg);
    write_text(at("m/config.pbtxt"), "nonsense");
    is_int(look_at(at("m")), OT_INVALID, "nonsense: %s", e.msg);
}

static void test_the_rest(void)
{
    write_bytes(at("plain/model.onnx"), onnx, sizeof onnx - 1);
    ok(look_at(at("plain")) == OT_OK && look.plain && look.n_versions == 1 &&
           look.versions[0].stamp != 0,
       "a folder that is a model");
    opens(at("plain"), OT_OK, "onnx");
    ok(look_at(at("plain/model.onnx")) == OT_OK && look.plain && look.versions[0].stamp != 0,
       "a file that is one");
    is_int(look_at(at("nowhere")), OT_NOT_FOUND, "nowhere: %s", e.msg);
    write_text(at("else/readme.txt"), "x");
    is_int(look_at(at("else")), OT_INVALID, "something else: %s", e.msg);
    write_text(at("bare/config.pbtxt"), "");
    is_int(look_at(at("bare")), OT_INVALID, "no version: %s", e.msg);
    for (int i = 1; i <= OT_FOLDER_VERSIONS_MAX + 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "many/%d/null.json", i);
        write_text(at(name), "{}");
    }
    ok(look_at(at("many")) == OT_OK && look.n_versions == OT_FOLDER_VERSIONS_MAX &&
           look.versions[0].version == OT_FOLDER_VERSIONS_MAX + 3 &&
           look.versions[OT_FOLDER_VERSIONS_MAX - 1].version == 4,
       "the newest of many");
}

int main(void)
{
    scratch_start();
    test_versions();
    test_stamps();
    test_policies();
    test_the_rest();
    scratch_end();
    return tap_done();
}
