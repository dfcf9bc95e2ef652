/* The registry: which plug-ins lie where, opening them, and which format a path is of. */
#include "base/log.h"
#include "base/mem.h"
#include "launch/child.h"
#include "runtime/chain.h"
#include "runtime/external.h"
#include "runtime/internal.h"

#include <dlfcn.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "overtake_"
#define SUFFIX ".so"
#define FORMATS_MAX 16

/* ---- search path */

static ot_rc add_dir(ot_runtime *rt, const char *dir, size_t n, ot_error *err)
{
    if (n == 0) {
        return OT_OK;
    }
    if (rt->n_dirs == OT_SEARCH_DIRS_MAX) {
        return ot_fail(err, OT_INVALID, "plug-in path: more than %d folders", OT_SEARCH_DIRS_MAX);
    }
    char *copy = ot_strndup(dir, n);
    if (copy == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "plug-in path: out of memory");
    }
    rt->dirs[rt->n_dirs++] = copy;
    return OT_OK;
}

static ot_rc add_dirs(ot_runtime *rt, const char *list, ot_error *err)
{
    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ":");
        OT_TRY(add_dir(rt, list, n, err));
        list += n + (list[n] == ':');
    }
    return OT_OK;
}

static ot_rc fill_search_path(ot_runtime *rt, const char *given, ot_error *err)
{
    OT_TRY(add_dirs(rt, given != NULL ? given : getenv("OVERTAKE_PLUGIN_PATH"), err));
    char program[OT_PATH_MAX], dir[OT_PATH_MAX];
    static const char *const beside[] = {"plugins", "../lib/overtake/plugins"};
    for (size_t i = 0; i < OT_COUNT(beside) && ot_runtime_program_dir(program); i++) {
        OT_TRY(ot_path_join(dir, program, beside[i], err));
        OT_TRY(add_dir(rt, dir, strlen(dir), err));
    }
    return add_dirs(rt, "/usr/local/lib/overtake/plugins:/usr/lib/overtake/plugins", err);
}

typedef struct scan {
    ot_runtime *rt;
    const char *dir;
} scan;

static ot_plugin *find_name(ot_runtime *rt, const char *name, size_t n)
{
    for (size_t i = 0; i < rt->n_plugins; i++) {
        if (strlen(rt->plugins[i].name) == n && memcmp(rt->plugins[i].name, name, n) == 0) {
            return &rt->plugins[i];
        }
    }
    return NULL;
}

static ot_rc take_file(void *arg, const char *name, ot_error *err)
{
    scan *s = arg;
    size_t n = strlen(name), fixed = strlen(PREFIX) + strlen(SUFFIX);
    if (n <= fixed || !ot_has_prefix(name, PREFIX) || !ot_has_suffix(name, SUFFIX) ||
        n - fixed >= OT_PLUGIN_NAME_MAX) {
        return OT_OK;
    }
    if (s->rt->n_plugins == OT_PLUGINS_MAX) {
        ot_warn("runtime", "%s/%s: ignored, more than %d plug-ins", s->dir, name, OT_PLUGINS_MAX);
        return OT_OK;
    }
    char path[OT_PATH_MAX];
    OT_TRY(ot_path_join(path, s->dir, name, err));
    ot_plugin *p = &s->rt->plugins[s->rt->n_plugins];
    ot_plugin *first = find_name(s->rt, name + strlen(PREFIX), n - fixed);
    p->file = ot_strdup(path);
    if (p->file == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "plug-in %s: out of memory", path);
    }
    memcpy(p->name, name + strlen(PREFIX), n - fixed);
    p->name[n - fixed] = '\0';
    p->shadowed_by = first;
    ot_str_init(&p->reason);
    s->rt->n_plugins++;
    return OT_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const ot_plugin *)a)->file, ((const ot_plugin *)b)->file);
}

