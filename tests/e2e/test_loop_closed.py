"""The loop closed on live traffic: labels prove a fall, a retrain learns from labelled traffic, the
release compares both versions on the same rows. The world is a plane between two classes that turns."""

import json
import sys
import threading
import time

import numpy as np
import pytest

from replica import wait_for
from up import ApiError, two_classes

TURN = 1.2  # radians: the old plane is then right for about 70%

QUALITY = {"window": "500ms", "block": "1s", "blocks_per_day": 8, "baseline": 4, "cycles": "none"}


class Traffic(threading.Thread):
    """Rows of the world as it turns, one request at a time; labels come a little later, by prediction
    id. Everything that is not an answer with an id is noted."""

    def __init__(self, up, name, rate=150, seed=7):
        super().__init__(daemon=True)
        self.up, self.name, self.rate, self.seed = up, name, rate, seed
        self.turn, self.shift, self.label, self.stopping = 0.0, 0.0, True, False
        self.sent = self.right = 0
        self.faults, self.by_version, self.pending = [], {}, []

    def run(self):
        start, batch = time.monotonic(), []
        while not self.stopping:
            x, y = two_classes(1, self.seed * 1_000_003 + self.sent, self.turn)
            x[:, 2] += self.shift  # says nothing about y
            self.sent += 1
            try:
                status, headers, answer = self.up.infer(self.name, x)
                if status != 200:
                    raise ValueError(f"{status} {answer}")
                guess = int(np.argmax(answer["outputs"][0]["data"]))
                version = int(answer["model_version"])
                tally = self.by_version.setdefault(version, [0, 0])
                tally[0] += 1
                tally[1] += guess == y[0]
                batch.append({"id": headers["overtake-prediction-id"], "value": int(y[0])})
            except (OSError, ValueError, KeyError) as e:
                self.faults.append(repr(e))
            if len(batch) >= 60 and self.label:
                self.pending.append(batch)
                batch = []
            if len(self.pending) > 2:  # a labeller is always a few batches behind
                self.post(self.pending.pop(0))
            wait = start + self.sent / self.rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)

    def post(self, batch):
        try:
            self.up.api.post(f"/deployments/{self.name}/labels", {"labels": batch})
        except (OSError, ApiError) as e:
            self.faults.append(f"labels: {e!r}")

    def end(self):
        self.stopping = True
        self.join(30)
        return self.faults


def push_inverted(u, a, folder, **more):
    """Somebody pushes a version that says the opposite, past a gate that lets everything through."""
    hurry = [{"gate": {"require": "candidate.base > 0.01"}},
             {"canary": {"shares": ["20%"], "margin": 0.1, "at_most": "60s"}}]
    a.apply(u.api, closed_app(a, release=hurry, **more))
    x, y = two_classes(2000, 1)
    w, *_ = np.linalg.lstsq(np.hstack([x, np.ones((2000, 1))]), np.eye(2)[1 - y], rcond=None)
    bad = folder / "bad" / "model"
    bad.mkdir(parents=True)
    (bad / "null.json").write_text(json.dumps({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "op": "linear", "weights": w[:-1].tolist(), "bias": w[-1].tolist(), "softmax": True}))
    u.api.act(a.name, "push", path=str(bad))


def closed_app(a, **more):
    release = [{"gate": {"better_on": "recent", "not_worse_on": {"base": 0.6}}},
               {"shadow": {"until": "60 compared", "at_most": "60s", "otherwise": "stop"}},
               {"canary": {"shares": ["20%"], "margin": 0.1, "at_most": "60s"}},
               {"probation": {"for": "3s"}}]
    return a.yaml(**{
        "data": {"base": {"path": "base.npz", "label": "y"},
                 "recent": {"from": f"{a.name}.labelled", "label": "y", "last": "6s"}},
        "train": {"run": more.pop("run", None) or sys.executable + " train.py",
                  "data": ["base", "recent"], "model": "out/model"},
        "quality": QUALITY,
        "objectives": {"accuracy": 0.8, "false_alarms": {"at_most": "1 per hour"}},
        "retrain": {"when": ["accuracy.degraded and labels.new >= 300"], "cool_down": "1s",
                    "at_most": "20 per day", "pause_after": "20 failures"},
        "release": release, **more})


RECENT = '''
    import json, os, pathlib
    import numpy as np
    data = pathlib.Path(os.environ["OVERTAKE_DATA"])
    d = data / "recent" if (data / "recent").is_dir() else data / "base"
    x, y = np.load(d / "x.npy").astype(np.float64), np.load(d / "y.npy")
    a = np.hstack([x, np.ones((len(x), 1))])
    w, *_ = np.linalg.lstsq(a, np.eye(2)[y], rcond=None)
    out = pathlib.Path(OUT)
    out.mkdir(parents=True)
    (out / "null.json").write_text(json.dumps({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "op": "linear", "weights": w[:-1].tolist(), "bias": w[-1].tolist(), "softmax": True}))
'''


