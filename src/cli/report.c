#include "cli/report.h"

#include "base/mem.h"
#include "cli/commands.h"
#include "codec/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define GZIP_BITS (15 + 16)
#define MANIFEST "manifest.json"

ot_rc ot_report_init(ot_report *r, uint64_t bytes_max, ot_error *err)
{
    *r = (ot_report){.bytes_max = bytes_max, .left_out = json_array()};
    ot_redactor_init(&r->redactor);
    r->entries = ot_calloc(OT_REPORT_ENTRIES_MAX, sizeof *r->entries);
    if (r->entries == NULL || r->left_out == NULL) {
        ot_report_done(r);
        return ot_fail(err, OT_EXHAUSTED, "no memory for a report");
    }
    return OT_OK;
}

void ot_report_done(ot_report *r)
{
    for (size_t i = 0; i < r->n; i++) {
        ot_str_done(&r->entries[i].text);
    }
    ot_free(r->entries);
    json_decref(r->left_out);
    ot_redactor_done(&r->redactor);
    *r = (ot_report){0};
}

void ot_report_left_out(ot_report *r, const char *what, const char *why)
{
    json_array_append_new(r->left_out, json_pack("{s:s,s:s}", "what", what, "why", why));
}

void ot_report_add(ot_report *r, const char *name, const char *p, size_t n)
{
    if (r->n == OT_REPORT_ENTRIES_MAX || r->bytes + n > r->bytes_max) {
        ot_report_left_out(r, name, "it would be over the limit (--max)");
        return;
    }
    ot_report_entry *e = &r->entries[r->n++];
    ot_str_init(&e->text);
    snprintf(e->name, sizeof e->name, "%s", name);
    ot_redact(&r->redactor, p, n, &e->text);
    r->redactor.failed |= e->text.failed;
    r->bytes += e->text.len;
}

/* ------------------------------------------------------------------ packing */

static ot_rc add_file(ot_str *tar, const char *folder, const char *name, const ot_str *text,
                      int64_t now_us, ot_error *err)
{
    static const uint8_t zeros[OT_TAR_BLOCK];
    uint8_t header[OT_TAR_BLOCK];
    ot_tar_entry e = {.size = text->len, .mtime_s = now_us / 1000000, .mode = 0600};
    if (snprintf(e.name, sizeof e.name, "%s/%s", folder, name) >= (int)sizeof e.name) {
        return ot_fail(err, OT_RANGE, "%s/%s: a name too long for an archive", folder, name);
    }
    OT_TRY(ot_tar_format(&e, header, err));
    ot_str_add(tar, header, sizeof header);
    ot_str_add(tar, text->data, text->len);
    ot_str_add(tar, zeros, ot_tar_padding(text->len));
    return OT_OK;
}

static json_t *list_entries(const ot_report *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n; i++) {
        json_array_append_new(list, json_pack("{s:s,s:I}", "name", r->entries[i].name, "bytes",
                                              (json_int_t)r->entries[i].text.len));
    }
    return list;
}

/* What was left out is text of ours and names of apps: redacted like the rest. */
static ot_rc make_manifest(ot_report *r, int64_t now_us, ot_str *out, ot_error *err)
{
    json_t *j =
        json_pack("{s:s,s:s,s:I,s:I,s:o,s:O}", "schema", "overtake.report/1", "program", OT_VERSION,
                  "made_us", (json_int_t)now_us, "redacted", (json_int_t)r->redactor.count,
                  "entries", list_entries(r), "left_out", r->left_out);
    char *text = j != NULL ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the report's manifest");
    }
    ot_redact(&r->redactor, text, strlen(text), out);
    ot_str_addc(out, '\n');
    free(text);
    return OT_OK;
}

static ot_rc compress_all(const ot_str *tar, ot_str *out, ot_error *err)
{
    z_stream z = {0};
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_BITS, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        return ot_fail(err, OT_EXHAUSTED, "no memory to pack the report");
    }
    size_t bound = deflateBound(&z, tar->len);
    ot_rc rc = ot_fail(err, OT_EXHAUSTED, "no memory to pack the report");
    if (ot_str_reserve(out, bound)) {
        z.next_in = (Bytef *)(void *)tar->data;
        z.avail_in = (uInt)tar->len;
        z.next_out = (Bytef *)(void *)out->data;
        z.avail_out = (uInt)bound;
        if (deflate(&z, Z_FINISH) == Z_STREAM_END) {
            out->len = z.total_out;
            rc = OT_OK;
        }
    }
    (void)deflateEnd(&z);
    return rc;
}

ot_rc ot_report_pack(ot_report *r, const char *folder, int64_t now_us, ot_str *out, ot_error *err)
{
    static const char end[2 * OT_TAR_BLOCK];
    OT_AUTO(ot_str_done) ot_str tar = OT_STR_INIT, manifest = OT_STR_INIT;
    OT_TRY(make_manifest(r, now_us, &manifest, err));
    if (r->redactor.failed || manifest.failed) {
        return ot_fail(err, OT_EXHAUSTED,
                       "no memory, or more than %d secrets: a report could give one away",
                       OT_REDACT_SECRETS_MAX);
    }
    OT_TRY(add_file(&tar, folder, MANIFEST, &manifest, now_us, err));
    for (size_t i = 0; i < r->n; i++) {
        OT_TRY(add_file(&tar, folder, r->entries[i].name, &r->entries[i].text, now_us, err));
    }
    ot_str_add(&tar, end, sizeof end);
    return tar.failed ? ot_fail(err, OT_EXHAUSTED, "no memory to pack the report")
                      : compress_all(&tar, out, err);
}
