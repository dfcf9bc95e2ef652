/* Errors: canonical return codes and a caller-owned message.
 *
 * Functions that can fail return ot_rc. Cold functions take `ot_error *err` last; it may be NULL.
 * Outputs end in `_out`, come last before `err`, and are untouched on failure.
 * Threads: an ot_error belongs to one thread at a time. Lifetime: the caller's stack. */
#ifndef OT_BASE_ERROR_H
#define OT_BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

/* Values are the negated canonical codes of gRPC, so that they map to HTTP and gRPC without a table
 * of their own meaning. */
typedef enum ot_rc {
    OT_OK = 0,
    OT_CANCELLED = -1,
    OT_UNKNOWN = -2,
    OT_INVALID = -3, /* the caller's input is wrong */
    OT_TIMEOUT = -4, /* the deadline passed */
    OT_NOT_FOUND = -5,
    OT_EXISTS = -6,
    OT_DENIED = -7,
    OT_EXHAUSTED = -8,    /* a limit or a quota was reached */
    OT_PRECONDITION = -9, /* the state does not allow it now */
    OT_ABORTED = -10,     /* a conflict; try again */
    OT_RANGE = -11,
    OT_UNIMPLEMENTED = -12,
    OT_INTERNAL = -13,
    OT_UNAVAILABLE = -14, /* try again later */
    OT_DATA_LOSS = -15,   /* a digest or a checksum does not match */
    OT_UNAUTHENTICATED = -16,
} ot_rc;

#define OT_ERROR_MSG_MAX 1024

typedef struct ot_error {
    ot_rc rc;
    const char *where; /* "file.c:123", static storage */
    char msg[OT_ERROR_MSG_MAX];
} ot_error;

#define OT_CHECKED __attribute__((warn_unused_result))

/* Formats a message into `err` (if not NULL) and returns `rc`, so that `return ot_fail(...)` works.
 * The message names the thing, the value, the limit and the way out. */
#define ot_fail(err, rc, ...) ot_error_set((err), (rc), OT_WHERE, __VA_ARGS__)
#define OT_WHERE_STR2(x) #x
#define OT_WHERE_STR(x) OT_WHERE_STR2(x)
#define OT_WHERE __FILE__ ":" OT_WHERE_STR(__LINE__)

ot_rc ot_error_set(ot_error *err, ot_rc rc, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The same, with strerror(errnum) appended and the code derived from errnum. */
ot_rc ot_error_set_errno(ot_error *err, int errnum, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
#define ot_fail_errno(err, errnum, ...) ot_error_set_errno((err), (errnum), OT_WHERE, __VA_ARGS__)
/* Puts "prefix: " before the message of an error that is passed on; returns err->rc (or rc when err
 * is NULL). */
ot_rc ot_error_prefix(ot_error *err, ot_rc rc, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

const char *ot_rc_name(ot_rc rc);
int ot_rc_http(ot_rc rc);        /* the HTTP status that stands for this code; OT_OK gives 200 */
ot_rc ot_rc_of_http(int status); /* and back, where a status is all that is known */

/* Returns early with the same code when `expr` fails. */
#define OT_TRY(expr)                                                                               \
    do {                                                                                           \
        ot_rc ot_try_rc_ = (expr);                                                                 \
        if (ot_try_rc_ != OT_OK) {                                                                 \
            return ot_try_rc_;                                                                     \
        }                                                                                          \
    } while (0)

#endif
