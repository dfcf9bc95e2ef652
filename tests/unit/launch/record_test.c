#include "launch/internal.h"

#include "base/mem.h"
#include "tap.h"

#include <stdlib.h>

static char dir[] = "/tmp/ot_record_XXXXXX";

static void refused(const char *json, const char *want)
{
    ot_launch_spec_doc d = {0};
    ot_error err = {0};
    ot_rc rc = ot_launch_spec_parse(json, strlen(json), &d, &err);
    ok(rc == OT_INVALID && d.root == NULL && strstr(err.msg, want) != NULL, "refused: %.120s",
       err.msg);
}

static void test_spec(void)
{
    const char *argv[] = {"python", "train.py", "--epochs", "5"};
    ot_launch_env env[] = {{"A", "1"}, {"B", NULL}};
    ot_launch_spec in = {.argv = argv,
                         .n_argv = 4,
                         .cwd = "/w",
                         .env = env,
                         .n_env = 2,
                         .run = 12,
                         .time_limit_us = 600000000,
                         .grace_us = 1,
                         .memory_limit_bytes = 4ull << 30,
                         .disk_limit_bytes = 5,
                         .disk_dir = "/w/out",
                         .log_limit_bytes = 6,
                         .nice = 7,
                         .cpu_weight = 8,
                         .background = true};
    ot_launch_spec_doc d;
    ot_error err = {0};
    is_int(ot_launch_spec_write(dir, &in, &err), OT_OK, "write %s", err.msg);
    is_int(ot_launch_spec_load(dir, &d, &err), OT_OK, "load %s", err.msg);
    const ot_launch_spec *s = &d.spec;
    ok(s->n_argv == 4 && strcmp(s->argv[3], "5") == 0 && s->command == NULL &&
           strcmp(s->cwd, "/w") == 0 && s->n_env == 2 && s->run == 12 &&
           s->time_limit_us == 600000000 && s->grace_us == 1 &&
           s->memory_limit_bytes == 4ull << 30 && s->disk_limit_bytes == 5 &&
           strcmp(s->disk_dir, "/w/out") == 0 && s->log_limit_bytes == 6 && s->nice == 7 &&
           s->cpu_weight == 8 && s->background,
       "everything comes back");
    ok(strcmp(s->env[0].name, "A") == 0 && strcmp(s->env[0].value, "1") == 0 &&
           s->env[1].value == NULL,
       "the environment too");
    ot_launch_spec_done(&d);

    refused("", "not a JSON object");
    refused("[]", "not a JSON object");
    refused("{\"command\": \"x\"", "not a JSON object");
    refused("{}", "either argv or command");
    refused("{\"argv\": [\"a\"], \"command\": \"b\"}", "either argv or command");
    refused("{\"argv\": [\"\"]}", "argv[0], the program, is empty");
    refused("{\"argv\": [\"a\", 5]}", "argv[1] is not a text");
    refused("{\"argv\": \"a\"}", "argv is a list");
    refused("{\"command\": 5}", "command is not a text");
    refused("{\"command\": \"x\", \"command\": \"y\"}", "not a JSON object");
    refused("{\"command\": \"x\\u0000y\"}", "not a JSON object");
    refused("{\"command\": \"x\", \"env\": {\"A\": 5}}", "env.A is not a text");
    refused("{\"command\": \"x\", \"env\": {\"A=B\": \"\"}}", "env 'A=B'");
    refused("{\"command\": \"x\", \"env\": {\"\": \"\"}}", "env ''");
    refused("{\"command\": \"x\", \"time_limit_us\": -1}", "time_limit_us is not a whole number");
    refused("{\"command\": \"x\", \"time_limit_us\": 1.5}", "time_limit_us");
    refused("{\"command\": \"x\", \"nice\": 20}", "nice is not a whole number from 0 to 19");
    refused("{\"command\": \"x\", \"cpu_weight\": 10001}", "cpu_weight");

    const char *bad[] = {"\xff\xfe"};
    ot_launch_spec binary = {.argv = bad, .n_argv = 1};
    ok(ot_launch_spec_write(dir, &binary, &err) == OT_INVALID, "not text: %s", err.msg);
    char *big = malloc(600000);
    memset(big, 'x', 599999);
    big[599999] = 0;
    ot_launch_spec large = {.command = big};
    ok(ot_launch_spec_write(dir, &large, &err) == OT_INVALID, "too large: %s", err.msg);
    free(big);
}

