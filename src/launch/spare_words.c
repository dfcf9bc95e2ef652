/* Commands that a spare can stand in for. */
#include "launch/spare.h"

#include "base/mem.h"

#include <ctype.h>
#include <string.h>

/* What no shell changes outside of quotes. */
static bool is_plain(char c)
{
    return isalnum((unsigned char)c) || (c != 0 && strchr("_@%+=:,./-", c) != NULL);
}

/* What no shell changes inside of them. */
static bool is_quotable(char quote, char c)
{
    return c != 0 && c != '\n' && (quote == '\'' || strchr("$`\\!", c) == NULL);
}

static ot_rc needs_shell(const char *at, ot_error *err)
{
    int n = (int)OT_MIN(strcspn(at, "\n"), (size_t)20);
    return ot_fail(err, OT_INVALID, "its command needs a shell from '%.*s' on", n, at);
}

/* One word of the text at *at to *to, with a NUL. */
static ot_rc take_word(const char **at, char **to, ot_error *err)
{
    const char *p = *at;
    char *out = *to;
    while (*p != 0 && *p != ' ' && *p != '\t') {
        if (*p == '\'' || *p == '"') {
            char quote = *p++;
            while (*p != quote && is_quotable(quote, *p)) {
                *out++ = *p++;
            }
            if (*p != quote) {
                return needs_shell(p, err);
            }
            p++;
        } else if (is_plain(*p)) {
            *out++ = *p++;
        } else {
            return needs_shell(p, err);
        }
    }
    *out++ = 0;
    *at = p;
    *to = out;
    return OT_OK;
}

static ot_rc split(const char *command, ot_launch_python *w, ot_error *err)
{
    char *to = w->text; /* no word is longer than what it is made of, blank or NUL included */
    for (const char *at = command;;) {
        at += strspn(at, " \t");
        if (*at == 0) {
            w->words[w->n_words] = NULL;
            return OT_OK;
        }
        if (w->n_words == OT_LAUNCH_WORDS_MAX) {
            return ot_fail(err, OT_INVALID, "its command has more than %d words",
                           OT_LAUNCH_WORDS_MAX);
        }
        w->words[w->n_words++] = to;
        OT_TRY(take_word(&at, &to, err));
    }
}

/* python, python3, python3.11, and any of them by its path. */
static bool is_python(const char *word)
{
    const char *slash = strrchr(word, '/'), *name = slash != NULL ? slash + 1 : word;
    return strncmp(name, "python", 6) == 0 && name[6 + strspn(name + 6, "0123456789.")] == 0 &&
           (slash == NULL || word[0] == '/');
}

ot_rc ot_launch_python_parse(const char *command, ot_launch_python *out, ot_error *err)
{
    if (strlen(command) >= sizeof out->text) {
        return ot_fail(err, OT_INVALID, "its command is longer than %zu bytes",
                       sizeof out->text - 1);
    }
    out->n_words = 0;
    OT_TRY(split(command, out, err));
    size_t script = out->n_words > 1 && strcmp(out->words[1], "-u") == 0 ? 2 : 1;
    if (out->n_words <= script || !is_python(out->words[0])) {
        return ot_fail(err, OT_INVALID, "its command is not 'python [-u] SCRIPT.py ...'");
    }
    const char *s = out->words[script];
    size_t n = strlen(s);
    if (s[0] == '-' || n < 4 || strcmp(s + n - 3, ".py") != 0) {
        return ot_fail(err, OT_INVALID, "its command is not 'python [-u] SCRIPT.py ...'");
    }
    out->script = script;
    return OT_OK;
}

ot_rc ot_launch_spec_python(const ot_launch_spec *spec, ot_launch_python *out, ot_error *err)
{
    const char *command = spec->n_job > 0 ? spec->job[spec->n_job - 1] : spec->command;
    if (command == NULL) {
        return ot_fail(err, OT_INVALID, "it has no command line");
    }
    return ot_launch_python_parse(command + (ot_has_prefix(command, "exec ") ? 5 : 0), out, err);
}

bool ot_launch_module_ok(const char *name)
{
    bool begins = true;
    for (; *name != 0; name++) {
        bool letter = isalpha((unsigned char)*name) || *name == '_';
        if (*name == '.' ? begins : !letter && (begins || !isdigit((unsigned char)*name))) {
            return false;
        }
        begins = *name == '.';
    }
    return !begins;
}
