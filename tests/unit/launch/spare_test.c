#include "launch/spare.h"

#include "base/disk.h"
#include "base/mem.h"
#include "launch/internal.h"
#include "launch/proc.h"
#include "tap.h"
#include "unit/launch/finish.h"
#include "unit/launch/program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define PLENTY (1ull << 40)

static char base[] = "/tmp/ot_spare_XXXXXX";
static char work[OT_PATH_MAX]; /* where all runs work */
static int serial;

static const char *new_dir(void)
{
    static char dirs[8][OT_PATH_MAX];
    char *d = dirs[++serial % 8];
    snprintf(d, OT_PATH_MAX, "%s/%d", base, serial);
    return d;
}

static void put(const char *name, const char *text)
{
    char path[2 * OT_PATH_MAX];
    ot_error err = {0};
    snprintf(path, sizeof path, "%s/%s", work, name);
    if (ot_disk_write_atomic(ot_disk_posix(), path, text, strlen(text), 0644, &err) != OT_OK) {
        printf("# %s\n", err.msg);
    }
}

static void drop(const char *name)
{
    char path[2 * OT_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", work, name);
    unlink(path);
}

static void read_log(const char *dir, ot_str *out)
{
    uint64_t next = 0;
    ot_str_clear(out);
    if (ot_launch_log_read(dir, 0, 8 << 20, out, &next, NULL) != OT_OK) {
        ot_str_adds(out, "(no log)");
    }
}

/* The log without our first line, which must hold `note`. */
static const char *after_note(const ot_str *log, const char *note)
{
    const char *end = strchr(log->data, '\n'), *at = strstr(log->data, note);
    if (end == NULL || at == NULL || at > end || !ot_has_prefix(log->data, "[overtake: ")) {
        printf("# the log begins with '%.200s', not with '%s'\n", log->data, note);
        return "(no note)";
    }
    return end + 1;
}

static const char *const modules[] = {"decimal", "multiprocessing.pool"};
static const ot_launch_env env[] = {{"OVERTAKE_DATA", "/here"}, {"OMP_NUM_THREADS", "3"}};

static ot_launch_spec spec_of(const char *command)
{
    return (ot_launch_spec){.command = command,
                            .cwd = work,
                            .env = env,
                            .n_env = OT_COUNT(env),
                            .run = 7,
                            .grace_us = 20000000};
}

static ot_launch_spare *spare_of(const ot_launch_spec *spec, const char *const *names, size_t n,
                                 uint64_t memory)
{
    ot_launch_spare *s = NULL;
    ot_error err = {0};
    ot_launch_spare_ask ask = {
        .spec = spec, .modules = names, .n_modules = n, .memory_max = memory};
    if (ot_launch_spare_start(&ask, &s, &err) != OT_OK) {
        printf("# no spare: %s\n", err.msg);
    }
    return s;
}

static ot_launch_spare_state settle(ot_launch_spare *s)
{
    ot_launch_spare_state st = OT_LAUNCH_SPARE_IMPORTS;
    for (int i = 0; i < LONG_MS / 10 && st == OT_LAUNCH_SPARE_IMPORTS; i++) {
        usleep(i == 0 ? 0 : 10000);
        st = ot_launch_spare_look(s);
    }
    return st;
}

static ot_launch_spare *ready_spare(const ot_launch_spec *spec)
{
    ot_launch_spare *s = spare_of(spec, modules, OT_COUNT(modules), PLENTY);
    if (s != NULL && settle(s) != OT_LAUNCH_SPARE_READY) {
        printf("# it is not ready: %s\n", ot_launch_spare_why(s));
    }
    return s;
}

/* Runs spec in a new directory with the spare, which is gone afterwards. */
static bool run_with(ot_launch_spare *s, const ot_launch_spec *spec, ot_launch_exit *e, ot_str *log)
{
    const char *d = new_dir();
    ot_error err = {0};
    int fd = -1;
    memset(e, 0, sizeof *e);
    bool good = ot_launch_start_warm(d, spec, s, NULL, &fd, &err) == OT_OK;
    if (!good) {
        printf("# start: %s\n", err.msg);
    }
    ot_launch_spare_end(s);
    good = good && finish(d, fd, e);
    read_log(d, log);
    return good;
}

/* Ends cold and warm in the same way, and prints the same. */
static void same(const char *what, const char *script, const char *command)
{
    ot_launch_exit cold = {0}, warm = {0};
    OT_AUTO(ot_str_done) ot_str a = OT_STR_INIT, b = OT_STR_INIT;
    ot_launch_spec spec = spec_of(command);
    put("job.py", script);
    ot_launch_spare *s = spare_of(&spec, modules, OT_COUNT(modules), PLENTY);
    bool ran = run_with(NULL, &spec, &cold, &a);
    ran = s != NULL && settle(s) == OT_LAUNCH_SPARE_READY && run_with(s, &spec, &warm, &b) && ran;
    ok(ran && cold.state == warm.state && cold.exit_code == warm.exit_code &&
           cold.signal == warm.signal,
       "%s: %s, exit %d, signal %d; warm %s, %d, %d", what, ot_launch_state_name(cold.state),
       cold.exit_code, cold.signal, ot_launch_state_name(warm.state), warm.exit_code, warm.signal);
    is_str(after_note(&b, "started in a spare process"), a.data, "%s: prints the same", what);
}

/* Imports what the spare has, so that the sets of modules can be compared. */
static const char world[] =
    "'''A docstring.'''\n"
    "import decimal, multiprocessing.pool, os, sys, signal, resource, warnings\n"
    "def show(*what): print(*what, flush=True)\n"
    "show(__name__, __file__, __doc__, __spec__, __package__, __loader__.get_filename())\n"
    "show(sorted(globals()))\n"
    "show(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.executable, sys.prefix)\n"
    "show(os.getcwd(), sorted((k, v) for k, v in os.environ.items() if k != 'OVERTAKE_RUN_MARK' "
    "and 'PYENV' not in k))\n"
    "show(sorted(os.listdir('/proc/self/fd')))\n"
    "show([(s, signal.getsignal(s)) for s in sorted(signal.valid_signals()) if s not in (9, 19)])\n"
    "show(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
    "show([l for l in open('/proc/self/status') if l[:4] != 'SigQ' and l[:3] in ('Sig', 'Shd', "
    "'Uma', 'Cap', 'NoN', "
    "'Sec')])\n"
    "show([(i, os.readlink(f'/proc/self/fd/{i}')[:5]) for i in range(3)])\n"
    "show([resource.getrlimit(i) for i in range(10)])\n"
    "show(os.getpgid(0) in (os.getpid(), os.getppid()), os.getsid(0) == os.getpid(), "
    "os.getpriority(0, 0))\n"
    "show(os.sched_getscheduler(0), open('/proc/self/oom_score_adj').read(), "
    "open('/proc/self/comm').read())\n"
    "show([(f, f.encoding, f.errors, f.line_buffering, f.write_through) for f in (sys.stdin, "
    "sys.stdout, sys.stderr)])\n"
    "mark = 'OVERTAKE_RUN_MARK=' + os.environ['OVERTAKE_RUN_MARK']\n"
    "show(mark in open('/proc/self/environ').read().split(chr(0)))\n"
    "show(sorted(sys.modules))\n"
    "import job2\n"
    "show(job2.__file__, sys.modules['__main__'].__dict__ is globals())\n"
    "print(open('/dev/stdin').read() == '', file=sys.stderr)\n"
    "warnings.warn('careful')\n";

static const char processes[] =
    "import multiprocessing, os, sys\n"
    "def double(x): return 2 * x, os.path.basename(os.getcwd()), sys.argv[1:]\n"
    "if __name__ == '__main__':\n"
    "    for how in ('fork', 'spawn', 'forkserver'):\n"
    "        with multiprocessing.get_context(how).Pool(2) as pool:\n"
    "            print(how, pool.map(double, [1, 2]), flush=True)\n";

static void test_same_world(void)
{
    put("job2.py", "x = 1\n");
    same("the world", world, "python3 job.py --epochs 5 'two words' \"\" a=b");
    same("the world, -u and a folder", world, "python3  -u ./job.py\tx");
    drop("job2.py");
    same("children", processes, "python3 job.py one");
    same("an exception", "def f():\n    1 / 0\ntry:\n    f()\nexcept ValueError:\n    pass\n",
         "python3 job.py");
    same("chained exceptions",
         "def f():\n    1 / 0\ntry:\n    f()\nexcept Exception as e:\n    raise ValueError('x') "
         "from e\n",
         "python3 job.py");
    same("a syntax error", "print('x')\nif True\n    pass\n", "python3 job.py");
    same("another encoding", "# coding: latin-1\nprint(ascii('\xe4'))\n", "python3 job.py");
    same("exit 3", "import sys\nprint('x', end='')\nsys.exit(3)\n", "python3 job.py");
    same("exit with a text", "import sys\nsys.exit('no data')\n", "python3 job.py");
    same("_exit 4", "import os\nprint('lost unless flushed')\nos._exit(4)\n", "python3 job.py");
    same("an interrupt",
         "import atexit\natexit.register(print, 'at exit')\nraise KeyboardInterrupt\n",
         "python3 job.py");
    same("the end",
         "import atexit, threading, time\n"
         "def late():\n    time.sleep(0.1)\n    print('thread', __name__, x)\n"
         "x = 5\natexit.register(lambda: print('at exit', x))\n"
         "threading.Thread(target=late).start()\n",
         "python3 job.py");
    same("a hook",
         "import sys, traceback\n"
         "sys.excepthook = lambda t, v, tb: print('hook', t, v, traceback.extract_tb(tb))\n"
         "raise ValueError('x')\n",
         "python3 job.py");
    same("a bad hook",
         "import sys\ndef hook(t, v, tb):\n    raise OSError('worse')\nsys.excepthook = hook\n"
         "raise ValueError('x')\n",
         "python3 job.py");
}

/* No shell stands between: it prints nothing of a signal, and a crash is told as one. */
static void test_signals(void)
{
    ot_launch_exit e = {0};
    OT_AUTO(ot_str_done) ot_str log = OT_STR_INIT;
    ot_launch_spec spec = spec_of("python3 job.py");
    put("job.py", "import os\nos.kill(os.getpid(), 15)\n");
    ok(run_with(ready_spare(&spec), &spec, &e, &log) && e.state == OT_LAUNCH_KILLED &&
           e.signal == SIGTERM,
       "a signal: %s", e.message);
    put("job.py", "import os\nos.kill(os.getpid(), 11)\n");
    ok(run_with(ready_spare(&spec), &spec, &e, &log) && e.state == OT_LAUNCH_FAILED &&
           e.signal == SIGSEGV,
       "a crash: %s", e.message);
}

static void test_grace(void)
{
    const char *d = new_dir();
    ot_launch_exit e = {0};
    ot_error err = {0};
    int fd = -1;
    OT_AUTO(ot_str_done) ot_str log = OT_STR_INIT;
    ot_launch_spec spec = spec_of("python3 job.py");
    put("job.py", "import signal, sys, time\n"
                  "def end(*_):\n    print('saved', flush=True)\n    sys.exit(0)\n"
                  "signal.signal(signal.SIGTERM, end)\n"
                  "print('begun', flush=True)\ntime.sleep(600)\n");
    ot_launch_spare *s = ready_spare(&spec);
    ok(ot_launch_start_warm(d, &spec, s, NULL, &fd, &err) == OT_OK, "a long run: %s", err.msg);
    ot_launch_spare_end(s);
    for (int i = 0; i < LONG_MS / 10 && (log.len == 0 || strstr(log.data, "begun") == NULL); i++) {
        usleep(10000);
        read_log(d, &log);
    }
    is_int(ot_launch_cancel(d, &err), OT_OK, "it is cancelled");
    ok(finish(d, fd, &e) && e.state == OT_LAUNCH_CANCELLED, "and ends: %s", e.message);
    read_log(d, &log);
    ok(strstr(log.data, "saved\n") != NULL, "with the time to save its work");
}

/* The run starts cold, says `why`, and succeeds. */
static void cold(const char *what, ot_launch_spare *s, const ot_launch_spec *spec, const char *why)
{
    ot_launch_exit e = {0};
    OT_AUTO(ot_str_done) ot_str log = OT_STR_INIT;
    ok(run_with(s, spec, &e, &log) && e.state == OT_LAUNCH_SUCCEEDED, "%s: the run succeeds: %s",
       what, e.message);
    const char *rest = after_note(&log, "started cold: ");
    ok(strstr(log.data, why) != NULL && strcmp(rest, "done\n") == 0, "%s: %.*s", what,
       (int)strcspn(log.data, "\n"), log.data);
}

/* Orphans come to us, so the shim of the only spare is the only child that lives; its program is
 * the only one of its own. */
static pid_t child_of(pid_t parent)
{
    ot_launch_procs procs = {0};
    pid_t found = 0;
    if (ot_launch_procs_tree(&procs, parent, NULL) == OT_OK) {
        for (size_t i = 0; i < procs.n; i++) {
            found = procs.v[i].ppid == parent ? procs.v[i].pid : found;
        }
    }
    ot_launch_procs_done(&procs);
    return found;
}

static bool gone(pid_t pid)
{
    for (int i = 0; i < LONG_MS / 10; i++) {
        ot_launch_proc p;
        if (ot_launch_proc_read(pid, &p, NULL) != OT_OK || p.state == 'Z') {
            return pid > 0;
        }
        usleep(10000);
    }
    return false;
}

static void test_killed(void)
{
    ot_launch_spec spec = spec_of("python3 job.py");
    put("job.py", "print('done')\n");
    ot_launch_spare *s = ready_spare(&spec);
    pid_t shim = child_of(getpid()), python = child_of(shim);
    ok(kill(python, SIGKILL) == 0 && gone(python) && gone(shim), "its program is killed");
    cold("a killed spare", s, &spec, "the spare has ended: it ended by itself");

    s = ready_spare(&spec);
    shim = child_of(getpid()), python = child_of(shim);
    ok(kill(shim, SIGKILL) == 0 && gone(shim) && gone(python), "its shim is killed");
    cold("a killed shim", s, &spec, "the spare has ended: it was killed");

    s = ready_spare(&spec);
    shim = child_of(getpid()), python = child_of(shim);
    kill(shim, SIGSTOP);
    cold("a shim that does not answer", s, &spec, "was killed, or did not answer");
    ok(gone(shim) && gone(python), "it has ended");

    s = ready_spare(&spec);
    shim = child_of(getpid()), python = child_of(shim);
    kill(python, SIGSTOP);
    cold("a program that does not answer", s, &spec, "did not answer in time");
    ok(gone(shim) && gone(python), "it has ended");

    s = ready_spare(&spec);
    shim = child_of(getpid()), python = child_of(shim);
    ot_launch_spare_end(s);
    ok(gone(shim) && gone(python), "one that is not wanted any more");

    pid_t starter = fork();
    if (starter == 0) {
        _exit(ready_spare(&spec) != NULL ? 0 : 1);
    }
    int status = 1;
    waitpid(starter, &status, 0);
    ok(status == 0 && gone(starter), "who started it has ended");
    for (int i = 0; i < LONG_MS / 10 && child_of(getpid()) != 0; i++) {
        usleep(10000);
    }
    is_int(child_of(getpid()), 0, "and so has the spare");
}

/* Runs that cannot be warm. */
static void test_cold(void)
{
    ot_launch_spec spec = spec_of("python3 job.py"), other = spec;
    put("job.py", "print('done')\n");
    cold("another command", ready_spare(&spec), &(ot_launch_spec){.command = "echo done"},
         "is not 'python [-u] SCRIPT.py");
    other.command = "python3 -u job.py";
    cold("another flag", ready_spare(&spec), &other, "has another interpreter, environment");
    ot_launch_env more[] = {env[0], {"OMP_NUM_THREADS", "4"}};
    other = spec;
    other.env = more;
    cold("another environment", ready_spare(&spec), &other, "has another interpreter, environment");
    other = spec;
    other.memory_limit_bytes = 1u << 30;
    cold("another limit", ready_spare(&spec), &other, "has another interpreter, environment");

    put("decimal.py", "");
    cold("a module of its own", ready_spare(&spec), &spec, "has a module 'decimal' of its own");
    drop("decimal.py");

    ot_launch_exit e = {0};
    OT_AUTO(ot_str_done) ot_str log = OT_STR_INIT;
    other = spec;
    other.command = "python3 none.py";
    ok(run_with(ready_spare(&spec), &other, &e, &log) && e.exit_code == 2 &&
           strstr(log.data, "can't open file") != NULL,
       "no script: %s", e.message);
    other.cwd = "/no/such/place";
    ok(run_with(ready_spare(&spec), &other, &e, &log) && e.state == OT_LAUNCH_SPAWN_FAILED,
       "no working directory: %s", e.message);
}

static void test_modules(void)
{
    char lib[OT_PATH_MAX];
    snprintf(lib, sizeof lib, "%s/lib", base);
    ot_launch_env with[] = {{"PYTHONPATH", lib}, {"PYTHONDONTWRITEBYTECODE", "1"}};
    ot_launch_spec spec = spec_of("python3 job.py");
    spec.env = with;
    spec.n_env = OT_COUNT(with);
    (void)!ot_disk_mkdirs(ot_disk_posix(), lib, 0755, NULL);
    put("../lib/slow.py", "import time\ntime.sleep(600)\n");
    put("../lib/large.py", "import time\nx = bytearray(1 << 28)\ntime.sleep(600)\n");
    put("../lib/says.py", "import sys\nprint('hello', file=sys.stderr)\n");
    put("../lib/bad.py", "import nothing_of_this_name\n");

    const char *name = "bad";
    ot_launch_spare *s = spare_of(&spec, &name, 1, PLENTY);
    ok(settle(s) == OT_LAUNCH_SPARE_ENDED && strstr(ot_launch_spare_why(s), "import bad: ") != NULL,
       "an import that fails: %s", ot_launch_spare_why(s));
    ot_launch_spare_end(s);
    name = "slow";
    cold("one that imports", spare_of(&spec, &name, 1, PLENTY), &spec, "was still importing");
    name = "large";
    s = spare_of(&spec, &name, 1, 64u << 20);
    ok(settle(s) == OT_LAUNCH_SPARE_ENDED && strstr(ot_launch_spare_why(s), "of memory, 64 MiB"),
       "more memory than there is for it: %s", ot_launch_spare_why(s));
    ot_launch_spare_end(s);
    name = "says";
    s = spare_of(&spec, &name, 1, PLENTY);
    ok(settle(s) == OT_LAUNCH_SPARE_READY && ot_launch_spare_memory(s) > 1u << 20,
       "what one takes is known: %llu", (unsigned long long)ot_launch_spare_memory(s));

    ot_launch_exit e = {0};
    OT_AUTO(ot_str_done) ot_str log = OT_STR_INIT;
    put("job.py", "import says\nprint('done')\n");
    ok(run_with(s, &spec, &e, &log) && e.state == OT_LAUNCH_SUCCEEDED, "it runs: %s", e.message);
    is_str(after_note(&log, "started in a spare process"), "hello\ndone\n",
           "what the import printed stands in the log");

    s = spare_of(&spec, &name, 1, PLENTY);
    is_int(settle(s), OT_LAUNCH_SPARE_READY, "another");
    put("../lib/says.py", "import sys\n");
    cold("a module that has changed", s, &spec, "has changed since the spare was started");

    with[0].value = "lib";
    ot_error err = {0};
    ot_launch_spare_ask ask = {.spec = &spec, .modules = &name, .n_modules = 1};
    ok(ot_launch_spare_start(&ask, &s, &err) == OT_INVALID, "a relative folder: %s", err.msg);
    with[0].value = "/lib:";
    ok(ot_launch_spare_start(&ask, &s, &err) == OT_INVALID, "an empty one: %s", err.msg);
    name = "os; x";
    spec.n_env = 0;
    ok(ot_launch_spare_start(&ask, &s, &err) == OT_INVALID, "no name of a module: %s", err.msg);
    ask.n_modules = 0;
    ok(ot_launch_spare_start(&ask, &s, &err) == OT_INVALID, "no module: %s", err.msg);
}

/* The shim of a warm run is killed: what is left is found by the mark. */
static void test_lost(void)
{
    const char *d = new_dir();
    ot_launch_exit e;
    ot_launch_status st;
    ot_error err = {0};
    int fd = -1;
    OT_AUTO(ot_str_done) ot_str log = OT_STR_INIT;
    ot_launch_spec spec = spec_of("python3 job.py");
    spec.background = true;
    put("job.py",
        "import os, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    print('daemon', os.getpid(), flush=True)\n"
        "time.sleep(600)\n");
    ot_launch_spare *s = ready_spare(&spec);
    ok(ot_launch_start_warm(d, &spec, s, NULL, &fd, &err) == OT_OK, "a run: %s", err.msg);
    ot_launch_spare_end(s);
    const char *at = NULL;
    for (int i = 0; i < LONG_MS / 10 && (at == NULL || strchr(at, '\n') == NULL); i++) {
        usleep(10000);
        read_log(d, &log);
        at = log.len > 0 ? strstr(log.data, "daemon ") : NULL;
    }
    pid_t daemon = at != NULL ? atoi(at + 7) : 0;
    ok(ot_launch_poll(d, &st, &err) == OT_OK && st.shim_pid > 0 && daemon > 0 &&
           kill(st.shim_pid, SIGKILL) == 0,
       "kill -9 of its shim");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ok(poll(&p, 1, LONG_MS) == 1, "the descriptor tells");
    close(fd);
    ok(ot_launch_poll(d, &st, &err) == OT_OK && st.phase == OT_LAUNCH_GONE &&
           ot_launch_settle(d, &e, &err) == OT_OK && e.state == OT_LAUNCH_LOST,
       "settled as lost: %s", e.message);
    ok(gone(daemon), "nothing of it is left");
}

static void words(const char *command, size_t n, const char *script)
{
    ot_launch_python py;
    ot_error err = {0};
    ot_rc rc = ot_launch_python_parse(command, &py, &err);
    ok(script == NULL ? rc == OT_INVALID
                      : rc == OT_OK && py.n_words == n && strcmp(py.words[py.script], script) == 0,
       "%.*s: %s", (int)strcspn(command, "\n") % 60, command,
       rc == OT_OK ? py.words[py.script] : err.msg);
}

static void test_words(void)
{
    static char many[8192];
    words("python train.py", 2, "train.py");
    words("  /opt/v/bin/python3.11\t-u  a/b.py --lr=1e-3 ", 4, "a/b.py");
    words("python3 'a b'c.py \"x; y\" '$1'", 4, "a bc.py");
    words("", 0, NULL);
    words("python", 0, NULL);
    words("python -u", 0, NULL);
    words("python -m train", 0, NULL);
    words("python -c x.py", 0, NULL);
    words("python -O train.py", 0, NULL);
    words("python train", 0, NULL);
    words("pythonista train.py", 0, NULL);
    words("venv/bin/python train.py", 0, NULL);
    words("sh train.py", 0, NULL);
    words("X=1 python train.py", 0, NULL);
    words("python train.py; rm x", 0, NULL);
    words("python train.py > out", 0, NULL);
    words("python train.py $HOME", 0, NULL);
    words("python train.py \"$HOME\"", 0, NULL);
    words("python train.py ~/x", 0, NULL);
    words("python train.py *.npz", 0, NULL);
    words("python train.py 'x", 0, NULL);
    words("python train.py a\\ b", 0, NULL);
    words("python train.py\nrm x", 0, NULL);
    words("python train.py # x", 0, NULL);
    strcpy(many, "python3 a.py");
    for (int i = 0; i < 300; i++) {
        strcat(many, " x");
    }
    words(many, 0, NULL);
    memset(many, 'x', sizeof many - 1);
    memcpy(many, "python3 a.py ", 13);
    words(many, 0, NULL);
    ok(ot_launch_module_ok("tensorflow") && ot_launch_module_ok("a.b_1") &&
           !ot_launch_module_ok("") && !ot_launch_module_ok(".a") && !ot_launch_module_ok("a..b") &&
           !ot_launch_module_ok("a.") && !ot_launch_module_ok("1a") && !ot_launch_module_ok("a b"),
       "names of modules");
}

int main(int argc, char **argv)
{
    static char path[4096];
    run_as_program(argc, argv);
    test_words();
    /* The system's Python before one that a wrapper chooses. */
    snprintf(path, sizeof path, "/usr/bin:/bin:%s", getenv("PATH") != NULL ? getenv("PATH") : "");
    setenv("PATH", path, 1);
    if (system("exec python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null") !=
        0) {
        skip("no python3 of 3.10 or newer in PATH");
        return tap_done();
    }
    if (mkdtemp(base) == NULL || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        printf("Bail out! %s\n", strerror(errno));
        return 1;
    }
    snprintf(work, sizeof work, "%s/work", base);
    (void)!ot_disk_mkdirs(ot_disk_posix(), work, 0755, NULL);
    unsetenv("PYTHONPATH");
    test_same_world();
    test_signals();
    test_grace();
    test_killed();
    test_cold();
    test_modules();
    test_lost();
    (void)!ot_disk_remove_tree(ot_disk_posix(), base, NULL);
    return tap_done();
}
