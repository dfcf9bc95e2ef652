/* inference.GRPCInferenceService but for the infer methods: health, metadata, configuration,
 * statistics, repository, and what of Triton's is answered with why it is not here. The messages:
 * proto/open_inference_grpc.proto. */
#include "protocol/grpc_oip.h"

#include "codec/pb.h"
#include "serve/control.h"

#include <stdio.h>
#include <string.h>

/* ---- requests: nearly all have a name and a version */

typedef struct named {
    const char *texts[3]; /* fields 1 and 2; by number */
    uint64_t number;      /* field 2 where it is a bool */
    unsigned params;      /* how many of field 3 */
    const char *param;    /* one that is not honoured */
} named;

/* `honoured`: a parameter that does no harm; others are kept in `param`. */
static ot_rc read_param(const ot_pb *msg, const ot_pb_field *at, ot_arena *arena, named *out,
                        ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    const char *key = "";
    OT_TRY(ot_pb_enter(msg, at, "parameters", "ParametersEntry", &r, err));
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_pb_string(&r, &f, "key", arena, &key, err));
        }
    } while (f.number != 0);
    if (strcmp(key, "unload_dependents") != 0) {
        out->param = key;
    }
    return OT_OK;
}

static ot_rc read_fields(ot_slice message, const char *what, ot_arena *arena, named *out,
                         ot_error *err)
{
    static const char *const fields[] = {"", "name", "version"};
    ot_pb r;
    ot_pb_field f;
    *out = (named){.texts = {"", "", ""}};
    ot_pb_init(&r, message.p, message.n, what);
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 3) {
            OT_TRY(read_param(&r, &f, arena, out, err));
        } else if (f.number == 2 && f.wire == OT_PB_VARINT) {
            out->number = f.u;
        } else if (f.number == 1 || f.number == 2) {
            OT_TRY(ot_pb_string(&r, &f, fields[f.number], arena, &out->texts[f.number], err));
        }
    } while (f.number != 0);
    return OT_OK;
}

/* Answers itself when the message is none. */
static bool read_named(ot_worker *w, ot_http_req *req, ot_slice message, const char *what,
                       named *out)
{
    ot_error err;
    ot_rc rc = read_fields(message, what, req->arena, out, &err);
    if (rc != OT_OK) {
        ot_grpc_fail(w, req, rc, 0, "%s", err.msg);
    }
    return rc == OT_OK;
}

static const ot_route *route_of(const ot_worker *w)
{
    return atomic_load_explicit(&w->serve->route, memory_order_acquire);
}

/* The variant that speaks for a name and a version. */
static ot_rc find(const ot_worker *w, const char *name, const char *version, const ot_dep **d_out,
                  const ot_variant **v_out, ot_error *err)
{
    uint64_t number = 0;
    if (version[0] != '\0' &&
        (!ot_worker_number((ot_slice){.p = version, .n = strlen(version)}, INT64_MAX, &number) ||
         number == 0)) {
        return ot_fail(err, OT_NOT_FOUND, "'%.40s' is not a version", version);
    }
    return ot_route_variant(route_of(w), name, strlen(name), number, d_out, v_out, err);
}

/* The same for a request; answers itself when there is none. */
static bool find_for(ot_worker *w, ot_http_req *req, ot_slice message, const char *what,
                     const ot_dep **d_out, const ot_variant **v_out)
{
    named q;
    ot_error err;
    if (!read_named(w, req, message, what, &q)) {
        return false;
    }
    ot_rc rc = find(w, q.texts[1], q.texts[2], d_out, v_out, &err);
    if (rc != OT_OK) {
        ot_grpc_fail(w, req, rc, rc == OT_UNAVAILABLE ? 1 : 0, "%s", err.msg);
    }
    return rc == OT_OK;
}

static void send_head(ot_worker *w, ot_http_req *req)
{
    ot_grpc_answer(w, req, NULL, 0, &w->head, NULL, 0);
}

static void send_bool(ot_worker *w, ot_http_req *req, bool yes)
{
    ot_grpc_frame_begin(&w->head);
    if (yes) {
        ot_pb_put_uint(&w->head, 1, 1);
    }
    send_head(w, req);
}

static void send_empty(ot_worker *w, ot_http_req *req)
{
    send_bool(w, req, false);
}

/* ---- health and metadata */

static void server_live(ot_worker *w, ot_http_req *req, ot_slice message)
{
    (void)message;
    send_bool(w, req, true);
}

static void server_ready(ot_worker *w, ot_http_req *req, ot_slice message)
{
    (void)message;
    send_bool(w, req,
              route_of(w)->ready &&
                  !atomic_load_explicit(&w->serve->draining, memory_order_relaxed));
}

