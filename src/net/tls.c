/* Certificates, keys and whom to trust: contexts that connections begin with. */
#include "net/tls.h"

#include "base/disk.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/tls_conn.h"
#include "net/tls_lib.h"

#include <pthread.h>
#include <string.h>

#define FILE_MAX (1u << 20)

struct ot_tls {
    char *cert, *key, *client_ca;
    pthread_mutex_t lock;
    /* Synchronization: under lock. */
    SSL_CTX *ctx;
    ot_digest tried; /* digest of what was read last, used or not */
};

const char *tls_reason(void)
{
    unsigned long e = ssl.ERR_peek_last_error();
    const char *z = e != 0 ? ssl.ERR_reason_error_string(e) : NULL;
    return z != NULL ? z : "no reason given";
}

/* ---- one context */

static int choose_protocol(SSL *s, const unsigned char **out, unsigned char *n_out,
                           const unsigned char *in, unsigned n, void *arg)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    unsigned char *chosen;
    (void)s;
    (void)arg;
    if (ssl.SSL_select_next_proto(&chosen, n_out, ours, sizeof ours - 1, in, n) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* An encrypted key is refused: nobody is there to ask. */
static int no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

static BIO *open_text(const ot_str *text)
{
    return ssl.BIO_new_mem_buf(text->data, (int)text->len);
}

static ot_rc use_certificates(SSL_CTX *ctx, const char *path, const ot_str *text, ot_error *err)
{
    BIO *in = open_text(text);
    X509 *x = in != NULL ? ssl.PEM_read_bio_X509(in, NULL, no_password, NULL) : NULL;
    bool good = x != NULL && ssl.SSL_CTX_use_certificate(ctx, x) == 1;
    ssl.X509_free(x);
    while (good && (x = ssl.PEM_read_bio_X509(in, NULL, no_password, NULL)) != NULL) {
        good = ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_CHAIN_CERT, 0, x) == 1; /* takes x */
        if (!good) {
            ssl.X509_free(x);
        }
    }
    ssl.BIO_free(in);
    return good ? OT_OK
                : ot_fail(err, OT_INVALID, "'%s' holds no certificate in PEM that can be used: %s",
                          path, tls_reason());
}

static ot_rc use_key(SSL_CTX *ctx, const ot_tls *t, const ot_str *text, ot_error *err)
{
    BIO *in = open_text(text);
    EVP_PKEY *k = in != NULL ? ssl.PEM_read_bio_PrivateKey(in, NULL, no_password, NULL) : NULL;
    ssl.BIO_free(in);
    if (k == NULL) {
        return ot_fail(err, OT_INVALID,
                       "'%s' holds no private key in PEM that can be used (it must not be "
                       "encrypted): %s",
                       t->key, tls_reason());
    }
    bool good = ssl.SSL_CTX_use_PrivateKey(ctx, k) == 1 && ssl.SSL_CTX_check_private_key(ctx) == 1;
    ssl.EVP_PKEY_free(k);
    return good
               ? OT_OK
               : ot_fail(err, OT_INVALID, "the key '%s' is not the one of the certificate '%s': %s",
                         t->key, t->cert, tls_reason());
}

ot_rc tls_trust(SSL_CTX *ctx, const char *path, const ot_str *text, const char *whom, ot_error *err)
{
    BIO *in = open_text(text);
    X509 *x;
    int n = 0;
    bool good = in != NULL;
    while (good && (x = ssl.PEM_read_bio_X509(in, NULL, no_password, NULL)) != NULL) {
        good = ssl.X509_STORE_add_cert(ssl.SSL_CTX_get_cert_store(ctx), x) == 1 &&
               ssl.SSL_CTX_add_client_CA(ctx, x) == 1; /* a list for clients; a server's alone */
        ssl.X509_free(x);
        n++;
    }
    ssl.BIO_free(in);
    return good && n > 0
               ? OT_OK
               : ot_fail(err, OT_INVALID, "'%s' holds no certificate in PEM to trust %s by: %s",
                         path, whom, n == 0 ? "none found" : tls_reason());
}

static void configure(SSL_CTX *ctx)
{
    static const unsigned char id[] = "overtake";
    ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
    /* A connection at rest holds no buffers; what is to be sent may move between tries. */
    ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_MODE,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                         SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
                     NULL);
    /* Sessions are kept by clients, in tickets. */
    ssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
    ssl.SSL_CTX_set_num_tickets(ctx, 1);
    ssl.SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1);
    /* A client that goes without saying so is one that closes: HTTP knows what is whole. */
    ssl.SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION);
    ssl.SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
}

typedef struct texts {
    ot_str cert, key, client_ca;
} texts;

