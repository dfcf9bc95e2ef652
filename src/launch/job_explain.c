#include "launch/job_explain.h"

#include "base/mem.h"
#include "collective/meet.h"

#include <inttypes.h>
#include <stdio.h>

#define LEAST_US 1000 /* an account of less time says nothing */
#define WAITS_SAID 0.05

const char *ot_bound_text(ot_bound b)
{
    static const char *const text[OT_BOUNDS] = {"compute", "wire", "straggler", "input"};
    return (size_t)b < OT_BOUNDS ? text[b] : "unknown";
}

/* Of a rank's own time; they are 1 together. */
static void shares(const ot_account *a, double out[OT_BOUNDS])
{
    double wall = (double)OT_MAX(a->wall, (uint64_t)1);
    double blocked = OT_MIN((double)a->blocked, wall), late = OT_MIN((double)a->late, blocked);
    double input = OT_MIN((double)a->input, wall - blocked);
    out[OT_BOUND_STRAGGLER] = late / wall;
    out[OT_BOUND_WIRE] = (blocked - late) / wall;
    out[OT_BOUND_INPUT] = input / wall;
    out[OT_BOUND_COMPUTE] = (wall - blocked - input) / wall;
}

static bool counts(const ot_pulse *p)
{
    return p->account.wall >= LEAST_US;
}

/* The rank that most of the waiting is for, where that is much and it does not wait as long
 * itself; -1: none. */
static int32_t straggler(const ot_pulse *p, int32_t n)
{
    int32_t best = -1;
    uint64_t all = 0, most = 0, wall = 0;
    for (int32_t r = 0; r < n; r++) {
        all += p[r].account.late;
        wall += p[r].account.wall;
    }
    for (int32_t k = 0; k < n; k++) {
        uint64_t sum = 0;
        for (int32_t r = 0; r < n; r++) {
            sum += p[r].account.late_rank == k ? p[r].account.late_most : 0;
        }
        best = sum > most ? k : best;
        most = OT_MAX(most, sum);
    }
    bool much = 2 * most > all && (double)most > WAITS_SAID * (double)wall;
    return best >= 0 && much && 2 * p[best].account.late * (uint64_t)(n - 1) < most ? best : -1;
}

static void average(const ot_pulse *p, int32_t n, ot_explain *e)
{
    double us = 0, sent = 0, wire = 0, some = 0;
    int32_t all = 0;
    for (int32_t r = 0; r < n; r++) {
        double own[OT_BOUNDS];
        if (!counts(&p[r])) {
            continue;
        }
        shares(&p[r].account, own);
        all++;
        us += (double)p[r].account.wall;
        sent += (double)p[r].bytes_out;
        wire += (double)p[r].account.wire;
        e->steps = OT_MAX(e->steps, p[r].account.steps);
        e->operations = OT_MAX(e->operations, p[r].operations);
        some += r != e->slow_rank;
        for (int b = 0; b < OT_BOUNDS; b++) {
            e->share[b] += r != e->slow_rank ? own[b] : 0;
            e->slow_share[b] = r == e->slow_rank ? own[b] : e->slow_share[b];
        }
    }
    for (int b = 0; b < OT_BOUNDS && some > 0; b++) {
        e->share[b] /= some;
        e->bound = e->share[b] > e->share[e->bound] ? (ot_bound)b : e->bound;
    }
    e->known = some > 0;
    double units = (double)OT_MAX(e->steps > 0 ? e->steps : e->operations, (uint64_t)1);
    us /= OT_MAX(all, 1);
    e->seconds = us / 1e6;
    e->step_us = us / units;
    e->step_bytes = sent / OT_MAX(all, 1) / units;
    e->busy = us > 0 ? OT_MIN(wire / OT_MAX(all, 1) / us, 1.0) : 0;
    e->bytes_per_us = wire > 0 ? sent / wire : 0;
}