static void model_ready(ot_worker *w, ot_http_req *req, ot_slice message)
{
    named q;
    const ot_dep *d;
    const ot_variant *v;
    if (read_named(w, req, message, "ModelReadyRequest", &q)) {
        send_bool(w, req, find(w, q.texts[1], q.texts[2], &d, &v, NULL) == OT_OK);
    }
}

static void server_metadata(ot_worker *w, ot_http_req *req, ot_slice message)
{
    static const char *const extensions[] = {"model_repository", "model_configuration",
                                             "statistics", "binary_tensor_data"};
    (void)message;
    ot_grpc_frame_begin(&w->head);
    ot_pb_put_string(&w->head, 1, "overtake");
    ot_pb_put_string(&w->head, 2, OT_SERVE_VERSION);
    for (size_t i = 0; i < OT_COUNT(extensions); i++) {
        ot_pb_put_string(&w->head, 3, extensions[i]);
    }
    send_head(w, req);
}

static void put_specs(ot_str *s, uint32_t field, const ot_tensor_spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t tensor = ot_pb_begin(s, field);
        ot_pb_put_string(s, 1, specs[i].name);
        ot_pb_put_string(s, 2, ot_dtype_name(specs[i].dtype));
        ot_pb_put_packed(s, 3, specs[i].dims, (size_t)specs[i].rank);
        ot_pb_end(s, tensor, 0);
    }
}

static void put_platform(ot_str *s, uint32_t field, const ot_model_info *info)
{
    size_t n = strlen(info->plugin) + 1 + strlen(info->format);
    ot_pb_put_head(s, field, n);
    ot_str_addf(s, "%s_%s", info->plugin, info->format);
}

static void model_metadata(ot_worker *w, ot_http_req *req, ot_slice message)
{
    const ot_dep *d;
    const ot_variant *v;
    if (!find_for(w, req, message, "ModelMetadataRequest", &d, &v)) {
        return;
    }
    ot_str *s = &w->head;
    ot_grpc_frame_begin(s);
    ot_pb_put_string(s, 1, d->name);
    for (size_t i = 0; i < d->n_arms; i++) {
        ot_pb_put_string(s, 2, d->arms[i].variant->version_text);
    }
    put_platform(s, 3, ot_model_info_of(v->loaded));
    put_specs(s, 4, v->sig.inputs, v->sig.n_inputs);
    put_specs(s, 5, v->sig.outputs, v->sig.n_outputs);
    send_head(w, req);
}

/* ---- configuration: the part of Triton's ModelConfig that has a meaning here */

static unsigned config_type(ot_dtype dt)
{
    static const uint8_t types[OT_DT_COUNT_] = {
        [OT_DT_BOOL] = 1,   [OT_DT_UINT8] = 2, [OT_DT_UINT16] = 3, [OT_DT_UINT32] = 4,
        [OT_DT_UINT64] = 5, [OT_DT_INT8] = 6,  [OT_DT_INT16] = 7,  [OT_DT_INT32] = 8,
        [OT_DT_INT64] = 9,  [OT_DT_FP16] = 10, [OT_DT_FP32] = 11,  [OT_DT_FP64] = 12,
        [OT_DT_BYTES] = 13, [OT_DT_BF16] = 14,
    };
    return types[dt];
}

static void put_config_tensors(ot_str *s, uint32_t field, uint32_t dims_field,
                               const ot_tensor_spec *specs, size_t n, int from)
{
    for (size_t i = 0; i < n; i++) {
        size_t tensor = ot_pb_begin(s, field);
        ot_pb_put_string(s, 1, specs[i].name);
        ot_pb_put_uint(s, 2, config_type(specs[i].dtype));
        ot_pb_put_packed(s, dims_field, specs[i].dims + from, (size_t)(specs[i].rank - from));
        ot_pb_end(s, tensor, 0);
    }
}

static void model_config(ot_worker *w, ot_http_req *req, ot_slice message)
{
    const ot_dep *d;
    const ot_variant *v;
    if (!find_for(w, req, message, "ModelConfigRequest", &d, &v)) {
        return;
    }
    const ot_model_info *info = ot_model_info_of(v->loaded);
    int64_t batch = ot_variant_merge_max(v);
    int from = v->rows_known && batch > 1 ? 1 : 0; /* Triton's dims leave the batch's axis out */
    ot_str *s = &w->head;
    ot_grpc_frame_begin(s);
    size_t config = ot_pb_begin(s, 1);
    ot_pb_put_string(s, 1, d->name);
    put_platform(s, 2, info);
    if (from == 1) {
        ot_pb_put_uint(s, 4, (uint64_t)batch);
    }
    put_config_tensors(s, 5, 4, v->sig.inputs, v->sig.n_inputs, from);
    put_config_tensors(s, 6, 3, v->sig.outputs, v->sig.n_outputs, from);
    ot_pb_put_string(s, 17, info->plugin);
    ot_pb_end(s, config, 0);
    send_head(w, req);
}

