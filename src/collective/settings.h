/* The settings of a job: what its launcher says to all ranks, as text through the meeting point
 * ("key = value" lines; those of the cost model too, see cost.h).
 *
 * Threads: any; pure but for the two that read. */
#ifndef OT_COLLECTIVE_SETTINGS_H
#define OT_COLLECTIVE_SETTINGS_H

#include "base/disk.h"
#include "collective/cost.h"

#define OT_SETTINGS_MAX 2048 /* bytes of the text, with its end */
#define OT_LOWRANK_MAX 64

typedef struct ot_settings {
    int64_t timeout_us; /* of an operation; 0: none */
    ot_loss loss;       /* wire = exact, half, fp16, auto */
    int64_t lowrank;    /* columns that stand for a matrix; 0: no low rank */
    bool timeline;      /* timeline = 1: each rank records, and sends at its end what it has */
    int64_t
        batch_np; /* elastic: what a step takes is dealt to so many, whatever the size; 0: to all */
    int64_t min_np;     /* elastic: the job goes on while so many ranks are left; 0: it isn't */
    ot_cost_model cost; /* written only if links were measured */
} ot_settings;

ot_settings ot_settings_default(void);
/* What a text leaves out is the default's. Errors name the line. */
ot_rc ot_settings_parse(const char *text, ot_settings *out, ot_error *err) OT_CHECKED;
void ot_settings_format(const ot_settings *s, char text[OT_SETTINGS_MAX]);
/* exact, half, fp16, auto */
ot_rc ot_loss_parse(const char *text, ot_loss *out, ot_error *err) OT_CHECKED;
/* 0 to OT_LOWRANK_MAX */
ot_rc ot_lowrank_parse(const char *text, int64_t *out, ot_error *err) OT_CHECKED;

/* settings_words.c: as a person writes them, "wire=half timeout=30s links=FILE": the options of
 * `overtake run`, between white space. What is left out is the default's. links_out: "": not there.
 */
ot_rc ot_settings_words(const char *text, ot_settings *out, char links_out[OT_PATH_MAX],
                        ot_error *err) OT_CHECKED;
/* The measured links of a file. */
ot_rc ot_settings_links(const char *path, ot_settings *s, ot_error *err) OT_CHECKED;
/* Those of the variable OVERTAKE_SETTINGS. Also on failure *out is whole: the default. */
ot_rc ot_settings_given(ot_settings *out, bool *given_out, ot_error *err) OT_CHECKED;
/* Two texts of ot_settings_format; the error shows the first line that differs. */
ot_rc ot_settings_agree(const char *ours, const char *theirs, ot_error *err) OT_CHECKED;

#endif
