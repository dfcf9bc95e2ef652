#include "net/lines.h"

#include "base/sock.h"

#include <errno.h>
#include <string.h>

static void take(ot_lines *l, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n') {
            l->line[l->n] = 0;
            if (!l->too_long) {
                l->fn(l->arg, l->line);
            }
            l->n = 0;
            l->too_long = false;
        } else if (l->n < OT_LINES_MAX) {
            l->line[l->n++] = p[i];
        } else {
            l->too_long = true;
        }
    }
}

static void on_readable(void *arg, unsigned events)
{
    (void)events;
    ot_lines *l = arg;
    char buf[1024];
    ssize_t n;
    while ((n = ot_sock_read(l->watch.fd, buf, sizeof buf)) > 0) {
        take(l, buf, (size_t)n);
    }
    if (n == 0 || errno != EAGAIN) {
        ot_lines_stop(l);
    }
}

ot_rc ot_lines_start(ot_lines *l, ot_loop *loop, int fd, ot_lines_fn *fn, void *arg, ot_error *err)
{
    *l = (ot_lines){.loop = loop, .fn = fn, .arg = arg};
    OT_TRY(ot_loop_watch(loop, &l->watch, fd, OT_LOOP_READ, on_readable, l, err));
    l->on = true;
    return OT_OK;
}

void ot_lines_stop(ot_lines *l)
{
    if (l->on) {
        ot_loop_unwatch(l->loop, &l->watch);
        l->on = false;
    }
}
