#include "backup/manifest.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FORM "overtake.backup/1"
#define FLUSH (64u * 1024)
#define CHUNK (64u * 1024)

void ot_backup_blob_path(const ot_digest *d, char out[OT_PATH_MAX])
{
    char hex[OT_DIGEST_HEX];
    ot_digest_hex(d, hex);
    snprintf(out, OT_PATH_MAX, "store/blobs/%.2s/%s", hex, hex);
}

/* --- writing ---------------------------------------------------------------------------------- */

static ot_rc flush(ot_manifest_out *m, ot_error *err)
{
    if (m->line.failed) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to write it", m->path);
    }
    OT_TRY(m->f->ops->pwrite(m->f, m->line.data, m->line.len, m->at, err));
    ot_sha256_add(&m->sha, m->line.data, m->line.len);
    m->at += m->line.len;
    ot_str_clear(&m->line);
    return OT_OK;
}

static ot_rc flush_full(ot_manifest_out *m, ot_error *err)
{
    return m->line.failed || m->line.len >= FLUSH ? flush(m, err) : OT_OK;
}

ot_rc ot_manifest_out_begin(ot_manifest_out *m, ot_disk *disk, const char *dir,
                            const ot_backup_head *head, ot_error *err)
{
    char log[OT_EVENT_HEAD_LINE + 1];
    *m = (ot_manifest_out){.disk = disk, .line = OT_STR_INIT};
    snprintf(m->dir, sizeof m->dir, "%s", dir);
    ot_sha256_init(&m->sha);
    OT_TRY(ot_path_join(m->path, dir, OT_BACKUP_MANIFEST ".partial", err));
    OT_TRY(disk->ops->open(disk, m->path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_TRUNC, 0600,
                           &m->f, err));
    ot_event_head_format(&head->log, log);
    ot_str_addf(&m->line, FORM "\nmade %" PRId64 "\nprogram %s\nschema %" PRId64 "\nhead %s",
                head->made_us, head->program, head->schema, log);
    return OT_OK;
}

ot_rc ot_manifest_out_file(ot_manifest_out *m, uint64_t size, const ot_digest *d, const char *path,
                           ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    ot_str_addf(&m->line, "file %" PRIu64 " %s %s\n", size, ot_digest_hex(d, hex), path);
    m->files++;
    m->bytes += size;
    return flush_full(m, err);
}

ot_rc ot_manifest_out_blob(ot_manifest_out *m, uint64_t size, const ot_digest *d, ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    ot_str_addf(&m->line, "blob %" PRIu64 " %s\n", size, ot_digest_hex(d, hex));
    m->files++;
    m->bytes += size;
    return flush_full(m, err);
}

ot_rc ot_manifest_out_missing(ot_manifest_out *m, const ot_digest *d, ot_error *err)
{
    char hex[OT_DIGEST_HEX];
    ot_str_addf(&m->line, "missing %s\n", ot_digest_hex(d, hex));
    return flush_full(m, err);
}

ot_rc ot_manifest_out_publish(ot_manifest_out *m, ot_error *err)
{
    char hex[OT_DIGEST_HEX], path[OT_PATH_MAX];
    OT_TRY(flush(m, err));
    ot_digest d = ot_sha256_done(&m->sha);
    ot_str_addf(&m->line, "end %" PRIu64 " %" PRIu64 " %s\n", m->files, m->bytes,
                ot_digest_hex(&d, hex));
    OT_TRY(flush(m, err));
    OT_TRY(m->f->ops->sync(m->f, false, err));
    OT_TRY(ot_path_join(path, m->dir, OT_BACKUP_MANIFEST, err));
    OT_TRY(m->disk->ops->rename(m->disk, m->path, path, err));
    return m->disk->ops->sync_dir(m->disk, m->dir, err);
}

void ot_manifest_out_done(ot_manifest_out *m)
{
    ot_file_close(m->f);
    ot_str_done(&m->line);
}

/* --- reading ---------------------------------------------------------------------------------- */

