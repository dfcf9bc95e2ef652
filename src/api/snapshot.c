/* The database as of one moment, copied into a folder of the caller's: what a rehearsal reads while
 * the control plane runs. */
#include "api/internal.h"

#include "store/backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct job {
    api *a;
    ot_http_req *req;
    char dir[OT_PATH_MAX];
    ot_snapshot made;
} job;

static ot_rc rest(void *arg, uint64_t worked_ns, ot_error *err)
{
    const job *j = arg;
    (void)worked_ns;
    return atomic_load(&j->a->no_backups) ? ot_fail(err, OT_CANCELLED, "the control plane ends")
                                          : OT_OK;
}

static ot_rc work(void *arg, ot_error *err)
{
    job *j = arg;
    const ot_snapshot_options opt = {.rest = rest, .arg = j};
    return ot_store_snapshot(j->a->store, j->dir, &opt, &j->made, err);
}

static void done(void *arg, ot_rc rc, const ot_error *err)
{
    job *j = arg;
    if (rc == OT_OK) {
        char text[96];
        int n = snprintf(text, sizeof text, "{\"bytes\": %" PRIu64 ", \"schema\": %" PRId64 "}",
                         j->made.bytes, j->made.schema);
        ot_http_respond_bytes(j->req, 200, "application/json", text, (size_t)n);
    } else {
        api_fail(j->req, rc, err);
    }
    ot_free(j);
}

static ot_rc read_body(const api_call *c, job *j, ot_error *err)
{
    static const char *const keys[] = {"path", NULL};
    json_t *body;
    OT_TRY(api_body_object(c, keys, &body, err));
    const char *path = json_string_value(json_object_get(body, "path"));
    ot_rc rc = OT_OK;
    if (path == NULL || path[0] != '/' || strlen(path) >= sizeof j->dir) {
        rc = ot_fail(err, OT_INVALID, "path: the absolute path of a folder is expected");
    } else if (!ot_disk_exists(ot_disk_posix(), path)) {
        rc = ot_fail(err, OT_NOT_FOUND,
                     "path: there is no folder '%.200s' where the control plane runs", path);
    } else {
        snprintf(j->dir, sizeof j->dir, "%s", path);
    }
    json_decref(body);
    return rc;
}

ot_rc api_snapshot(api *a, const api_call *c, ot_error *err)
{
    job *j = ot_calloc(1, sizeof *j);
    if (j == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "snapshot: no memory");
    }
    j->a = a;
    j->req = c->req;
    ot_rc rc = read_body(c, j, err);
    if (rc == OT_OK) {
        rc = ot_aside_submit(a->backups, work, done, j, err);
    }
    if (rc != OT_OK) {
        ot_free(j);
    }
    return rc;
}
