/* Alone on a directory: each sub-folder that is a model, or the directory itself, is a deployment.
 */
#include "serve/control.h"

#include "base/log.h"
#include "model/detect.h"

#include <string.h>

/* The directory itself is a model: then it is the only one. */
static bool is_model(ot_serve *s, const char *path)
{
    ot_detected d;
    return ot_model_detect(s->disk, path, &d, NULL) == OT_OK;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

typedef struct each {
    ot_serve *serve;
    ot_alone_fn *fn;
    void *arg;
} each;

static ot_rc visit(void *arg, const char *name, ot_error *err)
{
    each *e = arg;
    char path[OT_PATH_MAX];
    ot_stat st;
    if (!ot_name_ok(name)) {
        return OT_OK; /* hidden, or not a name that can be asked for */
    }
    OT_TRY(ot_path_join(path, e->serve->o.dir, name, err));
    if (e->serve->disk->ops->stat(e->serve->disk, path, &st, NULL) != OT_OK || !st.is_dir) {
        return OT_OK;
    }
    ot_detected d;
    ot_error why;
    if (ot_model_detect(e->serve->disk, path, &d, &why) == OT_OK) {
        e->fn(e->arg, name);
    } else {
        ot_warn("serve", "%s is left out: %s", path, why.msg);
    }
    return OT_OK;
}

ot_rc ot_alone_each(ot_serve *s, ot_alone_fn *fn, void *arg, ot_error *err)
{
    if (is_model(s, s->o.dir)) {
        fn(arg, ot_name_ok(base_name(s->o.dir)) ? base_name(s->o.dir) : "model");
        return OT_OK;
    }
    each e = {s, fn, arg};
    return s->disk->ops->list(s->disk, s->o.dir, visit, &e, err);
}

ot_rc ot_alone_find(ot_serve *s, const char *name, char path_out[OT_PATH_MAX], ot_error *err)
{
    ot_detected d;
    ot_error why;
    if (is_model(s, s->o.dir)) {
        const char *base = base_name(s->o.dir);
        if (strcmp(name, ot_name_ok(base) ? base : "model") != 0) {
            return ot_fail(err, OT_NOT_FOUND, "model '%.80s' is not in %s", name, s->o.dir);
        }
        memcpy(path_out, s->o.dir, strlen(s->o.dir) + 1);
        return OT_OK;
    }
    if (!ot_name_ok(name)) {
        return ot_fail(err, OT_NOT_FOUND, "'%.80s' cannot be a model's name", name);
    }
    OT_TRY(ot_path_join(path_out, s->o.dir, name, err));
    ot_rc rc = ot_model_detect(s->disk, path_out, &d, &why);
    if (rc == OT_NOT_FOUND) {
        return ot_fail(err, OT_NOT_FOUND, "model '%.80s' is not in %s", name, s->o.dir);
    }
    return rc == OT_OK ? OT_OK : ot_fail(err, rc, "%s", why.msg);
}

typedef struct adding {
    ot_serve *serve;
    ot_target *target;
} adding;

static void add_model(void *arg, const char *name)
{
    adding *a = arg;
    ot_target_deployment *d;
    ot_error err;
    char path[OT_PATH_MAX];
    if (ot_alone_find(a->serve, name, path, &err) != OT_OK ||
        ot_target_add(a->target, name, &d, &err) != OT_OK) {
        ot_err("serve", "%s is left out: %s", name, err.msg);
        return;
    }
    ot_target_variant *v = &d->variants[0];
    *v = (ot_target_variant){.role = OT_ROLE_CHAMPION, .version = 1, .share = 1};
    strcpy(v->model, d->name);
    v->path = ot_strdup(path);
    d->n_variants = 1;
    if (v->path == NULL) {
        ot_err("serve", "%s is left out: out of memory", name);
        ot_target_remove(a->target, name);
    }
}

ot_rc ot_alone_target(ot_serve *s, ot_target **t_out, ot_error *err)
{
    ot_target *t;
    OT_TRY(ot_target_create(&t, err));
    t->window_us = s->o.window_us;
    adding a = {s, t};
    ot_rc rc = OT_OK;
    if (!s->o.explicit_models) {
        rc = ot_alone_each(s, add_model, &a, err);
        if (rc == OT_OK && t->n_deployments == 0) {
            rc = ot_fail(err, OT_NOT_FOUND,
                         "%s is no model and has none in its folders; a model is a bundle "
                         "(manifest.json), an .onnx file, a SavedModel or a null.json",
                         s->o.dir);
        }
    }
    if (rc != OT_OK) {
        ot_target_destroy(t);
        return rc;
    }
    *t_out = t;
    return OT_OK;
}
