#include "cli/upgrade.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_S 10
#define SAID_MAX 4096

/* --- a look at a binary ------------------------------------------------------------------------
 */

static ot_rc read_head(const char *path, unsigned char head[20], ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    size_t n = 0;
    OT_TRY(d->ops->open(d, path, OT_OPEN_READ, 0, &f, err));
    ot_rc rc = f->ops->pread(f, head, 20, 0, &n, err);
    ot_file_close(f);
    OT_TRY(rc);
    return n == 20 && memcmp(head, "\177ELF", 4) == 0
               ? OT_OK
               : ot_fail(err, OT_PRECONDITION, "%s is not a program (no ELF file)", path);
}

/* Class, byte order and machine: an emulator might start it all the same. */
static ot_rc same_machine(const char *path, ot_error *err)
{
    unsigned char own[20], its[20];
    OT_TRY(read_head("/proc/self/exe", own, err));
    OT_TRY(read_head(path, its, err));
    if (memcmp(own + 4, its + 4, 2) != 0 || memcmp(own + 18, its + 18, 2) != 0) {
        return ot_fail(err, OT_PRECONDITION,
                       "%s is built for another machine (ELF machine %u; this one is %u)", path,
                       (unsigned)(its[18] | its[19] << 8), (unsigned)(own[18] | own[19] << 8));
    }
    return OT_OK;
}

static void exec_captured(const char *path, char *const *argv, int out)
{
    int null = -1;
    ot_file *f;
    if (ot_disk_posix()->ops->open(ot_disk_posix(), "/dev/null", OT_OPEN_READ, 0, &f, NULL) ==
        OT_OK) {
        null = f->ops->fd(f);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(null, 0);
    (void)dup2(out, 1);
    (void)dup2(out, 2);
    alarm(LOOK_S);
    execv(path, argv);
    dprintf(2, "%s", strerror(errno));
    _exit(127);
}

/* Runs it and keeps the first bytes that it says. */
static ot_rc run_captured(const char *path, char *const *argv, char said[SAID_MAX], ot_error *err)
{
    int fds[2], status;
    size_t at = 0;
    char rest[256];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return ot_fail_errno(err, errno, "pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        exec_captured(path, argv, fds[1]);
    }
    close(fds[1]);
    for (ssize_t n = 1; pid > 0 && n > 0; at += n > 0 && at < SAID_MAX - 1 ? (size_t)n : 0) {
        n = at < SAID_MAX - 1 ? read(fds[0], said + at, SAID_MAX - 1 - at)
                              : read(fds[0], rest, sizeof rest);
    }
    said[at] = 0;
    close(fds[0]);
    if (pid < 0) {
        return ot_fail_errno(err, errno, "fork");
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    said[strcspn(said, "\n")] = 0;
    if (WIFSIGNALED(status)) {
        return ot_fail(err, OT_PRECONDITION, "%s does not start: %s", path,
                       WTERMSIG(status) == SIGALRM ? "no answer in 10 s"
                                                   : strsignal(WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) != 0) {
        return ot_fail(err, OT_PRECONDITION, "%s does not start: %s (exit %d)", path, said,
                       WEXITSTATUS(status));
    }
    return OT_OK;
}

static ot_rc read_version(const char *path, const char *said, ot_upgrade_binary *out, ot_error *err)
{
    json_t *o = json_loads(said, 0, NULL);
    const char *version = json_string_value(json_object_get(o, "version"));
    ot_upgrade_binary b = {.schema = json_integer_value(json_object_get(o, "schema")),
                           .handover = json_integer_value(json_object_get(o, "handover"))};
    ot_rc rc = OT_OK;
    if (version == NULL || strlen(version) >= sizeof b.version) {
        rc = ot_fail(err, OT_PRECONDITION, "%s does not say its version: it is no Overtake", path);
    } else if (b.handover < 1) {
        rc = ot_fail(err, OT_PRECONDITION,
                     "%s (%s) can't take over from a running supervisor: it is older; stop this "
                     "one and start that one",
                     path, version);
    } else if (b.schema < ot_store_schema_newest()) {
        rc = ot_fail(err, OT_PRECONDITION,
                     "%s (%s) knows the store's schema up to version %" PRId64
                     " and this one up to %" PRId64 "; to go back, stop this one and start that "
                     "one (docs/upgrade.md)",
                     path, version, b.schema, ot_store_schema_newest());
    } else {
        snprintf(b.version, sizeof b.version, "%s", version);
        *out = b;
    }
    json_decref(o);
    return rc;
}

ot_rc ot_upgrade_look(const char *path, ot_upgrade_binary *out, ot_error *err)
{
    char said[SAID_MAX], name[] = "overtake", verb[] = "version", o[] = "--output", json[] = "json";
    char *argv[] = {name, verb, o, json, NULL};
    OT_TRY(same_machine(path, err));
    OT_TRY(run_captured(path, argv, said, err));
    return read_version(path, said, out, err);
}

ot_rc ot_upgrade_path(int pid, char out[OT_PATH_MAX], ot_error *err)
{
    static const char gone[] = " (deleted)";
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/exe", pid);
    ssize_t n = readlink(link, out, OT_PATH_MAX - 1);
    if (n <= 0) {
        return ot_fail_errno(err, errno, "%s", link);
    }
    out[n] = 0;
    if (ot_has_suffix(out, gone)) {
        out[(size_t)n - (sizeof gone - 1)] = 0;
    }
    return OT_OK;
}

/* --- before ------------------------------------------------------------------------------------
 */

ot_rc ot_upgrade_prepare(ot_upgrade *u, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str args = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), "/proc/self/cmdline", sizeof u->args - 1, &args, err));
    size_t n = 0;
    memcpy(u->args, args.data, args.len);
    for (char *p = u->args; p < u->args + args.len; p += strlen(p) + 1) {
        if (n == OT_UPGRADE_ARGS_MAX - 1) {
            return ot_fail(err, OT_INVALID, "more than %d arguments", OT_UPGRADE_ARGS_MAX - 1);
        }
        u->argv[n++] = p;
    }
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    OT_TRY(d->ops->open(d, "/proc/self/exe", OT_OPEN_READ, 0, &f, err));
    u->binary = fcntl(f->ops->fd(f), F_DUPFD_CLOEXEC, 3);
    ot_file_close(f);
    return u->binary >= 0 ? OT_OK : ot_fail_errno(err, errno, "/proc/self/exe");
}

