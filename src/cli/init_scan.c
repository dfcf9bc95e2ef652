#include "cli/init_scan.h"

#include "base/mem.h"
#include "base/str.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 32
#define NAME_MAX_BYTES 64

/* One open bracket, with the name before it: "np.load"; "" for none. */
typedef struct bracket {
    char name[NAME_MAX_BYTES];
    bool is_index; /* [, not ( */
} bracket;

typedef struct scan {
    const char *p, *end;
    bracket stack[DEPTH_MAX];
    size_t depth;                /* may pass DEPTH_MAX; then the innermost are not kept */
    char name[NAME_MAX_BYTES];   /* the dotted name that ended just now */
    char path[OT_INIT_PATH_MAX]; /* of literals: "out" / "model.onnx", or the parts of a join */
    bool joining;                /* the next literal goes on with `path` */
    ot_init_scan *out;
} scan;

static const bracket *innermost(const scan *s)
{
    return s->depth > 0 && s->depth <= DEPTH_MAX ? &s->stack[s->depth - 1] : NULL;
}

/* Is one of the calls around named so? By its last part: ".save" finds model.save and save. */
static bool within(const scan *s, const char *const *ends)
{
    for (size_t d = 0; d < s->depth && d < DEPTH_MAX; d++) {
        const char *name = s->stack[d].name;
        for (size_t i = 0; ends[i] != NULL; i++) {
            if (ot_has_suffix(name, ends[i]) ||
                (ends[i][0] == '.' && strcmp(name, ends[i] + 1) == 0)) {
                return true;
            }
        }
    }
    return false;
}

static void add_data(ot_init_scan *o, const char *path)
{
    for (size_t i = 0; i < o->n_data; i++) {
        if (strcmp(o->data[i], path) == 0) {
            return;
        }
    }
    if (o->n_data < OT_INIT_DATA_MAX) {
        snprintf(o->data[o->n_data++], sizeof o->data[0], "%s", path);
    }
}

static void data_found(ot_init_scan *o, const char *path)
{
    char folder[OT_INIT_PATH_MAX];
    if (ot_has_suffix(path, ".npy")) {
        const char *slash = strrchr(path, '/');
        snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - path) : 1,
                 slash != NULL ? path : ".");
        path = folder[0] != 0 ? folder : "/";
    }
    add_data(o, path);
}

static bool ends_with_any(const char *path, const char *const *suffixes)
{
    for (size_t i = 0; suffixes[i] != NULL; i++) {
        if (ot_has_suffix(path, suffixes[i])) {
            return true;
        }
    }
    return false;
}

/* A path is complete: what is it for? */
static void path_found(scan *s)
{
    static const char *const saves[] = {
        ".save", ".save_model", ".export", ".savez", ".savez_compressed", ".savetxt", NULL};
    static const char *const loads[] = {".load", ".InferenceSession", ".load_model", NULL};
    static const char *const models[] = {".save", ".save_model", ".export", NULL};
    static const char *const others[] = {".pt",   ".pth",   ".pkl",    ".joblib",      ".h5",
                                         ".hdf5", ".keras", ".pickle", ".safetensors", NULL};
    static const char *const not_models[] = {".npz", ".npy", ".png", ".csv", ".json",
                                             ".txt", ".svg", ".pdf", ".log", NULL};
    ot_init_scan *o = s->out;
    const char *path = s->path;
    if (path[0] == 0 || strpbrk(path, "{}*?\n\"'\\%") != NULL) {
        return;
    }
    if (ot_has_suffix(path, ".npz") || ot_has_suffix(path, ".npy")) {
        if (!within(s, saves)) {
            data_found(o, path);
        }
    } else if (ot_has_suffix(path, ".onnx")) {
        if (!within(s, loads)) {
            snprintf(o->model, sizeof o->model, "%s", path);
        }
    } else if (ends_with_any(path, others)) {
        snprintf(o->unserved, sizeof o->unserved, "%s", path);
    } else if (within(s, models) && o->model[0] == 0 && !ends_with_any(path, not_models)) {
        snprintf(o->model, sizeof o->model, "%s", path);
    }
}

static void end_path(scan *s)
{
    if (s->path[0] != 0) {
        path_found(s);
        s->path[0] = 0;
    }
    s->joining = false;
}

static void label_found(scan *s, const char *literal)
{
    static const char *const names[] = {"y", "label", "labels", "target", "targets", "y_train"};
    const bracket *b = innermost(s);
    for (size_t i = 0; b != NULL && b->is_index && i < OT_COUNT(names); i++) {
        if (strcmp(literal, names[i]) == 0 && s->out->label[0] == 0) {
            snprintf(s->out->label, sizeof s->out->label, "%s", literal);
        }
    }
}

