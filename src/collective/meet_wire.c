#include "collective/meet_wire.h"

#include "base/mem.h"

#include <string.h>

const char *ot_event_kind_text(ot_event_kind k)
{
    static const char *const text[] = {"stopped", "continued", "exited", "killed",  "lost",
                                       "left",    "stuck",     "failed", "gone on", "leaving"};
    return (size_t)k < OT_COUNT(text) ? text[k] : "unknown";
}

/* --- writing --------------------------------------------------------------------------------- */

static void put(ot_str *out, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        ot_str_addc(out, (char)(uint8_t)(x >> 8 * i));
    }
}

static void put_text(ot_str *out, const char *text)
{
    size_t n = strlen(text);
    put(out, n, 2);
    ot_str_add(out, text, n);
}

/* The length is filled in by `end`. */
static size_t begin(ot_str *out, ot_meet_type type)
{
    size_t at = out->len;
    put(out, 0, 4);
    put(out, type, 1);
    return at;
}

static void end(ot_str *out, size_t at)
{
    if (!out->failed) {
        size_t n = out->len - at - OT_MEET_HEAD;
        for (int i = 0; i < 4; i++) {
            out->data[at + (size_t)i] = (char)(uint8_t)(n >> 8 * i);
        }
    }
}

static void put_one(ot_str *out, const ot_member *m)
{
    put(out, (uint32_t)m->rank, 4);
    put(out, (uint32_t)m->worker, 4);
    put_text(out, m->host);
    put_text(out, m->machine);
    put(out, (uint64_t)m->pid, 8);
    put_text(out, m->engine);
    put(out, (uint32_t)m->n_addrs, 1);
    for (int32_t i = 0; i < m->n_addrs; i++) {
        put_text(out, m->addrs[i]);
    }
    put(out, (uint32_t)m->local_rank, 4);
    put(out, (uint32_t)m->local_size, 4);
    put(out, (uint32_t)m->cross_rank, 4);
    put(out, (uint32_t)m->cross_size, 4);
}

void ot_meet_put_member(ot_str *out, int32_t size, uint64_t epoch, const ot_member *m)
{
    size_t at = begin(out, OT_MEET_MEMBER);
    put(out, (uint32_t)size, 4);
    put(out, epoch, 8);
    put_one(out, m);
    end(out, at);
}

static void put_table(ot_str *out, ot_meet_type type, uint64_t number, const ot_member *members,
                      int32_t n, const char *settings)
{
    size_t at = begin(out, type), len = strlen(settings);
    put(out, number, 8);
    put(out, (uint32_t)n, 4);
    for (int32_t i = 0; i < n; i++) {
        put_one(out, &members[i]);
    }
    put(out, len, 4);
    ot_str_add(out, settings, len);
    end(out, at);
}

void ot_meet_put_table(ot_str *out, uint64_t epoch, const ot_member *members, int32_t n,
                       const char *settings)
{
    put_table(out, OT_MEET_TABLE, epoch, members, n, settings);
}

void ot_meet_put_try(ot_str *out, uint64_t number, const ot_member *hosts, int32_t n)
{
    put_table(out, OT_MEET_TRY, number, hosts, n, "");
}

void ot_meet_put_tried(ot_str *out, uint64_t number, const char *why, const uint8_t *missed,
                       size_t bytes)
{
    size_t at = begin(out, OT_MEET_TRIED);
    put(out, number, 8);
    put_text(out, why);
    for (size_t i = 0; i < bytes; i++) {
        put(out, missed[i], 1);
    }
    end(out, at);
}

void ot_meet_put_event(ot_str *out, const ot_event *e)
{
    size_t at = begin(out, OT_MEET_EVENT);
    put(out, e->kind, 1);
    put(out, (uint32_t)e->rank, 4);
    put(out, (uint32_t)e->code, 4);
    put(out, e->link, 1);
    put_text(out, e->host);
    put_text(out, e->text);
    end(out, at);
}

void ot_meet_put_pulse(ot_str *out, const ot_pulse *p)
{
    size_t at = begin(out, OT_MEET_PULSE);
    const uint64_t v[] = {p->steps,         p->operations, p->bytes_in, p->bytes_out,
                          p->waited_for_us, p->waits_us,   p->samples};
    for (size_t i = 0; i < OT_COUNT(v); i++) {
        put(out, v[i], 8);
    }
    put(out, (uint32_t)p->slowest, 4);
    const ot_account *a = &p->account;
    const uint64_t w[] = {a->wall,  a->blocked,   a->late,  a->input, a->wire,
                          a->steps, a->late_most, a->exact, a->lossy};
    for (size_t i = 0; i < OT_COUNT(w); i++) {
        put(out, w[i], 8);
    }
    put(out, (uint32_t)a->late_rank, 4);
    end(out, at);
}

