/* links: collective base */
/* Messages of the meeting point: what is taken lies inside the bytes and within the limits, and
 * written again it is read as the same. */
#include "base/mem.h"
#include "collective/auth.h"
#include "collective/meet_wire.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(ot_str *out, const ot_meet_frame *f, bool exact)
{
    ot_meet_frame g;
    union {
        const char *c;
        const uint8_t *u;
    } p = {.c = out->data};
    if (out->failed || ot_meet_take(p.u, out->len, OT_MEET_DOWN_MAX, &g, NULL) != OT_OK ||
        g.type != f->type || g.whole != out->len || (exact && g.n != f->n)) {
        abort();
    }
    ot_str_done(out);
}

static void take_one(const ot_meet_frame *f)
{
    ot_str out = OT_STR_INIT;
    ot_member m, *all;
    ot_event e;
    ot_pulse p;
    int32_t n, leaving;
    uint64_t epoch;
    char text[1024], *settings;
    ot_meet_time t;
    bool last;
    const char *events;
    size_t n_events;
    const uint8_t *missed;
    if (f->type == OT_MEET_MEMBER && ot_meet_get_member(f, &n, &epoch, &m, NULL) == OT_OK) {
        ot_meet_put_member(&out, n, epoch, &m);
        same(&out, f, true);
    } else if (f->type == OT_MEET_EVENT && ot_meet_get_event(f, &e, NULL) == OT_OK) {
        ot_meet_put_event(&out, &e);
        same(&out, f, true);
    } else if (f->type == OT_MEET_PULSE && ot_meet_get_pulse(f, &p, NULL) == OT_OK) {
        ot_meet_put_pulse(&out, &p);
        same(&out, f, true);
    } else if (f->type == OT_MEET_TABLE &&
               ot_meet_get_table(f, &epoch, &all, &n, &settings, NULL) == OT_OK) {
        if (ot_meet_place(all, n) != OT_OK) {
            abort();
        }
        ot_meet_put_table(&out, epoch, all, n, settings);
        same(&out, f, false); /* settings with a NUL end there */
        ot_free(all);
        ot_free(settings);
    } else if (f->type == OT_MEET_TRIED &&
               ot_meet_get_tried(f, &epoch, text, &missed, &n_events, NULL) == OT_OK) {
        ot_meet_put_tried(&out, epoch, text, missed, n_events);
        same(&out, f, true);
    } else if (f->type == OT_MEET_COUNTS && ot_meet_get_counts(f, &n, &leaving, NULL) == OT_OK) {
        ot_meet_put_counts(&out, n, leaving);
        same(&out, f, true);
    } else if (f->type == OT_MEET_CLOCK && ot_meet_get_clock(f, &t, NULL) == OT_OK) {
        ot_meet_put_clock(&out, &t);
        same(&out, f, true);
    } else if (f->type == OT_MEET_TIMELINE &&
               ot_meet_get_timeline(f, &last, &events, &n_events, NULL) == OT_OK) {
        ot_meet_put_timeline(&out, last, events, n_events);
        same(&out, f, true);
    } else if (ot_meet_get_text(f, text, sizeof text, NULL) == OT_OK) {
        ot_meet_put_text(&out, f->type, text);
        same(&out, f, true);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= OT_AUTH_HELLO) {
        ot_auth a;
        ot_auth_who who;
        uint8_t reply[OT_AUTH_REPLY];
        ot_auth_init(&a, "key", 3);
        (void)!ot_auth_take_hello(&a, data, reply, &who, NULL);
    }
    for (size_t at = 0; at <= size;) {
        ot_meet_frame f;
        if (ot_meet_take(data + at, size - at, 65536, &f, NULL) != OT_OK || f.whole == 0) {
            break;
        }
        if (f.whole > size - at || f.n + OT_MEET_HEAD != f.whole ||
            f.body != data + at + OT_MEET_HEAD) {
            abort();
        }
        take_one(&f);
        at += f.whole;
    }
    return 0;
}
