#include "api/head.h"

#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct ot_log_head {
    ot_store *store;
    ot_file *file;
    bool listening;
    uint64_t bad_seq; /* 0: none */
    char what[256];
};

/* False when there is none or it is torn. */
static bool read_kept(ot_disk *d, const char *path, ot_event_head *out)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    return ot_disk_read_all(d, path, 4096, &text, NULL) == OT_OK &&
           ot_event_head_parse(text.data, out);
}

struct look {
    ot_event_head kept, head, found;
};

static ot_rc take_hash(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    ((struct look *)arg)->found = (ot_event_head){.seq = e->seq, .hash = e->hash};
    return OT_OK;
}

static ot_rc look_txn(ot_txn *txn, void *arg, ot_error *err)
{
    struct look *l = arg;
    OT_TRY(ot_events_head(txn, &l->head, err));
    ot_rc rc = ot_event_get(txn, l->kept.seq, take_hash, l, err);
    return rc == OT_NOT_FOUND ? OT_OK : rc;
}

static void judge(ot_log_head *h, const struct look *l)
{
    if (l->head.seq < l->kept.seq) {
        h->bad_seq = l->head.seq + 1;
        snprintf(h->what, sizeof h->what,
                 "event %" PRIu64 ": gone: the log ended before it when it was opened, and had "
                 "come to event %" PRIu64,
                 h->bad_seq, l->kept.seq);
    } else if (l->found.seq != l->kept.seq || !ot_digest_equal(&l->found.hash, &l->kept.hash)) {
        h->bad_seq = l->kept.seq;
        snprintf(h->what, sizeof h->what,
                 "event %" PRIu64 ": rewritten: it is not what it was when it was written",
                 h->bad_seq);
    }
}

/* A head that can't be written is an old one: it proves less, and nothing else breaks. */
static void on_commit(void *arg, const ot_event *events, size_t n)
{
    ot_log_head *h = arg;
    char text[OT_EVENT_HEAD_LINE + 1];
    ot_error err;
    ot_event_head last = {.seq = events[n - 1].seq, .hash = events[n - 1].hash};
    ot_event_head_format(&last, text);
    if (h->file->ops->pwrite(h->file, text, strlen(text), 0, &err) != OT_OK) {
        ot_debug("control", "log.head: %s", err.msg);
    }
}

static ot_rc start(ot_log_head *h, const char *path, ot_error *err)
{
    struct look l = {0};
    ot_disk *d = ot_store_disk(h->store);
    if (read_kept(d, path, &l.kept)) {
        OT_TRY(ot_store_read(h->store, look_txn, &l, err));
        judge(h, &l);
    }
    if (h->bad_seq > 0) {
        ot_err("control",
               "the log was changed while nobody had it open: %s. See overtake events "
               "verify; remove %s once it is explained",
               h->what, path);
        return OT_OK;
    }
    OT_TRY(d->ops->open(d, path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_NOFOLLOW, 0600, &h->file,
                        err));
    OT_TRY(ot_store_on_event(h->store, on_commit, h, err));
    h->listening = true;
    return OT_OK;
}

ot_rc ot_log_head_open(ot_store *store, const char *dir, ot_log_head **out, ot_error *err)
{
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, dir, "log.head", err));
    ot_log_head *h = ot_calloc(1, sizeof *h);
    if (h == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "%s: no memory", path);
    }
    h->store = store;
    ot_rc rc = start(h, path, err);
    if (rc != OT_OK) {
        ot_log_head_close(h);
        return rc;
    }
    *out = h;
    return OT_OK;
}

void ot_log_head_close(ot_log_head *h)
{
    if (h == NULL) {
        return;
    }
    if (h->listening) {
        ot_store_off_event(h->store, on_commit, h);
    }
    if (h->file != NULL) {
        ot_file_close(h->file);
    }
    ot_free(h);
}

const char *ot_log_head_fault(const ot_log_head *h, uint64_t *seq_out)
{
    if (h->bad_seq == 0) {
        return NULL;
    }
    *seq_out = h->bad_seq;
    return h->what;
}
