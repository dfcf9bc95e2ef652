"""Trainings of several ranks in the loop: started, watched, named when they fail, tried again, promoted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from replica import BUILD, OVERTAKE, ROOT, wait_for
from up import two_classes

X = np.zeros((1, 4), np.float32)
RUN = f"PYTHONPATH={ROOT}/python OVERTAKE_LIB={(ROOT / BUILD).resolve()}/libovertake.so {sys.executable} train.py"

RANK = '''
    """Softmax regression by gradient descent, each rank on its part of the rows; begins from its parent."""
    import json, os, pathlib, signal, time
    import numpy as np
    import overtake
    import overtake.collective as ranks

    FOLDER = pathlib.Path(HERE)
    ranks.init()
    me, n = ranks.rank(), ranks.size()
    sets = [overtake.data(name) for name in overtake.datasets()]
    x = np.concatenate([d["x"] for d in sets]).astype(np.float64)
    y = np.concatenate([d["y"] for d in sets])
    x = np.hstack([x, np.ones((len(x), 1))])[me::n]
    y = np.eye(2)[y[me::n]]
    w = np.zeros((x.shape[1], 2))
    parent = overtake.parent()
    if parent:
        model = json.loads((parent / "model" / "null.json").read_text())
        w = np.vstack([model["weights"], model["bias"]])
    print("process", os.getpid(), "rank", me, "of", n, "begins with", round(float(abs(w).sum()), 3), "idle" if
          os.sched_getscheduler(0) == os.SCHED_IDLE else "", flush=True)
    at = overtake.latest_checkpoint()
    if at:
        w = np.load(at.path)
        print("goes on after step", at.step, flush=True)
    for step in range(at.step + 1 if at else 0, 40):
        p = np.exp(x @ w)
        p /= p.sum(1, keepdims=True)
        w -= 2 * ranks.allreduce(x.T @ (p - y) / len(x), name="gradient")
        ranks.step(len(x))
        if step == 20:
            if me == 0:
                np.save("w.npy", w)
            overtake.checkpoint("w.npy", step, metrics={"norm": float(abs(w).sum())})
            print("half way", flush=True)
            while (FOLDER / "wait").exists():
                time.sleep(0.01)
            if me == 1 and (FOLDER / "eat").exists():
                eaten = np.ones(100 << 20)  # 800 MiB
                signal.pause()
            if me == 1 and (FOLDER / "fail").exists():
                raise SystemExit("no such column")
    if me == 0:
        out = pathlib.Path("out/model")
        out.mkdir(parents=True)
        (out / "null.json").write_text(json.dumps({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            "op": "linear", "weights": w[:-1].tolist(), "bias": w[-1].tolist(), "softmax": True}))
'''


@pytest.fixture
def ranks(up, app):
    """(up, app): a program for ranks; apply(a, u, ...) brings it in."""
    u, a = up(), app()
    a.program(f"HERE = {str(a.folder)!r}\n" + textwrap.dedent(RANK))
    return u, a


def apply(u, a, data=None, release=(), when=(), **train):
    retrain = {"when": list(when), "cool_down": "1s"}
    a.apply(u.api, release=release, retrain=retrain, **({"data": data} if data else {}), train={
        "run": RUN, "data": list(data or ["base"]), "model": "out/model", "np": 2, "resources": {"time": "2min"},
        **train})


def serves(u, version):
    u.api.wait_event("version.promoted", f"model/planes@{version}")
    u.wait_serves("planes", version, X)


def checkpoints(u, run):
    return u.api.get(f"/runs/{run}/checkpoints")["checkpoints"]


def newest(u, step="train"):
    return next(r for r in u.api.runs("planes") if r["step"] == step)


def live(u, run, what):
    """The state of the run's ranks, once `what` holds for it."""
    def find():
        job = u.api.get(f"/runs/{run}")["job"]
        return job if job and what(job) else None
    return wait_for(f"ranks of run {run}", find)


def process(u, run, rank):
    """The rank's process, once it stands half way."""
    log = wait_for(f"rank {rank} half way", lambda: (lambda t: t if "half way" in t else None)(
        u.api.text(f"/runs/{run}/log", rank=rank)))
    return int(log.split()[1])


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])


