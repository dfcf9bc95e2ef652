/* Shared by the files of the API; not for others. */
#ifndef OT_API_INTERNAL_H
#define OT_API_INTERNAL_H

#include "api/control.h"
#include "base/str.h"
#include "fleet/hub.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "pipeline/pipeline.h"
#include "store/store.h"

#include <jansson.h>
#include <pthread.h>

#define API_WAITERS_MAX 256
#define API_SEGMENTS_MAX 8

typedef struct ot_api ot_api;

typedef struct api_waiter {
    ot_api *api;
    ot_http_req *req;
    uint64_t after;
    uint32_t limit;
    char type[64], object[128];
    ot_timer timer;
} api_waiter;

struct ot_api {
    ot_loop *loop;
    ot_store *store;
    ot_pipeline *pipeline;
    ot_hub *hub;
    ot_http_server *server;
    char *data_dir;
    char token[65];
    int64_t started_us;
    api_waiter *waiters[API_WAITERS_MAX];
    size_t n_waiters;
    ot_timer tick;
    bool draining;
    /* Synchronization: atomics; jobs that run now. */
    _Atomic int jobs;
};

/* A request on its way through the dispatcher. */
typedef struct api_call {
    ot_api *api;
    ot_http_req *req;
    ot_slice seg[API_SEGMENTS_MAX]; /* decoded path segments after /api/v1 */
    size_t n_seg;
    char actor[65];
} api_call;

typedef void api_handler(api_call *c);

typedef struct api_route {
    const char *method;
    const char *path; /* "/api/v1/apps/*"; * stands for one segment */
    enum { API_OPEN, API_READ, API_WRITE } permission;
    api_handler *fn;
    const char *help;
} api_route;

extern const api_route ot_api_routes[];
extern const size_t ot_api_routes_count;

void ot_api_dispatch(void *arg, ot_http_req *req);

/* Answers. */
void api_json(ot_http_req *req, int status, const ot_str *json);
void api_fail(ot_http_req *req, ot_rc rc, const ot_error *err);
/* The request's body as JSON object; answers and returns NULL when it is none. */
json_t *api_body(api_call *c);
/* Copies a path segment as a name; answers 400 and returns false when it is none. */
bool api_name(api_call *c, size_t i, char out[129]);
bool api_query_i64(api_call *c, const char *key, int64_t missing, int64_t *out);
bool api_query_text(api_call *c, const char *key, char *out, size_t size);

void ot_api_events_changed(ot_api *api);
void ot_api_waiters_end(ot_api *api);
/* After anything that may have moved a deadline. */
void ot_api_reschedule(ot_api *api);

api_handler api_health, api_status, api_apps, api_app, api_apply, api_config, api_act, api_why,
    api_events, api_events_verify, api_runs, api_run, api_run_log, api_run_cancel, api_models,
    api_model, api_labels, api_metrics, api_routes_list;

#endif
