/* Commands as text: finding one by its words, --help, the list of commands, completion. */
#include "base/mem.h"
#include "base/options.h"

#include <stdio.h>
#include <string.h>

#define WORDS_MAX 4
#define COMMANDS_MAX 128

/* How many words of argv the command's name takes; 0 when it is not this command. */
static int name_matches(const char *name, int argc, const char *const *argv)
{
    int words = 0;
    for (const char *p = name; *p != 0; words++) {
        size_t n = strcspn(p, " ");
        if (words >= argc || strncmp(argv[words], p, n) != 0 || argv[words][n] != 0) {
            return 0;
        }
        p += n;
        p += *p == ' ';
    }
    return words;
}

static bool is_group(const ot_command *const *table, size_t n, const char *word)
{
    size_t len = strlen(word);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(table[i]->name, word, len) == 0 && table[i]->name[len] == ' ') {
            return true;
        }
    }
    return false;
}

static ot_rc not_found(const ot_command *const *table, size_t n, int argc, const char *const *argv,
                       ot_error *err)
{
    const char *names[COMMANDS_MAX];
    size_t n_names = 0;
    for (size_t i = 0; i < n && n_names < OT_COUNT(names); i++) {
        if (!table[i]->hidden) {
            names[n_names++] = table[i]->name;
        }
    }
    char typed[128];
    bool group = is_group(table, n, argv[0]);
    snprintf(typed, sizeof typed, "%.60s%s%.60s", argv[0], group && argc > 1 ? " " : "",
             group && argc > 1 ? argv[1] : "");
    const char *near = ot_suggest(typed, names, n_names);
    if (near != NULL && strcmp(near, typed) != 0) {
        return ot_fail(err, OT_INVALID, "unknown command '%s'; did you mean '%s'?", typed, near);
    }
    if (!group) {
        return ot_fail(err, OT_INVALID, "unknown command '%s'; overtake help lists them", typed);
    }
    char all[256] = "";
    size_t len = strlen(argv[0]);
    for (size_t i = 0; i < n; i++) {
        if (strncmp(table[i]->name, argv[0], len) == 0 && table[i]->name[len] == ' ') {
            size_t at = strlen(all);
            snprintf(all + at, sizeof all - at, "%s%s", at ? ", " : "", table[i]->name + len + 1);
        }
    }
    return ot_fail(err, OT_INVALID, "'%s' needs one of: %s", argv[0], all);
}

ot_rc ot_command_find(const ot_command *const *table, size_t n, int argc, const char *const *argv,
                      const ot_command **cmd_out, int *words_out, ot_error *err)
{
    if (argc < 1) {
        return ot_fail(err, OT_INVALID, "a command is missing; overtake help lists them");
    }
    const ot_command *best = NULL;
    int words = 0;
    for (size_t i = 0; i < n; i++) {
        int k = name_matches(table[i]->name, argc, argv);
        if (k > words) {
            words = k;
            best = table[i];
        }
    }
    if (best == NULL) {
        return not_found(table, n, argc, argv, err);
    }
    *cmd_out = best;
    *words_out = words;
    return OT_OK;
}

static const char *value_name(const ot_opt *o)
{
    static const char *const names[] = {"TEXT", "N",        "",        "DURATION",
                                        "SIZE", "FRACTION", "ADDRESS", "TEXT"};
    return o->value != NULL ? o->value : names[o->type];
}

/* What is on by itself is written as what turns it off. */
static const char *negation(const ot_opt *o)
{
    bool on = o->type == OT_OPT_BOOL && o->def != NULL &&
              (strcmp(o->def, "yes") == 0 || strcmp(o->def, "true") == 0);
    return on ? "no-" : "";
}

static void help_option(const ot_opt *o, ot_str *out)
{
    char left[96], letter[8] = "    ";
    if (o->letter != 0) {
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    }
    snprintf(left, sizeof left, "%s--%s%s%s%s", letter, negation(o), o->name,
             o->type == OT_OPT_BOOL ? "" : " ", value_name(o));
    ot_str_addf(out, "  %-30s  %s", left, o->help != NULL ? o->help : "");
    if (o->choices != NULL) {
        ot_str_adds(out, " (");
        for (size_t i = 0; o->choices[i] != NULL; i++) {
            ot_str_addf(out, "%s%s", i ? " | " : "", o->choices[i]);
        }
        ot_str_adds(out, ")");
    }
    if (o->min != NULL || o->max != NULL) {
        ot_str_addf(out, " (%s%s%s)", o->min != NULL ? o->min : "", "..",
                    o->max != NULL ? o->max : "");
    }
    if (o->type == OT_OPT_STRINGS) {
        ot_str_adds(out, "; may be repeated");
    }
    if (o->required) {
        ot_str_adds(out, "; required");
    } else if (o->def != NULL && o->type != OT_OPT_BOOL) {
        ot_str_addf(out, " [%s]", o->def);
    }
    ot_str_addc(out, '\n');
}

static void help_options(const char *title, const ot_opt *opts, size_t n, ot_str *out)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (opts[i].hidden) {
            continue;
        }
        if (!any) {
            ot_str_addf(out, "\n%s:\n", title);
            any = true;
        }
        help_option(&opts[i], out);
    }
}

