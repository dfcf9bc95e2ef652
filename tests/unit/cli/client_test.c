#include "cli/client.h"

#include "base/disk.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "tap.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/ot_client_XXXXXX";
static const ot_opt opts[] = {OT_CLI_CLIENT_OPTS};

static int run_none(const ot_args *a)
{
    (void)a;
    return 0;
}

static const ot_command cmd = {.name = "x", .summary = "x", OT_OPTS(opts), .run = run_none};

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static const char *token_env(const char *name)
{
    return strcmp(name, "OVERTAKE_TOKEN") == 0 ? "from-env" : NULL;
}

/* Answers by the request's path; /echo answers with the request itself as a JSON string. */
static void answer(int c)
{
    char req[16384], body[20000];
    size_t n = 0;
    const char *end = NULL;
    while (n < sizeof req - 1) {
        ssize_t k = ot_sock_read(c, req + n, sizeof req - 1 - n);
        if (k <= 0) {
            return;
        }
        n += (size_t)k;
        req[n] = 0;
        end = strstr(req, "\r\n\r\n");
        const char *len = strcasestr(req, "content-length:");
        if (end != NULL &&
            n >= (size_t)(end + 4 - req) + (len != NULL ? (size_t)atoi(len + 15) : 0)) {
            break;
        }
    }
    int status = 200;
    snprintf(body, sizeof body, "{\"ok\": true, \"items\": [{\"name\": \"a\"}]}");
    if (strstr(req, " /echo") != NULL) {
        ot_str s = OT_STR_INIT;
        ot_str_add_json(&s, req, n);
        snprintf(body, sizeof body, "\"%s\"", s.data);
        ot_str_done(&s);
    } else if (strstr(req, " /missing") != NULL) {
        status = 404;
        snprintf(body, sizeof body, "{\"error\": \"model 'm': not found\"}");
    } else if (strstr(req, " /object") != NULL) {
        status = 403;
        snprintf(body, sizeof body, "{\"error\": {\"message\": \"no role\"}}");
    } else if (strstr(req, " /plain") != NULL) {
        status = 502;
        snprintf(body, sizeof body, "bad gateway");
    } else if (strstr(req, " /html") != NULL) {
        snprintf(body, sizeof body, "<html>");
    } else if (strstr(req, " /empty") != NULL) {
        body[0] = 0;
    }
    ot_str s = OT_STR_INIT;
    ot_str_addf(&s, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s", status,
                strlen(body), body);
    if (ot_sock_write_all(c, s.data, s.len, NULL) != OT_OK) {
        _exit(1);
    }
    ot_str_done(&s);
}

static pid_t serve(int fd)
{
    pid_t pid = fork();
    while (pid == 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        (void)poll(&p, 1, -1);
        int c = ot_sock_accept(fd);
        if (c >= 0) {
            ot_sock_nonblock(c, false);
            answer(c);
            close(c);
        }
    }
    return pid;
}

static ot_args *args_of(const char *a, const char *b, const char *(*env)(const char *))
{
    const char *const argv[] = {"--data", dir, a, b};
    static const char *kept[4];
    memcpy(kept, argv, sizeof argv);
    ot_args *args = NULL;
    ot_error err = {0};
    if (ot_args_parse(&cmd, a == NULL ? 2 : 4, kept, env, &args, &err) != OT_OK) {
        printf("# %s\n", err.msg);
    }
    return args;
}

static void put(const char *name, const char *text)
{
    char path[OT_PATH_MAX];
    if (ot_path_join(path, dir, name, NULL) != OT_OK ||
        ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0600, NULL) != OT_OK) {
        ok(false, "write %s", name);
    }
}

static ot_rc call(const ot_args *args, const char *method, const char *target, json_t *body,
                  json_t **answer_out, ot_error *err)
{
    ot_cli_client *c;
    OT_TRY(ot_cli_client_open(args, &c, err));
    ot_rc rc = ot_cli_client_call(c, method, target, body, answer_out, err);
    ot_cli_client_close(c);
    return rc;
}

