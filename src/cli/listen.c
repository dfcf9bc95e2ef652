#include "cli/listen.h"

#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"

#include <stdio.h>
#include <string.h>

#define BACKLOG 4096
#define DEFAULT_LISTEN "127.0.0.1:8000"

static ot_rc open_one(ot_cli_listeners *l, const ot_addr *addr, bool tls, ot_error *err)
{
    if (l->n == OT_SERVE_LISTENERS_MAX) {
        return ot_fail(err, OT_INVALID, "more than %d addresses to listen on",
                       OT_SERVE_LISTENERS_MAX);
    }
    int fd;
    OT_TRY(ot_sock_listen(addr, BACKLOG, &fd, err));
    ot_sock_nonblock(fd, true);
    ot_cli_listener *named = &l->named[l->n];
    *named = (ot_cli_listener){.addr = *addr, .tls = tls};
    if (!addr->is_unix) {
        named->addr.port = ot_sock_port(fd);
    }
    l->fds[l->n++] = (ot_serve_listener){.fd = fd, .tls = tls};
    return OT_OK;
}

static ot_rc open_given(ot_cli_listeners *l, const ot_args *args, const char *option, bool tls,
                        ot_error *err)
{
    const char *const *values;
    size_t n = ot_args_list(args, option, &values);
    for (size_t i = 0; i < n; i++) {
        ot_addr addr;
        OT_TRY(ot_addr_parse(values[i], &addr, err));
        OT_TRY(open_one(l, &addr, tls, err));
    }
    return OT_OK;
}

static const struct {
    const char *name;
    uint16_t ports[3]; /* 0: no more */
} servers[] = {{"triton", {8000, 8001, 8002}}, {"tfserving", {8500, 8501, 0}}};

/* What it calls one port for REST and another for gRPC: here each speaks both. */
static ot_rc open_compat(ot_cli_listeners *l, const char *host, const char *name, ot_error *err)
{
    size_t which = 0;
    while (which < OT_COUNT(servers) && strcmp(servers[which].name, name) != 0) {
        which++;
    }
    if (which == OT_COUNT(servers)) {
        return ot_fail(err, OT_INVALID, "--compat: '%s' is not known; triton or tfserving", name);
    }
    ot_addr addr = {0};
    if (strlen(host) >= sizeof addr.host) {
        return ot_fail(err, OT_INVALID, "--compat-host: '%s' is too long", host);
    }
    memcpy(addr.host, host, strlen(host));
    for (size_t i = 0; i < OT_COUNT(servers[0].ports) && servers[which].ports[i] != 0; i++) {
        addr.port = servers[which].ports[i];
        bool open = false;
        for (size_t k = 0; k < l->n; k++) {
            open |=
                l->named[k].addr.port == addr.port && strcmp(l->named[k].addr.host, addr.host) == 0;
        }
        if (!open) {
            OT_TRY(open_one(l, &addr, false, err));
        }
    }
    return OT_OK;
}

static ot_rc open_all(ot_cli_listeners *l, const ot_args *args, ot_error *err)
{
    const char *const *compat;
    size_t n = ot_args_list(args, "compat", &compat);
    OT_TRY(open_given(l, args, "listen", false, err));
    OT_TRY(open_given(l, args, "listen-tls", true, err));
    for (size_t i = 0; i < n; i++) {
        OT_TRY(open_compat(l, ot_args_str(args, "compat-host"), compat[i], err));
    }
    if (l->n == 0) {
        ot_addr addr;
        OT_TRY(ot_addr_parse(DEFAULT_LISTEN, &addr, err));
        OT_TRY(open_one(l, &addr, false, err));
    }
    return OT_OK;
}

ot_rc ot_cli_listen(const ot_args *args, ot_cli_listeners *out, ot_error *err)
{
    out->n = 0;
    ot_rc rc = open_all(out, args, err);
    if (rc != OT_OK) {
        ot_cli_unlisten(out);
    }
    return rc;
}

void ot_cli_unlisten(ot_cli_listeners *l)
{
    for (size_t i = 0; i < l->n; i++) {
        ot_fd_close(&l->fds[i].fd);
    }
    l->n = 0;
}

void ot_cli_announce(const ot_args *args, const ot_cli_listeners *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const ot_cli_listener *named = &l->named[i];
        char text[300];
        ot_addr_format(&named->addr, text);
        const char *scheme = named->tls ? "https://" : named->addr.is_unix ? "" : "http://";
        if (ot_args_json(args)) {
            printf("{\"listening\": \"%s\"%s}\n", text, named->tls ? ", \"tls\": true" : "");
        } else {
            printf("listening on %s%s\n", scheme, text);
        }
    }
    fflush(stdout);
}
