/* Formats by content. The bytes are protobuf top levels, written out by hand. */
#include "model/detect.h"

#include "unit/bundle_fixture.h"

/* ModelProto: ir_version = 8, producer_name = "t", graph (3 bytes). */
static const char onnx[] = "\x08\x08\x12\x01t\x3a\x03\x0a\x01g";
/* SavedModel: saved_model_schema_version = 1, meta_graphs (2 bytes). */
static const char saved[] = "\x08\x01\x12\x02\x0a\x00";

static void expect(const char *path, ot_rc rc, const char *format_or_text, const char *what)
{
    ot_error e = {0};
    ot_detected d = {0};
    ot_rc got = ot_model_detect(disk, path, &d, &e);
    bool good = got == rc && (rc == OT_OK ? strcmp(d.format, format_or_text) == 0
                                          : strstr(e.msg, format_or_text) != NULL);
    if (!ok(good, "%s", what)) {
        printf("# rc %d format %s: %s\n", (int)got, d.format == NULL ? "-" : d.format, e.msg);
    }
}

int main(void)
{
    scratch_start();
    ot_error e = {0};
    write_bytes(at("m.onnx"), onnx, sizeof onnx - 1);
    expect(at("m.onnx"), OT_OK, "onnx", "an ONNX file");
    write_bytes(at("renamed.bin"), onnx, sizeof onnx - 1);
    expect(at("renamed.bin"), OT_OK, "onnx", "by content, not by name");
    write_bytes(at("cut.onnx"), onnx, sizeof onnx - 2);
    expect(at("cut.onnx"), OT_INVALID, "cut short", "a file that ends early");
    write_bytes(at("empty.onnx"), "", 0);
    expect(at("empty.onnx"), OT_INVALID, "0 bytes", "an empty file");
    write_text(at("text.onnx"), "hello world, this is not a model\n");
    expect(at("text.onnx"), OT_INVALID, "not an ONNX model", "text");
    /* A length near 2^64 must not wrap around. */
    write_bytes(at("huge.onnx"), "\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13);
    expect(at("huge.onnx"), OT_INVALID, "not an ONNX model", "a length beyond the file");
    write_bytes(at("dir/net.onnx"), onnx, sizeof onnx - 1);
    write_text(at("dir/net.onnx.data"), "weights");
    expect(at("dir"), OT_OK, "onnx", "a directory with one, external data beside it");
    write_bytes(at("dir/two.onnx"), onnx, sizeof onnx - 1);
    expect(at("dir"), OT_INVALID, "2 .onnx files", "a directory with two");
    write_bytes(at("sm/saved_model.pb"), saved, sizeof saved - 1);
    write_text(at("sm/variables/variables.index"), "x");
    expect(at("sm"), OT_OK, "saved_model", "a SavedModel");
    write_bytes(at("smcut/saved_model.pb"), saved, sizeof saved - 2);
    expect(at("smcut"), OT_INVALID, "cut short", "a SavedModel that ends early");
    write_text(at("n/null.json"), " {\"op\": 1}");
    expect(at("n"), OT_OK, "null", "the tutorial's format");
    expect(at("n/null.json"), OT_OK, "null", "its file");
    write_text(at("n2/null.json"), "[]");
    expect(at("n2"), OT_INVALID, "JSON object", "not an object");
    write_text(at("c/chain.json"), "{}");
    write_text(at("c/pre/null.json"), "{}");
    expect(at("c"), OT_OK, "chain", "a chain is its folder");
    write_text(at("c2/chain.json"), "[]");
    expect(at("c2"), OT_INVALID, "JSON object", "not an object either");
    write_text(at("b/manifest.json"), "{}");
    expect(at("b"), OT_OK, "bundle", "a bundle");
    ok(ot_disk_mkdirs(disk, at("void"), 0755, &e) == OT_OK, "an empty directory");
    expect(at("void"), OT_INVALID, "it holds nothing", "is no model");
    write_text(at("other/weights.h5"), "x");
    expect(at("other"), OT_INVALID, "weights.h5", "what is there instead is named");
    expect(at("none"), OT_NOT_FOUND, "no model at", "nothing there");
    ok(symlink(at("m.onnx"), at("link.onnx")) == 0, "a link");
    expect(at("link.onnx"), OT_INVALID, "symbolic link", "is not followed");
    ok(mkfifo(at("pipe.onnx"), 0600) == 0, "a pipe");
    expect(at("pipe.onnx"), OT_INVALID, "special file", "does not block");
    scratch_end();
    return tap_done();
}
