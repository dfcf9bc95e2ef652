#include "doctor/redact.h"

#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_MAX_BYTES 128 /* of a word that is looked at as a name */

extern char **environ;

void ot_redactor_init(ot_redactor *r)
{
    *r = (ot_redactor){0};
}

void ot_redactor_done(ot_redactor *r)
{
    for (size_t i = 0; i < r->n; i++) {
        ot_free(r->secrets[i]);
    }
    ot_free(r->home);
    *r = (ot_redactor){0};
}

static void add_form(ot_redactor *r, const ot_str *form)
{
    char *copy = NULL;
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->secrets[i], form->data) == 0) {
            return;
        }
    }
    if (!form->failed && r->n < OT_REDACT_SECRETS_MAX) {
        copy = ot_strdup(form->data);
    }
    if (copy == NULL) {
        r->failed = true;
        return;
    }
    r->secrets[r->n++] = copy;
}

void ot_redactor_add(ot_redactor *r, const char *secret)
{
    OT_AUTO(ot_str_done) ot_str plain = OT_STR_INIT, json = OT_STR_INIT, url = OT_STR_INIT;
    size_t n = strlen(secret);
    if (n < OT_REDACT_SECRET_MIN) {
        return;
    }
    ot_str_adds(&plain, secret);
    ot_str_add_json(&json, secret, n);
    for (size_t i = 0; i < n; i++) {
        bool stays = isalnum((unsigned char)secret[i]) || strchr("-._~", secret[i]) != NULL;
        if (stays) {
            ot_str_addc(&url, secret[i]);
        } else {
            ot_str_addf(&url, "%%%02X", (unsigned char)secret[i]);
        }
    }
    add_form(r, &plain);
    add_form(r, &json);
    add_form(r, &url);
}

/* ------------------------------------------------------------------ names */

static bool has_word(const char *name, size_t n, const char *word)
{
    size_t k = strlen(word);
    for (size_t i = 0; i + k <= n; i++) {
        if (strncasecmp(name + i, word, k) == 0) {
            return true;
        }
    }
    return false;
}

bool ot_redact_is_secret_name(const char *name, size_t n)
{
    static const char *const words[] = {
        "password",    "passwd",     "passphrase", "secret",    "token",         "api_key",
        "apikey",      "api-key",    "access_key", "accesskey", "access-key",    "private_key",
        "private-key", "privatekey", "credential", "cookie",    "authorization", "webhook"};
    for (size_t i = 0; i < OT_COUNT(words); i++) {
        if (has_word(name, n, words[i])) {
            return true;
        }
    }
    return (n >= 4 && strncasecmp(name + n - 4, "_key", 4) == 0) ||
           (n >= 4 && strncasecmp(name + n - 4, "_pwd", 4) == 0) ||
           (n >= 5 && strncasecmp(name + n - 5, "_pass", 5) == 0);
}

void ot_redactor_add_environment(ot_redactor *r)
{
    for (size_t i = 0; environ[i] != NULL; i++) {
        size_t n = strcspn(environ[i], "=");
        if (environ[i][n] == '=' && ot_redact_is_secret_name(environ[i], n)) {
            ot_redactor_add(r, environ[i] + n + 1);
        }
    }
}

void ot_redactor_hide_home(ot_redactor *r)
{
    const char *home = getenv("HOME");
    if (home != NULL && strlen(home) > 1) {
        r->home = ot_strdup(home);
        r->failed |= r->home == NULL;
    }
}

/* ------------------------------------------------------------------ what stands at a place */

typedef struct text {
    const char *p;
    size_t n;
} text;

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static bool starts(const text *t, size_t at, const char *word)
{
    size_t k = strlen(word);
    return at + k <= t->n && strncasecmp(t->p + at, word, k) == 0;
}

static size_t span_of(const text *t, size_t at, const char *end)
{
    size_t i = at;
    while (i < t->n && t->p[i] != 0 && strchr(end, t->p[i]) == NULL) {
        i++;
    }
    return i - at;
}

/* Bytes of a known secret. */
static size_t known(const ot_redactor *r, const text *t, size_t at)
{
    size_t longest = 0;
    for (size_t i = 0; i < r->n; i++) {
        size_t k = strlen(r->secrets[i]);
        if (k > longest && at + k <= t->n && memcmp(t->p + at, r->secrets[i], k) == 0) {
            longest = k;
        }
    }
    return longest;
}

