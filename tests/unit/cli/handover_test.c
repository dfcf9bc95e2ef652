#include "cli/handover.h"

#include "base/mem.h"
#include "base/sock.h"
#include "cli/commands.h"
#include "tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static ot_handover made(int listener, pid_t pid)
{
    ot_handover h = {.lock = dup(0), .inference = listener, .control = listener, .again = true};
    snprintf(h.inference_addr, sizeof h.inference_addr, "127.0.0.1:1");
    snprintf(h.control_addr, sizeof h.control_addr, "unix:/tmp/a \"b\"");
    snprintf(h.why, sizeof h.why, "a reason");
    h.n_more = 2;
    h.more[0].fd = h.more[1].fd = listener;
    h.more[1].tls = true;
    h.children[OT_HANDOVER_SERVE] =
        (ot_supervise_running){.pid = pid, .channel = -1, .ready = true, .stays = true};
    h.children[OT_HANDOVER_CONTROL] = (ot_supervise_running){.pid = 0, .channel = dup(0)};
    return h;
}

static void test_take(int listener)
{
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    ot_handover h = made(listener, pid), got;
    ot_error err = {0};
    int memory = -1;
    ok(ot_handover_write(&h, &memory, &err) == OT_OK, "written: %s", err.msg);
    ok((fcntl(memory, F_GETFD) & FD_CLOEXEC) != 0, "kept from other programs");
    ot_handover_keep(&h, true);
    ok(fcntl(h.lock, F_GETFD) == 0 && fcntl(h.children[1].channel, F_GETFD) == 0,
       "what goes over an exec");
    ok(ot_handover_take(memory, &got, &err) == OT_OK, "taken: %s", err.msg);
    is_str(got.version, OT_VERSION, "of our version");
    ok(got.lock == h.lock && got.inference == listener && got.again, "with its descriptors");
    is_str(got.control_addr, h.control_addr, "addresses");
    is_str(got.why, "a reason", "reason");
    ok(got.n_more == 2 && got.more[0].fd == listener && !got.more[0].tls && got.more[1].tls,
       "more listeners");
    ok(got.children[0].pid == pid && got.children[0].channel == -1 && got.children[0].ready &&
           got.children[0].stays && got.children[1].pid == 0 && !got.children[1].ready,
       "and children");
    ok((fcntl(h.lock, F_GETFD) & FD_CLOEXEC) != 0, "and no further");
    ok(ot_handover_take(memory, &got, &err) == OT_OK, "it can be read again");

    ot_handover bad = h;
    bad.children[1].pid = getppid();
    ot_fd_close(&memory);
    ok(ot_handover_write(&bad, &memory, &err) == OT_OK &&
           ot_handover_take(memory, &got, &err) == OT_INVALID && strstr(err.msg, "not our child"),
       "a process that is not our child: %s", err.msg);
    bad = h;
    bad.more[1].fd = h.lock;
    ot_fd_close(&memory);
    ok(ot_handover_write(&bad, &memory, &err) == OT_OK &&
           ot_handover_take(memory, &got, &err) == OT_INVALID && strstr(err.msg, "does not listen"),
       "what does not listen: %s", err.msg);
    bad = h;
    bad.control = h.lock;
    ot_fd_close(&memory);
    ok(ot_handover_write(&bad, &memory, &err) == OT_OK &&
           ot_handover_take(memory, &got, &err) == OT_INVALID && strstr(err.msg, "listen"),
       "a descriptor that does not listen: %s", err.msg);
    ot_fd_close(&memory);
    ok(ot_handover_take(memory, &got, &err) != OT_OK, "no descriptor: %s", err.msg);
    kill(pid, SIGKILL);
    is_int(waitpid(pid, NULL, 0), pid, "ended");
}

#define CHILD "{\"pid\":1,\"channel\":2,\"ready\":true,\"stays\":false}"
#define REST                                                                                       \
    "\"version\":\"0.1\",\"lock\":3,\"inference\":{\"fd\":4,\"address\":\"a\"},\"control\":{"      \
    "\"fd\":5,\"address\":\"b\"},\"why\":\"\",\"children\":{\"serve\":" CHILD                      \
    ",\"control\":" CHILD "}}"

static void test_parse(void)
{
    ot_handover h;
    ot_error err = {0};
    static const char *const good[] = {"{\"handover\":1," REST,
                                       "{\"handover\":1,\"later\":[1,{}]," REST};
    for (size_t i = 0; i < OT_COUNT(good); i++) {
        ok(ot_handover_parse(good[i], strlen(good[i]), &h, &err) == OT_OK, "read: %s", err.msg);
    }
    ok(h.lock == 3 && h.children[1].channel == 2, "with its numbers");
    static const char *const bad[] = {"",
                                      "[]",
                                      "{}",
                                      "{\"handover\":2," REST,
                                      "{\"handover\":0," REST,
                                      "{\"handover\":\"1\"," REST,
                                      "{\"handover\":1}",
                                      "{\"handover\":1,\"lock\":1," REST};
    for (size_t i = 0; i < OT_COUNT(bad); i++) {
        ok(ot_handover_parse(bad[i], strlen(bad[i]), &h, &err) == OT_INVALID, "refused: %s",
           err.msg);
    }
    ok(ot_handover_parse(bad[3], strlen(bad[3]), &h, &err) != OT_OK &&
           strstr(err.msg, "version 2; this program knows up to 1") != NULL,
       "a newer one by its version: %s", err.msg);
}

static void test_find(void)
{
    static const struct {
        const char *value;
        ot_handover_kind kind;
        int memory, binary;
        bool bad;
    } cases[] = {{NULL, OT_HANDOVER_NONE, -1, -1, false},
                 {"7:8", OT_HANDOVER_GIVEN, 7, 8, false},
                 {"7:8:unread", OT_HANDOVER_UNREAD, 7, 8, false},
                 {"check:9", OT_HANDOVER_CHECK, 9, -1, false},
                 {"7", OT_HANDOVER_NONE, -1, -1, true},
                 {"7:8:", OT_HANDOVER_NONE, -1, -1, true},
                 {"", OT_HANDOVER_NONE, -1, -1, true}};
    for (size_t i = 0; i < OT_COUNT(cases); i++) {
        ot_handover_kind kind;
        int memory, binary;
        ot_error err = {0};
        unsetenv(OT_HANDOVER_ENV);
        if (cases[i].value != NULL) {
            setenv(OT_HANDOVER_ENV, cases[i].value, 1);
        }
        ot_rc rc = ot_handover_find(&kind, &memory, &binary, &err);
        ok((rc != OT_OK) == cases[i].bad && kind == cases[i].kind && memory == cases[i].memory &&
               binary == cases[i].binary,
           "'%s' %s", cases[i].value != NULL ? cases[i].value : "(unset)", err.msg);
        ok(cases[i].bad || getenv(OT_HANDOVER_ENV) == NULL, "children do not see it");
    }
}

int main(void)
{
    ot_addr a;
    int fd = -1;
    if (!ok(ot_addr_parse(":0", &a, NULL) == OT_OK && ot_sock_listen(&a, 4, &fd, NULL) == OT_OK,
            "a listener")) {
        return tap_done();
    }
    test_parse();
    test_find();
    test_take(fd);
    ot_fd_close(&fd);
    return tap_done();
}
