#include "cli/carry.h"

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "model/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------ the receiver */

typedef struct progress {
    uint64_t sent, total;
    bool shown; /* stderr is a terminal */
} progress;

static void show(const progress *p)
{
    char sent[32], total[32];
    if (p->shown) {
        fprintf(stderr, "\r\033[Ksent %s of %s%s", ot_format_size(p->sent, sent),
                ot_format_size(p->total, total), p->sent == p->total ? "\n" : "");
    }
}

static ot_rc send_piece(ot_cli_client *to, const char *base, const char *path, uint64_t offset,
                        const ot_str *piece, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    json_t *answer = NULL;
    ot_str_addf(&target, "%s/file", base);
    ot_cli_query(&target, "path", path);
    ot_cli_query_i64(&target, "offset", (int64_t)offset);
    if (target.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the request");
    }
    ot_rc rc = ot_cli_client_send(to, "POST", target.data, "application/octet-stream", piece->data,
                                  piece->len, &answer, err);
    json_decref(answer);
    return rc;
}

static ot_rc send_file(ot_cli_client *to, const char *base, const json_t *file,
                       ot_cli_source_fn *source, void *arg, progress *p, ot_error *err)
{
    const char *path = ot_cli_get(file, "path");
    uint64_t size = (uint64_t)ot_cli_int(file, "size"), at = (uint64_t)ot_cli_int(file, "have");
    OT_AUTO(ot_str_done) ot_str piece = OT_STR_INIT;
    while (at < size) {
        ot_str_clear(&piece);
        OT_TRY(source(arg, path, at, &piece, err));
        if (piece.len == 0 || piece.failed) {
            return ot_fail(err, OT_DATA_LOSS,
                           "'%.200s' ends after %" PRIu64 " of %" PRIu64 " bytes", path, at, size);
        }
        OT_TRY(send_piece(to, base, path, at, &piece, err));
        at += piece.len;
        p->sent += piece.len;
        show(p);
    }
    return OT_OK;
}

static ot_rc send_files(ot_cli_client *to, const char *base, const json_t *files,
                        ot_cli_source_fn *source, void *arg, ot_error *err)
{
    progress p = {.shown = isatty(STDERR_FILENO) == 1};
    size_t i;
    const json_t *f;
    json_array_foreach(files, i, f)
    {
        p.total += (uint64_t)(ot_cli_int(f, "size") - ot_cli_int(f, "have"));
    }
    json_array_foreach(files, i, f)
    {
        OT_TRY(send_file(to, base, f, source, arg, &p, err));
    }
    return OT_OK;
}

static json_t *already_there(const json_t *opened)
{
    char text[256], later[128] = "";
    int64_t version = ot_cli_int(opened, "version");
    const char *model = ot_cli_get(opened, "model"), *status = ot_cli_get(opened, "status");
    if (strcmp(status, "registered") == 0) {
        /* It came without an app, to a busy one, or the server died over it. */
        snprintf(later, sizeof later, ". Nobody has judged it: overtake release %.64s %" PRId64,
                 model, version);
    }
    snprintf(text, sizeof text,
             "%.64s is already there as v%" PRId64 " (%.16s); nothing was sent%s", model, version,
             status, later);
    return json_pack("{s:s,s:I,s:b,s:b,s:s}", "model", ot_cli_get(opened, "model"), "version",
                     (json_int_t)version, "existed", 1, "released", 0, "text", text);
}

static ot_rc carry_on(ot_cli_client *to, const json_t *opened, ot_cli_source_fn *source, void *arg,
                      json_t **answer_out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str base = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str finish = OT_STR_INIT;
    if (ot_cli_int(opened, "version") > 0) {
        *answer_out = already_there(opened);
        return *answer_out != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory");
    }
    ot_cli_target(&base, "/api/v1/incoming/", ot_cli_get(opened, "bundle"), "");
    ot_str_addf(&finish, "%s/finish", base.data);
    if (base.failed || finish.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the request");
    }
    ot_rc rc = send_files(to, base.data, json_object_get(opened, "files"), source, arg, err);
    if (rc == OT_OK) {
        rc = ot_cli_client_call(to, "POST", finish.data, NULL, answer_out, err);
    }
    return rc == OT_UNAVAILABLE || rc == OT_TIMEOUT
               ? ot_error_prefix(err, rc, "broke off (the same command again goes on from there)")
               : rc;
}

ot_rc ot_cli_carry(ot_cli_client *to, const char *envelope, const ot_str *manifest,
                   ot_cli_source_fn *source, void *arg, json_t **answer_out, ot_error *err)
{
    json_t *opened = NULL;
    json_t *text = json_stringn(manifest->data, manifest->len);
    json_t *body =
        text == NULL ? NULL : json_pack("{s:s,s:o}", "envelope", envelope, "manifest", text);
    if (body == NULL) {
        return ot_fail(err, OT_INVALID, "the envelope or the manifest is not text");
    }
    ot_rc rc = ot_cli_client_patient(to, err); /* to verify gigabytes takes as long as it takes */
    if (rc == OT_OK) {
        rc = ot_cli_client_call(to, "POST", "/api/v1/incoming", body, &opened, err);
    }
    json_decref(body);
    if (rc == OT_OK) {
        rc = carry_on(to, opened, source, arg, answer_out, err);
    }
    json_decref(opened);
    return rc;
}

