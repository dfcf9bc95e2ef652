"""Models in worker processes: what their deaths and hangs cost, and what they may not do."""

import os
import pathlib
import re
import signal
import threading

import numpy as np
import pytest

import replica as r
from linear_model import ROWS, W, Load, check_linear, expected


X = np.zeros((1, 4), np.float32)


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
    r.write_raw(tmp_path / "models" / "m", r.linear(W, delay_us=100_000))
    s = serve(tmp_path / "models", "--isolation", "process", "--workers", 1)
    pid = worker_of(s)
    got = []
    asking = threading.Thread(target=lambda: got.append(s.infer("m", ROWS)))
    asking.start()
    threading.Event().wait(0.05)
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
