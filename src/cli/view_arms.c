/* The versions that answer side by side: what each was asked, how fast it was, how often right. */
#include "base/mem.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/view.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* 95% interval of the difference of two independent shares, from the Wilson intervals of both
 * (Newcombe 1998, method 10): newer minus older, in points. */
static void view_difference(const json_t *arm, const json_t *champion, ot_cli_table *t)
{
    double p = ot_cli_num(arm, "estimate"), q = ot_cli_num(champion, "estimate");
    if (ot_cli_int(arm, "labelled") == 0 || ot_cli_int(champion, "labelled") == 0) {
        ot_cli_table_cell(t, NULL);
        return;
    }
    double down = hypot(p - ot_cli_num(arm, "lower"), ot_cli_num(champion, "upper") - q);
    double up = hypot(ot_cli_num(arm, "upper") - p, q - ot_cli_num(champion, "lower"));
    const char *said = p - q - down > 0 ? "better" : p - q + up < 0 ? "worse" : "not told apart";
    ot_cli_table_cellf(t, "%+.1f to %+.1f points: %s", 100 * (p - q - down), 100 * (p - q + up),
                       said);
}

static void view_arm(const json_t *arm, const json_t *champion, ot_cli_table *t)
{
    char p50[32], p99[32];
    bool asked = ot_cli_int(arm, "requests") > 0, labelled = ot_cli_int(arm, "labelled") > 0;
    ot_cli_table_cellf(t, "v%" PRId64, ot_cli_int(arm, "version"));
    ot_cli_table_cell(t, ot_cli_get(arm, "role"));
    ot_cli_table_cellf(t, "%.4g%%", 100 * ot_cli_num(arm, "share"));
    ot_cli_table_cell(t, ot_cli_get(arm, "labels"));
    ot_cli_table_cellf(t, "%" PRId64, ot_cli_int(arm, "requests"));
    ot_cli_table_cellf(t, "%" PRId64, ot_cli_int(arm, "failed"));
    ot_cli_table_cell(t, asked ? ot_format_duration(ot_cli_int(arm, "p50_us"), p50) : NULL);
    ot_cli_table_cell(t, asked ? ot_format_duration(ot_cli_int(arm, "p99_us"), p99) : NULL);
    ot_cli_table_cellf(t, "%" PRId64, ot_cli_int(arm, "labelled"));
    if (labelled) {
        ot_cli_table_cellf(t, "%.1f%%", 100 * ot_cli_num(arm, "estimate"));
    } else {
        ot_cli_table_cell(t, NULL);
    }
    if (arm == champion) {
        ot_cli_table_cell(t, NULL);
    } else {
        view_difference(arm, champion, t);
    }
}

void ot_cli_view_arms(const json_t *answer, ot_str *out)
{
    static const char *const headings[] = {"VERSION",
                                           "ROLE",
                                           "SHARE",
                                           "LABELS",
                                           ">ASKED",
                                           ">FAILED",
                                           ">P50",
                                           ">P99",
                                           ">LABELLED",
                                           ">ACCURACY",
                                           "AGAINST THE CHAMPION"};
    const json_t *list = json_object_get(answer, "arms"), *arm;
    ot_cli_table t;
    size_t i;
    ot_cli_table_init(&t, headings, OT_COUNT(headings));
    json_array_foreach(list, i, arm)
    {
        view_arm(arm, json_array_get(list, 0), &t);
    }
    ot_cli_table_print(&t, out);
    ot_cli_table_done(&t);
}
