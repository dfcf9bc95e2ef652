"""The loop on a small app: train, package, register, evaluate, gate, release, serve; what people do; what goes
wrong in programs. Stages that wait for evidence are in other files."""

import json
import sys
import time

import numpy as np
import pytest

from replica import wait_for
from up import TRAIN, ApiError, Traffic, two_classes

X = two_classes(5, 99)[0]
WAIT = '''
    import pathlib, time
    while not pathlib.Path("/proc/self/cwd/../go").exists():
        time.sleep(0.01)
'''


@pytest.fixture
def loop(up, app):
    """(up, app) with version 1 serving."""
    u, a = up(), app()
    assert a.apply(u.api)["started"]
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    return u, a


def train(u, a, version):
    after = u.api.head()
    u.api.act(a.name, "train")
    return u.api.wait_event("version.promoted", f"model/{a.name}@{version}", after)


def texts(u, type):
    return [e["payload"]["text"] for e in u.api.events(type)]


def refused(status, text, fn, *args, **how):
    with pytest.raises(ApiError) as e:
        fn(*args, **how)
    assert e.value.status == status and text in e.value.message, e.value


# ---- from cause to champion


def test_first_version(loop):
    u, a = loop
    app = u.api.app("planes")
    assert (app["champion"], app["previous"], app["loop"], app["cycle"]["state"]) == (1, None, "running", "idle")
    chain = [e["type"] for e in reversed(u.api.get("/apps/planes/why")["chain"])]
    assert chain == ["app.applied", "run.started", "run.finished", "run.started", "run.finished",
                     "version.registered", "run.started", "run.finished", "gate.passed", "version.promoted"]
    why = u.api.get("/apps/planes/why")
    assert why["text"].startswith("v1 serves because v1 promoted") and why["serves"] is True
    (model,) = u.api.get("/models")["models"]
    assert (model["name"], model["champion"], model["latest"], model["versions"]) == ("planes", 1, 1, 1)
    (version,) = u.api.get("/models/planes")["list"]
    assert version["status"] == "champion" and version["format"] == "null" and version["run"] == 1
    # Training saw what it was given, and not what was held out.
    passed = u.api.events("gate.passed")[0]["payload"]
    held = passed["data"]["base"]["rows"]
    assert version["metrics"] == {"rows": 2000 - held} and 300 < held < 500
    assert passed["data"]["base"]["candidate"]["accuracy"] > 0.8


def test_it_answers_what_was_learnt(loop):
    u, _ = loop
    x, y = two_classes(500, 3)
    status, headers, answer = u.infer("planes", x)
    scores = np.array(answer["outputs"][0]["data"]).reshape(500, 2)
    assert status == 200 and (scores.argmax(1) == y).mean() > 0.8
    assert headers["overtake-prediction-id"].split("-")[2] == "1"


def test_second_version_and_back(loop):
    u, a = loop
    promoted = train(u, a, 2)
    assert promoted["payload"]["previous"] == 1
    u.wait_serves("planes", 2, X)
    statuses = {v["version"]: v["status"] for v in u.api.get("/models/planes")["list"]}
    assert statuses == {1: "retired", 2: "champion"}
    refused(400, "rollback needs a reason", u.api.act, "planes", "rollback", reason="")
    u.api.act("planes", "rollback", "it smells")
    u.wait_serves("planes", 1, X)
    app = u.api.app("planes")
    assert (app["champion"], app["previous"]) == (1, None)
    statuses = {v["version"]: v["status"] for v in u.api.get("/models/planes")["list"]}
    assert statuses == {1: "champion", 2: "refused"}
    refused(409, "no previous version", u.api.act, "planes", "rollback")
    why = u.api.get("/apps/planes/why")
    assert why["version"] == 1 and why["serves"]
    assert why["text"].startswith("v1 serves because v2 rolled back to v1 by tester: it smells")
    not_ = u.api.get("/apps/planes/why", version=2)["text"]
    assert not_.startswith("v2 does not serve because v2 rolled back to v1 by tester: it smells")


