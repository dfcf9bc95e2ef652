/* What load is sent to: a server, a model of it, and what the model takes, as the server says.
 *
 * Threads: one at a time. Lifetime: open/done. */
#ifndef OT_LOAD_TARGET_H
#define OT_LOAD_TARGET_H

#include "base/mem.h"
#include "base/sock.h"
#include "codec/tensor.h"
#include "net/tls_client.h"

#include <stdbool.h>

#define OT_LOAD_NAME_MAX 256
#define OT_LOAD_TENSORS_MAX 64

typedef enum ot_load_protocol {
    OT_LOAD_OIP_JSON,   /* Open Inference Protocol, REST, JSON */
    OT_LOAD_OIP_BINARY, /* with the binary tensor extension */
    OT_LOAD_GRPC,       /* Open Inference Protocol over gRPC */
    OT_LOAD_TFS,        /* TensorFlow Serving, REST */
    OT_LOAD_TFS_GRPC,   /* TensorFlow Serving over gRPC */
} ot_load_protocol;
extern const char *const ot_load_protocol_names[]; /* in that order, NULL at the end */

/* Whom to trust of https:// servers. */
typedef struct ot_load_trust {
    const char *ca;  /* PEM file; NULL: the system's */
    bool unverified; /* any certificate will do */
} ot_load_trust;

typedef struct ot_load_url {
    ot_addr addr;
    ot_tls_client *tls;           /* NULL: clear text */
    char host[300];               /* for Host: */
    char model[OT_LOAD_NAME_MAX]; /* "": the path names none */
    char version[24];             /* "": any */
} ot_load_url;

/* "HOST:PORT", "unix:PATH" or "http[s]://HOST:PORT[/v2/models/MODEL[/versions/V]]", with or without
 * the last segment that infers. OT_INVALID says what is wrong. */
ot_rc ot_load_url_parse(const char *text, const ot_load_trust *trust, ot_load_url *out,
                        ot_error *err) OT_CHECKED;
void ot_load_url_done(ot_load_url *u); /* also of a zeroed one; copies go with it */

typedef struct ot_load_target {
    ot_load_url url;
    ot_load_protocol protocol;
    ot_tensor_spec *inputs, *outputs;
    size_t n_inputs, n_outputs;
    ot_arena arena;
} ot_load_target;

/* Asks the server. `model` may be NULL: the one of the URL, else the only one that is ready. */
ot_rc ot_load_target_open(const char *url, const ot_load_trust *trust, const char *model,
                          ot_load_protocol protocol, ot_load_target *out, ot_error *err) OT_CHECKED;
void ot_load_target_done(ot_load_target *t); /* also of a zeroed one */

#endif