/* What --wire auto is predicted to save: of what is not hidden the share by which it makes the sums
 * shorter, and no more than it makes them shorter. */
static void predict(const ot_pulse *p, int32_t n, const ot_settings *s, ot_explain *e)
{
    const ot_link_cost *link = e->hosts > 1 ? &s->cost.remote : &s->cost.local;
    double exact = 0, lossy = 0, steps = 0;
    if (!link->measured || e->ranks < 2 || e->step_bytes < 4096) {
        return;
    }
    e->link_us = e->step_bytes / link->bytes_per_us;
    for (int32_t r = 0; r < n; r++) {
        exact += (double)p[r].account.exact;
        lossy += (double)p[r].account.lossy;
        steps += (double)(e->steps > 0 ? p[r].account.steps : p[r].operations);
    }
    if (s->loss == OT_LOSS_NONE && steps > 0 && lossy < exact) {
        e->auto_saves_us = OT_MIN(e->share[OT_BOUND_WIRE] * e->step_us * (1 - lossy / exact),
                                  (exact - lossy) / steps);
    }
}

void ot_job_explain(const ot_pulse *p, const int32_t *hosts, int32_t n, const ot_settings *s,
                    ot_explain *out)
{
    ot_explain e = {.ranks = n, .slow_rank = straggler(p, n)};
    for (int32_t r = 0; r < n; r++) {
        bool first = true;
        for (int32_t k = 0; k < r && first; k++) {
            first = hosts[k] != hosts[r];
        }
        e.hosts += first;
    }
    average(p, n, &e);
    predict(p, n, s, &e);
    *out = e;
}

static void add_time(ot_str *out, double us)
{
    ot_str_addf(out, us < 1e4 ? "%.2f ms" : us < 1e6 ? "%.1f ms" : "%.0f ms", us / 1e3);
}

static void add_share(ot_str *out, const ot_explain *e, ot_bound b, const char *what)
{
    char line[64];
    snprintf(line, sizeof line, "  %-10s%5.1f%%  ", ot_bound_text(b), e->share[b] * 100);
    ot_str_adds(out, line);
    add_time(out, e->share[b] * e->step_us);
    ot_str_addf(out, "  %s", what);
}

static void add_wire(const ot_explain *e, const ot_settings *s, ot_str *out)
{
    char bytes[32], rate[32];
    const char *unit = e->steps > 0 ? "step" : "operation";
    add_share(out, e, OT_BOUND_WIRE, "not hidden behind anything");
    ot_str_addf(out, "; operations are under way %.0f%% of the time; %s sent a %s and rank",
                e->busy * 100, ot_format_size((uint64_t)e->step_bytes, bytes), unit);
    if (e->bytes_per_us > 0) {
        ot_str_addf(out, ", %s/s meanwhile",
                    ot_format_size((uint64_t)(e->bytes_per_us * 1e6), rate));
    }
    ot_str_addf(out, "\n            a faster network would save at most ");
    add_time(out, e->share[OT_BOUND_WIRE] * e->step_us);
    ot_str_addf(out, " a %s", unit);
    if (e->link_us > 0) {
        ot_str_adds(out, "; the bytes alone take ");
        add_time(out, e->link_us);
        ot_str_adds(out, " on the link as it was measured");
    }
    if (e->auto_saves_us > 0) {
        ot_str_adds(out, "; --wire auto is predicted to save ");
        add_time(out, e->auto_saves_us);
    } else if (e->link_us <= 0) {
        ot_str_adds(out, "; what --wire auto would save is known once the links are measured: "
                         "overtake tune, then --links");
    } else if (s->loss == OT_LOSS_NONE) {
        ot_str_adds(out, "; --wire auto is predicted to save nothing");
    }
    ot_str_adds(out, "\n");
}

