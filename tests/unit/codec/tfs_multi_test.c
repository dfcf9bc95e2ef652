#include "codec/tfs_multi.h"

#include "tap.h"

static ot_arena arena;

typedef struct wanted {
    const char *name, *label, *method, *signature;
    uint64_t version;
} wanted;

static void put_task(ot_str *s, const wanted *w)
{
    size_t task = ot_pb_begin(s, 1);
    size_t spec = ot_pb_begin(s, 1);
    ot_pb_put_some(s, 1, w->name);
    if (w->version != 0) {
        size_t version = ot_pb_begin(s, 2);
        ot_pb_put_uint(s, 1, w->version);
        ot_pb_end(s, version, 0);
    }
    ot_pb_put_some(s, 3, w->signature);
    ot_pb_put_some(s, 4, w->label);
    ot_pb_end(s, spec, 0);
    ot_pb_put_some(s, 2, w->method);
    ot_pb_end(s, task, 0);
}

/* An input of two empty examples. */
static void put_input(ot_str *s)
{
    ot_pb_put_bytes(s, 2, "\x0a\x04\x0a\x00\x0a\x00", 6);
}

static ot_rc read_tasks(const wanted *w, size_t n, ot_tfs_multi *out, ot_error *err)
{
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    for (size_t i = 0; i < n; i++) {
        put_task(&s, &w[i]);
    }
    put_input(&s);
    char *kept = ot_arena_alloc(&arena, s.len);
    memcpy(kept, s.data, s.len);
    return ot_tfs_multi_pb(kept, s.len, &arena, out, err);
}

static void tasks(void)
{
    static const wanted two[] = {
        {.name = "m", .version = 3, .method = "tensorflow/serving/classify"},
        {.name = "m", .signature = "value", .method = "tensorflow/serving/regress"},
    };
    ot_tfs_multi m;
    ot_error err = {0};
    ok(read_tasks(two, 2, &m, &err) == OT_OK, "two tasks %s", err.msg);
    is_int(m.n, 2, "both are there");
    is_int(m.tasks[0].spec.version, 3, "with the version");
    is_str(m.tasks[1].spec.signature, "value", "with the signature");
    is_str(m.tasks[1].method, "tensorflow/serving/regress", "with the method");
    is_int(m.input.n, 2, "and the examples");
}

static void refused(void)
{
    static const struct {
        wanted w[2];
        const char *why;
    } cases[] = {
        {{{.name = "m"}, {.name = "n"}}, "tasks[1]: it asks model 'n', tasks[0] 'm'"},
        {{{.name = "m"}, {.signature = "s"}}, "tasks[1]: the task names no model"},
        {{{.name = "m", .version = 1}, {.name = "m", .version = 2}}, "tasks[1]: it asks for anot"},
        {{{.name = "m"}, {.name = "m", .version = 2}}, "tasks[1]: it asks for another version"},
        {{{.name = "m"}, {.name = "m", .label = "b"}}, "tasks[1]: it asks for another version"},
        {{{.name = "m", .label = "a"}, {.name = "m", .label = "b"}}, "tasks[1]: it asks for ano"},
    };
    ot_tfs_multi m;
    ot_error err;
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        ok(read_tasks(cases[i].w, 2, &m, &err) == OT_INVALID &&
               strstr(err.msg, cases[i].why) != NULL,
           "%s", err.msg);
    }
    wanted many[OT_TFS_TASKS_MAX + 1];
    for (size_t i = 0; i < OT_COUNT(many); i++) {
        many[i] = (wanted){.name = "m"};
    }
    ok(read_tasks(many, OT_TFS_TASKS_MAX, &m, &err) == OT_OK, "as many as there may be");
    ok(read_tasks(many, OT_COUNT(many), &m, &err) == OT_INVALID &&
           strstr(err.msg, "more than 32 tasks") != NULL,
       "one more: %s", err.msg);
    ok(read_tasks(many, 0, &m, &err) == OT_INVALID && strstr(err.msg, "no tasks") != NULL,
       "none: %s", err.msg);
}

static void without_input(void)
{
    OT_AUTO(ot_str_done) ot_str s = OT_STR_INIT;
    ot_tfs_multi m;
    ot_error err;
    put_task(&s, &(wanted){.name = "m"});
    ok(ot_tfs_multi_pb(s.data, s.len, &arena, &m, &err) == OT_INVALID &&
           strstr(err.msg, "there is no input") != NULL,
       "without an input: %s", err.msg);
    put_input(&s);
    bool good = true;
    for (size_t cut = 1; cut < s.len; cut++) {
        ot_rc rc = ot_tfs_multi_pb(s.data, cut, &arena, &m, &err);
        good = good && rc == OT_INVALID && err.msg[0] != '\0';
    }
    ok(good, "cut anywhere it is refused");
}

int main(void)
{
    ot_arena_init(&arena, 4096, 1 << 20);
    tasks();
    refused();
    without_input();
    ot_arena_done(&arena);
    return tap_done();
}
