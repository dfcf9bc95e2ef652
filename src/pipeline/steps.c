/* What a run executes, as one script: the steps of a training in the order of their data, each with
 * the data that it takes; the training last, as a job where it has ranks. One run has them all, so
 * that its limits, its log and its end are theirs, and what a step makes is never older than what
 * it was made of. */
#include "pipeline/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRACE "3s" /* of the ranks: less than the launcher itself has */

/* As one word of a shell. */
static void quote(ot_str *out, const char *a, const char *b, const char *c)
{
    const char *parts[] = {a, b, c};
    ot_str_addc(out, '\'');
    for (size_t i = 0; i < OT_COUNT(parts); i++) {
        for (const char *p = parts[i]; *p != 0; p++) {
            if (*p == '\'') {
                ot_str_adds(out, "'\\''");
            } else {
                ot_str_addc(out, *p);
            }
        }
    }
    ot_str_addc(out, '\'');
}

/* Puts each data set into the step's own folder; one that is empty is absent. */
static void give(const ot_app *app, const char *dir, const char *step, const ot_conf_strs *data,
                 ot_str *out)
{
    ot_str_adds(out, "mkdir -p ");
    quote(out, dir, "/given/", step);
    for (size_t i = 0; i < data->n; i++) {
        const ot_app_data *d = ot_app_data_find(app, data->v[i]);
        const ot_app_step *maker = ot_app_maker(app, d);
        const char *from = maker != NULL ? "/work/" : "/data/";
        const char *rel = maker != NULL ? maker->output : d->name;
        ot_str_adds(out, "\n[ ! -e ");
        quote(out, dir, from, rel);
        ot_str_adds(out, " ] || ln -s ");
        quote(out, dir, from, rel);
        ot_str_addc(out, ' ');
        quote(out, dir, "/given/", step);
        ot_str_adds(out, "/");
        quote(out, d->name, "", "");
    }
    ot_str_adds(out, "\nexport OVERTAKE_DATA=");
    quote(out, dir, "/given/", step);
    ot_str_adds(out, " OVERTAKE_STEP=");
    quote(out, step, "", "");
    ot_str_addc(out, '\n');
}

/* What makes the shell become the program of a command that is one: what happens to a rank is seen
 * on its process, and a shell in its place would say "137". */
static const char *becoming(const char *run)
{
    static const char *const own[] = {".",     ":",      "!",    "exec",   "exit",
                                      "eval",  "export", "cd",   "if",     "for",
                                      "while", "until",  "case", "ulimit", "umask"};
    size_t n = strcspn(run, " \t");
    if (n == 0 || strpbrk(run, ";&|(){}\n#") != NULL) {
        return "";
    }
    for (size_t i = 0; i < OT_COUNT(own); i++) {
        if (strlen(own[i]) == n && strncmp(own[i], run, n) == 0) {
            return "";
        }
    }
    return memchr(run, '=', n) != NULL ? "exec env " : "exec ";
}

static void add_word(ot_str *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_word(ot_str *out, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) {
        out->failed = true;
        return;
    }
    ot_str_add(out, text, (size_t)n + 1);
    free(text);
}

