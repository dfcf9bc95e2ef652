/* A replica and its supervisor: it says when it accepts, and hears whether another replica works on
 * the same data directory, as happens in an upgrade (cli/supervise.h has the words). */
#include "base/log.h"
#include "base/sock.h"
#include "serve/control.h"

#include <string.h>

/* What an earlier process left is ours to push when that one has ended. */
static ot_rc take_over(ot_control *c, ot_error *err)
{
    c->beside = false;
    OT_TRY(ot_spool_adopt(c->serve->spool, err));
    ot_agent_pump(c->agent);
    return OT_OK;
}

static void on_line(void *arg, const char *line)
{
    ot_control *c = arg;
    ot_error err;
    if (strcmp(line, "beside") == 0) {
        c->beside = true;
    } else if (strcmp(line, "alone") == 0 && take_over(c, &err) != OT_OK) {
        ot_warn("serve", "what the replica before has left is pushed after the next start: %s",
                err.msg);
    }
}

ot_rc ot_company_start(ot_control *c, ot_error *err)
{
    int fd = c->serve->o.supervisor_fd;
    if (fd < 0) {
        return take_over(c, err);
    }
    c->beside = true; /* until we are told */
    ot_sock_nonblock(fd, true);
    return ot_lines_start(&c->lines, c->serve->loop, fd, on_line, c, err);
}

void ot_company_ready(ot_control *c)
{
    ot_error err;
    int fd = c->serve->o.supervisor_fd;
    if (fd >= 0 && ot_sock_write_all(fd, "ready\n", 6, &err) != OT_OK) {
        ot_info("serve", "the supervisor is not told that this replica is ready: %s", err.msg);
    }
}

void ot_company_stop(ot_control *c)
{
    ot_lines_stop(&c->lines);
}
