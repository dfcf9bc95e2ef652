#include "pipeline/internal.h"

#include "tap.h"

#include <stdlib.h>
#include <unistd.h>

static char dir[] = "/tmp/ot_given_XXXXXX";

static ot_digest digest(unsigned char b)
{
    ot_digest d;
    memset(d.b, b, sizeof d.b);
    return d;
}

static void test_data(void)
{
    ot_error err = {0};
    pl_data in[2] = {{.name = "base", .digest = digest(1), .rows = 7},
                     {.name = "recent", .digest = digest(2), .rows = 8}};
    pl_data out[OT_APP_DATA_MAX];
    is_int((int64_t)pl_given_data(dir, out), 0, "nothing is said");
    ok(pl_given_save_data(dir, in, 2, &err) == OT_OK, "saved: %s", err.msg);
    is_int((int64_t)pl_given_data(dir, out), 2, "and found");
    ok(strcmp(out[1].name, "recent") == 0 && out[1].rows == 8 &&
           ot_digest_equal(&out[1].digest, &in[1].digest),
       "as it was");
}

static void test_parent(void)
{
    ot_error err = {0};
    pl_parent out;
    ok(!pl_given_parent(dir, &out), "nothing is said");
    ok(pl_given_save_parent(dir, &(pl_parent){0}, &err) == OT_OK, "no parent: %s", err.msg);
    ok(pl_given_parent(dir, &out) && out.version == 0, "is said, too");
    pl_parent in = {.version = 3, .bundle = digest(4), .began_from = true};
    ok(pl_given_save_parent(dir, &in, &err) == OT_OK, "a parent: %s", err.msg);
    ok(pl_given_parent(dir, &out) && out.version == 3 && out.began_from &&
           ot_digest_equal(&out.bundle, &in.bundle),
       "as it was");
}

static void test_lineage(void)
{
    char hex[OT_DIGEST_HEX];
    ot_digest code = digest(9);
    pl_parent p = {.version = 3, .bundle = digest(4), .began_from = true};
    pl_data data = {.name = "base", .digest = digest(1)};
    json_t *l = pl_lineage_json(12, &p, &code, &data, 1, "python train.py");
    ot_digest_hex(&p.bundle, hex);
    is_str(json_string_value(json_object_get(l, "parent")), hex, "its parent");
    json_t *from = json_object_get(l, "began_from");
    is_int(json_integer_value(json_object_get(from, "version")), 3, "whose weights it began with");
    is_str(json_string_value(json_object_get(from, "bundle")), hex, "and their bundle");
    is_int(json_integer_value(json_object_get(l, "run")), 12, "its run");
    json_decref(l);
    p.began_from = false;
    l = pl_lineage_json(12, &p, NULL, NULL, 0, "x");
    ok(json_object_get(l, "began_from") == NULL, "from scratch");
    is_str(json_string_value(json_object_get(l, "parent")), hex, "has a parent all the same");
    ok(json_is_null(json_object_get(l, "code")), "code that is not known");
    json_decref(l);
    l = pl_lineage_json(0, &(pl_parent){0}, NULL, NULL, 0, "x");
    ok(json_is_null(json_object_get(l, "parent")) && json_is_null(json_object_get(l, "run")),
       "what a person brought");
    json_decref(l);
}

static void put(const char *name, const char *text)
{
    char path[OT_PATH_MAX];
    ot_error err = {0};
    ok(ot_path_join(path, dir, name, &err) == OT_OK &&
           ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, &err) == OT_OK,
       "%s: %s", name, err.msg);
}

