/* The table of the models of a directory: what looks have seen of each (folders.h).
 *
 * Threads: control thread, but for what folders.c says of its watcher. */
#ifndef OT_SERVE_FOLDER_TABLE_H
#define OT_SERVE_FOLDER_TABLE_H

#include "serve/folders.h"

typedef struct ot_seen {
    uint64_t version;
    char *path;
    uint64_t looked;  /* the stamp of the last look; 0: it could not be looked at */
    uint64_t settled; /* what is to be served; 0: nothing yet */
    uint64_t failed;  /* what could not be loaded; 0: nothing */
    bool missing;     /* not there at the last look */
    char reason[OT_SERVE_NOTE];
} ot_seen;

typedef struct ot_folder {
    char name[OT_SERVE_NAME];
    char *path;
    bool plain;
    bool wanted;  /* to be served */
    bool missing; /* not there at the last look */
    ot_version_policy policy;
    uint64_t latest;
    unsigned instances;      /* runs at a time; 0: any */
    uint64_t process_memory; /* bytes; 0: as the options say */
    uint64_t next;           /* plain: the number that its next version gets */
    char problem[OT_SERVE_NOTE];
    ot_seen **versions; /* newest first */
    size_t n, cap;
} ot_folder;

struct ot_folders {
    ot_control *control;
    ot_folder **items; /* sorted by name */
    size_t n, cap;
    unsigned looks; /* taken of the whole directory; stops counting at 2 */

    /* The thread of poll mode. */
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Synchronization: under lock. */
    bool stopping, handed; /* handed: `taken` waits for the control thread */
    ot_looks taken;
};

bool ot_folders_poll(const ot_folders *f);
ot_folder *ot_folders_find(const ot_folders *f, const char *name);
/* The one of that name, made if it is not there; NULL: out of memory. */
ot_folder *ot_folders_add(ot_folders *f, const ot_look *l);
void ot_folders_remove(ot_folders *f, size_t at);
void ot_folder_drop(ot_folder *d, size_t at); /* one of its versions */

typedef enum ot_merging {
    OT_MERGE_NOTE, /* only what is there */
    OT_MERGE_LOOK, /* it may settle something */
    OT_MERGE_NOW,  /* what it saw counts as settled */
} ot_merging;

/* Takes a look at the folder. */
void ot_folder_merge(ot_folders *f, ot_folder *d, const ot_look *l, ot_merging how);
/* What the control thread has of that version in that state, or NULL. */
const ot_entry *ot_folder_entry(const ot_folders *f, const ot_folder *d, uint64_t version,
                                ot_entry_state state);

#endif
