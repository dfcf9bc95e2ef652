/* The data directory: looked at, never changed. */
#include "doctor/internal.h"

#include "backup/backup.h"
#include "base/clock.h"
#include "base/mem.h"
#include "model/trust.h"
#include "net/http_client.h"
#include "store/backup.h"
#include "store/events.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROVE_US 8000000
#define PROVE_BYTES_MAX (UINT64_C(2) << 30) /* of a database that is read within these seconds */
#define PROVE_FIX "keep the directory as it is and restore a backup elsewhere: docs/operations.md"

/* ------------------------------------------------------------------ who may read it, who has it */

static void say_modes(doctor *d)
{
    static const char *const secrets[] = {"token", OT_SIGNER_FILE};
    ot_disk *disk = ot_disk_posix();
    char path[OT_PATH_MAX], fix[OT_PATH_MAX + 64];
    ot_stat st;
    if (disk->ops->stat(disk, d->o->data_dir, &st, NULL) == OT_OK && (st.mode & 022) != 0) {
        snprintf(fix, sizeof fix, "chmod go-w '%s'", d->o->data_dir);
        dr_say(d, "data.modes", OT_CHECK_FAIL, fix, "others may write into it (mode %03o)",
               st.mode);
        return;
    }
    for (size_t i = 0; i < OT_COUNT(secrets); i++) {
        if (ot_path_join(path, d->o->data_dir, secrets[i], NULL) == OT_OK &&
            disk->ops->stat(disk, path, &st, NULL) == OT_OK && (st.mode & 077) != 0) {
            snprintf(fix, sizeof fix, "chmod 600 '%s', or remove it for a new one", path);
            dr_say(d, "data.modes", OT_CHECK_FAIL, fix, "others can read its %s (mode %03o)",
                   secrets[i], st.mode);
            return;
        }
    }
    dr_say(d, "data.modes", OT_CHECK_OK, NULL, "only its owner can change it and read its secrets");
}

/* True when nobody has it. The file is there already: nothing is made. */
static bool is_free(const char *dir, int *lock_out, bool *taken_out)
{
    char path[OT_PATH_MAX];
    *taken_out = false;
    if (ot_path_join(path, dir, "lock", NULL) != OT_OK || !ot_disk_exists(ot_disk_posix(), path)) {
        return true;
    }
    ot_rc rc = ot_disk_lock_file(path, lock_out, NULL);
    *taken_out = rc == OT_UNAVAILABLE;
    return rc == OT_OK;
}

/* ------------------------------------------------------------------ the log */

typedef struct proof {
    int64_t schema;
    bool too_new;
    ot_events_verdict v;
    bool bad;
    int64_t last_us, backup_us;
} proof;

static ot_rc note_time(void *arg, const ot_event *e, ot_error *err)
{
    (void)err;
    *(int64_t *)arg = e->time_us;
    return OT_OK;
}

static ot_rc prove_txn(ot_txn *txn, void *arg, ot_error *err)
{
    proof *p = arg;
    ot_event_query last = {.newest_first = true, .limit = 1};
    ot_event_query backup = {.newest_first = true, .limit = 1, .type_prefix = "backup.made"};
    OT_TRY(ot_store_schema_version(txn, &p->schema, err));
    ot_error why;
    p->too_new = ot_store_schema_check(txn, &why) != OT_OK;
    if (p->too_new) {
        return OT_OK;
    }
    ot_rc rc = ot_events_verify(txn, NULL, &p->v, err);
    p->bad = rc == OT_DATA_LOSS;
    if (rc != OT_OK && !p->bad) {
        return rc;
    }
    OT_TRY(ot_events_read(txn, &last, note_time, &p->last_us, err));
    return ot_events_read(txn, &backup, note_time, &p->backup_us, err);
}

static void say_schema(doctor *d, const proof *p)
{
    int64_t newest = ot_store_schema_newest();
    if (p->too_new) {
        dr_say(
            d, "data.schema", OT_CHECK_FAIL,
            "run the Overtake that wrote it, or a newer one; or restore a backup from before the "
            "upgrade",
            "version %" PRId64 "; this program knows versions up to %" PRId64, p->schema, newest);
    } else if (p->schema < newest) {
        dr_say(d, "data.schema", OT_CHECK_OK, NULL,
               "version %" PRId64 "; the next start brings it to %" PRId64
               " and keeps a copy from before",
               p->schema, newest);
    } else {
        dr_say(d, "data.schema", OT_CHECK_OK, NULL, "version %" PRId64, p->schema);
    }
}

/* log.head says how far the log had come. */
static bool is_cut(const doctor *d, const proof *p, uint64_t *had)
{
    char path[OT_PATH_MAX], text[128];
    ot_event_head kept;
    if (ot_path_join(path, d->o->data_dir, "log.head", NULL) != OT_OK) {
        return false;
    }
    dr_read(path, text, sizeof text);
    *had = ot_event_head_parse(text, &kept) ? kept.seq : 0;
    return *had > p->v.head.seq;
}

static void say_log(doctor *d, const proof *p)
{
    uint64_t had;
    char when[32];
    if (p->bad) {
        dr_say(d, "data.log", OT_CHECK_FAIL, PROVE_FIX, "%s", p->v.what);
    } else if (is_cut(d, p, &had)) {
        dr_say(d, "data.log", OT_CHECK_FAIL, PROVE_FIX,
               "it ends at event %" PRIu64 " and had come to event %" PRIu64, p->v.head.seq, had);
    } else if (p->last_us > ot_clock_wall_us() + 1000000) {
        ot_format_time(p->last_us, when);
        dr_say(d, "data.log", OT_CHECK_WARN,
               "set the clock right: new events keep the time of the last one until then",
               "%" PRIu64 " events, each chained to the one before; the last is of %s, which is to "
               "come",
               p->v.rows, when);
    } else {
        dr_say(d, "data.log", OT_CHECK_OK, NULL,
               "%" PRIu64 " events, each chained to the one before", p->v.rows);
    }
}