static ot_rc scan_dirs(ot_runtime *rt, ot_error *err)
{
    ot_disk *disk = ot_disk_posix();
    for (size_t i = 0; i < rt->n_dirs; i++) {
        if (!ot_disk_exists(disk, rt->dirs[i])) {
            continue;
        }
        scan s = {.rt = rt, .dir = rt->dirs[i]};
        size_t before = rt->n_plugins;
        ot_error listing;
        ot_rc rc = disk->ops->list(disk, rt->dirs[i], take_file, &s, &listing);
        if (rc == OT_EXHAUSTED) {
            return ot_fail(err, rc, "%s", listing.msg);
        }
        if (rc != OT_OK) {
            ot_warn("runtime", "plug-in folder skipped: %s", listing.msg);
        }
        /* A folder's own files never shadow each other, so their order may change. */
        qsort(rt->plugins + before, rt->n_plugins - before, sizeof rt->plugins[0], by_name);
    }
    return OT_OK;
}

/* Before those of the search path: no file takes its name. */
static ot_rc add_built_in(ot_runtime *rt, const overtake_plugin *table, ot_error *err)
{
    ot_plugin *p = &rt->plugins[rt->n_plugins++];
    snprintf(p->name, sizeof p->name, "%s", table->name);
    p->file = ot_strdup("(built in)");
    p->table = table;
    ot_str_init(&p->reason);
    atomic_init(&p->opened, true);
    return p->file != NULL ? OT_OK : ot_fail(err, OT_EXHAUSTED, "plug-in registry: out of memory");
}

ot_rc ot_runtime_create(const char *plugin_path, ot_runtime **rt_out, ot_error *err)
{
    ot_runtime *rt = ot_calloc(1, sizeof *rt);
    if (rt == NULL) {
        return ot_fail(err, OT_EXHAUSTED, "plug-in registry: out of memory");
    }
    atomic_init(&rt->refs, 1);
    ot_launch_child_prepare(); /* workers must not get the priority of who loads them */
    pthread_mutex_init(&rt->lock, NULL);
    ot_rc rc = add_built_in(rt, ot_external_runtime(), err);
    if (rc == OT_OK) {
        rc = add_built_in(rt, ot_chain_runtime(), err);
    }
    if (rc == OT_OK) {
        rc = fill_search_path(rt, plugin_path, err);
    }
    if (rc == OT_OK) {
        rc = scan_dirs(rt, err);
    }
    if (rc != OT_OK) {
        ot_runtime_unref(rt);
        return rc;
    }
    *rt_out = rt;
    return OT_OK;
}

ot_runtime *ot_runtime_ref(ot_runtime *rt)
{
    atomic_fetch_add_explicit(&rt->refs, 1, memory_order_relaxed);
    return rt;
}

