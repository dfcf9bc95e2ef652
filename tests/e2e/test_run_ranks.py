"""Ranks that meet and sum, under `overtake run` and other launchers; what the survivors of a failure say."""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from replica import OVERTAKE, PATIENCE, ROOT, wait_for
from test_run import job, run, sh, ssh  # noqa: F401: fixtures

RANK = ROOT / "tests" / "e2e" / "collective_rank.py"


def ranks(*args):
    return ["--", sys.executable, RANK, *args]


def numbered(text, pattern):
    """What each rank said, by rank."""
    return {int(r): m for r, m in re.findall(rf"^\[(\d+)\] {pattern}$", text, re.M)}


def forever(tmp_path):
    return ranks(f"until={tmp_path / 'enough'}")


def test_ranks_meet_and_sum():
    r = run("-np", 3, *ranks())
    assert r.returncode == 0, r.stderr
    text = r.stdout.decode()
    assert numbered(text, r"sum (\S+)") == {i: "3.0" for i in range(3)}
    assert numbered(text, r"place (.*)") == {i: f"{i} 3 {i} 3 0 1" for i in range(3)}
    assert r.stderr == b""


def test_the_last_word_of_who_leaves_at_once_is_heard(tmp_path):
    (tmp_path / "program.py").write_text(f"""
import sys
sys.path.insert(0, {str(ROOT / "python")!r})
import numpy as np, overtake.collective as oc
for _ in range(100):
    oc.init()
    for i in range(oc.rank() + 1):
        oc.allreduce(np.ones(1, np.float32), name="uneven")
    assert oc.join() == 2
    oc.finalize()
""")
    r = run("-np", 3, "-x", f"OVERTAKE_LIB={OVERTAKE.parent / 'libovertake.so'}", "--", sys.executable, tmp_path / "program.py")
    assert r.returncode == 0, r.stderr


