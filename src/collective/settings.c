#include "collective/settings.h"

#include "base/mem.h"
#include "base/str.h"
#include "collective/meet.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const losses[] = {[OT_LOSS_NONE] = "exact",
                                     [OT_LOSS_HALF] = "half",
                                     [OT_LOSS_F16] = "fp16",
                                     [OT_LOSS_ANY] = "auto"};

ot_settings ot_settings_default(void)
{
    return (ot_settings){.lowrank = 4, .cost = ot_cost_default()};
}

ot_rc ot_loss_parse(const char *text, ot_loss *out, ot_error *err)
{
    for (size_t i = 0; i < OT_COUNT(losses); i++) {
        if (strcmp(text, losses[i]) == 0) {
            *out = (ot_loss)i;
            return OT_OK;
        }
    }
    return ot_fail(err, OT_INVALID, "'%.40s' is not exact, half, fp16 or auto", text);
}

ot_rc ot_lowrank_parse(const char *text, int64_t *out, ot_error *err)
{
    OT_TRY(ot_parse_i64(text, out, err));
    return *out >= 0 && *out <= OT_LOWRANK_MAX
               ? OT_OK
               : ot_fail(err, OT_INVALID, "%s is not between 0 and %d", text, OT_LOWRANK_MAX);
}

/* The value of a line of this key; false: another key. */
static bool value_of(const char *line, size_t n, const char *key, char value[64])
{
    size_t k = strlen(key);
    if (n <= k + 3 || memcmp(line, key, k) != 0 || memcmp(line + k, " = ", 3) != 0) {
        return false;
    }
    snprintf(value, 64, "%.*s", (int)OT_MIN(n - k - 3, 63), line + k + 3);
    return true;
}

static ot_rc parse_ranks(const char *value, const char *key, int64_t *out, ot_error *err)
{
    OT_TRY(ot_parse_i64(value, out, err));
    return *out >= 0 && *out <= OT_MEET_RANKS_MAX
               ? OT_OK
               : ot_fail(err, OT_INVALID, "%s: %" PRId64 " is not between 0 and %d", key, *out,
                         OT_MEET_RANKS_MAX);
}

static ot_rc parse_line(const char *line, size_t n, ot_settings *s, bool *ours, ot_error *err)
{
    char value[64];
    *ours = true;
    if (value_of(line, n, "timeout_us", value)) {
        OT_TRY(ot_parse_i64(value, &s->timeout_us, err));
        return s->timeout_us >= 0 ? OT_OK
                                  : ot_fail(err, OT_INVALID, "timeout_us: %s is below 0", value);
    }
    if (value_of(line, n, "wire", value)) {
        return ot_loss_parse(value, &s->loss, err);
    }
    if (value_of(line, n, "lowrank", value)) {
        ot_rc rc = ot_lowrank_parse(value, &s->lowrank, err);
        return rc == OT_OK ? OT_OK : ot_error_prefix(err, rc, "lowrank");
    }
    if (value_of(line, n, "batch_np", value)) {
        return parse_ranks(value, "batch_np", &s->batch_np, err);
    }
    if (value_of(line, n, "min_np", value)) {
        return parse_ranks(value, "min_np", &s->min_np, err);
    }
    if (value_of(line, n, "timeline", value)) {
        s->timeline = strcmp(value, "1") == 0;
        return OT_OK;
    }
    *ours = false;
    return OT_OK;
}

ot_rc ot_settings_parse(const char *text, ot_settings *out, ot_error *err)
{
    ot_settings s = ot_settings_default();
    OT_AUTO(ot_str_done) ot_str rest = OT_STR_INIT;
    int number = 1;
    for (const char *line = text; *line != 0; number++) {
        size_t n = strcspn(line, "\n");
        bool ours;
        ot_rc rc = parse_line(line, n, &s, &ours, err);
        if (rc != OT_OK) {
            return ot_error_prefix(err, rc, "line %d", number);
        }
        /* A line of ours stays as an empty one: the numbers hold. */
        ot_str_add(&rest, line, ours ? 0 : n);
        ot_str_addc(&rest, '\n');
        line += n + (line[n] == '\n');
    }
    if (rest.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for the job's settings");
    }
    OT_TRY(ot_cost_parse(rest.len > 0 ? rest.data : "", &s.cost, err));
    *out = s;
    return OT_OK;
}

void ot_settings_format(const ot_settings *s, char text[OT_SETTINGS_MAX])
{
    int n = snprintf(text, OT_SETTINGS_MAX,
                     "timeout_us = %" PRId64 "\nwire = %s\nlowrank = %" PRId64 "\n", s->timeout_us,
                     losses[s->loss], s->lowrank);
    if (s->timeline) {
        n += snprintf(text + n, OT_SETTINGS_MAX - (size_t)n, "timeline = 1\n");
    }
    if (s->batch_np > 0) {
        n += snprintf(text + n, OT_SETTINGS_MAX - (size_t)n, "batch_np = %" PRId64 "\n",
                      s->batch_np);
    }
    if (s->min_np > 0) {
        n += snprintf(text + n, OT_SETTINGS_MAX - (size_t)n, "min_np = %" PRId64 "\n", s->min_np);
    }
    if (s->cost.local.measured || s->cost.remote.measured) {
        ot_cost_format(&s->cost, text + n, OT_SETTINGS_MAX - (size_t)n);
    }
}
