"""`overtake run`: programs that need no collectives, as one job on this host and on others that a
script in the place of ssh stands for."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time
import uuid

import pytest

from replica import OVERTAKE, PATIENCE, wait_for


def run(*args, timeout=PATIENCE, **kw):
    return subprocess.run([str(OVERTAKE), "run", *map(str, args)], capture_output=True, timeout=timeout, **kw)


def sh(script):
    return ["--", "sh", "-c", textwrap.dedent(script)]


def py(script):
    return ["--", sys.executable, "-c", textwrap.dedent(script)]


class Job:
    """A job in the background; every process of it has the same mark in its environment."""

    def __init__(self, tmp_path, *args, within=(), **kw):
        """`within`: a command that runs another in surroundings of its own, and is replaced by it."""
        self.mark = f"MARK={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        self.out, self.err = tmp_path / "out", tmp_path / "err"
        self.process = subprocess.Popen(
            [*within, str(OVERTAKE), "run", *map(str, args)], stdout=open(self.out, "wb"), stderr=open(self.err, "wb"),
            env={**os.environ, name: value}, start_new_session=True, **kw)

    def living(self):
        """pid -> command line of what bears the mark, but for the launcher."""
        found = {}
        for d in pathlib.Path("/proc").iterdir():
            try:
                if d.name.isdigit() and int(d.name) != self.process.pid \
                        and self.mark.encode() in (d / "environ").read_bytes().split(b"\0") \
                        and (d / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX":
                    found[int(d.name)] = (d / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except (OSError, IndexError):
                pass
        return found

    def agents(self):
        return sorted(p for p, c in self.living().items() if c.endswith("run --agent"))

    def says(self, text, where=None):
        def find():
            return re.search(text, (where or self.err).read_text())
        return wait_for(f"'{text}' in the job's output", find)

    def started(self, n):
        """pids by rank, once n ranks have printed 'pid N'."""
        def find():
            got = dict(re.findall(r"^\[(\d+)\] pid (\d+)$", self.out.read_text(), re.M))
            return {int(k): int(v) for k, v in got.items()} if len(got) == n else None
        return wait_for(f"{n} ranks", find)

    def ends(self):
        code = self.process.wait(PATIENCE)
        return code

    def leaves_nothing(self):
        wait_for("nothing of the job left", lambda: not self.living())


@pytest.fixture
def job(tmp_path):
    jobs = []

    def start(*args, **kw):
        jobs.append(Job(tmp_path, *args, **kw))
        return jobs[-1]
    yield start
    for j in jobs:
        j.process.kill()
        j.process.wait()
        for pid in j.living():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def ssh(tmp_path):
    """Runs what ssh would run on the other host, here; with an environment as bare as there."""
    script = tmp_path / "ssh"
    script.write_text(textwrap.dedent("""\
        #!/bin/sh
        host=$1; shift
        [ "$host" = nowhere ] && { echo "ssh: no route" >&2; exit 255; }
        exec env -i HOME="$HOME" PATH=/usr/bin:/bin FAKE_HOST="$host" ${MARK:+MARK=$MARK} sh -c "exec $*"
        """))
    script.chmod(0o755)
    return str(script)


HOLD = """\
    echo pid $$
    exec sleep 1000
    """


# --- environment and output -------------------------------------------------------------------------

def test_each_rank_finds_its_place():
    r = run("-np", 3, "-x", "EXTRA=a b", *sh("""
        echo $OVERTAKE_RANK $OVERTAKE_SIZE $OVERTAKE_LOCAL_RANK $OVERTAKE_LOCAL_SIZE $RANK $WORLD_SIZE \
            $LOCAL_RANK $LOCAL_WORLD_SIZE $HOROVOD_RANK $HOROVOD_SIZE $HOROVOD_CROSS_SIZE $MASTER_ADDR "$EXTRA"
        [ -n "$MASTER_PORT" ] && [ -n "$OVERTAKE_RENDEZVOUS" ] && [ "$OMP_NUM_THREADS" -ge 1 ]"""))
    assert r.returncode == 0, r.stderr
    assert sorted(r.stdout.decode().splitlines()) == [
        f"[{i}] {i} 3 {i} 3 {i} 3 {i} 3 {i} 3 1 127.0.0.1 a b" for i in range(3)]
    assert r.stderr == b""


def test_omp_num_threads_of_the_user_stays():
    r = run("-np", 2, *sh("echo $OMP_NUM_THREADS"), env={**os.environ, "OMP_NUM_THREADS": "17"})
    assert sorted(r.stdout.splitlines()) == [b"[0] 17", b"[1] 17"]


def test_the_key_is_in_no_environment_and_no_command_line(job):
    j = job("-np", 2, *sh(HOLD))
    pids = j.started(2)
    key = pathlib.Path(f"/proc/{pids[0]}/fd/3").read_bytes()
    assert re.fullmatch(rb"[0-9a-f]{64}", key)
    for pid in [j.process.pid, *j.living()]:
        for name in ("environ", "cmdline"):
            assert key not in pathlib.Path(f"/proc/{pid}/{name}").read_bytes()


def test_lines_are_whole_and_marked(tmp_path):
    r = run("-np", 2, "--output-dir", tmp_path / "logs", *py("""
        import os, sys
        w = os.fdopen(1, "wb", buffering=0)
        w.write(b"in "); w.write(b"two parts\\n")
        w.write(b"x" * 20000 + b"\\n")
        w.write(b"a\\0b\\x07c\\x1b[1mbold\\x1b[0m\\n")
        w.write(b"10%\\r50%\\r100%\\n")
        w.write(b"\\xff\\xfe\\n")
        os.write(2, b"to stderr\\n")
        w.write(b"no end")"""))
    assert r.returncode == 0
    out = r.stdout.split(b"\n")
    for i in (b"[0] ", b"[1] "):
        mine = [line[4:] for line in out if line.startswith(i)]
        assert mine == [b"in two parts", b"x" * 8192, b"x" * 8192, b"x" * (20000 - 16384),
                        b"a?b?c\x1b[1mbold\x1b[0m", b"100%", b"\xff\xfe", b"no end"]
    assert sorted(r.stderr.splitlines()) == [b"[0] to stderr", b"[1] to stderr"]
    log = (tmp_path / "logs" / "rank-1.log").read_bytes()
    assert b"10%\r50%\r100%\n" in log and b"a\0b\x07c" in log and b"to stderr\n" in log and b"no end" in log


def test_no_prefix_hands_bytes_on():
    r = run("-np", 1, "--no-prefix", *py(r"import os; os.write(1, b'a\0\r\nb'); os.write(2, b'\xffe')"))
    assert (r.returncode, r.stdout, r.stderr) == (0, b"a\0\r\nb", b"\xffe")


def test_a_slow_reader_loses_nothing_and_holds_no_memory(job):
    """More than all queues together; the ranks wait with printing."""
    p = subprocess.Popen([str(OVERTAKE), "run", "-np", "2", *py("""
        import os
        for i in range(20000):
            os.write(1, b"%07d " % i + b"." * 1200 + b"\\n")""")], stdout=subprocess.PIPE)
    p.stdout.read(1)
    wait_for("the launcher to wait", lambda: "S" == pathlib.Path(f"/proc/{p.pid}/stat").read_text().rsplit(")", 1)[1].split()[0])
    rss = int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{p.pid}/status").read_text())[1])
    text = p.stdout.read().decode()
    assert p.wait(PATIENCE) == 0 and rss < 200_000
    for rank in (0, 1):
        seen = [int(n) for n in re.findall(rf"\[?{rank}\] (\d{{7}}) \.{{1200}}$", text, re.M)]
        assert seen == list(range(20000))


def test_standard_input_goes_to_rank_0_when_asked():
    data = b"".join(b"%d\n" % i for i in range(100_000))
    r = run("-np", 2, "--stdin", "--no-prefix", *sh("[ $RANK = 0 ] && cat || wc -c >&2"), input=data)
    assert (r.returncode, r.stdout, r.stderr.strip()) == (0, data, b"0")
    r = run("-np", 2, *sh("cat; echo end"), input=b"hello\n")
    assert sorted(r.stdout.splitlines()) == [b"[0] end", b"[1] end"]


def test_ranks_are_bound_to_their_share_of_the_cores():
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        pytest.skip("one core: there is nothing to share")
    r = run("-np", 2, "--bind", "core", *py("import os; print(*sorted(os.sched_getaffinity(0)))"))
    a, b = ({int(c) for c in line[4:].split()} for line in sorted(r.stdout.splitlines()))
    assert a and b and not a & b and a | b == cores
    r = run("-np", 1, *py("import os; print(*sorted(os.sched_getaffinity(0)))"))
    assert {int(c) for c in r.stdout[4:].split()} == cores


# --- failures ---------------------------------------------------------------------------------------

def test_the_first_failure_is_named_and_its_code_is_ours(tmp_path):
    r = run("-np", 3, "--settle", "300ms", "--output-dir", tmp_path, *py("""
        import os, sys, time
        if os.environ["RANK"] == "1":
            raise ValueError("the loss is nan")
        try:
            time.sleep(1000)
        finally:
            print("survivor")"""))
    text = r.stderr.decode()
    assert r.returncode == 1
    assert re.search(r"the job failed: rank 1 \(host \S+, process \d+\) ended with exit code 1\n"
                     r"overtake run:   its last line: ValueError: the loss is nan\n"
                     rf"overtake run:   its log: {re.escape(str(tmp_path))}/rank-1.log\n$", text), text
    r = run("-np", 2, "--settle", "0s", "-o", "json", *sh("[ $RANK = 1 ] && exit 42; exec sleep 1000"))
    told = json.loads(r.stdout)
    assert r.returncode == told["code"] == 42 and told["rank"] == 1 and told["restarts"] == 0


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_rank_is_named_and_the_others_end(job, signo):
    j = job("-np", 3, "--settle", "100ms", *sh(HOLD))
    pids = j.started(3)
    os.kill(pids[2], signo)
    assert j.ends() == 128 + signo
    text = j.err.read_text()
    assert f"rank 2 (host" in text and f"process {pids[2]}) was killed by signal {int(signo)} (" in text
    assert "the job failed: rank 2" in text and "failed: rank 0" not in text
    j.leaves_nothing()


def test_survivors_get_time_then_sigterm_then_sigkill(job):
    j = job("-np", 3, "--settle", "200ms", "--grace", "2s", *py("""
        import os, signal, sys, time
        rank = os.environ["RANK"]
        def term(*_):
            print("told to end", flush=True)
            rank == "0" and sys.exit(5)
        signal.signal(signal.SIGTERM, term)
        print("pid", os.getpid(), flush=True)
        while rank != "2" or not os.path.exists(sys.argv[0]):
            time.sleep(0.01)"""))
    pids = j.started(3)
    os.kill(pids[2], signal.SIGKILL)
    assert j.ends() == 137
    assert sorted(re.findall(r"^\[(\d)\] told to end$", j.out.read_text(), re.M)) == ["0", "1"]
    j.leaves_nothing()


def test_stops_are_told_and_too_long_ones_end_the_job(job):
    j = job("-np", 2, *sh(HOLD))
    pids = j.started(2)
    os.kill(pids[1], signal.SIGSTOP)
    j.says(rf"rank 1 \(host \S+, process {pids[1]}\) is stopped \(Stopped \(signal\)\)")
    os.kill(pids[1], signal.SIGCONT)
    j.says(rf"rank 1 \(host \S+, process {pids[1]}\) goes on")
    j.process.send_signal(signal.SIGTERM)
    assert j.ends() == 128 + signal.SIGTERM
    j = job("-np", 2, "--stopped-after", "300ms", "--settle", "0s", "--grace", "100ms", *sh(HOLD))
    pids = j.started(2)
    os.kill(pids[0], signal.SIGSTOP)
    assert j.ends() == 1
    j.says(r"the job failed: rank 0 .* has been stopped for 300ms")
    j.leaves_nothing()


def test_all_stopped_together_accuses_nobody(job):
    j = job("-np", 2, "--stopped-after", "1s", *sh(HOLD))
    pids = j.started(2)
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    j.says("rank 0 .* is stopped")
    j.says("rank 1 .* is stopped")
    enough = time.monotonic() + 1.2
    wait_for("the time that a stop may take to pass", lambda: time.monotonic() > enough)
    for pid in pids.values():
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
    j.ends()
    assert "has been stopped" not in j.err.read_text()


def test_a_program_that_is_not_there():
    r = run("-np", 2, "--", "no-such-program")
    assert r.returncode == 1 and b"program 'no-such-program' is not in PATH" in r.stderr


# --- signals ----------------------------------------------------------------------------------------

TRAP = """\
    import os, signal, sys, time
    def got(s, _):
        print("got", signal.Signals(s).name, flush=True)
        if s == signal.SIGINT and "stay" not in sys.argv:
            sys.exit(0)
    for s in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(s, got)
    print("pid", os.getpid(), flush=True)
    while True:
        time.sleep(0.05)"""


def test_signals_are_handed_on(job):
    j = job("-np", 2, *py(TRAP))
    j.started(2)
    for s in ("SIGUSR1", "SIGUSR2", "SIGINT"):
        j.process.send_signal(getattr(signal, s))
        for rank in (0, 1):
            j.says(rf"(?m)^\[{rank}\] got {s}$", j.out)
    assert j.ends() == 128 + signal.SIGINT
    j.leaves_nothing()


def test_a_second_interrupt_kills(job):
    j = job("-np", 2, "--grace", "1h", *py(TRAP), "stay")
    j.started(2)
    j.process.send_signal(signal.SIGINT)
    for rank in (0, 1):
        j.says(rf"(?m)^\[{rank}\] got SIGINT$", j.out)
    j.process.send_signal(signal.SIGINT)
    assert j.ends() == 128 + signal.SIGINT
    j.leaves_nothing()


# --- nothing is left behind -------------------------------------------------------------------------

# A rank with a child in its group, and a daemon in a session of its own.
FAMILY = """\
    sleep 1000 &
    setsid sleep 1000 &
    echo pid $$
    wait
    """


def test_what_ranks_start_ends_with_the_job(job):
    j = job("-np", 2, "--settle", "0s", "--grace", "100ms", *sh(FAMILY))
    pids = j.started(2)
    wait_for("the families", lambda: sum("sleep" in c for c in j.living().values()) >= 4)
    os.kill(pids[0], signal.SIGKILL)
    assert j.ends() == 137
    assert not j.living()
    r = run("-np", 2, *sh("setsid sleep 1000 & setsid sleep 1000 &"))
    assert r.returncode == 0  # and the pipes that these hold keep nobody


def test_a_killed_launcher_leaves_nothing(job):
    j = job("-np", 2, *sh(FAMILY))
    j.started(2)
    wait_for("the families", lambda: sum("sleep" in c for c in j.living().values()) >= 4)
    j.process.kill()
    j.leaves_nothing()


@pytest.mark.parametrize("which", [0, 1])
def test_a_killed_agent_leaves_nothing_and_is_named(job, ssh, which):
    """Each agent is two processes: the one that owns the ranks, and one that owns that."""
    j = job("-H", "localhost:1,b:1", "--ssh", ssh, "--settle", "0s", "--grace", "100ms", *sh(FAMILY))
    j.started(2)
    wait_for("the families", lambda: sum("sleep" in c for c in j.living().values()) >= 4)
    there = [p for p in j.agents() if b"FAKE_HOST=b" in pathlib.Path(f"/proc/{p}/environ").read_bytes().split(b"\0")]
    assert len(there) == 2
    os.kill(there[which], signal.SIGKILL)
    assert j.ends() != 0
    j.says(r"the job failed: rank 1 \(host b, process \d+\) (is lost: the agent of host b is gone|was killed by signal 9)")
    j.leaves_nothing()


# --- other hosts ------------------------------------------------------------------------------------

def test_other_hosts(ssh, tmp_path):
    here = tmp_path / "work dir"
    here.mkdir()
    r = run("-H", "a:2,b:1,localhost:2", "-np", 4, "--ssh", ssh, "-x", "WITH", "-x", "GIVEN=1", *sh("""
        echo "$RANK $LOCAL_RANK $LOCAL_WORLD_SIZE $HOROVOD_CROSS_RANK $HOROVOD_CROSS_SIZE $FAKE_HOST $WITH $GIVEN $OMP_PLACES $OTHER $(pwd)"
        """), cwd=here, env={**os.environ, "WITH": "w", "OMP_PLACES": "cores", "OTHER": ""})
    assert r.returncode == 0, r.stderr
    assert sorted(r.stdout.decode().splitlines()) == [
        f"[0] 0 0 2 0 3 a w 1 cores  {here}", f"[1] 1 1 2 0 1 a w 1 cores  {here}",
        f"[2] 2 0 1 1 3 b w 1 cores  {here}", f"[3] 3 0 1 2 3  w 1 cores  {here}"]


def test_a_host_that_cant_be_reached_is_named(ssh):
    r = run("-H", "localhost:1,nowhere:1", "--ssh", ssh, "--settle", "0s", *sh("exec sleep 1000"))
    assert r.returncode == 1
    assert b"ssh: no route" in r.stderr
    assert re.search(rb"rank 1 \(host nowhere\) could not be started: '.*' for host nowhere ended with exit code 255", r.stderr)


def test_a_hostfile(ssh, tmp_path):
    (tmp_path / "hosts").write_text("# two\na slots=2\nb:1\n")
    r = run("--hostfile", tmp_path / "hosts", "--ssh", ssh, *sh("echo $FAKE_HOST"))
    assert sorted(r.stdout.splitlines()) == [b"[0] a", b"[1] a", b"[2] b"]
    (tmp_path / "hosts").write_text("a slots=two\n")
    r = run("--hostfile", tmp_path / "hosts", *sh("true"))
    assert r.returncode == 1 and b"hosts:1: 'slots=two' is not slots=NUMBER" in r.stderr


# --- restarts ---------------------------------------------------------------------------------------

def test_the_whole_job_is_started_again(tmp_path):
    r = run("-np", 2, "--max-restarts", 2, "--settle", "0s", "--grace", "100ms", *sh("""
        echo try $OVERTAKE_RESTART
        [ $OVERTAKE_RESTART = 2 ] && exit 0
        touch $RANK.$OVERTAKE_RESTART
        until [ -e 0.$OVERTAKE_RESTART ]; do sleep 0.01; done
        [ $RANK = 1 ] && exit 3
        exec sleep 1000"""), cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    for rank in (b"0", b"1"):
        assert [line for line in r.stdout.splitlines() if line.startswith(b"[" + rank)] == [
            b"[%s] try %d" % (rank, i) for i in range(3)]
    assert b"starting the job again (2 of 2 times)" in r.stderr
    r = run("-np", 1, "--max-restarts", 1, "--settle", "0s", "-o", "json", *sh("exit 3"))
    assert r.returncode == 3 and json.loads(r.stdout)["restarts"] == 1


# --- usage ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("args, text", [
    ((), "what shall be run?"),
    (("-np", "0", "--", "true"), "less than the least allowed"),
    (("-np", "4097", "--", "true"), "more than the most allowed"),
    (("-np", "3", "-H", "a:1,b:1", "--", "true"), "3 ranks and slots for 2"),
    (("-H", "-oProxyCommand=x", "--", "true"), "is not the name of a host"),
    (("-H", "a", "--hostfile", "f", "--", "true"), "give one of them"),
    (("--hostfile", "/nonexistent", "--", "true"), "/nonexistent"),
    (("--bind", "socket", "--", "true"), "not one of core, none"),
    (("--sbatch", "--min-np", "2", "--", "true"), "an elastic job needs its launcher"),
])
def test_usage(args, text):
    r = run(*args)
    assert r.returncode in (1, 2) and text in r.stderr.decode(), r.stderr
