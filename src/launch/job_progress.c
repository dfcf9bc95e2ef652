#include "launch/job_progress.h"

#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>

#define WAITS_SAID 0.05 /* of the time: less is no news */

static uint64_t more(uint64_t then, uint64_t now)
{
    return now > then ? now - then : 0;
}

/* The rank that most of the waiting is for; -1: none. *share_out: of the time, for one rank. */
static int32_t slowest(const ot_pulse *then, const ot_pulse *now, int32_t n, uint64_t us,
                       double *share_out)
{
    int32_t best = -1;
    uint64_t all = 0, most = 0;
    for (int32_t r = 0; r < n; r++) {
        all += more(then[r].waits_us, now[r].waits_us);
    }
    for (int32_t k = 0; k < n; k++) {
        uint64_t sum = 0;
        for (int32_t r = 0; r < n; r++) {
            sum += now[r].slowest == k ? more(then[r].waits_us, now[r].waits_us) : 0;
        }
        best = sum > most ? k : best;
        most = OT_MAX(most, sum);
    }
    *share_out = n > 1 ? (double)most / (double)us / (n - 1) : 0;
    return 2 * most > all && *share_out >= WAITS_SAID ? best : -1;
}

ot_job_rates ot_job_rates_of(const ot_pulse *then, const ot_pulse *now, int32_t n, uint64_t us)
{
    uint64_t steps = 0, operations = 0, samples = 0, bytes = 0;
    us = OT_MAX(us, (uint64_t)1);
    for (int32_t r = 0; r < n; r++) {
        steps = OT_MAX(steps, more(then[r].steps, now[r].steps));
        operations = OT_MAX(operations, more(then[r].operations, now[r].operations));
        samples += more(then[r].samples, now[r].samples);
        bytes += more(then[r].bytes_out, now[r].bytes_out);
    }
    double per_s = 1e6 / (double)us;
    ot_job_rates x = {.steps = (double)steps * per_s,
                      .operations = (double)operations * per_s,
                      .samples = (double)samples * per_s,
                      .bytes = (double)bytes * per_s};
    x.slowest = slowest(then, now, n, us, &x.waits);
    x.waits = x.slowest >= 0 ? OT_MIN(x.waits, 1.0) : 0;
    return x;
}

static void add_rate(ot_str *out, double rate, const char *what)
{
    if (rate > 0) {
        ot_str_addf(out, rate < 100 ? ", %.1f %s/s" : ", %.0f %s/s", rate, what);
    }
}

void ot_job_progress(const ot_job_rates *r, int32_t n, char *out, size_t size)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    char each[32];
    ot_str_addf(&text, "%" PRId32 " ranks", n);
    add_rate(&text, r->steps, "steps");
    add_rate(&text, r->steps > 0 ? 0 : r->operations, "operations");
    add_rate(&text, r->samples, "samples");
    if (r->bytes > 0) {
        ot_str_addf(&text, ", %s/s sent", ot_format_size((uint64_t)r->bytes, each));
    }
    if (r->slowest >= 0) {
        ot_str_addf(&text, ", slowest: rank %" PRId32 " (others wait %.0f%%)", r->slowest,
                    r->waits * 100);
    }
    snprintf(out, size, "%s", text.data);
}