static void put(const char *name, const char *text)
{
    char path[OT_PATH_MAX];
    if (ot_launch_path(path, dir, name, NULL) != OT_OK ||
        ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, NULL) != OT_OK) {
        ok(false, "write %s", name);
    }
}

static void test_exit(void)
{
    ot_launch_exit e = {.state = OT_LAUNCH_TIMED_OUT,
                        .exit_code = -1,
                        .signal = 9,
                        .started_us = 1,
                        .ended_us = 2,
                        .cpu_us = 3,
                        .max_rss_bytes = 4,
                        .log_bytes = 5,
                        .log_truncated = true,
                        .message = "stopped"},
                   got = {0};
    ot_error err = {0};
    ok(ot_launch_exit_load(dir, &got, &err) == OT_NOT_FOUND, "no record yet: %s", err.msg);
    is_int(ot_launch_exit_write(dir, &e, &err), OT_OK, "write");
    is_int(ot_launch_exit_load(dir, &got, &err), OT_OK, "load");
    ok(got.state == e.state && got.exit_code == -1 && got.signal == 9 && got.started_us == 1 &&
           got.ended_us == 2 && got.cpu_us == 3 && got.max_rss_bytes == 4 && got.log_bytes == 5 &&
           got.log_truncated && strcmp(got.message, "stopped") == 0,
       "everything comes back");
    memcpy(e.message, "\xff", 2);
    ok(ot_launch_exit_write(dir, &e, &err) == OT_OK &&
           ot_launch_exit_load(dir, &got, &err) == OT_OK,
       "a message that is not text does not lose the record");
    put("exit.json", "{\"state\": \"done\"}");
    ok(ot_launch_exit_load(dir, &got, &err) == OT_DATA_LOSS, "unknown state: %s", err.msg);
    put("exit.json", "{\"state\": ");
    ok(ot_launch_exit_load(dir, &got, &err) == OT_DATA_LOSS, "cut: %s", err.msg);
    put("exit.json", "");
    ok(ot_launch_exit_load(dir, &got, &err) == OT_DATA_LOSS, "empty: %s", err.msg);
    bool all = true;
    for (int i = OT_LAUNCH_SUCCEEDED; i <= OT_LAUNCH_LOST; i++) {
        ot_launch_state s;
        all = all && ot_launch_state_parse(ot_launch_state_name((ot_launch_state)i), &s) &&
              (int)s == i;
    }
    ok(all, "states by name");
    is_str(ot_launch_state_name((ot_launch_state)99), "unknown", "no such state");
}

static void test_shim(void)
{
    ot_launch_shim_record r = {.pid = 5, .start_time = 6, .started_us = 7}, got;
    ot_error err = {0};
    strcpy(r.boot_id, "b");
    memset(r.mark, 'a', 32);
    strcpy(r.cgroup, "/sys/fs/cgroup/x");
    ok(ot_launch_shim_write(dir, &r, &err) == OT_OK &&
           ot_launch_shim_load(dir, &got, &err) == OT_OK,
       "write and load %s", err.msg);
    ok(got.pid == 5 && got.start_time == 6 && got.started_us == 7 &&
           strcmp(got.boot_id, "b") == 0 && strcmp(got.mark, r.mark) == 0 &&
           strcmp(got.cgroup, r.cgroup) == 0,
       "everything comes back");
    put("shim.json", "{\"pid\": 0, \"boot_id\": \"b\", \"mark\": \"m\"}");
    ok(ot_launch_shim_load(dir, &got, &err) == OT_DATA_LOSS, "no pid: %s", err.msg);
    put("shim.json", "{\"pid\": 1, \"boot_id\": \"b\", \"mark\": \"\"}");
    ok(ot_launch_shim_load(dir, &got, &err) == OT_DATA_LOSS,
       "an empty mark would match every process: %s", err.msg);
}

int main(void)
{
    if (mkdtemp(dir) == NULL) {
        ok(false, "temporary directory");
        return tap_done();
    }
    test_spec();
    test_exit();
    test_shim();
    is_int(ot_disk_remove_tree(ot_disk_posix(), dir, NULL), OT_OK, "clean up");
    return tap_done();
}