void ot_command_help(const ot_command *cmd, const char *program, ot_str *out)
{
    ot_str_addf(out, "%s %s: %s\n\nUsage: %s %s [OPTIONS]", program, cmd->name, cmd->summary,
                program, cmd->name);
    for (size_t i = 0; i < cmd->n_pos; i++) {
        const ot_pos *p = &cmd->pos[i];
        ot_str_addf(out, p->optional ? " [%s%s]" : " %s%s", p->name, p->many ? "..." : "");
    }
    ot_str_adds(out, cmd->rest ? " -- ARGS...\n" : "\n");
    if (cmd->detail != NULL) {
        ot_str_addf(out, "\n%s\n", cmd->detail);
    }
    for (size_t i = 0; i < cmd->n_pos; i++) {
        ot_str_addf(out, "%s  %-30s  %s\n", i == 0 ? "\nArguments:\n" : "", cmd->pos[i].name,
                    cmd->pos[i].help);
    }
    help_options("Options", cmd->opts, cmd->n_opts, out);
    help_options("Options of every command", ot_opts_global, ot_opts_global_n, out);
    ot_str_adds(out,
                "\nAn option that is not given is taken from the environment: --log-level from "
                "OVERTAKE_LOG_LEVEL.\n");
}

void ot_command_list(const ot_command *const *table, size_t n, const char *program, ot_str *out)
{
    ot_str_addf(out, "Usage: %s COMMAND [OPTIONS] [ARGUMENTS]\n", program);
    for (size_t i = 0; i < n; i++) {
        if (table[i]->group != NULL || i == 0) {
            ot_str_addf(out, "\n%s:\n", table[i]->group != NULL ? table[i]->group : "Commands");
        }
        if (!table[i]->hidden) {
            ot_str_addf(out, "  %-18s  %s\n", table[i]->name, table[i]->summary);
        }
    }
    ot_str_addf(out, "\n%s COMMAND --help says more about one.\n", program);
}

static void completion_options(const ot_opt *opts, size_t n, ot_str *out)
{
    for (size_t i = 0; i < n; i++) {
        if (!opts[i].hidden) {
            ot_str_addf(out, " --%s%s", negation(&opts[i]), opts[i].name);
        }
    }
}

/* The words that may come `depth` words into a command line that starts with `prefix`. */
static void completion_words(const ot_command *const *table, size_t n, const char *prefix,
                             ot_str *out)
{
    size_t len = strlen(prefix);
    const char *last = "";
    size_t last_n = 0;
    for (size_t i = 0; i < n; i++) {
        const char *name = table[i]->name;
        if (table[i]->hidden || strncmp(name, prefix, len) != 0) {
            continue;
        }
        size_t k = strcspn(name + len, " ");
        if (k != last_n || strncmp(last, name + len, k) != 0) {
            ot_str_addf(out, " %.*s", (int)k, name + len);
        }
        last = name + len;
        last_n = k;
    }
}

void ot_command_completion_bash(const ot_command *const *table, size_t n, const char *program,
                                ot_str *out)
{
    char prefix[64];
    ot_str_addf(out,
                "_%s() {\n"
                "    local cur=\"${COMP_WORDS[COMP_CWORD]}\" words\n"
                "    case \"${COMP_WORDS[*]:1:COMP_CWORD-1} \" in\n",
                program);
    /* Longer names first, so that a group does not hide its members. */
    for (int spaces = WORDS_MAX; spaces >= 0; spaces--) {
        for (size_t i = 0; i < n; i++) {
            int have = 0;
            for (const char *p = table[i]->name; *p != 0; p++) {
                have += *p == ' ';
            }
            if (table[i]->hidden || have != spaces) {
                continue;
            }
            ot_str_addf(out, "        '%s '*) words='", table[i]->name);
            completion_options(table[i]->opts, table[i]->n_opts, out);
            completion_options(ot_opts_global, ot_opts_global_n, out);
            snprintf(prefix, sizeof prefix, "%s ", table[i]->name);
            completion_words(table, n, prefix, out); /* `events` and `events verify` */
            ot_str_adds(out, "' ;;\n");
        }
    }
    for (size_t i = 0; i < n; i++) {
        const char *space = strchr(table[i]->name, ' ');
        size_t k = space != NULL ? (size_t)(space - table[i]->name) + 1 : 0;
        if (k == 0 || table[i]->hidden ||
            (i > 0 && strncmp(table[i - 1]->name, table[i]->name, k) == 0)) {
            continue;
        }
        snprintf(prefix, sizeof prefix, "%.*s", (int)k, table[i]->name);
        ot_str_addf(out, "        '%s') words='", prefix);
        completion_words(table, n, prefix, out);
        ot_str_adds(out, "' ;;\n");
    }
    ot_str_adds(out, "        *) words='");
    completion_words(table, n, "", out);
    ot_str_addf(out,
                "' ;;\n    esac\n"
                "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                "    [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n"
                "}\n"
                "complete -F _%s %s\n",
                program, program);
}
