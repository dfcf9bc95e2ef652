#include "load/own.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"
#include "net/http_client.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKLOG 4096
#define READY_US INT64_C(120000000)
#define LOOK_US 20000
#define END_US INT64_C(15000000)

/* The first processor for the replica, the rest for the load; false when there is only one. */
static bool divide(cpu_set_t *first, cpu_set_t *rest)
{
    cpu_set_t all;
    CPU_ZERO(first);
    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) < 2) {
        return false;
    }
    *rest = all;
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &all)) {
            CPU_SET(i, first);
            CPU_CLR(i, rest);
            return true;
        }
    }
    return false;
}

static _Noreturn void run_child(const ot_load_own *own, const char *model, const char *plugin_path,
                                const cpu_set_t *first, pid_t parent)
{
    char fd[16];
    snprintf(fd, sizeof fd, "%d", own->listener);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)fcntl(own->listener, F_SETFD, 0);
    if (own->apart) {
        (void)sched_setaffinity(0, sizeof *first, first);
    }
    const char *argv[16] = {"overtake", "serve",          model,  "--workers",
                            "1",        "--pool-threads", "1",    "--listen-fd",
                            fd,         "--log-level",    "error"};
    if (plugin_path != NULL) {
        argv[11] = "--plugin-path";
        argv[12] = plugin_path;
    }
    union {
        const char *const *in;
        char *const *out;
    } cast = {.in = argv}; /* exec changes nothing */
    if (getppid() == parent) {
        execv("/proc/self/exe", cast.out);
    }
    _exit(127);
}

/* Asks; the reply is left in `r`, which is initialised. False when there is no answer. */
static bool ask(const ot_load_own *own, const char *method, const char *path, ot_http_reply *r)
{
    ot_addr addr;
    ot_error err;
    ot_http_client *c;
    if (ot_addr_parse(own->address, &addr, &err) != OT_OK ||
        ot_http_client_create(&addr, NULL, &c, &err) != OT_OK) {
        return false;
    }
    bool answered = ot_http_client_simple(c, method, path, NULL, NULL, 0, r, &err) == OT_OK;
    ot_http_client_destroy(c);
    return answered && r->status == 200;
}

/* Until it listens the connection waits in the backlog: looking is waiting. */
static ot_rc look(const ot_load_own *own, const char *model, bool *ready_out, ot_error *err)
{
    ot_rc rc = OT_OK;
    ot_http_reply r;
    ot_http_reply_init(&r);
    *ready_out = ask(own, "GET", "/v2/health/ready", &r);
    if (!*ready_out && ask(own, "POST", "/v2/repository/index", &r)) {
        json_t *index = json_loadb(r.body.data, r.body.len, 0, NULL);
        const json_t *m = json_array_get(index, 0);
        const char *state = json_string_value(json_object_get(m, "state"));
        const char *reason = json_string_value(json_object_get(m, "reason"));
        if (state != NULL && strcmp(state, "UNAVAILABLE") == 0 && reason != NULL &&
            reason[0] != '\0') {
            rc = ot_fail(err, OT_UNAVAILABLE, "'%s' can't be loaded: %s", model, reason);
        }
        json_decref(index);
    }
    ot_http_reply_done(&r);
    return rc;
}

static ot_rc wait_ready(ot_load_own *own, const char *model, ot_error *err)
{
    uint64_t end = ot_clock_mono_ns() + (uint64_t)READY_US * 1000;
    while (ot_clock_mono_ns() < end) {
        int status;
        if (waitpid(own->pid, &status, WNOHANG) == own->pid) {
            own->pid = 0;
            return ot_fail(err, OT_UNAVAILABLE, "the replica on '%s' ended before it was ready",
                           model);
        }
        bool ready;
        OT_TRY(look(own, model, &ready, err));
        if (ready) {
            return OT_OK;
        }
        ot_clock_sleep_us(LOOK_US);
    }
    return ot_fail(err, OT_TIMEOUT, "the replica on '%s' was not ready after %lld s", model,
                   (long long)(READY_US / 1000000));
}

ot_rc ot_load_own_start(const char *model, const char *plugin_path, ot_load_own *own_out,
                        ot_error *err)
{
    ot_load_own own = {.listener = -1};
    ot_addr addr;
    cpu_set_t first, rest;
    OT_TRY(ot_addr_parse("127.0.0.1:0", &addr, err));
    OT_TRY(ot_sock_listen(&addr, BACKLOG, &own.listener, err));
    addr.port = ot_sock_port(own.listener);
    ot_addr_format(&addr, own.address);
    own.apart = divide(&first, &rest);
    pid_t parent = getpid();
    own.pid = fork();
    if (own.pid == 0) {
        run_child(&own, model, plugin_path, &first, parent);
    }
    ot_rc rc = own.pid < 0 ? ot_fail_errno(err, errno, "the replica can't be started") : OT_OK;
    ot_fd_close(&own.listener);
    if (rc == OT_OK && own.apart) {
        (void)sched_setaffinity(0, sizeof rest, &rest);
    }
    if (rc == OT_OK) {
        rc = wait_ready(&own, model, err);
    }
    if (rc != OT_OK) {
        ot_load_own_stop(&own);
        return rc;
    }
    *own_out = own;
    return OT_OK;
}

void ot_load_own_stop(ot_load_own *own)
{
    if (own->pid <= 0) {
        return;
    }
    (void)kill(own->pid, SIGTERM);
    uint64_t end = ot_clock_mono_ns() + (uint64_t)END_US * 1000;
    while (waitpid(own->pid, NULL, WNOHANG) == 0) {
        if (ot_clock_mono_ns() > end) {
            (void)kill(own->pid, SIGKILL);
            end = UINT64_MAX;
        }
        ot_clock_sleep_us(LOOK_US);
    }
    own->pid = 0;
}
