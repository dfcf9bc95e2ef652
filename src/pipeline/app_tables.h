/* Shared by the files that parse an app; not for others. */
#ifndef OT_PIPELINE_APP_TABLES_H
#define OT_PIPELINE_APP_TABLES_H

#include "pipeline/app.h"

#include <stddef.h>

#define F(type_, struct_, member_, key_)                                                           \
    .key = (key_), .type = (type_), .offset = offsetof(struct_, member_)
/* mark_, marks_: offsets in the struct or NONE; short_: the key of the short form or NULL. */
#define NONE SIZE_MAX
#define SECTION(name_, struct_, fields_, mark_, short_, marks_)                                    \
    {                                                                                              \
        .name = (name_), .size = sizeof(struct_), .fields = (fields_),                             \
        .n_fields = OT_COUNT(fields_), .mark_offset = (mark_), .short_key = (short_),              \
        .marks_offset = (marks_)                                                                   \
    }
#define SUB(struct_, member_) __typeof__(((struct_ *)0)->member_)
#define OT_CONF_STAGE(name_, fields_)                                                              \
    SECTION(name_, ot_app_stage, fields_, offsetof(ot_app_stage, mark), NULL,                      \
            offsetof(ot_app_stage, marks))

extern const ot_conf_section ot_conf_app;
extern const ot_conf_section ot_conf_data;
extern const ot_conf_section ot_conf_step;
extern const ot_conf_section ot_conf_resources;
extern const ot_conf_section ot_conf_train;
extern const ot_conf_section ot_conf_stages[OT_STAGE_KINDS]; /* by ot_stage_kind */

/* A list of stages in their order, each by its section of `stages`. */
ot_rc ot_conf_parse_stages(ot_conf_ctx *ctx, const ot_conf_section *stages, const ot_node *node,
                           ot_app_release *into, ot_error *err) OT_CHECKED;

ot_conf_custom_fn ot_conf_parse_datas, ot_conf_parse_release, ot_conf_parse_failures,
    ot_conf_parse_compared, ot_conf_parse_steps, ot_conf_parse_shares, ot_conf_parse_margins;
ot_conf_show_fn ot_conf_show_datas, ot_conf_show_release, ot_conf_show_failures,
    ot_conf_show_compared, ot_conf_show_steps, ot_conf_show_shares, ot_conf_show_margins;

/* app.c: `where` names a data set of the app. */
ot_rc ot_app_check_data_name(const ot_app *app, ot_conf_ctx *ctx, ot_conf_mark mark,
                             const char *where, const char *name, ot_error *err) OT_CHECKED;
/* app_steps.c: what steps take is made by somebody and is what they take it for; none waits for
 * itself. Errors name both sides. */
ot_rc ot_app_check_steps(const ot_app *app, ot_conf_ctx *ctx, ot_error *err) OT_CHECKED;
/* app_job.c: ranks, hosts and slots of a training fit. */
ot_rc ot_app_check_job(const ot_app *app, ot_conf_ctx *ctx, ot_error *err) OT_CHECKED;

#endif
