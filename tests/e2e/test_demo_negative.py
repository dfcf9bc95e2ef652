"""What the demo must not do: alarm when nothing changed, promote what did not learn, keep what is bad.
On the small path (scikit-learn, ONNX Runtime), with the demo's own app file, traffic and ledger."""

import sys

import pytest

from replica import OVERTAKE, ROOT

sys.path.insert(0, str(ROOT / "examples" / "digits"))
import demo  # noqa: E402
from traffic import failed  # noqa: E402

STALE = '''"""Forgets what is new and trains on what it knew."""
import os, pathlib, runpy, shutil
shutil.rmtree(pathlib.Path(os.environ["OVERTAKE_DATA"]) / "recent", ignore_errors=True)
runpy.run_path("train_sklearn.py", run_name="__main__")
'''


@pytest.fixture
def stack(tmp_path):
    s = demo.Stack(OVERTAKE, tmp_path / "digits", "onnx", rate=200, late=1.0)
    s.lay_out()
    s.start()
    yield s
    code = s.stop()
    assert code == 0, (s.work / "up.log").read_text()
    assert s.api and not s.labels.problem, s.labels.problem
    assert not failed(s.ledger.entries), failed(s.ledger.entries)[:3]
    assert len({e.id for e in s.ledger.entries}) == len(s.ledger.entries)


def alarms(s, after=0):
    return [(e["type"], e["text"]) for e in s.log.events if e["type"] in demo.ALARMS and e["seq"] > after]


def test_nothing_changes_and_nothing_happens_then_a_bad_push_is_caught(stack):
    stack.first_version()
    stack.begin_traffic()
    hurry = stack.bad_model()
    stack.learned()
    stack.requests(15 * stack.rate)
    drift = stack.state()["quality"]["drift"]
    assert 0 < drift["evidence"] < drift["threshold"] and drift["last_block_us"] > 0
    assert not alarms(stack)
    assert {e["type"] for e in stack.log.events if e["type"].startswith("run.")} == {"run.started", "run.finished"}
    assert len(stack.api.get("/runs", app="digits")["runs"]) == 3  # train, package, evaluate of v1

    assert hurry.wait(demo.PATIENCE) == 0
    gate, canary, back = stack.push_bad()
    assert back["object"] == canary["object"] == gate["object"] == "model/digits@2"
    assert stack.state()["champion"] == 1
    stack.until("v1 answers alone", lambda: stack.ledger.entries[-1].version == 1)
    seen = stack.ledger.of(version=2)
    assert 0 < len(seen) < len(stack.ledger.of(version=1, since_us=canary["time_us"]))
    evidence = back["payload"]["evidence"]
    assert evidence["only_champion_right"] > evidence["only_candidate_right"]


def test_a_program_that_ignores_what_is_new_does_not_pass_the_gate(stack):
    (stack.app / "train_stale.py").write_text(STALE)
    stack.edit("app.yaml", ("python train_sklearn.py", "python train_stale.py"), ("over: 20s", "over: 8s"))
    stack.first_version()
    stack.begin_traffic()
    stack.learned()
    before = stack.log.last()
    assert not alarms(stack)
    stack.source.enter("shifted", "before", 1.0)
    proof = stack.log.wait("quality.degraded", before)
    refused = stack.log.wait("gate.refused", proof["seq"], unless=("stage.entered", "version.promoted"))
    assert refused["object"] == "model/digits@2" and "not better on recent" in refused["text"]
    assert stack.state()["champion"] == 1
    assert {e.version for e in stack.ledger.entries} == {1}
