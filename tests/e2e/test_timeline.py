"""`overtake run --timeline` and `--explain`: what ranks did when, and what bounds their steps."""

import json
import os
import subprocess
import sys

import pytest

import chrome_trace
from replica import OVERTAKE, PATIENCE, ROOT, wait_for
from test_run_hosts import hosts, ip, net  # noqa: F401: fixtures

RANK = ROOT / "tests/e2e/explain_rank.py"
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "OVERTAKE_LIB": str(OVERTAKE.parent / "libovertake.so")}


def run(*options, program, within=(), code=0):
    r = subprocess.run([*within, str(OVERTAKE), "run", *map(str, options), "-x", "PYTHONPATH", "-x", "OVERTAKE_LIB", "--",
                        sys.executable, str(RANK), *map(str, program)], capture_output=True, text=True, timeout=PATIENCE, env=ENV)
    assert r.returncode == code, r.stderr
    return r


def explain(*program, options=("-np", 3), within=()):
    return json.loads(run(*options, "--explain", "--output", "json", program=program, within=within).stdout)["explain"]


# --- the timeline -------------------------------------------------------------------------------------

def names(events, rank):
    return [e["name"] for e in events if e["ph"] == "b" and e["pid"] == rank]


def test_every_tensor_of_every_rank_is_in_one_file(tmp_path):
    run("-np", 3, "--timeline", tmp_path / "t.json", program=("slow", 4))
    events, other = chrome_trace.read(tmp_path / "t.json")
    for rank in range(3):
        seen = names(events, rank)
        assert all(seen.count(f'layer"{i}"/w') == 4 for i in range(10)), seen
        assert all(seen.count(p) == 40 for p in ("plan", "queue", "pack", "wire", "unpack")), seen
        assert seen.count("reduce") > 0
        assert sum(e["ph"] == "i" and e["name"] == "step" for e in events if e["pid"] == rank) == 4
    assert [r["rank"] for r in other["ranks"]] == [0, 1, 2] and other["ranks_that_are_not_complete"] == 0
    assert all(r["dropped"] == 0 and r["clock"] is not None for r in other["ranks"])
    assert list(tmp_path.iterdir()) == [tmp_path / "t.json"]
    # Who was late is said: the last to ask for an operation, and in the slices of those who waited.
    ops = [e for e in events if e["ph"] == "b" and e["name"].startswith("layer") and e["pid"] != 1]
    assert sum(e["args"].get("last_to_ask") == 1 for e in ops) > len(ops) / 2
    assert any(e["ph"] == "X" and e["name"] == "rank 1" for e in events)
    # On one clock: an operation ends on all ranks after the last has asked for it.
    asked = {e["args"]["last_asked_at"] for e in ops if "last_asked_at" in e["args"]}
    stamps = [e["ts"] for e in events if "ts" in e]
    assert asked and min(stamps) <= min(asked) and max(asked) <= max(stamps)


def test_what_a_program_records_itself(tmp_path):
    run("-np", 2, program=("input", 3, tmp_path / "own"))
    for rank in range(2):
        events, other = chrome_trace.read(tmp_path / f"own-{rank}.json")
        assert {e["pid"] for e in events} == {rank} and other["rank"] == rank
        assert sum(e["name"] == "input" and e["ph"] == "X" for e in events) == 3
    r = run("-np", 1, "--timeline", tmp_path / "t.json", program=("input", 3, tmp_path / "again"), code=1)
    assert "being recorded already" in r.stderr


def test_survivors_of_a_failure_hand_theirs_over(tmp_path):
    r = run("-np", 3, "--timeline", tmp_path / "t.json", program=("dies", 8), code=3)
    events, other = chrome_trace.read(tmp_path / "t.json")
    assert [x["rank"] for x in other["ranks"]] == [0, 2] and other["ranks_that_are_not_complete"] == 1
    assert "1 of 3 ranks did not hand theirs over" in r.stderr
    assert names(events, 0).count('layer"0"/w') >= 4


def test_a_file_that_cannot_be_written_is_said_before_anything_runs(tmp_path):
    r = run("-np", 2, "--timeline", "/nowhere/t.json", program=("slow", 4), code=1)
    assert "/nowhere/t.json" in r.stderr


def test_clocks_of_hosts(hosts, tmp_path):  # noqa: F811
    """The namespaces are of one kernel, so its clock is theirs; the exchange goes over the wire."""
    within, options = hosts
    run(*options, "--timeline", tmp_path / "t.json", program=("slow", 3), within=within)
    _, other = chrome_trace.read(tmp_path / "t.json")
    assert [r["clock"] for r in other["ranks"]] == [{"offset_us": 0, "error_us": 0}] * 3


# --- what bounds a step ---------------------------------------------------------------------------------

@pytest.mark.parametrize("what, bound", [("compute", "compute"), ("slow", "straggler"), ("lame", "straggler"), ("input", "input")])
def test_the_bound_is_named(what, bound):
    # What others do on this machine delays ranks too: it is small beside steps that are long enough.
    for longer, steps in (1, 20), (5, 10), (20, 6):
        e = explain(what, steps, options=("-np", 3, "-x", f"LONGER={longer}"))
        if e["bound"] == bound:
            break
    assert e["bound"] == bound, e
    assert sum(e["shares"].values()) == pytest.approx(1, abs=0.001) and e["steps"] == steps, e
    if bound == "straggler":
        assert e["straggler"]["rank"] == 1 and (e["straggler"]["input"] > 0.5) == (what == "lame"), e


def test_the_wire_is_named(hosts, net, tmp_path):  # noqa: F811
    within, options = hosts
    for name in net.values():
        for device in ("eth0", "port-a", "port-b", "port-c"):
            subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", "200mbit",
                            "burst", "128k", "latency", "50ms"], capture_output=True, timeout=PATIENCE)
    shaped = subprocess.run(["ip", "netns", "exec", net["a"], "tc", "qdisc", "show", "dev", "eth0"], capture_output=True, text=True)
    if "tbf" not in shaped.stdout:
        pytest.skip("no tbf here: " + shaped.stdout + shaped.stderr)
    links = tmp_path / "links"
    links.write_text("remote.latency_us = 100\nremote.bytes_per_us = 23\n")
    e = explain("wire", 5, options=[*options, "--links", links], within=within)
    assert e["bound"] == "wire" and e["hosts"] == 3, e
    # The first operation is before the account, its bytes are not.
    assert 0.2 < e["link_ms"] / e["step_ms"] < 1.5 and 0 < e["wire_auto_saves_ms"] < e["step_ms"], e


def test_explained_while_it_runs(tmp_path):
    state = tmp_path / "state.json"

    def explained():
        e = (json.loads(state.read_text()).get("explain") if state.exists() else None) or {}
        return e if e.get("steps", 0) > 3 else None
    p = subprocess.Popen([str(OVERTAKE), "run", "-np", "2", "--explain", "--state-file", state, "--", sys.executable, RANK, "slow",
                          "100000"], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        e = wait_for("an account in the state file", explained)
        assert sum(e["shares"].values()) == pytest.approx(1, abs=0.001) and e["bound"], e
        assert json.loads(state.read_text())["state"] == "running"
    finally:
        p.kill()
        p.wait()


def test_explained_for_people():
    r = run("-np", 2, "--explain", "-x", "LONGER=5", program=("slow", 5))
    assert "what bounds a step is the straggler" in r.stderr and "waiting for rank 1" in r.stderr
    r = run("-np", 2, "--explain", program=("slow", 0))
    assert "too little" in r.stderr
