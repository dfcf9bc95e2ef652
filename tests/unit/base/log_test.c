#include "base/log.h"

#include "tap.h"

#include <stdlib.h>
#include <unistd.h>

struct seen {
    int n;
    ot_log_level level;
    char component[32], msg[8192];
};

static void sink(void *self, ot_log_level level, const char *component, const char *msg)
{
    struct seen *s = self;
    s->n++;
    s->level = level;
    snprintf(s->component, sizeof s->component, "%s", component);
    snprintf(s->msg, sizeof s->msg, "%s", msg);
}

/* What the calls in `fn` write to stderr. */
static void capture(void (*fn)(void), char *out, size_t n)
{
    FILE *f = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(f), STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(f);
    size_t k = fread(out, 1, n - 1, f);
    out[k] = 0;
    fclose(f);
}

static void text_lines(void)
{
    ot_log_setup("test", OT_LOG_INFO, OT_LOG_TEXT);
    ot_debug("net", "not shown");
    ot_warn("net", "%d of %d", 1, 2);
}

static void json_line(void)
{
    ot_log_setup("test", OT_LOG_DEBUG, OT_LOG_JSON);
    ot_debug("net", "quote \" and\nline");
}

int main(void)
{
    char out[8192];
    capture(text_lines, out, sizeof out);
    ok(strstr(out, "warn  test/net: 1 of 2\n") != NULL && strstr(out, "not shown") == NULL,
       "text lines, and the level filters");
    capture(json_line, out, sizeof out);
    ok(out[0] == '{' && strstr(out, "\"message\":\"quote \\\" and\\u000aline\"}\n") != NULL,
       "a JSON line is escaped: %s", out);
    struct seen s = {0};
    ot_log_setup("test", OT_LOG_ERROR, OT_LOG_TEXT);
    ot_log_sink_set(sink, &s);
    ot_info("store", "x=%d", 5);
    ok(s.n == 1 && s.level == OT_LOG_INFO, "the sink sees every level");
    is_str(s.msg, "x=5", "its message");
    is_str(s.component, "store", "its component");
    char *big = malloc(100000);
    memset(big, 'y', 99999);
    big[99999] = 0;
    ot_info("store", "%s", big);
    ok(strlen(s.msg) > 1000 && strlen(s.msg) < 8192, "a huge message is cut");
    free(big);
    ot_log_sink_set(NULL, NULL);
    ot_info("store", "gone");
    is_int(s.n, 2, "the sink is gone");
    ot_log_level l = OT_LOG_WARN;
    ok(ot_log_level_parse("debug", &l) && l == OT_LOG_DEBUG, "level by name");
    ok(!ot_log_level_parse("loud", &l) && l == OT_LOG_DEBUG, "an unknown level");
    return tap_done();
}
