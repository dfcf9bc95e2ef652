/* `overtake up`: a data directory, two listeners and two children. The supervisor does nothing
 * else: see cli/supervise.h. */
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/appfile.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/supervise.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 4096
#define ARGS_MAX 24

struct up {
    const ot_args *args;
    char data[OT_PATH_MAX]; /* absolute */
    char exe[OT_PATH_MAX];
    char agent[OT_PATH_MAX + 8];
    char site[OT_PATH_MAX]; /* absolute; "": none */
    char inference_fd[16], control_fd[16], lock_fd[16], workers[24];
    int lock, inference, control;
    char inference_addr[300], control_addr[300];
};

/* The path, not /proc/self/exe: after an upgrade SIGHUP starts the children from the new file. */
static ot_rc find_self(struct up *u, ot_error *err)
{
    const char *given = ot_args_str(u->args, "exe");
    if (given != NULL) {
        return ot_datadir_absolute(given, u->exe, err);
    }
    ssize_t n = readlink("/proc/self/exe", u->exe, sizeof u->exe - 1);
    if (n <= 0) {
        return ot_fail(err, OT_INTERNAL, "/proc/self/exe: not readable; is /proc mounted?");
    }
    u->exe[n] = 0;
    return OT_OK;
}

static ot_rc listen_on(const ot_addr *addr, const char *option, int *fd_out, char text[300],
                       ot_error *err)
{
    ot_addr real = *addr;
    ot_rc rc = ot_sock_listen(addr, BACKLOG, fd_out, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "--%s", option);
    }
    if (!real.is_unix) {
        real.port = ot_sock_port(*fd_out);
    }
    ot_addr_format(&real, text);
    return OT_OK;
}

static ot_rc open_listeners(struct up *u, ot_error *err)
{
    const ot_addr *control = ot_args_addr(u->args, "control");
    OT_TRY(listen_on(ot_args_addr(u->args, "listen"), "listen", &u->inference, u->inference_addr,
                     err));
    OT_TRY(listen_on(control, "control", &u->control, u->control_addr, err));
    return ot_datadir_announce(u->data, u->control_addr, err);
}

static int announce(const struct up *u)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (ot_args_json(u->args)) {
        ot_str_addf(&out, "{\"inference\": \"%s\", \"control\": \"%s\", \"data\": \"",
                    u->inference_addr, u->control_addr);
        ot_str_add_json(&out, u->data, strlen(u->data));
        ot_str_adds(&out, "\"}\n");
    } else {
        ot_str_addf(&out,
                    "inference  http://%s\ncontrol    http://%s (in a browser: the page; its "
                    "address with the token: overtake page)\ndata       %s\n",
                    u->inference_addr, u->control_addr, u->data);
    }
    return ot_cli_print(&out);
}

/* Replica first: it stops taking requests while the control plane still hears its last windows.
 * Both hold the lock: when we are killed they drain, and the next one waits for that. */
static ot_rc supervise(struct up *u, ot_error *err)
{
    const char *level = ot_args_str(u->args, "log-level");
    const char *form = ot_args_str(u->args, "log-format");
    const char *serve[ARGS_MAX] = {"overtake",
                                   "serve",
                                   "--agent",
                                   u->agent,
                                   "--data",
                                   u->data,
                                   "--listen-fd",
                                   u->inference_fd,
                                   "--log-level",
                                   level,
                                   "--log-format",
                                   form,
                                   ot_args_given(u->args, "workers") ? "--workers" : NULL,
                                   u->workers};
    const char *control[ARGS_MAX] = {"overtake",
                                     "control",
                                     "--data",
                                     u->data,
                                     "--listen-fd",
                                     u->control_fd,
                                     "--lock-fd",
                                     u->lock_fd,
                                     "--log-level",
                                     level,
                                     "--log-format",
                                     form,
                                     u->site[0] != 0 ? "--site" : NULL,
                                     u->site};
    ot_supervise_child children[] = {
        {.name = "serve", .exe = u->exe, .argv = serve, .fds = {u->inference, u->lock}, .n_fds = 2},
        {.name = "control",
         .exe = u->exe,
         .argv = control,
         .fds = {u->control, u->lock},
         .n_fds = 2},
    };
    ot_supervise_options opt = {.drain_us = ot_args_us(u->args, "drain")};
    return ot_supervise(children, OT_COUNT(children), &opt, err);
}

