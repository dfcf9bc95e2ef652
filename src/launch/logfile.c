#include "launch/logfile.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

ot_rc ot_launch_logfile_init(ot_launch_logfile *l, const char *path, uint64_t limit, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    OT_TRY(d->ops->open(d, path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_APPEND | OT_OPEN_NOFOLLOW,
                        0600, &f, err));
    l->file = f;
    l->limit = limit;
    l->tail_max = (uint32_t)OT_MIN(limit / 4, (uint64_t)OT_LAUNCH_TAIL_MAX);
    l->head_max = limit - l->tail_max;
    l->total = l->dropped_errors = 0;
    l->noted = false;
    return OT_OK;
}

static void put(ot_launch_logfile *l, const char *p, size_t n)
{
    if (n > 0 && l->file->ops->append(l->file, p, n, NULL) != OT_OK) {
        l->dropped_errors += n;
    }
}

static void ring_add(ot_launch_logfile *l, const char *p, size_t n)
{
    uint64_t at = l->total;
    if (n > OT_LAUNCH_TAIL_MAX) {
        p += n - OT_LAUNCH_TAIL_MAX;
        at += n - OT_LAUNCH_TAIL_MAX;
        n = OT_LAUNCH_TAIL_MAX;
    }
    size_t i = (size_t)(at % OT_LAUNCH_TAIL_MAX);
    size_t k = OT_MIN(n, OT_LAUNCH_TAIL_MAX - i);
    memcpy(l->tail + i, p, k);
    memcpy(l->tail, p + k, n - k);
}

void ot_launch_logfile_add(ot_launch_logfile *l, const char *p, size_t n)
{
    if (l->total < l->head_max) {
        put(l, p, (size_t)OT_MIN((uint64_t)n, l->head_max - l->total));
    }
    ring_add(l, p, n);
    l->total += n;
    if (l->total > l->limit && !l->noted) {
        char line[160], size[32];
        l->noted = true;
        snprintf(line, sizeof line,
                 "\n[overtake: the log limit of %s is reached; what follows is counted, its end "
                 "is kept]\n",
                 ot_format_size(l->limit, size));
        put(l, line, strlen(line));
    }
}

void ot_launch_logfile_note(ot_launch_logfile *l, const char *text)
{
    char line[640];
    snprintf(line, sizeof line, "[overtake: %.600s]\n", text);
    put(l, line, strlen(line));
}

/* Copies the last n bytes printed; n <= what the ring holds. */
static void ring_copy(const ot_launch_logfile *l, char *out, size_t n)
{
    size_t i = (size_t)((l->total - n) % OT_LAUNCH_TAIL_MAX);
    size_t k = OT_MIN(n, OT_LAUNCH_TAIL_MAX - i);
    memcpy(out, l->tail + i, k);
    memcpy(out + k, l->tail, n - k);
}

void ot_launch_logfile_done(ot_launch_logfile *l)
{
    if (l->file == NULL) {
        return;
    }
    uint64_t rest = l->total > l->head_max ? l->total - l->head_max : 0;
    size_t n = (size_t)OT_MIN(rest, (uint64_t)l->tail_max);
    if (rest > n) {
        char line[160], out[32], kept[32];
        snprintf(line, sizeof line, "[overtake: %s left out; the last %s follow]\n",
                 ot_format_size(rest - n, out), ot_format_size(n, kept));
        put(l, line, strlen(line));
    }
    size_t i = (size_t)((l->total - n) % OT_LAUNCH_TAIL_MAX);
    size_t k = OT_MIN(n, OT_LAUNCH_TAIL_MAX - i);
    put(l, l->tail + i, k);
    put(l, l->tail, n - k);
    ot_file_close(l->file);
    l->file = NULL;
}

bool ot_launch_logfile_truncated(const ot_launch_logfile *l)
{
    return l->total > l->limit || l->dropped_errors > 0;
}

void ot_launch_logfile_last_line(const ot_launch_logfile *l, char *out, size_t n)
{
    char buf[1024];
    size_t k = (size_t)OT_MIN(l->total, (uint64_t)sizeof buf);
    ring_copy(l, buf, k);
    while (k > 0 && (unsigned char)buf[k - 1] <= ' ') {
        k--;
    }
    size_t from = k;
    while (from > 0 && buf[from - 1] != '\n') {
        from--;
    }
    size_t used = 0;
    for (; from < k && used + 1 < n; from++) {
        unsigned char c = (unsigned char)buf[from];
        /* Text for a message: escape codes of terminals and broken UTF-8 do not belong there. */
        out[used++] = c >= ' ' && c < 127 ? (char)c : '?';
    }
    out[used] = 0;
}
