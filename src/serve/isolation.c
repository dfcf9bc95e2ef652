#include "serve/isolation.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WORKERS "replica/workers"

static ot_rc make_dir(const ot_serve *s, ot_isolation_choice *out, ot_error *err)
{
    if (s->o.data == NULL) {
        return OT_OK;
    }
    char name[48];
    snprintf(name, sizeof name, WORKERS "/%d", (int)getpid());
    OT_TRY(ot_path_join(out->dir, s->o.data, name, err));
    OT_TRY(ot_disk_mkdirs(s->disk, out->dir, 0700, err));
    out->how.dir = out->dir;
    return OT_OK;
}

ot_rc ot_isolation_choose(const ot_serve *s, const ot_load *load, ot_isolation_choice *out,
                          ot_error *err)
{
    *out = (ot_isolation_choice){0};
    out->how.if_needed =
        load->isolate == OT_ISOLATE_AUTO ? !s->o.isolate : load->isolate == OT_ISOLATE_NONE;
    snprintf(out->name, sizeof out->name, "%s version %" PRIu64, load->model, load->version);
    out->how.name = out->name;
    out->how.hang_us = s->o.hang_kill_us;
    out->how.memory_max = load->process_memory != 0 ? load->process_memory : s->o.process_memory;
    return make_dir(s, out, err);
}

typedef struct leftovers {
    ot_disk *disk;
    const char *dir;
} leftovers;

/* Each folder is named by the process whose workers' it is; another replica may be alive. */
static ot_rc remove_left(void *arg, const char *name, ot_error *err)
{
    const leftovers *l = arg;
    char dir[OT_PATH_MAX];
    int64_t pid;
    if (ot_parse_i64(name, &pid, NULL) != OT_OK || kill((pid_t)pid, 0) == 0 || errno != ESRCH) {
        return OT_OK;
    }
    OT_TRY(ot_path_join(dir, l->dir, name, err));
    return ot_disk_remove_tree(l->disk, dir, err);
}

void ot_isolation_tidy(const ot_serve *s)
{
    char dir[OT_PATH_MAX];
    ot_error err;
    if (s->o.data == NULL || ot_path_join(dir, s->o.data, WORKERS, NULL) != OT_OK ||
        !ot_disk_exists(s->disk, dir)) {
        return;
    }
    leftovers l = {s->disk, dir};
    if (s->disk->ops->list(s->disk, dir, remove_left, &l, &err) != OT_OK) {
        ot_warn("serve", "%s: %s", dir, err.msg);
    }
}

void ot_isolation_note(ot_variant *v)
{
    const ot_model_info *info = ot_model_info_of(v->loaded);
    if (info->isolated) {
        size_t at = strlen(v->note);
        snprintf(v->note + at, sizeof v->note - at, "%sin a worker process%s%s", at > 0 ? "; " : "",
                 info->isolation_lacks[0] != '\0' ? ": " : "", info->isolation_lacks);
    }
}
