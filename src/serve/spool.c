#include "serve/spool.h"

#include "base/log.h"
#include "base/mem.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0x5053544fu /* "OTSP" */
#define HEAD 12
#define DROPS_MAX 1024

typedef struct entry {
    struct entry *next;
    uint64_t incarnation, seq, bytes;
    uint64_t rows;    /* lost when this one is dropped: its own, and those it would have told of */
    uint64_t carried; /* of them those it would have told of, when dropped by this process */
    char deployment[65]; /* "": from before a restart, not read yet */
    bool sent;
} entry;

typedef struct stream_list {
    entry *head, **tail;
    uint64_t files, bytes, next_seq;
} stream_list;

typedef struct drop {
    char deployment[65];
    uint64_t rows;
} drop;

struct ot_spool {
    ot_disk *disk;
    char dir[OT_PATH_MAX];
    uint64_t incarnation;
    bool adopted; /* Synchronization: the thread of ot_spool_adopt */
    pthread_mutex_t lock;
    /* Synchronization: all below under lock. */
    uint64_t max_bytes, dropped_total;
    stream_list streams[OT_STREAMS];
    drop drops[DROPS_MAX];
    size_t n_drops;
};

const char *ot_stream_name(ot_stream s)
{
    return s == OT_STREAM_WINDOW ? "window" : "sample";
}

static ot_rc file_path(const ot_spool *s, ot_stream stream, const entry *e, const char *suffix,
                       char out[OT_PATH_MAX], ot_error *err)
{
    char name[128];
    snprintf(name, sizeof name, "%016llx-%s-%016llx%s", (unsigned long long)e->incarnation,
             ot_stream_name(stream), (unsigned long long)e->seq, suffix);
    return ot_path_join(out, s->dir, name, err);
}

static void append_locked(ot_spool *s, ot_stream stream, entry *e)
{
    stream_list *l = &s->streams[stream];
    e->next = NULL;
    *l->tail = e;
    l->tail = &e->next;
    l->files++;
    l->bytes += e->bytes;
}

/* Takes the first entry off its list and removes its file. */
static void remove_first_locked(ot_spool *s, ot_stream stream)
{
    stream_list *l = &s->streams[stream];
    entry *e = l->head;
    char path[OT_PATH_MAX];
    ot_error err;
    if (file_path(s, stream, e, "", path, &err) != OT_OK ||
        s->disk->ops->unlink(s->disk, path, &err) != OT_OK) {
        ot_warn("spool", "%s", err.msg);
    }
    l->head = e->next;
    if (l->head == NULL) {
        l->tail = &l->head;
    }
    l->files--;
    l->bytes -= e->bytes;
    ot_free(e);
}

static void count_dropped_locked(ot_spool *s, const char *deployment, uint64_t rows)
{
    s->dropped_total += rows;
    for (size_t i = 0; i < s->n_drops; i++) {
        if (strcmp(s->drops[i].deployment, deployment) == 0) {
            s->drops[i].rows += rows;
            return;
        }
    }
    if (s->n_drops < DROPS_MAX) {
        drop *d = &s->drops[s->n_drops++];
        snprintf(d->deployment, sizeof d->deployment, "%s", deployment);
        d->rows = rows;
    }
}

static uint64_t take_dropped_locked(ot_spool *s, const char *deployment)
{
    for (size_t i = 0; i < s->n_drops; i++) {
        if (strcmp(s->drops[i].deployment, deployment) == 0) {
            uint64_t rows = s->drops[i].rows;
            s->drops[i] = s->drops[--s->n_drops];
            return rows;
        }
    }
    return 0;
}

static ot_rc read_file(ot_spool *s, ot_stream stream, const entry *e, ot_spooled *out,
                       ot_error *err);