static void test_ended(void)
{
    ot_launch_exit x = {.state = OT_LAUNCH_KILLED, .message = "exit 137"};
    pl_ended_job(dir, &x);
    is_str(x.message, "exit 137", "one process: as its shim says");
    put(OT_LAUNCH_JOB, "{\"result\": {\"code\": 137, \"rank\": 1, \"host\": \"b\", \"why\": \"was "
                       "killed by signal 9\", \"last_line\": \"loss 0.4\", \"lost\": false}}");
    pl_ended_job(dir, &x);
    is_str(x.message, "rank 1 (host b) was killed by signal 9; its last line: loss 0.4",
           "a rank: by name");
    is_int(x.state, OT_LAUNCH_KILLED, "killed");
    x = (ot_launch_exit){.state = OT_LAUNCH_TIMED_OUT, .message = "after 1h"};
    pl_ended_job(dir, &x);
    is_str(x.message, "after 1h", "a limit says it itself");
    put(OT_LAUNCH_JOB, "{\"result\": {\"code\": 1, \"rank\": 2, \"host\": \"c\", \"why\": \"is "
                       "lost\", \"lost\": true}}");
    x = (ot_launch_exit){.state = OT_LAUNCH_FAILED};
    pl_ended_job(dir, &x);
    is_str(x.message, "rank 2 (host c) is lost", "without a line");
    ok(ot_launch_state_is_infrastructure(x.state), "a host that is gone is no fault of a program");
    put(OT_LAUNCH_JOB, "{\"result\": [1, {\"why\":");
    x = (ot_launch_exit){.state = OT_LAUNCH_FAILED, .message = "exit 1"};
    pl_ended_job(dir, &x);
    is_str(x.message, "exit 1", "a file that is not one");
}

#define APP(train)                                                                                 \
    "schema: overtake/1\napp: a\ndata: {base: {path: b}}\nserve: a\ntrain: {data: [base], model: " \
    "m, " train "}\n"

static void script_of(const char *yaml, ot_str *out)
{
    ot_app *app = NULL;
    ot_error err = {0};
    ot_str_clear(out);
    ok(ot_app_parse(yaml, strlen(yaml), "app.yaml", "/srv", &app, &err) == OT_OK, "%s", err.msg);
    if (app != NULL) {
        ok(pl_steps_script(app, "/opt/over take", "/d/runs/3", out, &err) == OT_OK, "a script");
    }
    ot_app_destroy(app);
}

static void has_text(const ot_str *s, const char *text, const char *what)
{
    ok(strstr(s->data, text) != NULL, "%s", what);
}

static void test_script(void)
{
    ot_str s = OT_STR_INIT;
    script_of(APP("run: python t.py, np: 3, min_np: 2, wire: auto, max_restarts: 2, resources: "
                  "{log: 1MiB}"),
              &s);
    has_text(&s, "\nexec '/opt/over take' run --wire auto --max-restarts 2 ", "the launcher");
    has_text(&s, " --log-limit 1048576 --output-dir '/d/runs/3/ranks' ", "its logs");
    has_text(&s, " --state-file '/d/runs/3/ranks.json' --np 3 --min-np 2 --env ",
             "its state, its ranks");
    has_text(&s, " -- sh -c 'exec python t.py'\n", "a program takes the shell's place");
    script_of(APP("run: 'A=1 python t.py', hosts: [a:2, b-c:1], links: l"), &s);
    has_text(&s, " --links l --hosts 'a:2,b-c:1' --env ", "hosts");
    has_text(&s, " -- sh -c 'exec env A=1 python t.py'\n", "with its variables");
    script_of(APP("run: cd x && python t.py, hosts: ./h"), &s);
    has_text(&s, " --hostfile './h' ", "a file of hosts");
    has_text(&s, " -- sh -c 'cd x && python t.py'\n", "what only a shell understands");
    script_of(APP("run: exit 3, np: 2, engine: mpi"), &s);
    has_text(&s, " --engine mpi --np 2 ", "another engine");
    script_of(APP("run: exit 3, np: 1"), &s);
    has_text(&s, " -- sh -c 'exit 3'\n", "a word of the shell's");
    ot_str_done(&s);
}

int main(void)
{
    ok(mkdtemp(dir) != NULL, "%s", dir);
    test_data();
    test_parent();
    test_lineage();
    test_ended();
    test_script();
    ot_error err = {0};
    ok(ot_disk_remove_tree(ot_disk_posix(), dir, &err) == OT_OK, "%s", err.msg);
    return tap_done();
}
