#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "codec/tensor.h"
#include "runtime/internal.h"

#include <string.h>

/* The ABI's numbers are the product's own, so that nothing is translated on the hot path. */
#define SAME(a, b) _Static_assert((int)(a) == (int)(b), "the plug-in ABI and " #b " differ")
SAME(OVERTAKE_DT_INVALID, OT_DT_INVALID);
SAME(OVERTAKE_DT_BOOL, OT_DT_BOOL);
SAME(OVERTAKE_DT_UINT8, OT_DT_UINT8);
SAME(OVERTAKE_DT_UINT16, OT_DT_UINT16);
SAME(OVERTAKE_DT_UINT32, OT_DT_UINT32);
SAME(OVERTAKE_DT_UINT64, OT_DT_UINT64);
SAME(OVERTAKE_DT_INT8, OT_DT_INT8);
SAME(OVERTAKE_DT_INT16, OT_DT_INT16);
SAME(OVERTAKE_DT_INT32, OT_DT_INT32);
SAME(OVERTAKE_DT_INT64, OT_DT_INT64);
SAME(OVERTAKE_DT_FP16, OT_DT_FP16);
SAME(OVERTAKE_DT_BF16, OT_DT_BF16);
SAME(OVERTAKE_DT_FP32, OT_DT_FP32);
SAME(OVERTAKE_DT_FP64, OT_DT_FP64);
SAME(OVERTAKE_DT_BYTES, OT_DT_BYTES);
SAME(OVERTAKE_RANK_MAX, OT_RANK_MAX);
SAME(OVERTAKE_OK, OT_OK);
SAME(OVERTAKE_CANCELLED, OT_CANCELLED);
SAME(OVERTAKE_UNKNOWN, OT_UNKNOWN);
SAME(OVERTAKE_INVALID, OT_INVALID);
SAME(OVERTAKE_TIMEOUT, OT_TIMEOUT);
SAME(OVERTAKE_NOT_FOUND, OT_NOT_FOUND);
SAME(OVERTAKE_EXHAUSTED, OT_EXHAUSTED);
SAME(OVERTAKE_PRECONDITION, OT_PRECONDITION);
SAME(OVERTAKE_UNIMPLEMENTED, OT_UNIMPLEMENTED);
SAME(OVERTAKE_INTERNAL, OT_INTERNAL);
SAME(OVERTAKE_UNAVAILABLE, OT_UNAVAILABLE);
SAME(OVERTAKE_DATA_LOSS, OT_DATA_LOSS);
SAME(OVERTAKE_LOG_DEBUG, OT_LOG_DEBUG);
SAME(OVERTAKE_LOG_INFO, OT_LOG_INFO);
SAME(OVERTAKE_LOG_WARN, OT_LOG_WARN);
SAME(OVERTAKE_LOG_ERROR, OT_LOG_ERROR);

static void *host_alloc(void *self, size_t size)
{
    (void)self;
    return ot_alloc(size);
}

static void *host_realloc(void *self, void *p, size_t size)
{
    (void)self;
    return ot_realloc(p, size);
}

static void host_free(void *self, void *p)
{
    (void)self;
    ot_free(p);
}

static void host_log(void *self, int32_t level, const char *component, const char *message)
{
    (void)self;
    if (level < OVERTAKE_LOG_DEBUG || level > OVERTAKE_LOG_ERROR) {
        level = OVERTAKE_LOG_ERROR;
    }
    ot_log((ot_log_level)level, component, "%s", message);
}

static uint64_t host_now_ns(void *self)
{
    (void)self;
    return ot_clock_mono_ns();
}

static int32_t host_find_library(void *self, const overtake_library_query *query, uint32_t index,
                                 char *path_out, size_t cap)
{
    (void)self;
    OT_AUTO(ot_str_done) ot_str all = OT_STR_INIT;
    size_t n = ot_runtime_library_candidates(query, &all);
    if (all.failed) {
        return OVERTAKE_EXHAUSTED;
    }
    if (index >= n) {
        return OVERTAKE_NOT_FOUND;
    }
    const char *at = all.data;
    for (uint32_t i = 0; i < index; i++) {
        at += strlen(at) + 1;
    }
    size_t len = strlen(at) + 1;
    if (len > cap) {
        return OVERTAKE_EXHAUSTED;
    }
    memcpy(path_out, at, len);
    return OVERTAKE_OK;
}

const overtake_host *ot_runtime_host(void)
{
    static const overtake_host host = {
        .struct_size = sizeof host,
        .abi_major = OVERTAKE_ABI_MAJOR,
        .abi_minor = OVERTAKE_ABI_MINOR,
        .alloc = host_alloc,
        .realloc = host_realloc,
        .free = host_free,
        .log = host_log,
        .now_ns = host_now_ns,
        .find_library = host_find_library,
    };
    return &host;
}
