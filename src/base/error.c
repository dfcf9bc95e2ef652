#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

ot_rc ot_error_set(ot_error *err, ot_rc rc, const char *where, const char *fmt, ...)
{
    if (err == NULL) {
        return rc;
    }
    va_list ap;
    va_start(ap, fmt);
    /* The arguments may point into err->msg itself, so format beside it. */
    char msg[OT_ERROR_MSG_MAX];
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    err->rc = rc;
    err->where = where;
    memcpy(err->msg, msg, sizeof msg);
    return rc;
}

static ot_rc rc_from_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return OT_NOT_FOUND;
    case EEXIST:
        return OT_EXISTS;
    case EACCES:
    case EPERM:
        return OT_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return OT_EXHAUSTED;
    case EINVAL:
        return OT_INVALID;
    case ETIMEDOUT:
        return OT_TIMEOUT;
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
        return OT_UNAVAILABLE;
    default:
        return OT_INTERNAL;
    }
}

ot_rc ot_error_set_errno(ot_error *err, int errnum, const char *where, const char *fmt, ...)
{
    ot_rc rc = rc_from_errno(errnum);
    if (err == NULL) {
        return rc;
    }
    va_list ap;
    va_start(ap, fmt);
    char msg[OT_ERROR_MSG_MAX];
    int n = vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    char text[128];
    const char *s = strerror_r(errnum, text, sizeof text);
    if (n >= 0 && (size_t)n < sizeof msg) {
        snprintf(msg + n, sizeof msg - (size_t)n, ": %s", s);
    }
    err->rc = rc;
    err->where = where;
    memcpy(err->msg, msg, sizeof msg);
    return rc;
}

ot_rc ot_error_prefix(ot_error *err, ot_rc rc, const char *fmt, ...)
{
    if (err == NULL) {
        return rc;
    }
    char old[OT_ERROR_MSG_MAX];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->msg) {
        snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", old);
    }
    return err->rc;
}

static const struct {
    const char *name;
    int http;
} rc_table[] = {
    {"ok", 200},
    {"cancelled", 499},
    {"unknown", 500},
    {"invalid_argument", 400},
    {"deadline_exceeded", 504},
    {"not_found", 404},
    {"already_exists", 409},
    {"permission_denied", 403},
    {"resource_exhausted", 429},
    {"failed_precondition", 409},
    {"aborted", 409},
    {"out_of_range", 400},
    {"unimplemented", 501},
    {"internal", 500},
    {"unavailable", 503},
    {"data_loss", 500},
    {"unauthenticated", 401},
};

static size_t rc_index(ot_rc rc)
{
    int i = -(int)rc;
    return i >= 0 && i < (int)(sizeof rc_table / sizeof rc_table[0]) ? (size_t)i : 2;
}

const char *ot_rc_name(ot_rc rc)
{
    return rc_table[rc_index(rc)].name;
}

int ot_rc_http(ot_rc rc)
{
    return rc_table[rc_index(rc)].http;
}

ot_rc ot_rc_of_http(int status)
{
    switch (status) {
    case 400:
    case 422:
        return OT_INVALID;
    case 401:
        return OT_UNAUTHENTICATED;
    case 403:
        return OT_DENIED;
    case 404:
        return OT_NOT_FOUND;
    case 408:
    case 504:
        return OT_TIMEOUT;
    case 409:
        return OT_PRECONDITION;
    case 413:
    case 429:
    case 431:
        return OT_EXHAUSTED;
    case 501:
        return OT_UNIMPLEMENTED;
    case 503:
        return OT_UNAVAILABLE;
    default:
        return status >= 200 && status < 300 ? OT_OK : status >= 500 ? OT_INTERNAL : OT_UNKNOWN;
    }
}
