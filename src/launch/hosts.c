#include "launch/hosts.h"

#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void ot_job_hosts_done(ot_job_hosts *h)
{
    ot_free(h->v);
    *h = (ot_job_hosts){0};
}

/* What a shell, ssh or a terminal would take for something else than a name is none. */
static bool name_ok(const char *s, size_t n)
{
    static const char good[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@:%";
    return n > 0 && n < sizeof((ot_job_host *)NULL)->name && s[0] != '-' && strspn(s, good) >= n;
}

static ot_rc add(ot_job_hosts *h, const char *name, size_t n, int64_t slots, ot_error *err)
{
    if (!name_ok(name, n)) {
        size_t plain = OT_MIN(strcspn(name, "\r\n\x1b"), (size_t)80);
        return ot_fail(err, OT_INVALID, "'%.*s' is not the name of a host", (int)OT_MIN(n, plain),
                       name);
    }
    if (slots < 1 || slots > OT_JOB_SLOTS_MAX) {
        return ot_fail(err, OT_INVALID, "host %.*s: %" PRId64 " ranks; it takes 1 to %d", (int)n,
                       name, slots, OT_JOB_SLOTS_MAX);
    }
    for (size_t i = 0; i < h->n; i++) {
        if (strlen(h->v[i].name) == n && memcmp(h->v[i].name, name, n) == 0) {
            h->v[i].slots = OT_MIN(h->v[i].slots + (int32_t)slots, OT_JOB_SLOTS_MAX);
            return OT_OK;
        }
    }
    ot_job_host *v = h->n < OT_JOB_HOSTS_MAX ? ot_realloc(h->v, (h->n + 1) * sizeof *v) : NULL;
    if (v == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "more than %d hosts, or no memory for them",
                       OT_JOB_HOSTS_MAX);
    }
    h->v = v;
    v[h->n] = (ot_job_host){.slots = (int32_t)slots};
    snprintf(v[h->n].name, sizeof v[h->n].name, "%.*s", (int)n, name);
    h->n++;
    return OT_OK;
}

/* "name", "name:slots", "[v6]", "[v6]:slots" in s[0, n). */
static ot_rc add_one(ot_job_hosts *h, const char *s, size_t n, ot_error *err)
{
    const char *name = s, *colon = memrchr(s, ':', n);
    size_t len = colon != NULL ? (size_t)(colon - s) : n;
    if (n > 0 && s[0] == '[') {
        const char *end = memchr(s, ']', n);
        if (end == NULL) {
            return ot_fail(err, OT_INVALID, "'%.*s' lacks a ]", (int)OT_MIN(n, 80u), s);
        }
        name = s + 1;
        len = (size_t)(end - name);
        colon = end + 1 < s + n && end[1] == ':' ? end + 1 : NULL;
        if (colon == NULL && end + 1 != s + n) {
            return ot_fail(err, OT_INVALID, "'%.*s': after the ] comes :RANKS", (int)OT_MIN(n, 80u),
                           s);
        }
    }
    int64_t slots = 1;
    char text[24];
    if (colon != NULL) {
        size_t digits = (size_t)(s + n - colon - 1);
        snprintf(text, sizeof text, "%.*s", (int)OT_MIN(digits, sizeof text - 1), colon + 1);
        if (ot_parse_i64(text, &slots, NULL) != OT_OK) {
            return ot_fail(err, OT_INVALID,
                           "'%.*s': what follows the colon is not a number of ranks",
                           (int)OT_MIN(n, 80u), s);
        }
    }
    return add(h, name, len, slots, err);
}

ot_rc ot_job_hosts_list(ot_job_hosts *h, const char *list, ot_error *err)
{
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        OT_TRY(add_one(h, at, n, err));
        at += n;
        if (*at == 0) {
            return OT_OK;
        }
    }
}

static ot_rc add_line(ot_job_hosts *h, const char *s, size_t n, ot_error *err)
{
    static const char blank[] = " \t\r";
    size_t word = strcspn(s, " \t\r\n#"), at = word;
    word = OT_MIN(word, n);
    at = OT_MIN(at, n);
    at += strspn(s + at, blank);
    if (word == 0) {
        return OT_OK;
    }
    if (at >= n || s[at] == '#') {
        return add_one(h, s, word, err);
    }
    int64_t slots;
    char text[24];
    size_t rest = strcspn(s + at, " \t\r\n#");
    bool known = rest > 6 && strncmp(s + at, "slots=", 6) == 0;
    snprintf(text, sizeof text, "%.*s", (int)OT_MIN(rest - (known ? 6 : 0), sizeof text - 1),
             s + at + (known ? 6 : 0));
    if (!known || ot_parse_i64(text, &slots, NULL) != OT_OK) {
        return ot_fail(err, OT_INVALID, "'%.*s' is not slots=NUMBER", (int)OT_MIN(rest, 80u),
                       s + at);
    }
    return add(h, s, word, slots, err);
}

