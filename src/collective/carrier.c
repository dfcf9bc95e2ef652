#include "collective/carrier_internal.h"

#include "base/clock.h"
#include "base/disk.h"
#include "base/mem.h"
#include "collective/kernel.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NAME_MAX_CHARS 32
#define ABANDON_US 200000 /* a turn of the engine takes some milliseconds */

static void reduce(int32_t reduction, int32_t dtype, void *out, const void *a, const void *b,
                   uint64_t n)
{
    ot_kernel_reduce((overtake_reduction)reduction, (overtake_dtype)dtype, out, a, b, n);
}

static const overtake_engine_host host = {.struct_size = sizeof host, .reduce = reduce};

const char *ot_carrier_wanted(void)
{
    const char *name = getenv("OVERTAKE_ENGINE");
    return name != NULL && name[0] != 0 ? name : OT_CARRIER_BUILT_IN;
}

/* Beside what this code is in. */
static ot_rc find(const char *wanted, char path[OT_PATH_MAX], ot_error *err)
{
    Dl_info info;
    if (strchr(wanted, '/') != NULL) {
        int n = snprintf(path, OT_PATH_MAX, "%s", wanted);
        return n < OT_PATH_MAX ? OT_OK : ot_fail(err, OT_RANGE, "'%.80s...' is too long", wanted);
    }
    if (wanted[0] == 0 || strlen(wanted) >= NAME_MAX_CHARS ||
        strspn(wanted, "abcdefghijklmnopqrstuvwxyz0123456789"
                       "_") != strlen(wanted)) {
        return ot_fail(err, OT_INVALID,
                       "engine '%.40s': a name is small letters, digits and '_': overtake, mpi",
                       wanted);
    }
    const char *self = dladdr(&host, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : "";
    const char *slash = strrchr(self, '/');
    snprintf(path, OT_PATH_MAX, "%.*slibovertake_%s.so",
             slash != NULL ? (int)(slash + 1 - self) : 0, self, wanted);
    return OT_OK;
}

static ot_rc open_engine(const char *wanted, const overtake_engine **out, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(find(wanted, path, err));
    if (!ot_disk_exists(ot_disk_posix(), path)) {
        return ot_fail(err, OT_NOT_FOUND,
                       "engine '%.40s': there is no %s. It is built where its library's headers "
                       "are (mpi: Debian's libopenmpi-dev), by `make`; the engine 'overtake' needs "
                       "none",
                       wanted, path);
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        return ot_fail(err, OT_NOT_FOUND,
                       "engine '%.40s': %.300s. Install the library that it was built with (mpi: "
                       "Debian's openmpi-bin), or use the engine 'overtake'",
                       wanted, dlerror());
    }
    union {
        void *p;
        const overtake_engine *(*f)(void);
    } get = {.p = dlsym(handle, "overtake_engine_get")};
    const overtake_engine *e = get.p != NULL ? get.f() : NULL;
    if (e == NULL || e->struct_size < sizeof *e || e->abi != OVERTAKE_ENGINE_ABI) {
        return ot_fail(err, OT_INVALID,
                       "engine '%.40s': %s is no engine for this version of Overtake (ABI %u)",
                       wanted, path, OVERTAKE_ENGINE_ABI);
    }
    *out = e;
    return OT_OK;
}

static ot_rc make(const overtake_engine *e, ot_carrier **out, ot_error *err)
{
    pthread_condattr_t monotonic;
    ot_carrier *c = ot_calloc(1, sizeof *c);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c == NULL || fd < 0) {
        int saved = errno;
        ot_free(c);
        ot_fd_close(&fd);
        return ot_fail_errno(err, saved, "engine '%s'", e->name);
    }
    c->engine = e;
    c->fd = fd;
    c->started_end = &c->started;
    c->done_end = &c->done;
    snprintf(c->name, sizeof c->name, "%s %s", e->name, e->version);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *out = c;
    return OT_OK;
}

ot_rc ot_carrier_load(const char *wanted, int32_t size, ot_carrier **out, ot_error *err)
{
    char message[OVERTAKE_MESSAGE_SIZE] = "";
    const overtake_engine *e = NULL;
    *out = NULL;
    if (strcmp(wanted, OT_CARRIER_BUILT_IN) == 0) {
        return OT_OK;
    }
    OT_TRY(open_engine(wanted, &e, err));
    int rc = e->check(size, message, sizeof message);
    return rc == 0 ? make(e, out, err)
                   : ot_fail(err, (ot_rc)rc, "engine '%s': %s", e->name, message);
}

