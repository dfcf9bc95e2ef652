/* What a launcher says to all ranks. */
#include "base/mem.h"
#include "collective/settings.h"
#include "tap.h"

#include <stdlib.h>

static void test_words(void)
{
    ot_settings s;
    char links[OT_PATH_MAX], text[OT_SETTINGS_MAX];
    ot_error err = {0};
    is_int(ot_settings_words(" wire=fp16\twire-rank=0\n timeout=1500ms links=/etc/l=1 ", &s, links,
                             &err),
           OT_OK, "words: %s", err.msg);
    ok(s.loss == OT_LOSS_F16 && s.lowrank == 0 && s.timeout_us == 1500000, "are the settings");
    is_str(links, "/etc/l=1", "and a path, which may have what parts other words");
    is_int(ot_settings_words("", &s, links, &err), OT_OK, "no words");
    ok(s.loss == OT_LOSS_NONE && s.lowrank == 4 && links[0] == 0, "are the defaults");
    static const char *const bad[][2] = {
        {"wires=half",
         "'wires=half' is not NAME=VALUE with a name out of wire, wire-rank, timeout, "
         "links"},
        {"wire", "'wire' is not NAME=VALUE"},
        {"wire=", "'wire=' is not NAME=VALUE"},
        {"=half", "'=half' is not NAME=VALUE"},
        {"wire = half", "'wire' is not NAME=VALUE"},
        {"wire=fast", "wire: 'fast' is not exact, half, fp16 or auto"},
        {"wire-rank=65", "wire-rank: 65 is not between 0 and 64"},
        {"timeout=soon", "timeout: "},
        {"wire=half wire=half", "wire is there twice"},
    };
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        is_int(ot_settings_words(bad[i][0], &s, links, &err), OT_INVALID, "refused: %s", bad[i][0]);
        ok(strncmp(err.msg, bad[i][1], strlen(bad[i][1])) == 0, "says why: %s", err.msg);
    }
    setenv("OVERTAKE_SETTINGS", "wire=half links=/dev/null/none", 1);
    bool given = false;
    ok(ot_settings_given(&s, &given, &err) != OT_OK, "links that can't be read: %s", err.msg);
    ok(strstr(err.msg, "OVERTAKE_SETTINGS='wire=half links=/dev/null/none'") != NULL &&
           strstr(err.msg, "/dev/null/none") != NULL && given && s.loss == OT_LOSS_NONE,
       "the variable and its value are named");
    unsetenv("OVERTAKE_SETTINGS");
    is_int(ot_settings_given(&s, &given, &err), OT_OK, "not set");
    ok(!given, "is not given");
    s.loss = OT_LOSS_HALF;
    ot_settings_format(&s, text);
    is_int(ot_settings_agree(text, text, &err), OT_OK, "the same agree");
    is_int(ot_settings_agree(text, "timeout_us = 0\nwire = exact\nlowrank = 4\n", &err), OT_INVALID,
           "others don't");
    ok(strstr(err.msg, "says 'wire = half', and rank 0's says 'wire = exact'") != NULL,
       "the line that differs: %s", err.msg);
    is_int(ot_settings_agree("timeout_us = 0\n", text, &err), OT_INVALID,
           "nor one that is shorter");
}

int main(void)
{
    test_words();
    ot_settings s = ot_settings_default(), back;
    char text[OT_SETTINGS_MAX];
    ot_error err;
    is_int(ot_settings_parse("", &back, &err), OT_OK, "nothing said");
    ok(back.timeout_us == 0 && back.loss == OT_LOSS_NONE && !back.cost.remote.measured,
       "the defaults");
    ot_settings_format(&s, text);
    is_str(text, "timeout_us = 0\nwire = exact\nlowrank = 4\n",
           "links that were not measured are not written");
    s = (ot_settings){.timeout_us = 30000000,
                      .loss = OT_LOSS_ANY,
                      .lowrank = 2,
                      .cost = ot_cost_at(10),
                      .min_np = 3,
                      .batch_np = 5};
    s.cost.remote.measured = true;
    ot_settings_format(&s, text);
    is_int(ot_settings_parse(text, &back, &err), OT_OK, "all");
    ok(back.timeout_us == 30000000 && back.loss == OT_LOSS_ANY && back.lowrank == 2 &&
           back.min_np == 3 && back.batch_np == 5 && back.cost.remote.measured &&
           !back.cost.local.measured && back.cost.remote.bytes_per_us == s.cost.remote.bytes_per_us,
       "is read as it was written");
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"wire = half\nspeed = 3", "line 2: 'speed' is not known"},
        {"# a\nwire = fast", "line 2: 'fast' is not exact, half, fp16 or auto"},
        {"timeout_us = soon", "line 1: 'soon' is not a whole number"},
        {"lowrank = 65", "line 1: lowrank: 65 is not between 0 and 64"},
        {"batch_np = -1", "line 1: batch_np: -1 is not between 0 and 4096"},
        {"min_np = 4097", "line 1: min_np: 4097 is not between 0 and 4096"},
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
