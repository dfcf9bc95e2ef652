#include "cli/handover.h"

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const names[OT_HANDOVER_CHILDREN] = {"serve", "control"};

/* --- the JSON text -----------------------------------------------------------------------------
 */

static ot_rc get_int(const json_t *o, const char *key, int least, int *out, ot_error *err)
{
    const json_t *v = json_object_get(o, key);
    json_int_t x = json_integer_value(v);
    if (!json_is_integer(v) || x < least || x > INT_MAX) {
        return ot_fail(err, OT_INVALID, "hand-over: '%s' is no number from %d up", key, least);
    }
    *out = (int)x;
    return OT_OK;
}

static ot_rc get_text(const json_t *o, const char *key, char *out, size_t size, ot_error *err)
{
    const char *s = json_string_value(json_object_get(o, key));
    if (s == NULL || strlen(s) >= size) {
        return ot_fail(err, OT_INVALID, "hand-over: '%s' is no text of up to %zu bytes", key,
                       size - 1);
    }
    memcpy(out, s, strlen(s) + 1);
    return OT_OK;
}

static ot_rc get_listener(const json_t *o, const char *key, int *fd, char addr[300], ot_error *err)
{
    const json_t *l = json_object_get(o, key);
    OT_TRY(get_int(l, "fd", 0, fd, err));
    return get_text(l, "address", addr, 300, err);
}

static ot_rc get_more(const json_t *o, ot_handover *h, ot_error *err)
{
    const json_t *list = json_object_get(o, "more");
    h->n_more = json_array_size(list); /* absent: none */
    if (h->n_more > OT_COUNT(h->more)) {
        return ot_fail(err, OT_INVALID, "hand-over: %zu listeners more; %zu are the most",
                       h->n_more, OT_COUNT(h->more));
    }
    for (size_t i = 0; i < h->n_more; i++) {
        const json_t *l = json_array_get(list, i);
        OT_TRY(get_int(l, "fd", 0, &h->more[i].fd, err));
        h->more[i].tls = json_is_true(json_object_get(l, "tls"));
    }
    return OT_OK;
}

static ot_rc get_children(const json_t *o, ot_handover *h, ot_error *err)
{
    const json_t *list = json_object_get(o, "children");
    for (size_t i = 0; i < OT_HANDOVER_CHILDREN; i++) {
        const json_t *c = json_object_get(list, names[i]);
        ot_supervise_running *r = &h->children[i];
        OT_TRY(get_int(c, "pid", 0, &r->pid, err));
        OT_TRY(get_int(c, "channel", -1, &r->channel, err));
        r->ready = json_is_true(json_object_get(c, "ready"));
        r->stays = json_is_true(json_object_get(c, "stays"));
    }
    return OT_OK;
}

static ot_rc get_all(const json_t *o, ot_handover *h, ot_error *err)
{
    int version;
    OT_TRY(get_int(o, "handover", 1, &version, err));
    if (version > OT_HANDOVER_VERSION) {
        return ot_fail(err, OT_INVALID, "hand-over: it is version %d; this program knows up to %d",
                       version, OT_HANDOVER_VERSION);
    }
    OT_TRY(get_text(o, "version", h->version, sizeof h->version, err));
    OT_TRY(get_int(o, "lock", 0, &h->lock, err));
    OT_TRY(get_listener(o, "inference", &h->inference, h->inference_addr, err));
    OT_TRY(get_listener(o, "control", &h->control, h->control_addr, err));
    OT_TRY(get_text(o, "why", h->why, sizeof h->why, err));
    h->again = json_is_true(json_object_get(o, "again"));
    OT_TRY(get_more(o, h, err));
    return get_children(o, h, err);
}

ot_rc ot_handover_parse(const char *json, size_t n, ot_handover *out, ot_error *err)
{
    json_error_t e;
    json_t *o = json_loadb(json, n, JSON_REJECT_DUPLICATES, &e);
    if (o == NULL) {
        return ot_fail(err, OT_INVALID, "hand-over: not JSON: %s", e.text);
    }
    ot_handover h = {0};
    ot_rc rc = get_all(o, &h, err);
    json_decref(o);
    if (rc == OT_OK) {
        *out = h;
    }
    return rc;
}

static json_t *child_json(const ot_supervise_running *r)
{
    return json_pack("{s:i,s:i,s:b,s:b}", "pid", r->pid, "channel", r->channel, "ready",
                     (int)r->ready, "stays", (int)r->stays);
}