/* A site file with an error keeps `up` from starting, not the apps from running: see
 * ot_pipeline_site. */
static ot_rc take_site(struct up *u, ot_error *err)
{
    const char *path = ot_args_str(u->args, "site");
    ot_site *site;
    if (path == NULL) {
        return OT_OK;
    }
    OT_TRY(ot_cli_absolute(path, u->site, err));
    OT_TRY(ot_cli_site_load(u->site, &site, err));
    ot_site_destroy(site);
    return OT_OK;
}

static ot_rc set_up(struct up *u, ot_error *err)
{
    OT_TRY(take_site(u, err));
    OT_TRY(ot_datadir_check_control(ot_args_addr(u->args, "control"), "control", err));
    OT_TRY(find_self(u, err));
    OT_TRY(ot_datadir_take(ot_args_str(u->args, "data"), u->data, &u->lock, err));
    OT_TRY(ot_datadir_token(u->data, err));
    OT_TRY(open_listeners(u, err));
    snprintf(u->agent, sizeof u->agent, "unix:%s/agent.sock", u->data);
    ot_addr agent;
    OT_TRY(ot_addr_parse(u->agent, &agent, err)); /* a path too long for a socket shows here */
    snprintf(u->inference_fd, sizeof u->inference_fd, "%d", u->inference);
    snprintf(u->control_fd, sizeof u->control_fd, "%d", u->control);
    snprintf(u->lock_fd, sizeof u->lock_fd, "%d", u->lock);
    snprintf(u->workers, sizeof u->workers, "%" PRId64, ot_args_int(u->args, "workers"));
    return OT_OK;
}

static int run(const ot_args *args)
{
    struct up u = {.args = args, .lock = -1, .inference = -1, .control = -1};
    ot_error err = {0};
    ot_rc rc = set_up(&u, &err);
    int code = rc == OT_OK ? announce(&u) : 0;
    if (rc == OT_OK && code == 0) {
        rc = supervise(&u, &err);
    }
    ot_fd_close(&u.inference);
    ot_fd_close(&u.control);
    ot_fd_close(&u.lock);
    return rc != OT_OK ? ot_cli_fail(args, &err) : code;
}

static const ot_opt opts[] = {
    OT_OPT_DATA_DIR,
    OT_CLI_SITE_OPT("the operators' file: docs/site-yaml.md"),
    {.name = "listen",
     .type = OT_OPT_ADDRESS,
     .def = "127.0.0.1:8000",
     .help = "where predictions are answered"},
    {.name = "control",
     .type = OT_OPT_ADDRESS,
     .def = "127.0.0.1:9000",
     .help = "where the control API is answered; this machine only"},
    {.name = "workers",
     .type = OT_OPT_INT,
     .min = "1",
     .max = "256",
     .help = "threads that answer predictions [the replica's default]"},
    {.name = "drain",
     .type = OT_OPT_DURATION,
     .def = "30s",
     .min = "1ms",
     .help = "how long each child may finish its work at the end"},
    {.name = "exe",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "the overtake binary that the children run",
     .hidden = true},
};

const ot_command ot_cli_up_command = {
    .group = "The loop",
    .name = "up",
    .summary = "run the control plane and one replica on this machine",
    .detail = "Opens both listeners, starts `overtake control` and `overtake serve` and starts "
              "either again\nwhen it ends; connections wait meanwhile and are not refused. SIGTERM "
              "and ^C drain: first the\nreplica, then the control plane. SIGHUP starts both anew, "
              "from the binary as it is then.",
    OT_OPTS(opts),
    .run = run};
