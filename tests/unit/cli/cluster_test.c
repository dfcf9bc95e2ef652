#include "cli/cluster.h"

#include "base/mem.h"
#include "tap.h"

#include <jansson.h>

static void add(ot_cluster *c, ot_cluster_kind kind, uint64_t bytes, double a, double b, double d)
{
    ot_cluster_figure *f = ot_cluster_add(c, kind, bytes);
    const double us[] = {d, a, b}; /* in no order */
    memcpy(f->us, us, sizeof us);
    f->n = 3;
}

static const ot_cluster_figure *of(const ot_cluster *c, ot_cluster_kind kind, uint64_t bytes)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->figures[i].kind == kind && c->figures[i].bytes == bytes) {
            return &c->figures[i];
        }
    }
    return NULL;
}

static void test_hosts(ot_cluster *c)
{
    *c = (ot_cluster){.ranks = 8, .hosts = 4, .links = ot_cost_default()};
    add(c, OT_CLUSTER_COPY, 1 << 20, 100, 100, 100);
    add(c, OT_CLUSTER_TCP, 100000000, 900000, 1000000, 1100000); /* 100 bytes a us */
    add(c, OT_CLUSTER_TRIP, 1, 180, 200, 260);
    add(c, OT_CLUSTER_BARRIER, 0, 200, 400, 1000);
    add(c, OT_CLUSTER_SUM, 1000000, 15400, 30800, 60000);
    add(c, OT_CLUSTER_SMALL_SUM, 4096, 6544, 13088, 20000);
    ot_cluster_reckon(c);
    const ot_cluster_figure *f = of(c, OT_CLUSTER_SUM, 1000000);
    is_near(f->median_us, 30800, 1e-9, "the median");
    ok(f->low_us == 23100 && f->high_us == 45400, "quartiles %.0f %.0f", f->low_us, f->high_us);
    is_near(f->bound_us, 1.5 * 10000 + 400, 1e-9, "2 x 3/4 of the bytes over TCP and a barrier");
    is_near(f->share, 0.5, 1e-9, "half of the bound");
    f = of(c, OT_CLUSTER_SMALL_SUM, 4096);
    is_near(f->bound_us, 1.5 * 4096 + 400, 1e-9, "a hundred of 4 KiB are 400 KiB");
    f = of(c, OT_CLUSTER_BARRIER, 0);
    is_near(f->bound_us, 200, 1e-9, "two ways one behind the other reach four hosts");
    ok(of(c, OT_CLUSTER_TCP, 100000000)->bound_us == 0, "what is raw has no bound");
}

static void test_one_host(ot_cluster *c)
{
    *c = (ot_cluster){.ranks = 2, .hosts = 1, .links = ot_cost_default()};
    add(c, OT_CLUSTER_COPY, 1 << 20, 50, 50, 50);
    add(c, OT_CLUSTER_COPY, 16 << 20, 1600, 1600, 1600);
    add(c, OT_CLUSTER_BARRIER, 0, 10, 10, 10);
    add(c, OT_CLUSTER_SUM, 1 << 20, 100, 100, 100);
    add(c, OT_CLUSTER_SUM, 64 << 20, 9610, 9610, 9610);
    ot_cluster_reckon(c);
    is_near(of(c, OT_CLUSTER_SUM, 1 << 20)->bound_us, 1.5 * 50 + 10, 1e-9, "within caches");
    is_near(of(c, OT_CLUSTER_SUM, 64 << 20)->bound_us, 1.5 * 6400 + 10, 1e-9, "beyond them");
    ok(of(c, OT_CLUSTER_BARRIER, 0)->bound_us == 0, "no bound for a barrier here");
}

static void test_reports(ot_cluster *c)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT, json = OT_STR_INIT;
    test_hosts(c);
    snprintf(c->figures[4].by, sizeof c->figures[4].by, "ring");
    ot_cluster_text(c, &text);
    ok(strstr(text.data, "8 ranks on 4 hosts\n") != NULL, "who");
    const char *line = strstr(text.data, "allreduce of 976.6 KiB");
    ok(line != NULL && strstr(line, "30.8 ms") != NULL && strstr(line, "15.4 ms") != NULL &&
           strstr(line, "50%") != NULL && strstr(line, "ring") != NULL,
       "a line: %.100s", line != NULL ? line : text.data);
    ok(strstr(text.data, "More than 100%") == NULL, "nothing is over its bound");
    ot_cluster_json(c, &json);
    json_error_t why;
    json_t *j = json_loads(json.data, 0, &why);
    ok(j != NULL, "JSON: line %d: %s", why.line, why.text);
    json_t *f = json_array_get(json_object_get(j, "figures"), 4);
    is_str(json_string_value(json_object_get(f, "what")), "allreduce", "what");
    is_near(json_real_value(json_object_get(f, "share_of_bound")), 0.5, 1e-9, "its share");
    json_decref(j);
    c->figures[4].us[0] = c->figures[4].us[1] = 100;
    ot_cluster_reckon(c);
    ot_str_clear(&text);
    ot_cluster_text(c, &text);
    ok(strstr(text.data, "More than 100%") != NULL, "what can't be is said");
}

static void test_full(ot_cluster *c)
{
    *c = (ot_cluster){.ranks = 2, .hosts = 1, .links = ot_cost_default()};
    for (int i = 0; i < OT_CLUSTER_FIGURES; i++) {
        (void)ot_cluster_add(c, OT_CLUSTER_BARRIER, 0);
    }
    ok(ot_cluster_add(c, OT_CLUSTER_BARRIER, 0) == NULL, "no room for more");
    ot_cluster_reckon(c);
    ok(c->figures[0].median_us == 0 && c->figures[0].share == 0, "nothing measured, nothing said");
}

int main(void)
{
    static ot_cluster c;
    test_hosts(&c);
    test_one_host(&c);
    test_reports(&c);
    test_full(&c);
    return tap_done();
}