/* What a file from before a restart holds: only looked at when it has to go. */
static void learn_rows(ot_spool *s, ot_stream stream, entry *e)
{
    ot_spooled p;
    if (e->deployment[0] != '\0' || read_file(s, stream, e, &p, NULL) != OT_OK) {
        return;
    }
    json_t *j = json_loadb(p.json, p.json_len, 0, NULL);
    const char *name = json_string_value(json_object_get(j, "deployment"));
    if (name != NULL && ot_name_ok(name)) {
        snprintf(e->deployment, sizeof e->deployment, "%s", name);
        e->rows = (uint64_t)json_integer_value(json_object_get(j, "rows")) +
                  (uint64_t)json_integer_value(json_object_get(j, "dropped_rows"));
    }
    json_decref(j);
    ot_str_done(&p.bytes);
}

/* The total counts a row once, however often its count is carried on. */
static void drop_first_locked(ot_spool *s, ot_stream stream)
{
    entry *e = s->streams[stream].head;
    learn_rows(s, stream, e);
    s->dropped_total -= OT_MIN(e->carried, s->dropped_total);
    count_dropped_locked(s, e->deployment, e->rows);
    remove_first_locked(s, stream);
}

/* Before a push of `bytes` is added (0: for what is there): so that it can tell what it cost. */
static void make_room_locked(ot_spool *s, ot_stream stream, uint64_t bytes)
{
    const stream_list *l = &s->streams[stream];
    if (stream == OT_STREAM_WINDOW) {
        while (l->files >= OT_SPOOL_WINDOWS_MAX) {
            drop_first_locked(s, stream);
        }
        return;
    }
    while (l->head != NULL && l->bytes + bytes > s->max_bytes &&
           (bytes > 0 || l->head->next != NULL)) {
        drop_first_locked(s, stream);
    }
}

/* ---- opening */

typedef struct found_entry {
    ot_stream stream;
    entry *e;
} found_entry;

typedef struct scan {
    ot_spool *s;
    found_entry *found;
    size_t n, cap;
} scan;

static bool parse_name(const char *name, ot_stream *stream_out, uint64_t *incarnation_out,
                       uint64_t *seq_out)
{
    if (strlen(name) != 16 + 1 + 6 + 1 + 16 || name[16] != '-' || name[23] != '-') {
        return false;
    }
    uint8_t a[8], b[8];
    char first[17];
    memcpy(first, name, 16);
    first[16] = '\0';
    if (!ot_unhex(first, 8, a) || !ot_unhex(name + 24, 8, b)) {
        return false;
    }
    if (strncmp(name + 17, "window", 6) == 0) {
        *stream_out = OT_STREAM_WINDOW;
    } else if (strncmp(name + 17, "sample", 6) == 0) {
        *stream_out = OT_STREAM_SAMPLE;
    } else {
        return false;
    }
    *incarnation_out = *seq_out = 0;
    for (size_t i = 0; i < 8; i++) {
        *incarnation_out = *incarnation_out << 8 | a[i];
        *seq_out = *seq_out << 8 | b[i];
    }
    return true;
}

static ot_rc found_file(void *arg, const char *name, ot_error *err)
{
    scan *c = arg;
    ot_stream stream;
    entry e = {0};
    if (!parse_name(name, &stream, &e.incarnation, &e.seq) || e.incarnation == c->s->incarnation) {
        return OT_OK; /* a temporary file, not ours, or known */
    }
    char path[OT_PATH_MAX];
    ot_stat st;
    OT_TRY(ot_path_join(path, c->s->dir, name, err));
    OT_TRY(c->s->disk->ops->stat(c->s->disk, path, &st, err));
    e.bytes = st.size;
    if (!ot_grow(&c->found, &c->cap, c->n, sizeof *c->found, 0)) {
        return ot_fail(err, OT_EXHAUSTED, "spool: out of memory");
    }
    entry *copy = ot_alloc(sizeof *copy);
    if (copy == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "spool: out of memory");
    }
    *copy = e;
    c->found[c->n].stream = stream;
    c->found[c->n++].e = copy;
    return OT_OK;
}

