/* The steps of a training as one script: each in the order of its data, with the data that it
 * takes, the training last. One run has them all, so that its limits, its log and its end are
 * theirs, and what a step makes is never older than what it was made of. */
#include "pipeline/internal.h"

#include <stdio.h>
#include <string.h>

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

ot_rc pl_steps_script(const ot_app *app, const char *dir, ot_str *out, ot_error *err)
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
    give(app, dir, "train", &app->train.data, out);
    ot_str_adds(out, "exec sh -c ");
    quote(out, app->train.run, "", "");
    ot_str_addc(out, '\n');
    return out->failed ? ot_fail(err, OT_EXHAUSTED, "no memory for the steps of a training")
                       : OT_OK;
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