static void literal(scan *s, const char *p, size_t n)
{
    char text[OT_INIT_PATH_MAX];
    if (n >= sizeof text) {
        end_path(s);
        return;
    }
    snprintf(text, sizeof text, "%.*s", (int)n, p);
    label_found(s, text);
    s->out->knows_us = s->out->knows_us || strcmp(text, "OVERTAKE_DATA") == 0;
    size_t have = strlen(s->path);
    if (s->joining && have > 0 && have + n + 2 < sizeof s->path) {
        const char *slash = s->path[have - 1] == '/' || text[0] == '/' ? "" : "/";
        snprintf(s->path + have, sizeof s->path - have, "%s%s", slash, text);
    } else {
        end_path(s);
        snprintf(s->path, sizeof s->path, "%s", text);
    }
    s->joining = false;
}

/* From an opening quote on; long strings are documents and code, not paths. */
static void string(scan *s)
{
    char q = *s->p;
    bool is_long = s->end - s->p >= 3 && s->p[1] == q && s->p[2] == q;
    const char *from = s->p += is_long ? 3 : 1;
    for (; s->p < s->end; s->p++) {
        if (*s->p == '\\') {
            s->p++;
        } else if (*s->p == q &&
                   (!is_long || (s->end - s->p >= 3 && s->p[1] == q && s->p[2] == q))) {
            break;
        } else if (*s->p == '\n' && !is_long) {
            return; /* never closed */
        }
    }
    if (s->p >= s->end) {
        s->p = s->end;
        return;
    }
    if (!is_long) {
        literal(s, from, (size_t)(s->p - from));
    }
    s->p += is_long ? 3 : 1;
}

static void name(scan *s)
{
    const char *from = s->p;
    while (s->p < s->end && (isalnum((unsigned char)*s->p) || *s->p == '_' || *s->p == '.')) {
        s->p++;
    }
    size_t n = (size_t)(s->p - from);
    if (s->p < s->end && (*s->p == '"' || *s->p == '\'') && n <= 2) {
        return; /* the prefix of a string */
    }
    snprintf(s->name, sizeof s->name, "%.*s", (int)n, from);
}

static void open_bracket(scan *s)
{
    if (s->depth < DEPTH_MAX) {
        bracket *b = &s->stack[s->depth];
        memset(b, 0, sizeof *b);
        snprintf(b->name, sizeof b->name, "%s", *s->p == '(' ? s->name : "");
        b->is_index = *s->p == '[';
    }
    s->depth++;
}

/* After a literal: does a path go on? Inside join(...) at a comma, elsewhere at a slash. */
static void punctuation(scan *s)
{
    const bracket *b = innermost(s);
    bool in_join = b != NULL && (ot_has_suffix(b->name, "join") || ot_has_suffix(b->name, "Path"));
    switch (*s->p) {
    case '(':
    case '[':
    case '{':
        if (!s->joining) {
            end_path(s);
        }
        open_bracket(s);
        break;
    case ')':
    case ']':
    case '}':
        if (!in_join) {
            end_path(s);
        }
        s->depth -= s->depth > 0;
        break;
    case '/':
        s->joining = s->path[0] != 0;
        break;
    case ',':
        if (in_join && s->path[0] != 0) {
            s->joining = true;
        } else {
            end_path(s);
        }
        break;
    case '.':
        break;
    default:
        end_path(s);
    }
    s->name[0] = 0;
    s->p++;
}

void ot_init_scan_text(const char *text, size_t n, ot_init_scan *out)
{
    scan s = {.p = text, .end = text + n, .out = out};
    memset(out, 0, sizeof *out);
    while (s.p < s.end) {
        unsigned char c = (unsigned char)*s.p;
        if (c == '#') {
            const char *line = memchr(s.p, '\n', (size_t)(s.end - s.p));
            s.p = line != NULL ? line : s.end;
        } else if (c == '"' || c == '\'') {
            string(&s);
        } else if (isalpha(c) || c == '_' || c == '.' || isdigit(c)) {
            name(&s);
        } else if (c == '\n' && s.depth == 0) {
            end_path(&s);
            s.name[0] = 0;
            s.p++;
        } else if (isspace(c)) {
            s.p++;
        } else {
            punctuation(&s);
        }
    }
    end_path(&s);
}
