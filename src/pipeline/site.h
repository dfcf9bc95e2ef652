/* The site: one YAML file of the operators' side. What apps may take, what their releases must go
 * through, and when. An app can tighten it, never weaken it.
 *
 * Lifetime: an ot_site owns its arena; immutable after ot_site_parse. Threads: any may read. The
 * reference in docs/site-yaml.md is printed from the same tables. */
#ifndef OT_PIPELINE_SITE_H
#define OT_PIPELINE_SITE_H

#include "pipeline/app.h"
#include "pipeline/window.h"

#define OT_SITE_QUOTAS_MAX 10 /* keys of `quotas` */
#define OT_SITE_KEYS_MAX 7
#define OT_SITE_PLACE_TEXT 160

/* 0 and an absent mark: no limit. */
typedef struct ot_site_quotas {
    int64_t apps, runs_at_once, runs_per_day;
    int64_t cpu, gpu; /* and below: of one run */
    uint64_t memory, disk, log;
    int64_t time_us;
    uint64_t spare_memory; /* of all apps together; 0: none */
    ot_conf_mark marks[OT_SITE_QUOTAS_MAX];
} ot_site_quotas;

/* Who may have models loaded and unloaded through the inference port of a replica. */
typedef enum ot_site_control { OT_SITE_CONTROL_ADMIN, OT_SITE_CONTROL_ANYONE } ot_site_control;

typedef struct ot_site {
    const char *schema;
    const char *contact; /* who is asked; "" : the operators */
    ot_site_quotas quotas;
    ot_conf_strs executors;
    /* What every release must have at the least. A stage's values are bounds; `shares[0]` of a
     * canary is the most that its first share may be. */
    ot_app_release release;
    ot_windows windows;
    ot_site_control model_control;
    ot_conf_mark marks[OT_SITE_KEYS_MAX];
    const char *file; /* for messages */
    const char *yaml; /* the text as given */
    ot_arena arena;
} ot_site;

/* `file` is used in messages. On failure nothing is returned and err says file:line:column. Free
 * with ot_site_destroy. */
ot_rc ot_site_parse(const char *yaml, size_t n, const char *file, ot_site **out,
                    ot_error *err) OT_CHECKED;
void ot_site_destroy(ot_site *site);

/* Holds the app to the site. What the app file does not write and is over a bound becomes the
 * bound; what it writes against a bound, and a stage that it leaves out, is OT_INVALID with the
 * places in both files, one line for each quota and each stage. */
ot_rc ot_site_tighten(const ot_site *site, ot_app *app, ot_error *err) OT_CHECKED;
/* Where something stands, as "site.yaml:3:17". */
const char *ot_site_place(const ot_site *site, ot_conf_mark mark, char out[OT_SITE_PLACE_TEXT]);
ot_conf_mark ot_site_quota_mark(const ot_site *site, const char *quota);
/* Who is asked: the contact, or "the operators". */
const char *ot_site_contact(const ot_site *site);

void ot_site_reference(ot_str *out); /* Markdown */

#endif