static void add_straggler(const ot_explain *e, const char *host, ot_str *out)
{
    const double *own = e->slow_share;
    if (e->slow_rank < 0) {
        add_share(out, e, OT_BOUND_STRAGGLER,
                  "waiting for others that are late, now one, now "
                  "another\n");
        return;
    }
    add_share(out, e, OT_BOUND_STRAGGLER, "");
    ot_str_addf(out,
                "waiting for rank %" PRId32 " (host %s), which computes %.0f%% of its time and "
                "waits for input %.0f%%\n",
                e->slow_rank, host, own[OT_BOUND_COMPUTE] * 100, own[OT_BOUND_INPUT] * 100);
    ot_str_adds(out, "            were it as fast as the others, that would save at most ");
    add_time(out, e->share[OT_BOUND_STRAGGLER] * e->step_us);
    ot_str_adds(out, own[OT_BOUND_INPUT] > own[OT_BOUND_COMPUTE]
                         ? ": look at its input\n"
                         : ": look at what else runs on its host, and at its share of the work\n");
}

void ot_job_explain_text(const ot_explain *e, const ot_settings *s, const char *host, ot_str *out)
{
    const char *unit = e->steps > 0 ? "step" : "operation";
    if (!e->known) {
        ot_str_adds(out, "overtake run: explain: the ranks have done too little together to say "
                         "what bounds them\n");
        return;
    }
    ot_str_addf(
        out, "overtake run: what bounds a %s is the %s (%" PRId32 " ranks, %" PRIu64 " %ss of ",
        unit, ot_bound_text(e->bound), e->ranks, e->steps > 0 ? e->steps : e->operations, unit);
    add_time(out, e->step_us);
    ot_str_addf(out, "; shares of the time%s)\n",
                e->slow_rank >= 0 ? " of all ranks but the straggler" : "");
    add_share(out, e, OT_BOUND_COMPUTE, "the program's own work, and all that is not below\n");
    add_wire(e, s, out);
    add_straggler(e, host, out);
    add_share(out, e, OT_BOUND_INPUT, "waiting for input, as the program says");
    ot_str_adds(out, e->share[OT_BOUND_INPUT] >= WAITS_SAID
                         ? "; a reader that keeps up would save at most that\n"
                         : "\n");
}

void ot_job_explain_json(const ot_explain *e, ot_str *out)
{
    if (!e->known) {
        ot_str_adds(out, "null");
        return;
    }
    ot_str_addf(out, "{\"bound\":\"%s\",\"shares\":{", ot_bound_text(e->bound));
    for (int b = 0; b < OT_BOUNDS; b++) {
        ot_str_addf(out, "%s\"%s\":%.4f", b > 0 ? "," : "", ot_bound_text((ot_bound)b),
                    e->share[b]);
    }
    ot_str_addf(out,
                "},\"ranks\":%" PRId32 ",\"hosts\":%" PRId32 ",\"steps\":%" PRIu64
                ",\"operations\":%" PRIu64 ",\"seconds\":%.3f,\"step_ms\":%.4f"
                ",\"under_way\":%.4f,\"step_bytes\":%.0f,\"bytes_per_s\":%.0f",
                e->ranks, e->hosts, e->steps, e->operations, e->seconds, e->step_us / 1e3, e->busy,
                e->step_bytes, e->bytes_per_us * 1e6);
    ot_str_addf(out, ",\"wire_saves_at_most_ms\":%.4f,\"wire_auto_saves_ms\":%.4f",
                e->share[OT_BOUND_WIRE] * e->step_us / 1e3, e->auto_saves_us / 1e3);
    if (e->link_us > 0) {
        ot_str_addf(out, ",\"link_ms\":%.4f", e->link_us / 1e3);
    }
    if (e->slow_rank >= 0) {
        ot_str_addf(out, ",\"straggler\":{\"rank\":%" PRId32 ",\"compute\":%.4f,\"input\":%.4f}",
                    e->slow_rank, e->slow_share[OT_BOUND_COMPUTE], e->slow_share[OT_BOUND_INPUT]);
    }
    ot_str_adds(out, "}");
}
