/* String tensors. ONNX Runtime takes NUL-terminated strings and gives one run of bytes with
 * offsets; the ABI has length-prefixed elements. */
#include "ort.h"

#include <stdio.h>
#include <string.h>

static uint64_t count_of(const int64_t *dims, int32_t rank)
{
    uint64_t n = 1;
    for (int32_t i = 0; i < rank; i++) {
        n *= (uint64_t)dims[i];
    }
    return n;
}

static uint32_t length_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Points `strings` at NUL-terminated copies in `bytes`, which has the size of all segments plus one
 * and so room for each element's NUL in the place of its length. */
static int32_t copy_strings(const overtake_input *in, uint64_t count, const char **strings,
                            char *bytes, overtake_error *err)
{
    uint64_t k = 0;
    for (uint32_t i = 0; i < in->n_segments; i++) {
        const uint8_t *p = in->segments[i].data;
        uint64_t left = in->segments[i].size_bytes;
        while (left >= 4 && k < count) {
            uint32_t n = length_at(p);
            if (n > left - 4) {
                break;
            }
            if (memchr(p + 4, 0, n) != NULL) {
                return ort_fail(err, OVERTAKE_INVALID,
                                "input '%s' element %llu has a zero byte; ONNX Runtime's strings "
                                "cannot",
                                in->name, (unsigned long long)k);
            }
            memcpy(bytes, p + 4, n);
            bytes[n] = '\0';
            strings[k++] = bytes;
            bytes += n + 1;
            p += 4 + n;
            left -= 4 + n;
        }
        if (left > 0) {
            return ort_fail(err, OVERTAKE_INVALID, "input '%s': broken or too many elements",
                            in->name);
        }
    }
    return k == count ? OVERTAKE_OK
                      : ort_fail(err, OVERTAKE_INVALID, "input '%s': %llu elements of %llu",
                                 in->name, (unsigned long long)k, (unsigned long long)count);
}

int32_t ort_strings_in(const overtake_input *in, ort_value **out, overtake_error *err)
{
    uint64_t count = count_of(in->dims, in->rank), size = 1;
    for (uint32_t i = 0; i < in->n_segments; i++) {
        size += in->segments[i].size_bytes;
    }
    if (count > size / 4) {
        return ort_fail(err, OVERTAKE_INVALID, "input '%s': fewer elements than its shape says",
                        in->name);
    }
    char *block = ort_host->alloc(ort_host->self, count * sizeof(char *) + size);
    if (block == NULL) {
        return ort_fail(err, OVERTAKE_EXHAUSTED, "input '%s': out of memory", in->name);
    }
    const char **strings = (const char **)(void *)block;
    ort_value *value = NULL;
    int32_t rc = copy_strings(in, count, strings, block + count * sizeof(char *), err);
    if (rc == OVERTAKE_OK) {
        rc = ort_check(ort.api.CreateTensorAsOrtValue(ort.allocator, in->dims, (size_t)in->rank,
                                                      ort_type_of(OVERTAKE_DT_BYTES), &value),
                       err, in->name);
    }
    if (rc == OVERTAKE_OK) {
        rc = ort_check(ort.api.FillStringTensor(value, strings, count), err, in->name);
    }
    ort_host->free(ort_host->self, block);
    if (rc != OVERTAKE_OK && value != NULL) {
        ort.api.ReleaseValue(value);
        value = NULL;
    }
    *out = value;
    return rc;
}

int32_t ort_strings_out(const ort_value *value, const overtake_output *shape, void **block,
                        uint64_t *size, overtake_error *err)
{
    size_t count = count_of(shape->dims, shape->rank), n = 0;
    int32_t rc = ort_check(ort.api.GetStringTensorDataLength(value, &n), err, shape->name);
    if (rc != OVERTAKE_OK) {
        return rc;
    }
    /* Text and offsets first, then elements behind them. */
    size_t head = (count + 1) * sizeof(size_t);
    uint8_t *work = ort_host->alloc(ort_host->self, head + n + 1);
    uint8_t *out = ort_host->alloc(ort_host->self, 4 * count + n + 1);
    if (work == NULL || out == NULL) {
        rc = ort_fail(err, OVERTAKE_EXHAUSTED, "output '%s': out of memory", shape->name);
    } else {
        rc = ort_check(
            ort.api.GetStringTensorContent(value, work + head, n, (size_t *)(void *)work, count),
            err, shape->name);
    }
    if (rc == OVERTAKE_OK) {
        size_t *offsets = (size_t *)(void *)work;
        uint8_t *p = out;
        offsets[count] = n;
        for (size_t i = 0; i < count; i++) {
            uint32_t len = (uint32_t)(offsets[i + 1] - offsets[i]);
            for (int b = 0; b < 4; b++) {
                *p++ = (uint8_t)(len >> (8 * b));
            }
            memcpy(p, work + head + offsets[i], len);
            p += len;
        }
        *block = out;
        *size = (uint64_t)(p - out);
    } else {
        ort_host->free(ort_host->self, out);
    }
    ort_host->free(ort_host->self, work);
    return rc;
}
