/* Backups and restores, as text. */
#include "cli/text.h"
#include "cli/view.h"

#include <inttypes.h>
#include <stddef.h>

static void add_counts(const json_t *a, ot_str *out)
{
    char size[32], took[OT_CLI_TIME_TEXT];
    ot_str_addf(out, "%" PRId64 " files, %s, in %s", ot_cli_int(a, "files"),
                ot_format_size((uint64_t)ot_cli_int(a, "bytes"), size),
                ot_cli_span(ot_cli_int(a, "took_us"), took));
}

static void add_head(const json_t *a, ot_str *out)
{
    const json_t *head = json_object_get(a, "head");
    ot_cli_view_name(out, "log");
    ot_str_addf(out, "event %" PRId64 ", hash %.16s...\n", ot_cli_int(head, "seq"),
                ot_cli_get(head, "hash"));
}

static void add_missing(const json_t *a, ot_str *out)
{
    if (ot_cli_int(a, "missing") > 0) {
        ot_cli_view_name(out, "missing");
        ot_str_addf(out,
                    "%" PRId64 " blobs that the store refers to were not there or damaged, the "
                    "first %.16s...; what needs them will say so\n",
                    ot_cli_int(a, "missing"), ot_cli_get(a, "first_missing"));
    }
}

void ot_cli_view_backup(const json_t *a, ot_str *out)
{
    char size[32];
    ot_cli_view_name(out, "backup");
    ot_cli_add_clean(out, ot_cli_get(a, "path"));
    ot_str_addc(out, '\n');
    ot_cli_view_name(out, "has");
    add_counts(a, out);
    ot_str_addf(out, "; %s written, %" PRId64 " blobs were in an earlier backup\n",
                ot_format_size((uint64_t)ot_cli_int(a, "copied_bytes"), size),
                ot_cli_int(a, "linked"));
    add_head(a, out);
    if (ot_cli_int(a, "removed") > 0) {
        ot_cli_view_name(out, "removed");
        ot_str_addf(out, "%" PRId64 " old backups\n", ot_cli_int(a, "removed"));
    }
    add_missing(a, out);
}

void ot_cli_view_restored(const json_t *a, ot_str *out)
{
    char when[OT_CLI_TIME_TEXT];
    ot_cli_view_name(out, "restored");
    ot_cli_add_clean(out, ot_cli_get(a, "data"));
    ot_str_adds(out, "\n");
    ot_cli_view_name(out, "from");
    ot_cli_add_clean(out, ot_cli_get(a, "path"));
    ot_str_addf(out, ", made %s\n", ot_cli_time(ot_cli_int(a, "made_us"), when));
    ot_cli_view_name(out, "has");
    add_counts(a, out);
    ot_str_addc(out, '\n');
    add_head(a, out);
    add_missing(a, out);
    ot_cli_view_name(out, "next");
    ot_str_adds(out, "overtake up --data ");
    ot_cli_add_clean(out, ot_cli_get(a, "data"));
    ot_str_addc(out, '\n');
}
