/* The control plane and its supervisor: it says when it answers, and writes down what became of an
 * upgrade, which only the supervisor knows: "event upgrade.VERB JSON" (cli/supervise.h). */
#include "api/internal.h"

#include "base/log.h"
#include "base/sock.h"
#include "store/events.h"

#include <string.h>

static ot_rc append(ot_txn *txn, void *arg, ot_error *err)
{
    return ot_event_append(txn, arg, NULL, err);
}

static void on_line(void *arg, const char *line)
{
    api *a = arg;
    char type[64];
    size_t n = 0;
    ot_error err = {0};
    if (!ot_has_prefix(line, "event upgrade.")) {
        return; /* of a newer supervisor, or for replicas */
    }
    line += strlen("event ");
    n = strcspn(line, " ");
    if (n >= sizeof type || line[n] != ' ') {
        ot_warn("control", "the supervisor said '%.80s', which is no event", line);
        return;
    }
    memcpy(type, line, n);
    type[n] = 0;
    ot_event_in in = {.actor = "overtake",
                      .role = "automation",
                      .type = type,
                      .object = "overtake",
                      .payload = line + n + 1};
    if (ot_store_write(a->store, append, &in, &err) != OT_OK) {
        ot_err("control", "%s is not in the log: %s", type, err.msg);
    }
}

ot_rc api_supervisor_start(api *a, ot_error *err)
{
    int fd = a->opt->supervisor_fd;
    if (fd < 0) {
        return OT_OK;
    }
    ot_sock_nonblock(fd, true);
    OT_TRY(ot_lines_start(&a->supervisor, a->loop, fd, on_line, a, err));
    if (ot_sock_write_all(fd, "ready\n", 6, err) != OT_OK) {
        ot_info("control", "the supervisor is not told that the control plane is ready: %s",
                err->msg);
    }
    return OT_OK;
}

void api_supervisor_stop(api *a)
{
    ot_lines_stop(&a->supervisor);
}
