/* Shared by the files that parse a site and hold apps to it; not for others. */
#ifndef OT_PIPELINE_SITE_TABLES_H
#define OT_PIPELINE_SITE_TABLES_H

#include "pipeline/app_tables.h"
#include "pipeline/site.h"

extern const ot_conf_section ot_conf_quotas;
extern const ot_conf_section ot_conf_least[OT_STAGE_KINDS]; /* by ot_stage_kind */

#endif
