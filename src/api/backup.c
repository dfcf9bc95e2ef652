/* Backups while the control plane runs: a job on a thread of their own, mostly at rest. */
#include "api/internal.h"

#include "backup/backup.h"
#include "base/log.h"
#include "serve/thread.h"
#include "store/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHARE_PERCENT 15
#define KEEP_MAX 10000
/* ioprio_set(2): this thread, the last of the best-effort class. Not the idle class: on a disk that
 * is always busy a backup would never end. */
#define IOPRIO_THREAD 1
#define IOPRIO_LAST ((2 << 13) | 7)

typedef struct job {
    api *a;
    ot_http_req *req;
    char dir[OT_PATH_MAX], actor[OT_ACTOR_MAX + 1];
    unsigned keep;
    ot_backup_report report;
    ot_rc made;
    ot_error why;
} job;

static void say(const job *j, ot_str *json)
{
    const ot_backup_report *r = &j->report;
    char size[32], took[32];
    ot_str_adds(json, "{\"text\": \"");
    if (j->made == OT_OK) {
        ot_str_addf(json, "backup of %" PRIu64 " files, %s, in %s", r->head.files,
                    ot_format_size(r->head.bytes, size), ot_format_duration(r->took_us, took));
        if (r->head.missing > 0) {
            ot_str_addf(json, "; %" PRIu64 " blobs were missing", r->head.missing);
        }
        ot_str_adds(json, "\", \"backup\": ");
        ot_backup_report_json(r, json);
    } else {
        ot_str_add_json(json, j->why.msg, strlen(j->why.msg));
        ot_str_addc(json, '"');
    }
    ot_str_addc(json, '}');
}

static ot_rc leave_event(ot_txn *txn, void *arg, ot_error *err)
{
    const job *j = arg;
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    say(j, &json);
    if (json.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the event");
    }
    ot_event_in in = {.actor = j->actor,
                      .role = "person",
                      .type = j->made == OT_OK ? "backup.made" : "backup.failed",
                      .object = "store",
                      .payload = json.data};
    return ot_event_append(txn, &in, NULL, err);
}

static ot_rc work(void *arg, ot_error *err)
{
    job *j = arg;
    ot_backup_options o = {.data_dir = j->a->opt->data_dir,
                           .program = j->a->opt->version,
                           .share_percent = SHARE_PERCENT,
                           .keep = j->keep,
                           .stop = &j->a->no_backups};
    ot_thread_lower(OT_THREAD_NICE_BACKGROUND);
    (void)syscall(SYS_ioprio_set, IOPRIO_THREAD, 0, IOPRIO_LAST);
    j->made = ot_backup_make(j->a->store, j->dir, &o, &j->report, &j->why);
    if (j->made != OT_CANCELLED) {
        OT_TRY(ot_store_write(j->a->store, leave_event, j, err));
    }
    return j->made == OT_OK ? OT_OK : ot_fail(err, j->made, "%s", j->why.msg);
}

static void done(void *arg, ot_rc rc, const ot_error *err)
{
    job *j = arg;
    j->a->touched = true;
    if (rc == OT_OK) {
        OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
        ot_backup_report_json(&j->report, &out);
        ot_http_respond_bytes(j->req, out.failed ? 500 : 200, "application/json", out.data,
                              out.len);
    } else {
        api_fail(j->req, rc, err);
    }
    ot_free(j);
}

static ot_rc read_body(const api_call *c, job *j, ot_error *err)
{
    static const char *const keys[] = {"path", "keep", NULL};
    json_t *body;
    OT_TRY(api_body_object(c, keys, &body, err));
    const char *path = json_string_value(json_object_get(body, "path"));
    const json_t *keep = json_object_get(body, "keep");
    ot_rc rc = OT_OK;
    if (path == NULL || path[0] != '/' || strlen(path) >= sizeof j->dir) {
        rc = ot_fail(err, OT_INVALID, "path: the absolute path of a folder is expected");
    } else if (keep != NULL && (!json_is_integer(keep) || json_integer_value(keep) < 1 ||
                                json_integer_value(keep) > KEEP_MAX)) {
        rc = ot_fail(err, OT_INVALID, "keep: a number from 1 to %d is expected", KEEP_MAX);
    } else {
        snprintf(j->dir, sizeof j->dir, "%s", path);
        j->keep = (unsigned)json_integer_value(keep);
    }
    json_decref(body);
    return rc;
}

ot_rc api_backup(api *a, const api_call *c, ot_error *err)
{
    job *j = ot_calloc(1, sizeof *j);
    if (j == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "backup: no memory");
    }
    j->a = a;
    j->req = c->req;
    snprintf(j->actor, sizeof j->actor, "%s", c->actor);
    ot_rc rc = read_body(c, j, err);
    if (rc == OT_OK) {
        rc = ot_aside_submit(a->backups, work, done, j, err);
    }
    if (rc != OT_OK) {
        ot_free(j);
    }
    return rc;
}
