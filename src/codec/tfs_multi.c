#include "codec/tfs_multi.h"

static ot_rc task_read(const ot_pb *message, const ot_pb_field *at, ot_arena *arena,
                       ot_tfs_task *out, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    *out = (ot_tfs_task){.spec = {.name = ""}, .method = ""};
    OT_TRY(ot_pb_enter(message, at, "tasks", "InferenceTask", &r, err));
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            OT_TRY(ot_tfs_pb_spec_read(&r, &f, arena, &out->spec, err));
        } else if (f.number == 2) {
            OT_TRY(ot_pb_string(&r, &f, "method_name", arena, &out->method, err));
        }
    } while (f.number != 0);
    return out->spec.name[0] != '\0' ? OT_OK : ot_fail(err, OT_INVALID, "the task names no model");
}

/* Whether the task may be answered together with the first. */
static ot_rc agrees(const ot_tfs_spec *first, const ot_tfs_spec *s, ot_error *err)
{
    if (strcmp(first->name, s->name) != 0) {
        return ot_fail(err, OT_INVALID, "it asks model '%.80s', tasks[0] '%.80s'; all ask one",
                       s->name, first->name);
    }
    if ((s->version != 0 && s->version != first->version) ||
        (s->label != NULL && (first->label == NULL || strcmp(s->label, first->label) != 0))) {
        return ot_fail(err, OT_INVALID,
                       "it asks for another version than tasks[0]; all are answered by one");
    }
    return OT_OK;
}

ot_rc ot_tfs_multi_pb(const void *p, size_t n, ot_arena *arena, ot_tfs_multi *out, ot_error *err)
{
    ot_pb r;
    ot_pb_field f;
    ot_pb_init(&r, p, n, "MultiInferenceRequest");
    out->n = 0;
    out->input = (ot_tfs_examples){0};
    do {
        OT_TRY(ot_pb_next(&r, &f, err));
        if (f.number == 1) {
            if (out->n == OT_TFS_TASKS_MAX) {
                return ot_fail(err, OT_INVALID, "more than %d tasks", OT_TFS_TASKS_MAX);
            }
            ot_tfs_task *t = &out->tasks[out->n];
            ot_error why;
            ot_rc rc = task_read(&r, &f, arena, t, &why);
            if (rc == OT_OK) {
                rc = agrees(&out->tasks[0].spec, &t->spec, &why);
            }
            if (rc != OT_OK) {
                return ot_fail(err, rc, "tasks[%zu]: %s", out->n, why.msg);
            }
            out->n++;
        } else if (f.number == 2) {
            OT_TRY(ot_tfs_examples_pb(&r, &f, arena, &out->input, err));
        }
    } while (f.number != 0);
    if (out->n == 0) {
        return ot_fail(err, OT_INVALID, "%s: there are no tasks", r.what);
    }
    return out->input.n > 0 ? OT_OK : ot_fail(err, OT_INVALID, "%s: there is no input", r.what);
}
