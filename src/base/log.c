#include "base/log.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

/* Synchronization: written before threads start. */
static struct {
    char process[32];
    ot_log_level least;
    ot_log_format format;
    ot_log_sink *sink;
    void *sink_self;
} setup = {.process = "overtake", .least = OT_LOG_INFO};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void ot_log_setup(const char *process, ot_log_level least, ot_log_format format)
{
    snprintf(setup.process, sizeof setup.process, "%s", process);
    setup.least = least;
    setup.format = format;
}

void ot_log_sink_set(ot_log_sink *sink, void *self)
{
    setup.sink_self = self;
    setup.sink = sink;
}

bool ot_log_level_parse(const char *s, ot_log_level *out)
{
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(s, level_names[i]) == 0) {
            *out = (ot_log_level)i;
            return true;
        }
    }
    return false;
}

void ot_log(ot_log_level level, const char *component, const char *fmt, ...)
{
    if (level < setup.least && setup.sink == NULL) {
        return;
    }
    char msg[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (setup.sink != NULL) {
        setup.sink(setup.sink_self, level, component, msg);
    }
    if (level < setup.least) {
        return;
    }
    char when[32];
    ot_format_time(ot_clock_wall_us(), when);
    OT_AUTO(ot_str_done) ot_str line = OT_STR_INIT;
    if (setup.format == OT_LOG_JSON) {
        ot_str_addf(&line,
                    "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"component\":\"%s\"",
                    when, level_names[level], setup.process, component);
        ot_str_adds(&line, ",\"message\":\"");
        ot_str_add_json(&line, msg, strlen(msg));
        ot_str_adds(&line, "\"}\n");
    } else {
        ot_str_addf(&line, "%s %-5s %s/%s: %s\n", when, level_names[level], setup.process,
                    component, msg);
    }
    /* One write, so that lines of several threads and processes do not mix. */
    if (write(STDERR_FILENO, line.data, line.len) < 0) {
        return;
    }
}
