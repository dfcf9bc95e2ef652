#include "broken.h"
#include "base/disk.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (256u << 20)

typedef struct job {
    ot_runtime *rt;
    const char *format;
    const ot_model_options *opts;
    broken_fn *fn;
    void *arg;
    char model[OT_PATH_MAX], file[OT_PATH_MAX]; /* the copy, and what is damaged in it */
} job;

typedef struct copying {
    const char *from, *to;
} copying;

static ot_rc copy_entry(void *arg, const char *name, ot_error *err);

static ot_rc copy_tree(const char *from, const char *to, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    ot_stat st;
    OT_TRY(d->ops->stat(d, from, &st, err));
    if (st.is_dir) {
        copying c = {from, to};
        OT_TRY(ot_disk_mkdirs(d, to, 0700, err));
        return d->ops->list(d, from, copy_entry, &c, err);
    }
    OT_AUTO(ot_str_done) ot_str bytes = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(d, from, FILE_MAX, &bytes, err));
    return ot_disk_write_atomic(d, to, bytes.data, bytes.len, 0600, err);
}

static ot_rc copy_entry(void *arg, const char *name, ot_error *err)
{
    copying *c = arg;
    char from[OT_PATH_MAX], to[OT_PATH_MAX];
    OT_TRY(ot_path_join(from, c->from, name, err));
    OT_TRY(ot_path_join(to, c->to, name, err));
    return copy_tree(from, to, err);
}

static void try_bytes(job *j, const ot_str *bytes, const char *what, bool must_fail)
{
    ot_error err = {.msg = ""};
    ot_model *m = NULL;
    ot_rc rc = ot_disk_write_atomic(ot_disk_posix(), j->file, bytes->data, bytes->len, 0600, &err);
    if (rc != OT_OK) {
        j->fn(j->arg, what, false, err.msg);
        return;
    }
    rc = ot_model_load(j->rt, j->format, j->model, j->opts, &m, &err);
    j->fn(j->arg, what, rc == OT_OK ? !must_fail : err.msg[0] != '\0',
          rc == OT_OK ? "loads" : err.msg);
    ot_model_unref(m);
}

static ot_rc damage(job *j, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str good = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str bad = OT_STR_INIT;
    char what[64];
    OT_TRY(ot_disk_read_all(ot_disk_posix(), j->file, FILE_MAX, &good, err));
    try_bytes(j, &bad, "an empty file", true);
    for (unsigned k = 1; k < 8; k++) {
        snprintf(what, sizeof what, "%u/8 of the file", k);
        ot_str_clear(&bad);
        ot_str_add(&bad, good.data, good.len * k / 8);
        try_bytes(j, &bad, what, true);
    }
    for (unsigned k = 0; k < 24; k++) {
        snprintf(what, sizeof what, "flipped bits from byte %u", k * 13);
        ot_str_clear(&bad);
        ot_str_add(&bad, good.data, good.len);
        for (size_t i = k * 13; i < bad.len && i < 4096; i += 97 + k * 50) {
            bad.data[i] = (char)(bad.data[i] ^ (int)(0x55 + k));
        }
        try_bytes(j, &bad, what, false);
    }
    return OT_OK;
}

static ot_rc run(job *j, const char *dir, const char *model, const char *file, ot_error *err)
{
    const char *slash = strrchr(model, '/');
    OT_TRY(ot_path_join(j->model, dir, slash != NULL ? slash + 1 : model, err));
    OT_TRY(copy_tree(model, j->model, err));
    if (file[0] != '\0') {
        OT_TRY(ot_path_join(j->file, j->model, file, err));
    } else {
        memcpy(j->file, j->model, sizeof j->file);
    }
    return damage(j, err);
}

void broken_models(ot_runtime *rt, const char *format, const char *model,
                   const ot_model_options *opts, const char *file_in_model, broken_fn *fn,
                   void *arg)
{
    char dir[] = "/tmp/overtake-conformance-XXXXXX";
    job j = {.rt = rt, .format = format, .opts = opts, .fn = fn, .arg = arg};
    ot_error err;
    if (mkdtemp(dir) == NULL || run(&j, dir, model, file_in_model, &err) != OT_OK) {
        fn(arg, "a damaged copy", false, err.msg);
    }
    if (ot_disk_remove_tree(ot_disk_posix(), dir, &err) != OT_OK) {
        fn(arg, "cleaning up", false, err.msg);
    }
}
