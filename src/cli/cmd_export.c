/* `overtake export`, `import`: what `promote` sends, over a gap in the network. */
#include "base/mem.h"
#include "cli/archive.h"
#include "cli/carry.h"
#include "cli/commands.h"
#include "model/manifest.h"
#include "model/trust.h"
#include "registry/promote.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------------ export */

static ot_rc write_file(ot_cli_origin *o, ot_archive_writer *w, const ot_manifest_file *f,
                        ot_error *err)
{
    char name[sizeof OT_ARCHIVE_BUNDLE + OT_MANIFEST_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str piece = OT_STR_INIT;
    snprintf(name, sizeof name, OT_ARCHIVE_BUNDLE "%s", f->path);
    OT_TRY(ot_archive_entry_begin(w, name, f->size, err));
    for (uint64_t at = 0; at < f->size; at += piece.len) {
        ot_str_clear(&piece);
        OT_TRY(ot_cli_origin_read(o, f->path, at, &piece, err));
        if (piece.len == 0) {
            return ot_fail(err, OT_DATA_LOSS, "'%s' ends after %" PRIu64 " of %" PRIu64 " bytes",
                           f->path, at, f->size);
        }
        OT_TRY(ot_archive_entry_write(w, piece.data, piece.len, err));
    }
    return OT_OK;
}

static ot_rc write_text(ot_archive_writer *w, const char *name, const ot_str *text, ot_error *err)
{
    OT_TRY(ot_archive_entry_begin(w, name, text->len, err));
    return ot_archive_entry_write(w, text->data, text->len, err);
}

static ot_rc write_all(ot_cli_origin *o, ot_archive_writer *w, ot_error *err)
{
    OT_AUTO(ot_manifest_done) ot_manifest m = {0};
    OT_TRY(ot_manifest_parse(o->manifest.data, o->manifest.len, &m, err));
    OT_TRY(write_text(w, OT_ARCHIVE_ENVELOPE, &o->envelope, err));
    OT_TRY(write_text(w, OT_ARCHIVE_BUNDLE OT_MANIFEST_FILE, &o->manifest, err));
    for (size_t i = 0; i < m.n_files; i++) {
        OT_TRY(write_file(o, w, &m.files[i], err));
    }
    return ot_archive_commit(w, err);
}

static ot_rc export(const ot_args *args, ot_error *err)
{
    OT_AUTO(ot_cli_origin_close) ot_cli_origin o = {0};
    ot_archive_writer w;
    OT_TRY(ot_archive_begin(ot_disk_posix(), ot_args_pos(args, "FILE"), &w, err));
    ot_rc rc = ot_cli_origin_open(args, ot_args_pos(args, "MODEL@VERSION"), &o, err);
    if (rc == OT_OK) {
        rc = write_all(&o, &w, err);
    }
    ot_archive_abandon(&w);
    return rc;
}

static int run_export(const ot_args *args)
{
    ot_error err = {0};
    return export(args, &err) == OT_OK ? 0 : ot_cli_fail(args, &err);
}

/* ------------------------------------------------------------------ import */

static ot_rc read_piece(void *arg, const char *path, uint64_t offset, ot_str *out, ot_error *err)
{
    char name[sizeof OT_ARCHIVE_BUNDLE + OT_MANIFEST_PATH_MAX];
    snprintf(name, sizeof name, OT_ARCHIVE_BUNDLE "%s", path);
    return ot_archive_read(arg, name, offset, OT_INCOMING_PIECE_MAX, out, err);
}

static ot_rc import(const ot_args *args, json_t **answer_out, ot_error *err)
{
    OT_AUTO(ot_archive_close) ot_archive a = {0};
    OT_AUTO(ot_str_done) ot_str envelope = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str manifest = OT_STR_INIT;
    ot_cli_client *to = NULL;
    OT_TRY(ot_archive_open(ot_disk_posix(), ot_args_pos(args, "FILE"), &a, err));
    OT_TRY(ot_archive_read(&a, OT_ARCHIVE_ENVELOPE, 0, OT_ENVELOPE_MAX, &envelope, err));
    OT_TRY(ot_archive_read(&a, OT_ARCHIVE_BUNDLE OT_MANIFEST_FILE, 0, OT_MANIFEST_BYTES_MAX,
                           &manifest, err));
    OT_TRY(ot_cli_client_open(args, &to, err));
    ot_rc rc = ot_cli_carry(to, envelope.data, &manifest, read_piece, &a, answer_out, err);
    ot_cli_client_close(to);
    return rc;
}

static int run_import(const ot_args *args)
{
    json_t *answer = NULL;
    ot_error err = {0};
    return import(args, &answer, &err) == OT_OK ? ot_cli_carried(args, answer)
                                                : ot_cli_fail(args, &err);
}

static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS};
static const ot_pos export_pos[] = {
    {.name = "MODEL@VERSION", .help = "what to write: digits@7, digits@champion"},
    {.name = "FILE", .help = "the archive; nothing may be there"}};
static const ot_pos import_pos[] = {{.name = "FILE", .help = "what `overtake export` wrote"}};

const ot_command ot_cli_export_command = {
    .name = "export",
    .summary = "write a version into a file, signed, with its lineage",
    .detail =
        "For a server that this one cannot reach: there `overtake import FILE`. The file is a "
        "tar archive.",
    OT_OPTS(opts),
    OT_POS(export_pos),
    .run = run_export,
};
const ot_command ot_cli_import_command = {
    .name = "import",
    .summary = "take a version out of a file, as one that was promoted to here",
    .detail = "This server must trust the key of the one that wrote it (overtake trust add). Exit "
              "code 1 when it\nis registered and its release could not begin.",
    OT_OPTS(opts),
    OT_POS(import_pos),
    .run = run_import,
};
