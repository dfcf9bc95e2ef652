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
    OT_MEET_MEMBER = 1, /* up: size of the world, the member */
    OT_MEET_REFUSED,    /* down: why; then it closes */
    OT_MEET_TABLE,      /* down: members by rank, settings */
    OT_MEET_EVENT,      /* both */
    OT_MEET_PULSE,      /* up */
    OT_MEET_WAITING,    /* down: for whom */
} ot_meet_type;

/* Each appends one message. */
void ot_meet_put_member(ot_str *out, int32_t size, const ot_member *m);
void ot_meet_put_table(ot_str *out, const ot_member *members, int32_t n, const char *settings);
void ot_meet_put_event(ot_str *out, const ot_event *e);
void ot_meet_put_pulse(ot_str *out, const ot_pulse *p);
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
/* Bodies. OT_DATA_LOSS: not in this form. A table's members and settings are the caller's to free
 * (ot_free). */
ot_rc ot_meet_get_member(const ot_meet_frame *f, int32_t *size_out, ot_member *out,
                         ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_table(const ot_meet_frame *f, ot_member **members_out, int32_t *n_out,
                        char **settings_out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_event(const ot_meet_frame *f, ot_event *out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_pulse(const ot_meet_frame *f, ot_pulse *out, ot_error *err) OT_CHECKED;
ot_rc ot_meet_get_text(const ot_meet_frame *f, char *out, size_t size, ot_error *err) OT_CHECKED;

/* Fills in local and cross ranks: ranks of one machine are numbered in rank order, machines by
 * their lowest rank. OT_EXHAUSTED: no memory. */
ot_rc ot_meet_place(ot_member *members, int32_t n) OT_CHECKED;

#endif
