/* `overtake init`: a first app file for a training program, with comments where the program's text
 * does not say enough. */
#include "base/mem.h"
#include "cli/appfile.h"
#include "cli/commands.h"
#include "cli/init_scan.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define PROGRAM_BYTES_MAX (4u << 20)

typedef struct init {
    const char *program;      /* as given */
    char folder[OT_PATH_MAX]; /* absolute, of the app file */
    char out[OT_PATH_MAX];    /* as a person would write it */
    char inside[OT_PATH_MAX]; /* the program, from the folder */
    char app[65];
    char names[OT_INIT_DATA_MAX][65];
    ot_init_scan scan;
} init;

/* A name out of any text: what a name may not hold becomes '-'. */
static void name_from(const char *text, size_t n, const char *otherwise, char out[65])
{
    size_t k = 0;
    for (size_t i = 0; i < n && k < 64; i++) {
        unsigned char c = (unsigned char)text[i];
        bool good = isalnum(c) || c == '_' || (k > 0 && (c == '.' || c == '-'));
        if (good || k > 0) {
            out[k++] = good ? (char)tolower(c) : '-';
        }
    }
    while (k > 0 && out[k - 1] == '-') {
        k--;
    }
    out[k] = 0;
    if (!ot_name_ok(out)) {
        snprintf(out, 65, "%s", otherwise);
    }
}

/* The last part of a path without its suffix. */
static void stem(const char *path, const char *otherwise, char out[65])
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    name_from(base, dot != NULL && dot > base ? (size_t)(dot - base) : strlen(base), otherwise,
              out);
}

/* The program is what lies in the app file's folder: a run gets a copy of it. */
static ot_rc place(init *in, const ot_args *args, ot_error *err)
{
    char program[OT_PATH_MAX], dir[OT_PATH_MAX];
    const char *file, *given = ot_args_str(args, "out");
    OT_TRY(ot_cli_absolute(in->program, program, err));
    if (given == NULL) {
        OT_TRY(ot_cli_split_path(in->program, dir, &file, err));
        OT_TRY(strcmp(dir, ".") == 0 ? ot_path_join(in->out, "app.yaml", "", err)
                                     : ot_path_join(in->out, dir, "app.yaml", err));
        in->out[strlen(in->out) - (strcmp(dir, ".") == 0)] = 0;
    } else if (snprintf(in->out, sizeof in->out, "%s", given) >= OT_PATH_MAX) {
        return ot_fail(err, OT_RANGE, "--out: a path of more than %d bytes", OT_PATH_MAX - 1);
    }
    OT_TRY(ot_cli_split_path(in->out, dir, &file, err));
    OT_TRY(ot_cli_absolute(dir, in->folder, err));
    size_t n = strlen(in->folder);
    if (strncmp(program, in->folder, n) != 0 || program[n] != '/') {
        return ot_fail(err, OT_INVALID,
                       "--out %s: the app file must lie in the program's folder or above it; a run "
                       "gets a copy of the app file's folder",
                       in->out);
    }
    snprintf(in->inside, sizeof in->inside, "%s", program + n + 1);
    return OT_OK;
}

static ot_rc name_app(init *in, const ot_args *args, ot_error *err)
{
    static const char *const plain[] = {"train", "main", "fit", "training", "run"};
    const char *given = ot_args_str(args, "app");
    if (given != NULL) {
        if (!ot_name_ok(given)) {
            return ot_fail(err, OT_INVALID,
                           "--app '%.80s' is not a name: 1 to 64 of letters, digits, '.', '_' and "
                           "'-'",
                           given);
        }
        snprintf(in->app, sizeof in->app, "%s", given);
        return OT_OK;
    }
    stem(in->program, "app", in->app);
    for (size_t i = 0; i < OT_COUNT(plain); i++) {
        if (strcmp(in->app, plain[i]) == 0) {
            const char *slash = strrchr(in->folder, '/');
            name_from(slash + 1, strlen(slash + 1), "app", in->app);
            break;
        }
    }
    return OT_OK;
}

static void name_data(init *in)
{
    for (size_t i = 0; i < in->scan.n_data; i++) {
        char suffix[8];
        snprintf(suffix, sizeof suffix, "-%zu", i + 1);
        stem(in->scan.data[i], "base", in->names[i]);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(in->names[i], in->names[k]) == 0) {
                in->names[i][64 - strlen(suffix)] = 0;
                strcat(in->names[i], suffix);
            }
        }
    }
    if (in->scan.n_data <= 1) {
        snprintf(in->names[0], sizeof in->names[0], "base");
    }
}

/* --- the text -----------------------------------------------------------------------------------
 */

