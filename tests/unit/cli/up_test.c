#include "base/disk.h"
#include "base/mem.h"
#include "base/sock.h"
#include "cli/commands.h"
#include "tap.h"
#include "unit/cli/children.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *after(int argc, char **argv, const char *option)
{
    for (int i = 0; i + 1 < argc; i++) {
        if (strcmp(argv[i], option) == 0) {
            return argv[i + 1];
        }
    }
    return "";
}

/* Stands for `overtake serve` and `overtake control`: writes down what it was given. */
static void run_as_child(int argc, char **argv)
{
    if (argc < 2) {
        return;
    }
    struct sigaction sa = {.sa_handler = on_term};
    sigaction(SIGTERM, &sa, NULL);
    char path[OT_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.args", after(argc, argv, "--data"), argv[1]);
    FILE *f = fopen(path, "w");
    for (int i = 1; f != NULL && i < argc; i++) {
        fprintf(f, "%s ", argv[i]);
    }
    if (f != NULL) {
        const char *lock = after(argc, argv, "--lock-fd");
        fprintf(f, "port=%u lock=%d\n", ot_sock_port(atoi(after(argc, argv, "--listen-fd"))),
                lock[0] != 0 && fcntl(atoi(lock), F_GETFD) >= 0);
        fclose(f);
    }
    while (!asked) {
        usleep(1000);
    }
    snprintf(path, sizeof path, "%s/order", after(argc, argv, "--data"));
    f = fopen(path, "a");
    if (f != NULL) {
        fprintf(f, "%s\n", argv[1]);
        fclose(f);
    }
    exit(0);
}

static pid_t up(const char *out, const char *const *argv, int argc)
{
    static const ot_command *const table[] = {&ot_cli_up_command};
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(out, O_CREAT | O_WRONLY | O_TRUNC, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        _exit(ot_cli_main(table, 1, argc, argv));
    }
    return pid;
}

static int ended(pid_t pid)
{
    int status = -1;
    for (int i = 0; i < 1000 && waitpid(pid, &status, WNOHANG) == 0; i++) {
        usleep(10000);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_up(void)
{
    char d[OT_PATH_MAX], token[128], want[64];
    snprintf(d, sizeof d, "%s", at("data"));
    const char *argv[] = {"overtake", "up",        "--data", d,           "--exe", self, "--listen",
                          ":0",       "--control", ":0",     "--workers", "3",     "-o", "json"};
    pid_t pid = up(at("out"), argv, 14);
    ok(wait_text(at("data/serve.args"), "port=") && wait_text(at("data/control.args"), "port="),
       "both children start");
    snprintf(token, sizeof token, "%s", text_of(at("data/token")));
    bool hex = strlen(token) == 65 && token[64] == '\n';
    for (int i = 0; hex && i < 64; i++) {
        hex = isxdigit((unsigned char)token[i]) != 0;
    }
    struct stat st;
    ok(hex && stat(at("data/token"), &st) == 0 && (st.st_mode & 0777) == 0600,
       "a token of 32 random bytes, mode 0600");
    ok(stat(at("data"), &st) == 0 && (st.st_mode & 0777) == 0700, "the directory is private");
    ot_addr a = {0};
    ok(ot_addr_parse(text_of(at("data/control.addr")), &a, NULL) == OT_OK && a.port != 0,
       "commands find the control plane");
    snprintf(want, sizeof want, "port=%u lock=1", a.port);
    ok(strstr(text_of(at("data/control.args")), want) != NULL,
       "control has its listener and the lock");
    const char *serve = text_of(at("data/serve.args"));
    ok(strstr(serve, "serve --agent unix:/") != NULL && strstr(serve, "agent.sock") != NULL &&
           strstr(serve, "--workers 3") != NULL && strstr(serve, "port=0") == NULL,
       "serve has its arguments");
    ok(strstr(text_of(at("out")), "\"control\": \"127.0.0.1:") != NULL, "addresses are printed");

    is_int(ended(up(at("out2"), argv, 14)), 1, "a second one on the same directory");
    ok(strstr(text_of(at("out2")), "is in use by another overtake") != NULL, "says so");

    kill(pid, SIGTERM);
    is_int(ended(pid), 0, "SIGTERM ends it");
    is_str(text_of(at("data/order")), "serve\ncontrol\n", "the replica first");

    const char *text[] = {"overtake", "up",       "--data", d,           "--exe",
                          self,       "--listen", ":0",     "--control", ":0"};
    unlink(at("data/control.args"));
    unlink(at("data/serve.args"));
    pid = up(at("out"), text, 10);
    ok(wait_text(at("data/control.args"), "port=") && wait_text(at("data/serve.args"), "port="),
       "again");
    is_str(text_of(at("data/token")), token, "with the same token");
    ok(strstr(text_of(at("data/serve.args")), "--workers") == NULL, "the replica's own default");
    ok(strstr(text_of(at("out")), "inference  http://127.0.0.1:") != NULL, "for people");
    kill(pid, SIGTERM);
    is_int(ended(pid), 0, "ended");
}

static void refused(const char *const *argv, int argc, int code, const char *want)
{
    is_int(ended(up(at("out"), argv, argc)), code, "exit %d", code);
    ok(strstr(text_of(at("out")), want) != NULL, "refused: %s", want);
}

static void test_refusals(void)
{
    char d[OT_PATH_MAX];
    snprintf(d, sizeof d, "%s", at("data2"));
    const char *far[] = {"overtake", "up", "--data", d, "--control", "0.0.0.0:0"};
    refused(far, 6, 1, "this machine only");
    ok(!ot_disk_exists(ot_disk_posix(), d), "and nothing was made");
    const char *bad[] = {"overtake", "up", "--workers", "0"};
    refused(bad, 4, 2, "--workers: '0' is less than");
    ot_addr a;
    int fd = -1;
    char port[16];
    ok(ot_addr_parse(":0", &a, NULL) == OT_OK && ot_sock_listen(&a, 1, &fd, NULL) == OT_OK,
       "somebody listens");
    snprintf(port, sizeof port, ":%u", ot_sock_port(fd));
    const char *taken[] = {"overtake", "up", "--data", d, "--listen", port, "--control", ":0"};
    refused(taken, 8, 1, "--listen: listen on 127.0.0.1:");
    close(fd);
    chmod(at("data2/token"), 0644);
    const char *open_token[] = {"overtake", "up", "--data", d, "--listen", ":0", "--control", ":0"};
    refused(open_token, 8, 1, "can be read by others");
    char longer[300];
    snprintf(longer, sizeof longer, "%s/%0200d", dir, 7);
    const char *deep[] = {"overtake", "up", "--data", longer, "--listen", ":0", "--control", ":0"};
    refused(deep, 8, 1, "Unix socket path");
}

int main(int argc, char **argv)
{
    run_as_child(argc, argv);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || mkdtemp(dir) == NULL) {
        ok(false, "set-up");
        return tap_done();
    }
    test_up();
    test_refusals();
    is_int(ot_disk_remove_tree(ot_disk_posix(), dir, NULL), OT_OK, "clean up");
    return tap_done();
}
