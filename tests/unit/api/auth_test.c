#include "api/auth.h"

#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/ot_auth_XXXXXX";

static ot_slice z(const char *s)
{
    return (ot_slice){.p = s, .n = s != NULL ? strlen(s) : 0};
}

static void write_token(const char *text, mode_t mode)
{
    char path[256];
    snprintf(path, sizeof path, "%s/token", dir);
    FILE *f = fopen(path, "w");
    if (f != NULL) {
        fputs(text, f);
        fclose(f);
    }
    chmod(path, mode);
}

static const char token[] = "0123456789abcdef0123456789abcdef";

static void test_load(void)
{
    ot_auth a = {0};
    ot_error err = {0};
    is_int(ot_auth_load(&a, dir, 9000, &err), OT_NOT_FOUND, "no token: %s", err.msg);
    write_token("0123456789abcdef0123456789abcdef\n", 0640);
    is_int(ot_auth_load(&a, dir, 9000, &err), OT_DENIED, "others can read it: %s", err.msg);
    write_token("short\n", 0600);
    is_int(ot_auth_load(&a, dir, 9000, &err), OT_INVALID, "too short: %s", err.msg);
    write_token("0123456789abcdef0123456789abcdef\n", 0600);
    is_int(ot_auth_load(&a, dir, 9000, &err), OT_OK, "fine");
}