static int by_name(const void *a, const void *b)
{
    const found_entry *x = a, *y = b;
    if (x->e->incarnation != y->e->incarnation) {
        return x->e->incarnation < y->e->incarnation ? -1 : 1;
    }
    return x->e->seq < y->e->seq ? -1 : x->e->seq > y->e->seq;
}

ot_rc ot_spool_adopt(ot_spool *s, ot_error *err)
{
    scan c = {.s = s};
    if (s->adopted) {
        return OT_OK;
    }
    ot_rc rc = s->disk->ops->list(s->disk, s->dir, found_file, &c, err);
    if (rc == OT_OK && c.n > 0) {
        qsort(c.found, c.n, sizeof c.found[0], by_name);
    }
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < c.n; i++) {
        if (rc == OT_OK) {
            append_locked(s, c.found[i].stream, c.found[i].e);
        } else {
            ot_free(c.found[i].e);
        }
    }
    pthread_mutex_unlock(&s->lock);
    ot_free(c.found);
    s->adopted = rc == OT_OK;
    return rc;
}

ot_rc ot_spool_open(ot_disk *disk, const char *dir, uint64_t incarnation, uint64_t max_bytes,
                    ot_spool **spool_out, ot_error *err)
{
    ot_spool *s = ot_calloc(1, sizeof *s);
    if (s == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "spool: out of memory");
    }
    s->disk = disk;
    s->incarnation = incarnation;
    s->max_bytes = max_bytes;
    pthread_mutex_init(&s->lock, NULL);
    for (int i = 0; i < OT_STREAMS; i++) {
        s->streams[i].tail = &s->streams[i].head;
    }
    ot_rc rc = ot_path_join(s->dir, dir, "", err);
    if (rc == OT_OK) {
        snprintf(s->dir, sizeof s->dir, "%s", dir);
        rc = ot_disk_mkdirs(disk, dir, 0700, err);
    }
    if (rc != OT_OK) {
        ot_spool_close(s);
        return rc;
    }
    *spool_out = s;
    return OT_OK;
}

void ot_spool_close(ot_spool *s)
{
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < OT_STREAMS; i++) {
        while (s->streams[i].head != NULL) {
            entry *e = s->streams[i].head;
            s->streams[i].head = e->next;
            ot_free(e);
        }
    }
    pthread_mutex_destroy(&s->lock);
    ot_free(s);
}

void ot_spool_set_max(ot_spool *s, uint64_t max_bytes)
{
    pthread_mutex_lock(&s->lock);
    s->max_bytes = max_bytes;
    make_room_locked(s, OT_STREAM_SAMPLE, 0);
    pthread_mutex_unlock(&s->lock);
}

/* ---- writing */

static void put_u32(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(x >> (8 * i));
    }
}

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static ot_rc write_file(ot_spool *s, ot_stream stream, entry *e, const ot_str *json,
                        const struct iovec *bin, size_t n_bin, ot_error *err)
{
    char temporary[OT_PATH_MAX], path[OT_PATH_MAX];
    OT_TRY(file_path(s, stream, e, ".tmp", temporary, err));
    OT_TRY(file_path(s, stream, e, "", path, err));
    size_t bin_len = 0;
    for (size_t i = 0; i < n_bin; i++) {
        bin_len += bin[i].iov_len;
    }
    if (json->len + bin_len > OT_SPOOL_PUSH_MAX) {
        return ot_fail(err, OT_EXHAUSTED, "spool: a push of %zu bytes; the limit is %u",
                       json->len + bin_len, OT_SPOOL_PUSH_MAX);
    }
    uint8_t head[HEAD];
    put_u32(head, MAGIC);
    put_u32(head + 4, (uint32_t)json->len);
    put_u32(head + 8, (uint32_t)bin_len);
    ot_file *f;
    OT_TRY(s->disk->ops->open(s->disk, temporary,
                              OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_TRUNC | OT_OPEN_APPEND, 0600,
                              &f, err));
    ot_rc rc = f->ops->append(f, head, sizeof head, err);
    if (rc == OT_OK) {
        rc = f->ops->append(f, json->data, json->len, err);
    }
    for (size_t i = 0; i < n_bin && rc == OT_OK; i++) {
        if (bin[i].iov_len > 0) {
            rc = f->ops->append(f, bin[i].iov_base, bin[i].iov_len, err);
        }
    }
    ot_file_close(f);
    if (rc == OT_OK) {
        rc = s->disk->ops->rename(s->disk, temporary, path, err);
    }
    if (rc != OT_OK) {
        ot_rc ignored = s->disk->ops->unlink(s->disk, temporary, NULL);
        (void)ignored;
        return rc;
    }
    e->bytes = HEAD + json->len + bin_len;
    return OT_OK;
}

