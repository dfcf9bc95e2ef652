#include "protocol/coding.h"

#include "codec/deflate.h"

#include <string.h>

#define FIELDS_MAX 16
#define GAIN 8 /* at least 1/8 must be saved */

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static ot_slice trim(ot_slice s)
{
    while (s.n > 0 && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && is_space(s.p[s.n - 1])) {
        s.n--;
    }
    return s;
}

/* The part before `c`, without space around it; *rest is what follows, n 0 at the end. */
static ot_slice cut(ot_slice *rest, char c)
{
    const char *at = rest->n > 0 ? memchr(rest->p, c, rest->n) : NULL;
    size_t n = at != NULL ? (size_t)(at - rest->p) : rest->n;
    ot_slice head = {rest->p, n};
    rest->p += at != NULL ? n + 1 : n;
    rest->n -= at != NULL ? n + 1 : n;
    return trim(head);
}

/* ---- requests */

/* The form that the request's body has; *plain: none. */
static ot_rc form_of(const ot_http_req *req, ot_inflate_form *form_out, bool *plain, ot_error *err)
{
    ot_slice coding = ot_http_req_header(req, "content-encoding");
    *plain = coding.p == NULL || coding.n == 0 || ot_slice_ieq(coding, "identity");
    bool gzip = ot_slice_ieq(coding, "gzip") || ot_slice_ieq(coding, "x-gzip");
    *form_out = gzip ? OT_INFLATE_GZIP : OT_INFLATE_ZLIB;
    return *plain || gzip || ot_slice_ieq(coding, "deflate")
               ? OT_OK
               : ot_fail(err, OT_UNIMPLEMENTED,
                         "the body is encoded as '%.*s'; accepted is one of " OT_CODINGS,
                         (int)OT_MIN(coding.n, 40u), coding.p);
}

static int status_of(ot_rc rc)
{
    return rc == OT_UNIMPLEMENTED ? 415 : rc == OT_EXHAUSTED ? 413 : ot_rc_http(rc);
}

bool ot_coding_take(ot_worker *w, ot_http_req *req)
{
    ot_inflate_form form;
    bool plain;
    ot_error err;
    ot_rc rc = form_of(req, &form, &plain, &err);
    if (rc == OT_OK && !plain) {
        rc = ot_inflate(form, req->body.p, req->body.n, OT_CODING_SMALL, req->arena, &req->body.p,
                        &req->body.n, &err);
    }
    if (rc != OT_OK) {
        ot_worker_error(w, req, status_of(rc), "%s", err.msg);
    }
    return rc == OT_OK;
}

bool ot_coding_take_call(ot_call *call)
{
    ot_worker *w = call->worker;
    ot_http_req *req = call->req;
    ot_inflate_form form;
    bool plain;
    ot_error err;
    ot_rc rc = form_of(req, &form, &plain, &err);
    if (rc == OT_OK && plain) {
        return true;
    }
    uint64_t most = w->serve->o.body_max, room = OT_CODING_BODIES * most - w->unpacked;
    if (rc == OT_OK) {
        rc = ot_inflate(form, req->body.p, req->body.n, OT_MIN(most, room), req->arena,
                        &req->body.p, &req->body.n, &err);
    }
    if (rc == OT_OK) {
        call->unpacked = req->body.n;
        w->unpacked += call->unpacked;
        return true;
    }
    bool busy = rc == OT_EXHAUSTED && room < most;
    ot_worker_refuse(w, call, rc, busy ? 503 : status_of(rc), busy ? 1 : 0, "%s", err.msg);
    return false;
}

/* ---- answers */

/* The weight of ";q=...", in thousandths. */
static unsigned weight(ot_slice params)
{
    while (params.n > 0) {
        ot_slice p = cut(&params, ';');
        if (p.n < 3 || (p.p[0] != 'q' && p.p[0] != 'Q') || p.p[1] != '=') {
            continue;
        }
        unsigned x = p.p[2] == '1' ? 1000 : 0, unit = 100;
        for (size_t i = 4; i < p.n && unit > 0 && x < 1000; i++, unit /= 10) {
            x += p.p[i] >= '0' && p.p[i] <= '9' ? (unsigned)(p.p[i] - '0') * unit : 0;
        }
        return x;
    }
    return 1000;
}

bool ot_coding_accepted(ot_slice accept, bool *gzip_out)
{
    int gzip = -1, deflate = -1, any = 0; /* -1: not named */
    while (accept.n > 0) {
        ot_slice item = cut(&accept, ',');
        ot_slice name = cut(&item, ';');
        int q = (int)weight(item);
        if (ot_slice_ieq(name, "gzip") || ot_slice_ieq(name, "x-gzip")) {
            gzip = q;
        } else if (ot_slice_ieq(name, "deflate")) {
            deflate = q;
        } else if (ot_slice_eq(name, "*")) {
            any = q;
        }
    }
    gzip = gzip < 0 ? any : gzip;
    deflate = deflate < 0 ? any : deflate;
    *gzip_out = gzip >= deflate;
    return gzip > 0 || deflate > 0;
}

void ot_coding_respond(ot_http_req *req, const ot_http_answer *a)
{
    size_t n = 0;
    bool gzip;
    for (size_t i = 0; i < a->n_body; i++) {
        n += a->body[i].iov_len;
    }
    if (n < OT_CODING_LEAST || a->n_fields + 2 > FIELDS_MAX ||
        !ot_coding_accepted(ot_http_req_header(req, "accept-encoding"), &gzip)) {
        ot_http_respond(req, a);
        return;
    }
    OT_AUTO(ot_str_done) ot_str packed = OT_STR_INIT;
    ot_http_field fields[FIELDS_MAX];
    ot_http_answer b = *a;
    memcpy(fields, a->fields, a->n_fields * sizeof fields[0]);
    fields[b.n_fields++] = (ot_http_field){"Vary", "Accept-Encoding"};
    b.fields = fields;
    struct iovec iov;
    if (ot_deflate(gzip ? OT_INFLATE_GZIP : OT_INFLATE_ZLIB, a->body, a->n_body, n - n / GAIN,
                   &packed, NULL) == OT_OK) {
        fields[b.n_fields++] = (ot_http_field){"Content-Encoding", gzip ? "gzip" : "deflate"};
        iov = (struct iovec){packed.data, packed.len};
        b.body = &iov;
        b.n_body = 1;
    }
    ot_http_respond(req, &b);
}
