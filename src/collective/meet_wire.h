/* Messages between a rank and the meeting point, after the proof of the key (auth.h).
 *
 *     length of the body 4 | type 1 | body           numbers little-endian
 *     text: length 2 | bytes; the settings: length 4 | bytes
 *
 * Threads: pure. */
#ifndef OT_COLLECTIVE_MEET_WIRE_H
#define OT_COLLECTIVE_MEET_WIRE_H

#include "base/str.h"
#include "collective/meet.h"

#define OT_MEET_HEAD 5
#define OT_MEET_UP_MAX 4096u         /* body of what a rank sends */
#define OT_MEET_DOWN_MAX (16u << 20) /* of what it gets: a table of all ranks */
#define OT_MEET_SETTINGS_MAX (64u << 10)

typedef enum ot_meet_type {
    OT_MEET_MEMBER = 1, /* up: size of the world, the epoch it has been in, the member */
    OT_MEET_REFUSED,    /* down: why; then it closes */
    OT_MEET_TABLE,      /* down: epoch, members by rank, settings */
    OT_MEET_EVENT,      /* both */
    OT_MEET_PULSE,      /* up */
    OT_MEET_WAITING,    /* down: for whom */
    OT_MEET_QUEUED,     /* down, elastic: it is new and will be admitted */
    OT_MEET_OVER,       /* down, elastic: why there is no next epoch; then it closes */
    OT_MEET_COUNTS,     /* down, elastic: how many wait to be admitted, and are to leave */
    OT_MEET_CLOCK,      /* up: time there; down: the same, time here, a hash of the kernel's name */
    OT_MEET_TIMELINE,   /* up: 1 for the last piece else 0, text to the end */
    OT_MEET_TRY,        /* down, elastic: as a table, of hosts to try for links; a number first */
    OT_MEET_TRIED,      /* up: that number, how one failed, a bit a host: it does not answer */
    OT_MEET_TYPES
} ot_meet_type;

/* Each appends one message. */
void ot_meet_put_member(ot_str *out, int32_t size, uint64_t epoch, const ot_member *m);
void ot_meet_put_table(ot_str *out, uint64_t epoch, const ot_member *members, int32_t n,
                       const char *settings);
void ot_meet_put_try(ot_str *out, uint64_t number, const ot_member *hosts, int32_t n);
void ot_meet_put_tried(ot_str *out, uint64_t number, const char *why, const uint8_t *missed,
                       size_t bytes);
void ot_meet_put_counts(ot_str *out, int32_t waiting, int32_t leaving);
void ot_meet_put_event(ot_str *out, const ot_event *e);
void ot_meet_put_pulse(ot_str *out, const ot_pulse *p);
typedef struct ot_meet_time {
    uint64_t asked_ns, answered_ns, kernel;
} ot_meet_time;
void ot_meet_put_clock(ot_str *out, const ot_meet_time *t);
void ot_meet_put_timeline(ot_str *out, bool last, const char *p, size_t n); /* n below UP_MAX */
void ot_meet_put_text(ot_str *out, ot_meet_type type, const char *text);

typedef struct ot_meet_frame {
    ot_meet_type type;
    const uint8_t *body;
    size_t n, whole; /* of the body; with its head */
} ot_meet_frame;

/* The message that the n bytes begin with. whole is 0 while more must come. OT_RANGE: longer than
 * `max`. */
ot_rc ot_meet_take(const uint8_t *p, size_t n, size_t max, ot_meet_frame *out,
                   ot_error *err) OT_CHECKED;
/* Bodies. OT_DATA_LOSS: not in this form. A table's (also of hosts to try) members and settings are
 * the caller's to free (ot_free). */
ot_rc ot_meet_get_member(const ot_meet_frame *f, int32_t *size_out, uint64_t *epoch_out,
                         ot_member *out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_table(const ot_meet_frame *f, uint64_t *epoch_out, ot_member **members_out,
                        int32_t *n_out, char **settings_out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_tried(const ot_meet_frame *f, uint64_t *number_out, char why[256],
                        const uint8_t **missed_out, size_t *bytes_out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_counts(const ot_meet_frame *f, int32_t *waiting_out, int32_t *leaving_out,
                         ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_event(const ot_meet_frame *f, ot_event *out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_pulse(const ot_meet_frame *f, ot_pulse *out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_clock(const ot_meet_frame *f, ot_meet_time *out, ot_error *err) OT_CHECKED;
/* Stays in the frame. Control characters but line feeds are refused. */
ot_rc ot_meet_get_timeline(const ot_meet_frame *f, bool *last_out, const char **p_out,
                           size_t *n_out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_text(const ot_meet_frame *f, char *out, size_t size, ot_error *err) OT_CHECKED;

/* Fills in local and cross ranks: ranks of one machine are numbered in rank order, machines by
 * their lowest rank. OT_EXHAUSTED: no memory. */
ot_rc ot_meet_place(ot_member *members, int32_t n) OT_CHECKED;

#endif