ot_rc ot_spool_add(ot_spool *s, ot_stream stream, const char *deployment, uint64_t rows,
                   const char *fields, const struct iovec *bin, size_t n_bin, ot_error *err)
{
    entry *e = ot_calloc(1, sizeof *e);
    if (e == NULL) {
        ot_spool_count_dropped(s, deployment, rows);
        return ot_fail(err, OT_EXHAUSTED, "spool: out of memory");
    }
    uint64_t bytes = HEAD + strlen(fields);
    for (size_t i = 0; i < n_bin; i++) {
        bytes += bin[i].iov_len;
    }
    pthread_mutex_lock(&s->lock);
    make_room_locked(s, stream, bytes);
    e->seq = ++s->streams[stream].next_seq;
    uint64_t dropped = stream == OT_STREAM_SAMPLE ? take_dropped_locked(s, deployment) : 0;
    pthread_mutex_unlock(&s->lock);
    e->incarnation = s->incarnation;
    e->rows = rows + dropped;
    e->carried = dropped;
    snprintf(e->deployment, sizeof e->deployment, "%s", deployment);
    OT_AUTO(ot_str_done) ot_str json = OT_STR_INIT;
    ot_str_addf(&json, "{\"stream\":\"%s\",\"seq\":%llu,\"incarnation\":\"%016llx\"",
                ot_stream_name(stream), (unsigned long long)e->seq,
                (unsigned long long)e->incarnation);
    if (dropped > 0) {
        ot_str_addf(&json, ",\"dropped_rows\":%llu", (unsigned long long)dropped);
    }
    ot_str_addf(&json, ",%s}", fields);
    ot_rc rc = json.failed ? ot_fail(err, OT_EXHAUSTED, "spool: out of memory")
                           : write_file(s, stream, e, &json, bin, n_bin, err);
    pthread_mutex_lock(&s->lock);
    if (rc == OT_OK) {
        append_locked(s, stream, e);
    } else {
        /* The sequence has a gap then; an acknowledgement is "up to", so a gap harms nothing. */
        s->dropped_total -= OT_MIN(dropped, s->dropped_total); /* they were counted before */
        count_dropped_locked(s, deployment, rows + dropped);
        ot_free(e);
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

void ot_spool_count_dropped(ot_spool *s, const char *deployment, uint64_t rows)
{
    pthread_mutex_lock(&s->lock);
    count_dropped_locked(s, deployment, rows);
    pthread_mutex_unlock(&s->lock);
}

/* ---- sending */

static ot_rc read_file(ot_spool *s, ot_stream stream, const entry *e, ot_spooled *out,
                       ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(file_path(s, stream, e, "", path, err));
    ot_str_init(&out->bytes);
    ot_rc rc = ot_disk_read_all(s->disk, path, OT_SPOOL_PUSH_MAX + HEAD, &out->bytes, err);
    if (rc != OT_OK) {
        ot_str_done(&out->bytes);
        return rc;
    }
    const uint8_t *p = (const uint8_t *)out->bytes.data;
    uint64_t json_len = 0, bin_len = 0;
    if (out->bytes.len >= HEAD && get_u32(p) == MAGIC) {
        json_len = get_u32(p + 4);
        bin_len = get_u32(p + 8);
    }
    if (json_len == 0 || HEAD + json_len + bin_len != out->bytes.len) {
        ot_str_done(&out->bytes);
        return ot_fail(err, OT_DATA_LOSS, "%s is not a whole push", path);
    }
    out->incarnation = e->incarnation;
    out->seq = e->seq;
    out->json = out->bytes.data + HEAD;
    out->json_len = (size_t)json_len;
    out->bin = p + HEAD + json_len;
    out->bin_len = (size_t)bin_len;
    return OT_OK;
}

/* Unlinks the entry wherever it is in its list. */
static void forget_locked(ot_spool *s, ot_stream stream, entry *e)
{
    stream_list *l = &s->streams[stream];
    for (entry **at = &l->head; *at != NULL; at = &(*at)->next) {
        if (*at == e) {
            *at = e->next;
            if (e->next == NULL) {
                l->tail = at;
            }
            l->files--;
            l->bytes -= e->bytes;
            char path[OT_PATH_MAX];
            if (file_path(s, stream, e, "", path, NULL) == OT_OK) {
                ot_rc ignored = s->disk->ops->unlink(s->disk, path, NULL);
                (void)ignored;
            }
            ot_free(e);
            return;
        }
    }
}

ot_rc ot_spool_next(ot_spool *s, ot_stream stream, ot_spooled *out, ot_error *err)
{
    pthread_mutex_lock(&s->lock);
    stream_list *l = &s->streams[stream];
    ot_rc rc = OT_NOT_FOUND;
    for (entry *e = l->head; e != NULL;) {
        if (e->incarnation != l->head->incarnation) {
            break; /* the earlier one has to be acknowledged first */
        }
        if (e->sent) {
            e = e->next;
            continue;
        }
        rc = read_file(s, stream, e, out, err);
        if (rc == OT_OK) {
            e->sent = true;
            break;
        }
        ot_warn("spool", "dropped: %s", err != NULL ? err->msg : "unreadable push");
        count_dropped_locked(s, e->deployment, e->rows);
        entry *next = e->next;
        forget_locked(s, stream, e);
        e = next;
        rc = OT_NOT_FOUND;
    }
    pthread_mutex_unlock(&s->lock);
    return rc == OT_OK ? OT_OK : ot_fail(err, OT_NOT_FOUND, "nothing to push");
}

void ot_spool_rewind(ot_spool *s)
{
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < OT_STREAMS; i++) {
        for (entry *e = s->streams[i].head; e != NULL; e = e->next) {
            e->sent = false;
        }
    }
    pthread_mutex_unlock(&s->lock);
}

void ot_spool_ack(ot_spool *s, ot_stream stream, uint64_t incarnation, uint64_t seq)
{
    pthread_mutex_lock(&s->lock);
    stream_list *l = &s->streams[stream];
    if (l->head != NULL && (incarnation == 0 || incarnation == l->head->incarnation)) {
        uint64_t which = l->head->incarnation;
        while (l->head != NULL && l->head->incarnation == which && l->head->seq <= seq &&
               l->head->sent) {
            remove_first_locked(s, stream);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

void ot_spool_pending(ot_spool *s, uint64_t *files_out, uint64_t *bytes_out,
                      uint64_t *dropped_rows_out)
{
    pthread_mutex_lock(&s->lock);
    *files_out = *bytes_out = 0;
    for (int i = 0; i < OT_STREAMS; i++) {
        *files_out += s->streams[i].files;
        *bytes_out += s->streams[i].bytes;
    }
    *dropped_rows_out = s->dropped_total;
    pthread_mutex_unlock(&s->lock);
}
