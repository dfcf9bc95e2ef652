#include "doctor/internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TIME_NS UINT64_C(25000000000) /* and a moment for the small app to end */

const char *ot_check_state_name(ot_check_state s)
{
    static const char *const names[] = {"ok", "warn", "fail"};
    return (size_t)s < OT_COUNT(names) ? names[s] : "unknown";
}

void ot_check_json(const ot_check *c, ot_str *out)
{
    ot_str_addf(out, "{\"name\": \"%s\", \"state\": \"%s\", \"text\": \"", c->name,
                ot_check_state_name(c->state));
    ot_str_add_json(out, c->text, strlen(c->text));
    ot_str_adds(out, "\", \"fix\": \"");
    ot_str_add_json(out, c->fix, strlen(c->fix));
    ot_str_adds(out, "\"}");
}

void dr_say(doctor *d, const char *name, ot_check_state state, const char *fix, const char *fmt,
            ...)
{
    ot_check c = {.name = name, .state = state};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c.text, sizeof c.text, fmt, ap);
    va_end(ap);
    snprintf(c.fix, sizeof c.fix, "%s", fix != NULL ? fix : "");
    d->fn(d->arg, &c);
}

int64_t dr_left_us(const doctor *d, int64_t us)
{
    uint64_t now = ot_clock_mono_ns();
    int64_t left = now < d->deadline_ns ? (int64_t)((d->deadline_ns - now) / 1000) : 0;
    return OT_MIN(left, us);
}

void dr_existing(const char *path, char out[OT_PATH_MAX])
{
    snprintf(out, OT_PATH_MAX, "%s", path);
    while (!ot_disk_exists(ot_disk_posix(), out)) {
        char *slash = strrchr(out, '/');
        if (slash == NULL || slash == out) {
            snprintf(out, OT_PATH_MAX, "/");
            return;
        }
        *slash = 0;
    }
}

void dr_read(const char *path, char *out, size_t n)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    out[0] = 0;
    if (ot_disk_read_all(ot_disk_posix(), path, 1 << 20, &text, NULL) == OT_OK) {
        text.len -= text.len > 0 && text.data[text.len - 1] == '\n';
        snprintf(out, n, "%.*s", (int)text.len, text.data);
    }
}

void ot_doctor(const ot_doctor_options *o, ot_check_fn *fn, void *arg)
{
    doctor d = {.o = o, .fn = fn, .arg = arg, .deadline_ns = ot_clock_mono_ns() + TIME_NS};
    dr_clock(&d);
    dr_limits(&d);
    dr_space(&d);
    dr_sync(&d);
    dr_ports(&d);
    dr_data(&d);
    dr_python(&d);
    dr_runtimes(&d);
    if (!o->no_app) {
        dr_app(&d);
    }
}
