/* Unit tests print TAP (Test Anything Protocol, version 13): one line a check, a plan at the end.
 *
 * A test is a file with `int main(void)` that calls ok()/is_*() and ends with `return tap_done();`.
 * Skips print their reason. One thread. */
#ifndef OT_TESTS_TAP_H
#define OT_TESTS_TAP_H

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static int tap_count, tap_failed;

__attribute__((format(printf, 4, 5), unused)) static bool tap_ok(bool pass, const char *file,
                                                                 int line, const char *fmt, ...)
{
    tap_count++;
    printf("%sok %d - ", pass ? "" : "not ", tap_count);
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    if (!pass) {
        tap_failed++;
        printf("# failed at %s:%d\n", file, line);
    }
    fflush(stdout);
    return pass;
}

#define ok(cond, ...) tap_ok((cond), __FILE__, __LINE__, __VA_ARGS__)
#define is_int(got, want, ...)                                                                     \
    do {                                                                                           \
        long long tap_g_ = (long long)(got), tap_w_ = (long long)(want);                           \
        if (!tap_ok(tap_g_ == tap_w_, __FILE__, __LINE__, __VA_ARGS__)) {                          \
            printf("# got %lld, want %lld\n", tap_g_, tap_w_);                                     \
        }                                                                                          \
    } while (0)
#define is_str(got, want, ...)                                                                     \
    do {                                                                                           \
        const char *tap_g_ = (got), *tap_w_ = (want);                                              \
        if (!tap_ok(tap_g_ != NULL && strcmp(tap_g_, tap_w_) == 0, __FILE__, __LINE__,             \
                    __VA_ARGS__)) {                                                                \
            printf("# got  '%s'\n# want '%s'\n", tap_g_ ? tap_g_ : "(null)", tap_w_);              \
        }                                                                                          \
    } while (0)
#define is_near(got, want, tol, ...)                                                               \
    do {                                                                                           \
        double tap_g_ = (got), tap_w_ = (want);                                                    \
        if (!tap_ok(fabs(tap_g_ - tap_w_) <= (tol), __FILE__, __LINE__, __VA_ARGS__)) {            \
            printf("# got %.17g, want %.17g +- %g\n", tap_g_, tap_w_, (double)(tol));              \
        }                                                                                          \
    } while (0)
#define skip(reason) printf("ok %d # SKIP %s\n", ++tap_count, (reason))

__attribute__((unused)) static int tap_done(void)
{
    printf("1..%d\n", tap_count);
    return tap_failed != 0 || tap_count == 0;
}

#endif
