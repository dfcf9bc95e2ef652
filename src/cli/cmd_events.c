/* `overtake events`: the log, as a page, as it happens, and the proof that it is whole. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES (16u << 20)
#define AGAIN_US 1000000

#define PAGE_MAX 1000

/* The page that the options ask for, of up to `limit` events. */
static void page_target(const ot_args *args, bool newest, int64_t limit, ot_str *target)
{
    ot_str_adds(target, "/api/v1/events");
    if (ot_args_given(args, "after")) {
        ot_cli_query_i64(target, "after", ot_args_int(args, "after"));
    }
    ot_cli_query_i64(target, "limit", limit);
    ot_cli_query(target, "type", ot_args_str(args, "type"));
    ot_cli_query(target, "object", ot_args_str(args, "object"));
    ot_cli_query(target, "newest", newest ? "1" : NULL);
}

/* What replicas hand in every minute is in the log for the proof, not for the reader. */
static bool is_chatter(const json_t *event)
{
    const char *type = ot_cli_get(event, "type");
    return strcmp(type, "windows.received") == 0 || strcmp(type, "samples.received") == 0;
}

static bool hides_chatter(const ot_args *args)
{
    return !ot_args_json(args) && !ot_args_bool(args, "all") && ot_args_str(args, "type") == NULL;
}

/* The first `limit` of a page, in its order or turned round: the newest last, where eyes are. */
static void print_page(const ot_args *args, const json_t *answer, bool turned, ot_str *out)
{
    const json_t *events = json_object_get(answer, "events");
    size_t n = json_array_size(events), end = 0;
    bool colour = ot_cli_colour(), hides = hides_chatter(args);
    for (int64_t left = ot_args_int(args, "limit"); end < n && left > 0; end++) {
        left -= !(hides && is_chatter(json_array_get(events, end)));
    }
    for (size_t i = 0; i < end; i++) {
        const json_t *event = json_array_get(events, turned ? end - 1 - i : i);
        if (!hides || !is_chatter(event)) {
            ot_cli_view_event(event, colour, out);
        }
    }
}

static int64_t page_limit(const ot_args *args)
{
    return hides_chatter(args) ? PAGE_MAX : ot_args_int(args, "limit");
}

/* --- as they happen --------------------------------------------------------------------------- */

typedef struct follow {
    bool json, colour, hides, moved;
    const char *type, *object;
    int64_t seq; /* of the last event that came */
    ot_str line;
} follow;

static bool is_wanted(const follow *f, const json_t *event)
{
    const char *object = ot_cli_get(event, "object");
    size_t n = f->object != NULL ? strlen(f->object) : 0;
    if (f->hides && is_chatter(event)) {
        return false;
    }
    if (f->type != NULL && !ot_has_prefix(ot_cli_get(event, "type"), f->type)) {
        return false;
    }
    if (n > 0 && f->object[n - 1] == '*') {
        return strncmp(object, f->object, n - 1) == 0;
    }
    return f->object == NULL || strcmp(object, f->object) == 0;
}

static ot_rc put_line(follow *f, ot_error *err)
{
    json_t *event = json_loadb(f->line.data, f->line.len, 0, NULL);
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (f->line.len == 0) {
        return OT_OK; /* a sign of life */
    }
    if (!json_is_object(event) || ot_cli_int(event, "seq") <= 0) {
        json_decref(event);
        return ot_fail(err, OT_INVALID, "the stream holds a line that is not an event: %.80s",
                       f->line.data);
    }
    f->seq = ot_cli_int(event, "seq");
    if (is_wanted(f, event)) {
        if (f->json) {
            ot_str_addf(&out, "%s\n", f->line.data);
        } else {
            ot_cli_view_event(event, f->colour, &out);
        }
    }
    json_decref(event);
    return ot_cli_print(&out) == 0 ? OT_OK : ot_fail(err, OT_CANCELLED, "nobody reads");
}

static ot_rc take(void *arg, const char *p, size_t n, ot_error *err)
{
    follow *f = arg;
    f->moved = true;
    while (n > 0) {
        const char *end = memchr(p, '\n', n);
        size_t k = end != NULL ? (size_t)(end - p) : n;
        if (f->line.len + k > LINE_MAX_BYTES) {
            return ot_fail(err, OT_EXHAUSTED, "the stream holds an event of more than 16 MiB");
        }
        ot_str_add(&f->line, p, k);
        if (f->line.failed) {
            return ot_fail(err, OT_EXHAUSTED, "no memory for an event");
        }
        if (end != NULL) {
            OT_TRY(put_line(f, err));
            ot_str_clear(&f->line);
            k++;
        }
        p += k;
        n -= k;
    }
    return OT_OK;
}

/* The last events, then `f->seq` is where the stream goes on. */
static ot_rc print_last(const ot_args *args, ot_cli_client *c, follow *f, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    json_t *answer;
    page_target(args, true, page_limit(args), &target);
    OT_TRY(ot_cli_client_call(c, "GET", target.data, NULL, &answer, err));
    const json_t *events = json_object_get(answer, "events");
    f->seq = ot_cli_int(json_object_get(answer, "head"), "seq");
    for (size_t i = json_array_size(events); i > 0 && f->json; i--) {
        char *text = json_dumps(json_array_get(events, i - 1), JSON_COMPACT);
        ot_str_addf(&out, "%s\n", text != NULL ? text : "");
        out.failed = out.failed || text == NULL;
        free(text);
    }
    if (!f->json) {
        print_page(args, answer, true, &out);
    }
    json_decref(answer);
    return ot_cli_print(&out) == 0 ? OT_OK : ot_fail(err, OT_CANCELLED, "nobody reads");
}

