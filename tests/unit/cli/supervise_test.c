#include "cli/supervise.h"

#include "base/disk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "tap.h"
#include "unit/cli/children.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void note(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "a");
    if (f != NULL) {
        fputs(text, f);
        fclose(f);
    }
}

/* One write, so that the lines of two children do not mix. */
static void note_line(const char *what, const char *who)
{
    char line[256];
    snprintf(line, sizeof line, "%s:%s\n", what, who);
    note("events", line);
}

/* The children that the tests run: this binary with a mode. */
static void run_as_child(int argc, char **argv)
{
    if (argc < 3) {
        return;
    }
    snprintf(dir, sizeof dir, "%s", argv[2]);
    if (strcmp(argv[1], "answer") == 0) { /* answers each connection with its pid */
        int fd = atoi(argv[3]);
        for (;;) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            (void)poll(&p, 1, -1);
            int c = ot_sock_accept(fd);
            if (c >= 0) {
                char text[16];
                int n = snprintf(text, sizeof text, "%d", (int)getpid());
                if (ot_sock_write_all(c, text, (size_t)n, NULL) != OT_OK) {
                    exit(1);
                }
                close(c);
            }
        }
    }
    if (strcmp(argv[1], "drain") == 0) { /* writes its name when it is told to end */
        struct sigaction sa = {.sa_handler = on_term};
        sigaction(SIGTERM, &sa, NULL);
        note_line("up", argv[3]);
        while (!asked) {
            usleep(1000);
        }
        usleep(100000);
        note_line("down", argv[3]);
        exit(0);
    }
    if (strcmp(argv[1], "stubborn") == 0) {
        signal(SIGTERM, SIG_IGN);
        note("events", "up\n");
        for (;;) {
            pause();
        }
    }
    if (strcmp(argv[1], "speak") ==
        0) { /* ready at once, unless told to be mute; notes what it hears */
        struct sigaction sa = {.sa_handler = on_term};
        sigaction(SIGTERM, &sa, NULL);
        char buf[64];
        int fd = atoi(argv[4]);
        note_line("up", argv[3]);
        if (strcmp(text_of(at("mute")), "crash") == 0) {
            exit(3);
        }
        if (text_of(at("mute"))[0] == 0 &&
            ot_sock_write_all(fd, "some other line\nready\n", 22, NULL) != OT_OK) {
            exit(1);
        }
        for (bool end = false; !end;) {
            end = asked; /* and what was said before is heard */
            ssize_t n = ot_sock_read(fd, buf, sizeof buf - 1);
            buf[n > 0 ? n : 0] = 0;
            note("events", buf);
            usleep(1000);
        }
        note_line("down", argv[3]);
        exit(0);
    }
    note("events", "crash\n");
    exit(3);
}

static pid_t supervise(const ot_supervise_child *c, size_t n, const ot_supervise_options *opt)
{
    pid_t pid = fork();
    if (pid == 0) {
        ot_log_setup("up", OT_LOG_ERROR, OT_LOG_TEXT);
        _exit(ot_supervise(c, n, opt, NULL) == OT_OK ? 0 : 1);
    }
    return pid;
}

static int ended(pid_t pid)
{
    int status = -1;
    for (int i = 0; i < 1000 && waitpid(pid, &status, WNOHANG) == 0; i++) {
        usleep(10000);
    }
    return status;
}

/* The pid of the child that answers; 0 when the connection was refused. */
static int ask(const ot_addr *a)
{
    char buf[16] = "";
    int fd;
    if (ot_sock_connect(a, 5000000, &fd, NULL) != OT_OK) {
        return 0;
    }
    size_t n = 0;
    if (ot_sock_set_timeout(fd, 10000000, NULL) == OT_OK) {
        for (ssize_t k; n < sizeof buf - 1; n += (size_t)k) {
            k = ot_sock_read(fd, buf + n, sizeof buf - 1 - n);
            if (k <= 0) {
                break;
            }
        }
    }
    close(fd);
    return atoi(buf);
}

static void test_restart(void)
{
    ot_addr a;
    int fd = -1;
    char text[16];
    ok(ot_addr_parse(":0", &a, NULL) == OT_OK && ot_sock_listen(&a, 64, &fd, NULL) == OT_OK,
       "a listener");
    a.port = ot_sock_port(fd);
    snprintf(text, sizeof text, "%d", fd);
    const char *argv[] = {"child", "answer", dir, text, NULL};
    ot_supervise_child c = {.name = "serve", .exe = self, .argv = argv, .fds = {fd}, .n_fds = 1};
    ot_supervise_options opt = {.pause_max_us = 100000};
    pid_t up = supervise(&c, 1, &opt);
    int refused = 0, restarts = 0, last = ask(&a);
    ok(last > 0, "the child answers");
    for (int i = 0; i < 6; i++) {
        kill(last, SIGKILL);
        /* At once: nobody may be there, and yet the connection waits and is answered. */
        int now = ask(&a);
        refused += now == 0;
        restarts += now > 0 && now != last;
        last = now > 0 ? now : last;
        if (now == 0) {
            last = ask(&a);
        }
    }
    /* A connection that the killed child had accepted just then would be reset; none was open. */
    is_int(refused, 0, "no connection is refused while children are killed");
    is_int(restarts, 6, "each time another process answers");
    kill(up, SIGTERM);
    is_int(ended(up), 0, "the supervisor ends");
    usleep(20000);
    ok(kill(last, 0) != 0, "and its child with it");
    close(fd);
}