void ot_meet_put_clock(ot_str *out, const ot_meet_time *t)
{
    size_t at = begin(out, OT_MEET_CLOCK);
    put(out, t->asked_ns, 8);
    put(out, t->answered_ns, 8);
    put(out, t->kernel, 8);
    end(out, at);
}

void ot_meet_put_timeline(ot_str *out, bool last, const char *p, size_t n)
{
    size_t at = begin(out, OT_MEET_TIMELINE);
    put(out, last, 1);
    ot_str_add(out, p, n);
    end(out, at);
}

void ot_meet_put_counts(ot_str *out, int32_t waiting, int32_t leaving)
{
    size_t at = begin(out, OT_MEET_COUNTS);
    put(out, (uint32_t)waiting, 4);
    put(out, (uint32_t)leaving, 4);
    end(out, at);
}

void ot_meet_put_text(ot_str *out, ot_meet_type type, const char *text)
{
    size_t at = begin(out, type);
    put_text(out, text);
    end(out, at);
}

/* --- reading --------------------------------------------------------------------------------- */

typedef struct reader {
    const uint8_t *p;
    size_t left;
    bool bad;
} reader;

static uint64_t get(reader *r, int bytes)
{
    uint64_t x = 0;
    if (r->left < (size_t)bytes) {
        r->bad = true;
        return 0;
    }
    for (int i = 0; i < bytes; i++) {
        x |= (uint64_t)r->p[i] << 8 * i;
    }
    r->p += bytes;
    r->left -= (size_t)bytes;
    return x;
}

static int32_t get_i32(reader *r)
{
    return (int32_t)(uint32_t)get(r, 4);
}

/* Control characters, which a terminal would obey, become '?'. */
static void get_text(reader *r, char *out, size_t size)
{
    size_t n = get(r, 2);
    if (r->bad || n > r->left || n >= size) {
        r->bad = true;
        out[0] = 0;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = r->p[i] >= ' ' && r->p[i] != 127 ? (char)r->p[i] : '?';
    }
    out[n] = 0;
    r->p += n;
    r->left -= n;
}

static ot_rc finish(const reader *r, const char *what, ot_error *err)
{
    return r->bad || r->left > 0
               ? ot_fail(err, OT_DATA_LOSS, "%s that is not in the form of this protocol", what)
               : OT_OK;
}

ot_rc ot_meet_take(const uint8_t *p, size_t n, size_t max, ot_meet_frame *out, ot_error *err)
{
    reader r = {.p = p, .left = n};
    *out = (ot_meet_frame){0};
    size_t len = get(&r, 4);
    uint64_t type = get(&r, 1);
    if (r.bad) {
        return OT_OK;
    }
    if (len > max || type < OT_MEET_MEMBER || type >= OT_MEET_TYPES) {
        return ot_fail(err, OT_RANGE, "a message of type %u with %zu bytes; the limit is %zu",
                       (unsigned)type, len, max);
    }
    if (r.left >= len) {
        *out = (ot_meet_frame){
            .type = (ot_meet_type)type, .body = r.p, .n = len, .whole = len + OT_MEET_HEAD};
    }
    return OT_OK;
}

static void get_one(reader *r, ot_member *m)
{
    memset(m, 0, sizeof *m);
    m->rank = get_i32(r);
    m->worker = get_i32(r);
    get_text(r, m->host, sizeof m->host);
    get_text(r, m->machine, sizeof m->machine);
    m->pid = (int64_t)get(r, 8);
    get_text(r, m->engine, sizeof m->engine);
    m->n_addrs = (int32_t)get(r, 1);
    r->bad |= m->n_addrs > OT_MEET_ADDRS_MAX;
    for (int32_t i = 0; i < m->n_addrs && !r->bad; i++) {
        get_text(r, m->addrs[i], sizeof m->addrs[i]);
    }
    m->local_rank = get_i32(r);
    m->local_size = get_i32(r);
    m->cross_rank = get_i32(r);
    m->cross_size = get_i32(r);
}

ot_rc ot_meet_get_member(const ot_meet_frame *f, int32_t *size_out, uint64_t *epoch_out,
                         ot_member *out, ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    ot_member m;
    int32_t size = get_i32(&r);
    uint64_t epoch = get(&r, 8);
    get_one(&r, &m);
    OT_TRY(finish(&r, "a member", err));
    *size_out = size;
    *epoch_out = epoch;
    *out = m;
    return OT_OK;
}

