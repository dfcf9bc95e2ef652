/* `overtake control`: the control plane alone, or as `up` starts it. */
#include "api/control.h"
#include "base/mem.h"
#include "base/sock.h"
#include "cli/appfile.h"
#include "cli/commands.h"
#include "cli/datadir.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define BACKLOG 1024

struct control {
    const ot_args *args;
    char data[OT_PATH_MAX], site[OT_PATH_MAX];
    int lock, listener, supervisor;
    char address[300];
    ot_tls_files tls;
    bool own_listener;
};

/* What was handed over must not go on to the programs of runs: they outlive us, and the lock with
 * them. */
static ot_rc take_fd(const ot_args *args, const char *option, int *out, ot_error *err)
{
    int fd = (int)ot_args_int(args, option);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return ot_fail(err, OT_INVALID, "--%s %d: no such descriptor was handed over", option, fd);
    }
    *out = fd;
    return OT_OK;
}

static ot_rc take_data(struct control *c, ot_error *err)
{
    const char *data = ot_args_str(c->args, "data");
    if (!ot_args_given(c->args, "lock-fd")) {
        OT_TRY(ot_datadir_take(data, c->data, &c->lock, err));
        return ot_datadir_secrets(c->data, err);
    }
    OT_TRY(ot_datadir_absolute(data, c->data, err));
    return take_fd(c->args, "lock-fd", &c->lock, err);
}

static ot_rc open_listener(struct control *c, ot_error *err)
{
    if (ot_args_given(c->args, "listen-fd")) {
        OT_TRY(take_fd(c->args, "listen-fd", &c->listener, err));
    } else {
        ot_addr addr = *ot_args_addr(c->args, "listen");
        OT_TRY(ot_datadir_check_control(&addr, "listen", &c->tls, "tls", err));
        OT_TRY(ot_sock_listen(&addr, BACKLOG, &c->listener, err));
        c->own_listener = true;
        addr.port = addr.is_unix ? 0 : ot_sock_port(c->listener);
        ot_addr_format(&addr, c->address);
        OT_TRY(ot_datadir_announce(c->data, c->address, c->tls.cert != NULL, err));
    }
    ot_sock_nonblock(c->listener, true);
    return ot_args_given(c->args, "supervisor-fd")
               ? take_fd(c->args, "supervisor-fd", &c->supervisor, err)
               : OT_OK;
}

static int announce(const struct control *c)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (!c->own_listener) {
        return 0;
    }
    if (ot_args_json(c->args)) {
        ot_str_addf(&out, "{\"control\": \"%s\", \"data\": \"", c->address);
        ot_str_add_json(&out, c->data, strlen(c->data));
        ot_str_adds(&out, "\"}\n");
    } else {
        ot_str_addf(&out, "control    http%s://%s\ndata       %s\n", c->tls.cert != NULL ? "s" : "",
                    c->address, c->data);
    }
    return ot_cli_print(&out);
}

static int run(const ot_args *args)
{
    struct control c = {.args = args, .lock = -1, .listener = -1, .supervisor = -1};
    c.tls =
        (ot_tls_files){.cert = ot_args_str(args, "tls-cert"), .key = ot_args_str(args, "tls-key")};
    ot_error err = {0};
    ot_rc rc = take_data(&c, &err);
    if (rc == OT_OK) {
        rc = open_listener(&c, &err);
    }
    const char *site = ot_args_str(args, "site");
    if (rc == OT_OK && site != NULL) {
        rc = ot_cli_absolute(site, c.site, &err);
    }
    int code = rc == OT_OK ? announce(&c) : 0;
    if (rc == OT_OK && code == 0) {
        ot_api_options o = {.data_dir = c.data,
                            .exe = ot_args_str(args, "exe"),
                            .version = OT_VERSION,
                            .site_path = c.site[0] != 0 ? c.site : NULL,
                            .listen_fd = c.listener,
                            .tls = c.tls,
                            .supervisor_fd = c.supervisor};
        rc = ot_api_run(&o, &err);
    }
    ot_fd_close(&c.listener);
    ot_fd_close(&c.supervisor);
    ot_fd_close(&c.lock);
    return rc != OT_OK ? ot_cli_fail(args, &err) : code;
}

static const ot_opt opts[] = {
    OT_OPT_DATA_DIR,
    OT_CLI_SITE_OPT("the operators' file: docs/site-yaml.md"),
    {.name = "listen",
     .type = OT_OPT_ADDRESS,
     .def = "127.0.0.1:9000",
     .help = "where the control API is answered; this machine only, unless it speaks TLS"},
    {.name = "tls-cert",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "certificate and those above it, PEM: it speaks TLS; read again when it changes"},
    {.name = "tls-key", .type = OT_OPT_STRING, .value = "FILE", .help = "its private key, PEM"},
    {.name = "listen-fd",
     .type = OT_OPT_INT,
     .min = "0",
     .max = "1048576",
     .help = "a listening socket that was handed over, instead of --listen",
     .hidden = true},
    {.name = "lock-fd",
     .type = OT_OPT_INT,
     .min = "0",
     .max = "1048576",
     .help = "the data directory's lock, held and handed over",
     .hidden = true},
    {.name = "supervisor-fd",
     .type = OT_OPT_INT,
     .min = "0",
     .max = "1048576",
     .help = "a channel to the supervisor",
     .hidden = true},
    {.name = "exe",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "the overtake binary that runs are started with",
     .hidden = true},
};

const ot_command ot_cli_control_command = {
    .name = "control",
    .summary = "run the control plane alone",
    .detail =
        "Takes over the data directory, answers the control API (docs/api.md) and listens "
        "for replicas\non DIR/agent.sock: overtake serve --agent unix:DIR/agent.sock. "
        "SIGTERM and ^C drain; programs\nof runs go on and are found again by the next one. SIGHUP "
        "reads the site file again.",
    OT_OPTS(opts),
    .run = run};