/* A YAML scalar: in quotes unless it is plain beyond doubt. */
static void add_scalar(ot_str *out, const char *text)
{
    bool plain = isalpha((unsigned char)text[0]) || text[0] == '/' || text[0] == '_';
    for (const char *p = text; *p != 0 && plain; p++) {
        plain = isalnum((unsigned char)*p) || strchr("._/-", *p) != NULL;
    }
    if (plain) {
        ot_str_adds(out, text);
        return;
    }
    ot_str_addc(out, '"');
    ot_str_add_json(out, text, strlen(text));
    ot_str_addc(out, '"');
}

/* For the shell that runs it. */
static void add_run(ot_str *out, const char *program)
{
    OT_AUTO(ot_str_done) ot_str run = OT_STR_INIT;
    bool plain =
        strspn(program, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-") ==
        strlen(program);
    ot_str_addf(&run, "python %s%s", plain ? "" : "'", program[0] == '-' ? "./" : "");
    for (const char *p = program; *p != 0; p++) {
        ot_str_adds(&run, *p == '\'' ? "'\\''" : (const char[]){*p, 0});
    }
    ot_str_adds(&run, plain ? "" : "'");
    if (plain) {
        ot_str_adds(out, run.data);
    } else {
        add_scalar(out, run.data);
    }
    out->failed = out->failed || run.failed;
}

static void add_data(const init *in, ot_str *out)
{
    const ot_init_scan *s = &in->scan;
    bool known = s->n_data > 0 && !s->knows_us;
    ot_str_adds(out,
                "\n# Data sets: a .npz file, or a folder of .npy files, one array a column. Whole "
                "rows are held out\n# for evaluation; training never sees them.\n");
    if (!known) {
        ot_str_adds(out, "# FILL IN: the program's text does not say which file; name it here.\n");
    }
    if (s->label[0] == 0) {
        ot_str_adds(out, "# FILL IN: `label` is the column that holds the right answer.\n");
    }
    ot_str_adds(out, "data:\n");
    for (size_t i = 0; i < (known ? s->n_data : 1); i++) {
        ot_str_addf(out, "  %s: {path: ", known ? in->names[i] : "base");
        add_scalar(out, known ? s->data[i] : "data.npz");
        ot_str_adds(out, ", label: ");
        ot_str_adds(out, s->label[0] != 0 ? s->label : "y");
        ot_str_adds(out, "}\n");
    }
}

static void add_train(const init *in, ot_str *out)
{
    const ot_init_scan *s = &in->scan;
    bool known = s->n_data > 0 && !s->knows_us;
    ot_str_addf(
        out,
        "\n# A run executes a copy of this folder. It finds the rows that it may train on at\n"
        "# $OVERTAKE_DATA/%s/COLUMN.npy%s\n",
        known ? in->names[0] : "base",
        s->knows_us ? "."
                    : ", and no others: let the program load them from there,\n"
                      "#     np.load(os.path.join(os.environ[\"OVERTAKE_DATA\"], \"base\", "
                      "\"x.npy\"))");
    ot_str_adds(out, "train:\n  run: ");
    add_run(out, in->inside);
    ot_str_adds(out, "\n  data: [");
    for (size_t i = 0; i < (known ? s->n_data : 1); i++) {
        ot_str_addf(out, "%s%s", i > 0 ? ", " : "", known ? in->names[i] : "base");
    }
    ot_str_adds(out, "]\n");
    if (s->model[0] == 0) {
        ot_str_adds(
            out, "  # FILL IN: where the program writes its model, from its folder on: ONNX or a\n"
                 "  # SavedModel.");
        if (s->unserved[0] != 0) {
            ot_str_adds(out, " What it saves now, ");
            ot_str_add_json(out, s->unserved, strlen(s->unserved));
            ot_str_adds(out, ", is not a format that is served.");
        }
        ot_str_addc(out, '\n');
    }
    ot_str_adds(out, "  model: ");
    add_scalar(out, s->model[0] != 0 ? s->model : "out/model.onnx");
    ot_str_addc(out, '\n');
}

static const char loop_text[] =
    "\n# The rest has defaults (overtake config show FILE prints them). A start, to be "
    "uncommented:\n"
    "#objectives:\n"
    "#  accuracy: {at_least: 0.9, over: 28d}\n"
    "#retrain:\n"
    "#  when: [accuracy.degraded, \"labels.new >= 500\"]\n"
    "#  at_most: 2 per day\n"
    "#release:\n"
    "#  - gate: {not_worse_on: {%s: 0.02}}\n"
    "#  - shadow: {until: 200 compared, at_most: 1h, otherwise: stop}\n"
    "#  - canary: {shares: [10%%, 50%%], margin: 0.02, at_most: 2h, otherwise: roll_back}\n"
    "#  - probation: {for: 24h, roll_back_if: worse_than_previous}\n";

static void write_text(const init *in, ot_str *out)
{
    bool known = in->scan.n_data > 0 && !in->scan.knows_us;
    ot_str_addf(out,
                "# Written by `overtake init`. What may stand here: overtake config reference\n"
                "schema: overtake/1\napp: %s\n",
                in->app);
    add_data(in, out);
    add_train(in, out);
    ot_str_addf(out, "\n# Answers at /v2/models/%s/infer.\nserve: %s\n", in->app, in->app);
    ot_str_addf(out, loop_text, known ? in->names[0] : "base");
}

static ot_rc write_new(const char *path, const ot_str *text, ot_error *err)
{
    ot_disk *d = ot_disk_posix();
    ot_file *f;
    ot_rc rc = d->ops->open(d, path, OT_OPEN_WRITE | OT_OPEN_CREATE | OT_OPEN_EXCL, 0644, &f, err);
    if (rc == OT_EXISTS) {
        return ot_fail(err, rc,
                       "%s is there already and is never overwritten; name another with "
                       "--out",
                       path);
    }
    OT_TRY(rc);
    rc = f->ops->append(f, text->data, text->len, err);
    ot_file_close(f);
    return rc;
}

static void tell(const init *in, bool json, ot_str *out)
{
    const ot_init_scan *s = &in->scan;
    bool complete = s->n_data > 0 && !s->knows_us && s->model[0] != 0 && s->label[0] != 0;
    if (json) {
        ot_str_adds(out, "{\"file\": \"");
        ot_str_add_json(out, in->out, strlen(in->out));
        ot_str_addf(out, "\", \"app\": \"%s\", \"complete\": %s}\n", in->app,
                    complete ? "true" : "false");
        return;
    }
    ot_str_addf(out, "wrote %s for app %s%s\n\n", in->out, in->app,
                complete ? "" : "; fill in what its comments ask for");
    if (!s->knows_us) {
        ot_str_addf(out,
                    "%s does not read $OVERTAKE_DATA yet: that is where a run finds its rows,\n"
                    "one folder a data set, one .npy a column.\n\n",
                    in->program);
    }
    ot_str_addf(out,
                "Go on with\n"
                "    overtake check %s\n"
                "    overtake up                    # stays; go on in another terminal\n"
                "    overtake apply %s\n",
                in->out, in->out);
}

static ot_rc run_all(init *in, const ot_args *args, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str program = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    OT_TRY(ot_disk_read_all(ot_disk_posix(), in->program, PROGRAM_BYTES_MAX, &program, err));
    ot_init_scan_text(program.data, program.len, &in->scan);
    OT_TRY(place(in, args, err));
    OT_TRY(name_app(in, args, err));
    name_data(in);
    write_text(in, &text);
    if (text.failed) {
        return ot_fail(err, OT_EXHAUSTED, "no memory for %s", in->out);
    }
    return write_new(in->out, &text, err);
}

static int run_init(const ot_args *args)
{
    ot_error err = {0};
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    OT_AUTO(ot_free_ptr) init *in = ot_calloc(1, sizeof *in);
    if (in == NULL) {
        (void)ot_fail(&err, OT_EXHAUSTED, "no memory");
        return ot_cli_fail(args, &err);
    }
    in->program = ot_args_pos(args, "PROGRAM.py");
    if (run_all(in, args, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    tell(in, ot_args_json(args), &out);
    return ot_cli_print(&out);
}

static const ot_opt opts[] = {
    {.name = "app",
     .type = OT_OPT_STRING,
     .value = "NAME",
     .help = "the app's name [the program's or its folder's]",
     .env = ""},
    {.name = "out",
     .type = OT_OPT_STRING,
     .value = "FILE",
     .help = "the file to write; never overwritten [app.yaml beside the program]",
     .env = ""},
};
static const ot_pos pos[] = {{.name = "PROGRAM.py", .help = "a training program"}};

const ot_command ot_cli_init_command = {
    .name = "init",
    .summary = "write a first app file for a training program",
    .detail = "Looks through the program's text for the .npz and .npy files that it loads and for "
              "where it\n"
              "saves its model; what it can't tell, comments in the file ask for.\n\n"
              "A run finds its rows at $OVERTAKE_DATA, not where the file names them: part of them "
              "is held\n"
              "out for evaluation.",
    OT_OPTS(opts),
    OT_POS(pos),
    .run = run_init,
};
