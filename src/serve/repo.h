/* Repository requests on the control thread: what repo.c and managed.c share.
 *
 * Threads: the control thread's. Lifetime: a request ends with its one answer. */
#ifndef OT_SERVE_REPO_H
#define OT_SERVE_REPO_H

#include "serve/control.h"

struct ot_repo {
    ot_repo *next; /* in the list that it waits in */
    ot_worker *worker;
    ot_http_req *req;
    ot_repo_op op;
    char name[OT_SERVE_NAME];
    ot_repo_fn *reply;
    int status;
    ot_str error; /* of a load: of the first version that could not be loaded */
    ot_repo_row *rows;
    size_t n_rows, cap_rows;

    /* Of one that goes to the control plane. */
    char key[OT_APIKEY_ID];       /* "": no key came with it */
    char from[OT_SOCK_ADDR_TEXT]; /* the caller's address */
    uint64_t seq;                 /* on this connection of the agent */
    uint64_t revision;            /* of the desired state that carries it out; 0: not told yet */
    ot_timer timer;               /* how long it may wait */
};

void ot_repo_answer_good(ot_repo *r);
void ot_repo_answer_error(ot_repo *r, int status, const char *message);
/* Answers when the deployment's versions have been loaded or have failed; at once when none is
 * being loaded. */
void ot_repo_wait_loaded(ot_control *c, ot_repo *r);

/* Why the deployment is not served as it is wanted; NULL: none of its versions has failed. */
const char *ot_repo_failure(const ot_control *c, const char *name);

/* managed.c: what is loaded is decided elsewhere. */
void ot_repo_managed(ot_control *c, ot_repo *r);
void ot_repo_unwait(ot_repo *r); /* it is answered now: its time does not run any more */

#endif