int ot_cli_carried(const ot_args *args, json_t *answer)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_cli_add_clean(&out, ot_cli_get(answer, "text"));
    ot_str_addc(&out, '\n');
    int code = ot_args_json(args) ? ot_cli_print_json(answer) : ot_cli_print(&out);
    bool waits = ot_cli_true(answer, "app") && !ot_cli_true(answer, "existed") &&
                 !ot_cli_true(answer, "released");
    json_decref(answer);
    return code == 0 && waits ? 1 : code;
}

/* ------------------------------------------------------------------ the source */

static ot_rc add_bytes(void *arg, const char *p, size_t n, ot_error *err)
{
    ot_str *out = arg;
    ot_str_add(out, p, n);
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for a piece") : OT_OK;
}

ot_rc ot_cli_origin_read(void *arg, const char *path, uint64_t offset, ot_str *out, ot_error *err)
{
    ot_cli_origin *o = arg;
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    ot_str_addf(&target, "%s/file", o->base.data);
    ot_cli_query(&target, "path", path);
    ot_cli_query_i64(&target, "offset", (int64_t)offset);
    return target.failed ? ot_fail(err, OT_EXHAUSTED, "no memory for the request")
                         : ot_cli_client_stream(o->client, target.data, add_bytes, out, err);
}

/* The number after the '@'; of an alias what the source says. */
static ot_rc version_of(ot_cli_client *c, const char *model, const char *which, int64_t *out,
                        ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    json_t *answer = NULL;
    *out = ot_cli_version_of(which);
    if (*out > 0) {
        return OT_OK;
    }
    if (strcmp(which, "champion") != 0) {
        return ot_fail(err, OT_INVALID, "'%.40s' is not a version: 7, v7 or champion", which);
    }
    ot_cli_target(&target, "/api/v1/models/", model, "");
    OT_TRY(ot_cli_client_call(c, "GET", target.data, NULL, &answer, err));
    *out = ot_cli_int(answer, "champion");
    json_decref(answer);
    return *out > 0 ? OT_OK : ot_fail(err, OT_NOT_FOUND, "model '%.64s' has no champion", model);
}

static ot_rc read_manifest(ot_cli_origin *o, ot_error *err)
{
    size_t before;
    do {
        before = o->manifest.len;
        OT_TRY(ot_cli_origin_read(o, OT_MANIFEST_FILE, before, &o->manifest, err));
        if (o->manifest.len > OT_MANIFEST_BYTES_MAX) {
            return ot_fail(err, OT_EXHAUSTED, "%s is larger than %u bytes", OT_MANIFEST_FILE,
                           OT_MANIFEST_BYTES_MAX);
        }
    } while (o->manifest.len > before);
    return OT_OK;
}

static ot_rc sign(ot_cli_origin *o, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    json_t *answer = NULL;
    ot_str_addf(&target, "%s/sign", o->base.data);
    OT_TRY(ot_cli_client_call(o->client, "POST", target.data, NULL, &answer, err));
    char *text = json_dumps(answer, JSON_COMPACT);
    json_decref(answer);
    ot_str_adds(&o->envelope, text != NULL ? text : "");
    bool good = text != NULL && !o->envelope.failed;
    free(text);
    return good ? OT_OK : ot_fail(err, OT_EXHAUSTED, "no memory for the envelope");
}

static ot_rc open_origin(const ot_args *args, const char *what, ot_cli_origin *o, ot_error *err)
{
    char model[65];
    int64_t version = 0;
    size_t n = strcspn(what, "@");
    if (n == 0 || n >= sizeof model || what[n] != '@') {
        return ot_fail(err, OT_INVALID, "'%.100s': MODEL@VERSION is expected, as digits@7", what);
    }
    snprintf(model, sizeof model, "%.*s", (int)n, what);
    OT_TRY(ot_cli_client_open(args, &o->client, err));
    OT_TRY(version_of(o->client, model, what + n + 1, &version, err));
    ot_cli_target(&o->base, "/api/v1/models/", model, "/versions/");
    ot_str_addf(&o->base, "%" PRId64, version);
    if (o->base.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the request");
    }
    OT_TRY(sign(o, err));
    return read_manifest(o, err);
}

ot_rc ot_cli_origin_open(const ot_args *args, const char *what, ot_cli_origin *out, ot_error *err)
{
    ot_cli_origin o = {.base = OT_STR_INIT, .envelope = OT_STR_INIT, .manifest = OT_STR_INIT};
    ot_rc rc = open_origin(args, what, &o, err);
    if (rc != OT_OK) {
        ot_cli_origin_close(&o);
        return rc;
    }
    *out = o;
    return OT_OK;
}

void ot_cli_origin_close(ot_cli_origin *o)
{
    ot_cli_client_close(o->client);
    ot_str_done(&o->base);
    ot_str_done(&o->envelope);
    ot_str_done(&o->manifest);
    *o = (ot_cli_origin){0};
}
