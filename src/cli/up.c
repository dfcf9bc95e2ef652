/* `overtake up`: a data directory, two listeners and two children. The supervisor does nothing
 * else but to upgrade itself: see cli/supervise.h and cli/upgrade.h. */
#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/appfile.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/listen.h"
#include "cli/upgrade.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG 4096
#define ARGS_MAX 64

struct up {
    const ot_args *args;
    char exe[OT_PATH_MAX]; /* what the children run */
    char agent[OT_PATH_MAX + 8];
    char site[OT_PATH_MAX]; /* absolute; "": none */
    char inference_fd[16], control_fd[16], lock_fd[16], workers[24];
    char serve_channel[16], control_channel[16];
    ot_cli_listeners listeners; /* of the replica; the first is --listen */
    ot_tls_files control_tls;
    char more_fd[OT_SERVE_LISTENERS_MAX][24];
    ot_upgrade upgrade; /* with the data directory, listeners and lock */
    bool given;         /* it was handed over */
};

/* Children run what we run, also when another file lies at its path by now: that one comes in by an
 * upgrade only. */
static ot_rc find_self(struct up *u, ot_error *err)
{
    const char *given = ot_args_str(u->args, "exe");
    if (given != NULL) {
        return ot_datadir_absolute(given, u->exe, err);
    }
    OT_TRY(ot_upgrade_prepare(&u->upgrade, err));
    OT_TRY(ot_upgrade_path(getpid(), u->upgrade.path, err));
    snprintf(u->exe, sizeof u->exe, "/proc/self/exe");
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
    ot_handover *h = &u->upgrade.now;
    OT_TRY(listen_on(ot_args_addr(u->args, "listen"), "listen", &h->inference, h->inference_addr,
                     err));
    ot_cli_listeners *l = &u->listeners;
    *l = (ot_cli_listeners){.n = 1,
                            .fds = {{.fd = h->inference}},
                            .named = {{.addr = *ot_args_addr(u->args, "listen")}}};
    ot_rc rc = ot_cli_listen_more(u->args, l, err);
    h->n_more = l->n - 1;
    memcpy(h->more, l->fds + 1, h->n_more * sizeof *h->more);
    OT_TRY(rc);
    OT_TRY(
        listen_on(ot_args_addr(u->args, "control"), "control", &h->control, h->control_addr, err));
    return ot_datadir_announce(u->upgrade.data, h->control_addr, u->control_tls.cert != NULL, err);
}

static int announce(const struct up *u)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    const ot_handover *h = &u->upgrade.now;
    const char *data = u->upgrade.data;
    char url[320];
    if (u->given) {
        return 0; /* the binary before has said it */
    }
    if (ot_args_json(u->args)) {
        ot_str_addf(&out, "{\"inference\": \"%s\", \"control\": \"%s\", \"data\": \"",
                    h->inference_addr, h->control_addr);
        ot_str_add_json(&out, data, strlen(data));
        ot_str_adds(&out, "\", \"more\": [");
        for (size_t i = 1; i < u->listeners.n; i++) {
            ot_cli_listener_url(&u->listeners.named[i], url);
            ot_str_addf(&out, "%s\"%s\"", i > 1 ? ", " : "", url);
        }
        ot_str_adds(&out, "]}\n");
    } else {
        ot_str_addf(&out,
                    "inference  http://%s\ncontrol    http%s://%s (in a browser: the page; its "
                    "address with the token: overtake page)\ndata       %s\n",
                    h->inference_addr, u->control_tls.cert != NULL ? "s" : "", h->control_addr,
                    data);
        for (size_t i = 1; i < u->listeners.n; i++) {
            ot_cli_listener_url(&u->listeners.named[i], url);
            ot_str_addf(&out, "inference  %s\n", url);
        }
    }
    return ot_cli_print(&out);
}

/* The replica's arguments for what it listens on beside --listen. */
static void add_listeners(struct up *u, const char **argv)
{
    static const char *const files[][2] = {
        {"tls-cert", "--tls-cert"}, {"tls-key", "--tls-key"}, {"tls-client-ca", "--tls-client-ca"}};
    const ot_handover *h = &u->upgrade.now;
    for (size_t i = 0; i < h->n_more; i++) {
        snprintf(u->more_fd[i], sizeof u->more_fd[i], "%d%s", h->more[i].fd,
                 h->more[i].tls ? ":tls" : "");
        *argv++ = "--listen-fd";
        *argv++ = u->more_fd[i];
    }
    for (size_t i = 0; i < OT_COUNT(files); i++) {
        if (ot_args_given(u->args, files[i][0])) {
            *argv++ = files[i][1];
            *argv++ = ot_args_str(u->args, files[i][0]);
        }
    }
}

/* What the replica would find too late. */
static ot_rc check_tls(const struct up *u, ot_error *err)
{
    ot_tls_files files = ot_cli_tls_files(u->args);
    bool wanted = ot_args_given(u->args, "listen-tls");
    ot_tls *tls;
    if (wanted != (files.cert != NULL) || wanted != (files.key != NULL) ||
        (!wanted && files.client_ca != NULL)) {
        return ot_fail(err, OT_INVALID,
                       "--listen-tls, --tls-cert and --tls-key belong together, and "
                       "--tls-client-ca to them");
    }
    if (wanted) {
        OT_TRY(ot_tls_create(&files, &tls, err));
        ot_tls_destroy(tls);
    }
    return OT_OK;
}

