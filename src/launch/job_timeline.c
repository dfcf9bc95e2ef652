#include "launch/job_timeline.h"

#include "base/mem.h"
#include "collective/meet.h"
#include "collective/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char head[] = "{\"traceEvents\":[\n";

struct ot_job_timeline {
    char path[OT_PATH_MAX], part[OT_PATH_MAX];
    ot_file *file;
    int32_t ranks;   /* that there have been */
    uint64_t *bytes; /* of each rank in its epoch, so far */
    char **said;     /* by each rank at its end; NULL: it has not come so far */
    ot_error failed; /* the first thing that went wrong with the file */
};

ot_rc ot_job_timeline_create(const char *path, int32_t ranks, ot_job_timeline **out, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    ot_job_timeline *t = ot_calloc(1, sizeof *t);
    if (t != NULL) {
        t->ranks = ranks;
        t->bytes = ot_calloc(OT_MEET_RANKS_MAX, sizeof *t->bytes);
        t->said = ot_calloc(OT_MEET_RANKS_MAX, sizeof *t->said);
    }
    ot_rc rc = OT_OK;
    if (t == NULL || t->bytes == NULL || t->said == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "timeline of %" PRId32 " ranks: no memory", ranks);
    } else if (strlen(path) + sizeof ".part" > sizeof t->part) {
        rc = ot_fail(err, OT_RANGE, "timeline: a path of %zu bytes; the limit is %zu", strlen(path),
                     sizeof t->part - sizeof ".part");
    } else {
        snprintf(t->path, sizeof t->path, "%s", path);
        snprintf(t->part, sizeof t->part, "%s.part", path);
        rc = d->ops->open(d, t->part,
                          OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_TRUNC | OT_OPEN_APPEND, 0644,
                          &t->file, err);
        rc = rc == OT_OK ? t->file->ops->append(t->file, head, sizeof head - 1, err) : rc;
    }
    if (rc != OT_OK) {
        ot_job_timeline_destroy(t);
        return rc;
    }
    *out = t;
    return OT_OK;
}

void ot_job_timeline_ranks(ot_job_timeline *t, int32_t ranks)
{
    t->ranks = OT_MAX(t->ranks, ranks);
}

static bool whole_lines(const char *p, size_t n)
{
    return n > 3 && p[0] == '{' && memcmp(p + n - 3, "},\n", 3) == 0;
}

void ot_job_timeline_take(ot_job_timeline *t, int32_t rank, bool last, const char *p, size_t n)
{
    if (rank < 0 || rank >= t->ranks || t->failed.rc != OT_OK) {
        return;
    }
    if (last) {
        char *said = n > 1 && p[0] == '{' && p[n - 1] == '}' ? ot_strndup(p, n) : NULL;
        ot_free(t->said[rank]);
        t->said[rank] = said;
        t->bytes[rank] = 0; /* another epoch may follow */
    } else if (whole_lines(p, n) && t->bytes[rank] + n <= 2 * OT_TRACE_TEXT_MAX) {
        t->bytes[rank] += n;
        (void)t->file->ops->append(t->file, p, n, &t->failed);
    }
}

/* What is said of the whole, and the comma behind the last event taken away. */
static ot_rc close_file(ot_job_timeline *t, int32_t *missing, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str tail = OT_STR_INIT;
    uint64_t size;
    bool any = false;
    *missing = 0;
    ot_str_adds(&tail, "\n],\n\"displayTimeUnit\":\"ms\",\n\"otherData\":{\"clock\":"
                       "\"microseconds of CLOCK_MONOTONIC on the launcher's host\",\"ranks\":[");
    for (int32_t r = 0; r < t->ranks; r++) {
        if (t->said[r] != NULL) {
            ot_str_addf(&tail, "%s\n%s", any ? "," : "", t->said[r]);
            any = true;
        } else {
            (*missing)++;
        }
    }
    ot_str_addf(&tail, "],\n\"ranks_that_are_not_complete\":%" PRId32 "}}\n", *missing);
    if (tail.failed) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory", t->part);
    }
    OT_TRY(t->file->ops->size(t->file, &size, err));
    if (size > sizeof head - 1) {
        OT_TRY(t->file->ops->truncate(t->file, size - 2, err));
    }
    return t->file->ops->append(t->file, tail.data, tail.len, err);
}

ot_rc ot_job_timeline_end(ot_job_timeline *t, int32_t *missing_out, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    ot_rc rc = t->failed.rc;
    if (rc != OT_OK) {
        *err = t->failed;
    } else {
        rc = close_file(t, missing_out, err);
    }
    rc = rc == OT_OK ? d->ops->rename(d, t->part, t->path, err) : rc;
    if (rc == OT_OK) {
        t->part[0] = 0;
    }
    ot_job_timeline_destroy(t);
    return rc;
}

void ot_job_timeline_destroy(ot_job_timeline *t)
{
    ot_disk *d = ot_disk_posix();
    if (t == NULL) {
        return;
    }
    if (t->file != NULL) {
        ot_file_close(t->file);
        if (t->part[0] != 0) {
            (void)d->ops->unlink(d, t->part, NULL);
        }
    }
    for (int32_t r = 0; t->said != NULL && r < t->ranks; r++) {
        ot_free(t->said[r]);
    }
    ot_free(t->said);
    ot_free(t->bytes);
    ot_free(t);
}
