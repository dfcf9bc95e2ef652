/* The models of a directory, when the replica is alone: which versions of each are there, which are
 * to be served, and what became of them (docs/model-folders.md).
 *
 * A version is served as it was at a settled look: two looks in a row that saw the same files, or
 * one where a person has said that now is the time (the start, a load that was asked for). One that
 * cannot be loaded is not tried again before its files change; what served before stays.
 *
 * Threads: control thread; looking in poll mode has a thread of its own. Lifetime: create, start,
 * stop, destroy. */
#ifndef OT_SERVE_FOLDERS_H
#define OT_SERVE_FOLDERS_H

#include "model/folder.h"
#include "serve/control.h"

/* The first look, and in poll mode the beginning of the others. OT_NOT_FOUND: there is no model
 * (in poll mode one may come). */
ot_rc ot_folders_create(ot_control *c, ot_folders **f_out, ot_error *err) OT_CHECKED;
ot_rc ot_folders_start(ot_folders *f, ot_error *err) OT_CHECKED;
void ot_folders_stop(ot_folders *f); /* NULL is fine */
void ot_folders_destroy(ot_folders *f);

/* Looks at that model's folder now and has it served as it is. */
ot_rc ot_folders_load(ot_folders *f, const char *name, ot_error *err) OT_CHECKED;
/* OT_NOT_FOUND when it is not loaded. */
ot_rc ot_folders_unload(ot_folders *f, const char *name, ot_error *err) OT_CHECKED;
/* A load that was asked for failed: if nothing of it serves it is as if it had not been asked. */
void ot_folders_give_up(ot_folders *f, const char *name);
/* An entry came to rest. */
void ot_folders_settled(ot_folders *f, const ot_entry *e);
/* Nothing that was there at the start still has to be looked at again. */
bool ot_folders_ready(const ot_folders *f);

typedef void ot_folders_row_fn(void *arg, const char *name, uint64_t version, const char *state,
                               const char *reason);
/* Every version that was seen; version 0: the folder holds none that could be. */
void ot_folders_each(ot_folders *f, ot_folders_row_fn *fn, void *arg);

/* looks.c: what the whole directory holds. */
typedef struct ot_look {
    char name[OT_SERVE_NAME];
    char path[OT_PATH_MAX];
    ot_rc rc; /* of looking; the message is in `problem` */
    char problem[OT_SERVE_NOTE];
    ot_folder_look folder;
} ot_look;

typedef struct ot_looks {
    ot_look **items;
    size_t n;
} ot_looks;

ot_rc ot_looks_take(ot_disk *disk, const char *dir, ot_looks *looks_out, ot_error *err) OT_CHECKED;
void ot_looks_done(ot_looks *l);
/* One model of the directory; OT_NOT_FOUND when it has none of that name. */
ot_rc ot_looks_take_one(ot_disk *disk, const char *dir, const char *name, ot_look *look_out,
                        ot_error *err) OT_CHECKED;

#endif