static void test_finding(const char *address)
{
    ot_error err = {0};
    json_t *j = NULL;
    ot_args *a = args_of(NULL, NULL, no_env);
    ok(call(a, "GET", "/x", NULL, &j, &err) == OT_UNAVAILABLE &&
           strstr(err.msg, "no control plane has run in data directory") != NULL,
       "no address: %s", err.msg);
    put("control.addr", address);
    ok(call(a, "GET", "/echo", NULL, &j, &err) == OT_OK &&
           strcasestr(json_string_value(j), "authorization") == NULL,
       "without a token none is sent %s", err.msg);
    json_decref(j);
    put("token", "abc123\n");
    ok(call(a, "GET", "/echo", NULL, &j, &err) == OT_OK &&
           strstr(json_string_value(j), "Authorization: Bearer abc123\r\n") != NULL,
       "the data directory's token");
    json_decref(j);
    ot_args_destroy(a);
    a = args_of(NULL, NULL, token_env);
    ok(call(a, "GET", "/echo", NULL, &j, &err) == OT_OK &&
           strstr(json_string_value(j), "Bearer from-env\r\n") != NULL,
       "the environment's token");
    json_decref(j);
    ot_args_destroy(a);
    a = args_of("--token", "a\r\nX: y", no_env);
    ok(call(a, "GET", "/echo", NULL, &j, &err) == OT_INVALID, "a token with lines: %s", err.msg);
    ot_args_destroy(a);
    char url[400];
    snprintf(url, sizeof url, "http://%s/", address);
    a = args_of("--url", url, no_env);
    ok(call(a, "GET", "/x", NULL, &j, &err) == OT_OK, "a URL %s", err.msg);
    json_decref(j);
    ot_args_destroy(a);
    a = args_of("--url", "https://127.0.0.1:1", no_env);
    ot_rc tls = call(a, "GET", "/x", NULL, &j, &err); /* without libcurl it says so */
    ok((tls == OT_UNAVAILABLE && strstr(err.msg, "https://127.0.0.1:1: ") == err.msg) ||
           tls == OT_UNIMPLEMENTED,
       "TLS to nobody: %s", err.msg);
    ot_args_destroy(a);
    a = args_of("--url", "https://x:1/path", no_env);
    ok(call(a, "GET", "/x", NULL, &j, &err) == OT_INVALID, "a URL with a path: %s", err.msg);
    ot_args_destroy(a);
    a = args_of("--url", "http://nowhere", no_env);
    ok(call(a, "GET", "/x", NULL, &j, &err) == OT_INVALID, "no port: %s", err.msg);
    ot_args_destroy(a);
    a = args_of("--url", "http://127.0.0.1:1", no_env);
    ok(call(a, "GET", "/x", NULL, &j, &err) == OT_UNAVAILABLE &&
           strstr(err.msg, "no control plane at 127.0.0.1:1; start one with `overtake up`") != NULL,
       "nobody there: %s", err.msg);
    ot_args_destroy(a);
}

static void test_answers(void)
{
    ot_error err = {0};
    json_t *j = NULL, *body = json_pack("{s:s}", "name", "x");
    ot_args *a = args_of(NULL, NULL, no_env);
    ok(call(a, "POST", "/echo", body, &j, &err) == OT_OK &&
           strstr(json_string_value(j), "POST /echo HTTP/1.1\r\n") != NULL &&
           strstr(json_string_value(j), "Content-Type: application/json\r\n") != NULL &&
           strstr(json_string_value(j), "{\"name\":\"x\"}") != NULL,
       "a body is sent");
    json_decref(j);
    json_decref(body);
    j = NULL;
    ok(call(a, "GET", "/missing", NULL, &j, &err) == OT_NOT_FOUND && j == NULL, "an error");
    is_str(err.msg, "model 'm': not found", "with the server's words");
    ok(call(a, "GET", "/object", NULL, &j, &err) == OT_DENIED, "an error object");
    is_str(err.msg, "no role", "too");
    ok(call(a, "GET", "/plain", NULL, &j, &err) == OT_INTERNAL &&
           strstr(err.msg, "answered 502: bad gateway") != NULL,
       "without JSON: %s", err.msg);
    ok(call(a, "GET", "/html", NULL, &j, &err) == OT_DATA_LOSS && j == NULL, "not JSON: %s",
       err.msg);
    ok(call(a, "GET", "/empty", NULL, &j, &err) == OT_OK && j == NULL, "empty");
    ot_args_destroy(a);
}

static ot_rc collect(void *arg, const char *p, size_t n, ot_error *err)
{
    (void)err;
    ot_str_add(arg, p, n);
    return OT_OK;
}

static void test_stream(void)
{
    ot_error err = {0};
    ot_cli_client *c;
    ot_str s = OT_STR_INIT;
    ot_args *a = args_of(NULL, NULL, no_env);
    ok(ot_cli_client_open(a, &c, &err) == OT_OK &&
           ot_cli_client_stream(c, "/html", collect, &s, &err) == OT_OK,
       "stream");
    is_str(s.data, "<html>", "bytes as they are");
    ot_str_clear(&s);
    ok(ot_cli_client_stream(c, "/missing", collect, &s, &err) == OT_NOT_FOUND && s.len == 0,
       "an error is not data: %s", err.msg);
    ot_cli_client_close(c);
    ot_cli_client_close(NULL);
    ot_str_done(&s);
    ot_args_destroy(a);
}

int main(void)
{
    ot_addr addr;
    int fd = -1;
    char address[300];
    if (mkdtemp(dir) == NULL || ot_addr_parse(":0", &addr, NULL) != OT_OK ||
        ot_sock_listen(&addr, 16, &fd, NULL) != OT_OK) {
        ok(false, "set-up");
        return tap_done();
    }
    addr.port = ot_sock_port(fd);
    ot_addr_format(&addr, address);
    pid_t server = serve(fd);
    test_finding(address);
    test_answers();
    test_stream();
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    close(fd);
    is_int(ot_disk_remove_tree(ot_disk_posix(), dir, NULL), OT_OK, "clean up");
    return tap_done();
}