ot_rc ot_job_hosts_file(ot_job_hosts *h, const char *text, const char *file, ot_error *err)
{
    int line = 0;
    for (const char *at = text; *at != 0;) {
        size_t n = strcspn(at, "\n"), skip = strspn(at, " \t\r");
        line++;
        skip = OT_MIN(skip, n);
        ot_rc rc = add_line(h, at + skip, n - skip, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "%s:%d", file, line);
        }
        at += n + (at[n] == '\n');
    }
    return h->n > 0 ? OT_OK : ot_fail(err, OT_INVALID, "%s: it names no host", file);
}

/* The next of "2(x3),1": *left_io says how often the present one is still meant. */
static int64_t next_tasks(const char **at_io, int64_t *count_io, int64_t *left_io)
{
    if (*left_io == 0 && **at_io != 0) {
        int used = 0, times = 1;
        char tail[8] = "";
        int64_t n = 0;
        if (sscanf(*at_io, "%" SCNd64 "(x%d%1[)]%n", &n, &times, tail, &used) < 3) {
            times = 1;
            used = (int)strcspn(*at_io, ",");
        }
        *at_io += used;
        *at_io += **at_io == ',';
        *count_io = n;
        *left_io = OT_MAX(times, 1);
    }
    *left_io -= *left_io > 0;
    return OT_MAX(*count_io, 1);
}

typedef struct nodes {
    ot_job_hosts *h;
    const char *tasks;
    int64_t count, left;
} nodes;

/* prefix + the names that s[0, n) stands for. */
static ot_rc add_nodes(nodes *t, const char *prefix, const char *s, size_t n, ot_error *err)
{
    char name[512];
    const char *open = memchr(s, '[', n),
               *close = open != NULL ? memchr(open, ']', n - (size_t)(open - s)) : NULL;
    if (open == NULL) {
        snprintf(name, sizeof name, "%s%.*s", prefix, (int)n, s);
        return add(t->h, name, strlen(name), next_tasks(&t->tasks, &t->count, &t->left), err);
    }
    if (close == NULL || strlen(prefix) > 200) {
        return ot_fail(err, OT_INVALID, "'%.*s' is too long, or lacks a ]", (int)OT_MIN(n, 80u), s);
    }
    for (const char *at = open + 1; at < close;) {
        long from = 0, to = 0;
        int width = (int)strspn(at, "0123456789"), used = 0;
        if (width < 1 || width > 9 || sscanf(at, "%ld%n-%ld%n", &from, &used, &to, &used) < 1) {
            return ot_fail(err, OT_INVALID, "'%.*s': there is no number in the brackets",
                           (int)OT_MIN(n, 80u), s);
        }
        to = at[width] == '-' ? to : from;
        if (to < from || to - from >= OT_JOB_HOSTS_MAX) {
            return ot_fail(err, OT_INVALID, "'%.*s': %ld to %ld is no range of at most %d nodes",
                           (int)OT_MIN(n, 80u), s, from, to, OT_JOB_HOSTS_MAX);
        }
        for (long k = from; k <= to; k++) {
            snprintf(name, sizeof name, "%.200s%.*s%0*ld", prefix, (int)OT_MIN(open - s, 200), s,
                     width, k);
            OT_TRY(add_nodes(t, name, close + 1, n - (size_t)(close + 1 - s), err));
        }
        at += strcspn(at, ",]");
        at += *at == ',';
    }
    return OT_OK;
}

ot_rc ot_job_hosts_slurm(ot_job_hosts *h, const char *list, const char *tasks, ot_error *err)
{
    nodes t = {.h = h, .tasks = tasks};
    for (const char *at = list; *at != 0;) {
        size_t n = 0;
        for (bool inside = false; at[n] != 0 && (inside || at[n] != ','); n++) {
            inside = at[n] == '[' || (inside && at[n] != ']');
        }
        ot_rc rc = add_nodes(&t, "", at, n, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "nodes of the Slurm allocation");
        }
        at += n + (at[n] == ',');
    }
    return h->n > 0 ? OT_OK : ot_fail(err, OT_INVALID, "the Slurm allocation names no node");
}

ot_rc ot_job_hosts_deal(ot_job_hosts *h, int32_t np, bool spares, int32_t *np_out, ot_error *err)
{
    int64_t slots = 0;
    for (size_t i = 0; i < h->n; i++) {
        slots += h->v[i].slots;
    }
    if (np > slots || slots > OT_JOB_SLOTS_MAX) {
        return ot_fail(err, OT_EXHAUSTED,
                       "%" PRId64 " ranks and slots for %" PRId64 " (at most %d): write HOST:RANKS "
                       "for hosts that take more",
                       np > 0 ? (int64_t)np : slots, slots, OT_JOB_SLOTS_MAX);
    }
    int32_t want = np > 0 ? np : (int32_t)slots, next = 0;
    size_t kept = 0;
    for (size_t i = 0; i < h->n && (spares || next < want); i++) {
        h->v[kept] = h->v[i];
        h->v[kept].first = next;
        h->v[kept].ranks = OT_MIN(h->v[i].slots, want - next);
        next += h->v[kept++].ranks;
    }
    h->n = kept;
    *np_out = want;
    return OT_OK;
}