void ot_carrier_unload(ot_carrier *c)
{
    if (c == NULL) {
        return;
    }
    if (c->joined) {
        bool well = c->open == 0 && c->why.rc == OT_OK && !c->stop;
        if (!ot_carrier_thread_stop(c, ABANDON_US)) {
            pthread_detach(c->thread);
            return; /* it may still come out of the engine */
        }
        pthread_join(c->thread, NULL);
        if (well) {
            c->engine->leave();
        }
    }
    ot_fd_close(&c->fd);
    pthread_cond_destroy(&c->change);
    pthread_mutex_destroy(&c->lock);
    ot_free(c);
}

const char *ot_carrier_name(const ot_carrier *c)
{
    return c != NULL ? c->name : OT_CARRIER_BUILT_IN;
}

ot_rc ot_carrier_join(ot_carrier *c, int32_t rank, int32_t size, int32_t lanes, ot_error *err)
{
    char message[OVERTAKE_MESSAGE_SIZE] = "";
    int rc = c->engine->join(&host, rank, size, lanes, message, sizeof message);
    if (rc != 0) {
        return ot_fail(err, (ot_rc)rc, "engine '%s': %s", c->name, message);
    }
    OT_TRY(ot_carrier_thread_start(c, err));
    c->joined = true;
    return OT_OK;
}

int ot_carrier_fd(const ot_carrier *c)
{
    return c->fd;
}

static overtake_engine_call call_of(const ot_coll_shape *s, uint8_t dtype, uint8_t reduction)
{
    bool average = reduction == OVERTAKE_AVERAGE;
    return (overtake_engine_call){.struct_size = sizeof(overtake_engine_call),
                                  .kind = (int32_t)s->kind,
                                  .dtype = dtype,
                                  .reduction = average ? OVERTAKE_SUM : reduction,
                                  .root = s->root,
                                  .elem_bytes = s->elem_bytes,
                                  .count = s->count,
                                  .counts = s->counts,
                                  .sends = s->sends,
                                  .recvs = s->recvs};
}

bool ot_carrier_takes(const ot_carrier *c, const ot_coll_shape *shape, uint8_t dtype,
                      uint8_t reduction)
{
    overtake_engine_call call = call_of(shape, dtype, reduction);
    return c->engine->takes(&call) == 1;
}

static const uint64_t *keep(uint64_t **room, const uint64_t *counts, size_t n)
{
    uint64_t *to = *room;
    if (counts == NULL) {
        return NULL;
    }
    memcpy(to, counts, n * sizeof *to);
    *room += n;
    return to;
}

ot_rc ot_carrier_start(ot_carrier *c, int32_t lane, const ot_coll_shape *shape, uint8_t dtype,
                       uint8_t reduction, const void *in, void *out, void *user, ot_error *err)
{
    size_t n = (size_t)shape->size;
    ot_carry *x = ot_alloc(sizeof *x + 3 * n * sizeof x->counts[0]);
    if (x == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "engine '%s': out of memory", c->name);
    }
    uint64_t *room = x->counts;
    *x = (ot_carry){.lane = lane, .user = user, .call = call_of(shape, dtype, reduction)};
    x->call.in = in;
    x->call.out = out;
    x->call.counts = keep(&room, shape->counts, n);
    x->call.sends = keep(&room, shape->sends, n);
    x->call.recvs = keep(&room, shape->recvs, n);
    c->open++;
    pthread_mutex_lock(&c->lock);
    *c->started_end = x;
    c->started_end = &x->next;
    pthread_cond_broadcast(&c->change);
    pthread_mutex_unlock(&c->lock);
    return OT_OK;
}

void ot_carrier_hurry(ot_carrier *c)
{
    pthread_mutex_lock(&c->lock);
    c->hurried++;
    c->hurry_ns = ot_clock_mono_ns();
    pthread_cond_broadcast(&c->change);
    pthread_mutex_unlock(&c->lock);
}

ot_rc ot_carrier_turn(ot_carrier *c, bool (*done)(void *user), ot_error *err)
{
    size_t hurried = 0;
    uint64_t n;
    while (read(c->fd, &n, sizeof n) < 0 && errno == EINTR) {
    }
    pthread_mutex_lock(&c->lock);
    ot_carry *list = c->stop ? NULL : c->done;
    ot_error why = c->why;
    bool failed = why.rc != OT_OK && !c->stop;
    c->done = NULL;
    c->done_end = &c->done;
    c->stop |= failed;
    pthread_mutex_unlock(&c->lock);
    for (ot_carry *x = list, *next; x != NULL; x = next) {
        next = x->next;
        hurried += done(x->user);
        ot_free(x);
        c->open--;
    }
    pthread_mutex_lock(&c->lock);
    c->hurried -= hurried;
    pthread_mutex_unlock(&c->lock);
    return failed ? ot_fail(err, why.rc, "%s", why.msg) : OT_OK;
}

void ot_carrier_abandon(ot_carrier *c)
{
    if (c->open > 0) {
        (void)ot_carrier_thread_stop(c, ABANDON_US);
    }
}
