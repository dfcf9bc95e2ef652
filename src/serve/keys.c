/* The API keys in force: a control plane's, or those of a file that is read again when it changes.
 */
#include "serve/control.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

#define LOOK_NS UINT64_C(1000000000)

static ot_rc set_keys(ot_control *c, const ot_apikey *keys, size_t n, ot_error *err)
{
    ot_access *access;
    OT_TRY(ot_access_create(keys, n, c->access, &access, err));
    ot_access_unref(c->access);
    c->access = access;
    return OT_OK;
}

void ot_keys_follow(ot_control *c, const ot_target *t)
{
    ot_error err;
    if (c->serve->o.keys != NULL) {
        return;
    }
    if (!t->keys_needed) {
        ot_access_unref(c->access);
        c->access = NULL;
    } else if (set_keys(c, t->keys, t->n_keys, &err) != OT_OK) {
        ot_err("serve", "%s; the keys from before stay in force", err.msg);
    }
}

static bool same_file(const ot_stat *a, const ot_stat *b)
{
    return a->inode == b->inode && a->size == b->size && a->mtime_us == b->mtime_us &&
           a->ctime_us == b->ctime_us;
}

static ot_rc read_file(ot_control *c, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    const char *path = c->serve->o.keys;
    ot_apikey *keys = NULL;
    size_t n = 0;
    OT_TRY(ot_disk_read_all(c->serve->disk, path, OT_ACCESS_FILE_MAX, &text, err));
    ot_rc rc = ot_access_parse(text.data != NULL ? text.data : "", text.len, &keys, &n, err);
    if (rc != OT_OK) {
        return ot_error_prefix(err, rc, "%s", path);
    }
    rc = set_keys(c, keys, n, err);
    ot_free(keys);
    return rc;
}

/* A file that is gone or damaged leaves the keys from before in force: no door opens by accident.
 */
static void look(void *arg)
{
    ot_control *c = arg;
    ot_disk *d = c->serve->disk;
    ot_stat st = {0};
    ot_error err;
    ot_rc rc = d->ops->stat(d, c->serve->o.keys, &st, &err);
    if (!same_file(&st, &c->keys_stat)) {
        c->keys_stat = st;
        rc = rc == OT_OK ? read_file(c, &err) : rc;
        if (rc == OT_OK) {
            ot_info("serve", "%s: %zu keys in force", c->serve->o.keys, c->access->n);
            ot_control_rebuild(c);
        } else {
            ot_err("serve", "%s; the keys from before stay in force", err.msg);
        }
    }
    ot_loop_timer_set(c->serve->loop, &c->keys_timer, ot_clock_mono_ns() + LOOK_NS, look, c);
}

ot_rc ot_keys_start(ot_control *c, ot_error *err)
{
    ot_disk *d = c->serve->disk;
    if (c->serve->o.keys == NULL) {
        return OT_OK;
    }
    OT_TRY(d->ops->stat(d, c->serve->o.keys, &c->keys_stat, err));
    OT_TRY(read_file(c, err));
    ot_loop_timer_set(c->serve->loop, &c->keys_timer, ot_clock_mono_ns() + LOOK_NS, look, c);
    return OT_OK;
}

void ot_keys_stop(ot_control *c)
{
    ot_loop_timer_cancel(c->serve->loop, &c->keys_timer);
}