void ot_runtime_unref(ot_runtime *rt)
{
    if (rt == NULL || atomic_fetch_sub_explicit(&rt->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < rt->n_plugins; i++) {
        ot_free(rt->plugins[i].file);
        ot_str_done(&rt->plugins[i].reason);
    }
    for (size_t i = 0; i < rt->n_dirs; i++) {
        ot_free(rt->dirs[i]);
    }
    pthread_mutex_destroy(&rt->lock);
    ot_free(rt);
}

void ot_runtime_search_path(const ot_runtime *rt, ot_str *out)
{
    for (size_t i = 0; i < rt->n_dirs; i++) {
        ot_str_addf(out, "%s\n", rt->dirs[i]);
    }
}

/* ---- opening */

static bool complete(const overtake_plugin *t)
{
    /* Everything up to release is in ABI 1.0, so a shorter table is broken whatever it says. */
    return OVERTAKE_HAS(t, overtake_plugin, release) && t->name != NULL &&
           t->runtime_info != NULL && t->model_load != NULL && t->model_unload != NULL &&
           t->model_info != NULL && t->instance_create != NULL && t->instance_destroy != NULL &&
           t->submit != NULL && t->n_formats <= FORMATS_MAX &&
           (t->n_formats == 0 || t->formats != NULL);
}

/* NULL and a reason when it is refused. RTLD_LOCAL: two runtimes may bring the same symbols in
 * different versions. */
static const overtake_plugin *load_table(ot_plugin *p)
{
    void *handle = dlopen(p->file, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        const char *why = dlerror();
        ot_str_addf(&p->reason, "cannot be loaded: %s", why != NULL ? why : "unknown");
        return NULL;
    }
    overtake_plugin_get_fn *get = NULL;
    void *symbol = dlsym(handle, "overtake_plugin_get");
    memcpy(&get, &symbol, sizeof get); /* ISO C has no cast from object to function pointer */
    const overtake_plugin *t = NULL;
    if (get == NULL) {
        ot_str_adds(&p->reason, "does not export overtake_plugin_get: not a plug-in");
    } else if ((t = get(OVERTAKE_ABI_MAJOR, ot_runtime_host())) == NULL) {
        ot_str_addf(&p->reason, "does not speak plug-in ABI %u; rebuild it against this version",
                    OVERTAKE_ABI_MAJOR);
    } else if (t->abi_major != OVERTAKE_ABI_MAJOR) {
        ot_str_addf(&p->reason, "speaks plug-in ABI %u.%u, this program %u.%u; rebuild it",
                    t->abi_major, t->abi_minor, OVERTAKE_ABI_MAJOR, OVERTAKE_ABI_MINOR);
        t = NULL;
    } else if (!complete(t)) {
        ot_str_addf(&p->reason, "its table is incomplete (%zu bytes of %zu, or a function is NULL)",
                    t->struct_size, sizeof *t);
        t = NULL;
    } else if (strcmp(t->name, p->name) != 0) {
        ot_str_addf(&p->reason, "calls itself '%.64s', but the file is %s%s%s", t->name, PREFIX,
                    p->name, SUFFIX);
        t = NULL;
    }
    if (get == NULL) {
        dlclose(handle); /* nothing of it has run but its constructors */
    }
    return t;
}

const overtake_plugin *ot_plugin_open(ot_runtime *rt, ot_plugin *p)
{
    if (!atomic_load_explicit(&p->opened, memory_order_acquire)) {
        /* The lock is held across overtake_plugin_get, which the ABI calls once: it may not block
         * on other threads. */
        pthread_mutex_lock(&rt->lock);
        if (!atomic_load_explicit(&p->opened, memory_order_relaxed)) {
            if (p->shadowed_by != NULL) {
                ot_str_addf(&p->reason, "hidden by %s", p->shadowed_by->file);
            } else {
                p->table = load_table(p);
            }
            atomic_store_explicit(&p->opened, true, memory_order_release);
        }
        pthread_mutex_unlock(&rt->lock);
    }
    return p->table;
}

static void report_plugin(ot_runtime *rt, ot_plugin *p, bool probe, ot_plugin_report_fn *fn,
                          void *arg)
{
    const overtake_plugin *t = ot_plugin_open(rt, p);
    ot_plugin_report r = {
        .name = p->name,
        .file = p->file,
        .usable = t != NULL,
        .reason = p->reason.data,
        .build_id = t != NULL && t->build_id != NULL ? t->build_id : "",
        .formats = "",
        .runtime_version = "",
        .runtime_library = "",
    };
    OT_AUTO(ot_str_done) ot_str formats = OT_STR_INIT;
    overtake_error why = {""};
    overtake_runtime_info info = {.struct_size = sizeof info};
    if (t != NULL) {
        r.abi_major = t->abi_major;
        r.abi_minor = t->abi_minor;
        r.capabilities = t->capabilities;
        for (uint32_t i = 0; i < t->n_formats; i++) {
            ot_str_addf(&formats, "%s%s", i > 0 ? "," : "", t->formats[i].name);
        }
        r.formats = formats.data;
        if (probe && t->runtime_info(&info, &why) != OVERTAKE_OK) {
            r.usable = false;
            why.message[sizeof why.message - 1] = '\0';
            r.reason = why.message;
        } else if (probe) {
            r.runtime_version = info.version != NULL ? info.version : "";
            r.runtime_library = info.library != NULL ? info.library : "";
        }
    }
    fn(arg, &r);
}

void ot_runtime_list(ot_runtime *rt, bool probe, ot_plugin_report_fn *fn, void *arg)
{
    for (size_t i = 0; i < rt->n_plugins; i++) {
        report_plugin(rt, &rt->plugins[i], probe, fn, arg);
    }
}
