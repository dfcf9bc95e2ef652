/* Shared by the files of the control API; not for others. */
#ifndef OT_API_INTERNAL_H
#define OT_API_INTERNAL_H

#include "api/alert.h"
#include "api/aside.h"
#include "api/auth.h"
#include "api/control.h"
#include "api/event_json.h"
#include "api/head.h"
#include "api/query.h"
#include "base/mem.h"
#include "base/str.h"
#include "fleet/hub.h"
#include "model/trust.h"
#include "net/http_server.h"
#include "net/lines.h"
#include "net/loop.h"
#include "net/tls_watch.h"
#include "pipeline/pipeline.h"
#include "store/store.h"

#include <jansson.h>
#include <stdatomic.h>

typedef struct api_streams api_streams;
typedef struct api_watch api_watch;

/* The control process. One; everything in it belongs to the loop's thread. */
typedef struct api {
    const ot_api_options *opt;
    ot_loop *loop;
    ot_store *store;
    ot_aside *aside;
    ot_aside *backups; /* may take minutes, so nothing else waits behind one */
    atomic_bool no_backups;
    ot_log_head *log_head;
    ot_alerts *alerts;
    ot_pipeline *pipeline;
    ot_hub *hub;
    ot_http_server *http;
    api_streams *streams;
    ot_auth auth;
    ot_signer signer;
    char incoming[OT_PATH_MAX];     /* where versions come in */
    char unnamed[OT_ACTOR_MAX + 1]; /* the actor of who does not say */
    int agent_fd;
    int local_fd; /* beside a listener with TLS: a Unix socket for commands on this machine; or -1
                   */
    ot_tls *tls;
    ot_tls_watch tls_watch;
    api_watch *watches; /* of runs */
    ot_lines supervisor;
    ot_hook hook;
    ot_timer timer; /* the pipeline's */
    bool touched;   /* something came in: tick at the end of this turn */
    bool stopping;
    unsigned verifying, plotting, listing, promoting; /* jobs of requests, on the worker */
} api;

/* A request that has passed the checks. */
typedef struct api_call {
    ot_http_req *req;
    const char *name[2]; /* what the pattern's '*' stood for */
    char actor[OT_ACTOR_MAX + 1];
} api_call;

/* Puts the body of a 200 into `out`. */
typedef ot_rc api_answer_fn(api *a, const api_call *c, ot_str *out, ot_error *err);
/* OT_OK: it has answered or will. */
typedef ot_rc api_own_fn(api *a, const api_call *c, ot_error *err);

typedef struct api_route {
    ot_http_method method;
    const char *pattern;       /* '*' is one segment */
    const char *const *params; /* query parameters, NULL at the end; NULL: none */
    uint64_t body_max;
    bool open;        /* needs no token */
    const char *type; /* of the answer; NULL: application/json */
    api_answer_fn *answer;
    api_own_fn *own;
} api_route;

/* --- routes.c: what is known; the dispatcher denies everything else --------------------------- */

extern const api_route api_routes[];
extern const size_t api_routes_n;
/* The route of method and path; NULL with *allow_out naming the path's methods ("" when the path is
 * not known either). HEAD finds GET unless the answer is a stream. `names` lie in the arena. */
const api_route *api_route_find(ot_http_method method, ot_slice path, ot_arena *arena,
                                const char *names[2], char allow_out[64]);

/* --- dispatch.c --------------------------------------------------------------------------------
 */

void api_handle(void *arg, ot_http_req *req);
uint64_t api_body_max(void *arg, const ot_http_req *req);
void api_fail(ot_http_req *req, ot_rc rc, const ot_error *err);
/* The body as a JSON object with no keys but `keys` (NULL at the end). */
ot_rc api_body_object(const api_call *c, const char *const *keys, json_t **out,
                      ot_error *err) OT_CHECKED;
/* Dumps and frees `j`; NULL is "no memory". */
ot_rc api_give(json_t *j, ot_str *out, ot_error *err) OT_CHECKED;
/* A number in the path. */
ot_rc api_number(const char *text, const char *what, int64_t *out, ot_error *err) OT_CHECKED;

/* --- apps.c, models.c, runs.c, events.c, series.c, metrics.c: the answers
 * ------------------------------------ */

api_answer_fn api_health, api_apps, api_apply, api_app, api_config, api_act, api_why, api_labels,
    api_accuracy, api_replicas, api_models, api_model, api_version, api_runs, api_run,
    api_checkpoints, api_cancel, api_events, api_metrics;
api_own_fn api_verify, api_windows, api_outcomes, api_samples, api_backup, api_snapshot;

/* promote.c, trust.c */
api_answer_fn api_keys, api_trust, api_trust_add, api_trust_remove;
/* clients.c */
api_answer_fn api_clients, api_client_add, api_client_revoke, api_clients_off;
api_own_fn api_sign, api_version_file, api_incoming_open, api_incoming_status, api_incoming_write,
    api_incoming_finish;

/* The parameters `type` and `object`; texts lie in the request's arena. */
struct ot_event_query;
ot_rc api_event_filter(const ot_http_req *r, struct ot_event_query *q, ot_error *err) OT_CHECKED;

/* --- stream.c: answers that go on
 * ------------------------------------------------------------------ */

api_own_fn api_event_stream, api_run_log;
ot_rc api_streams_create(api *a, ot_error *err) OT_CHECKED;
void api_streams_turn(api *a);  /* at the end of each turn */
void api_streams_close(api *a); /* ends all; no new ones */
void api_streams_destroy(api *a);

/* --- supervisor.c: who started us
 * ------------------------------------------------------------------ */

/* From now on its events are written down; it hears that we are ready. */
ot_rc api_supervisor_start(api *a, ot_error *err) OT_CHECKED;
void api_supervisor_stop(api *a);

/* The directory of a run. */
void api_run_dir(const api *a, int64_t run, char out[OT_PATH_MAX]);

#endif
