#include "base/error.h"

#include "tap.h"

#include <errno.h>

static ot_rc try_it(ot_rc rc, ot_error *err)
{
    OT_TRY(rc);
    return ot_fail(err, OT_INVALID, "went on");
}

int main(void)
{
    ot_error err = {0};
    is_int(ot_fail(&err, OT_NOT_FOUND, "model '%s': version %d", "a", 7), OT_NOT_FOUND,
           "ot_fail returns the code");
    is_str(err.msg, "model 'a': version 7", "the message is formatted");
    is_int(err.rc, OT_NOT_FOUND, "the code is kept");
    ok(strstr(err.where, "error_test.c:") != NULL, "the place is kept");
    is_int(ot_fail(NULL, OT_RANGE, "x"), OT_RANGE, "no error object is fine");

    ot_fail(&err, OT_ABORTED, "again: %s", err.msg);
    is_str(err.msg, "again: model 'a': version 7", "an argument may be the message itself");
    is_int(ot_error_prefix(&err, OT_UNKNOWN, "app %d", 1), OT_ABORTED, "prefix keeps the code");
    is_str(err.msg, "app 1: again: model 'a': version 7", "prefix comes before");
    is_int(ot_error_prefix(NULL, OT_UNKNOWN, "x"), OT_UNKNOWN, "prefix without an object");

    is_int(ot_fail_errno(&err, ENOSPC, "f"), OT_EXHAUSTED, "ENOSPC is exhausted");
    ok(ot_fail_errno(&err, EACCES, "%s: open", "f") == OT_DENIED &&
           strncmp(err.msg, "f: open: ", 9) == 0 && strlen(err.msg) > 9,
       "the system's text follows: %s", err.msg);
    is_int(ot_fail_errno(NULL, ENOENT, "f"), OT_NOT_FOUND, "errno without an object");

    char big[4 * OT_ERROR_MSG_MAX];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    ot_fail(&err, OT_INVALID, "%s", big);
    is_int(strlen(err.msg), OT_ERROR_MSG_MAX - 1, "a long message is cut");
    ot_error_prefix(&err, OT_INVALID, "%s", "p");
    is_int(strlen(err.msg), OT_ERROR_MSG_MAX - 1, "and stays cut behind a prefix");
    ot_fail_errno(&err, EIO, "%s", big);
    is_int(strlen(err.msg), OT_ERROR_MSG_MAX - 1, "and beside errno");

    is_int(try_it(OT_TIMEOUT, &err), OT_TIMEOUT, "OT_TRY passes a failure on");
    is_int(try_it(OT_OK, &err), OT_INVALID, "OT_TRY goes on after OT_OK");

    is_str(ot_rc_name(OT_OK), "ok", "names");
    is_str(ot_rc_name(OT_UNAUTHENTICATED), "unauthenticated", "the last name");
    is_str(ot_rc_name((ot_rc)-99), "unknown", "a code that does not exist");
    is_str(ot_rc_name((ot_rc)5), "unknown", "a positive code");
    is_int(ot_rc_http(OT_INVALID), 400, "HTTP status");
    is_int(ot_rc_http(OT_OK), 200, "HTTP status of OK");
    static const ot_rc round[] = {
        OT_OK,        OT_INVALID,      OT_UNAUTHENTICATED, OT_DENIED,   OT_NOT_FOUND,  OT_TIMEOUT,
        OT_EXHAUSTED, OT_PRECONDITION, OT_UNIMPLEMENTED,   OT_INTERNAL, OT_UNAVAILABLE};
    for (size_t i = 0; i < sizeof round / sizeof round[0]; i++) {
        is_int(ot_rc_of_http(ot_rc_http(round[i])), round[i], "%s and back", ot_rc_name(round[i]));
    }
    is_int(ot_rc_of_http(418), OT_UNKNOWN, "a status that stands for no code");
    return tap_done();
}