/* ---- statistics */

static void put_duration(ot_str *s, uint32_t field, uint64_t count, uint64_t ns)
{
    size_t duration = ot_pb_begin(s, field);
    ot_pb_put_uint(s, 1, count);
    ot_pb_put_uint(s, 2, ns);
    ot_pb_end(s, duration, 0);
}

static void put_stats(ot_str *s, const ot_dep *d, const ot_variant *v)
{
    ot_totals_sum t;
    ot_variant_totals(v, &t);
    size_t stats = ot_pb_begin(s, 1);
    ot_pb_put_string(s, 1, d->name);
    ot_pb_put_string(s, 2, v->version_text);
    ot_pb_put_uint(s, 4, t.rows);
    ot_pb_put_uint(s, 5, t.batches);
    size_t infer = ot_pb_begin(s, 6);
    put_duration(s, 1, t.requests - OT_MIN(t.failed, t.requests), t.latency_ns);
    put_duration(s, 2, t.failed, 0);
    put_duration(s, 3, t.requests, t.stage_ns[OT_SERVE_QUEUE]);
    put_duration(s, 4, t.batches, t.stage_ns[OT_SERVE_BATCH]);
    put_duration(s, 5, t.batches, t.run_ns);
    put_duration(s, 6, t.requests, t.stage_ns[OT_SERVE_ENCODE]);
    ot_pb_end(s, infer, 0);
    for (unsigned b = 0; b < OT_COST_BUCKETS; b++) {
        if (t.batch_rows[b] > 0) {
            uint64_t ns = atomic_load_explicit(&v->cost.ns[b], memory_order_relaxed);
            size_t batch = ot_pb_begin(s, 7);
            ot_pb_put_uint(s, 1, UINT64_C(1) << b);
            put_duration(s, 3, t.batch_rows[b], ns * t.batch_rows[b]);
            ot_pb_end(s, batch, 0);
        }
    }
    ot_pb_end(s, stats, 0);
}

static void put_dep_stats(ot_str *s, const ot_dep *d, const ot_variant *only)
{
    for (size_t i = 0; i < d->n_arms; i++) {
        if (only == NULL || d->arms[i].variant == only) {
            put_stats(s, d, d->arms[i].variant);
        }
    }
}

static void model_statistics(ot_worker *w, ot_http_req *req, ot_slice message)
{
    named q;
    ot_error err;
    const ot_dep *d;
    const ot_variant *v;
    if (!read_named(w, req, message, "ModelStatisticsRequest", &q)) {
        return;
    }
    ot_grpc_frame_begin(&w->head);
    if (q.texts[1][0] == '\0') {
        const ot_route *r = route_of(w);
        for (size_t i = 0; i < r->n_deps; i++) {
            put_dep_stats(&w->head, r->deps[i], NULL);
        }
        send_head(w, req);
        return;
    }
    ot_rc rc = find(w, q.texts[1], q.texts[2], &d, &v, &err);
    if (rc != OT_OK) {
        ot_grpc_fail(w, req, rc, 0, "%s", err.msg);
        return;
    }
    put_dep_stats(&w->head, d, q.texts[2][0] != '\0' ? v : NULL);
    send_head(w, req);
}

/* ---- repository */

static bool repo_failed(ot_worker *w, ot_http_req *req, const ot_repo_answer *a)
{
    if (a->status != 200) {
        ot_grpc_fail(w, req, ot_rc_of_http(a->status), a->retry_s, "%s", a->error);
    }
    return a->status != 200;
}

static void send_index(ot_worker *w, ot_http_req *req, const ot_repo_answer *a)
{
    if (repo_failed(w, req, a)) {
        return;
    }
    bool ready_only = req->user != NULL;
    ot_str *s = &w->head;
    ot_grpc_frame_begin(s);
    for (size_t i = 0; i < a->n_rows; i++) {
        const ot_repo_row *row = &a->rows[i];
        if (ready_only && strcmp(row->state, "READY") != 0) {
            continue;
        }
        size_t model = ot_pb_begin(s, 1);
        ot_pb_put_string(s, 1, row->name);
        if (row->version > 0) {
            char text[24];
            snprintf(text, sizeof text, "%llu", (unsigned long long)row->version);
            ot_pb_put_string(s, 2, text);
        }
        ot_pb_put_string(s, 3, row->state);
        ot_pb_put_string(s, 4, row->reason);
        ot_pb_end(s, model, 0);
    }
    send_head(w, req);
}