void ot_manifest_in_init(ot_manifest_in *m, const char *name, ot_backup_item_fn *fn, void *arg)
{
    *m = (ot_manifest_in){.name = name, .fn = fn, .arg = arg};
    ot_sha256_init(&m->sha);
}

static ot_rc bad(const ot_manifest_in *m, const char *what, ot_error *err)
{
    return ot_fail(err, OT_DATA_LOSS, "%s:%" PRIu64 ": %s; the backup was edited or damaged",
                   m->name, m->line, what);
}

/* The digits at *p, then one space or the end; moves past both. */
static bool take_number(char **p, uint64_t *out)
{
    uint64_t x = 0;
    char *z = *p;
    for (; *z >= '0' && *z <= '9'; z++) {
        if (x > (INT64_MAX - 9) / 10) {
            return false;
        }
        x = x * 10 + (uint64_t)(*z - '0');
    }
    if (z == *p || (*z != ' ' && *z != 0)) {
        return false;
    }
    *p = z + (*z == ' ');
    *out = x;
    return true;
}

static bool take_digest(char **p, ot_digest *out)
{
    char *end = *p + strcspn(*p, " "), was = *end;
    *end = 0;
    bool good = ot_digest_parse(*p, out);
    *end = was;
    *p = end + (was == ' ');
    return good;
}

/* What a backup may hold: a damaged one does not get to choose where a restore writes. */
static bool is_ours(const char *path)
{
    return ot_path_is_clean(path) &&
           (ot_has_prefix(path, "store/") || ot_has_prefix(path, "runs/"));
}

static ot_rc take_item(ot_manifest_in *m, char *p, bool is_blob, ot_error *err)
{
    ot_backup_item item = {0};
    char path[OT_PATH_MAX];
    if (!take_number(&p, &item.size) || !take_digest(&p, &item.sha256)) {
        return bad(m, "not a size and a digest", err);
    }
    if (is_blob) {
        ot_backup_blob_path(&item.sha256, path);
        item.path = path;
    } else if (is_ours(p)) {
        item.path = p;
    } else {
        return bad(m, "no path that a backup has", err);
    }
    m->head.files++;
    m->head.bytes += item.size;
    return m->fn != NULL ? m->fn(m->arg, &item, err) : OT_OK;
}

static ot_rc take_end(ot_manifest_in *m, char *p, ot_error *err)
{
    uint64_t files, bytes;
    ot_digest d, want = ot_sha256_done(&m->sha);
    if (!take_number(&p, &files) || !take_number(&p, &bytes) || !take_digest(&p, &d) || *p != 0) {
        return bad(m, "not an end", err);
    }
    if (!ot_digest_equal(&d, &want) || files != m->head.files || bytes != m->head.bytes) {
        return bad(m, "the lines before are not those that were written", err);
    }
    m->ended = true;
    return OT_OK;
}

static ot_rc take_missing(ot_manifest_in *m, char *p, ot_error *err)
{
    ot_digest d;
    if (!take_digest(&p, &d)) {
        return bad(m, "not a digest", err);
    }
    m->head.first_missing = m->head.missing++ == 0 ? d : m->head.first_missing;
    return OT_OK;
}

static ot_rc take_head(ot_manifest_in *m, char *line, ot_error *err)
{
    uint64_t x = 0;
    char *p = strchr(line, ' ');
    p = p != NULL ? p + 1 : line;
    bool good = false;
    switch (m->line) {
    case 1:
        if (strcmp(line, FORM) != 0) {
            return ot_fail(err, OT_UNIMPLEMENTED,
                           "%s: begins with '%.40s' and this program reads " FORM
                           "; use the program that made it",
                           m->name, line);
        }
        return OT_OK;
    case 2:
        good = ot_has_prefix(line, "made ") && take_number(&p, &x);
        m->head.made_us = (int64_t)x;
        break;
    case 3:
        good = ot_has_prefix(line, "program ") && strlen(p) < sizeof m->head.program;
        snprintf(m->head.program, sizeof m->head.program, "%s", good ? p : "");
        break;
    case 4:
        good = ot_has_prefix(line, "schema ") && take_number(&p, &x);
        m->head.schema = (int64_t)x;
        break;
    default:
        good = ot_has_prefix(line, "head ") && ot_event_head_parse(p, &m->head.log);
    }
    return good ? OT_OK : bad(m, "not what stands there", err);
}

