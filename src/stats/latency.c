/* See latency.h. */
#include "stats/latency.h"

#include "stats/bin.h"

enum { MAGIC = 0x4c48544f /* "OTHL" */, VERSION = 1, EXACT = 64, OCTAVE_FIRST = 6 };

static size_t cell_of(uint64_t ns)
{
    if (ns < EXACT) {
        return (size_t)ns;
    }
    unsigned octave = 63u - (unsigned)__builtin_clzll(ns);
    size_t cell = EXACT + (size_t)(octave - OCTAVE_FIRST) * OT_LATENCY_SUB +
                  (size_t)(ns >> (octave - 5) & (OT_LATENCY_SUB - 1));
    return cell < OT_LATENCY_CELLS ? cell : OT_LATENCY_CELLS - 1;
}

/* The largest duration of a cell. */
static uint64_t cell_end(size_t cell)
{
    if (cell < EXACT) {
        return cell;
    }
    unsigned octave = (unsigned)((cell - EXACT) / OT_LATENCY_SUB) + OCTAVE_FIRST;
    uint64_t sub = (cell - EXACT) % OT_LATENCY_SUB;
    return ((OT_LATENCY_SUB + sub + 1) << (octave - 5)) - 1;
}

void ot_latency_clear(ot_latency *h)
{
    *h = (ot_latency){0};
}

void ot_latency_add(ot_latency *h, uint64_t ns)
{
    uint32_t *c = &h->cells[cell_of(ns)];
    *c += *c < UINT32_MAX;
    h->count++;
    h->sum_ns += ns;
    h->max_ns = ns > h->max_ns ? ns : h->max_ns;
}

void ot_latency_merge(ot_latency *into, const ot_latency *from)
{
    for (size_t i = 0; i < OT_LATENCY_CELLS; i++) {
        uint64_t c = (uint64_t)into->cells[i] + from->cells[i];
        into->cells[i] = c > UINT32_MAX ? UINT32_MAX : (uint32_t)c;
    }
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    into->max_ns = from->max_ns > into->max_ns ? from->max_ns : into->max_ns;
}

uint64_t ot_latency_quantile(const ot_latency *h, double q)
{
    double want = q * (double)h->count;
    double seen = 0;
    if (h->count == 0) {
        return 0;
    }
    for (size_t i = 0; i < OT_LATENCY_CELLS; i++) {
        seen += h->cells[i];
        if (h->cells[i] > 0 && seen >= want) {
            bool last = i == OT_LATENCY_CELLS - 1;
            return last || cell_end(i) > h->max_ns ? h->max_ns : cell_end(i);
        }
    }
    return h->max_ns;
}

double ot_latency_mean_ns(const ot_latency *h)
{
    return h->count > 0 ? (double)h->sum_ns / (double)h->count : 0;
}

uint64_t ot_latency_above(const ot_latency *h, uint64_t ns)
{
    uint64_t n = 0;
    for (size_t i = cell_of(ns) + 1; i < OT_LATENCY_CELLS; i++) {
        n += h->cells[i];
    }
    return n;
}

void ot_latency_write(const ot_latency *h, ot_str *out)
{
    size_t body = bin_record_begin(out, MAGIC, VERSION);
    bin_put_varint(out, h->count);
    bin_put_varint(out, h->sum_ns);
    bin_put_varint(out, h->max_ns);
    size_t next = 0; /* pairs of (cells skipped, count) */
    for (size_t i = 0; i < OT_LATENCY_CELLS; i++) {
        if (h->cells[i] > 0) {
            bin_put_varint(out, i - next);
            bin_put_varint(out, h->cells[i]);
            next = i + 1;
        }
    }
    bin_record_end(out, body);
}

/* Adds what a record holds to `into`, or with NULL only looks whether it is sound. */
static bool add_record(bin_reader r, ot_latency *into, size_t *at_out)
{
    uint64_t count = bin_get_varint(&r), sum = bin_get_varint(&r), max = bin_get_varint(&r);
    for (size_t next = 0; r.at < r.n && !r.failed;) {
        uint64_t skip = bin_get_varint(&r), c = bin_get_varint(&r);
        if (skip >= OT_LATENCY_CELLS - next || c == 0 || c > UINT32_MAX) {
            r.failed = true;
            break;
        }
        next += (size_t)skip;
        if (into != NULL) {
            uint64_t total = into->cells[next] + c;
            into->cells[next] = total > UINT32_MAX ? UINT32_MAX : (uint32_t)total;
        }
        if (++next == OT_LATENCY_CELLS) {
            r.failed |= r.at < r.n;
            break;
        }
    }
    if (into != NULL) {
        into->count += count;
        into->sum_ns += sum;
        into->max_ns = max > into->max_ns ? max : into->max_ns;
    }
    *at_out = r.at;
    return !r.failed;
}

ot_rc ot_latency_merge_record(ot_latency *into, const void *p, size_t n, size_t *used_out,
                              ot_error *err)
{
    bin_reader r = {0};
    size_t used = 0, at = 0;
    OT_TRY(bin_record_open(p, n, MAGIC, VERSION, "latency histogram", &r, &used, err));
    if (!add_record(r, NULL, &at)) {
        return ot_fail(err, OT_INVALID, "latency histogram: malformed at byte %zu", at);
    }
    (void)add_record(r, into, &at);
    if (used_out != NULL) {
        *used_out = used;
    }
    return OT_OK;
}

ot_rc ot_latency_read(ot_latency *h, const void *p, size_t n, size_t *used_out, ot_error *err)
{
    ot_latency x = {0};
    OT_TRY(ot_latency_merge_record(&x, p, n, used_out, err));
    *h = x;
    return OT_OK;
}
