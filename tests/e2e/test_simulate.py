"""`overtake simulate` over a loop that fell, retrained and released by itself: the policy in force does again
what it did, another one does what its file says, and nothing of the recording changes."""

import hashlib
import json
import subprocess

import pytest

from replica import OVERTAKE, wait_for
from test_loop_closed import RECENT, TURN, Traffic, closed_app
from up import App, Up, two_classes

FOUND = ("drift.detected", "quality.at_risk", "quality.degraded", "quality.recovered")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(data directory, app, a rehearsal made while it ran, events): one fall, one retrain, one promotion."""
    folder = tmp_path_factory.mktemp("simulate")
    u, a = Up(folder / "data"), App(folder / "planes")
    t = Traffic(u, a.name)
    try:
        a.program(RECENT)
        a.apply(u.api, closed_app(a))
        u.api.wait_event("version.promoted", f"model/{a.name}@1")
        u.wait_serves(a.name, 1, two_classes(1, 99)[0])
        t.start()
        wait_for("500 labelled rows", lambda: u.api.app(a.name)["labels_new"] >= 500)
        t.turn = TURN
        after = u.api.head()
        u.api.wait_event("version.promoted", after=after, unless=())
        u.api.wait_event("probation.passed", after=after, unless=())

        def good():  # one that learnt from a mixture may be found wanting itself, and replaced
            version = u.api.app(a.name)["champion"]
            accuracy = u.api.get(f"/deployments/{a.name}/accuracy", version=version)
            return version > 1 and accuracy["labelled"] >= 800 and accuracy["estimate"] > 0.8
        wait_for("800 labelled rows of a version that meets the objective", good)

        def undisturbed():  # the loop may do more meanwhile, which the rehearsal then lacks
            head = u.api.head()
            answer = simulate(folder / "data", a, closed_app(a))
            return answer if u.api.happened(head) == [] else None
        running = wait_for("a rehearsal of all that has happened", undisturbed)
        assert t.end() == []
        events = u.api.events()
        u.stop()
    finally:
        t.stopping = True
        u.kill()
    return folder / "data", a, running, events


def run(data, a, yaml, *args):
    (a.folder / "proposed.yaml").write_text(yaml)
    return subprocess.run([str(OVERTAKE), "simulate", str(a.folder / "proposed.yaml"), "--data", str(data), *args],
                          capture_output=True, text=True)


def simulate(data, a, yaml, *args):
    done = run(data, a, yaml, "--output", "json", "--explain", *args)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def alarms(policy):
    return [(e["type"], e["text"]) for e in policy["events"] if e["type"] in FOUND]


def files(data):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(data.rglob("*"))
            if p.is_file() and p.name != "lock"}


def test_the_policy_in_force_does_again_what_it_did(recorded):
    data, a, running, _ = recorded
    for answer in (running, simulate(data, a, closed_app(a))):
        was, again = answer["policies"]["recorded"], answer["policies"]["in_force"]
        assert was["alarms"]["degraded"] >= 1 and was["retrains"] >= 1 and was["promotions"] >= 1
        assert [t for t, _ in alarms(again)] == [t for t, _ in alarms(was)]
        assert {k: again[k] for k in ("alarms", "retrains", "promotions", "rollbacks")} == \
               {k: was[k] for k in ("alarms", "retrains", "promotions", "rollbacks")}
        assert abs(again["labels"] - was["labels"]) <= 0.02 * was["labels"]
        assert answer["changed"] == [] and answer["policies"]["proposed"] == again


def test_without_retraining(recorded):
    data, a, *_ = recorded
    answer = simulate(data, a, closed_app(a, retrain={"when": []}))
    proposed, in_force = answer["policies"]["proposed"], answer["policies"]["in_force"]
    assert proposed["retrains"] == 0 and proposed["promotions"] == 0 and proposed["alarms"]["degraded"] >= 1
    assert proposed["below_us"]["accuracy"] > in_force["below_us"]["accuracy"] > 0
    assert proposed["accuracy"] < in_force["accuracy"]
    assert any("retrain" in line or "when" in line for line in answer["changed"])


def test_twice_the_same_and_nothing_changes(recorded):
    data, a, *_ = recorded
    before = files(data)
    yaml = closed_app(a, objectives={"accuracy": 0.9, "false_alarms": {"at_most": "1 per hour"}})
    first, second = (run(data, a, yaml, "--explain") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout and first.stderr == ""
    assert files(data) == before


def test_as_text(recorded):
    data, a, *_ = recorded
    done = run(data, a, closed_app(a, retrain={"when": []}))
    assert done.returncode == 0, done.stderr
    assert "proposed.yaml" in done.stdout and "in force" in done.stdout
    assert "0 retrains, 0 rollbacks, " in done.stdout and "your current policy: " in done.stdout
    for heading in ("what differs", "what was assumed"):
        assert f"\n{heading}\n" in done.stdout


def test_what_cannot_be_rehearsed(recorded, tmp_path):
    data, a, *_ = recorded

    def refused(text, yaml, where=data):
        done = run(where, a, yaml)
        assert done.returncode == 1 and text in done.stderr, done.stderr
    name = f'"app": "{a.name}"'
    refused(f"app 'other' is not in this data directory; it has {a.name}",
            closed_app(a).replace(name, '"app": "other"'))
    refused("rehearse with that one", closed_app(a, serve={"deployment": "elsewhere"}))
    refused("take a multiple of 500ms", closed_app(a, quality={"window": "400ms", "block": "1200ms"}))
    refused("holds nothing that was recorded", closed_app(a), tmp_path)
