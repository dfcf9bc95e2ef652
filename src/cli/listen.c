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

ot_rc ot_cli_listen_more(const ot_args *args, ot_cli_listeners *l, ot_error *err)
{
    const char *const *compat;
    size_t n = ot_args_list(args, "compat", &compat);
    OT_TRY(open_given(l, args, "listen-tls", true, err));
    for (size_t i = 0; i < n; i++) {
        OT_TRY(open_compat(l, ot_args_str(args, "compat-host"), compat[i], err));
    }
    return OT_OK;
}

static ot_rc open_all(ot_cli_listeners *l, const ot_args *args, ot_error *err)
{
    OT_TRY(open_given(l, args, "listen", false, err));
    OT_TRY(ot_cli_listen_more(args, l, err));
    if (l->n == 0) {
        ot_addr addr;
        OT_TRY(ot_addr_parse(DEFAULT_LISTEN, &addr, err));
        OT_TRY(open_one(l, &addr, false, err));
    }
    return OT_OK;
}

static ot_rc take_given(ot_cli_listeners *l, const char *const *values, size_t n, ot_error *err)
{
    l->given = true;
    for (size_t i = 0; i < n; i++) {
        int fd, end = 0;
        bool read = sscanf(values[i], "%d%n", &fd, &end) == 1 && fd >= 0;
        bool tls = read && strcmp(values[i] + end, ":tls") == 0;
        if (!read || (!tls && values[i][end] != '\0') || l->n == OT_SERVE_LISTENERS_MAX) {
            return ot_fail(err, OT_INVALID, "--listen-fd: '%s' is not FD or FD:tls", values[i]);
        }
        ot_sock_nonblock(fd, true);
        l->fds[l->n++] = (ot_serve_listener){.fd = fd, .tls = tls};
    }
    return OT_OK;
}

ot_rc ot_cli_listen(const ot_args *args, ot_cli_listeners *out, ot_error *err)
{
    const char *const *given;
    size_t n = ot_args_list(args, "listen-fd", &given);
    *out = (ot_cli_listeners){0};
    ot_rc rc = n > 0 ? take_given(out, given, n, err) : open_all(out, args, err);
    if (rc != OT_OK) {
        ot_cli_unlisten(out);
    }
    return rc;
}

ot_tls_files ot_cli_tls_files(const ot_args *args)
{
    return (ot_tls_files){.cert = ot_args_str(args, "tls-cert"),
                          .key = ot_args_str(args, "tls-key"),
                          .client_ca = ot_args_str(args, "tls-client-ca")};
}

void ot_cli_unlisten(ot_cli_listeners *l)
{
    for (size_t i = 0; i < l->n && !l->given; i++) {
        ot_fd_close(&l->fds[i].fd);
    }
    l->n = 0;
}

void ot_cli_listener_url(const ot_cli_listener *l, char out[320])
{
    char text[300];
    ot_addr_format(&l->addr, text);
    snprintf(out, 320, "%s%s", l->tls ? "https://" : l->addr.is_unix ? "" : "http://", text);
}

void ot_cli_announce(const ot_args *args, const ot_cli_listeners *l)
{
    for (size_t i = 0; i < l->n && !l->given; i++) {
        char text[320];
        if (ot_args_json(args)) {
            ot_addr_format(&l->named[i].addr, text);
            printf("{\"listening\": \"%s\"%s}\n", text, l->named[i].tls ? ", \"tls\": true" : "");
        } else {
            ot_cli_listener_url(&l->named[i], text);
            printf("listening on %s\n", text);
        }
    }
    fflush(stdout);
}
