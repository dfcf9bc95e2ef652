/* HTTP/1.1 request parser (RFC 9112): incremental, without I/O, in place.
 *
 * The caller keeps one message at the start of a buffer, appends what arrives and feeds it; nothing
 * is copied but chunked bodies, which are decoded in place. The result does not depend on where
 * the input was cut. What two parsers could read in two ways is refused: Content-Length beside
 * Transfer-Encoding, differing Content-Length, bare CR or LF, folded lines, space before a colon,
 * control characters.
 *
 * Threads: one at a time. Lifetime: a parser is reset for each message. */
#ifndef OT_NET_HTTP_H
#define OT_NET_HTTP_H

#include "base/error.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ot_slice {
    const char *p; /* not NUL-terminated unless said so; NULL: absent */
    size_t n;
} ot_slice;

bool ot_slice_eq(ot_slice s, const char *z);
bool ot_slice_ieq(ot_slice s, const char *z); /* ASCII letters in either case */

typedef enum ot_http_method {
    OT_HTTP_OTHER,
    OT_HTTP_GET,
    OT_HTTP_HEAD,
    OT_HTTP_POST,
    OT_HTTP_PUT,
    OT_HTTP_DELETE,
    OT_HTTP_PATCH,
    OT_HTTP_OPTIONS,
} ot_http_method;

ot_http_method ot_http_method_of(ot_slice text);

typedef struct ot_http_limits {
    uint32_t line_max;    /* request line, bytes: 414 */
    uint32_t head_max;    /* request line and header fields, bytes: 431 */
    uint32_t headers_max; /* number of fields, at most OT_HTTP_HEADERS_MAX: 431 */
    uint64_t body_max;    /* decoded bytes: 413 */
} ot_http_limits;

#define OT_HTTP_HEADERS_MAX 96
#define OT_HTTP_LIMITS_DEFAULT                                                                     \
    (ot_http_limits)                                                                               \
    {                                                                                              \
        .line_max = 8192, .head_max = 32768, .headers_max = OT_HTTP_HEADERS_MAX,                   \
        .body_max = 64u << 20                                                                      \
    }

/* The chunked coding (RFC 9112, 7.1), also used by the client. */
typedef struct ot_http_chunks {
    uint64_t left;  /* of the current chunk */
    uint32_t extra; /* bytes of extensions and trailers so far */
    uint8_t state;
    uint8_t digits;
} ot_http_chunks;

typedef enum ot_http_step { OT_HTTP_MORE, OT_HTTP_DONE, OT_HTTP_BAD } ot_http_step;

/* Decodes in[0, n) to out (out <= in allowed, both in one buffer). Sets how much was read and
 * written. A chunk that would take more than `room` is OT_HTTP_BAD with *reason
 * ot_http_body_too_large (compare the pointers). After OT_HTTP_BAD the outputs are not set. */
extern const char ot_http_body_too_large[];
ot_http_step ot_http_chunks_feed(ot_http_chunks *c, const char *in, size_t n, char *out,
                                 uint64_t room, size_t *read_out, size_t *written_out,
                                 const char **reason);

typedef struct ot_http_span { /* offsets into the buffer, which may move between feeds */
    uint32_t at, n;
} ot_http_span;

/* The last head that a parser has read, and what it said: a client's heads are mostly the same
 * bytes again, and the same bytes under the same limits say the same. The fields' places stay in
 * `headers` of the parser. */
#define OT_HTTP_KNOWN_MAX 512 /* longer heads are read each time */
typedef struct ot_http_known_head {
    uint32_t n; /* bytes; 0: none */
    bool keep_alive, expect_continue, is_http10, has_length;
    ot_http_method method;
    ot_http_span method_text, target, path, query, authority;
    uint32_t n_headers;
    uint64_t length;
    char bytes[OT_HTTP_KNOWN_MAX];
} ot_http_known_head;

typedef struct ot_http_parser {
    /* Results. After `head_done` all but the body; read them through the functions below. */
    bool head_done, keep_alive, expect_continue, chunked, is_http10, has_length;
    ot_http_method method;
    int status;         /* after OT_HTTP_BAD: 400 408 413 414 417 431 501 505 */
    const char *reason; /* after OT_HTTP_BAD: static text */
    ot_http_span method_text, target, path, query, authority;
    uint32_t n_headers;
    struct {
        ot_http_span name, value;
    } headers[OT_HTTP_HEADERS_MAX];
    uint32_t body_at; /* offset of the body */
    uint64_t length;  /* Content-Length; for chunked what was decoded so far */

    ot_http_limits limits;
    /* Private. */
    const char *base;
    uint32_t line_at, scanned, first_line_at;
    bool have_line, has_host, has_connection_close;
    ot_http_chunks chunks;
    ot_http_known_head known;
} ot_http_parser;

void ot_http_parser_init(ot_http_parser *p, const ot_http_limits *limits); /* NULL: default */
void ot_http_parser_reset(ot_http_parser *p);                              /* next message */

/* buf[0, *len) is the message from its first byte, with whatever follows it. Call again with the
 * same start and more bytes until the answer is not OT_HTTP_MORE. *len shrinks while a chunked body
 * is decoded: the undecoded rest is moved down behind the decoded bytes.
 * OT_HTTP_DONE: the message is buf[0, ot_http_parser_size), the next one follows it.
 * OT_HTTP_BAD: answer with p->status and close; the rest of the connection can't be trusted. */
ot_http_step ot_http_parser_feed(ot_http_parser *p, char *buf, size_t *len);
size_t ot_http_parser_size(const ot_http_parser *p);

/* Valid until the buffer that was fed last moves. Names match in either case. */
ot_slice ot_http_parser_text(const ot_http_parser *p, ot_http_span s);
ot_slice ot_http_parser_header(const ot_http_parser *p, const char *name); /* p NULL: absent */

const char *ot_http_status_text(int status);

/* Splits "/a/b%20c" into decoded, NUL-terminated segments ("a", "b c") in the arena. Refused
 * (OT_INVALID): bad escapes, encoded '/', control characters and NUL, "." and ".." segments, more
 * than `max` segments (OT_RANGE). A trailing '/' gives a last empty segment; "/" alone gives
 * none.*/
ot_rc ot_http_path_split(ot_slice path, ot_arena *arena, ot_slice *segments, size_t max,
                         size_t *n_out, ot_error *err) OT_CHECKED;
/* The first parameter called `name`, decoded ('+' is a space) and NUL-terminated in the arena;
 * OT_NOT_FOUND when absent, OT_INVALID on a bad escape or NUL. "a" and "a=" are both empty. */
ot_rc ot_http_query_get(ot_slice query, const char *name, ot_arena *arena, ot_slice *value_out,
                        ot_error *err) OT_CHECKED;

#endif
