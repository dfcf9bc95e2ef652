/* OpenSSL's functions, found at run time; private to src/net.
 *
 * Linked in, its names would stand before those of frameworks that bring a library of the same kind
 * (BoringSSL) into the process. */
#ifndef OT_NET_TLS_LIB_H
#define OT_NET_TLS_LIB_H

#include "base/error.h"
#include "base/str.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define TLS_FUNCTIONS(F)                                                                           \
    F(TLS_server_method)                                                                           \
    F(TLS_client_method)                                                                           \
    F(SSL_CTX_new)                                                                                 \
    F(SSL_CTX_free)                                                                                \
    F(SSL_CTX_ctrl)                                                                                \
    F(SSL_CTX_set_options)                                                                         \
    F(SSL_CTX_use_certificate)                                                                     \
    F(SSL_CTX_use_PrivateKey)                                                                      \
    F(SSL_CTX_check_private_key)                                                                   \
    F(SSL_CTX_get_cert_store)                                                                      \
    F(SSL_CTX_add_client_CA)                                                                       \
    F(SSL_CTX_set_verify)                                                                          \
    F(SSL_CTX_set_alpn_select_cb)                                                                  \
    F(SSL_set_alpn_protos)                                                                         \
    F(SSL_CTX_set_default_verify_paths)                                                            \
    F(SSL_CTX_set_session_id_context)                                                              \
    F(SSL_CTX_set_num_tickets)                                                                     \
    F(SSL_select_next_proto)                                                                       \
    F(SSL_new)                                                                                     \
    F(SSL_free)                                                                                    \
    F(SSL_set_bio)                                                                                 \
    F(SSL_set_accept_state)                                                                        \
    F(SSL_set_connect_state)                                                                       \
    F(SSL_set1_host)                                                                               \
    F(SSL_set_hostflags)                                                                           \
    F(SSL_ctrl)                                                                                    \
    F(SSL_get_verify_result)                                                                       \
    F(X509_verify_cert_error_string)                                                               \
    F(SSL_set_read_ahead)                                                                          \
    F(SSL_do_handshake)                                                                            \
    F(SSL_read)                                                                                    \
    F(SSL_write)                                                                                   \
    F(SSL_get_error)                                                                               \
    F(SSL_pending)                                                                                 \
    F(SSL_has_pending)                                                                             \
    F(SSL_shutdown)                                                                                \
    F(SSL_get0_alpn_selected)                                                                      \
    F(BIO_get_new_index)                                                                           \
    F(BIO_meth_new)                                                                                \
    F(BIO_meth_set_read)                                                                           \
    F(BIO_meth_set_write)                                                                          \
    F(BIO_meth_set_ctrl)                                                                           \
    F(BIO_new)                                                                                     \
    F(BIO_new_mem_buf)                                                                             \
    F(BIO_free)                                                                                    \
    F(BIO_set_data)                                                                                \
    F(BIO_get_data)                                                                                \
    F(BIO_set_init)                                                                                \
    F(BIO_set_flags)                                                                               \
    F(BIO_clear_flags)                                                                             \
    F(PEM_read_bio_X509)                                                                           \
    F(PEM_read_bio_PrivateKey)                                                                     \
    F(X509_STORE_add_cert)                                                                         \
    F(X509_free)                                                                                   \
    F(EVP_PKEY_free)                                                                               \
    F(ERR_clear_error)                                                                             \
    F(ERR_peek_last_error)                                                                         \
    F(ERR_reason_error_string)

typedef struct tls_lib {
#define TLS_SLOT(name) __typeof__(&(name)) name;
    TLS_FUNCTIONS(TLS_SLOT)
#undef TLS_SLOT
    BIO_METHOD *bio; /* of our connections; tls_conn.c */
} tls_lib;

extern tls_lib ssl; /* all slots are filled once tls_lib_load was OT_OK */

ot_rc tls_lib_load(ot_error *err) OT_CHECKED;
BIO_METHOD *tls_conn_bio(void); /* tls_conn.c */

/* tls.c */
struct ot_tls;
SSL *tls_context_begin(struct ot_tls *t); /* NULL: memory is short */
const char *tls_reason(void);             /* of OpenSSL's last error */
/* Trusts the certificates of a PEM file; `whom`, "clients" or "servers", is for the error. */
ot_rc tls_trust(SSL_CTX *ctx, const char *path, const ot_str *text, const char *whom,
                ot_error *err) OT_CHECKED;

/* tls_client.c */
struct ot_tls_client;
SSL *tls_client_begin(const struct ot_tls_client *t, bool h2); /* NULL: memory is short */
const char *tls_client_name(const struct ot_tls_client *t);

#endif
