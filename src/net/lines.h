/* Lines from a descriptor, on a loop: what a supervisor says to its children.
 *
 * Threads: the loop's. Lifetime: start .. stop; the descriptor stays the caller's. */
#ifndef OT_NET_LINES_H
#define OT_NET_LINES_H

#include "base/error.h"
#include "net/loop.h"

#define OT_LINES_MAX 2048 /* bytes of a line; a longer one is passed over whole */

/* `line` without its end, NUL at the end; valid during the call, which must not stop the lines. */
typedef void ot_lines_fn(void *arg, const char *line);

typedef struct ot_lines {
    ot_loop *loop;
    ot_watch watch;
    ot_lines_fn *fn;
    void *arg;
    char line[OT_LINES_MAX + 1];
    size_t n;
    bool too_long, on;
} ot_lines;

/* `fd` non-blocking. At its end of file the watching ends by itself. */
ot_rc ot_lines_start(ot_lines *l, ot_loop *loop, int fd, ot_lines_fn *fn, void *arg,
                     ot_error *err) OT_CHECKED;
void ot_lines_stop(ot_lines *l); /* a zeroed one is fine */

#endif