/* A control plane that is restarted ends its streams, in the middle of a piece when it was killed;
 * the supervisor's listener stays, so that the next attempt finds the new one. Without a byte from
 * it, there is nobody any more. */
static ot_rc stream_on(ot_cli_client *c, follow *f, ot_error *err)
{
    for (;;) {
        OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
        ot_str_adds(&target, "/api/v1/events/stream");
        ot_cli_query_i64(&target, "after", f->seq);
        f->moved = false;
        ot_str_clear(&f->line);
        ot_rc rc = ot_cli_client_stream(c, target.data, take, f, err);
        if (!f->moved || (rc != OT_OK && rc != OT_UNAVAILABLE && rc != OT_DATA_LOSS)) {
            return rc != OT_OK ? rc : ot_fail(err, OT_UNAVAILABLE, "the stream of events ended");
        }
        fprintf(stderr, "overtake events: the stream broke off; again from event %" PRId64 " on\n",
                f->seq);
        ot_clock_sleep_us(AGAIN_US);
    }
}

static int run_follow(const ot_args *args)
{
    ot_error err = {0};
    ot_cli_client *c = NULL;
    follow f = {.json = ot_args_json(args),
                .colour = ot_cli_colour(),
                .hides = hides_chatter(args),
                .type = ot_args_str(args, "type"),
                .object = ot_args_str(args, "object"),
                .seq = ot_args_int(args, "after"),
                .line = OT_STR_INIT};
    ot_rc rc = ot_cli_client_open(args, &c, &err);
    if (rc == OT_OK && !ot_args_given(args, "after")) {
        rc = print_last(args, c, &f, &err);
    }
    if (rc == OT_OK) {
        rc = stream_on(c, &f, &err);
    }
    ot_cli_client_close(c);
    ot_str_done(&f.line);
    return rc == OT_CANCELLED ? 1 : ot_cli_fail(args, &err);
}

static ot_rc fetch(const ot_args *args, const char *target, json_t **answer_out, ot_error *err)
{
    ot_cli_client *c;
    OT_TRY(ot_cli_client_open(args, &c, err));
    ot_rc rc = ot_cli_client_patient(c, err); /* to verify takes as long as the log is */
    if (rc == OT_OK) {
        rc = ot_cli_client_call(c, "GET", target, NULL, answer_out, err);
    }
    ot_cli_client_close(c);
    return rc;
}

static int run_events(const ot_args *args)
{
    ot_error err = {0};
    json_t *answer = NULL;
    OT_AUTO(ot_str_done) ot_str target = OT_STR_INIT;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    bool newest = ot_args_bool(args, "newest");
    if (ot_args_bool(args, "follow")) {
        return newest ? ot_cli_usage(args, "--follow and --newest do not go together")
                      : run_follow(args);
    }
    bool tail = !newest && !ot_args_given(args, "after");
    page_target(args, newest || tail, page_limit(args), &target);
    if (fetch(args, target.data, &answer, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    print_page(args, answer, tail, &out);
    int code = ot_args_json(args) ? ot_cli_print_json(answer) : ot_cli_print(&out);
    json_decref(answer);
    return code;
}

/* The answer is printed either way; a log that is not whole is a failure. */
static int run_verify(const ot_args *args)
{
    ot_error err = {0};
    json_t *answer = NULL;
    OT_AUTO(ot_str_done) ot_str out = OT_STR_INIT;
    if (fetch(args, "/api/v1/events/verify", &answer, &err) != OT_OK) {
        return ot_cli_fail(args, &err);
    }
    ot_cli_view_verified(answer, &out);
    int code = ot_args_json(args) ? ot_cli_print_json(answer) : ot_cli_print(&out);
    bool whole = ot_cli_true(answer, "ok");
    json_decref(answer);
    return code == 0 && !whole ? 1 : code;
}

static const ot_opt events_opts[] = {
    OT_CLI_CLIENT_OPTS,
    {.name = "follow",
     .letter = 'f',
     .type = OT_OPT_BOOL,
     .help = "go on with events as they happen",
     .env = ""},
    {.name = "type",
     .type = OT_OPT_STRING,
     .value = "PREFIX",
     .help = "only types that start so: drift. or version.",
     .env = ""},
    {.name = "object",
     .type = OT_OPT_STRING,
     .value = "O",
     .help = "only about this object; 'model/digits*' for all that start so",
     .env = ""},
    {.name = "after",
     .type = OT_OPT_INT,
     .value = "SEQ",
     .min = "0",
     .help = "the first ones after this event, instead of the last ones",
     .env = ""},
    {.name = "limit",
     .type = OT_OPT_INT,
     .def = "50",
     .min = "1",
     .max = "1000",
     .help = "so many",
     .env = ""},
    {.name = "all",
     .type = OT_OPT_BOOL,
     .help = "also what replicas hand in every minute (windows.received, samples.received)",
     .env = ""},
    {.name = "newest", .type = OT_OPT_BOOL, .help = "the newest first", .env = ""},
};
static const ot_opt verify_opts[] = {OT_CLI_CLIENT_OPTS};

const ot_command ot_cli_events_command = {
    .name = "events",
    .summary = "the log: what happened, the newest last",
    .detail =
        "A line is time, number, mark, type, object and text. The mark says what needs eyes: '!'\n"
        "trouble, '?' held, refused or waiting for somebody, '+' something came good.\n\n"
        "With --follow the last events come first, then each as it happens, until ^C; a control\n"
        "plane that restarts meanwhile is waited for. With --output json: one event a line.",
    OT_OPTS(events_opts),
    .run = run_events,
};
const ot_command ot_cli_events_verify_command = {
    .name = "events verify",
    .summary = "check that the log is whole: nothing changed, nothing missing",
    .detail = "Exit code 1 when it is not.",
    OT_OPTS(verify_opts),
    .run = run_verify,
};
