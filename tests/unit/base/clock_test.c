#include "base/clock.h"

#include "tap.h"

#include <stdlib.h>
#include <time.h>

struct fake {
    uint64_t mono, slept;
    int64_t wall;
};

static uint64_t fake_mono(void *self)
{
    return ((struct fake *)self)->mono;
}

static int64_t fake_wall(void *self)
{
    return ((struct fake *)self)->wall;
}

static void fake_sleep(void *self, uint64_t us)
{
    ((struct fake *)self)->slept += us;
}

int main(void)
{
    uint64_t a = ot_clock_mono_ns();
    ot_clock_sleep_us(2000);
    uint64_t b = ot_clock_mono_ns();
    ok(b - a >= 2000000, "sleep lasts at least as long as asked");
    ok(ot_clock_wall_us() > 1700000000000000, "the wall clock is in microseconds since 1970");
    setenv("TZ", "XXX-5:30", 1);
    tzset();
    is_int(ot_clock_local_offset_us(1700000000000000), 19800000000, "local time is ahead of UTC");
    setenv("TZ", "UTC", 1);
    tzset();
    is_int(ot_clock_local_offset_us(1700000000000000), 0, "or is UTC");
    struct fake f = {.mono = 5, .wall = -7};
    ot_clock_source src = {fake_mono, fake_wall, fake_sleep, &f};
    ot_clock_install(&src);
    is_int(ot_clock_mono_ns(), 5, "installed monotonic clock");
    is_int(ot_clock_wall_us(), -7, "installed wall clock");
    ot_clock_sleep_us(3600000000);
    is_int(f.slept, 3600000000, "installed sleep takes no time");
    ot_clock_install(NULL);
    ok(ot_clock_mono_ns() >= b, "the system's clock is back");
    return tap_done();
}
