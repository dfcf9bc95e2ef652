/* Ports: can they be had, and who has them. */
#include "doctor/internal.h"

#include "base/mem.h"
#include "net/http_client.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_US 2000000
#define LISTENS 0x0a /* TCP_LISTEN in /proc/net/tcp */

/* ------------------------------------------------------------------ who has a port */

/* The inode of a socket that listens on the port; 0: none. */
static uint64_t listener_in(const char *table, uint16_t port)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    if (ot_disk_read_all(ot_disk_posix(), table, 64u << 20, &text, NULL) != OT_OK) {
        return 0;
    }
    for (char *line = text.data; line != NULL && *line != 0;) {
        unsigned at = 0, state = 0;
        uint64_t inode = 0;
        if (sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s %*s %*d %*d %" SCNu64, &at,
                   &state, &inode) == 3 &&
            at == port && state == LISTENS) {
            return inode;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return 0;
}

typedef struct search {
    char wanted[64]; /* "socket:[123]" */
    char dir[64];
    long pid;
} search;

static ot_rc look_at_fd(void *arg, const char *name, ot_error *err)
{
    search *s = arg;
    char path[OT_PATH_MAX], target[64];
    (void)err;
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n > 0) {
        target[n] = 0;
    }
    return n > 0 && strcmp(target, s->wanted) == 0 ? OT_EXISTS : OT_OK;
}

static ot_rc look_at_process(void *arg, const char *name, ot_error *err)
{
    search *s = arg;
    ot_disk *d = ot_disk_posix();
    (void)err;
    if (!isdigit((unsigned char)name[0])) {
        return OT_OK;
    }
    snprintf(s->dir, sizeof s->dir, "/proc/%.16s/fd", name);
    if (d->ops->list(d, s->dir, look_at_fd, s, NULL) == OT_EXISTS) {
        s->pid = strtol(name, NULL, 10);
        return OT_EXISTS;
    }
    return OT_OK;
}

bool dr_port_owner(uint16_t port, char *out, size_t n)
{
    uint64_t inode = listener_in("/proc/net/tcp", port);
    inode = inode != 0 ? inode : listener_in("/proc/net/tcp6", port);
    if (inode == 0) {
        return false;
    }
    search s = {0};
    ot_disk *d = ot_disk_posix();
    snprintf(s.wanted, sizeof s.wanted, "socket:[%" PRIu64 "]", inode);
    if (d->ops->list(d, "/proc", look_at_process, &s, NULL) != OT_EXISTS) {
        snprintf(out, n, "a process that this user may not see");
        return true;
    }
    char path[64], name[64];
    snprintf(path, sizeof path, "/proc/%ld/comm", s.pid);
    dr_read(path, name, sizeof name);
    snprintf(out, n, "process %ld (%.40s)", s.pid, name);
    return true;
}

/* ------------------------------------------------------------------ ours */

bool dr_control(const doctor *d, ot_addr *out)
{
    char path[OT_PATH_MAX], text[300];
    ot_http_client *http;
    ot_http_reply reply;
    if (ot_path_join(path, d->o->data_dir, "control.addr", NULL) != OT_OK) {
        return false;
    }
    dr_read(path, text, sizeof text);
    ot_http_client_options o = {
        .struct_size = sizeof o, .connect_us = ANSWER_US, .io_us = ANSWER_US};
    if (text[0] == 0 || ot_addr_parse(text, out, NULL) != OT_OK ||
        ot_http_client_create(out, &o, &http, NULL) != OT_OK) {
        return false;
    }
    ot_http_reply_init(&reply);
    ot_http_call call = {.method = "GET", .target = "/api/v1/health"};
    bool answers =
        ot_http_client_request(http, &call, &reply, NULL) == OT_OK && reply.status == 200;
    ot_http_reply_done(&reply);
    ot_http_client_destroy(http);
    return answers;
}

static void say_port(doctor *d, const char *name, const char *option, const ot_addr *want)
{
    char text[300], owner[128], fix[200];
    ot_error err = {0};
    ot_addr control;
    int fd = -1;
    ot_addr_format(want, text);
    if (ot_sock_listen(want, 1, &fd, &err) == OT_OK) {
        ot_fd_close(&fd);
        dr_say(d, name, OT_CHECK_OK, NULL, "%s can be listened on", text);
        return;
    }
    bool known = dr_port_owner(want->port, owner, sizeof owner);
    if (known && strstr(owner, "(overtake)") != NULL && dr_control(d, &control)) {
        dr_say(d, name, OT_CHECK_OK, NULL, "%s is Overtake's own: %s; this data directory is up",
               text, owner);
        return;
    }
    snprintf(fix, sizeof fix, "stop who has it, or take another with --%s", option);
    dr_say(d, name, OT_CHECK_FAIL, fix, "%s%s%s", err.msg, known ? "; it is taken by " : "",
           known ? owner : "");
}

/* A socket's file in use would be replaced by trying it. */
void dr_ports(doctor *d)
{
    if (!d->o->listen.is_unix) {
        say_port(d, "ports.listen", "listen", &d->o->listen);
    }
    if (!d->o->control.is_unix) {
        say_port(d, "ports.control", "control", &d->o->control);
    }
}
