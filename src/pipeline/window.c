#include "pipeline/window.h"

#include "base/mem.h"
#include "pipeline/app_tables.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define MINUTE_US 60000000ll
#define DAY_MIN 1440

static const char *const day_names[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

static const ot_conf_field window_fields[] = {
    {F(OT_CONF_STRS, ot_window, day_names, "days"), .def = "mon-sun",
     .help = "Days that it begins on: mon tue wed thu fri sat sun, or a span like `mon-fri`"},
    {F(OT_CONF_STR, ot_window, from, "from"), .def = "00:00", .help = "When it opens, HH:MM"},
    {F(OT_CONF_STR, ot_window, to, "to"), .def = "24:00",
     .help = "When it closes; before `from` means the next day"},
    {F(OT_CONF_STR, ot_window, zone, "zone"), .def = "UTC",
     .help = "UTC or a fixed offset from it, as `UTC+2` or `-05:30`; summer time is not followed"},
};
const ot_conf_section ot_conf_window =
    SECTION("a change window", ot_window, window_fields, offsetof(ot_window, mark), NULL,
            offsetof(ot_window, marks));

/* "9:05" or "09:05" up to 24:00; -1 when it is neither. */
static int parse_clock(const char *s)
{
    int h = 0, m = 0, used = 0;
    if (!isdigit((unsigned char)s[0]) || sscanf(s, "%2d:%2d%n", &h, &m, &used) != 2 ||
        s[used] != 0 || !isdigit((unsigned char)s[used - 2]) || m > 59 || h * 60 + m > DAY_MIN) {
        return -1;
    }
    return h * 60 + m;
}

/* "UTC", "UTC+2", "+02:00", "-05:30". */
static bool parse_zone(const char *s, int *offset_min)
{
    const char *p = ot_has_prefix(s, "UTC") ? s + 3 : s;
    int h = 0, m = 0, used = 0;
    if (*p == 0) {
        *offset_min = 0;
        return p != s;
    }
    bool sign = *p == '+' || *p == '-';
    if (!sign || !isdigit((unsigned char)p[1]) || sscanf(p + 1, "%2d%n", &h, &used) != 1) {
        return false;
    }
    const char *rest = p + 1 + used;
    if (*rest == ':' && isdigit((unsigned char)rest[1]) && isdigit((unsigned char)rest[2])) {
        m = (rest[1] - '0') * 10 + rest[2] - '0';
        rest += 3;
    }
    *offset_min = (h * 60 + m) * (*p == '-' ? -1 : 1);
    return *rest == 0 && m < 60 && h <= 14;
}

static int day_of(const char *s, size_t n)
{
    for (int i = 0; i < 7; i++) {
        if (n == 3 && strncmp(s, day_names[i], 3) == 0) {
            return i;
        }
    }
    return -1;
}

static bool add_days(const char *s, unsigned *days)
{
    size_t n = strcspn(s, "-");
    int first = day_of(s, n), last = first;
    if (s[n] == '-') {
        last = day_of(s + n + 1, strlen(s + n + 1));
    }
    if (first < 0 || last < 0) {
        return false;
    }
    for (int d = first;; d = (d + 1) % 7) {
        *days |= 1u << d;
        if (d == last) {
            return true;
        }
    }
}

static ot_rc bad_value(ot_conf_ctx *ctx, const ot_window *w, const char *key, const char *text,
                       const char *form, ot_error *err)
{
    return ot_conf_fail(ctx, ot_conf_mark_of(&ot_conf_window, w, key), err, "%s: '%.40s' is not %s",
                        key, text, form);
}

static ot_rc settle(ot_conf_ctx *ctx, ot_window *w, ot_error *err)
{
    for (size_t i = 0; i < w->day_names.n; i++) {
        if (!add_days(w->day_names.v[i], &w->days)) {
            return ot_conf_fail(ctx, w->day_names.marks[i], err,
                                "days: '%.40s' is not a day or a span of days like mon-fri",
                                w->day_names.v[i]);
        }
    }
    w->from_min = parse_clock(w->from);
    w->to_min = parse_clock(w->to);
    if (w->from_min < 0) {
        return bad_value(ctx, w, "from", w->from, "a time of day like \"09:00\"", err);
    }
    if (w->to_min < 0) {
        return bad_value(ctx, w, "to", w->to, "a time of day like \"17:30\"", err);
    }
    if (!parse_zone(w->zone, &w->offset_min)) {
        return bad_value(ctx, w, "zone", w->zone,
                         "UTC or a fixed offset like UTC+2 or \"-05:30\"; named zones move with "
                         "summer time",
                         err);
    }
    if (w->days == 0 || w->from_min == w->to_min) {
        return ot_conf_fail(ctx, w->mark, err, "a change window from %s to %s is never open",
                            w->from, w->to);
    }
    w->to_min += w->to_min < w->from_min ? DAY_MIN : 0;
    return OT_OK;
}

ot_rc ot_conf_parse_windows(ot_conf_ctx *ctx, const ot_node *node, void *into, ot_error *err)
{
    ot_windows *w = into;
    w->mark = node->key_mark;
    if (node->kind != OT_NODE_LIST) {
        return ot_conf_fail(ctx, node->mark, err,
                            "%s: a list is needed, like `- {days: [mon-fri], from: \"09:00\"}`",
                            node->key);
    }
    for (const ot_node *i = node->first; i != NULL; i = i->next) {
        if (w->n == OT_WINDOWS_MAX) {
            return ot_conf_fail(ctx, i->mark, err, "%s: more than %d", node->key, OT_WINDOWS_MAX);
        }
        OT_TRY(ot_conf_fill(ctx, &ot_conf_window, i, &w->v[w->n], err));
        OT_TRY(settle(ctx, &w->v[w->n], err));
        w->n++;
    }
    return OT_OK;
}

/* ------------------------------------------------------------------ time */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* When it opens on a day (days since 1970 in its zone); false: not on such a day. */
static bool opening(const ot_window *w, int64_t day, int64_t *at_us)
{
    int64_t weekday = ((day + 3) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
    *at_us = (day * DAY_MIN + w->from_min - w->offset_min) * MINUTE_US;
    return (w->days >> weekday & 1) != 0;
}

static int64_t local_day(const ot_window *w, int64_t now_us)
{
    return floor_div(floor_div(now_us, MINUTE_US) + w->offset_min, DAY_MIN);
}

bool ot_windows_open(const ot_windows *w, int64_t now_us)
{
    for (size_t i = 0; i < w->n; i++) {
        const ot_window *v = &w->v[i];
        int64_t today = local_day(v, now_us), length = (v->to_min - v->from_min) * MINUTE_US;
        for (int64_t day = today - 1; day <= today; day++) {
            int64_t at;
            if (opening(v, day, &at) && at <= now_us && now_us < at + length) {
                return true;
            }
        }
    }
    return w->n == 0;
}

int64_t ot_windows_next(const ot_windows *w, int64_t now_us)
{
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < w->n; i++) {
        int64_t today = local_day(&w->v[i], now_us);
        for (int64_t day = today; day <= today + 7; day++) {
            int64_t at;
            if (opening(&w->v[i], day, &at) && at > now_us) {
                next = OT_MIN(next, at);
            }
        }
    }
    return next;
}
