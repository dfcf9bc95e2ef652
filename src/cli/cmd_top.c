/* `overtake top`: replicas, live. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/loads.h"
#include "load/top.h"

#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SLICE_US 50000 /* how soon an interrupt or a new size of the terminal shows */

static volatile sig_atomic_t resized;
static const volatile sig_atomic_t *stop;

static void on_resize(int signo)
{
    (void)signo;
    resized = 1;
}

static unsigned width_of(int fd)
{
    struct winsize w;
    return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

/* False when stdout takes no more. */
static bool show(const ot_args *args, const ot_top *t, bool screen)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (ot_args_json(args)) {
        ot_top_json(t, &out);
    } else {
        ot_str_adds(&out, screen ? "\x1b[H\x1b[2J" : "");
        ot_top_text(t, screen ? width_of(STDOUT_FILENO) : 0, &out);
    }
    return ot_cli_print(&out) == 0;
}

static void wait_for_next(const ot_args *args, const ot_top *t, bool screen, int64_t us)
{
    uint64_t end = ot_clock_mono_ns() + (uint64_t)us * 1000;
    while (!*stop && ot_clock_mono_ns() < end) {
        ot_clock_sleep_us(OT_MIN((uint64_t)SLICE_US, (end - ot_clock_mono_ns()) / 1000 + 1));
        if (resized && screen) {
            resized = 0;
            (void)show(args, t, screen);
        }
    }
}

static int run_top(const ot_args *args)
{
    ot_error err = {0};
    ot_top *t;
    const char *const *urls;
    size_t n = ot_args_many(args, &urls);
    static const char *const here[] = {"127.0.0.1:8000"};
    const ot_load_trust trust = ot_cli_load_trust(args);
    if (ot_top_open(n > 0 ? urls : here, n > 0 ? n : 1, &trust, &t, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    bool once = ot_args_bool(args, "once");
    bool screen = !once && !ot_args_json(args) && isatty(STDOUT_FILENO) != 0;
    stop = ot_cli_load_stop();
    (void)signal(SIGWINCH, on_resize);
    int64_t every = ot_args_us(args, "interval");
    ot_top_refresh(t);
    bool good = !screen || show(args, t, screen); /* totals at once; rates with the next */
    do {
        wait_for_next(args, t, screen, every);
        if (!*stop) {
            ot_top_refresh(t);
            good = show(args, t, screen);
        }
    } while (good && !once && !*stop);
    int code = good && ot_top_answering(t) > 0 ? 0 : 1;
    ot_top_close(t);
    return code;
}

static const ot_opt top_opts[] = {
    {.name = "interval",
     .letter = 'i',
     .type = OT_OPT_DURATION,
     .def = "1s",
     .min = "100ms",
     .max = "1h",
     .help = "time between looks, which figures are taken over"},
    {.name = "once", .type = OT_OPT_BOOL, .help = "one look over one interval, then end"},
    OT_CLI_LOAD_TLS_OPTS,
};

static const ot_pos top_pos[] = {{.name = "REPLICA",
                                  .help = "address of a replica [127.0.0.1:8000]",
                                  .optional = true,
                                  .many = true}};

const ot_command ot_cli_top_command = {
    .group = "Measure",
    .name = "top",
    .summary = "what replicas do now: rates, latencies, shares, queues, errors, drift",
    .detail =
        "On a terminal the picture is drawn anew each interval; else, and with --output json, "
        "each look is printed below the last. It reads /metrics and needs no control plane. "
        "The exit code is 1 when no replica answered.",
    OT_OPTS(top_opts),
    OT_POS(top_pos),
    .run = run_top};
