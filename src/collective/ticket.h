/* Tickets: what became of each request, from overtake_start to overtake_wait.
 *
 * Threads: any; the table has one lock. A ticket is the progress thread's until it is done, then
 * that of who waits for it. Lifetime: create/destroy. */
#ifndef OT_COLLECTIVE_TICKET_H
#define OT_COLLECTIVE_TICKET_H

#include "collective/plan.h"
#include "collective/trace.h"

#include <pthread.h>

#define OT_TICKETS_MAX 65536

typedef struct ot_ticket {
    overtake_handle handle;
    int32_t group;
    bool named;
    ot_signature sig;
    int64_t *splits; /* as asked; NULL: equal */
    const void *in;
    void *out;
    uint64_t out_bytes;
    uint64_t since_ns;
    bool taken, begun; /* the progress thread's: it has heard of it; it is on its way */
    ot_late late;      /* once it is done */

    /* Synchronization: of the table's lock from here. */
    bool done, waited, polled;
    ot_error why; /* rc OT_OK: well */
    int32_t culprit;
    overtake_result result;
} ot_ticket;

typedef struct ot_tickets {
    pthread_mutex_t lock;
    pthread_cond_t some_done;
    ot_ticket *slots[OT_TICKETS_MAX];
    uint32_t generations[OT_TICKETS_MAX];
    uint32_t next;    /* where to look for a free slot */
    uint32_t n, open; /* tickets; those not done */
} ot_tickets;

ot_rc ot_tickets_create(ot_tickets **out, ot_error *err) OT_CHECKED;
void ot_tickets_destroy(ot_tickets *t);
/* A new ticket with a handle; the caller fills it in before anybody else hears of it. */
ot_rc ot_ticket_add(ot_tickets *t, ot_ticket **out, ot_error *err) OT_CHECKED;
/* NULL: no such handle. The lock is held. */
ot_ticket *ot_ticket_find_locked(ot_tickets *t, overtake_handle h);
void ot_ticket_remove_locked(ot_tickets *t, ot_ticket *k);
/* It is done; `why` NULL: well. */
void ot_ticket_end(ot_tickets *t, ot_ticket *k, const ot_error *why, int32_t culprit);
void ot_tickets_end_all(ot_tickets *t, const ot_error *why, int32_t culprit);
void ot_tickets_await_all(ot_tickets *t, uint64_t until_ns);
/* Waits until it is done, or until mono ns (0: for ever); false: time is up. */
bool ot_ticket_await_locked(ot_tickets *t, const ot_ticket *k, uint64_t until_ns);

/* Outputs that the library made: with rows by rank behind the data. */
void *ot_out_make(uint64_t bytes, int32_t n_splits, int64_t **splits_out);
bool ot_out_free(void *out); /* false: not ours */

#endif