static ot_rc make_context(const ot_tls *t, const texts *x, SSL_CTX **ctx_out, ot_error *err)
{
    ssl.ERR_clear_error();
    SSL_CTX *ctx = ssl.SSL_CTX_new(ssl.TLS_server_method());
    if (ctx == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "TLS: no context: %s", tls_reason());
    }
    configure(ctx);
    ot_rc rc = use_certificates(ctx, t->cert, &x->cert, err);
    if (rc == OT_OK) {
        rc = use_key(ctx, t, &x->key, err);
    }
    if (rc == OT_OK && t->client_ca != NULL) {
        rc = tls_trust(ctx, t->client_ca, &x->client_ca, "clients", err);
        ssl.SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    ssl.ERR_clear_error();
    if (rc != OT_OK) {
        ssl.SSL_CTX_free(ctx);
        return rc;
    }
    *ctx_out = ctx;
    return OT_OK;
}

/* ---- files */

static void texts_done(texts *x)
{
    if (x->key.data != NULL) {
        explicit_bzero(x->key.data, x->key.len);
    }
    ot_str_done(&x->cert);
    ot_str_done(&x->key);
    ot_str_done(&x->client_ca);
}

static ot_rc read_texts(const ot_tls *t, texts *x, ot_digest *digest_out, ot_error *err)
{
    ot_disk *disk = ot_disk_posix();
    OT_TRY(ot_disk_read_all(disk, t->cert, FILE_MAX, &x->cert, err));
    OT_TRY(ot_disk_read_all(disk, t->key, FILE_MAX, &x->key, err));
    if (t->client_ca != NULL) {
        OT_TRY(ot_disk_read_all(disk, t->client_ca, FILE_MAX, &x->client_ca, err));
    }
    ot_sha256 h;
    ot_sha256_init(&h);
    const ot_str *all[] = {&x->cert, &x->key, &x->client_ca};
    for (size_t i = 0; i < OT_COUNT(all); i++) {
        uint64_t n = all[i]->len;
        ot_sha256_add(&h, &n, sizeof n);
        ot_sha256_add(&h, all[i]->data, all[i]->len);
    }
    *digest_out = ot_sha256_done(&h);
    return OT_OK;
}

ot_rc ot_tls_reload(ot_tls *t, bool force, bool *changed_out, ot_error *err)
{
    texts x = {0};
    ot_digest digest;
    SSL_CTX *fresh = NULL, *old = NULL;
    ot_rc rc = read_texts(t, &x, &digest, err);
    if (rc != OT_OK) {
        digest = (ot_digest){0}; /* what can't be read is a state like others: told once */
    }
    pthread_mutex_lock(&t->lock);
    *changed_out = force || !ot_digest_equal(&digest, &t->tried);
    t->tried = digest;
    pthread_mutex_unlock(&t->lock);
    if (rc == OT_OK && *changed_out) {
        rc = make_context(t, &x, &fresh, err);
    }
    texts_done(&x);
    if (fresh != NULL) {
        pthread_mutex_lock(&t->lock);
        old = t->ctx;
        t->ctx = fresh;
        pthread_mutex_unlock(&t->lock);
        ssl.SSL_CTX_free(old);
    }
    return rc;
}

/* ---- life */

ot_rc ot_tls_create(const ot_tls_files *files, ot_tls **tls_out, ot_error *err)
{
    OT_TRY(tls_lib_load(err));
    ot_tls *t = ot_calloc(1, sizeof *t);
    if (t == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "TLS: out of memory");
    }
    pthread_mutex_init(&t->lock, NULL);
    t->cert = ot_strdup(files->cert);
    t->key = ot_strdup(files->key);
    t->client_ca = files->client_ca != NULL ? ot_strdup(files->client_ca) : NULL;
    bool changed;
    ot_rc rc = t->cert == NULL || t->key == NULL || (files->client_ca != NULL && !t->client_ca)
                   ? ot_fail(err, OT_EXHAUSTED, "TLS: out of memory")
                   : ot_tls_reload(t, true, &changed, err);
    if (rc != OT_OK) {
        ot_tls_destroy(t);
        return rc;
    }
    *tls_out = t;
    return OT_OK;
}

void ot_tls_destroy(ot_tls *t)
{
    if (t == NULL) {
        return;
    }
    if (t->ctx != NULL) {
        ssl.SSL_CTX_free(t->ctx);
    }
    pthread_mutex_destroy(&t->lock);
    ot_free(t->cert);
    ot_free(t->key);
    ot_free(t->client_ca);
    ot_free(t);
}

SSL *tls_context_begin(ot_tls *t)
{
    pthread_mutex_lock(&t->lock);
    SSL *s = ssl.SSL_new(t->ctx); /* holds the context */
    pthread_mutex_unlock(&t->lock);
    return s;
}