static void test_site(void)
{
    static const struct {
        const char *host, *origin;
        uint16_t port;
        ot_rc want;
    } cases[] = {
        {"localhost:9000", NULL, 9000, OT_OK},
        {"127.0.0.1:9000", NULL, 9000, OT_OK},
        {"[::1]:9000", NULL, 9000, OT_OK},
        {"LocalHost:9000", NULL, 9000, OT_OK},
        {"localhost", NULL, 80, OT_OK},
        {"localhost", NULL, 9000, OT_DENIED},
        {"localhost:9001", NULL, 9000, OT_DENIED},
        {"localhost:90000", NULL, 9000, OT_DENIED},
        {"localhost.evil.example:9000", NULL, 9000, OT_DENIED},
        {"evil.example:9000", NULL, 9000, OT_DENIED},
        {"evil.example", NULL, 80, OT_DENIED},
        {"127.0.0.2:9000", NULL, 9000, OT_DENIED},
        {"", NULL, 9000, OT_DENIED},
        {NULL, NULL, 9000, OT_DENIED},
        {"localhost:9000", "http://localhost:9000", 9000, OT_OK},
        {"localhost:9000", "http://127.0.0.1:9000", 9000, OT_OK},
        {"localhost:9000", "https://localhost:9000", 9000, OT_DENIED},
        {"localhost:9000", "http://localhost:9001", 9000, OT_DENIED},
        {"localhost:9000", "http://evil.example", 9000, OT_DENIED},
        {"localhost:9000", "http://localhost:9000.evil.example", 9000, OT_DENIED},
        {"localhost:9000", "http://", 9000, OT_DENIED},
        {"localhost:9000", "null", 9000, OT_DENIED},
        {"localhost:9000", "", 9000, OT_DENIED},
        /* A Unix socket has no port and no browser. */
        {"anything", NULL, 0, OT_OK},
        {NULL, NULL, 0, OT_OK},
        {"localhost:0", "http://localhost:0", 0, OT_DENIED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ot_auth a = {.port = cases[i].port};
        is_int(ot_auth_check_site(&a, false, z(cases[i].host), z(cases[i].origin), NULL),
               cases[i].want, "port %u, Host '%s', Origin '%s'", cases[i].port,
               cases[i].host != NULL ? cases[i].host : "(none)",
               cases[i].origin != NULL ? cases[i].origin : "(none)");
    }
}

/* With TLS the certificate says who this is; another site's page is still not ours. */
static void test_site_with_tls(void)
{
    static const struct {
        const char *host, *origin;
        bool local;
        ot_rc want;
    } cases[] = {
        {"plane.example:9000", NULL, false, OT_OK},
        {"plane.example:9000", "https://plane.example:9000", false, OT_OK},
        {"plane.example:9000", "http://plane.example:9000", false, OT_DENIED},
        {"plane.example:9000", "https://evil.example:9000", false, OT_DENIED},
        {"plane.example:9000", "https://plane.example:90001", false, OT_DENIED},
        {"plane.example:9000", "https://plane.example:900", false, OT_DENIED},
        {NULL, NULL, false, OT_DENIED},
        {NULL, "https://", false, OT_DENIED},
        {NULL, NULL, true, OT_OK},
        {"anything", NULL, true, OT_OK},
        {"x", "https://x", true, OT_DENIED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ot_auth a = {.port = 9000, .tls = true};
        is_int(ot_auth_check_site(&a, cases[i].local, z(cases[i].host), z(cases[i].origin), NULL),
               cases[i].want, "TLS, Host '%s', Origin '%s'%s",
               cases[i].host != NULL ? cases[i].host : "(none)",
               cases[i].origin != NULL ? cases[i].origin : "(none)",
               cases[i].local ? ", a Unix socket" : "");
    }
}

static void test_token(void)
{
    ot_auth a = {0};
    char right[80], longer[80];
    ot_error err = {0};
    write_token(token, 0600);
    ok(ot_auth_load(&a, dir, 9000, NULL) == OT_OK, "a token without a line end");
    snprintf(right, sizeof right, "Bearer %s", token);
    snprintf(longer, sizeof longer, "Bearer %sx", token);
    is_int(ot_auth_check_token(&a, z(right), NULL), OT_OK, "the token");
    snprintf(right, sizeof right, "bearer %s", token);
    is_int(ot_auth_check_token(&a, z(right), NULL), OT_OK, "schemes are in either case");
    const char *wrong[] = {NULL,
                           "",
                           "Bearer",
                           "Bearer ",
                           token,
                           "Bearer x",
                           longer,
                           "Basic 0123456789abcdef0123456789abcdef",
                           "Bearer  0123456789abcdef0123456789abcdef"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        is_int(ot_auth_check_token(&a, z(wrong[i]), &err), OT_UNAUTHENTICATED, "'%s': %s",
               wrong[i] != NULL ? wrong[i] : "(none)", err.msg);
        ok(strstr(err.msg, "0123456789") == NULL, "and no token in the answer");
    }
}

static void test_actor(void)
{
    char out[OT_ACTOR_MAX + 1], text[OT_ACTOR_MAX + 2];
    ok(ot_auth_actor(z(NULL), "me", out, NULL) == OT_OK, "absent");
    is_str(out, "me", "is the default");
    ok(ot_auth_actor(z("J\xc3\xbcrgen, ops"), "me", out, NULL) == OT_OK, "UTF-8");
    is_str(out, "J\xc3\xbcrgen, ops", "as it was sent");
    memset(text, 'a', sizeof text);
    is_int(ot_auth_actor((ot_slice){.p = text, .n = OT_ACTOR_MAX}, "me", out, NULL), OT_OK, "64");
    is_int((long long)strlen(out), OT_ACTOR_MAX, "all of it");
    is_int(ot_auth_actor((ot_slice){.p = text, .n = OT_ACTOR_MAX + 1}, "me", out, NULL), OT_INVALID,
           "65 are too many");
    is_int(ot_auth_actor(z("\xff\xfe"), "me", out, NULL), OT_INVALID, "not UTF-8");
    is_int(ot_auth_actor(z("a\tb"), "me", out, NULL), OT_INVALID, "a control character");
    is_int((long long)strlen(out), OT_ACTOR_MAX, "untouched on failure");
}

int main(void)
{
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    test_load();
    test_site();
    test_site_with_tls();
    test_token();
    test_actor();
    char path[256];
    snprintf(path, sizeof path, "%s/token", dir);
    unlink(path);
    rmdir(dir);
    return tap_done();
}
