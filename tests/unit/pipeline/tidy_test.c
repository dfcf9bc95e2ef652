#include "driver.h"

static bool there(const char *rel)
{
    return access(at(rel), F_OK) == 0;
}

static void old_run(int id)
{
    char rel[64];
    static const char *const parts[] = {
        "work/out/model/null.json", "data/base/x.npy", "log", "exit.json",
        "checkpoints/1-a/files/w",  "ranks/rank-0.log"};
    for (size_t i = 0; i < OT_COUNT(parts); i++) {
        snprintf(rel, sizeof rel, "tidy/runs/%d/%s", id, parts[i]);
        write_file(rel, "x");
    }
}

static bool stored(driver *d, const ot_digest *blob)
{
    return ot_blob_exists(d->store, blob);
}

int main(void)
{
    driver d;
    ot_error err = {0};
    ot_digest stray;
    world_start();
    for (int id = 900; id < 930; id++) {
        old_run(id);
    }
    write_file("tidy/incoming/abandoned/bundle/manifest.json", "x");
    driver_open(&d, "tidy");
    driver_apply_ok(&d, app_yaml);
    driver_settle(&d);
    pl_app *a = pl_app_find(d.p, "digits");
    is_int(a->st.champion, 1, "version 1 serves");
    ot_digest code = a->st.code, bundle = a->st.champion_bundle;
    ok(ot_blob_put(d.store, "nobody's", 8, &stray, &err) == OT_OK, "a blob that nothing refers to");
    ok(there("tidy/runs/900/work"), "an old run is whole at the start");

    driver_forward(&d, 2 * MIN_US);
    driver_settle(&d);
    ok(!there("tidy/runs/900/work") && !there("tidy/runs/909/data") &&
           !there("tidy/runs/909/checkpoints"),
       "what was laid out for old runs is gone");
    ok(there("tidy/runs/900/log") && there("tidy/runs/900/exit.json") &&
           there("tidy/runs/900/ranks/rank-0.log"),
       "their records stay");
    ok(there("tidy/runs/910/work") && there("tidy/runs/929/checkpoints"),
       "the newest 20 stay whole");
    ok(stored(&d, &stray), "a young blob stays: its owner may be about to name it");

    driver_forward(&d, 2 * HOUR);
    driver_settle(&d);
    ok(!stored(&d, &stray), "an old blob that nothing refers to is gone");
    ok(stored(&d, &code), "the list of the program's files stays");
    ok(stored(&d, &bundle), "the champion's manifest stays");
    ok(pl_code_materialise(d.store, &code, at("again"), &err) == OT_OK && there("again/train.sh"),
       "the program can be laid out from it");
    ok(there("tidy/runs/1/log"), "the champion's run has its log");
    ok(there("tidy/incoming/abandoned"), "what comes in may take a pause");

    driver_forward(&d, 24 * HOUR);
    driver_settle(&d);
    ok(!there("tidy/incoming/abandoned"), "of a day at most");
    driver_close(&d);
    return world_end();
}
