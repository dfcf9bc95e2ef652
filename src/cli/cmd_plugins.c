/* `overtake plugins`: which runtimes were found where, and why one was refused. */
#include "base/mem.h"
#include "cli/commands.h"
#include "runtime/runtime.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct printing {
    ot_str *out;
    bool json;
    size_t n, usable;
} printing;

static void add_member(ot_str *out, const char *name, const char *value)
{
    ot_str_addf(out, ", \"%s\": \"", name);
    ot_str_add_json(out, value, strlen(value));
    ot_str_addc(out, '"');
}

static void add_json(printing *p, const ot_plugin_report *r)
{
    ot_str_addf(p->out, "%s\n  {\"usable\": %s", p->n > 0 ? "," : "", r->usable ? "true" : "false");
    add_member(p->out, "name", r->name);
    add_member(p->out, "file", r->file);
    add_member(p->out, "formats", r->formats);
    add_member(p->out, "runtime_version", r->runtime_version);
    add_member(p->out, "runtime_library", r->runtime_library);
    add_member(p->out, "build_id", r->build_id);
    add_member(p->out, "reason", r->reason);
    ot_str_addf(p->out, ", \"abi\": \"%u.%u\", \"capabilities\": %" PRIu64 "}", r->abi_major,
                r->abi_minor, r->capabilities);
}

static void add_text(printing *p, const ot_plugin_report *r)
{
    if (r->usable) {
        ot_str_addf(p->out, "%-14s ok       %-14s %s%s%s\n", r->name, r->formats,
                    r->runtime_version, r->runtime_library[0] != '\0' ? "  " : "",
                    r->runtime_library);
    } else {
        ot_str_addf(p->out, "%-14s refused  %s\n%25s%s\n", r->name, r->file, "", r->reason);
    }
}

static void on_plugin(void *arg, const ot_plugin_report *r)
{
    printing *p = arg;
    if (p->json) {
        add_json(p, r);
    } else {
        add_text(p, r);
    }
    p->n++;
    p->usable += r->usable;
}

static int run_plugins(const ot_args *args)
{
    ot_error err = {0};
    ot_runtime *rt;
    if (ot_runtime_create(ot_args_str(args, "plugin-path"), &rt, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    printing p = {.out = &out, .json = ot_args_json(args)};
    if (p.json) {
        ot_str_addc(&out, '[');
    }
    ot_runtime_list(rt, ot_args_bool(args, "probe"), on_plugin, &p);
    if (p.json) {
        ot_str_adds(&out, p.n > 0 ? "\n]\n" : "]\n");
    } else if (p.n == 0) {
        OT_AUTO(ot_str_done) ot_str path = OT_STR_INIT;
        ot_runtime_search_path(rt, &path);
        fprintf(stderr, "overtake: no plug-in was found in:\n%s", path.data);
    }
    fputs(out.data, stdout);
    fflush(stdout);
    ot_runtime_unref(rt);
    return out.failed || p.n == 0 ? 1 : 0;
}

static const ot_opt plugins_opts[] = {
    {.name = "probe",
     .type = OT_OPT_BOOL,
     .def = "true",
     .help = "load each runtime too, to see its version"},
    {.name = "plugin-path",
     .type = OT_OPT_STRING,
     .value = "DIRS",
     .help = "folders with plug-ins, colon-separated"},
};

const ot_command ot_cli_plugins_command = {
    .name = "plugins",
    .summary = "list the runtimes that were found, and why one was refused",
    OT_OPTS(plugins_opts),
    .run = run_plugins};
