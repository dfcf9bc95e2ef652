#include "api/auth.h"

#include "base/disk.h"
#include "base/mem.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MIN 16
#define TOKEN_MAX 4096

ot_rc ot_auth_load(ot_auth *a, const char *data_dir, uint16_t port, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_disk *d = ot_disk_posix();
    ot_stat st;
    OT_TRY(ot_path_join(path, data_dir, "token", err));
    OT_TRY(d->ops->stat(d, path, &st, err));
    if (!st.is_regular || (st.mode & 077) != 0) {
        return ot_fail(err, OT_DENIED,
                       "%s can be read by others (mode %03o); chmod 600 it, or remove it and start "
                       "again for a new token",
                       path, st.mode);
    }
    OT_TRY(ot_disk_read_all(d, path, TOKEN_MAX, &text, err));
    size_t n = strcspn(text.data, "\r\n");
    if (n < TOKEN_MIN) {
        return ot_fail(err, OT_INVALID,
                       "%s: a token of %zu characters; at least %d are needed. Remove it and start "
                       "again for a new one",
                       path, n, TOKEN_MIN);
    }
    a->port = port;
    a->token = ot_sha256_of(text.data, n);
    return OT_OK;
}

/* "localhost:9000": one of this machine's names and the listener's port. */
static bool names_us(const ot_auth *a, ot_slice s)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    char want[32];
    for (size_t i = 0; i < OT_COUNT(names); i++) {
        snprintf(want, sizeof want, "%s:%u", names[i], a->port);
        /* 80 is what a browser leaves out. */
        if (ot_slice_ieq(s, want) || (a->port == 80 && ot_slice_ieq(s, names[i]))) {
            return true;
        }
    }
    return false;
}

/* Whether the origin is the page that this host itself gives out. */
static bool is_own(const ot_auth *a, ot_slice host, ot_slice origin)
{
    const char *scheme = a->tls ? "https://" : "http://";
    size_t n = strlen(scheme);
    if (origin.n <= n || memcmp(origin.p, scheme, n) != 0) {
        return false;
    }
    ot_slice from = {.p = origin.p + n, .n = origin.n - n};
    return a->tls ? from.n == host.n && memcmp(from.p, host.p, host.n) == 0 : names_us(a, from);
}

ot_rc ot_auth_check_site(const ot_auth *a, bool local, ot_slice host, ot_slice origin,
                         ot_error *err)
{
    bool unix_socket = local || a->port == 0;
    if (!unix_socket && (host.p == NULL || !(a->tls || names_us(a, host)))) {
        return ot_fail(err, OT_DENIED,
                       "Host '%.*s' is not this control plane; ask localhost, 127.0.0.1 or [::1] "
                       "with port %u",
                       (int)OT_MIN(host.n, (size_t)100), host.p != NULL ? host.p : "", a->port);
    }
    return origin.p == NULL || (!unix_socket && is_own(a, host, origin))
               ? OT_OK
               : ot_fail(err, OT_DENIED, "Origin '%.*s' is another site's; it may not ask here",
                         (int)OT_MIN(origin.n, (size_t)100), origin.p);
}

ot_rc ot_auth_check_token(const ot_auth *a, ot_slice authorization, ot_error *err)
{
    static const char scheme[] = "Bearer ";
    size_t n = sizeof scheme - 1;
    if (authorization.p == NULL || authorization.n <= n ||
        !ot_slice_ieq((ot_slice){.p = authorization.p, .n = n}, scheme)) {
        return ot_fail(err, OT_UNAUTHENTICATED,
                       "a token is needed: Authorization: Bearer TOKEN, from the file 'token' of "
                       "the data directory");
    }
    ot_digest given = ot_sha256_of(authorization.p + n, authorization.n - n);
    return ot_secret_equal(given.b, a->token.b, sizeof given.b)
               ? OT_OK
               : ot_fail(err, OT_UNAUTHENTICATED,
                         "the token is not this data directory's; see its file 'token'");
}

ot_rc ot_auth_actor(ot_slice header, const char *unnamed, char out[OT_ACTOR_MAX + 1], ot_error *err)
{
    if (header.p == NULL || header.n == 0) {
        snprintf(out, OT_ACTOR_MAX + 1, "%s", unnamed);
        return OT_OK;
    }
    if (header.n > OT_ACTOR_MAX) {
        return ot_fail(err, OT_INVALID, "overtake-actor has %zu bytes; at most %d are accepted",
                       header.n, OT_ACTOR_MAX);
    }
    json_t *text = json_stringn(header.p, header.n); /* NULL when it is not UTF-8 */
    bool fine = text != NULL;
    json_decref(text);
    for (size_t i = 0; i < header.n; i++) {
        unsigned char c = (unsigned char)header.p[i];
        fine = fine && c >= 0x20 && c != 0x7f;
    }
    if (!fine) {
        return ot_fail(err, OT_INVALID, "overtake-actor is not plain UTF-8 text");
    }
    memcpy(out, header.p, header.n);
    out[header.n] = 0;
    return OT_OK;
}