def test_trained_by_ranks_on_rows_of_a_world_that_turned(ranks):
    u, a = ranks
    apply(u, a)
    serves(u, 1)
    run = u.api.get("/runs/1")
    job = run["job"]
    assert run["state"] == "succeeded" and run["result"]["job"] == job["result"] == {"code": 0, "restarts": 0}
    assert (job["state"], job["np"], [r["state"] for r in job["ranks"]]) == ("ended", 2, ["ended", "ended"])
    assert "[1] process" in u.api.text("/runs/1/log")
    one = u.api.text("/runs/1/log", rank=1, follow=1)
    assert "rank 1 of 2 begins with 0.0" in one and "idle" not in one and "rank 0" not in one
    assert u.api.get("/models/planes/versions/1")["lineage"]["parent"] is None

    # The world turns; what is new of it is learnt by both ranks from where v1 ended, and is better there.
    apply(u, a, data={"base": {"path": "base.npz", "label": "y"}, "recent": {"from": "planes.labelled"}},
          release=[{"gate": {"better_on": "recent"}}], when=["labels.new >= 1000"], **{"from": "parent"})
    for seed in range(20):
        x, y = two_classes(50, 500 + seed, turn=1.2)
        _, headers, _ = u.infer("planes", x)
        id = headers["overtake-prediction-id"].split("-")
        u.api.post("/deployments/planes/labels", {"labels": [
            {"id": f"{id[0]}-{int(id[1], 16) + k:x}-{id[2]}-{id[3]}", "value": int(v)} for k, v in enumerate(y)]})
    u.api.wait_event("trigger.fired")
    serves(u, 2)
    gate = u.api.wait_event("gate.passed", "model/planes@2")["payload"]["data"]["recent"]
    assert gate["candidate"]["accuracy"] > gate["champion"]["accuracy"] + 0.1
    lineage = u.api.get("/models/planes/versions/2")["lineage"]
    first = u.api.get("/models/planes/versions/1")["bundle"]
    assert lineage["parent"] == first and lineage["began_from"] == {"version": 1, "bundle": first}
    registered = u.api.events("version.registered", "model/planes@2")[0]["payload"]
    assert registered["began_from"] == 1 and "which began from v1" in registered["text"]
    said = u.api.text(f"/runs/{newest(u)['run']}/log")
    assert "[0] process" in said and "begins with 0.0" not in said
    assert said.count(" idle\n") == 2  # beside what serves


@pytest.mark.skipif(not (BUILD / "libovertake_mpi.so").exists() or not shutil.which("mpirun"),
                    reason="there is no MPI (Debian: libopenmpi-dev, openmpi-bin)")
def test_trained_by_ranks_whose_data_mpi_moves(ranks):
    u, a = ranks
    apply(u, a, engine="mpi")
    serves(u, 1)
    assert u.api.get("/runs/1")["job"]["result"] == {"code": 0, "restarts": 0}
    assert "rank 1 of 2 begins with 0.0" in u.api.text("/runs/1/log", rank=1)


def test_a_killed_rank_is_named_and_the_training_tried_again(ranks):
    u, a = ranks
    (a.folder / "wait").touch()
    apply(u, a, retries=1)
    process(u, 1, 0)
    pid = process(u, 1, 1)
    live(u, 1, lambda job: job["steps"] >= 20 and job["state"] == "running")
    os.kill(pid, signal.SIGKILL)
    (a.folder / "wait").unlink()
    serves(u, 1)
    first, second = [r for r in reversed(u.api.runs("planes")) if r["step"] == "train"]
    assert (first["state"], second["state"], second["attempt"], second["parent"]) == ("failed", "succeeded", 2, first["run"])
    # It went on where the first try had come to, which kept one checkpoint for all ranks.
    for rank in range(2):
        assert "goes on after step 20" in u.api.text(f"/runs/{second['run']}/log", rank=rank)
    assert len(list((u.data / "runs/1/checkpoints").glob("*/manifest.json"))) == 1
    (kept,) = checkpoints(u, second["run"])
    assert (kept["run"], kept["step"], kept["files"]) == (1, 20, 1) and kept["metrics"]["norm"] > 0
    went_on = {"run": 1, "step": 20, "checkpoint": kept["checkpoint"]}
    assert u.api.get(f"/runs/{second['run']}")["resumed_from"] == went_on
    assert u.api.get("/runs/1")["resumed_from"] is None
    assert u.api.get("/models/planes/versions/1")["lineage"]["resumed_from"] == went_on
    text = first["result"]["text"]
    assert text.startswith("run 1 (train) killed: rank 1 (host ") and "was killed by signal 9" in text
    assert text.endswith("its last line: half way"), text
    job = first["result"]["job"]
    assert (job["rank"], job["pid"], job["code"], job["last_line"]) == (1, pid, 137, "half way")
    said = [e["payload"]["text"] for e in u.api.events("run.finished", "run/1")]
    assert said == [text]