def test_a_restart_changes_nothing(loop):
    u, a = loop
    train(u, a, 2)
    before, events = u.api.app("planes"), u.api.events()
    u.stop()
    u.start()
    u.wait_serves("planes", 2, X)
    after = u.api.app("planes")
    for a_ in (before, after):
        del a_["quality"]  # the replica's last samples and windows came in
    assert after == before
    assert u.api.happened(events[-1]["seq"]) == []
    assert u.api.get("/apps/planes/why")["text"].startswith("v2 serves because")
    train(u, a, 3)


def test_the_program_of_a_run_is_what_was_applied(loop):
    u, a = loop
    (a.folder / "train.py").write_text("raise SystemExit('not applied')")
    train(u, a, 2)  # runs the snapshot


def test_two_apps(loop, app):
    u, a = loop
    b = app("other")
    b.apply(u.api)
    u.api.wait_event("version.promoted", "model/other@1")
    u.wait_serves("other", 1, X)
    assert {x["app"] for x in u.api.get("/apps")["apps"]} == {"planes", "other"}
    c = app("third")
    refused(409, "serve.deployment 'planes' belongs to app 'planes'", c.apply, u.api,
            serve={"deployment": "planes"})


def test_push(loop, tmp_path):
    u, a = loop
    folder = tmp_path / "pushed"
    folder.mkdir()
    (folder / "null.json").write_text(json.dumps({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "op": "linear", "weights": [[-1, 1], [0, 0], [0, 0], [0, 0]], "bias": [0, 0], "softmax": True}))
    refused(404, "nothing at '/nowhere'", u.api.act, "planes", "push", path="/nowhere")
    u.api.act("planes", "push", "by hand", path=str(folder))
    u.api.wait_event("version.promoted", "model/planes@2")
    u.wait_serves("planes", 2, X)
    assert "tester pushed" in u.api.get("/apps/planes/why")["text"]
    assert u.api.get("/models/planes")["list"][0]["run"] is not None


# ---- the gate


def test_the_gate_refuses_what_is_worse(loop):
    u, a = loop
    a.program(TRAIN.replace("np.eye(2)[y]", "np.eye(2)[1 - y]"))
    a.apply(u.api, release=[{"gate": {"not_worse_on": {"base": 0.02}}}])
    after = u.api.head()
    u.api.act("planes", "train")
    e = u.api.wait_event("gate.refused", "model/planes@2", after, unless=("version.promoted",))
    assert e["payload"]["data"]["base"]["champion"]["right"] > e["payload"]["data"]["base"]["candidate"]["right"]
    assert u.api.app("planes")["champion"] == 1 and u.api.app("planes")["failures"] == 1
    assert u.api.get("/models/planes")["list"][0]["status"] == "refused"
    assert u.version_that_answers("planes", X) == 1
    assert "does not serve because" in u.api.get("/apps/planes/why", version=2)["text"]


# ---- stages

STAGES = [{"gate": {"not_worse_on": {"base": 0.05}}},
          {"shadow": {"until": "200 compared", "at_most": "2min", "otherwise": "stop"}},
          {"canary": {"shares": ["30%"], "margin": 0.1, "at_most": "2min", "otherwise": "roll_back"}},
          {"probation": {"for": "2s", "roll_back_if": "worse_than_previous"}}]
BAD = ("cycle.failed", "gate.refused", "release.stopped", "version.rolled_back")


def test_a_second_version_through_all_stages(loop):
    u, a = loop
    a.apply(u.api, release=STAGES)
    with Traffic(u, "planes") as t:
        after = u.api.head()
        u.api.act("planes", "train")
        u.api.wait_event("probation.passed", "model/planes@2", after, unless=BAD)
    assert t.problems == [] and t.sent == t.answered and t.accepted == 8 * t.answered
    assert set(t.by_version) == {1, 2}
    entered = u.api.events("stage.entered", after=after)
    assert [e["payload"]["stage"] for e in entered] == ["shadow", "canary", "probation"]
    assert [e["payload"]["share"] for e in entered] == [0, 0.3, 1]
    assert entered[1]["payload"]["evidence"]["compared"] >= 200
    statuses = {v["version"]: v["status"] for v in u.api.get("/models/planes")["list"]}
    assert statuses == {1: "retired", 2: "champion"}
    why = u.api.get("/apps/planes/why")["text"]
    assert why.startswith("v2 serves because v2 promoted: ") and "v2 enters shadow" in why
    acc = u.api.get("/deployments/planes/accuracy", version=2)
    assert acc["lower"] < acc["right"] / acc["labelled"] < acc["upper"] and acc["estimate"] > 0.8


