#include "net/tls_client.h"

#include "base/disk.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/tls_conn.h"
#include "net/tls_lib.h"

#include <arpa/inet.h>
#include <stdatomic.h>

#define FILE_MAX (4u << 20)

struct ot_tls_client {
    SSL_CTX *ctx;
    char *name;
    bool is_address;
    uint64_t id;
};

static bool is_address(const char *name)
{
    struct in6_addr x;
    return inet_pton(AF_INET, name, &x) == 1 || inet_pton(AF_INET6, name, &x) == 1;
}

static ot_rc trust(ot_tls_client *t, const ot_tls_client_options *o, ot_error *err)
{
    if (o->unverified) {
        return OT_OK; /* the default of a context */
    }
    ssl.SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    if (o->ca == NULL) {
        return ssl.SSL_CTX_set_default_verify_paths(t->ctx) == 1
                   ? OT_OK
                   : ot_fail(err, OT_UNAVAILABLE, "TLS: the system's certificates: %s",
                             tls_reason());
    }
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), o->ca, FILE_MAX, &text, err));
    return tls_trust(t->ctx, o->ca, &text, "servers", err);
}

static ot_rc make_context(ot_tls_client *t, const ot_tls_client_options *o, ot_error *err)
{
    ssl.ERR_clear_error();
    t->ctx = ssl.SSL_CTX_new(ssl.TLS_client_method());
    if (t->ctx == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "TLS: no context: %s", tls_reason());
    }
    ssl.SSL_CTX_ctrl(t->ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
    ssl.SSL_CTX_ctrl(t->ctx, SSL_CTRL_MODE,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                         SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
                     NULL);
    ssl.SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    return trust(t, o, err);
}

ot_rc ot_tls_client_create(const ot_tls_client_options *o, ot_tls_client **out, ot_error *err)
{
    static _Atomic uint64_t last_id;
    OT_TRY(tls_lib_load(err));
    ot_tls_client *t = ot_calloc(1, sizeof *t);
    if (t == NULL || (t->name = ot_strdup(o->name)) == NULL) {
        ot_free(t);
        return ot_fail(err, OT_EXHAUSTED, "TLS: out of memory");
    }
    t->is_address = is_address(o->name);
    t->id = atomic_fetch_add(&last_id, 1) + 1;
    ot_rc rc = make_context(t, o, err);
    ssl.ERR_clear_error();
    if (rc != OT_OK) {
        ot_tls_client_destroy(t);
        return rc;
    }
    *out = t;
    return OT_OK;
}

void ot_tls_client_destroy(ot_tls_client *t)
{
    if (t != NULL) {
        ssl.SSL_CTX_free(t->ctx);
        ot_free(t->name);
        ot_free(t);
    }
}

uint64_t ot_tls_client_id(const ot_tls_client *t)
{
    return t != NULL ? t->id : 0;
}

SSL *tls_client_begin(const ot_tls_client *t, bool h2)
{
    static const unsigned char http1[] = "\x08http/1.1", http2[] = "\x02h2";
    SSL *s = ssl.SSL_new(t->ctx); /* holds the context */
    if (s == NULL) {
        return NULL;
    }
    ssl.SSL_set_hostflags(s, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    union {
        const char *in;
        void *out;
    } cast = {.in = t->name}; /* it is copied */
    bool good = ssl.SSL_set_alpn_protos(s, h2 ? http2 : http1,
                                        h2 ? sizeof http2 - 1 : sizeof http1 - 1) == 0 &&
                ssl.SSL_set1_host(s, t->name) == 1 && /* an address too */
                (t->is_address || ssl.SSL_ctrl(s, SSL_CTRL_SET_TLSEXT_HOSTNAME,
                                               TLSEXT_NAMETYPE_host_name, cast.out) == 1);
    if (!good) {
        ssl.SSL_free(s);
        return NULL;
    }
    return s;
}

const char *tls_client_name(const ot_tls_client *t)
{
    return t->name;
}
