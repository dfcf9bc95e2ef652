/* The end of a run, for tests that start some. */
#ifndef OT_TESTS_LAUNCH_FINISH_H
#define OT_TESTS_LAUNCH_FINISH_H

#include "launch/run.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#define LONG_MS 60000 /* a limit against hanging, not a measure */

/* Waits for the shim's end through its descriptor and reads the record. */
static bool finish(const char *dir, int fd, ot_launch_exit *e)
{
    ot_launch_status st;
    ot_error err = {0};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (fd < 0 || poll(&p, 1, LONG_MS) != 1) {
        printf("# %s: the shim does not end\n", dir);
        return false;
    }
    close(fd);
    if (ot_launch_poll(dir, &st, &err) != OT_OK || st.phase != OT_LAUNCH_FINISHED) {
        printf("# %s: phase %d %s\n", dir, (int)st.phase, err.msg);
        return false;
    }
    *e = st.exit;
    return true;
}

#endif
