#include "launch/job_progress.h"

#include "tap.h"

static void progress(const ot_pulse *then, const ot_pulse *now, uint64_t us, char *out, size_t size)
{
    ot_job_rates r = ot_job_rates_of(then, now, 3, us);
    ot_job_progress(&r, 3, out, size);
}

static void test_rates(void)
{
    ot_pulse then[3] = {{.slowest = -1}, {.slowest = -1}, {.slowest = -1}}, now[3];
    char text[256];
    memcpy(now, then, sizeof now);
    progress(then, now, 1000000, text, sizeof text);
    is_str(text, "3 ranks", "nothing yet");
    for (int r = 0; r < 3; r++) {
        then[r].operations = 100;
        now[r].operations = 130;
        now[r].bytes_out = 1u << 20;
    }
    progress(then, now, 2000000, text, sizeof text);
    is_str(text, "3 ranks, 15.0 operations/s, 1.5 MiB/s sent",
           "operations where steps aren't told");
    now[1].steps = 500;
    now[0].samples = now[1].samples = now[2].samples = 32;
    progress(then, now, 2000000, text, sizeof text);
    is_str(text, "3 ranks, 250 steps/s, 48.0 samples/s, 1.5 MiB/s sent", "steps and samples");
    then[0].bytes_out = 1ull << 40; /* it began again */
    progress(then, now, 2000000, text, sizeof text);
    is_str(text, "3 ranks, 250 steps/s, 48.0 samples/s, 1 MiB/s sent", "no rate below nothing");
    progress(then, now, 0, text, sizeof text);
    ok(text[0] != 0, "no time at all: %s", text);
}

static void test_slowest(void)
{
    ot_pulse then[3] = {{.slowest = 2}, {.slowest = 2}, {.slowest = 0}}, now[3];
    char text[256];
    memcpy(now, then, sizeof now);
    now[0].waits_us = 400000;
    now[1].waits_us = 500000;
    now[2].waits_us = 100000;
    progress(then, now, 1000000, text, sizeof text);
    is_str(text, "3 ranks, slowest: rank 2 (others wait 45%)", "rank 2");
    now[1].slowest = 0;
    now[2].waits_us = 450000;
    now[0].slowest = 1;
    now[1].waits_us = 10000;
    progress(then, now, 1000000, text, sizeof text);
    ok(strstr(text, "slowest: rank 0") != NULL, "the most of it: %s", text);
    now[0].waits_us = now[1].waits_us = now[2].waits_us = 10000;
    now[0].slowest = now[1].slowest = 2;
    progress(then, now, 1000000, text, sizeof text);
    is_str(text, "3 ranks", "a little waiting is no news");
}

int main(void)
{
    test_rates();
    test_slowest();
    return tap_done();
}
