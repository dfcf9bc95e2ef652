"""Models in worker processes: what their deaths and hangs cost, and what they may not do."""

import ctypes
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import threading

import numpy as np
import pytest

import replica as r
from linear_model import ROWS, W, Load, check_linear, expected


X = np.zeros((1, 4), np.float32)
WORKED = "write: done; read: done; socket: done; exec: done"


def children(pid):
    """{pid: state} of the living child processes of `pid`."""
    out = {}
    for p in pathlib.Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                fields = (p / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                out[int(p.name)] = fields[0]
    return out


def command(pid):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def worker_of(s):
    found = children(s.process.pid)
    assert len(found) == 1, found
    return next(iter(found))


def status_of(pid, key):
    return re.search(rf"^{key}:\s*(\S+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1]


@pytest.fixture
def isolated(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    return serve(tmp_path / "models", "--isolation", "process", "--workers", 2)


def answers(s, model="m"):
    status, _, body = s.infer(model, ROWS)
    return status == 200 and np.allclose(np.reshape(body["outputs"][0]["data"], (3, 2)), expected(ROWS))


def test_answers_are_the_same_and_say_where_they_come_from(isolated):
    assert answers(isolated)
    note = isolated.get("/v2/models/m")["parameters"]["note"]
    assert "in a worker process" in note
    load = Load(isolated, check_linear, clients=8)
    threading.Event().wait(0.5)
    load.end()


def test_it_is_no_less_urgent_than_the_server(isolated):
    """What loads it is: a model that is served must not compute at a loader's priority."""
    nice = [os.getpriority(os.PRIO_PROCESS, p) for p in (worker_of(isolated), isolated.process.pid)]
    assert nice[0] == nice[1], nice


def test_what_the_process_has_given_up(isolated):
    pid = worker_of(isolated)
    note = isolated.get("/v2/models/m")["parameters"]["note"]
    if "seccomp" in note or "Landlock" in note:
        pytest.skip(note)
    assert status_of(pid, "Seccomp") == "2" and status_of(pid, "NoNewPrivs") == "1"
    opened = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    # Nothing but its log, its end of the socket and what it reads: no listener, no connection.
    assert sum("socket:" in x for x in opened) == 1, opened


def test_a_killed_process_comes_back(isolated):
    pid = worker_of(isolated)
    os.kill(pid, signal.SIGKILL)
    r.wait_for("the process is started again", lambda: answers(isolated))
    assert worker_of(isolated) != pid
    log = pathlib.Path(isolated.log_path).read_text()
    assert f"model m version 1: its worker process {pid} was killed by signal 9" in log
    assert "started again" in log


def test_a_run_in_flight_is_answered_with_the_death(tmp_path, serve):
    # The golden and the warm-up runs are quick: the delay is an option of the model's file.
    r.write_raw(tmp_path / "models" / "m", r.linear(W, delay_us=200_000))
    s = serve(tmp_path / "models", "--isolation", "process", "--workers", 1)
    pid = worker_of(s)
    got = []
    asking = threading.Thread(target=lambda: got.append(s.infer("m", ROWS)))
    asking.start()
    r.wait_for("its run", lambda: re.search(r"^overtake_oldest_run_seconds\{.*\} 0\.[0-9]*[1-9]",
                                            s.request("GET", "/metrics")[2].decode(), re.M))
    os.kill(pid, signal.SIGSEGV)
    asking.join()
    status, _, body = got[0]
    assert status == 503 and "model m version 1" in body["error"], body
    assert str(pid) in body["error"] and "signal 11" in body["error"], body
    r.wait_for("answers again", lambda: answers(s))


def test_a_hang_costs_only_the_model_that_hangs(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    r.write_raw(tmp_path / "models" / "other", r.linear(W))
    s = serve(tmp_path / "models", "--isolation", "process", "--workers", 1, "--hang-kill", "700ms")
    pid = next(p for p in children(s.process.pid) if "m version 1" in command(p))
    os.kill(pid, signal.SIGSTOP)
    assert answers(s, "other")
    status, _, body = s.infer("m", ROWS)
    assert status == 503 and f"model m version 1: its worker process {pid}" in body["error"], body
    assert "within 700ms" in body["error"], body
    assert answers(s, "other")
    r.wait_for("it is started again", lambda: answers(s))
    assert f"process {pid} was ended" in pathlib.Path(s.log_path).read_text()


def test_the_end_of_the_server_is_theirs(isolated):
    pid = worker_of(isolated)
    isolated.process.kill()
    isolated.process.wait()
    r.wait_for("the worker is gone", lambda: not pathlib.Path(f"/proc/{pid}").exists()
               or status_of(pid, "State") in "ZX")


def test_unloading_ends_the_process_and_its_folder(tmp_path, serve, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    s = serve(tmp_path / "models", "--isolation", "process", "--model-control", "explicit", ready=False)
    for _ in range(3):
        assert s.post("/v2/repository/models/m/load")[0] == 200
        assert answers(s)
        assert len(list(tmp_path.glob("overtake-worker-*"))) == 1
        assert s.post("/v2/repository/models/m/unload")[0] == 200
        r.wait_for("no process", lambda: children(s.process.pid) == {})
        r.wait_for("no folder", lambda: list(tmp_path.glob("overtake-worker-*")) == [])


def test_a_crash_while_loading_is_told(tmp_path, serve):
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "null.json").write_text("{")
    s = serve(tmp_path / "models", "--isolation", "process", ready=False)
    r.wait_for("told", lambda: "m@1 failed: null: " in pathlib.Path(s.log_path).read_text())
    assert children(s.process.pid) == {}


def test_the_control_plane_says_which(managed, bundles):
    plane, start = managed
    apart = r.variant("champion", 1, bundles(1), 1, model="a") | {"isolation": "process"}
    here = r.variant("champion", 2, bundles(2), 1, model="h") | {"isolation": "none"}
    plane.want(r.deployment(apart, name="apart"), r.deployment(here, name="here"))
    s = start()
    plane.wait_observed()
    assert "a version 1" in command(worker_of(s))
    for name, k in (("apart", 1), ("here", 2)):
        status, _, body = s.infer(name, ROWS)
        assert status == 200
        assert np.allclose(np.reshape(body["outputs"][0]["data"], (3, 2)), expected(ROWS) + k)


def test_the_control_plane_says_how_much_memory(managed, bundles):
    plane, start = managed
    apart = r.variant("champion", 1, bundles(1), 1) | {"isolation": "process"}
    plane.want({**r.deployment(apart), "limits": {"process_memory_bytes": 1 << 20}})
    s = start(ready=False)

    def told():
        status, _, body = s.infer("m", ROWS)
        return status == 503 and "more than the 1 MiB that its process may (process_memory)" in body["error"]
    r.wait_for("it holds more", told)
    plane.want({**r.deployment(apart), "limits": {}})
    other = r.variant("champion", 2, bundles(2), 1) | {"isolation": "process"}
    plane.want({**r.deployment(other), "limits": {"process_memory_bytes": 1 << 30}})
    r.wait_for("one with room answers", lambda: s.infer("m", ROWS)[0] == 200)


def test_what_was_brought_runs_apart_what_was_trained_does_not(up, app, tmp_path):
    u, a = up(), app()
    a.apply(u.api)
    u.wait_serves("planes", 1, X)
    assert children(u.child("serve")) == {}
    brought = tmp_path / "brought"
    r.write_raw(brought, r.linear([[-1, 1], [0, 0], [0, 0], [0, 0]], bias=[0, 0], softmax=True))
    u.api.act("planes", "push", path=str(brought))
    u.wait_serves("planes", 2, X)
    (worker,) = children(u.child("serve"))
    assert "planes version 2" in command(worker)
    a.apply(u.api, serve={"deployment": "planes", "isolation": "none"})
    r.wait_for("it runs in the replica", lambda: children(u.child("serve")) == {})
    assert u.version_that_answers("planes", X) == 2


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A runtime whose models attack who loads them. hostile(FOLDER) writes one; hostile.victim is what it is after."""
    cc = shutil.which("cc") or shutil.which("gcc")
    if cc is None:
        pytest.skip("no C compiler to build the hostile runtime with")
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 1:  # landlock_create_ruleset: its version
        pytest.skip("the kernel has no Landlock")
    if not re.search(r"^Seccomp:", pathlib.Path("/proc/self/status").read_text(), re.M):
        pytest.skip("the kernel has no seccomp")
    plugins, victim = tmp_path / "plugins", tmp_path / "victim"
    plugins.mkdir()
    victim.mkdir()
    (victim / "secret").write_text("do not read")
    subprocess.run([cc, "-shared", "-fPIC", f"-I{r.ROOT}/include", "-o", plugins / "overtake_hostile.so",
                    r.ROOT / "tests/e2e/hostile_plugin.c"], check=True)
    monkeypatch.setenv("OVERTAKE_PLUGIN_PATH", str(plugins))

    def model(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.hostile").write_text(str(victim))
        return folder / "model.hostile"
    model.victim = victim
    return model


def job(folder, verb, **spec):
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"result": str(folder / "result.json"), **spec}))
    done = subprocess.run([r.OVERTAKE, verb, folder / "job.json"], capture_output=True, text=True, timeout=r.PATIENCE)
    assert done.returncode != 0
    return done.stderr


def refused(text, victim):
    attempts = dict(re.findall(r"(write|read|socket|exec): ([^;\n]*)", text))
    return len(attempts) == 4 and "done" not in attempts.values() and [p.name for p in victim.iterdir()] == ["secret"]


def test_packing_runs_the_model_apart(hostile, tmp_path):
    model = hostile(tmp_path / "model")
    (tmp_path / "model" / "secret").write_text("of another model")
    model.write_text(str(tmp_path / "model"))  # what lies beside a lone file is none of its business
    for i, isolation in enumerate(("process", "none")):
        said = job(tmp_path / f"job{i}", "package", model=str(model), bundle=str(tmp_path / f"bundle{i}"),
                   isolation=isolation)
        if isolation == "process":
            assert "write: " in said and "done" not in said, said
            assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.hostile", "secret"]
        else:
            assert WORKED in said, said  # the attacks are real ones


def test_judging_runs_each_version_apart(hostile, tmp_path):
    bundle = tmp_path / "bundle"
    model = hostile(bundle / "model")
    data = model.read_bytes()
    (bundle / "manifest.json").write_text(json.dumps({
        "schema": "overtake.bundle/1", "format": "hostile",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "prediction": {"output": "y", "kind": "scores"},
        "files": [{"path": "model/model.hostile", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}]}))
    apart = {"name": "candidate", "dir": str(bundle), "isolation": "process"}
    said = job(tmp_path / "apart", "evaluate", bundles=[apart], data=[])
    assert refused(said, hostile.victim), said
    said = job(tmp_path / "here", "evaluate", bundles=[apart | {"isolation": "none"}], data=[])
    assert WORKED in said, said
    assert "isolation" in job(tmp_path / "odd", "evaluate", bundles=[apart | {"isolation": "some"}], data=[])


def test_what_was_brought_is_packed_apart(hostile, up, app, tmp_path):
    u, a = up(), app()
    a.apply(u.api)
    u.wait_serves("planes", 1, X)
    u.api.act("planes", "push", path=str(hostile(tmp_path / "brought")))
    failed = u.api.wait_event("cycle.failed", unless=())
    text = json.dumps([failed, u.api.events("run.finished")])
    assert refused(text, hostile.victim), text
    assert u.version_that_answers("planes", X) == 1
