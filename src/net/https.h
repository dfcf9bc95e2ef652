/* HTTPS requests through libcurl, which is loaded with the first one: who asks no https:// address
 * needs no libcurl and pays nothing for it.
 *
 * Threads: one at a time. The server's certificate is checked against the system's authorities, or
 * against a file of PEM: the one that is given, else the one that SSL_CERT_FILE names. Redirects
 * are not followed. */
#ifndef OT_NET_HTTPS_H
#define OT_NET_HTTPS_H

#include "base/error.h"
#include "net/http_client.h"

#include <stdint.h>

/* `call->target` follows the address in `url` ("https://HOST:PORT"); its body is collected, at most
 * `body_max` bytes, or handed to on_data as it comes where that is set and the status is below 300.
 * The reply's head stays empty. Any status is OT_OK. `ca` may be NULL. `timeout_us` for the whole;
 * 0: none.
 * OT_UNIMPLEMENTED: libcurl is not here. OT_UNAVAILABLE: no connection, or no trust. OT_EXHAUSTED:
 * the answer is larger. */
ot_rc ot_https_request(const char *url, const ot_http_call *call, const char *ca, uint64_t body_max,
                       int64_t timeout_us, ot_http_reply *reply, ot_error *err) OT_CHECKED;

/* Posts JSON to the whole `url`. As above, and a status that is not 2xx is OT_UNAVAILABLE. */
ot_rc ot_https_post(const char *url, const char *json, int64_t timeout_us,
                    ot_error *err) OT_CHECKED;

#endif
