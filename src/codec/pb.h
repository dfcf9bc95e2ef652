/* Protocol Buffers' wire format: a reader without a tree and a writer without sizes computed first.
 * What the messages mean is for the files that use this (oip_pb.h).
 *
 * A reader walks one message; its fields point into the message. Unknown fields, groups among
 * them, are the caller's to pass over: ot_pb_next alone does it. Nested messages are readers of
 * their own, at most OT_PB_DEPTH_MAX deep. Errors are OT_INVALID and name the message, and the
 * field or the byte: "ModelInferRequest: field 'id' is a varint where a string belongs". Where a
 * known field has another wire type than its definition says it is refused, where protobuf's own
 * parsers pass over it: a client that sends that is broken, and would be answered as if it had not
 * sent the field. Threads: any; a reader belongs to one. Lifetime: the message outlives what was
 * read of it. Source: https://protobuf.dev/programming-guides/encoding/ */
#ifndef OT_CODEC_PB_H
#define OT_CODEC_PB_H

#include "base/error.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define OT_PB_DEPTH_MAX 32
#define OT_PB_VARINT_MAX 10 /* bytes */

typedef enum ot_pb_wire {
    OT_PB_VARINT = 0,
    OT_PB_FIXED64 = 1,
    OT_PB_LEN = 2, /* strings, bytes, messages, packed values */
    OT_PB_FIXED32 = 5,
} ot_pb_wire;

typedef struct ot_pb {
    const uint8_t *begin, *at, *end;
    const char *what; /* the message's name, for errors; static */
    int depth;
} ot_pb;

typedef struct ot_pb_field {
    uint32_t number; /* 0: the message has ended */
    ot_pb_wire wire;
    uint64_t u;       /* VARINT, FIXED32, FIXED64: the bits */
    const uint8_t *p; /* LEN */
    size_t n;
} ot_pb_field;

/* ---- reading */

void ot_pb_init(ot_pb *r, const void *p, size_t n, const char *what);
/* The next field, groups passed over; number 0 at the end. */
ot_rc ot_pb_next(ot_pb *r, ot_pb_field *f_out, ot_error *err) OT_CHECKED;
/* The field has that wire type; `name` is for the error. */
ot_rc ot_pb_want(const ot_pb *r, const ot_pb_field *f, ot_pb_wire wire, const char *name,
                 ot_error *err) OT_CHECKED;
/* A nested message. */
ot_rc ot_pb_enter(const ot_pb *r, const ot_pb_field *f, const char *name, const char *what,
                  ot_pb *sub_out, ot_error *err) OT_CHECKED;
/* A string as NUL-terminated copy in the arena: valid UTF-8 without NUL. OT_EXHAUSTED at the
 * arena's limit. */
ot_rc ot_pb_string(const ot_pb *r, const ot_pb_field *f, const char *name, ot_arena *arena,
                   const char **z_out, ot_error *err) OT_CHECKED;
/* A varint that is a bool or int32, uint32 or int64 by its type: `u` as it is, narrowed like
 * protobuf does (the low bits count). */
static inline bool ot_pb_bool(const ot_pb_field *f)
{
    return f->u != 0;
}
static inline int64_t ot_pb_i64(const ot_pb_field *f)
{
    return (int64_t)f->u;
}
static inline double ot_pb_f64(const ot_pb_field *f)
{
    double x;
    memcpy(&x, &f->u, sizeof x);
    return x;
}
static inline float ot_pb_f32(const ot_pb_field *f)
{
    uint32_t bits = (uint32_t)f->u;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A varint at *at, which moves behind it; false when it does not end before `end` or has more than
 * 64 bits. */
bool ot_pb_varint_long(const uint8_t **at, const uint8_t *end, uint64_t *x_out);
static inline bool ot_pb_varint(const uint8_t **at, const uint8_t *end, uint64_t *x_out)
{
    if (*at < end && **at < 0x80) {
        *x_out = *(*at)++;
        return true;
    }
    return ot_pb_varint_long(at, end, x_out);
}

/* Appends the values of a field of repeated varints, packed or not, to out[*n], of which there is
 * room for max. */
ot_rc ot_pb_i64s(const ot_pb *r, const ot_pb_field *f, const char *name, int64_t *out, size_t max,
                 size_t *n, ot_error *err) OT_CHECKED;

/* ---- writing: appends; a failed append shows in the string, see str.h */

void ot_pb_put_varint(ot_str *s, uint64_t x); /* bare */
void ot_pb_put_uint(ot_str *s, uint32_t number, uint64_t x);
void ot_pb_put_double(ot_str *s, uint32_t number, double x);
void ot_pb_put_bytes(ot_str *s, uint32_t number, const void *p, size_t n);
void ot_pb_put_string(ot_str *s, uint32_t number, const char *z);
void ot_pb_put_some(ot_str *s, uint32_t number, const char *z); /* nothing for NULL and "" */
/* For what people read: a text that is not UTF-8, like a name that was cut, gets '?' for each byte
 * beyond ASCII, since clients refuse a message with such a string. */
void ot_pb_put_text(ot_str *s, uint32_t number, const char *z);
void ot_pb_put_packed(ot_str *s, uint32_t number, const int64_t *x, size_t n);
/* The tag and the length of n bytes that follow, here or from elsewhere. */
void ot_pb_put_head(ot_str *s, uint32_t number, size_t n);
/* A nested message between the two. `elsewhere`: bytes of it that are not in the string. */
size_t ot_pb_begin(ot_str *s, uint32_t number);
void ot_pb_end(ot_str *s, size_t mark, size_t elsewhere);

/* Bytes of a varint. */
size_t ot_pb_varint_size(uint64_t x);

#endif