static const char **end_of(const char **argv)
{
    while (*argv != NULL) {
        argv++;
    }
    return argv;
}

/* Replica first: it stops taking requests while the control plane still hears its last windows.
 * Both hold the lock: when we are killed they drain, and the next one waits for that. */
static ot_rc supervise(struct up *u, ot_error *err)
{
    const char *level = ot_args_str(u->args, "log-level");
    const char *form = ot_args_str(u->args, "log-format");
    const ot_handover *h = &u->upgrade.now;
    const char *serve[ARGS_MAX] = {"overtake",
                                   "serve",
                                   "--agent",
                                   u->agent,
                                   "--data",
                                   u->upgrade.data,
                                   "--listen-fd",
                                   u->inference_fd,
                                   "--supervisor-fd",
                                   u->serve_channel,
                                   "--log-level",
                                   level,
                                   "--log-format",
                                   form,
                                   ot_args_given(u->args, "workers") ? "--workers" : NULL,
                                   u->workers};
    const char *control[ARGS_MAX] = {"overtake",
                                     "control",
                                     "--data",
                                     u->upgrade.data,
                                     "--listen-fd",
                                     u->control_fd,
                                     "--lock-fd",
                                     u->lock_fd,
                                     "--supervisor-fd",
                                     u->control_channel,
                                     "--log-level",
                                     level,
                                     "--log-format",
                                     form,
                                     u->site[0] != 0 ? "--site" : NULL,
                                     u->site};
    add_listeners(u, end_of(serve));
    if (u->control_tls.cert != NULL) {
        const char **more = end_of(control);
        more[0] = "--tls-cert";
        more[1] = u->control_tls.cert;
        more[2] = "--tls-key";
        more[3] = u->control_tls.key;
    }
    ot_supervise_child children[] = {
        [OT_HANDOVER_SERVE] = {.name = "serve",
                               .exe = u->exe,
                               .argv = serve,
                               .fds = {h->inference, h->lock},
                               .n_fds = 2,
                               .channel = u->serve_channel,
                               .overlaps = true},
        [OT_HANDOVER_CONTROL] = {.name = "control",
                                 .exe = u->exe,
                                 .argv = control,
                                 .fds = {h->control, h->lock},
                                 .n_fds = 2,
                                 .channel = u->control_channel},
    };
    ot_supervise_options opt = {.drain_us = ot_args_us(u->args, "drain"),
                                .ready_us = ot_args_us(u->args, "ready"),
                                .upgrade = ot_args_given(u->args, "exe") ? NULL : &ot_upgrade_ops,
                                .running = u->given ? h->children : NULL,
                                .roll = u->given,
                                .again = h->again,
                                .log_child = OT_HANDOVER_CONTROL,
                                .arg = &u->upgrade};
    ot_supervise_child *replica = &children[OT_HANDOVER_SERVE];
    for (size_t i = 0; i < h->n_more; i++) {
        replica->fds[replica->n_fds++] = h->more[i].fd;
    }
    return ot_supervise(children, OT_COUNT(children), &opt, err);
}

/* A site file with an error keeps `up` from starting, not the apps from running: see
 * ot_pipeline_site. Who takes over has been checked, and goes on. */
static ot_rc take_site(struct up *u, ot_handover_kind kind, ot_error *err)
{
    const char *path = ot_args_str(u->args, "site");
    ot_site *site;
    if (path == NULL) {
        return OT_OK;
    }
    OT_TRY(ot_cli_absolute(path, u->site, err));
    if (kind != OT_HANDOVER_NONE && kind != OT_HANDOVER_CHECK) {
        return OT_OK;
    }
    OT_TRY(ot_cli_site_load(u->site, &site, err));
    ot_site_destroy(site);
    return OT_OK;
}

/* What another binary leaves us. */
static ot_rc take_over(struct up *u, ot_handover_kind kind, int memory, ot_error *err)
{
    ot_upgrade *up = &u->upgrade;
    OT_TRY(ot_handover_take(memory, &up->now, err));
    ot_fd_close(&memory);
    u->given = true;
    snprintf(up->from, sizeof up->from, "%s", up->now.version);
    if (kind == OT_HANDOVER_UNREAD) {
        snprintf(up->now.why, sizeof up->now.why,
                 "the new binary could not take what it was handed");
        snprintf(up->from, sizeof up->from, "a new binary");
        for (size_t i = 0; i < OT_HANDOVER_CHILDREN; i++) {
            up->now.children[i].stays = true;
        }
    }
    if (up->now.why[0] != 0) {
        ot_fd_close(&up->before); /* the one that failed */
    } else {
        (void)fcntl(up->before, F_SETFD, FD_CLOEXEC);
    }
    return ot_datadir_retake(ot_args_str(u->args, "data"), up->data, err);
}

