/* Versions that leave for another server, and versions that come from one (registry/promote.h).
 *
 * Everything here reads or writes files, so it is done by the worker, one after the other; what
 * follows for an app is the pipeline's, on the loop. */
#include "api/internal.h"

#include "model/bundle.h"
#include "registry/promote.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define JOBS_MAX                                                                                   \
    32 /* of requests at a time; each holds a body of 4 MiB at most, but one that opens */

typedef struct job job;
typedef ot_rc job_fn(job *j, ot_error *err);

struct job {
    api *a;
    ot_http_req *req;
    job_fn *work;
    job_fn *then; /* on the loop; NULL: `out` is the answer */
    const char *type;
    const char *model, *path; /* in the request's arena */
    char actor[OT_ACTOR_MAX + 1];
    int64_t version, offset;
    ot_digest bundle;
    json_t *body;
    ot_received received;
    ot_str out;
};

static ot_incoming incoming(const job *j)
{
    return (ot_incoming){.store = j->a->store, .root = j->a->incoming};
}

static void job_free(job *j)
{
    json_decref(j->body);
    ot_str_done(&j->out);
    ot_free(j);
}

static ot_rc work(void *arg, ot_error *err)
{
    job *j = arg;
    return j->work(j, err);
}

static void done(void *arg, ot_rc rc, const ot_error *why)
{
    job *j = arg;
    ot_error err = why != NULL ? *why : (ot_error){0};
    j->a->promoting--;
    if (rc == OT_OK && j->then != NULL) {
        rc = j->then(j, &err);
    }
    if (rc == OT_OK && j->out.failed) {
        rc = ot_fail(&err, OT_EXHAUSTED, "no memory for the answer");
    }
    if (rc != OT_OK) {
        api_fail(j->req, rc, &err);
    } else {
        ot_http_respond_bytes(j->req, 200, j->type, j->out.data, j->out.len);
    }
    job_free(j);
}

static ot_rc job_new(api *a, const api_call *c, job_fn *fn, job **out, ot_error *err)
{
    if (a->promoting >= JOBS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%d pieces are on their way; try again then", JOBS_MAX);
    }
    job *j = ot_calloc(1, sizeof *j);
    if (j == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the request");
    }
    *j = (job){.a = a, .req = c->req, .work = fn, .type = "application/json", .out = OT_STR_INIT};
    snprintf(j->actor, sizeof j->actor, "%s", c->actor);
    *out = j;
    return OT_OK;
}

/* The job is the worker's from here on, or gone. */
static ot_rc job_post(job *j, ot_rc rc, ot_error *err)
{
    api *a = j->a;
    if (rc == OT_OK) {
        rc = ot_aside_submit(a->aside, work, done, j, err);
    }
    if (rc != OT_OK) {
        job_free(j);
        return rc;
    }
    a->promoting++;
    return OT_OK;
}

/* ------------------------------------------------------------------ the source */

static ot_rc sign_work(job *j, ot_error *err)
{
    return ot_registry_sign(j->a->store, &j->a->signer, j->model, j->version, j->actor, &j->out,
                            err);
}

ot_rc api_sign(api *a, const api_call *c, ot_error *err)
{
    job *j;
    OT_TRY(job_new(a, c, sign_work, &j, err));
    j->model = c->name[0];
    return job_post(j, api_number(c->name[1], "version", &j->version, err), err);
}

struct file_arg {
    const job *j;
    ot_bundle_file_row file;
    bool found;
};

static ot_rc find_file(void *arg, const ot_bundle_file_row *row, ot_error *err)
{
    struct file_arg *f = arg;
    (void)err;
    if (strcmp(row->path, f->j->path) == 0) {
        f->file = *row;
        f->found = true;
    }
    return OT_OK;
}

static ot_rc file_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct file_arg *f = arg;
    ot_version_row v;
    OT_TRY(ot_version_get(txn, f->j->model, f->j->version, &v, err));
    return ot_bundle_files_each(txn, &v.bundle, find_file, f, err);
}

static ot_rc file_work(job *j, ot_error *err)
{
    struct file_arg f = {.j = j};
    ot_file *file;
    OT_TRY(ot_store_read(j->a->store, file_txn, &f, err));
    if (!f.found) {
        return ot_fail(err, OT_NOT_FOUND, "version %" PRId64 " of model '%.64s' has no '%.200s'",
                       j->version, j->model, j->path);
    }
    if (!ot_str_reserve(&j->out, OT_INCOMING_PIECE_MAX)) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for a piece");
    }
    OT_TRY(ot_blob_open(j->a->store, &f.file.blob, false, &file, NULL, err));
    ot_rc rc = file->ops->pread(file, j->out.data, OT_INCOMING_PIECE_MAX, (uint64_t)j->offset,
                                &j->out.len, err);
    ot_file_close(file);
    return rc;
}

static ot_rc take_place(job *j, ot_error *err)
{
    const ot_http_req *r = j->req;
    OT_TRY(ot_query_text(r->query, "path", r->arena, OT_MANIFEST_PATH_MAX, &j->path, err));
    OT_TRY(ot_query_i64(r->query, "offset", r->arena, 0, INT64_MAX, &j->offset, err));
    return j->path != NULL ? OT_OK
                           : ot_fail(err, OT_INVALID, "path is needed: a file of the bundle");
}