static void send_loaded(ot_worker *w, ot_http_req *req, const ot_repo_answer *a)
{
    if (!repo_failed(w, req, a)) {
        send_empty(w, req);
    }
}

/* There is one repository, without a name. */
static bool is_ours(ot_worker *w, ot_http_req *req, const char *repository)
{
    if (repository[0] != '\0') {
        ot_grpc_fail(w, req, OT_NOT_FOUND, 0,
                     "repository '%.80s' is not known; there is one, without a name", repository);
    }
    return repository[0] == '\0';
}

static void repository_index(ot_worker *w, ot_http_req *req, ot_slice message)
{
    named q;
    if (read_named(w, req, message, "RepositoryIndexRequest", &q) && is_ours(w, req, q.texts[1])) {
        static char ready_only;
        req->user = q.number != 0 ? &ready_only : NULL;
        ot_control_repo(w, req, OT_REPO_INDEX, "", 0, send_index);
    }
}

static void load_or_unload(ot_worker *w, ot_http_req *req, ot_slice message, const char *what,
                           ot_repo_op op)
{
    named q;
    if (!read_named(w, req, message, what, &q) || !is_ours(w, req, q.texts[1])) {
        return;
    }
    if (q.param != NULL) {
        ot_grpc_fail(w, req, OT_INVALID, 0,
                     "the parameter '%.80s' is not taken: a model's files and configuration are "
                     "what its directory has",
                     q.param);
        return;
    }
    ot_control_repo(w, req, op, q.texts[2], strlen(q.texts[2]), send_loaded);
}

static void model_load(ot_worker *w, ot_http_req *req, ot_slice message)
{
    load_or_unload(w, req, message, "RepositoryModelLoadRequest", OT_REPO_LOAD);
}

static void model_unload(ot_worker *w, ot_http_req *req, ot_slice message)
{
    load_or_unload(w, req, message, "RepositoryModelUnloadRequest", OT_REPO_UNLOAD);
}

/* ---- what of Triton's is not here */

/* No memory that a client names is ever mapped: so none is registered, and none has to be let go.
 */
static void shared_none(ot_worker *w, ot_http_req *req, ot_slice message)
{
    (void)message;
    send_empty(w, req);
}

static void shared_register(ot_worker *w, ot_http_req *req, ot_slice message)
{
    (void)message;
    ot_grpc_fail(w, req, OT_UNIMPLEMENTED, 0,
                 "shared memory is not supported: memory that a client names is never mapped; send "
                 "the data in raw_input_contents");
}

static void trace_setting(ot_worker *w, ot_http_req *req, ot_slice message)
{
    (void)message;
    ot_grpc_fail(w, req, OT_UNIMPLEMENTED, 0,
                 "traces are set up when the server starts, not over the network");
}

static void log_settings(ot_worker *w, ot_http_req *req, ot_slice message)
{
    (void)message;
    ot_grpc_fail(w, req, OT_UNIMPLEMENTED, 0,
                 "the log is set up when the server starts, not over the network");
}

static const ot_grpc_method methods[] = {
    {.name = "ModelInfer", .unary = ot_grpc_model_infer},
    {.name = "ModelStreamInfer", .item = ot_grpc_model_stream_infer},
    {.name = "ServerLive", .unary = server_live},
    {.name = "ServerReady", .unary = server_ready},
    {.name = "ModelReady", .unary = model_ready},
    {.name = "ServerMetadata", .unary = server_metadata},
    {.name = "ModelMetadata", .unary = model_metadata},
    {.name = "ModelConfig", .unary = model_config},
    {.name = "ModelStatistics", .unary = model_statistics},
    {.name = "RepositoryIndex", .unary = repository_index},
    {.name = "RepositoryModelLoad", .unary = model_load},
    {.name = "RepositoryModelUnload", .unary = model_unload},
    {.name = "SystemSharedMemoryStatus", .unary = shared_none},
    {.name = "SystemSharedMemoryRegister", .unary = shared_register},
    {.name = "SystemSharedMemoryUnregister", .unary = shared_none},
    {.name = "CudaSharedMemoryStatus", .unary = shared_none},
    {.name = "CudaSharedMemoryRegister", .unary = shared_register},
    {.name = "CudaSharedMemoryUnregister", .unary = shared_none},
    {.name = "TraceSetting", .unary = trace_setting},
    {.name = "LogSettings", .unary = log_settings},
};
const ot_grpc_service ot_grpc_inference = {"inference.GRPCInferenceService", methods,
                                           OT_COUNT(methods)};
