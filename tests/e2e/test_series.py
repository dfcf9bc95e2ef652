"""Figures over time (windows, outcomes) and where a version came from, as the page asks for them."""

import time

import pytest

from replica import wait_for
from test_control import error_of
from up import Traffic, two_classes

WINDOWS = {"window": "500ms", "block": "1s", "blocks_per_day": 8, "baseline": 4, "cycles": "none"}


@pytest.fixture
def served(up, app):
    """(api, app, traffic that has ended): one version, every answer labelled."""
    u, a = up(), app()
    a.apply(u.api, a.yaml(quality=WINDOWS))
    u.api.wait_event("version.promoted", f"model/{a.name}@1")
    u.wait_serves(a.name, 1, two_classes(1, 9)[0])
    with Traffic(u, a.name) as t:
        begun = int(time.time() * 1e6)
        wait_for("answers in several windows", lambda: t.answered >= 300 and len(u.api.get(
            f"/deployments/{a.name}/windows", from_us=begun, to_us=begun + 60_000_000, points=200)["points"]) >= 3)
    assert not t.problems
    return u.api, a, t


def test_windows_and_outcomes_add_up(served):
    api, a, t = served
    asked = t.answered + 1  # wait_serves had an answer of its own, of one row
    now = int(time.time() * 1e6)
    span = {"from_us": now - 60_000_000, "to_us": now + 60_000_000}

    def windows(points):
        return api.get(f"/deployments/{a.name}/windows", **span, points=points)
    wait_for("all windows", lambda: sum(p["requests"] for p in windows(1000)["points"]) == asked)
    fine, one = windows(1000), windows(1)
    assert fine["from_us"] == span["from_us"] and fine["bucket_us"] == 120_000 and one["bucket_us"] == 120_000_000
    [whole] = one["points"]
    assert (whole["version"], whole["role"], whole["failed"]) == (1, "champion", 0)
    assert whole["requests"] == asked and whole["rows"] == t.answered * t.rows + 1
    assert whole["start_us"] == span["from_us"] and 0 < whole["p50_us"] <= whole["p99_us"]
    assert whole["covered_us"] == sum(p["covered_us"] for p in fine["points"]) and whole["covered_us"] % 500_000 == 0
    starts = [p["start_us"] for p in fine["points"]]
    assert len(starts) > 1 and starts == sorted(set(starts))
    assert all((s - span["from_us"]) % fine["bucket_us"] == 0 for s in starts)
    busy = [p for p in fine["points"] if p["requests"]]
    assert min(p["p99_us"] for p in busy) <= whole["p99_us"] <= max(p["p99_us"] for p in busy)
    # Half of the span, half of the answers at most, and none of what lies outside it.
    middle = starts[len(starts) // 2]
    part = api.get(f"/deployments/{a.name}/windows", from_us=span["from_us"], to_us=middle, points=1)["points"]
    assert 0 < sum(p["requests"] for p in part) < asked

    def outcomes(points):
        return api.get(f"/deployments/{a.name}/outcomes", **span, points=points)["points"]
    [whole] = wait_for("all labels", lambda: [p for p in outcomes(1) if p["labelled"] == t.accepted])
    accuracy = api.get(f"/deployments/{a.name}/accuracy", version=1)
    assert (whole["version"], whole["role"]) == (1, "live") and t.accepted == t.answered * t.rows
    assert whole["right"] == accuracy["right"] and accuracy["labelled"] == t.accepted
    share = whole["right"] / whole["labelled"]
    assert whole["lower"] < share < whole["upper"] and whole["upper"] - whole["lower"] < 0.1
    fine = outcomes(1000)
    assert sum(p["labelled"] for p in fine) == t.accepted and sum(p["right"] for p in fine) == whole["right"]
    assert all(0 <= p["lower"] <= p["right"] / p["labelled"] <= p["upper"] <= 1 for p in fine)


def test_where_a_version_came_from(served):
    api, a, _ = served
    v = api.get(f"/models/{a.name}/versions/1")
    listed = api.get(f"/models/{a.name}")["list"][0]
    assert {k: v[k] for k in listed} == listed
    lineage = v["lineage"]
    assert lineage["run"] == v["run"] and lineage["parent"] is None and len(lineage["data"]["base"]) == 64
    assert v["metrics"] and api.app(a.name)["plan"] == {
        "data": ["base"], "retrain_when": [], "window_us": 500_000, "stages": []}


@pytest.mark.parametrize("path, status, text", [
    ("/deployments/absent/windows", 404, "deployment 'absent'"),
    ("/deployments/absent/outcomes", 404, "deployment 'absent'"),
    ("/deployments/planes/windows?points=0", 400, "from 1 to 1000"),
    ("/deployments/planes/windows?points=1001", 400, "from 1 to 1000"),
    ("/deployments/planes/windows?from_us=5&to_us=5", 400, "the span must have a length"),
    ("/deployments/planes/windows?from_us=9&to_us=5", 400, "the span must have a length"),
    ("/deployments/planes/outcomes?version=1", 400, "'version' is not a parameter here"),
    ("/models/absent/versions/1", 404, "absent"),
    ("/models/planes/versions/99", 404, "99"),
    ("/models/planes/versions/x", 400, "'x' is not the number of a version"),
])
def test_what_is_refused(up, app, path, status, text):
    u, a = up(), app()
    a.apply(u.api, diff=0)
    answer = u.api.raw("GET", "/api/v1" + path, None, u.api.headers())
    assert error_of(answer)[0] == status and text in error_of(answer)[1], error_of(answer)
    assert u.api.raw("GET", "/api/v1" + path)[0] == 401


def test_a_span_without_anything(up, app):
    u, a = up(), app()
    a.apply(u.api)
    for what in ("windows", "outcomes"):
        got = u.api.get(f"/deployments/{a.name}/{what}", from_us=0, to_us=1000, points=1000)
        assert got == {"from_us": 0, "to_us": 1000, "bucket_us": 1, "points": []}
