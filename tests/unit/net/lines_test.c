#include "net/lines.h"

#include "base/disk.h"
#include "base/sock.h"
#include "tap.h"

#include <string.h>

static int n_lines;
static char last[OT_LINES_MAX + 1];

static void on_line(void *arg, const char *line)
{
    (void)arg;
    n_lines++;
    snprintf(last, sizeof last, "%s", line);
}

static void turns(ot_loop *loop)
{
    for (int i = 0; i < 4; i++) {
        if (ot_loop_turn(loop, 0, NULL) != OT_OK) {
            return;
        }
    }
}

static void say(ot_loop *loop, int fd, const char *p, size_t n)
{
    ok(ot_sock_write_all(fd, p, n, NULL) == OT_OK, "%zu bytes", n);
    turns(loop);
}

int main(void)
{
    static char longest[OT_LINES_MAX + 2];
    ot_loop *loop = NULL;
    ot_lines l = {0};
    int fds[2];
    ot_lines_stop(&l);
    if (!ok(ot_loop_create(0, &loop, NULL) == OT_OK && ot_sock_pair(fds, NULL) == OT_OK &&
                ot_lines_start(&l, loop, fds[0], on_line, NULL, NULL) == OT_OK,
            "a pair")) {
        return tap_done();
    }
    say(loop, fds[1], "one\ntwo\nth", 10);
    is_int(n_lines, 2, "two lines are whole");
    is_str(last, "two", "as they came");
    say(loop, fds[1], "ree\n", 4);
    is_str(last, "three", "a line in two pieces");
    say(loop, fds[1], "\n", 1);
    is_str(last, "", "an empty one");
    memset(longest, 'x', sizeof longest);
    longest[OT_LINES_MAX] = '\n';
    say(loop, fds[1], longest, OT_LINES_MAX + 1);
    is_int((long long)strlen(last), OT_LINES_MAX, "the longest");
    longest[OT_LINES_MAX] = 'x';
    longest[OT_LINES_MAX + 1] = '\n';
    int before = n_lines;
    say(loop, fds[1], longest, sizeof longest);
    is_int(n_lines, before, "a longer one is passed over");
    say(loop, fds[1], "after\n", 6);
    is_str(last, "after", "whole");
    ot_fd_close(&fds[1]);
    turns(loop);
    is_int(l.on, 0, "the end ends it");
    ot_lines_stop(&l);
    ot_fd_close(&fds[0]);
    ot_loop_destroy(loop);
    return tap_done();
}
