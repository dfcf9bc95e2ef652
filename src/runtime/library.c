/* Where the libraries of runtimes may lie: the user's Python environments and the system. */
#include "base/mem.h"
#include "runtime/internal.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

#define CANDIDATES_MAX 256
#define PARENTS_MAX 6 /* folders above the program that are looked into */

typedef struct search {
    ot_str *out;
    size_t n;
} search;

bool ot_runtime_program_dir(char out[OT_PATH_MAX])
{
    /* Not realpath: our file may be gone, replaced by a newer one. */
    ssize_t n = readlink("/proc/self/exe", out, OT_PATH_MAX - 1);
    out[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    return slash != NULL;
}

static void add(search *s, const char *path)
{
    const char *at = s->out->data;
    for (size_t i = 0; i < s->n; i++, at += strlen(at) + 1) {
        if (strcmp(at, path) == 0) {
            return;
        }
    }
    if (s->n < CANDIDATES_MAX) {
        ot_str_add(s->out, path, strlen(path) + 1);
        s->n += !s->out->failed;
    }
}

/* ---- a glob over the disk seam: '*' in any component, results sorted, newest version first */

typedef struct level {
    const char *pattern; /* of this component */
    char *names[64];
    size_t n;
} level;

static ot_rc take_match(void *arg, const char *name, ot_error *err)
{
    (void)err;
    level *l = arg;
    if (l->n < OT_COUNT(l->names) && fnmatch(l->pattern, name, FNM_PERIOD) == 0) {
        char *copy = ot_strdup(name);
        if (copy != NULL) {
            l->names[l->n++] = copy;
        }
    }
    return OT_OK;
}

static int newest_first(const void *a, const void *b)
{
    return strverscmp(*(char *const *)b, *(char *const *)a);
}

static void glob_below(search *s, const char *dir, const char *rest)
{
    size_t len = strcspn(rest, "/");
    char component[256], path[OT_PATH_MAX];
    if (len == 0 || len >= sizeof component) {
        return;
    }
    memcpy(component, rest, len);
    component[len] = '\0';
    bool last = rest[len] == '\0';
    if (strpbrk(component, "*?[") == NULL) {
        if (ot_path_join(path, dir, component, NULL) == OT_OK &&
            ot_disk_exists(ot_disk_posix(), path)) {
            last ? add(s, path) : glob_below(s, path, rest + len + 1);
        }
        return;
    }
    level l = {.pattern = component};
    ot_disk *disk = ot_disk_posix();
    if (disk->ops->list(disk, dir, take_match, &l, NULL) != OT_OK) {
        l.n = 0;
    }
    qsort(l.names, l.n, sizeof l.names[0], newest_first);
    for (size_t i = 0; i < l.n; i++) {
        if (ot_path_join(path, dir, l.names[i], NULL) == OT_OK) {
            last ? add(s, path) : glob_below(s, path, rest + len + 1);
        }
        ot_free(l.names[i]);
    }
}

/* All site globs below one Python prefix ("/usr", "/home/u/venv"). */
static void add_prefix(search *s, const overtake_library_query *q, const char *prefix)
{
    static const char *const sites[] = {
        "lib/python3*/site-packages",
        "lib64/python3*/site-packages",
        "lib/python3*/dist-packages",
    };
    for (size_t k = 0; k < OT_COUNT(sites) && q->site_globs != NULL; k++) {
        for (const char *const *g = q->site_globs; *g != NULL; g++) {
            char pattern[512];
            if (snprintf(pattern, sizeof pattern, "%s/%s", sites[k], *g) < (int)sizeof pattern) {
                glob_below(s, prefix, pattern);
            }
        }
    }
}

/* ---- Python prefixes, the likeliest first */

typedef struct prefixes {
    void (*fn)(void *arg, const char *prefix);
    void *arg;
} prefixes;

/* Virtual environments in a folder under the names people give them. */
static void each_environment_in(const prefixes *p, const char *dir)
{
    static const char *const names[] = {".deps/venv", ".venv", "venv"};
    for (size_t k = 0; k < OT_COUNT(names); k++) {
        char path[OT_PATH_MAX];
        if (ot_path_join(path, dir, names[k], NULL) == OT_OK &&
            ot_disk_exists(ot_disk_posix(), path)) {
            p->fn(p->arg, path);
        }
    }
}

static void each_around_program(const prefixes *p)
{
    char dir[OT_PATH_MAX];
    if (!ot_runtime_program_dir(dir)) {
        return;
    }
    for (int up = 0; up < PARENTS_MAX && dir[0] != '\0'; up++) {
        p->fn(p->arg, dir); /* a wheel installs the program into its prefix's bin/ */
        each_environment_in(p, dir);
        char *slash = strrchr(dir, '/');
        *(slash != NULL ? slash : dir) = '\0';
    }
}

/* The environments of every python3 on PATH: bin/python3 says where lib/ is, unresolved because a
 * virtual environment's is a link. */
static void each_from_path(const prefixes *p)
{
    const char *at = getenv("PATH");
    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ":");
        char dir[OT_PATH_MAX], python[OT_PATH_MAX];
        if (len > 4 && len < sizeof dir && at[0] == '/') {
            memcpy(dir, at, len);
            dir[len] = '\0';
            if (ot_path_join(python, dir, "python3", NULL) == OT_OK &&
                ot_disk_exists(ot_disk_posix(), python)) {
                char *slash = strrchr(dir, '/');
                *slash = '\0';
                if (dir[0] != '\0') {
                    p->fn(p->arg, dir);
                }
            }
        }
        at += len + (at[len] == ':');
    }
}