ot_rc ot_meet_get_table(const ot_meet_frame *f, uint64_t *epoch_out, ot_member **members_out,
                        int32_t *n_out, char **settings_out, ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    uint64_t epoch = get(&r, 8);
    int32_t n = get_i32(&r);
    if (r.bad || n < 1 || n > OT_MEET_RANKS_MAX) {
        return ot_fail(err, OT_DATA_LOSS,
                       "a table of members that is not in the form of this "
                       "protocol");
    }
    ot_member *members = ot_calloc((size_t)n, sizeof *members);
    if (members == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "table of %d ranks: no memory", n);
    }
    for (int32_t i = 0; i < n && !r.bad; i++) {
        get_one(&r, &members[i]);
        r.bad |= members[i].rank != i;
    }
    size_t len = get(&r, 4);
    r.bad |= len > r.left || len > OT_MEET_SETTINGS_MAX;
    union {
        const uint8_t *u;
        const char *c;
    } text = {.u = r.p};
    char *settings = r.bad ? NULL : ot_strndup(text.c, len);
    r.left -= r.bad ? 0 : len;
    ot_rc rc = finish(&r, "a table of members", err);
    if (rc == OT_OK && settings == NULL) {
        rc = ot_fail(err, OT_EXHAUSTED, "settings of the job: no memory");
    }
    if (rc != OT_OK) {
        ot_free(members);
        ot_free(settings);
        return rc;
    }
    *epoch_out = epoch;
    *members_out = members;
    *n_out = n;
    *settings_out = settings;
    return OT_OK;
}

ot_rc ot_meet_get_event(const ot_meet_frame *f, ot_event *out, ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    ot_event e = {0};
    uint64_t kind = get(&r, 1);
    e.kind = (ot_event_kind)kind;
    r.bad |= kind > OT_EVENT_LEAVING;
    e.rank = get_i32(&r);
    e.code = get_i32(&r);
    uint64_t link = get(&r, 1);
    e.link = link == 1;
    r.bad |= link > 1;
    get_text(&r, e.host, sizeof e.host);
    get_text(&r, e.text, sizeof e.text);
    OT_TRY(finish(&r, "an event", err));
    *out = e;
    return OT_OK;
}

ot_rc ot_meet_get_pulse(const ot_meet_frame *f, ot_pulse *out, ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    ot_pulse p = {0};
    uint64_t *const v[] = {&p.steps,         &p.operations, &p.bytes_in, &p.bytes_out,
                           &p.waited_for_us, &p.waits_us,   &p.samples};
    for (size_t i = 0; i < OT_COUNT(v); i++) {
        *v[i] = get(&r, 8);
    }
    p.slowest = get_i32(&r);
    ot_account *a = &p.account;
    uint64_t *const w[] = {&a->wall,  &a->blocked,   &a->late,  &a->input, &a->wire,
                           &a->steps, &a->late_most, &a->exact, &a->lossy};
    for (size_t i = 0; i < OT_COUNT(w); i++) {
        *w[i] = get(&r, 8);
    }
    a->late_rank = get_i32(&r);
    OT_TRY(finish(&r, "a pulse", err));
    *out = p;
    return OT_OK;
}

ot_rc ot_meet_get_tried(const ot_meet_frame *f, uint64_t *number_out, char why[256],
                        const uint8_t **missed_out, size_t *bytes_out, ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    uint64_t number = get(&r, 8);
    get_text(&r, why, 256);
    if (r.bad) {
        return ot_fail(err, OT_DATA_LOSS, "tried links that are not in the form of this protocol");
    }
    *number_out = number;
    *missed_out = r.p;
    *bytes_out = r.left;
    return OT_OK;
}

ot_rc ot_meet_get_counts(const ot_meet_frame *f, int32_t *waiting_out, int32_t *leaving_out,
                         ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    int32_t waiting = get_i32(&r), leaving = get_i32(&r);
    r.bad |= waiting < 0 || leaving < 0;
    OT_TRY(finish(&r, "numbers of ranks", err));
    *waiting_out = waiting;
    *leaving_out = leaving;
    return OT_OK;
}

ot_rc ot_meet_get_clock(const ot_meet_frame *f, ot_meet_time *out, ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    ot_meet_time t = {.asked_ns = get(&r, 8)};
    t.answered_ns = get(&r, 8);
    t.kernel = get(&r, 8);
    OT_TRY(finish(&r, "a time", err));
    *out = t;
    return OT_OK;
}

ot_rc ot_meet_get_timeline(const ot_meet_frame *f, bool *last_out, const char **p_out,
                           size_t *n_out, ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    uint64_t last = get(&r, 1);
    for (size_t i = 0; i < r.left; i++) {
        r.bad |= r.p[i] < ' ' && r.p[i] != '\n';
    }
    if (r.bad || last > 1) {
        return ot_fail(err, OT_DATA_LOSS, "a timeline that is not in the form of this protocol");
    }
    union {
        const uint8_t *u;
        const char *c;
    } text = {.u = r.p};
    *last_out = last == 1;
    *p_out = text.c;
    *n_out = r.left;
    return OT_OK;
}

ot_rc ot_meet_get_text(const ot_meet_frame *f, char *out, size_t size, ot_error *err)
{
    reader r = {.p = f->body, .left = f->n};
    char text[1024];
    get_text(&r, text, OT_MIN(size, sizeof text));
    OT_TRY(finish(&r, "a text", err));
    memcpy(out, text, strlen(text) + 1);
    return OT_OK;
}
