/* Between the engine and its wires. */
#ifndef OT_LOAD_ENGINE_INTERNAL_H
#define OT_LOAD_ENGINE_INTERNAL_H

#include "load/engine.h"
#include "net/tls_conn.h"

typedef struct ot_load_engine ot_load_engine;
typedef struct ot_load_conn ot_load_conn;

/* A request on its way. */
typedef struct ot_load_flight {
    bool busy, measured;
    size_t request;
    uint64_t due_ns, sent_ns;
    int32_t stream; /* the wire's */
} ot_load_flight;

struct ot_load_conn {
    ot_load_engine *engine;
    int fd;           /* -1: closed */
    bool connecting;  /* not writable yet, or the two sides of TLS have not agreed yet */
    ot_tls_conn *tls; /* NULL: clear text */
    bool wants_write;
    uint32_t events;
    uint64_t retry_ns; /* closed: when to connect again */
    bool listed;       /* in the list of those with room for a request */
    unsigned busy;     /* flights that are */
    void *state;       /* the wire's */
    ot_load_flight *flights;
};

struct ot_load_wire {
    /* The socket is connected. */
    ot_rc (*open)(ot_load_conn *c, ot_error *err);
    /* Begins to send; what does not go out at once goes when there is room (`wants_write`). */
    void (*send)(ot_load_conn *c, ot_load_flight *f, const ot_load_request *r);
    /* Reads and answers what is whole. False: the connection is over. */
    bool (*readable)(ot_load_conn *c);
    bool (*writable)(ot_load_conn *c); /* false: as above */
    /* The flight's time is over: the connection goes on without it. NULL: it has to be closed. */
    void (*cancel)(ot_load_conn *c, ot_load_flight *f);
    void (*close)(ot_load_conn *c); /* frees `state`; also of one that never opened */
};

/* transport.c. As read(2) and writev(2) on a non-blocking socket: */
ssize_t ot_load_read(ot_load_conn *c, void *p, size_t n);
ssize_t ot_load_write(ot_load_conn *c, const struct iovec *iov, int n); /* 1 or 2 pieces */
bool ot_load_more_in(const ot_load_conn *c); /* that the descriptor does not tell of */
bool ot_load_wants_write(const ot_load_conn *c);
ot_rc ot_load_connect(ot_load_conn *c, ot_error *err) OT_CHECKED; /* waits for it */
ot_tls_step ot_load_shake(ot_load_conn *c, ot_error *err);        /* TLS, if there is any */
void ot_load_hang_up(ot_load_conn *c);

/* For wires: the flight has its answer, or ended without one. */
void ot_load_answered(ot_load_conn *c, ot_load_flight *f, const ot_load_answer *a);
void ot_load_ended(ot_load_conn *c, ot_load_flight *f, ot_load_outcome how);
const ot_load_options *ot_load_options_of(const ot_load_engine *e);

#endif