def test_a_worse_version_is_caught_in_the_shadow(loop):
    """Its gate is loose; the labels of live traffic are not."""
    u, a = loop
    a.program(TRAIN.replace("np.eye(2)[y]", "np.eye(2)[1 - y]"))
    a.apply(u.api, release=[{"gate": {"not_worse_on": {"base": 1.0}}}] + STAGES[1:])
    with Traffic(u, "planes") as t:
        after = u.api.head()
        u.api.act("planes", "train")
        stopped = u.api.wait_event("release.stopped", "model/planes@2", after, unless=("version.promoted", "cycle.failed"))
    pair = stopped["payload"]["evidence"]
    assert pair["candidate_right"] < pair["champion_right"] and pair["lower"] > 0
    assert t.problems == [] and t.sent == t.answered and set(t.by_version) == {1}
    assert u.api.app("planes")["champion"] == 1


def test_the_control_plane_dies_in_the_canary(loop):
    """The next one goes on with the same stage, and with what was compared before."""
    u, a = loop
    u.expect_log(r"control ended with signal 9", r"agent: the control plane is gone")
    # So small a margin takes thousands of labels: nothing is decided meanwhile.
    a.apply(u.api, release=[STAGES[1], {"canary": {"shares": ["30%"], "margin": 0.001, "at_most": "10min",
                                                   "otherwise": "roll_back"}}])
    with Traffic(u, "planes") as t:
        after = u.api.head()
        u.api.act("planes", "train")
        wait_for("the canary", lambda: u.api.app("planes")["cycle"].get("stage") == "canary")
        before = u.api.app("planes")["cycle"]
        u.kill_child("control")
        wait_for("control plane", u.answers)
        now = u.api.app("planes")["cycle"]
        assert (now["stage"], now["entered_us"], now["share"]) == ("canary", before["entered_us"], 0.3)
        compared = (before["evidence"] or {}).get("compared", 0)
        wait_for("more evidence", lambda: u.api.app("planes")["cycle"]["evidence"]["compared"] > compared + 50)
        assert len(u.api.events("stage.entered", after=after)) == 2
        u.api.act("planes", "rollback", "enough seen")
        u.api.wait_event("version.rolled_back", "model/planes@2", after)
        u.wait_serves("planes", 1, X)
    assert [p for p in t.problems if not isinstance(p, OSError)] == []  # labels met the dead control plane
    assert t.sent == t.answered


# ---- people


def test_pause_resume(loop):
    u, _ = loop
    u.api.act("planes", "pause", "stocktaking")
    app = u.api.app("planes")
    assert (app["loop"], app["held_by"], app["held_reason"]) == ("paused", "tester", "stocktaking")
    u.api.act("planes", "resume", "done")
    app = u.api.app("planes")
    assert app["loop"] == "running" and "held_by" not in app
    assert texts(u, "loop.") == ["paused by tester: stocktaking", "resumed by tester: done"]


def test_freeze(loop):
    u, _ = loop
    u.api.act("planes", "freeze", "audit")
    assert u.api.app("planes")["loop"] == "frozen"
    refused(409, "is frozen by tester: audit; resume it first", u.api.act, "planes", "train")
    refused(409, "is frozen", u.api.act, "planes", "push", path="/tmp")
    assert u.version_that_answers("planes", X) == 1
    u.api.act("planes", "resume")
    assert u.api.app("planes")["loop"] == "running"


def test_pin(loop):
    u, a = loop
    train(u, a, 2)
    u.wait_serves("planes", 2, X)
    refused(404, "9", u.api.act, "planes", "pin", version=9)
    refused(400, "pin needs a version", u.api.act, "planes", "pin")
    u.api.act("planes", "pin", "known to be good", version=1)
    u.wait_serves("planes", 1, X)
    app = u.api.app("planes")
    assert (app["champion"], app["previous"], app["loop"]) == (1, 2, "pinned")
    assert u.api.get("/apps/planes/why")["text"].startswith(
        "v1 serves because v1 pinned by tester: known to be good")
    u.stop()
    u.start()
    u.wait_serves("planes", 1, X)
    u.api.act("planes", "resume")
    assert u.api.app("planes")["loop"] == "running" and u.api.app("planes")["champion"] == 1