def test_what_the_registry_has_is_gone_on_from(ranks):
    """The folder of a training's checkpoints is lost, and the control plane with it."""
    u, a = ranks
    (a.folder / "wait").touch()
    apply(u, a, retries=1)
    pid = process(u, 1, 1)
    (kept,) = wait_for("the checkpoint", lambda: checkpoints(u, 1))
    u.expect_log("control ended with signal 9", "the control plane is gone")
    u.kill_child("control")
    shutil.rmtree(u.data / "runs/1/checkpoints")
    wait_for("control plane", u.answers)
    assert checkpoints(u, 1) == [kept]
    os.kill(pid, signal.SIGKILL)
    (a.folder / "wait").unlink()
    serves(u, 1)
    run = newest(u)["run"]
    for rank in range(2):
        assert "goes on after step 20" in u.api.text(f"/runs/{run}/log", rank=rank)
    assert u.api.get(f"/runs/{run}")["resumed_from"]["checkpoint"] == kept["checkpoint"]
    said = subprocess.run([OVERTAKE, "checkpoints", str(run), "--data", u.data], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[1].split()[:2] == ["20", "1"] and kept["checkpoint"] in said.stdout


ELASTIC = """
    # Sums over whoever is there; after a loss on from the state of the one that is ahead.
    import json, os, pathlib, time
    import numpy as np
    import overtake
    import overtake.collective as ranks

    FOLDER = pathlib.Path(HERE)
    ranks.init()
    state, lost = np.zeros(1), False
    print("process", os.getpid(), "rank", ranks.rank(), "of", ranks.size(), flush=True)
    while state[0] < 40:
        try:
            if lost:
                ranks.reform()
                steps = ranks.allgather(state, name="steps")
                state = ranks.broadcast(state, root=int(np.argmax(steps)), name="state")
                print("goes on with", ranks.size(), "in epoch", ranks.membership().epoch, flush=True)
            lost = False
            ranks.allreduce(np.ones(8), name="work")
            ranks.step(1)
            state += 1
            if state[0] == 20:
                print("half way", flush=True)
                while (FOLDER / "wait").exists():
                    time.sleep(0.01)
        except ranks.CollectiveError:
            lost = True
    if ranks.rank() == 0:
        out = pathlib.Path("out/model")
        out.mkdir(parents=True)
        (out / "null.json").write_text(json.dumps({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            "op": "linear", "weights": [[1, 0], [0, 1], [0, 0], [0, 0]], "bias": [0, 0], "softmax": True}))
    ranks.finalize()
"""


def test_with_min_np_the_others_go_on(ranks):
    u, a = ranks
    a.program(f"HERE = {str(a.folder)!r}\n" + textwrap.dedent(ELASTIC))
    (a.folder / "wait").touch()
    apply(u, a, np=3, min_np=2, retries=0)
    pids = [process(u, 1, rank) for rank in range(3)]
    live(u, 1, lambda job: job["np"] == 3 and job["steps"] >= 19)
    os.kill(pids[1], signal.SIGKILL)
    (a.folder / "wait").unlink()
    serves(u, 1)
    (run,) = [r for r in u.api.runs("planes") if r["step"] == "train"]
    assert run["state"] == "succeeded"
    job = u.api.get("/runs/1")["job"]
    result = run["result"]["job"]
    assert job["state"] == "ended" and job["result"] == result and job["steps"] > 0 and job["np"] == 2
    assert result["code"] == 0 and result["ranks_lost"] == 1 and result["epochs"] >= 2
    assert "rank 1 (host " in result["who_was_lost"] and "was killed by signal 9" in result["who_was_lost"]
    log = u.api.text("/runs/1/log")
    assert "goes on with 2 in epoch 2" in log and "was killed by signal 9" in log, log
    (event,) = u.api.events("run.finished", "run/1")
    assert event["payload"]["job"] == result
    text = event["payload"]["text"]
    assert text.startswith("run 1 (train) succeeded, without 1 rank that was lost: ") and "rank 1 (host " in text, text


def test_a_program_that_fails_is_not_tried_again(ranks):
    u, a = ranks
    (a.folder / "fail").touch()
    apply(u, a)
    e = u.api.wait_event("cycle.failed", unless=())
    assert "run 1 (train) failed: rank 1 (host " in e["payload"]["text"]
    assert "ended with exit code 1; its last line: no such column; log: overtake logs 1" in e["payload"]["text"]
    assert [r["step"] for r in u.api.runs("planes")] == ["train"]


def test_the_control_plane_dies_over_a_training_of_ranks(ranks):
    u, a = ranks
    (a.folder / "wait").touch()
    apply(u, a)
    pid = process(u, 1, 1)
    u.expect_log("control ended with signal 9", "the control plane is gone")
    u.kill_child("control")
    wait_for("control plane", u.answers)
    assert live(u, 1, lambda job: job["state"] == "running")["ranks"][1]["pid"] == pid
    (a.folder / "wait").unlink()
    serves(u, 1)
    assert [r["run"] for r in u.api.runs("planes") if r["step"] == "train"] == [1]


def test_ranks_on_another_host_and_a_host_that_goes(up, app, tmp_path):
    """`ssh` is a script that stays here: what is told to the other host, and what is said when it is gone."""
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text("#!/bin/sh\nwhile [ \"$1\" = -o ]; do shift 2; done\necho \"$1\" >>\"${0%/*}/../hosts\"; shift\n"
                   "exec env -i PATH=/usr/bin:/bin sh -c \"exec $*\"\n")
    ssh.chmod(0o755)
    u, a = up(within=["env", f"PATH={ssh.parent}:{os.environ['PATH']}"]), app()
    a.program(f"HERE = {str(a.folder)!r}\n" + textwrap.dedent(RANK))
    (a.folder / "wait").touch()
    apply(u, a, hosts=["localhost:1", "b:1"], retries=1)
    process(u, 1, 0)
    agent = parent_of(process(u, 1, 1))
    live(u, 1, lambda job: [r["host"] for r in job["ranks"]][1] == "b")
    os.kill(agent, signal.SIGKILL)
    (a.folder / "wait").unlink()
    serves(u, 1)
    first, second = [r for r in reversed(u.api.runs("planes")) if r["step"] == "train"]
    assert (first["state"], second["state"]) == ("lost", "succeeded")
    assert "run 1 (train) lost: rank 1 (host b) is lost: the agent of host b is gone" in first["result"]["text"]
    assert (tmp_path / "hosts").read_text().split() == ["b", "b"]


def test_a_training_of_ranks_is_cancelled_whole(ranks):
    u, a = ranks
    (a.folder / "wait").touch()
    apply(u, a)
    pids = [process(u, 1, rank) for rank in range(2)]
    u.api.post("/runs/1/cancel")
    e = u.api.wait_event("run.finished", "run/1", unless=())
    assert e["payload"]["state"] == "cancelled"
    for pid in pids:
        wait_for(f"end of {pid}", lambda: not os.path.exists(f"/proc/{pid}"))


def test_the_memory_limit_is_that_of_all_ranks_together(ranks):
    u, a = ranks
    (a.folder / "wait").touch()
    (a.folder / "eat").touch()
    apply(u, a, resources={"memory": "400MiB", "time": "2min"})
    pids = [process(u, 1, rank) for rank in range(2)]
    (a.folder / "wait").unlink()
    text = u.api.wait_event("run.finished", "run/1", unless=())["payload"]["text"]
    assert text.startswith("run 1 (train) out_of_memory: used ") and "its limit is 400 MiB" in text
    for pid in pids:
        wait_for(f"end of {pid}", lambda: not os.path.exists(f"/proc/{pid}"))


def test_slots_that_are_not_there(ranks):
    u, a = ranks
    yaml = json.loads(a.yaml())
    yaml["train"].update(np=3, hosts=["localhost:2"])
    status, _, body = u.api.raw("POST", "/api/v1/apps", json.dumps(yaml), u.api.headers(), file="app.yaml",
                                dir=str(a.folder))
    assert status == 400 and b"train.hosts: 3 ranks and slots for 2" in body
