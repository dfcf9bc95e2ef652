/* The log for people: the timeline and the account of why. */
#include "base/mem.h"
#include "cli/text.h"
#include "cli/view.h"

#include <inttypes.h>
#include <string.h>

#define TYPE_WIDTH 19
#define OBJECT_WIDTH 20
#define PAYLOAD_MAX 160

typedef enum kind { PLAIN, GOOD, WAITS, BAD } kind;

/* By what a type ends with; the first that matches. */
static const struct {
    const char *end;
    kind kind;
} kinds[] = {
    {"degraded", BAD},      {"at_risk", BAD},    {"drift", BAD},      {"drift.detected", BAD},
    {"rolled_back", BAD},   {".failed", BAD},    {".lost", BAD},      {"loop.paused", WAITS},
    {"loop.frozen", WAITS}, {".refused", WAITS}, {".stopped", WAITS}, {".held", WAITS},
    {".requested", WAITS},  {".promoted", GOOD}, {".passed", GOOD},   {".recovered", GOOD},
    {".given", GOOD},       {".burning", BAD},   {".spent", BAD},     {".restored", GOOD},
    {".forbids", BAD},      {".waits", WAITS},   {".allows", GOOD},
};

static kind kind_of(const json_t *event)
{
    const char *type = ot_cli_get(event, "type");
    const char *state = ot_cli_get(json_object_get(event, "payload"), "state");
    if (strcmp(type, "run.finished") == 0) {
        return strcmp(state, "succeeded") == 0 || state[0] == 0 ? PLAIN : BAD;
    }
    for (size_t i = 0; i < OT_COUNT(kinds); i++) {
        if (ot_has_suffix(type, kinds[i].end)) {
            return kinds[i].kind;
        }
    }
    return PLAIN;
}

static void add_text(const json_t *event, ot_str *out)
{
    const json_t *payload = json_object_get(event, "payload");
    const char *text = ot_cli_get(payload, "text");
    if (text[0] != 0) {
        ot_cli_add_clean(out, text);
    } else if (json_is_null(payload)) {
        ot_str_adds(out, "(erased)");
    } else if (json_object_size(payload) > 0) {
        char *dump = json_dumps(payload, JSON_COMPACT);
        char *cut = dump != NULL ? ot_strndup(dump, PAYLOAD_MAX) : NULL;
        out->failed = out->failed || cut == NULL;
        ot_cli_add_clean(out, cut != NULL ? cut : "");
        ot_free(cut);
        free(dump);
    }
}

void ot_cli_view_event(const json_t *event, bool colour, ot_str *out)
{
    static const char marks[] = {' ', '+', '?', '!'};
    static const char *const colours[] = {"", "\x1b[32m", "\x1b[33m", "\x1b[1;31m"};
    char time[OT_CLI_TIME_TEXT];
    kind k = kind_of(event);
    bool paint = colour && k != PLAIN;
    ot_cli_time(ot_cli_int(event, "time_us"), time);
    ot_str_addf(out, colour ? "\x1b[2m%s %6" PRId64 "\x1b[0m %s%c " : "%s %6" PRId64 " %s%c ", time,
                ot_cli_int(event, "seq"), paint ? colours[k] : "", marks[k]);
    ot_cli_add_padded(out, ot_cli_get(event, "type"), TYPE_WIDTH);
    ot_str_addc(out, ' ');
    ot_cli_add_padded(out, ot_cli_get(event, "object"), OBJECT_WIDTH);
    ot_str_addc(out, ' ');
    add_text(event, out);
    ot_str_adds(out, paint ? "\x1b[0m\n" : "\n");
}

/* The text up to its first cause: the chain below has the others, one a line. */
static void add_headline(const json_t *answer, ot_str *out)
{
    OT_AUTO(ot_str_done) ot_str text = OT_STR_INIT;
    ot_str_adds(&text, ot_cli_get(answer, "text"));
    char *cause = strstr(text.data, " <- ");
    if (cause != NULL) {
        *cause = 0;
    }
    ot_cli_add_clean(out, text.data);
    ot_str_adds(out, "\n\n");
    out->failed = out->failed || text.failed;
}

void ot_cli_view_why(const json_t *answer, ot_str *out)
{
    char time[OT_CLI_TIME_TEXT];
    size_t i, seq_width = 0, actor_width = 0;
    const json_t *step, *chain = json_object_get(answer, "chain");
    add_headline(answer, out);
    json_array_foreach(chain, i, step)
    {
        char seq[24];
        size_t n = (size_t)snprintf(seq, sizeof seq, "%" PRId64, ot_cli_int(step, "seq"));
        seq_width = OT_MAX(seq_width, n);
        actor_width = OT_MAX(actor_width, strlen(ot_cli_get(step, "actor")));
    }
    json_array_foreach(chain, i, step)
    {
        ot_str_addf(out, "  %s  %*" PRId64 "  ", ot_cli_time(ot_cli_int(step, "time_us"), time),
                    (int)seq_width, ot_cli_int(step, "seq"));
        ot_cli_add_padded(out, ot_cli_get(step, "actor"), actor_width);
        ot_str_adds(out, "  ");
        ot_cli_add_clean(out, ot_cli_get(step, "text"));
        ot_str_addc(out, '\n');
    }
}

void ot_cli_view_verified(const json_t *answer, ot_str *out)
{
    const json_t *head = json_object_get(answer, "head");
    int64_t rows = ot_cli_int(answer, "rows"), erased = ot_cli_int(answer, "erased");
    if (ot_cli_true(answer, "ok")) {
        ot_str_addf(out, "the log is whole: %" PRId64 " events, each chained to the one before",
                    rows);
        if (erased > 0) {
            ot_str_addf(out, "; the payload of %" PRId64 " was erased", erased);
        }
        ot_str_addf(out, "\nhead %" PRId64 " ", ot_cli_int(head, "seq"));
        ot_cli_add_clean(out, ot_cli_get(head, "hash"));
        ot_str_addc(out, '\n');
        return;
    }
    ot_str_addf(out, "the log is NOT whole: event %" PRId64 ": ", ot_cli_int(answer, "bad_seq"));
    ot_cli_add_clean(out, ot_cli_get(answer, "what"));
    ot_str_addf(out, " (%" PRId64 " events before it are good)\n", rows);
}
