/* `overtake doctor`: is this machine fit for it? */
#include "doctor/doctor.h"

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/datadir.h"
#include "cli/text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct printing {
    ot_str *json; /* NULL: text, as it comes */
    bool colour, failed;
    unsigned counts[3]; /* by ot_check_state */
} printing;

static void on_check(void *arg, const ot_check *c)
{
    static const char *const paint[] = {"\033[32m", "\033[33m", "\033[31m"};
    printing *p = arg;
    p->counts[c->state]++;
    if (p->json != NULL) {
        ot_str_adds(p->json, p->json->len > 0 ? ",\n  " : "  ");
        ot_check_json(c, p->json);
        return;
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_addf(&out, "%s%-4s%s  %-16s ", p->colour ? paint[c->state] : "",
                ot_check_state_name(c->state), p->colour ? "\033[0m" : "", c->name);
    ot_cli_add_clean(&out, c->text);
    if (c->fix[0] != 0) {
        ot_str_addf(&out, "\n%24s", "-> ");
        ot_cli_add_clean(&out, c->fix);
    }
    ot_str_addc(&out, '\n');
    p->failed |= ot_cli_print(&out) != 0;
}

static ot_rc set_up(const ot_args *args, char data[OT_PATH_MAX], char exe[OT_PATH_MAX],
                    ot_error *err)
{
    ssize_t n = readlink("/proc/self/exe", exe, OT_PATH_MAX - 1);
    if (n <= 0) {
        return ot_fail(err, OT_INTERNAL, "/proc/self/exe: not readable; is /proc mounted?");
    }
    exe[n] = 0;
    return ot_datadir_absolute(ot_args_str(args, "data"), data, err);
}

static int print_json(const printing *p, const ot_str *checks)
{
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    ot_str_addf(
        &out, "{\"version\": \"%s\", \"ok\": %u, \"warn\": %u, \"fail\": %u, \"checks\": [\n",
        OT_VERSION, p->counts[OT_CHECK_OK], p->counts[OT_CHECK_WARN], p->counts[OT_CHECK_FAIL]);
    ot_str_add(&out, checks->data, checks->len);
    ot_str_adds(&out, "\n]}\n");
    out.failed |= checks->failed;
    return ot_cli_print(&out);
}

static int run(const ot_args *args)
{
    OT_AUTO(ot_str_done) ot_str checks = OT_STR_INIT, out = OT_STR_INIT;
    char data[OT_PATH_MAX], exe[OT_PATH_MAX];
    ot_error err = {0};
    if (set_up(args, data, exe, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    printing p = {.json = ot_args_json(args) ? &checks : NULL, .colour = ot_cli_colour()};
    ot_doctor_options o = {.data_dir = data,
                           .exe = exe,
                           .listen = *ot_args_addr(args, "listen"),
                           .control = *ot_args_addr(args, "control"),
                           .no_app = !ot_args_bool(args, "app")};
    ot_doctor(&o, on_check, &p);
    int code;
    if (p.json != NULL) {
        code = print_json(&p, &checks);
    } else {
        ot_str_addf(&out, "%u ok, %u to know about, %u to mend\n", p.counts[OT_CHECK_OK],
                    p.counts[OT_CHECK_WARN], p.counts[OT_CHECK_FAIL]);
        code = ot_cli_print(&out);
    }
    return code != 0 || p.failed || p.counts[OT_CHECK_FAIL] > 0 ? 1 : 0;
}

static const ot_opt opts[] = {
    OT_OPT_DATA_DIR,
    {.name = "listen",
     .type = OT_OPT_ADDRESS,
     .def = "127.0.0.1:8000",
     .help = "where `up` would answer predictions"},
    {.name = "control",
     .type = OT_OPT_ADDRESS,
     .def = "127.0.0.1:9000",
     .help = "where `up` would answer the control API"},
    {.name = "app",
     .type = OT_OPT_BOOL,
     .def = "true",
     .help = "without the small app that is trained, released and asked",
     .env = ""},
};

const ot_command ot_cli_doctor_command = {
    .name = "doctor",
    .summary = "look whether this machine and the data directory are fit, and say what to do",
    .detail = "Clock, limits, disk, ports, data directory, Python, runtimes, and a small app from "
              "training to prediction\nin a directory of its own. Changes nothing in the data "
              "directory; takes under 30 s. Exit 0 when\nnothing failed; a warning is no failure.",
    OT_OPTS(opts),
    .run = run,
};