APPROVAL = [{"approval": {"at_most": "1h", "otherwise": "stop"}}]


def test_approve(up, app):
    u, a = up(), app()
    a.apply(u.api, release=APPROVAL)
    u.api.wait_event("approval.requested", "model/planes@1")
    app_ = u.api.app("planes")
    assert app_["champion"] is None and app_["cycle"]["stage"] == "approval"
    refused(409, "is releasing", u.api.act, "planes", "train")
    u.api.act("planes", "approve", "looks fine")
    e = u.api.wait_event("version.promoted", "model/planes@1")
    assert e["actor"] == "tester"
    u.wait_serves("planes", 1, X)
    refused(409, "nothing waits for an approval", u.api.act, "planes", "approve")


def test_reject(loop):
    u, a = loop
    a.apply(u.api, release=APPROVAL)
    u.api.act("planes", "train")
    u.api.wait_event("approval.requested", "model/planes@2")
    refused(400, "reject needs a reason", u.api.act, "planes", "reject", reason="")
    u.api.act("planes", "reject", "not today")
    u.api.wait_event("release.stopped", "model/planes@2")
    assert u.api.app("planes")["champion"] == 1 and u.api.app("planes")["cycle"]["state"] == "idle"
    assert u.version_that_answers("planes", X) == 1
    assert "not today" in u.api.get("/apps/planes/why", version=2)["text"]


def test_an_approval_waits_over_a_restart(up, app):
    u, a = up(), app()
    a.apply(u.api, release=APPROVAL)
    u.api.wait_event("approval.requested", "model/planes@1")
    u.stop()
    u.start()
    assert u.api.app("planes")["cycle"]["stage"] == "approval"
    assert len(u.api.events("approval.requested")) == 1
    u.api.act("planes", "approve")
    u.wait_serves("planes", 1, X)


def test_an_approval_that_nobody_gives(loop):
    u, a = loop
    a.apply(u.api, release=[{"approval": {"at_most": "100ms", "otherwise": "stop"}}])
    u.api.act("planes", "train")
    u.api.wait_event("release.stopped", "model/planes@2")
    assert u.api.app("planes")["champion"] == 1


def test_a_frozen_wait_does_not_run_out(loop):
    u, a = loop
    a.apply(u.api, release=[{"approval": {"at_most": "4s", "otherwise": "stop"}}])
    u.api.act("planes", "train")
    u.api.wait_event("approval.requested", "model/planes@2")
    u.api.act("planes", "freeze", "a change window")
    frozen = u.api.app("planes")
    assert frozen["loop"] == "frozen" and frozen["cycle"]["stage"] == "approval"
    wait_for("the end of the wait", lambda: time.time() * 1e6 > frozen["cycle"]["deadline_us"])
    u.api.act("planes", "pause")  # something happens, so that it is looked at
    assert u.api.app("planes")["cycle"]["stage"] == "approval"
    u.api.act("planes", "resume")
    assert u.api.app("planes")["cycle"]["deadline_us"] > frozen["cycle"]["deadline_us"]
    u.api.wait_event("release.stopped", "model/planes@2")


# ---- what goes wrong in programs


def cycle_failed(u, **how):
    return u.api.wait_event("cycle.failed", unless=("version.promoted",), **how)["payload"]["text"]


def test_no_model(up, app):
    """DESIGN's error, to the letter."""
    u, a = up(), app(out="out/modl")
    a.apply(u.api)
    assert cycle_failed(u) == ("run 1: exit 0, but no model at out/model; it wrote out/modl/. Fix train.model. "
                               "Log: overtake logs 1")
    assert u.api.app("planes")["failures"] == 1 and u.api.app("planes")["champion"] is None
    a.program(out="out/model")
    assert a.apply(u.api)["started"]  # nothing serves yet: it begins anew by itself
    u.api.wait_event("version.promoted", "model/planes@1", u.api.events("app.applied")[-1]["seq"])


def test_no_model_at_all(up, app):
    u, a = up(), app()
    a.program("print('nothing to do')")
    a.apply(u.api)
    assert cycle_failed(u) == "run 1: exit 0, but no model at out/model. Fix train.model. Log: overtake logs 1"


