/* Log lines for people and machines: the boundary that answers logs once; libraries return errors.
 *
 * Threads: any; a line is written whole. Lifetime: process. */
#ifndef OT_BASE_LOG_H
#define OT_BASE_LOG_H

#include <stdbool.h>

typedef enum ot_log_level { OT_LOG_DEBUG, OT_LOG_INFO, OT_LOG_WARN, OT_LOG_ERROR } ot_log_level;
typedef enum ot_log_format { OT_LOG_TEXT, OT_LOG_JSON } ot_log_format;

/* The process's name in each line ("control", "serve"), its level and format. */
void ot_log_setup(const char *process, ot_log_level least, ot_log_format format);
bool ot_log_level_parse(const char *s, ot_log_level *out); /* debug info warn error */

void ot_log(ot_log_level level, const char *component, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define ot_debug(component, ...) ot_log(OT_LOG_DEBUG, (component), __VA_ARGS__)
#define ot_info(component, ...) ot_log(OT_LOG_INFO, (component), __VA_ARGS__)
#define ot_warn(component, ...) ot_log(OT_LOG_WARN, (component), __VA_ARGS__)
#define ot_err(component, ...) ot_log(OT_LOG_ERROR, (component), __VA_ARGS__)

/* A second sink beside stderr (tests, the event stream). Called with the formatted message, from
 * the logging thread; must not log. NULL removes it. Set before threads start. */
typedef void ot_log_sink(void *self, ot_log_level level, const char *component, const char *msg);
void ot_log_sink_set(ot_log_sink *sink, void *self);

#endif