ot_rc api_version_file(api *a, const api_call *c, ot_error *err)
{
    job *j;
    OT_TRY(job_new(a, c, file_work, &j, err));
    j->model = c->name[0];
    j->type = "application/octet-stream";
    ot_rc rc = api_number(c->name[1], "version", &j->version, err);
    return job_post(j, rc == OT_OK ? take_place(j, err) : rc, err);
}

/* ------------------------------------------------------------------ the receiver */

static ot_rc open_work(job *j, ot_error *err)
{
    ot_incoming in = incoming(j);
    const json_t *envelope = json_object_get(j->body, "envelope");
    const json_t *manifest = json_object_get(j->body, "manifest");
    if (!json_is_string(envelope) || !json_is_string(manifest)) {
        return ot_fail(err, OT_INVALID, "body: 'envelope' and 'manifest' are needed, as text");
    }
    return ot_incoming_open(&in, json_string_value(envelope), json_string_length(envelope),
                            json_string_value(manifest), json_string_length(manifest), &j->out,
                            err);
}

ot_rc api_incoming_open(api *a, const api_call *c, ot_error *err)
{
    static const char *const keys[] = {"envelope", "manifest", NULL};
    job *j;
    OT_TRY(job_new(a, c, open_work, &j, err));
    return job_post(j, api_body_object(c, keys, &j->body, err), err);
}

static ot_rc take_bundle(const api_call *c, job *j, ot_error *err)
{
    return ot_digest_parse(c->name[0], &j->bundle)
               ? OT_OK
               : ot_fail(err, OT_INVALID, "'%.64s' is not the SHA-256 of a bundle", c->name[0]);
}

static ot_rc status_work(job *j, ot_error *err)
{
    ot_incoming in = incoming(j);
    return ot_incoming_status(&in, &j->bundle, &j->out, err);
}

ot_rc api_incoming_status(api *a, const api_call *c, ot_error *err)
{
    job *j;
    OT_TRY(job_new(a, c, status_work, &j, err));
    return job_post(j, take_bundle(c, j, err), err);
}

static ot_rc write_work(job *j, ot_error *err)
{
    ot_incoming in = incoming(j);
    OT_TRY(ot_incoming_write(&in, &j->bundle, j->path, (uint64_t)j->offset, j->req->body.p,
                             j->req->body.n, err));
    ot_str_addf(&j->out, "{\"have\":%" PRIu64 "}", (uint64_t)j->offset + j->req->body.n);
    return OT_OK;
}

ot_rc api_incoming_write(api *a, const api_call *c, ot_error *err)
{
    job *j;
    OT_TRY(job_new(a, c, write_work, &j, err));
    ot_rc rc = take_bundle(c, j, err);
    return job_post(j, rc == OT_OK ? take_place(j, err) : rc, err);
}

static ot_rc finish_work(job *j, ot_error *err)
{
    ot_incoming in = incoming(j);
    return ot_incoming_finish(&in, &j->bundle, j->actor, &j->received, err);
}

/* Registered is registered; what can't be released now is said, with what to do about it. */
static ot_rc release_received(job *j, ot_error *err)
{
    const ot_received *r = &j->received;
    char text[OT_ERROR_MSG_MAX + 512];
    ot_error why = {0};
    OT_AUTO(ot_str_done) ot_str acted = OT_STR_INIT;
    bool app = ot_pipeline_has_app(j->a->pipeline, r->model);
    j->a->touched = true;
    ot_person_act act = {.verb = "release",
                         .app = r->model,
                         .actor = j->actor,
                         .reason = "promoted to this server",
                         .version = r->registered.version};
    bool released = app && !r->registered.existed &&
                    ot_pipeline_act(j->a->pipeline, &act, &acted, &why) == OT_OK;
    int n = snprintf(text, sizeof text, "%s is %s as v%" PRId64, r->model,
                     r->registered.existed ? "already here" : "registered", r->registered.version);
    if (released) {
        snprintf(text + n, sizeof text - (size_t)n, "; its release has begun");
    } else if (!app) {
        snprintf(text + n, sizeof text - (size_t)n,
                 "; there is no app %s here, so nothing is released. Once there is one: overtake "
                 "release %s %" PRId64,
                 r->model, r->model, r->registered.version);
    } else if (!r->registered.existed) {
        snprintf(text + n, sizeof text - (size_t)n,
                 "; not released now: %s. Later: overtake release %s %" PRId64, why.msg, r->model,
                 r->registered.version);
    }
    return api_give(json_pack("{s:s,s:I,s:b,s:b,s:b,s:s}", "model", r->model, "version",
                              (json_int_t)r->registered.version, "existed", r->registered.existed,
                              "app", app, "released", released, "text", text),
                    &j->out, err);
}

ot_rc api_incoming_finish(api *a, const api_call *c, ot_error *err)
{
    job *j;
    OT_TRY(job_new(a, c, finish_work, &j, err));
    j->then = release_received;
    return job_post(j, take_bundle(c, j, err), err);
}