/* Bytes of what looks like one wherever it stands. */
static size_t shaped(const text *t, size_t at)
{
    static const struct {
        const char *prefix;
        size_t least; /* characters after it */
    } shapes[] = {{"AKIA", 16},  {"ASIA", 16},        {"ghp_", 20},   {"gho_", 20},
                  {"ghs_", 20},  {"github_pat_", 20}, {"glpat-", 16}, {"xoxb-", 16},
                  {"xoxp-", 16}, {"sk-", 20},         {"hf_", 20},    {"eyJ", 40}};
    if (at > 0 && is_word(t->p[at - 1])) {
        return 0;
    }
    for (size_t i = 0; i < OT_COUNT(shapes); i++) {
        size_t k = strlen(shapes[i].prefix), n = 0;
        if (at + k > t->n || memcmp(t->p + at, shapes[i].prefix, k) != 0) {
            continue;
        }
        while (at + k + n < t->n && (is_word(t->p[at + k + n]) || t->p[at + k + n] == '.')) {
            n++;
        }
        if (n >= shapes[i].least) {
            return k + n;
        }
    }
    return 0;
}

/* A private key in PEM, to its end or the text's. */
static size_t pem(const text *t, size_t at)
{
    static const char begin[] = "-----BEGIN ", end[] = "-----END ";
    if (!starts(t, at, begin)) {
        return 0;
    }
    size_t line = span_of(t, at, "\n\\");
    if (!has_word(t->p + at, line, "PRIVATE KEY")) {
        return 0;
    }
    for (size_t i = at + line; i < t->n; i++) {
        if (starts(t, i, end)) {
            size_t rest = i + sizeof end - 1;
            while (rest < t->n && t->p[rest] != '-') {
                rest++;
            }
            while (rest < t->n && t->p[rest] == '-') {
                rest++;
            }
            return rest - at;
        }
    }
    return t->n - at;
}

/* ------------------------------------------------------------------ writing */

static void hide(ot_redactor *r, ot_str *out)
{
    ot_str_adds(out, OT_REDACTED);
    r->count++;
}

/* "://" stands at `at`: copies it and the host, hides who and the query. What was copied. */
static size_t put_url(ot_redactor *r, const text *t, size_t at, ot_str *out)
{
    size_t end = at + 3 + span_of(t, at + 3, " \t\r\n\"'<>\\`|");
    size_t from = at + 3, host = from;
    size_t slash = from + span_of(t, from, "/?# \t\r\n\"'<>\\`|");
    for (size_t i = from; i < OT_MIN(slash, end); i++) {
        host = t->p[i] == '@' ? i : host;
    }
    ot_str_adds(out, "://");
    if (host > from) {
        hide(r, out);
        from = host;
    }
    size_t query = from;
    while (query < end && t->p[query] != '?' && t->p[query] != '#') {
        query++;
    }
    text rest = {.p = t->p + from, .n = query - from};
    for (size_t i = 0; i < rest.n;) { /* a secret in the path */
        size_t k = shaped(&rest, i);
        if (k > 0) {
            hide(r, out);
        } else {
            ot_str_addc(out, rest.p[i]);
        }
        i += k > 0 ? k : 1;
    }
    if (query < end) {
        ot_str_addc(out, t->p[query]);
        hide(r, out);
    }
    return end - at;
}

/* After a secret's name at [at, at + n): the sign between it and its value, with quotes and blanks;
 * 0: there is none. */
static size_t sign_after(const text *t, size_t at)
{
    size_t i = at;
    i += i < t->n && t->p[i] == '\\';
    i += i < t->n && (t->p[i] == '"' || t->p[i] == '\'');
    while (i < t->n && (t->p[i] == ' ' || t->p[i] == '\t')) {
        i++;
    }
    if (i >= t->n || (t->p[i] != '=' && t->p[i] != ':')) {
        return 0;
    }
    i++;
    while (i < t->n && (t->p[i] == ' ' || t->p[i] == '\t')) {
        i++;
    }
    return i - at;
}

/* A value: its quote ("\"", "'", "\\\"" in JSON inside JSON, or none) and its bytes, with the
 * quotes. A header's goes to the end of the line, a bare one is a word. */
typedef struct value {
    char quote[3];
    size_t n;
} value;