void pl_steps_job(const ot_app *app, const char *dir, ot_str *out)
{
    /* Ranks on other hosts need what the run's environment says. */
    static const char *const told[] = {"OVERTAKE_RUN", "OVERTAKE_STEP", "OVERTAKE_DATA",
                                       "OVERTAKE_PARENT", "OVERTAKE_CHECKPOINTS"};
    const ot_app_train *t = &app->train;
    add_word(out, "run");
    add_word(out, "--wire");
    add_word(out, "%s", ot_app_wires[t->wire]);
    add_word(out, "--max-restarts");
    add_word(out, "%" PRId64, t->max_restarts);
    add_word(out, "--grace");
    add_word(out, GRACE);
    add_word(out, "--log-limit");
    add_word(out, "%" PRIu64, t->resources.log);
    add_word(out, "--output-dir");
    add_word(out, "%s/" OT_LAUNCH_RANKS, dir);
    add_word(out, "--state-file");
    add_word(out, "%s/" OT_LAUNCH_JOB, dir);
    if (t->engine != 0) {
        add_word(out, "--engine");
        add_word(out, "%s", ot_app_engines[t->engine]);
    }
    if (t->np > 0) {
        add_word(out, "--np");
        add_word(out, "%" PRId64, t->np);
    }
    if (t->min_np > 0) {
        add_word(out, "--min-np");
        add_word(out, "%" PRId64, t->min_np);
    }
    if (t->links != NULL && t->links[0] != 0) {
        add_word(out, "--links");
        add_word(out, "%s", t->links);
    }
    for (size_t i = 0; i < t->hosts.n; i++) {
        if (i == 0) {
            add_word(out, ot_app_host_file(app) != NULL ? "--hostfile" : "--hosts");
        }
        ot_str_adds(out, i > 0 ? "," : "");
        ot_str_adds(out, t->hosts.v[i]);
    }
    if (t->hosts.n > 0) {
        ot_str_addc(out, 0);
    }
    for (size_t i = 0; i < OT_COUNT(told); i++) {
        add_word(out, "--env");
        add_word(out, "%s", told[i]);
    }
    add_word(out, "--");
    add_word(out, "sh");
    add_word(out, "-c");
    add_word(out, "%s%s", becoming(t->run), t->run);
}

static bool is_plain(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return word[0] != 0 && word[strspn(word, plain)] == 0;
}

/* The command of a training with ranks: the words for a shell. */
static void add_launcher(const ot_app *app, const char *exe, const char *dir, ot_str *out)
{
    OT_AUTO(ot_str_done) ot_str words = OT_STR_INIT;
    if (ot_has_prefix(exe, "/proc/self/")) {
        ot_str_adds(out, "\"/proc/$PPID/exe\""); /* the shim is the same program, replaced or not */
    } else {
        quote(out, exe, "", "");
    }
    pl_steps_job(app, dir, &words);
    out->failed = out->failed || words.failed;
    for (const char *w = words.data; !words.failed && w < words.data + words.len;
         w += strlen(w) + 1) {
        ot_str_addc(out, ' ');
        if (is_plain(w)) {
            ot_str_adds(out, w);
        } else {
            quote(out, w, "", "");
        }
    }
    ot_str_addc(out, '\n');
}

ot_rc pl_steps_script(const ot_app *app, const char *exe, const char *dir, ot_str *out,
                      ot_error *err)
{
    const ot_app_step *order[OT_APP_STEPS_MAX];
    size_t n = ot_app_steps_order(app, order);
    ot_str_adds(out, "set -e\n");
    for (size_t i = 0; i < n; i++) {
        const ot_app_step *s = order[i];
        give(app, dir, s->name, &s->data, out);
        ot_str_addf(out, "echo 'step %s'\nsh -c ", s->name);
        quote(out, s->run, "", "");
        ot_str_addf(out,
                    " || { c=$?; echo \"step %s ended with code $c; what it said stands above\" "
                    ">&2; exit $c; }\n[ -e ",
                    s->name);
        quote(out, s->output, "", "");
        ot_str_addf(out, " ] || { echo 'step %s left nothing at '", s->name);
        quote(out, s->output, "", "");
        ot_str_adds(out, " >&2; exit 1; }\n");
    }
    if (n > 0) {
        give(app, dir, "train", &app->train.data, out);
    }
    ot_str_adds(out, "exec ");
    if (ot_app_is_job(app)) {
        add_launcher(app, exe, dir, out);
    } else {
        ot_str_adds(out, "sh -c ");
        quote(out, "", app->train.run, "");
        ot_str_addc(out, '\n');
    }
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for what a training runs") : OT_OK;
}

void pl_steps_say(const ot_app *app, char *out, size_t room)
{
    const ot_app_step *order[OT_APP_STEPS_MAX];
    size_t n = ot_app_steps_order(app, order), at = 0;
    for (size_t i = 0; i < n && at < room; i++) {
        at += (size_t)snprintf(out + at, room - at, "%s: %s; ", order[i]->name, order[i]->run);
    }
    if (at < room) {
        snprintf(out + at, room - at, "%s%s", n > 0 ? "train: " : "", app->train.run);
    }
}
