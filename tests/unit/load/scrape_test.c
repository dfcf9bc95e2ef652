#include "load/scrape.h"

#include "tap.h"

#include <math.h>

static const char text[] =
    "# HELP overtake_requests_total x\n"
    "overtake_requests_total{deployment=\"d\",model=\"m\",version=\"1\",role=\"champion\"} 100\n"
    "overtake_requests_total{deployment=\"d\",model=\"m\",version=\"2\",role=\"canary\"} 7\n"
    "other_metric{a=\"x\\\"}\"} 5 1700000000000\n"
    "overtake_answers_total{class=\"5xx\"} 3\n"
    "overtake_request_seconds_bucket{deployment=\"d\",model=\"m\",version=\"1\",le=\"0.001\"} 90\n"
    "overtake_request_seconds_bucket{deployment=\"d\",model=\"m\",version=\"1\",le=\"0.002\"} 99\n"
    "overtake_request_seconds_bucket{deployment=\"d\",model=\"m\",version=\"1\",le=\"+Inf\"} 100\n"
    "overtake_drift_psi{deployment=\"d\",model=\"m\",version=\"1\"} 0.5\n"
    "\n"
    "overtake_ready 1\n";

static void is_bad(const char *line)
{
    static ot_scrape_variant room[OT_SCRAPE_VARIANTS_MAX];
    ot_scrape s = {.v = room, .ready = 7};
    ot_error err;
    ok(ot_scrape_parse(line, strlen(line), &s, &err) == OT_INVALID && s.ready == 7, "%s", err.msg);
}

int main(void)
{
    static ot_scrape_variant room[OT_SCRAPE_VARIANTS_MAX];
    ot_scrape s = {.v = room};
    ot_error err;
    is_int(ot_scrape_parse(text, sizeof text - 1, &s, &err), OT_OK, "a scrape");
    is_int((int)s.n, 2, "two variants");
    is_near(s.v[0].requests, 100, 0, "requests");
    is_str(s.v[1].role, "canary", "role");
    is_near(s.answers[5], 3, 0, "answers by class");
    is_near(s.ready, 1, 0, "ready");
    ok(isnan(s.v[1].drift_psi) && s.v[0].drift_psi == 0.5, "drift, where it is known");
    const ot_scrape_hist *h = &s.v[0].latency;
    is_int((int)h->n, 3, "buckets");
    is_near(ot_scrape_quantile(h, NULL, 0.45), 0.0005, 1e-9, "within a bucket in proportion");
    is_near(ot_scrape_quantile(h, NULL, 0.945), 0.0015, 1e-9, "within the next");
    is_near(ot_scrape_quantile(h, NULL, 1), 0.002, 1e-9, "beyond the last bound: that bound");
    ot_scrape_hist before = *h;
    ok(isnan(ot_scrape_quantile(h, &before, 0.5)), "nothing came in between");
    before.count[0] = 90;
    before.count[1] = 90;
    before.count[2] = 91;
    is_near(ot_scrape_quantile(h, &before, 0.5), 0.0015, 1e-9, "only what came in between");
    is_bad("overtake_ready\n");
    is_bad("overtake_ready x\n");
    is_bad("a{b=\"c} 1\n");
    is_bad("a{b} 1\n");
    is_bad("a{b=\"c\"\n");
    return tap_done();
}
