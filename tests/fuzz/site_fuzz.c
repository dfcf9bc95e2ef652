/* links: pipeline launch base */
/* Site files: YAML from a stranger is parsed or refused with a message; what is accepted can be
 * asked at any time, and an app held to it. */
#include "pipeline/site.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char app_yaml[] =
    "schema: overtake/1\n"
    "app: digits\n"
    "data: {base: {path: b}}\n"
    "serve: digits\n"
    "train: {run: sh t.sh, data: [base], model: m, resources: {cpu: 8}}\n"
    "release:\n"
    "  - gate: {not_worse_on: {base: 0.1}}\n"
    "  - approval: {by: [anna, ben]}\n"
    "  - shadow: {}\n"
    "  - canary: {margin: 0.02}\n"
    "  - canary: {shares: [20%, 50%]}\n"
    "  - probation: {for: 1h}\n";

static void hold(const ot_site *site)
{
    ot_app *app = NULL;
    ot_error err = {0};
    if (ot_app_parse(app_yaml, sizeof app_yaml - 1, "app.yaml", "/", &app, NULL) != OT_OK) {
        abort();
    }
    if (ot_site_tighten(site, app, &err) == OT_OK) {
        OT_AUTO(ot_str_done) ot_str shown = OT_STR_INIT;
        ot_app_show(app, &shown);
        if (ot_site_tighten(site, app, &err) != OT_OK) {
            abort(); /* what is held once is held */
        }
    } else if (err.msg[0] == 0) {
        abort();
    }
    ot_app_destroy(app);
}

static void look(const ot_windows *w)
{
    static const int64_t times[] = {0, 1, 1764320000000000, 4102444800000000};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        int64_t next = ot_windows_next(w, times[i]);
        if (next <= times[i] || (next != INT64_MAX && !ot_windows_open(w, next))) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ot_site *site = NULL;
    ot_error err = {0};
    if (ot_site_parse((const char *)data, size, "site.yaml", &site, &err) == OT_OK) {
        hold(site);
        look(&site->windows);
    } else if (err.msg[0] == 0) {
        abort(); /* refused without saying why */
    }
    ot_site_destroy(site);
    return 0;
}