def test_a_program_that_fails(up, app):
    u, a = up(), app()
    a.program("import sys\nprint('starting')\nprint('KeyError: no column z', file=sys.stderr)\nsys.exit(3)\n")
    a.apply(u.api)
    text = cycle_failed(u)
    assert text.startswith("run 1 (train) failed: exit 3 after ")
    assert text.endswith("; its last line: KeyError: no column z; log: overtake logs 1")
    finished = u.api.events("run.finished")[0]["payload"]
    assert finished["exit_code"] == 3 and "KeyError: no column z" in finished["log_tail"]
    run = u.api.get("/runs/1")
    assert run["state"] == "failed" and run["result"]["exit_code"] == 3
    assert len(u.api.runs("planes")) == 1  # its own fault: not tried again


def test_a_program_that_crashes(up, app):
    u, a = up(), app()
    a.program("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    a.apply(u.api, run=f"exec {sys.executable} train.py")
    assert "run 1 (train) failed" in cycle_failed(u)
    assert u.api.events("run.finished")[0]["payload"]["signal"] == 11


def test_a_program_that_is_killed_is_tried_again(up, app):
    u, a = up(), app()
    a.program("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    a.apply(u.api, train={"run": f"exec {sys.executable} train.py", "data": ["base"],
                          "model": "out/model", "retries": 1})
    cycle_failed(u)
    runs = u.api.runs("planes")
    assert [(r["run"], r["attempt"], r["state"]) for r in runs] == [(2, 2, "failed"), (1, 1, "failed")]


def test_a_program_that_does_not_exist(up, app):
    u, a = up(), app()
    a.apply(u.api, run="no-such-program")
    assert "run 1 (train) failed" in cycle_failed(u)
    assert "not found" in u.api.text("/runs/1/log")


def test_a_model_that_is_none(up, app):
    u, a = up(), app()
    a.program("import os\nos.makedirs('out/model')\nopen('out/model/model.bin', 'wb').write(b'x' * 100)\n")
    a.apply(u.api)
    assert "run 2 (package) failed" in cycle_failed(u)
    assert "out/model" in u.api.text("/runs/2/log")


def test_a_program_that_takes_too_long(up, app):
    u, a = up(), app()
    a.program(WAIT)
    a.apply(u.api, train={"run": f"{sys.executable} train.py", "data": ["base"], "model": "out/model",
                          "resources": {"time": "1s"}})
    assert "timed_out" in cycle_failed(u)


def test_data_that_are_not_there(up, app):
    u, a = up(), app()
    (a.folder / "base.npz").unlink()
    a.apply(u.api)
    text = cycle_failed(u)
    assert "base" in text and "base.npz" in text
    assert u.api.get("/runs/1")["state"] == "failed"


def test_failures_pause_the_loop(up, app):
    u, a = up(), app()
    a.program("raise SystemExit(1)")
    a.apply(u.api, retrain={"when": [], "pause_after": "2 failures", "cool_down": "1s"})
    after = u.api.wait_event("cycle.failed", unless=())["seq"]
    u.api.act("planes", "train")
    u.api.wait_event("loop.paused", after=after, unless=())
    app_ = u.api.app("planes")
    assert (app_["loop"], app_["held_by"], app_["failures"]) == ("paused", "overtake", 2)
    assert "2 failures in a row" in app_["held_reason"]
    u.api.act("planes", "resume", "found it")
    assert u.api.app("planes")["failures"] == 0


def test_cancel(loop):
    u, a = loop
    a.program(WAIT)
    a.apply(u.api)
    u.api.act("planes", "train")
    run = wait_for("a run", lambda: [r for r in u.api.runs("planes") if r["state"] == "running"])[0]["run"]
    assert u.api.post(f"/runs/{run}/cancel") == {"run": run}
    u.api.wait_event("cycle.failed", unless=())
    assert u.api.get(f"/runs/{run}")["state"] == "cancelled"
    assert u.api.app("planes")["failures"] == 0  # nobody's fault
    assert texts(u, "run.cancel_asked") == [f"run {run} cancelled by tester: no reason given"]
    refused(409, "has ended", u.api.post, f"/runs/{run}/cancel")
    assert u.version_that_answers("planes", X) == 1