static void say_backup(doctor *d, const proof *p)
{
    char when[32];
    if (p->backup_us == 0 && p->v.rows > 1000) {
        dr_say(d, "data.backup", OT_CHECK_WARN, "overtake backup DIR, every day",
               "the log knows of no backup");
    } else if (p->backup_us != 0) {
        ot_format_time(p->backup_us, when);
        dr_say(d, "data.backup", OT_CHECK_OK, NULL, "the last backup is of %s", when);
    }
}

static void prove_here(doctor *d, const char *dir)
{
    ot_error err = {0};
    ot_store *store;
    proof p = {0};
    ot_rc rc = ot_store_open_view(ot_disk_posix(), dir, &store, &err);
    if (rc == OT_OK) {
        rc = ot_store_read(store, prove_txn, &p, &err);
        ot_store_close(store);
    }
    if (rc != OT_OK) {
        dr_say(d, "data.log", OT_CHECK_FAIL, PROVE_FIX, "%s", err.msg);
        return;
    }
    say_schema(d, &p);
    if (!p.too_new) {
        say_log(d, &p);
        say_backup(d, &p);
    }
}

/* The control plane has the store: it is asked. */
static void prove_there(doctor *d, const ot_addr *at)
{
    char path[OT_PATH_MAX], token[256], headers[320];
    ot_http_client *http;
    ot_http_reply reply;
    ot_error err = {0};
    if (ot_path_join(path, d->o->data_dir, "token", NULL) != OT_OK) {
        return;
    }
    dr_read(path, token, sizeof token);
    snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", token);
    ot_http_client_options o = {.struct_size = sizeof o, .io_us = dr_left_us(d, PROVE_US) + 1};
    ot_http_reply_init(&reply);
    ot_rc rc = ot_http_client_create(at, &o, &http, &err);
    if (rc == OT_OK) {
        ot_http_call call = {
            .method = "GET", .target = "/api/v1/events/verify", .headers = headers};
        rc = ot_http_client_request(http, &call, &reply, &err);
        ot_http_client_destroy(http);
    }
    json_t *answer = rc == OT_OK ? json_loadb(reply.body.data, reply.body.len, 0, NULL) : NULL;
    const char *what = json_string_value(json_object_get(answer, "what"));
    if (json_is_true(json_object_get(answer, "ok"))) {
        dr_say(d, "data.log", OT_CHECK_OK, NULL, "%lld events, each chained to the one before",
               (long long)json_integer_value(json_object_get(answer, "rows")));
    } else if (what != NULL) {
        dr_say(d, "data.log", OT_CHECK_FAIL, PROVE_FIX, "%s", what);
    } else {
        dr_say(d, "data.log", OT_CHECK_WARN, "overtake events verify, and the control plane's log",
               "not proven: %s", rc != OT_OK ? err.msg : "the control plane gave no answer");
    }
    json_decref(answer);
    ot_http_reply_done(&reply);
}

static void look_at_store(doctor *d, bool taken)
{
    char dir[OT_PATH_MAX], db[OT_PATH_MAX];
    ot_stat st;
    ot_addr at;
    if (taken && dr_control(d, &at)) {
        prove_there(d, &at);
        return;
    }
    if (taken) {
        dr_say(d, "data.log", OT_CHECK_WARN, "see the log of what runs there",
               "somebody has the directory, and no control plane answers");
        return;
    }
    if (ot_path_join(dir, d->o->data_dir, "store", NULL) != OT_OK ||
        ot_path_join(db, dir, "store.db", NULL) != OT_OK ||
        ot_disk_posix()->ops->stat(ot_disk_posix(), db, &st, NULL) != OT_OK) {
        dr_say(d, "data.log", OT_CHECK_OK, NULL, "there is no store yet");
    } else if (st.size > PROVE_BYTES_MAX) {
        dr_say(d, "data.log", OT_CHECK_WARN, "overtake up, then overtake events verify",
               "not proven: the database is too large for it here");
    } else {
        prove_here(d, dir);
    }
}

void dr_data(doctor *d)
{
    ot_disk *disk = ot_disk_posix();
    const char *dir = d->o->data_dir;
    char above[OT_PATH_MAX];
    OT_AUTO(ot_fd_close) int lock = -1;
    bool taken;
    if (!ot_disk_exists(disk, dir)) {
        dr_existing(dir, above);
        bool can = access(above, W_OK) == 0;
        dr_say(d, "data", can ? OT_CHECK_OK : OT_CHECK_FAIL,
               can ? NULL : "chown it, or take another with --data",
               can ? "%s is made by the first `overtake up`"
                   : "%s can't be made: you may not write above it",
               dir);
        return;
    }
    say_modes(d);
    if (ot_backup_is_half_restored(disk, dir)) {
        dr_say(d, "data", OT_CHECK_FAIL, "run `overtake restore BACKUP --data DIR` again",
               "%s: a restore into it was broken off", dir);
        return;
    }
    bool is = is_free(dir, &lock, &taken);
    dr_say(d, "data.lock", is || taken ? OT_CHECK_OK : OT_CHECK_FAIL,
           is || taken ? NULL : "chown -R it to who runs Overtake", "%s: %s", dir,
           taken ? "in use"
           : is  ? "nobody has it"
                 : "its lock can't be had by this user");
    if (is || taken) {
        look_at_store(d, taken);
    }
}
