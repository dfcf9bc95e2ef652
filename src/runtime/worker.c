#include "runtime/worker.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "launch/sandbox.h"
#include "runtime/internal.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define READ_MAX 512 /* folders that may be read */

typedef struct worker {
    ot_runtime *rt;
    const overtake_plugin *plugin;
    overtake_model *model;
    overtake_model_info info;
    const char *version;
    ot_ring_lane *lanes[OT_RING_LANES_MAX];
} worker;

/* ---- messages; the host's, and so trusted to be of the form that we know */

static const char *text_of(const json_t *m, const char *key)
{
    const char *s = json_string_value(json_object_get(m, key));
    return s != NULL ? s : "";
}

static uint64_t number_of(const json_t *m, const char *key)
{
    json_int_t x = json_integer_value(json_object_get(m, key));
    return x > 0 ? (uint64_t)x : 0;
}

static ot_rc send_json(json_t *m, ot_error *err)
{
    static const char untellable[] =
        "{\"ok\":false,\"code\":-13,\"message\":\"its answer is not UTF-8, or memory is short\"}";
    char *text = m != NULL ? json_dumps(m, JSON_COMPACT) : NULL;
    const char *send = text != NULL ? text : untellable;
    json_decref(m);
    ot_rc rc = ot_sock_send_msg(OT_RING_CONTROL_FD, send, strlen(send), -1, 0, err);
    free(text);
    return rc;
}

static ot_rc send_result(ot_rc rc, const ot_error *why, ot_error *err)
{
    return send_json(rc == OT_OK ? json_pack("{s:b}", "ok", 1)
                                 : json_pack("{s:b,s:i,s:s%}", "ok", 0, "code", (int)rc, "message",
                                             why->msg, strlen(why->msg)),
                     err);
}

static json_t *specs_json(const overtake_spec *specs, uint32_t n)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < n; i++) {
        json_t *dims = json_array();
        for (int32_t k = 0; k < specs[i].rank && k < OT_RANK_MAX; k++) {
            json_array_append_new(dims, json_integer(specs[i].dims[k]));
        }
        json_array_append_new(all, json_pack("{s:s*,s:i,s:o}", "name", specs[i].name, "datatype",
                                             specs[i].dtype, "shape", dims));
    }
    return all;
}

/* ---- loading */

/* The environments whose libraries a runtime may need, beside what the host names. */
typedef struct reads {
    const char *paths[READ_MAX + 1];
    size_t n;
} reads;

static void add_read(void *arg, const char *path)
{
    reads *r = arg;
    char *copy = r->n < READ_MAX ? ot_strdup(path) : NULL;
    if (copy != NULL) {
        r->paths[r->n++] = copy;
    }
}

static ot_rc enter_sandbox_files(const json_t *m, ot_sandbox *box, ot_str *lacks, ot_error *err)
{
    reads r = {.n = 0};
    size_t i;
    json_t *path;
    json_array_foreach(json_object_get(m, "read"), i, path)
    {
        add_read(&r, json_string_value(path));
    }
    ot_runtime_read_paths(add_read, &r);
    box->cache = text_of(m, "cache");
    box->read = r.paths;
    ot_rc rc = ot_sandbox_files(box, lacks, err);
    for (size_t k = 0; k < r.n; k++) {
        char *p;
        memcpy(&p, &r.paths[k], sizeof p);
        ot_free(p);
    }
    box->read = NULL;
    return rc;
}

static ot_rc open_plugin(worker *w, const json_t *m, ot_error *err)
{
    OT_TRY(ot_runtime_create(text_of(m, "plugins"), &w->rt, err));
    for (size_t i = 0; i < w->rt->n_plugins && w->plugin == NULL; i++) {
        if (strcmp(w->rt->plugins[i].name, text_of(m, "plugin")) == 0) {
            w->plugin = ot_plugin_open(w->rt, &w->rt->plugins[i]);
            if (w->plugin == NULL) {
                return ot_fail(err, OT_UNAVAILABLE, "plug-in %s", w->rt->plugins[i].reason.data);
            }
        }
    }
    return w->plugin != NULL ? OT_OK : ot_fail(err, OT_NOT_FOUND, "the plug-in is gone");
}

static ot_rc failed(int32_t code, overtake_error *why, ot_error *err)
{
    why->message[sizeof why->message - 1] = '\0';
    return ot_fail(err, (ot_rc)code, "%s", why->message);
}

static void limit_files(uint64_t bytes)
{
    struct rlimit max = {bytes, bytes};
    (void)signal(SIGXFSZ, SIG_IGN); /* so that a write fails with EFBIG */
    if (bytes > 0) {
        (void)setrlimit(RLIMIT_FSIZE, &max);
    }
}

static ot_rc load(worker *w, const json_t *m, ot_str *lacks, ot_error *err)
{
    overtake_error why = {""};
    overtake_runtime_info runtime = {.struct_size = sizeof runtime};
    ot_sandbox box = {0};
    OT_TRY(enter_sandbox_files(m, &box, lacks, err));
    OT_TRY(open_plugin(w, m, err));
    int32_t rc = w->plugin->runtime_info(&runtime, &why);
    if (rc != OVERTAKE_OK) {
        return failed(rc, &why, err);
    }
    w->version = runtime.version != NULL ? runtime.version : "";
    limit_files(number_of(m, "file_max"));
    if (chdir(box.cache) != 0) {
        return ot_fail(err, OT_INTERNAL, "cache '%s' cannot be entered", box.cache);
    }
    OT_TRY(ot_sandbox_calls(&box, lacks, err));
    overtake_load what = {.struct_size = sizeof what,
                          .format = text_of(m, "format"),
                          .path = text_of(m, "path"),
                          .options_json = text_of(m, "options"),
                          .threads = (uint32_t)number_of(m, "threads")};
    rc = w->plugin->model_load(&what, &w->model, &why);
    if (rc != OVERTAKE_OK) {
        w->model = NULL;
        return failed(rc, &why, err);
    }
    w->info.struct_size = sizeof w->info;
    rc = w->plugin->model_info(w->model, &w->info, &why);
    return rc == OVERTAKE_OK ? OT_OK : failed(rc, &why, err);
}

