/* HTTPS posts through libcurl, which is loaded with the first one: who has no https:// webhook
 * needs no libcurl and pays nothing for it.
 *
 * Threads: one, always the same. The server's certificate is checked against the system's
 * authorities, or against the file that SSL_CERT_FILE names. Redirects are not followed. */
#ifndef OT_API_HTTPS_H
#define OT_API_HTTPS_H

#include "base/error.h"

#include <stdint.h>

/* OT_UNIMPLEMENTED: libcurl is not here. OT_UNAVAILABLE: no connection, no trust, or a status that
 * is not 2xx. */
ot_rc ot_https_post(const char *url, const char *json, int64_t timeout_us,
                    ot_error *err) OT_CHECKED;

#endif
