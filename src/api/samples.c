/* Rows that are kept of traffic. They are read on the worker: a segment has megabytes. */
#include "api/internal.h"

#include "quality/sample_list.h"

#include <inttypes.h>

#define LIMIT_DEFAULT 100
#define LIMIT_MAX 1000
#define LISTS_MAX 4 /* at a time */

typedef struct listing {
    api *a;
    ot_http_req *req;
    const char *deployment; /* in the request's arena */
    int64_t before, limit;
    ot_str out;
} listing;

static ot_rc list_work(void *arg, ot_error *err)
{
    listing *l = arg;
    return ot_samples_list(l->a->store, l->deployment, l->before, l->limit, &l->out, err);
}

static void list_free(listing *l)
{
    ot_str_done(&l->out);
    ot_free(l);
}

static void list_done(void *arg, ot_rc rc, const ot_error *err)
{
    listing *l = arg;
    l->a->listing--;
    if (rc != OT_OK) {
        api_fail(l->req, rc, err);
    } else {
        ot_http_respond_bytes(l->req, 200, "application/json", l->out.data, l->out.len);
    }
    list_free(l);
}

ot_rc api_samples(api *a, const api_call *c, ot_error *err)
{
    OT_TRY(ot_pipeline_serves(a->pipeline, c->name[0], err));
    if (a->listing >= LISTS_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "%d lists of samples are being read; try again then",
                       LISTS_MAX);
    }
    listing *l = ot_calloc(1, sizeof *l);
    if (l == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "samples: no memory");
    }
    *l = (listing){.a = a, .req = c->req, .deployment = c->name[0], .limit = LIMIT_DEFAULT};
    ot_str_init(&l->out);
    ot_rc rc = ot_query_i64(c->req->query, "before", c->req->arena, 1, INT64_MAX, &l->before, err);
    if (rc == OT_OK) {
        rc = ot_query_i64(c->req->query, "limit", c->req->arena, 1, LIMIT_MAX, &l->limit, err);
    }
    if (rc == OT_OK) {
        rc = ot_aside_submit(a->aside, list_work, list_done, l, err);
    }
    if (rc != OT_OK) {
        list_free(l);
        return rc;
    }
    a->listing++;
    return OT_OK;
}