@pytest.fixture
def world(up, app):
    """(up, app, traffic) with version 1 serving and traffic on."""
    u, a = up(), app()
    a.program(RECENT)
    a.apply(u.api, closed_app(a))
    u.api.wait_event("version.promoted", f"model/{a.name}@1")
    u.wait_serves(a.name, 1, two_classes(1, 99)[0])
    t = Traffic(u, a.name)
    t.start()
    yield u, a, t
    t.end()


def test_the_loop_closes(world):
    u, a, t = world
    wait_for("500 labelled rows", lambda: u.api.app(a.name)["labels_new"] >= 500)
    assert not u.api.events("quality.degraded")
    accuracy = u.api.get(f"/deployments/{a.name}/accuracy", version=1)
    assert accuracy["labelled"] >= 500 and accuracy["lower"] < accuracy["estimate"] < accuracy["upper"]
    after = u.api.head()
    t.turn = TURN
    # The first tries may have too few rows of the new world; the gate refuses them.
    promoted = u.api.wait_event("version.promoted", after=after, unless=("cycle.failed",))
    types = [e["type"] for e in u.api.events(after=after)]
    for step in ("quality.degraded", "trigger.fired", "gate.passed", "stage.entered"):
        assert step in types, types
    # A version that learnt from a mixture may itself be found wanting, and replaced.
    passed = u.api.wait_event("probation.passed", after=after, unless=("version.rolled_back",))
    new = u.api.app(a.name)["champion"]
    assert passed["object"] == f"model/{a.name}@{new}" and new > 1
    n, right = t.by_version[new]
    wait_for("answers of the new version", lambda: t.by_version[new][0] >= n + 200)
    assert (t.by_version[new][1] - right) / (t.by_version[new][0] - n) > 0.8, t.by_version
    assert not t.end(), t.faults
    time_ = promoted["payload"]["time"]
    assert time_["total_us"] == sum(time_[k] for k in ("training_us", "jobs_us", "evidence_us", "control_us"))
    why = u.api.get(f"/apps/{a.name}/why")
    assert "accuracy" in why["text"] and "retrain" in why["text"], why["text"]


def test_a_program_that_ignores_the_new_rows_is_refused(world):
    u, a, t = world
    a.program(RECENT.replace('data / "recent" if (data / "recent").is_dir() else ', ""))
    a.apply(u.api, closed_app(a))
    wait_for("300 labelled rows", lambda: u.api.app(a.name)["labels_new"] >= 300)
    after = u.api.head()
    t.turn = TURN
    refused = u.api.wait_event("gate.refused", after=after, unless=("cycle.failed", "version.promoted"))
    assert "not better on recent" in refused["payload"]["text"]
    assert u.api.app(a.name)["champion"] == 1
    assert not t.end(), t.faults


def test_without_a_change_nothing_happens(world):
    u, a, t = world
    wait_for("1500 labelled rows", lambda: u.api.app(a.name)["labels_new"] >= 1500)
    types = {e["type"] for e in u.api.events()}
    assert not types & {"quality.degraded", "quality.at_risk", "drift.detected", "trigger.fired"}, types
    assert u.api.app(a.name)["champion"] == 1
    assert not t.end(), t.faults


def test_the_canary_catches_what_the_gate_lets_through(world, tmp_path):
    u, a, t = world
    wait_for("300 labelled rows", lambda: u.api.app(a.name)["labels_new"] >= 300)
    after = u.api.head()
    push_inverted(u, a, tmp_path)
    back = u.api.wait_event("version.rolled_back", f"model/{a.name}@2", after,
                            unless=("cycle.failed", "version.promoted"))
    assert "worse as canary" in back["payload"]["text"] and back["payload"]["evidence"]["candidate_answered"] >= 0
    n, right = t.by_version[1]
    wait_for("version 1 alone", lambda: t.by_version[1][0] >= n + 100)
    assert u.api.app(a.name)["champion"] == 1
    assert not t.end(), t.faults


def test_control_plane_killed_and_predictions_go_on(world):
    u, a, t = world
    wait_for("100 labelled rows", lambda: u.api.app(a.name)["labels_new"] >= 100)
    t.label = False
    t.pending.clear()
    sent = t.sent
    wait_for("the last batch of labels", lambda: t.sent >= sent + 3)
    u.expect_log("the control plane is gone", "control ended with signal 9")
    u.kill_child("control")
    wait_for("predictions meanwhile", lambda: t.sent >= sent + 100)
    assert not t.end(), t.faults
    wait_for("the control plane again", u.answers)
    joined = u.api.app(a.name)["labels_new"]
    assert joined >= 100 and u.api.get("/events/verify")["ok"]
