/* HTTP/1.1 response parser for clients: incremental, without I/O; the body comes out in
 * pieces as it arrives. What could be read in two ways is refused: both framings, lengths that are
 * no number, codings that are not known. The result does not depend on where the input was cut.
 *
 * Threads: one at a time. Lifetime: init, feed until the end, done; or reset for the next one. */
#ifndef OT_NET_HTTP_RESPONSE_H
#define OT_NET_HTTP_RESPONSE_H

#include "base/str.h"
#include "net/http.h"

#define OT_HTTP_RESPONSE_HEAD_MAX (64u << 10)

typedef struct ot_http_response {
    /* Results, once `head_done`. */
    bool head_done;
    int status;
    bool close;  /* the connection is not good for another request */
    ot_str head; /* field lines, CRLF ended, without the empty line */

    bool bodiless; /* set before the head comes: it answers HEAD */

    /* Private. */
    ot_http_chunks chunks;
    uint64_t left; /* of a body of known length; UINT64_MAX: until the connection ends */
    bool chunked, done;
} ot_http_response;

/* For whoever reads answers. The status line is at the start of p[0, n); *close_out: it is
 * HTTP/1.0. A Content-Length is 1 to 18 digits and nothing else. Nothing is set when false. */
bool ot_http_status_line(const char *p, size_t n, int *status_out, bool *close_out);
bool ot_http_length(ot_slice v, uint64_t *out);
/* The `nth` field of that name in the lines p[0, n); p NULL: absent. */
ot_slice ot_http_lines_field(const char *p, size_t n, const char *name, unsigned nth);

void ot_http_response_init(ot_http_response *r);
void ot_http_response_reset(ot_http_response *r);
void ot_http_response_done(ot_http_response *r);

/* Takes from buf[0, n), which it may write into; *used_out says how much. Sets *piece_out to the
 * body's bytes that were among them (n 0: none), in buf. Call again with the rest until it is used
 * up or the answer is not OT_HTTP_MORE. OT_HTTP_DONE: the response is whole, what follows is not
 * its own. OT_HTTP_BAD: *why is static text. Interim responses (1xx) are passed over. */
ot_http_step ot_http_response_feed(ot_http_response *r, char *buf, size_t n, size_t *used_out,
                                   ot_slice *piece_out, const char **why);
/* The connection has ended: DONE when the response could end so. */
ot_http_step ot_http_response_end(ot_http_response *r, const char **why);

/* A field of `head`; p NULL: absent. */
ot_slice ot_http_response_header(const ot_http_response *r, const char *name);

#endif
