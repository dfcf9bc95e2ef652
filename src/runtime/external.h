/* An external server as a model: external.json says where it is and what it speaks.
 *
 *     {"url": "http://127.0.0.1:8001", "protocol": "oip", "model": "digits", "timeout_ms": 5000,
 *      "auth": {"header": "authorization", "prefix": "Bearer ", "secret": "digits-key"},
 *      "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}], "outputs": [...]}
 *
 * protocol `oip`: the Open Inference Protocol v2 over REST; without inputs and outputs the server
 * is asked for them. protocol `openai`: a chat completion is the model: one request, as JSON, in
 * `request`, its answer in `response` (both BYTES, one element). A secret is the first line of a
 * file of that name in the folder $OVERTAKE_SECRETS: a model names none elsewhere.
 *
 * The host has a runtime for this format built in (external_run.c): it waits for the server, so
 * that golden answers, warm-up, shadow copies and fallbacks are the same as for any model. Live
 * calls don't wait: see src/serve/external.h. Threads: immutable once read; any. */
#ifndef OT_RUNTIME_EXTERNAL_H
#define OT_RUNTIME_EXTERNAL_H

#include "base/mem.h"
#include "base/sock.h"
#include "codec/oip.h"
#include "net/http_client.h"
#include "net/tls_client.h"

#define OT_EXTERNAL_FORMAT "external"
#define OT_EXTERNAL_FILE "external.json"
#define OT_EXTERNAL_TENSORS_MAX 16
#define OT_EXTERNAL_BODY_MAX (64u << 20)

typedef enum ot_external_protocol { OT_EXTERNAL_OIP, OT_EXTERNAL_OPENAI } ot_external_protocol;

typedef struct ot_external {
    ot_arena arena; /* of the texts */
    ot_external_protocol protocol;
    ot_addr addr;
    ot_tls_client *tls;  /* https; NULL: clear */
    bool unverified;     /* whoever answers is taken for the server */
    const char *base;    /* path before the protocol's own: "" or "/prefix" */
    const char *model;   /* as the server calls it */
    const char *headers; /* "Host: ...\r\n", and the secret's line */
    int64_t timeout_us;
    ot_tensor_spec *inputs, *outputs;
    size_t n_inputs, n_outputs;
} ot_external;

/* Of a file, or of JSON that is in memory (`where` names it in errors). OT_INVALID names the key.
 */
ot_rc ot_external_open(const char *path, ot_external *out, ot_error *err) OT_CHECKED;
ot_rc ot_external_read(const char *json, size_t n, const char *where, ot_external *out,
                       ot_error *err) OT_CHECKED;
void ot_external_done(ot_external *x);
/* inputs or outputs of a metadata answer or of external.json. */
ot_rc ot_external_specs(const void *json, const char *key, ot_external *x, ot_tensor_spec **out,
                        size_t *n_out, ot_error *err) OT_CHECKED;

/* What an answer that is not 200 stands for. */
ot_rc ot_external_status(int status);
/* Outputs of an answer in the order of the signature, in the arena; names, types and shapes are
 * checked. */
ot_rc ot_external_outputs(const ot_tensor_spec *specs, size_t n, const ot_oip_response *r,
                          ot_tensor *out, ot_error *err) OT_CHECKED;

/* The body of a chat or text completion as the server shall have it: with its own name of the
 * model. `path_out` is static. With `plain` the answer is asked for whole. OT_INVALID: no such
 * body. */
ot_rc ot_external_chat(const ot_external *x, const char *json, size_t n, bool plain,
                       const char **path_out, ot_str *body_out, ot_error *err) OT_CHECKED;

/* The table of the runtime that is built in. */
struct overtake_plugin;
const struct overtake_plugin *ot_external_runtime(void);

#endif
