/* Secrets in texts: none gets through, and what is none stays. */
#include "doctor/redact.h"

#include "base/mem.h"
#include "tap.h"

#include <stdlib.h>

static ot_redactor r;

static void becomes(const char *text, const char *want)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_redact(&r, text, strlen(text), &out);
    is_str(out.data, want, "%s", text);
}

static void same(const char *text)
{
    becomes(text, text);
}

static void test_known(void)
{
    ot_redactor_add(&r, "hunter2-and more");
    ot_redactor_add(&r, "short");
    becomes("it was hunter2-and more.", "it was [redacted].");
    becomes("/x?a=hunter2-and%20more", "/x?a=[redacted]");
    becomes("xhunter2-and morex", "x[redacted]x");
    same("too short to look for");
    ot_redactor_add(&r, "a\"quoted secret");
    becomes("{\"x\": \"a\\\"quoted secret\"}", "{\"x\": \"[redacted]\"}");
}

static void test_urls(void)
{
    becomes("post https://anna:pw@host:80/a/b?key=1&x=2 now",
            "post https://[redacted]@host:80/a/b?[redacted] now");
    becomes("webhook: 'https://hooks.example.org/x?token=abc'", "webhook: '[redacted]'");
    becomes("{\"url\": \"http://h/p?q\"}", "{\"url\": \"http://h/p?[redacted]\"}");
    becomes("https://token@host", "https://[redacted]@host");
    becomes("https://h/hunter2-and%20more/y", "https://h/[redacted]/y");
    same("http://127.0.0.1:9000/api/v1/apps");
    becomes("'https://hooks.example.org/x?token=abc'", "'https://hooks.example.org/x?[redacted]'");
    same("mail@example.org about a: b");
}

static void test_names(void)
{
    becomes("DB_PASSWORD=hello there", "DB_PASSWORD=[redacted] there");
    becomes("export AWS_SECRET_ACCESS_KEY='a b c'; ls",
            "export AWS_SECRET_ACCESS_KEY='[redacted]'; ls");
    becomes("{\"api-key\": \"x\\\"y\", \"n\": 1}", "{\"api-key\": \"[redacted]\", \"n\": 1}");
    becomes("{\\\"password\\\": \\\"x\\\"}", "{\\\"password\\\": \\\"[redacted]\\\"}");
    becomes("password: hello", "password: [redacted]");
    becomes("--token=abc --n=2", "--token=[redacted] --n=2");
    becomes("Authorization: Digest a, b=\"c\"\r\nHost: x",
            "Authorization: [redacted]\"c\"\r\nHost: x");
    becomes("authorization: Bearer abc.def-1\nHost: x", "authorization: [redacted]\nHost: x");
    becomes("sent Bearer abcdefgh to", "sent Bearer [redacted] to");
    becomes("Cookie: a=1; b=2\n", "Cookie: [redacted]\n");
    same("the bearer is here");
    same("tokens per second: see password policy");
    same("{\"token\": null, \"secrets\": [1]}");
    same("keys: 12, key: digits");
    ok(ot_redact_is_secret_name("SSH_KEY", 7) && !ot_redact_is_secret_name("MONKEY", 6), "names");
}

static void test_shapes(void)
{
    becomes("AKIAABCDEFGHIJKLMNOP", "[redacted]");
    becomes("use ghp_0123456789abcdefghij01 now", "use [redacted] now");
    becomes("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc-_d", "[redacted]");
    becomes("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nxx==\n-----END RSA PRIVATE KEY-----\nb",
            "a\n[redacted]\nb");
    becomes("-----BEGIN PRIVATE KEY-----\nMIIE", "[redacted]");
    same("-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----");
    same("sk-learn and task-12 and AKIA");
}

static void test_surroundings(void)
{
    setenv("HOME", "/home/anna", 1);
    setenv("SOME_SERVICE_TOKEN", "from-the-environment", 1);
    ot_redactor_hide_home(&r);
    ot_redactor_add_environment(&r);
    becomes("at /home/anna/x and /home/annabel", "at ~/x and /home/annabel");
    becomes("it is from-the-environment", "it is [redacted]");
    for (int i = 0; i < OT_REDACT_SECRETS_MAX + 1; i++) {
        char secret[32];
        snprintf(secret, sizeof secret, "secret number %d", i);
        ot_redactor_add(&r, secret);
    }
    ok(r.failed, "too many secrets are a failure, not a leak");
}

int main(void)
{
    ot_redactor_init(&r);
    test_known();
    test_urls();
    test_names();
    test_shapes();
    test_surroundings();
    ot_redactor_done(&r);
    return tap_done();
}
