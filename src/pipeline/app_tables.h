/* Shared by the files that parse an app; not for others. */
#ifndef OT_PIPELINE_APP_TABLES_H
#define OT_PIPELINE_APP_TABLES_H

#include "pipeline/app.h"

extern const ot_conf_section ot_conf_app;
extern const ot_conf_section ot_conf_data;
extern const ot_conf_section ot_conf_stages[5]; /* by ot_stage_kind */

ot_conf_custom_fn ot_conf_parse_datas, ot_conf_parse_release, ot_conf_parse_failures,
    ot_conf_parse_compared, ot_conf_parse_shares, ot_conf_parse_margins;
ot_conf_show_fn ot_conf_show_datas, ot_conf_show_release, ot_conf_show_failures,
    ot_conf_show_compared, ot_conf_show_shares, ot_conf_show_margins;

#endif