static void test_drain(void)
{
    const char *first[] = {"child", "drain", dir, "first", NULL};
    const char *second[] = {"child", "drain", dir, "second", NULL};
    ot_supervise_child c[] = {{.name = "first", .exe = self, .argv = first},
                              {.name = "second", .exe = self, .argv = second}};
    unlink(at("events"));
    pid_t up = supervise(c, 2, NULL);
    ok(wait_text(at("events"), "up:first") && wait_text(at("events"), "up:second"), "two children");
    kill(up, SIGTERM);
    is_int(ended(up), 0, "ended");
    ok(ot_has_suffix(text_of(at("events")), "down:first\ndown:second\n"), "one after the other");

    unlink(at("events"));
    up = supervise(c, 1, NULL);
    ok(wait_text(at("events"), "up:first\n"), "one child");
    kill(up, SIGHUP);
    ok(wait_text(at("events"), "up:first\ndown:first\nup:first\n"),
       "SIGHUP drains and starts anew");
    kill(up, SIGINT);
    is_int(ended(up), 0, "ended by SIGINT");

    const char *argv[] = {"child", "stubborn", dir, NULL};
    ot_supervise_child s = {.name = "stubborn", .exe = self, .argv = argv};
    ot_supervise_options opt = {.drain_us = 200000};
    unlink(at("events"));
    up = supervise(&s, 1, &opt);
    ok(wait_text(at("events"), "up\n"), "a child that does not want to end");
    kill(up, SIGTERM);
    is_int(ended(up), 0, "is killed when its time is over");
    unlink(at("events"));
    up = supervise(&s, 1, NULL);
    ok(wait_text(at("events"), "up\n"), "with 30 s to drain");
    kill(up, SIGTERM);
    usleep(50000);
    kill(up, SIGTERM);
    is_int(ended(up), 0, "a second signal ends it at once");
}

/* A child that may have a second beside it is replaced without a gap; one that can't come up is not
 * missed. */
static void test_overlap(void)
{
    static char channel[16];
    const char *argv[] = {"child", "speak", dir, "first", channel, NULL};
    ot_supervise_child c = {
        .name = "first", .exe = self, .argv = argv, .channel = channel, .overlaps = true};
    ot_supervise_options opt = {.ready_us = 1000000};
    unlink(at("events"));
    pid_t up = supervise(&c, 1, &opt);
    ok(wait_text(at("events"), "up:first\nalone\n"), "it hears that it is alone");
    kill(up, SIGHUP);
    ok(wait_text(at("events"), "down:first\nalone\n"),
       "the second is alone when the first has gone");
    const char *said = text_of(at("events")), *again = strstr(said + 1, "up:first");
    ok(strstr(said, "beside\n") != NULL, "which was told of it");
    ok(again != NULL && again < strstr(said, "down:first"), "it was there before");
    note("mute", "yes");
    unlink(at("events"));
    kill(up, SIGHUP);
    ok(wait_text(at("events"), "alone\n"), "one that does not get ready is ended");
    ok(strstr(text_of(at("events")), "down") == NULL, "and the first stays");
    unlink(at("mute"));
    note("mute", "crash");
    unlink(at("events"));
    kill(up, SIGHUP);
    ok(wait_text(at("events"), "alone\n"), "one that ends at once: the first is alone again");
    ok(strstr(text_of(at("events")), "down") == NULL, "and stays");
    unlink(at("mute"));
    unlink(at("events"));
    kill(up, SIGHUP);
    kill(up, SIGTERM);
    is_int(ended(up), 0, "SIGTERM ends it all");
    ok(strstr(text_of(at("events")), "down:first\n") != NULL, "drained");
}

static void test_back_off(void)
{
    const char *argv[] = {"child", "crash", dir, NULL};
    ot_supervise_child c = {.name = "crash", .exe = self, .argv = argv};
    unlink(at("events"));
    pid_t up = supervise(&c, 1, NULL);
    ok(wait_text(at("events"), "crash\ncrash\ncrash\n"), "a child that crashes is started again");
    usleep(1000000);
    size_t n = strlen(text_of(at("events"))) / 6;
    ok(n >= 3 && n <= 6, "with growing pauses (%zu starts)", n);
    kill(up, SIGTERM);
    is_int(ended(up), 0, "and ends in a pause");

    c.exe = "/no/such/binary";
    up = supervise(&c, 1, NULL);
    usleep(200000);
    ok(kill(up, 0) == 0, "a binary that is missing does not end the supervisor");
    kill(up, SIGTERM);
    is_int(ended(up), 0, "ended");
    ot_error err = {0};
    ok(ot_supervise(&c, 0, NULL, &err) == OT_INVALID, "no children: %s", err.msg);
    ok(ot_supervise(&c, 99, NULL, &err) == OT_INVALID, "too many: %s", err.msg);
}

static void test_killed_supervisor(void)
{
    const char *argv[] = {"child", "drain", dir, "orphan", NULL};
    ot_supervise_child c = {.name = "orphan", .exe = self, .argv = argv};
    unlink(at("events"));
    pid_t up = supervise(&c, 1, NULL);
    ok(wait_text(at("events"), "up:orphan"), "a child");
    kill(up, SIGKILL);
    (void)ended(up);
    ok(wait_text(at("events"), "down:orphan"), "drains when its supervisor is killed");
}

int main(int argc, char **argv)
{
    run_as_child(argc, argv);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || mkdtemp(dir) == NULL) {
        ok(false, "set-up");
        return tap_done();
    }
    test_restart();
    test_drain();
    test_overlap();
    test_back_off();
    test_killed_supervisor();
    is_int(ot_disk_remove_tree(ot_disk_posix(), dir, NULL), OT_OK, "clean up");
    return tap_done();
}
