#include "backup/backup.h"

#include <inttypes.h>
#include <string.h>

static void add_text(ot_str *out, const char *name, const char *value)
{
    ot_str_addf(out, "\"%s\": \"", name);
    ot_str_add_json(out, value, strlen(value));
    ot_str_adds(out, "\", ");
}

void ot_backup_report_json(const ot_backup_report *r, ot_str *out)
{
    char hex[OT_DIGEST_HEX];
    ot_str_addc(out, '{');
    add_text(out, "path", r->path);
    add_text(out, "program", r->head.program);
    ot_str_addf(out,
                "\"made_us\": %" PRId64 ", \"schema\": %" PRId64 ", \"head\": {\"seq\": %" PRIu64
                ", \"hash\": \"%s\"}, \"files\": %" PRIu64 ", \"bytes\": %" PRIu64
                ", \"copied_bytes\": %" PRIu64 ", \"linked\": %" PRIu64 ", \"removed\": %" PRIu64
                ", \"took_us\": %" PRId64 ", \"missing\": %" PRIu64 ", \"first_missing\": ",
                r->head.made_us, r->head.schema, r->head.log.seq,
                ot_digest_hex(&r->head.log.hash, hex), r->head.files, r->head.bytes,
                r->copied_bytes, r->linked, r->removed, r->took_us, r->head.missing);
    if (r->head.missing > 0) {
        ot_str_addf(out, "\"%s\"}", ot_digest_hex(&r->head.first_missing, hex));
    } else {
        ot_str_adds(out, "null}");
    }
}