void ot_upgrade_done(ot_upgrade *u)
{
    ot_fd_close(&u->binary);
    ot_fd_close(&u->before);
}

/* --- the way over and back ---------------------------------------------------------------------
 */

static void keep(int fd, bool on)
{
    (void)fcntl(fd, F_SETFD, on ? 0 : FD_CLOEXEC);
}

/* Executes `path`, or where that is NULL descriptor `fd`, with our arguments. */
static ot_rc execute(ot_upgrade *u, const char *path, int fd, int memory, int binary,
                     const char *suffix, ot_error *err)
{
    char v[64];
    snprintf(v, sizeof v, "%d:%d%s", memory, binary, suffix);
    if (setenv(OT_HANDOVER_ENV, v, 1) != 0) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the environment");
    }
    keep(memory, true);
    keep(binary, true);
    if (path != NULL) {
        execv(path, u->argv);
    } else {
        fexecve(fd, u->argv, environ);
    }
    int saved = errno;
    keep(memory, false);
    keep(binary, false);
    (void)unsetenv(OT_HANDOVER_ENV);
    return ot_fail_errno(err, saved, "can't execute %s", path != NULL ? path : "the binary before");
}

static ot_rc hand_over(ot_upgrade *u, const char *path, int fd, const ot_handover *h, ot_error *err)
{
    int memory = -1;
    OT_TRY(ot_handover_write(h, &memory, err));
    ot_handover_keep(h, true);
    ot_rc rc = execute(u, path, fd, memory, u->binary, "", err);
    ot_handover_keep(h, false);
    ot_fd_close(&memory);
    return rc;
}

ot_rc ot_upgrade_return(ot_upgrade *u, int memory, int binary, ot_error *err)
{
    /* Descriptors that were handed over are still open across an exec: nothing has read of them. */
    return execute(u, NULL, binary, memory, binary, ":unread", err);
}

static ot_rc take_over(void *arg, const ot_supervise_running *running, bool again, ot_error *err)
{
    ot_upgrade *u = arg;
    ot_handover h = u->now;
    memcpy(h.children, running, sizeof h.children);
    for (size_t i = 0; i < OT_HANDOVER_CHILDREN; i++) {
        h.children[i].stays = false;
    }
    h.again = again;
    ot_info("up", "executing %s in place", u->next);
    return hand_over(u, u->next, -1, &h, err);
}

/* The children that we started are to go, those from before stay. */
static ot_rc go_back(void *arg, const ot_supervise_running *running, bool again, const char *why,
                     ot_error *err)
{
    ot_upgrade *u = arg;
    if (u->before < 0) {
        return ot_fail(err, OT_PRECONDITION, "there is no binary to go back to");
    }
    ot_handover h = u->now;
    memcpy(h.children, running, sizeof h.children);
    for (size_t i = 0; i < OT_HANDOVER_CHILDREN; i++) {
        h.children[i].stays = !running[i].stays;
    }
    h.again = again;
    snprintf(h.why, sizeof h.why, "%s", why);
    ot_warn("up", "going back to the binary from before (%s)", u->from);
    return hand_over(u, NULL, u->before, &h, err);
}