ot_rc ot_manifest_in_line(ot_manifest_in *m, char *line, size_t n, ot_error *err)
{
    m->line++;
    if (m->ended || strlen(line) != n) {
        return bad(m, m->ended ? "something after the end" : "a zero byte", err);
    }
    if (ot_has_prefix(line, "end ")) {
        return take_end(m, line + 4, err);
    }
    ot_sha256_add(&m->sha, line, n);
    ot_sha256_add(&m->sha, "\n", 1);
    if (m->line <= 5) {
        return take_head(m, line, err);
    }
    if (ot_has_prefix(line, "file ") || ot_has_prefix(line, "blob ")) {
        return take_item(m, line + 5, line[0] == 'b', err);
    }
    if (ot_has_prefix(line, "missing ")) {
        return take_missing(m, line + 8, err);
    }
    return bad(m, "no line that is known", err);
}

ot_rc ot_manifest_in_end(const ot_manifest_in *m, ot_error *err)
{
    return m->ended ? OT_OK
                    : ot_fail(err, OT_DATA_LOSS,
                              "%s: ends after %" PRIu64 " lines without its last one; the backup "
                              "was cut short",
                              m->name, m->line);
}

/* Cuts [*from, n) of the buffer into lines; what is left begins at *from. */
static ot_rc feed(ot_manifest_in *m, char *buffer, size_t n, size_t *from, ot_error *err)
{
    char *end;
    while ((end = memchr(buffer + *from, '\n', n - *from)) != NULL) {
        char *line = buffer + *from;
        *end = 0;
        *from = (size_t)(end - buffer) + 1;
        OT_TRY(ot_manifest_in_line(m, line, (size_t)(end - line), err));
    }
    if (n - *from > OT_BACKUP_LINE_MAX) {
        return bad(m, "a line that is too long", err);
    }
    return OT_OK;
}

static ot_rc read_lines(ot_manifest_in *m, ot_file *f, ot_error *err)
{
    OT_AUTO(ot_free_ptr) char *buffer = ot_alloc(CHUNK + OT_BACKUP_LINE_MAX + 1);
    if (buffer == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory to read it", m->name);
    }
    size_t kept = 0, n = 1;
    for (uint64_t at = 0; n > 0; at += n) {
        size_t from = 0;
        OT_TRY(f->ops->pread(f, buffer + kept, CHUNK, at, &n, err));
        OT_TRY(feed(m, buffer, kept + n, &from, err));
        kept = kept + n - from;
        memmove(buffer, buffer + from, kept);
    }
    return kept > 0 ? bad(m, "a line without an end", err) : ot_manifest_in_end(m, err);
}

ot_rc ot_backup_read(ot_disk *disk, const char *dir, ot_backup_item_fn *fn, void *arg,
                     ot_backup_head *head_out, ot_error *err)
{
    char path[OT_PATH_MAX];
    ot_manifest_in m;
    ot_file *f;
    OT_TRY(ot_path_join(path, dir, OT_BACKUP_MANIFEST, err));
    ot_rc rc = disk->ops->open(disk, path, OT_OPEN_READ | OT_OPEN_NOFOLLOW, 0, &f, err);
    if (rc == OT_NOT_FOUND) {
        return ot_fail(err, OT_PRECONDITION,
                       "%s: there is no " OT_BACKUP_MANIFEST " in it: it is no backup, or one that "
                       "was not finished",
                       dir);
    }
    OT_TRY(rc);
    ot_manifest_in_init(&m, path, fn, arg);
    rc = read_lines(&m, f, err);
    ot_file_close(f);
    if (rc == OT_OK && head_out != NULL) {
        *head_out = m.head;
    }
    return rc;
}