/* Becomes another program, which reads the messages that follow. Files are locked here, while there
 * is one thread. */
static ot_rc op_program(const json_t *m, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str lacks = OT_STR_INIT;
    ot_sandbox box = {.program = true};
    ot_error why;
    char *argv[4] = {NULL};
    ot_rc rc = enter_sandbox_files(m, &box, &lacks, &why);
    for (size_t i = 0; i < 3; i++) {
        const char *word = json_string_value(json_array_get(json_object_get(m, "argv"), i));
        argv[i] = ot_strdup(word != NULL ? word : "");
    }
    if (rc == OT_OK && argv[0] != NULL) {
        execv(argv[0], argv);
        rc = ot_fail_errno(&why, errno, "%s cannot be started", argv[0]);
    }
    return send_result(rc, &why, err);
}

static ot_rc op_load(worker *w, const json_t *m, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str lacks = OT_STR_INIT;
    ot_error why;
    ot_rc rc = load(w, m, &lacks, &why);
    if (rc != OT_OK) {
        return send_result(rc, &why, err);
    }
    const overtake_model_info *info = &w->info;
    return send_json(json_pack("{s:b,s:s,s:s,s:o,s:o,s:i,s:I,s:I}", "ok", 1, "version", w->version,
                               "lacks", lacks.data, "inputs",
                               specs_json(info->inputs, info->n_inputs), "outputs",
                               specs_json(info->outputs, info->n_outputs), "batch_axis",
                               info->batch_axis, "memory_bytes", (json_int_t)info->memory_bytes,
                               "instance_memory_bytes", (json_int_t)info->instance_memory_bytes),
                     err);
}

/* ---- lanes */

static ot_rc op_lane(worker *w, uint64_t lane, int *fd, ot_error *why)
{
    if (w->model == NULL || w->lanes[lane] != NULL || *fd < 0) {
        return ot_fail(why, OT_INTERNAL, "lane %llu cannot be opened", (unsigned long long)lane);
    }
    int ring = *fd;
    *fd = -1;
    return ot_ring_lane_open(w->plugin, w->model, &w->info, ring, &w->lanes[lane], why);
}

static ot_rc op_on_lane(worker *w, const char *op, const json_t *m, uint64_t lane, int *fd,
                        ot_error *why)
{
    if (strcmp(op, "lane") == 0) {
        return op_lane(w, lane, fd, why);
    }
    if (w->lanes[lane] == NULL) {
        return ot_fail(why, OT_INTERNAL, "lane %llu is not open", (unsigned long long)lane);
    }
    if (strcmp(op, "segment") == 0 && *fd >= 0) {
        int memory = *fd;
        *fd = -1;
        return ot_ring_lane_map(w->lanes[lane], (uint32_t)number_of(m, "id"), memory,
                                number_of(m, "size"), why);
    }
    if (strcmp(op, "close") == 0) {
        ot_ring_lane_close(w->lanes[lane]);
        w->lanes[lane] = NULL;
        return OT_OK;
    }
    return ot_fail(why, OT_UNIMPLEMENTED, "there is no '%.32s'", op);
}

static ot_rc dispatch(worker *w, const json_t *m, int *fd, ot_error *err)
{
    const char *op = text_of(m, "op");
    uint64_t lane = number_of(m, "lane");
    ot_error why;
    if (strcmp(op, "load") == 0) {
        return op_load(w, m, err);
    }
    if (strcmp(op, "program") == 0) {
        return op_program(m, err);
    }
    if (lane >= OT_RING_LANES_MAX) {
        return ot_fail(err, OT_INVALID, "lane %llu", (unsigned long long)lane);
    }
    if (strcmp(op, "cancel") == 0) { /* not answered */
        if (w->lanes[lane] != NULL) {
            ot_ring_lane_cancel(w->lanes[lane], (uint64_t)strtoull(text_of(m, "ticket"), NULL, 10));
        }
        return OT_OK;
    }
    ot_rc rc = op_on_lane(w, op, m, lane, fd, &why);
    return send_result(rc, &why, err);
}

int ot_runtime_worker(void)
{
    static worker w;
    ot_error err;
    for (;;) {
        char *text;
        size_t n;
        int fd;
        if (ot_sock_recv_msg(OT_RING_CONTROL_FD, OT_RING_TEXT_MAX, 0, &text, &n, &fd, &err) !=
            OT_OK) {
            break; /* the host has let us go, or is dead */
        }
        json_t *m = json_loadb(text, n, 0, NULL);
        ot_rc rc = m != NULL ? dispatch(&w, m, &fd, &err)
                             : ot_fail(&err, OT_INVALID, "a message that is not JSON");
        ot_fd_close(&fd);
        json_decref(m);
        ot_free(text);
        if (rc != OT_OK) {
            ot_err("worker", "%s", err.msg);
            break;
        }
    }
    _exit(0); /* runtimes have threads and handlers that don't always survive an orderly end */
}
