/* What a launcher says to all ranks. */
#include "base/mem.h"
#include "collective/settings.h"
#include "tap.h"

int main(void)
{
    ot_settings s = ot_settings_default(), back;
    char text[OT_SETTINGS_MAX];
    ot_error err;
    is_int(ot_settings_parse("", &back, &err), OT_OK, "nothing said");
    ok(back.timeout_us == 0 && back.loss == OT_LOSS_NONE && !back.cost.remote.measured,
       "the defaults");
    ot_settings_format(&s, text);
    is_str(text, "timeout_us = 0\nwire = exact\n", "links that were not measured are not written");
    s = (ot_settings){.timeout_us = 30000000, .loss = OT_LOSS_ANY, .cost = ot_cost_at(10)};
    s.cost.remote.measured = true;
    ot_settings_format(&s, text);
    is_int(ot_settings_parse(text, &back, &err), OT_OK, "all");
    ok(back.timeout_us == 30000000 && back.loss == OT_LOSS_ANY && back.cost.remote.measured &&
           !back.cost.local.measured && back.cost.remote.bytes_per_us == s.cost.remote.bytes_per_us,
       "is read as it was written");
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"wire = half\nspeed = 3", "line 2: 'speed' is not known"},
        {"# a\nwire = fast", "line 2: 'fast' is not exact, half or auto"},
        {"timeout_us = soon", "line 1: 'soon' is not a whole number"},
        {"timeout_us = -1", "line 1: timeout_us: -1 is below 0"},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        back.timeout_us = 42;
        is_int(ot_settings_parse(bad[i].text, &back, &err), OT_INVALID, "refused: %s", bad[i].why);
        ok(strncmp(err.msg, bad[i].why, strlen(bad[i].why)) == 0 && back.timeout_us == 42,
           "says why: %s", err.msg);
    }
    ot_mem_fail_nth(1);
    is_int(ot_settings_parse("message_us = 1", &back, &err), OT_EXHAUSTED, "memory short");
    ot_mem_fail_nth(0);
    return tap_done();
}