static ot_rc set_up(struct up *u, ot_handover_kind kind, int memory, ot_error *err)
{
    ot_handover *h = &u->upgrade.now;
    OT_TRY(find_self(u, err));
    OT_TRY(take_site(u, kind, err));
    u->control_tls = (ot_tls_files){.cert = ot_args_str(u->args, "control-tls-cert"),
                                    .key = ot_args_str(u->args, "control-tls-key")};
    if (kind == OT_HANDOVER_NONE) {
        OT_TRY(ot_datadir_check_control(ot_args_addr(u->args, "control"), "control",
                                        &u->control_tls, "control-tls", err));
        OT_TRY(check_tls(u, err));
        OT_TRY(ot_datadir_take(ot_args_str(u->args, "data"), u->upgrade.data, &h->lock, err));
        OT_TRY(ot_datadir_secrets(u->upgrade.data, err));
        OT_TRY(open_listeners(u, err));
    } else {
        OT_TRY(take_over(u, kind, memory, err));
    }
    snprintf(u->agent, sizeof u->agent, "unix:%s/agent.sock", u->upgrade.data);
    ot_addr agent;
    OT_TRY(ot_addr_parse(u->agent, &agent, err)); /* a path too long for a socket shows here */
    snprintf(u->inference_fd, sizeof u->inference_fd, "%d", h->inference);
    snprintf(u->control_fd, sizeof u->control_fd, "%d", h->control);
    snprintf(u->lock_fd, sizeof u->lock_fd, "%d", h->lock);
    snprintf(u->workers, sizeof u->workers, "%" PRId64, ot_args_int(u->args, "workers"));
    return OT_OK;
}

/* We can't go on with what was handed over: the binary before could. */
static void give_back(struct up *u, int memory, const ot_error *why)
{
    ot_error err = {0};
    const ot_handover *h = &u->upgrade.now;
    ot_err("up", "what the binary before hands over can't be taken: %s", why->msg);
    ot_rc rc = u->given ? ot_upgrade_ops.go_back(&u->upgrade, h->children, h->again, why->msg, &err)
                        : ot_upgrade_return(&u->upgrade, memory, u->upgrade.before, &err);
    if (rc != OT_OK) {
        ot_err("up", "and it can't be given back: %s; the children drain and end", err.msg);
    }
}

static int run(const ot_args *args)
{
    static struct up u; /* large */
    ot_handover_kind kind;
    ot_error err = {0};
    int memory;
    u = (struct up){.args = args,
                    .upgrade = {.now = {.lock = -1, .inference = -1, .control = -1},
                                .binary = -1,
                                .before = -1}};
    ot_rc rc = ot_handover_find(&kind, &memory, &u.upgrade.before, &err);
    if (rc == OT_OK && kind == OT_HANDOVER_CHECK) { /* it knows its options, and these words */
        rc = take_site(&u, kind, &err);
        rc = rc == OT_OK ? ot_handover_read(memory, &u.upgrade.now, &err) : rc;
        return rc == OT_OK ? 0 : ot_cli_fail(args, &err);
    }
    if (rc == OT_OK) {
        rc = set_up(&u, kind, memory, &err);
    }
    if (rc != OT_OK && kind == OT_HANDOVER_GIVEN) {
        give_back(&u, memory, &err);
    }
    int code = rc == OT_OK ? announce(&u) : 0;
    if (rc == OT_OK && code == 0) {
        rc = supervise(&u, &err);
    }
    ot_fd_close(&u.upgrade.now.inference);
    for (size_t i = 0; i < u.upgrade.now.n_more; i++) {
        ot_fd_close(&u.upgrade.now.more[i].fd);
    }
    ot_fd_close(&u.upgrade.now.control);
    ot_fd_close(&u.upgrade.now.lock);
    ot_upgrade_done(&u.upgrade);
    return rc != OT_OK ? ot_cli_fail(args, &err) : code;
}

static const ot_opt opts[] = {
    OT_OPT_DATA_DIR,
    OT_CLI_SITE_OPT("the operators' file: docs/site-yaml.md"),
    {.name = "listen",
     .type = OT_OPT_ADDRESS,
     .def = "127.0.0.1:8000",
     .help = "where predictions are answered"},
    OT_CLI_LISTEN_MORE_OPTS,
    {.name = "control",
     .type = OT_OPT_ADDRESS,
     .def = "127.0.0.1:9000",
     .help = "where the control API is answered; this machine only, unless it speaks TLS"},
    {.name = "control-tls-cert",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "certificate of --control and those above it, PEM: it speaks TLS; read again when it "
             "changes"},
    {.name = "control-tls-key",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "its private key, PEM"},
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
    {.name = "ready",
     .type = OT_OPT_DURATION,
     .def = "60s",
     .min = "1ms",
     .help = "how long a child of a new binary may take to be ready before an upgrade goes back"},
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
              "and ^C drain: first the\nreplica, then the control plane. SIGHUP is an upgrade, "
              "as `overtake upgrade`: the binary as it is\nthen takes the place of this one.",
    OT_OPTS(opts),
    .run = run};