static json_t *more_json(const ot_handover *h)
{
    json_t *list = json_array();
    for (size_t i = 0; i < h->n_more && list != NULL; i++) {
        json_t *l = json_pack("{s:i,s:b}", "fd", h->more[i].fd, "tls", (int)h->more[i].tls);
        if (json_array_append_new(list, l) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

ot_rc ot_handover_write(const ot_handover *h, int *memory_out, ot_error *err)
{
    json_t *o = json_pack("{s:i,s:s,s:i,s:{s:i,s:s},s:{s:i,s:s},s:s,s:b,s:o,s:{s:o,s:o}}",
                          "handover", OT_HANDOVER_VERSION, "version", OT_VERSION, "lock", h->lock,
                          "inference", "fd", h->inference, "address", h->inference_addr, "control",
                          "fd", h->control, "address", h->control_addr, "why", h->why, "again",
                          (int)h->again, "more", more_json(h), "children", names[0],
                          child_json(&h->children[0]), names[1], child_json(&h->children[1]));
    char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "hand-over: no memory, or a path that is not UTF-8");
    }
    int fd = memfd_create("overtake-handover", MFD_CLOEXEC);
    size_t n = strlen(text);
    bool whole = fd >= 0 && write(fd, text, n) == (ssize_t)n;
    int saved = errno;
    free(text);
    if (!whole) {
        ot_fd_close(&fd);
        return ot_fail_errno(err, saved, "hand-over: a file in memory");
    }
    *memory_out = fd;
    return OT_OK;
}

/* --- taking it over ----------------------------------------------------------------------------
 */

ot_rc ot_handover_find(ot_handover_kind *kind_out, int *memory_out, int *binary_out, ot_error *err)
{
    const char *v = getenv(OT_HANDOVER_ENV);
    int memory, binary, n = 0;
    *memory_out = *binary_out = -1;
    *kind_out = OT_HANDOVER_NONE;
    if (v == NULL) {
        return OT_OK;
    }
    if (sscanf(v, "check:%d", &memory) == 1) {
        *kind_out = OT_HANDOVER_CHECK;
        *memory_out = memory;
    } else if (sscanf(v, "%d:%d%n", &memory, &binary, &n) == 2 &&
               (v[n] == 0 || strcmp(v + n, ":unread") == 0)) {
        *kind_out = v[n] == 0 ? OT_HANDOVER_GIVEN : OT_HANDOVER_UNREAD;
        *memory_out = memory;
        *binary_out = binary;
    } else {
        return ot_fail(err, OT_INVALID, "%s='%.100s': it is MEMORY:BINARY, two descriptors",
                       OT_HANDOVER_ENV, v);
    }
    (void)unsetenv(OT_HANDOVER_ENV);
    return OT_OK;
}

static void keep(int fd, bool on)
{
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFD, on ? 0 : FD_CLOEXEC);
    }
}

void ot_handover_keep(const ot_handover *h, bool on)
{
    keep(h->lock, on);
    keep(h->inference, on);
    keep(h->control, on);
    for (size_t i = 0; i < h->n_more; i++) {
        keep(h->more[i].fd, on);
    }
    for (size_t i = 0; i < OT_HANDOVER_CHILDREN; i++) {
        keep(h->children[i].channel, on);
    }
}

static bool listens(int fd)
{
    int on = 0;
    socklen_t len = sizeof on;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on != 0;
}

static ot_rc check(const ot_handover *h, ot_error *err)
{
    if (fcntl(h->lock, F_GETFD) < 0) {
        return ot_fail(err, OT_INVALID, "hand-over: the lock, descriptor %d, is not open", h->lock);
    }
    if (!listens(h->inference) || !listens(h->control)) {
        return ot_fail(err, OT_INVALID, "hand-over: descriptors %d and %d do not both listen",
                       h->inference, h->control);
    }
    for (size_t i = 0; i < h->n_more; i++) {
        if (!listens(h->more[i].fd)) {
            return ot_fail(err, OT_INVALID, "hand-over: descriptor %d does not listen",
                           h->more[i].fd);
        }
    }
    for (size_t i = 0; i < OT_HANDOVER_CHILDREN; i++) {
        siginfo_t si;
        pid_t pid = h->children[i].pid;
        if (pid > 0 && waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) != 0) {
            return ot_fail(err, OT_INVALID, "hand-over: %s, process %d, is not our child", names[i],
                           (int)pid);
        }
    }
    return OT_OK;
}

ot_rc ot_handover_read(int memory, ot_handover *out, ot_error *err)
{
    OT_AUTO(ot_free_ptr) char *text = ot_alloc(OT_HANDOVER_BYTES_MAX);
    if (text == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "hand-over: no memory");
    }
    ssize_t n = pread(memory, text, OT_HANDOVER_BYTES_MAX, 0);
    if (n < 0) {
        return ot_fail_errno(err, errno, "hand-over: descriptor %d", memory);
    }
    return ot_handover_parse(text, (size_t)n, out, err);
}

ot_rc ot_handover_take(int memory, ot_handover *out, ot_error *err)
{
    ot_handover h;
    OT_TRY(ot_handover_read(memory, &h, err));
    OT_TRY(check(&h, err));
    ot_handover_keep(&h, false);
    *out = h;
    return OT_OK;
}