def test_two_jobs_at_a_time():
    jobs = [subprocess.Popen([str(OVERTAKE), "run", "-np", str(n), *map(str, ranks())],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for n in (2, 3)]
    for n, p in zip((2, 3), jobs):
        text = p.communicate(timeout=PATIENCE)[0].decode()
        assert p.returncode == 0 and set(numbered(text, r"sum (\S+)").values()) == {f"{n}.0"}, text


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_rank_is_named_by_every_survivor(job, tmp_path, victim):
    j = job("-np", 3, *forever(tmp_path))
    pids = j.started(3)
    wait_for("steps", lambda: len(re.findall("under way", j.out.read_text())) == 3)
    os.kill(pids[victim], signal.SIGKILL)
    assert j.ends() == 137
    said = numbered(j.out.read_text(), r"(failed: .*)")
    assert sorted(said) == [r for r in range(3) if r != victim]
    for text in said.values():
        assert f"rank {victim} " in text and "grad" in text and "killed by signal 9" in text, text
    assert f"the job failed: rank {victim} " in j.err.read_text()
    j.leaves_nothing()


def test_a_stopped_rank_is_named_and_the_job_goes_on(job, tmp_path):
    j = job("-np", 3, *forever(tmp_path))
    pids = j.started(3)
    wait_for("steps", lambda: len(re.findall("under way", j.out.read_text())) == 3)
    os.kill(pids[1], signal.SIGSTOP)
    for rank in (0, 2):
        j.says(rf"(?m)^\[{rank}\] .*rank 1 \(host \S+\) is stopped")
    os.kill(pids[1], signal.SIGCONT)
    for rank in (0, 2):
        j.says(rf"(?m)^\[{rank}\] .*rank 1 \(host \S+\) goes on")
    # All ranks must see the end at the same step: rank 0 decides by not asking any more.
    (tmp_path / "enough").touch()
    j.process.send_signal(signal.SIGTERM)
    j.ends()
    j.leaves_nothing()


def test_an_exception_reaches_the_others_with_its_last_line():
    r = run("-np", 3, "--settle", "5s", *ranks("steps=10", "raise=1@5"))
    assert r.returncode == 1
    said = numbered(r.stdout.decode(), r"(failed: .*)")
    assert sorted(said) == [0, 2]
    for text in said.values():
        assert "rank 1" in text and "ValueError: the loss is nan" in text, text
    assert b"its last line: ValueError: the loss is nan" in r.stderr


def test_the_one_that_lacks_is_named_and_says_where_it_is():
    """Nobody dies: the ranks that wait for it blame it, and it is made to print its stack."""
    r = run("-np", 3, "--timeout", "3s", "--settle", "2s", *ranks("linger=1"))
    text = r.stderr.decode()
    assert r.returncode == 3
    assert re.search(r"the job failed: rank 1 \(host \S+, process \d+\) is at fault: 'grad' was not done after 3s", text), text
    assert re.search(r"overtake run: rank 1 \(host \S+\) is sleeping.*, \d+ threads", text)
    assert re.search(r"^\[1\] +File .*collective_rank.py.* in in_no_hurry$", text, re.M)


def test_what_a_rank_writes_into_its_error_file_is_shown(tmp_path):
    r = run("-np", 2, "--output-dir", tmp_path / "out", "--settle", "0s", *sh("""
        [ $RANK = 1 ] || exec sleep 1000
        echo '{"message": "no such file"}' > $TORCHELASTIC_ERROR_FILE; exit 9"""))
    assert r.returncode == 9 and f"its error file: {tmp_path}/out/rank-1.error\n" in r.stderr.decode()


def test_one_that_never_comes_is_named():
    r = run("-np", 3, "--start-timeout", "3s", "--settle", "1s", "--", "sh", "-c",
            f"[ $RANK = 1 ] && exec sleep 1000; exec {sys.executable} {RANK}")
    assert r.returncode == 3
    # On a busy machine others may be late as well.
    for text in (r.stderr, *(re.search(rf"^\[{rank}\] failed: (.*)".encode(), r.stdout, re.M)[1] for rank in (0, 2))):
        assert b"1" in re.search(rb"gave up waiting for ranks? ([\d, ]+) \(", text)[1].split(b", "), text


def test_one_that_ends_before_it_comes_is_named():
    r = run("-np", 2, "--settle", "5s", "--", "sh", "-c",
            f"[ $RANK = 1 ] && {{ echo 'no such data' >&2; exit 4; }}; exec {sys.executable} {RANK}")
    assert r.returncode == 4
    assert re.search(rb"^\[0\] failed: .*rank 1 \(host \S+\) exited before all were here.*no such data", r.stdout, re.M), r.stdout


def test_strangers_at_the_meeting_point_are_turned_away(job, tmp_path):
    j = job("-np", 2, "--", "sh", "-c", "echo meets at $OVERTAKE_RENDEZVOUS; "
            f"exec {sys.executable} {RANK} wait_for={tmp_path / 'go'}")
    port = int(j.says(r"meets at 127\.0\.0\.1:(\d+)", j.out)[1])
    for words in (b"", b"GET / HTTP/1.1\r\n\r\n" + b"x" * 200):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as s:
            s.sendall(words)
            s.shutdown(socket.SHUT_WR)
            try:
                assert s.recv(1) == b""
            except ConnectionResetError:
                pass  # it was closed over bytes that nobody read
    j.says("closed before it said who it is")
    j.says("turned away: what came is not the protocol")
    env = {**os.environ, "OVERTAKE_RANK": "1", "OVERTAKE_SIZE": "2", "OVERTAKE_RENDEZVOUS": f"127.0.0.1:{port}",
           "HOME": str(tmp_path)}
    r = subprocess.run([sys.executable, RANK], env=env, capture_output=True, timeout=PATIENCE)
    assert r.returncode == 3 and b"another job" in r.stdout
    j.says("rank 1 of another job: its key is not this job's")
    (tmp_path / "go").touch()
    assert j.ends() == 0
    assert numbered(j.out.read_text(), r"sum (\S+)") == {0: "2.0", 1: "2.0"}


def test_a_killed_launcher_takes_ranks_that_sum_with_it(job, tmp_path):
    j = job("-np", 2, *forever(tmp_path))
    j.started(2)
    j.process.kill()
    j.leaves_nothing()


def test_a_lost_host_is_named_by_the_survivors(job, ssh, tmp_path):
    j = job("-H", "localhost:1,b:1,c:1", "--address", "127.0.0.1", "--ssh", ssh, *forever(tmp_path))
    j.started(3)
    there = [p for p in j.agents() if b"FAKE_HOST=b" in pathlib.Path(f"/proc/{p}/environ").read_bytes().split(b"\0")]
    os.kill(there[-1], signal.SIGKILL)
    assert j.ends() != 0
    said = numbered(j.out.read_text(), r"(failed: .*)")
    assert sorted(said) == [0, 2] and all("rank 1 " in t for t in said.values()), said
    j.leaves_nothing()


def test_a_terminal_shows_progress_below_the_lines(tmp_path):
    ours, theirs = pty.openpty()
    p = subprocess.Popen([str(OVERTAKE), "run", "-np", "2", *map(str, forever(tmp_path))], stdin=subprocess.DEVNULL,
                         stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while not re.search(rb"\r\x1b\[K\[\d+s\] 2 ranks, .* operations/s, .*/s sent", text):
            assert select.select([ours], [], [], PATIENCE)[0], text
            text += os.read(ours, 65536)
    finally:
        p.kill()
        p.wait()
        os.close(ours)
    assert b"\x1b[31m[0]\x1b[0m pid " in text


def test_a_terminal_shows_steps_and_samples_of_the_program():
    program = ("import overtake.collective as oc, numpy, time; oc.init(); x = numpy.ones(10, 'float32')\n"
               "for i in range(10 ** 6): oc.allreduce(x, name='x'); oc.step(32); time.sleep(0.01)")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "OVERTAKE_LIB": str(OVERTAKE.parent / "libovertake.so")}
    ours, theirs = pty.openpty()
    p = subprocess.Popen([str(OVERTAKE), "run", "-np", "2", "--", sys.executable, "-c", program],
                         stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    text = b""
    try:
        while not re.search(rb"2 ranks, [\d.]+ steps/s, [\d.]+ samples/s", text):
            assert select.select([ours], [], [], PATIENCE)[0], text
            text += os.read(ours, 65536)
    finally:
        p.kill()
        p.wait()
        os.close(ours)


# --- other launchers --------------------------------------------------------------------------------

def bare(tmp_path, **more):
    """An environment without a launcher, and with a home of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_", "SLURM_", "OVERTAKE_"))}
    return {**env, "HOME": str(tmp_path), **more}


def told(tmp_path, n):
    """What each of n ranks wrote into its file."""
    return [(tmp_path / f"rank-{i}").read_text() for i in range(n)]


def mpirun(tmp_path, n, *words, **env):
    if not shutil.which("mpirun"):
        pytest.skip("mpirun is not installed")
    return subprocess.run(["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(n), sys.executable, str(RANK), *words],
                          env=bare(tmp_path, **env), capture_output=True, timeout=PATIENCE)


def test_ranks_started_by_mpirun(tmp_path):
    r = mpirun(tmp_path, 3, f"out={tmp_path}")
    assert r.returncode == 0, r.stdout + r.stderr
    assert told(tmp_path, 3) == [f"3.0 of {i} 3 {i} 3 0 1" for i in range(3)]
    assert (tmp_path / ".config/overtake/job.key").stat().st_mode & 0o777 == 0o600


def test_settings_of_ranks_started_by_mpirun(tmp_path):
    r = mpirun(tmp_path, 2, "linger=1", OVERTAKE_SETTINGS="timeout=1s")
    said = r.stdout.decode()
    assert r.returncode != 0 and re.search(r"failed: grad: rank 1 .* 1s", said), said + r.stderr.decode()


def started(tmp_path, env_of, n, *words):
    """n ranks in the environments of another launcher, the last first: how each ended, and what it said."""
    ps = [subprocess.Popen([sys.executable, RANK, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           env=bare(tmp_path, **env_of(i))) for i in reversed(range(n))]
    ends = [(p.communicate(timeout=PATIENCE)[0].decode(), p.returncode) for p in ps]
    return list(reversed(ends))


def started_with(tmp_path, env_of, n):
    for text, code in started(tmp_path, env_of, n, f"out={tmp_path}"):
        assert code == 0, text
    assert told(tmp_path, n) == [f"{n}.0 of {i} {n} {i} {n} 0 1" for i in range(n)]


@pytest.fixture
def torchrun():
    """The variables that torchrun sets for rank i of two, and a port that is its store's."""
    with socket.socket() as store:
        store.bind(("127.0.0.1", 0))
        store.listen()
        yield lambda i: {"RANK": str(i), "WORLD_SIZE": "2", "LOCAL_RANK": str(i), "LOCAL_WORLD_SIZE": "2",
                         "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.getsockname()[1])}


def test_ranks_in_the_environment_of_torchrun(tmp_path, torchrun):
    started_with(tmp_path, torchrun, 2)


@pytest.mark.parametrize("values, culprit, why", [
    (["wire=half", "wire=fp16"], 1, "OVERTAKE_SETTINGS says 'wire = fp16', and rank 0's says 'wire = half'"),
    (["", "timeout=5s"], 1, "OVERTAKE_SETTINGS says 'timeout_us = 5000000', and rank 0's says 'timeout_us = 0'"),
    (["wire=fast", ""], 0, "OVERTAKE_SETTINGS='wire=fast': wire: 'fast' is not exact, half, fp16 or auto"),
    (["wire=half", "speed=3"], 1, "OVERTAKE_SETTINGS='speed=3': 'speed=3' is not NAME=VALUE with a name out of wire, "),
    (["wire=half wire-rank=2", ""], None, "")])
def test_settings_that_do_not_fit_are_named_on_all_ranks(tmp_path, torchrun, values, culprit, why):
    ends = started(tmp_path, lambda i: {**torchrun(i), "OVERTAKE_SETTINGS": values[i]}, 2)
    for text, code in ends:
        if culprit is None:
            assert code == 0, text
        else:
            assert code == 3 and f"rank {culprit} (host " in text and why in text, text


def test_settings_are_the_launcher_s_under_a_launcher(monkeypatch):
    monkeypatch.setenv("OVERTAKE_SETTINGS", "wire=fast")
    r = run("-np", 2, *ranks())
    assert r.returncode == 0 and r.stderr.count(b"OVERTAKE_SETTINGS is for other launchers") == 1, r.stderr


def test_ranks_in_the_environment_of_srun(tmp_path):
    job = str(os.getpid())
    started_with(tmp_path, lambda i: {"SLURM_PROCID": str(i), "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": str(i),
                                      "SLURM_STEP_ID": "0", "SLURM_JOB_ID": job, "SLURM_STEP_NUM_NODES": "1",
                                      "SLURM_STEP_NODELIST": "n1"}, 2)


def test_ranks_started_by_hand(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{s.getsockname()[1]}"
    started_with(tmp_path, lambda i: {"OVERTAKE_RANK": str(i), "OVERTAKE_SIZE": "3", "OVERTAKE_RENDEZVOUS": where}, 3)


def test_a_manifest_for_kubernetes_starts_ranks_that_meet(tmp_path):
    """Its pods are played here: the same command and variables, with rank 0's name and the key's place put in."""
    r = run("-np", 3, "--kubernetes", "image:1", "--name", "my-job", "-x", "EXTRA=1", *ranks(f"out={tmp_path}"))
    assert r.returncode == 0, r.stderr
    secret, service, job = json.loads(r.stdout)["items"]
    assert [o["kind"] for o in (secret, service, job)] == ["Secret", "Service", "Job"]
    spec = job["spec"]
    pod = spec["template"]["spec"]
    container, = pod["containers"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"].items() <= spec["template"]["metadata"]["labels"].items()
    assert (spec["completionMode"], spec["completions"], spec["parallelism"], pod["subdomain"]) == (
        "Indexed", 3, 3, service["metadata"]["name"])
    assert pod["volumes"][0]["secret"]["secretName"] == secret["metadata"]["name"] and container["image"] == "image:1"
    variables = {v["name"]: v.get("value") for v in container["env"]}
    index, = [v["valueFrom"]["fieldRef"]["fieldPath"] for v in container["env"] if "valueFrom" in v]
    assert "job-completion-index" in index and variables["OVERTAKE_RANK"] is None and variables["EXTRA"] == "1"
    mount = container["volumeMounts"][0]["mountPath"]
    assert variables["OVERTAKE_KEY_FILE"] == f"{mount}/key"
    host, _ = variables["OVERTAKE_RENDEZVOUS"].split(":")
    assert host == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    (tmp_path / "key").write_text(secret["stringData"]["key"])
    (tmp_path / "key").chmod(0o400)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        variables["OVERTAKE_RENDEZVOUS"] = f"127.0.0.1:{s.getsockname()[1]}"
    variables["OVERTAKE_KEY_FILE"] = str(tmp_path / "key")
    ps = [subprocess.Popen(container["command"], env=bare(tmp_path, **{**variables, "OVERTAKE_RANK": str(i)}),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for i in range(3)]
    for p in ps:
        text = p.communicate(timeout=PATIENCE)[0].decode()
        assert p.returncode == 0, text
    assert told(tmp_path, 3) == [f"3.0 of {i} 3 {i} 3 0 1" for i in range(3)]
    r = run("--kubernetes", "image", "--name", "Not_A_Label", *ranks())
    assert r.returncode == 1 and b"'Not_A_Label' can't name a job of Kubernetes" in r.stderr


def test_a_script_for_sbatch_is_the_line_again():
    line = ["--output-dir", "my logs", "--timeout", "90s", "-x", "A=it's", "--max-restarts", "2", "--", "echo", "a  b", "$HOME"]
    r = run("-np", 4, "--sbatch", *line)
    assert r.returncode == 0 and b"#SBATCH --ntasks=4\n" in r.stdout
    words = subprocess.run(["sh"], input=r.stdout.replace(b"exec overtake", b"exec printf '%s\\n' overtake"), capture_output=True)
    assert words.stdout.decode().splitlines() == [
        "overtake", "run", "--output-dir=my logs", "--timeout=90s", "--max-restarts=2", "--env=A=it's", "--", "echo", "a  b", "$HOME"]