static void each_prefix(const prefixes *p)
{
    const char *active[] = {getenv("VIRTUAL_ENV"), getenv("CONDA_PREFIX")};
    for (size_t i = 0; i < OT_COUNT(active); i++) {
        if (active[i] != NULL && active[i][0] == '/') {
            p->fn(p->arg, active[i]);
        }
    }
    char *cwd = getcwd(NULL, 0);
    if (cwd != NULL) {
        each_environment_in(p, cwd);
        free(cwd);
    }
    each_around_program(p);
    each_from_path(p);
    const char *home = getenv("HOME");
    char local[OT_PATH_MAX];
    if (home != NULL && ot_path_join(local, home, ".local", NULL) == OT_OK) {
        p->fn(p->arg, local);
    }
    p->fn(p->arg, "/usr/local");
    p->fn(p->arg, "/usr");
}

/* ---- candidates */

typedef struct wanted {
    search *search;
    const overtake_library_query *query;
} wanted;

static void look_in(void *arg, const char *prefix)
{
    const wanted *w = arg;
    add_prefix(w->search, w->query, prefix);
}

static void add_system(search *s, const overtake_library_query *q)
{
    for (const char *const *n = q->system_names; n != NULL && *n != NULL; n++) {
        glob_below(s, "/usr/local/lib", *n);
        add(s, *n); /* the loader knows its own folders */
    }
}

size_t ot_runtime_library_candidates(const overtake_library_query *q, ot_str *out)
{
    search s = {.out = out};
    const char *given = q->env != NULL ? getenv(q->env) : NULL;
    if (given != NULL && *given != '\0') {
        add(&s, given);
        return s.n;
    }
    wanted w = {&s, q};
    each_prefix(&(prefixes){look_in, &w});
    add_system(&s, q);
    return s.n;
}

/* ---- what a worker reads */

typedef struct reading {
    void (*fn)(void *arg, const char *path);
    void *arg;
} reading;

static void read_prefix(void *arg, const char *prefix)
{
    static const char *const parts[] = {"lib", "lib64", "pyvenv.cfg", "bin"};
    const reading *r = arg;
    char path[OT_PATH_MAX];
    for (size_t i = 0; i < OT_COUNT(parts); i++) {
        if (ot_path_join(path, prefix, parts[i], NULL) == OT_OK &&
            ot_disk_exists(ot_disk_posix(), path)) {
            r->fn(r->arg, path);
        }
    }
}

/* The folders that LD_LIBRARY_PATH and variables as OVERTAKE_ONNXRUNTIME_LIB name. */
static void read_variables(const reading *r)
{
    for (char **e = environ; *e != NULL; e++) {
        const char *value = strchr(*e, '=');
        bool list = ot_has_prefix(*e, "LD_LIBRARY_PATH=");
        bool file = ot_has_prefix(*e, "OVERTAKE_") && value != NULL && value - *e > 4 &&
                    ot_has_prefix(value - 4, "_LIB=");
        char dir[OT_PATH_MAX];
        for (value = list || file ? value + 1 : ""; *value == '/';) {
            size_t n = strcspn(value, ":");
            snprintf(dir, sizeof dir, "%.*s", (int)n, value);
            if (file) {
                *strrchr(dir, '/') = '\0';
            }
            if (dir[0] != '\0') {
                r->fn(r->arg, dir);
            }
            value += n + (value[n] == ':');
        }
    }
}

void ot_runtime_read_paths(void (*fn)(void *arg, const char *path), void *arg)
{
    reading r = {fn, arg};
    each_prefix(&(prefixes){read_prefix, &r});
    read_variables(&r);
}