/* --- at SIGHUP ---------------------------------------------------------------------------------
 */

static void asked(void *arg)
{
    ot_upgrade *u = arg;
    ot_disk *d = ot_disk_posix();
    char file[OT_PATH_MAX];
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    snprintf(u->next, sizeof u->next, "%s", u->path);
    if (ot_path_join(file, u->data, OT_UPGRADE_FILE, NULL) != OT_OK || !ot_disk_exists(d, file)) {
        return;
    }
    if (ot_disk_read_all(d, file, OT_PATH_MAX - 1, &text, NULL) == OT_OK && text.len > 0) {
        snprintf(u->next, sizeof u->next, "%.*s", (int)strcspn(text.data, "\n"), text.data);
    }
    (void)d->ops->unlink(d, file, NULL);
}

/* It also has to know our options, and what we would hand over. */
static ot_rc try_it(ot_upgrade *u, ot_error *err)
{
    char said[SAID_MAX], v[32];
    int memory;
    OT_TRY(ot_handover_write(&u->now, &memory, err));
    keep(memory, true);
    snprintf(v, sizeof v, "check:%d", memory);
    if (setenv(OT_HANDOVER_ENV, v, 1) != 0) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the environment");
    }
    return run_captured(u->next, u->argv, said, err);
}

static int check(void *arg, int fd)
{
    ot_upgrade *u = arg;
    ot_upgrade_binary b;
    ot_error err = {0};
    ot_rc rc = ot_upgrade_look(u->next, &b, &err);
    if (rc == OT_OK) {
        rc = try_it(u, &err);
    }
    if (rc == OT_OK) {
        return 0;
    }
    return write(fd, err.msg, strlen(err.msg)) > 0 ? 1 : 2;
}

/* --- in the log --------------------------------------------------------------------------------
 */

typedef struct told {
    const char *verb, *from, *to;
    const char *why; /* NULL: it is none that failed */
} told;

static size_t event_line(const told *t, const char *text, char *line, size_t size)
{
    json_t *o = json_pack("{s:s,s:s,s:s,s:s*,s:[]}", "text", text, "from", t->from, "to", t->to,
                          "why", t->why, "because");
    char *json = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    int n = json != NULL ? snprintf(line, size, "event upgrade.%s %s\n", t->verb, json) : 0;
    json_decref(o);
    free(json);
    return n > 0 && (size_t)n < size ? (size_t)n : 0;
}

/* After a way back: what began as a roll is the end of an upgrade that failed. */
static size_t news_of_return(ot_upgrade *u, ot_supervise_news what, char *line, size_t size)
{
    char text[OT_SUPERVISE_WHY_MAX + 128];
    told t = {"failed", OT_VERSION, u->from, u->now.why};
    if (what == OT_SUPERVISE_STARTED) {
        ot_err("up", "the upgrade to %s failed: %s; going on with %s", u->from, u->now.why,
               OT_VERSION);
        return 0; /* it is told when all is back */
    }
    snprintf(text, sizeof text, "%s did not come up, %s is back: %s", u->from, OT_VERSION,
             u->now.why);
    size_t n = event_line(&t, text, line, size);
    u->now.why[0] = 0;
    return n;
}

static size_t news(void *arg, ot_supervise_news what, const char *why, char *line, size_t size)
{
    ot_upgrade *u = arg;
    char text[OT_SUPERVISE_WHY_MAX + 128];
    if (u->now.why[0] != 0) {
        return news_of_return(u, what, line, size);
    }
    told t = {"failed", OT_VERSION, OT_VERSION, why};
    if (what == OT_SUPERVISE_FAILED) {
        snprintf(text, sizeof text, "not upgraded, %s goes on: %s", OT_VERSION, why);
        return event_line(&t, text, line, size);
    }
    t.from = u->from;
    if (what == OT_SUPERVISE_STARTED) {
        t.verb = "started";
        snprintf(text, sizeof text, "%s takes over from %s", OT_VERSION, u->from);
    } else {
        t.verb = "finished";
        snprintf(text, sizeof text, "%s runs, after %s", OT_VERSION, u->from);
        ot_fd_close(&u->before);
    }
    ot_info("up", "upgrade %s: %s", t.verb, text);
    return event_line(&t, text, line, size);
}

const ot_supervise_upgrade ot_upgrade_ops = {
    .asked = asked, .check = check, .take_over = take_over, .go_back = go_back, .news = news};
