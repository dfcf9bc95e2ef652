/* `overtake tune`: what the links between the ranks of a job do, as the cost model's text. */
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/links.h"

#include <stdio.h>
#include <string.h>

static int print_model(const ot_args *args, const ot_cost_model *m, int32_t ranks)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    char text[1024];
    ot_cost_format(m, text, sizeof text);
    if (!ot_args_json(args)) {
        ot_str_addf(&out, "# overtake tune, %d ranks\n%s", (int)ranks, text);
        return ot_cli_print(&out);
    }
    /* "key = value" lines as members. */
    ot_str_addf(&out, "{\"ranks\": %d", (int)ranks);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        char *equals = strchr(line, '=');
        ot_str_addf(&out, ", \"%.*s\": %.*s", (int)(equals - 1 - line), line,
                    (int)(end - equals - 2), equals + 2);
    }
    ot_str_adds(&out, "}\n");
    return ot_cli_print(&out);
}

static int run_tune(const ot_args *args)
{
    ot_error err = {0};
    ot_cost_model m = ot_cost_default();
    ot_links *t = NULL;
    ot_rc rc = ot_links_join(&t, &err);
    rc = rc == OT_OK ? ot_links_measure(t, &m, &err) : rc;
    overtake_place place = t != NULL ? t->place : (overtake_place){0};
    ot_rc left = ot_links_leave(t, rc == OT_OK ? &err : NULL);
    rc = rc == OT_OK ? left : rc;
    if (rc != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    return place.rank == 0 ? print_model(args, &m, place.size) : 0;
}

const ot_command ot_cli_tune_command = {
    .group = "Train",
    .name = "tune",
    .summary = "measure the links between the ranks of a job, for overtake run --links",
    .detail =
        "A program for overtake run: overtake run -H a:2,b:1 --no-prefix -- overtake tune >links "
        "measures within a host and between two of them, and the speed of sums on rank 0. What it "
        "prints are lines of \"key = value\"; overtake run --links reads them, and all ranks "
        "choose their algorithms by them.",
    .run = run_tune};