static value value_at(const text *t, size_t at, bool line)
{
    bool nested = at + 1 < t->n && t->p[at] == '\\' && t->p[at + 1] == '"';
    size_t i = at + nested;
    value v = {0};
    if (i >= t->n || (t->p[i] != '"' && t->p[i] != '\'')) {
        v.n = span_of(t, at, line ? "\r\n\"'\\" : " \t\r\n\"',;&}])\\");
        return v;
    }
    char quote = t->p[i];
    memcpy(v.quote, t->p + at, 1 + (size_t)nested);
    for (i++; i < t->n && t->p[i] != '\n' && t->p[i] != quote; i++) {
        bool escapes = t->p[i] == '\\' && i + 1 < t->n;
        if (escapes && nested && t->p[i + 1] == '"') {
            i++;
            break;
        }
        i += escapes;
    }
    v.n = OT_MIN(i + 1, t->n) - at;
    return v;
}

/* A word begins at `at`; how far it goes. */
static size_t word_at(const text *t, size_t at)
{
    size_t n = 1;
    while (at + n < t->n && is_word(t->p[at + n]) && n < NAME_MAX_BYTES) {
        n++;
    }
    return n;
}

/* "Bearer TOKEN": the bytes of both; 0: it is not that. */
static size_t scheme_at(const text *t, size_t at, size_t n)
{
    bool is = (n == 6 && strncasecmp(t->p + at, "Bearer", 6) == 0) ||
              (n == 5 && strncasecmp(t->p + at, "Basic", 5) == 0);
    if (!is || at + n >= t->n || t->p[at + n] != ' ') {
        return 0;
    }
    size_t k = span_of(t, at + n + 1, " \t\r\n\"',;\\");
    return k >= OT_REDACT_SECRET_MIN ? n + 1 + k : 0;
}

/* Copies a word, and hides the value after a secret's name. What was dealt with. */
static size_t put_word(ot_redactor *r, const text *t, size_t at, ot_str *out)
{
    size_t n = word_at(t, at), scheme = scheme_at(t, at, n);
    ot_str_add(out, t->p + at, n);
    if (scheme > 0) {
        ot_str_addc(out, ' ');
        hide(r, out);
        return scheme;
    }
    size_t sign = ot_redact_is_secret_name(t->p + at, n) ? sign_after(t, at + n) : 0;
    size_t from = at + n + sign;
    if (sign == 0 || from >= t->n || strchr("[{", t->p[from]) != NULL || starts(t, from, "null")) {
        return n;
    }
    bool line = has_word(t->p + at, n, "authorization") || has_word(t->p + at, n, "cookie");
    value v = value_at(t, from, line);
    if (v.n == 0) {
        return n;
    }
    ot_str_add(out, t->p + at + n, sign);
    ot_str_adds(out, v.quote);
    hide(r, out);
    ot_str_adds(out, v.quote);
    return n + sign + v.n;
}

/* What is known goes first, wherever it stands: a pattern could begin or end in its middle. */
static void put_unknown(ot_redactor *r, const char *p, size_t n, ot_str *out)
{
    text t = {.p = p, .n = n};
    for (size_t i = 0; i < n;) {
        size_t k = known(r, &t, i);
        if (k > 0) {
            hide(r, out);
            i += k;
        } else {
            ot_str_addc(out, p[i++]);
        }
    }
}

/* What is put at a place; how far it goes. */
static size_t put_at(ot_redactor *r, const text *t, size_t at, ot_str *out)
{
    size_t home = r->home != NULL ? strlen(r->home) : 0;
    const char *p = t->p + at;
    size_t left = t->n - at, k = pem(t, at);
    k = k > 0 ? k : shaped(t, at);
    if (k > 0) {
        hide(r, out);
        return k;
    }
    if (home > 0 && home <= left && memcmp(p, r->home, home) == 0 &&
        (home == left || !is_word(p[home]))) {
        ot_str_addc(out, '~');
        return home;
    }
    if (left >= 3 && memcmp(p, "://", 3) == 0) {
        return put_url(r, t, at, out);
    }
    if (is_word(*p) && (at == 0 || !is_word(p[-1]))) {
        return put_word(r, t, at, out);
    }
    ot_str_addc(out, *p);
    return 1;
}

void ot_redact(ot_redactor *r, const char *p, size_t n, ot_str *out)
{
    OT_AUTO(ot_str_done) ot_str first = OT_STR_INIT;
    put_unknown(r, p, n, &first);
    text t = {.p = first.data, .n = first.len};
    for (size_t i = 0; i < t.n;) {
        i += put_at(r, &t, i, out);
    }
    r->failed |= first.failed || out->failed;
}
