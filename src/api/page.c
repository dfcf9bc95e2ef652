#include "api/page.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Scripts and styles from here alone, none of them inline; no other site may frame it or be asked.
 */
#define POLICY                                                                                     \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "                    \
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static int by_path(const void *key, const void *element)
{
    const ot_slice *path = key;
    const api_asset *a = element;
    int order = strncmp(path->p, a->path, path->n);
    return order != 0 ? order : -(a->path[path->n] != 0);
}

static const api_asset *find(ot_slice path)
{
    return memchr(path.p, 0, path.n) != NULL
               ? NULL
               : bsearch(&path, api_assets, api_assets_n, sizeof api_assets[0], by_path);
}

/* "gzip" among the codings, and not with weight 0, however many zeros it is written with. */
static bool takes_gzip(ot_slice accept)
{
    char one[64];
    size_t n = 0;
    for (size_t at = 0; accept.p != NULL && at <= accept.n; at++) {
        char c = at < accept.n ? accept.p[at] : ',';
        if (c != ',') {
            one[n] = c;
            n += c != ' ' && c != '\t' && n < sizeof one - 1;
            continue;
        }
        one[n] = 0;
        n = 0;
        if (strcasecmp(one, "gzip") == 0) {
            return true;
        }
        if (strncasecmp(one, "gzip;q=", 7) == 0) {
            return strpbrk(one + 7, "123456789") != NULL;
        }
    }
    return false;
}

/* The tags are 64 hex digits: one that stands in the field is one of its tags. */
static bool known_already(ot_slice none_match, const char *digest)
{
    return none_match.p != NULL && memmem(none_match.p, none_match.n, digest, strlen(digest));
}

static void respond(ot_http_req *req, const api_asset *a)
{
    bool gzip = a->n_gzip > 0 && takes_gzip(ot_http_req_header(req, "accept-encoding"));
    bool same = known_already(ot_http_req_header(req, "if-none-match"), a->digest);
    char tag[80];
    snprintf(tag, sizeof tag, "\"%s%s\"", a->digest, gzip ? "-gzip" : "");
    ot_http_field fields[] = {{"ETag", tag},
                              {"Cache-Control", "no-cache"},
                              {"Vary", "Accept-Encoding"},
                              {"Content-Security-Policy", POLICY},
                              {"X-Content-Type-Options", "nosniff"},
                              {"X-Frame-Options", "DENY"},
                              {"Referrer-Policy", "no-referrer"},
                              {"Cross-Origin-Opener-Policy", "same-origin"},
                              {"Cross-Origin-Resource-Policy", "same-origin"},
                              {"Content-Encoding", "gzip"}};
    union {
        const unsigned char *constant;
        void *base;
    } body = {.constant = gzip ? a->gzip : a->plain};
    struct iovec v = {.iov_base = body.base, .iov_len = gzip ? a->n_gzip : a->n_plain};
    ot_http_answer answer = {.status = same ? 304 : 200,
                             .type = a->type,
                             .fields = fields,
                             .n_fields = OT_COUNT(fields) - (gzip ? 0 : 1),
                             .body = &v,
                             .n_body = same ? 0 : 1,
                             .own = OT_HTTP_ARENA};
    ot_http_respond(req, &answer);
}

bool api_page_answer(ot_http_req *req)
{
    const api_asset *a = find(req->path);
    if (a == NULL) {
        return false;
    }
    if (req->method == OT_HTTP_GET || req->method == OT_HTTP_HEAD) {
        respond(req, a);
        return true;
    }
    static const char text[] = "{\"error\":\"this path does not know the method\"}";
    ot_http_field allow = {.name = "Allow", .value = "GET, HEAD"};
    union {
        const char *constant;
        void *base;
    } body = {.constant = text};
    struct iovec v = {.iov_base = body.base, .iov_len = sizeof text - 1};
    ot_http_answer answer = {.status = 405,
                             .type = "application/json",
                             .fields = &allow,
                             .n_fields = 1,
                             .body = &v,
                             .n_body = 1,
                             .own = OT_HTTP_COPY};
    ot_http_respond(req, &answer);
    return true;
}
