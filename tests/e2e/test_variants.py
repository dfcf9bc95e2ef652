"""Several versions of a deployment at a time: arms with fixed shares, labels, a switch at once, and that a version in
the shadow harms nobody."""

import json
import re
import threading

import numpy as np
import pytest

import replica as r
from linear_model import Load, expected
from up import two_classes

ZERO = [[0, 0, 0, 0]]


def version(answer):
    status, headers, body = answer
    assert status == 200, body
    return r.prediction_id(headers)[2]


def check_version(x, y, headers):
    v = r.prediction_id(headers)[2]
    return None if np.allclose(y, expected(x) + v, rtol=1e-4, atol=1e-4) else f"version {v}: {x} -> {y}"


@pytest.fixture
def four(managed, bundles):
    """v1 champion at 40%, v2 and v3 arms, v4 at hand as `green`; (control plane, replica)."""
    plane, start = managed
    plane.want({**r.deployment(r.variant("champion", 1, bundles(1), 0.4), r.variant("arm", 2, bundles(2), 0.25),
                               r.variant("arm", 3, bundles(3), 0.35), r.variant("arm", 4, bundles(4), 0)),
                "labels": {"green": 4, "two": 2, "away": 9}})
    s = start("--workers", 2)
    plane.wait_observed()
    return plane, s


def test_arms_are_sticky_by_key_and_counted_one_by_one(four):
    plane, s = four
    by_key = {k: version(s.infer("m", ZERO, headers={"overtake-key": f"user{k}"})) for k in range(400)}
    again = {k: version(s.infer("m", ZERO, headers={"overtake-key": f"user{k}"})) for k in range(400)}
    assert by_key == again and set(by_key.values()) == {1, 2, 3}

    # The documented rule: SipHash of the key; arms in the order of their versions, then the champion.
    def arm(k):
        x = r.hash_stable(f"user{k}".encode(), 0x7368617265) / 2**64
        return 2 if x < 0.25 else 3 if x < 0.6 else 1
    assert by_key == {k: arm(k) for k in range(400)}
    text = s.request("GET", "/metrics")[2].decode()
    for v, role in ((1, "champion"), (2, "arm"), (3, "arm"), (4, "arm")):
        n = 2 * sum(x == v for x in by_key.values())
        assert f'overtake_requests_total{{deployment="m",model="m",version="{v}",role="{role}"}} {n}\n' in text
    s.stop()
    counted = {v: sum(w["requests"] for w, _ in plane.taken("window", version=v)) for v in (1, 2, 3)}
    assert counted == {v: 2 * sum(x == v for x in by_key.values()) for v in (1, 2, 3)}
    assert {w["role"] for w, _ in plane.taken("window", version=2)} == {"arm"}


def test_labels(four):
    plane, s = four
    for label, v in (("green", 4), ("two", 2), ("stable", 1)):
        for key in range(5):
            assert version(s.infer("m", ZERO, headers={"overtake-label": label, "overtake-key": str(key)})) == v
    for label in ("blue", "away", "canary", "", "gree", "greens"):
        status, _, body = s.infer("m", ZERO, headers={"overtake-label": label})
        assert status == 404 and "stable, canary" in body["error"] and "green" in body["error"], body
    status, _, body = s.infer("m", ZERO, headers={"overtake-label": "green", "overtake-version": "4"})
    assert status == 400 and "name one" in body["error"]


def test_a_canary_has_its_label_while_it_has_a_share(managed, bundles):
    plane, start = managed
    one, two = bundles(1), bundles(2)
    plane.want(r.deployment(r.variant("champion", 1, one, 0.9), r.variant("canary", 2, two, 0.1)))
    s = start()
    plane.wait_observed()
    assert version(s.infer("m", ZERO, headers={"overtake-label": "canary"})) == 2
    plane.want(r.deployment(r.variant("champion", 2, two, 1), r.variant("shadow", 1, one, 0)))
    plane.wait_observed()
    assert version(s.infer("m", ZERO, headers={"overtake-label": "stable"})) == 2
    assert s.infer("m", ZERO, headers={"overtake-label": "canary"})[0] == 404


def test_switch_there_and_back_under_load_fails_nothing(managed, bundles):
    plane, start = managed
    blue, green = bundles(1), bundles(2)

    def serve(champion):
        other = 3 - champion
        digests = {1: blue, 2: green}
        plane.want({**r.deployment(r.variant("champion", champion, digests[champion], 1),
                                   r.variant("arm", other, digests[other], 0)),
                    "labels": {"blue": 1, "green": 2}})
        plane.wait_observed()
    s = start("--workers", 2, ready=False)
    serve(1)
    load = Load(s, check_version)
    answers = []
    for k in range(20):
        serve(2 - k % 2)
        answers.append(version(s.infer("m", ZERO)))
    load.end()
    assert answers == [2 - k % 2 for k in range(20)]  # the next request after a switch meets the other version
    assert "unloaded" not in open(s.log_path).read()  # both stay at hand


def test_a_shadow_that_is_slow_or_fails_harms_no_request(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1),
                            r.variant("shadow", 2, bundles(2, fail_on_nan=True, delay_us=20_000), 0), compare=True))
    s = start("--workers", 2)
    plane.wait_observed()

    def metric(name):
        return int(re.search(rf"^{name} (\d+)$", s.request("GET", "/metrics")[2].decode(), re.M)[1])
    rows = 0
    for k in range(400):  # copies run many rows at a time: the last 1,000 have no NaN among them
        x = np.full((1 + k % 7, 4), float("nan") if k < 100 and k % 10 == 0 else k, np.float32)
        assert version(s.infer("m", x)) == 1
        rows += len(x)
    r.wait_for("copies that failed, and others", lambda: metric("overtake_shadow_failed_total") > 0 and
               metric("overtake_shadow_rows_total") > 0)
    text = s.request("GET", "/metrics")[2].decode()
    assert 'overtake_failed_total{deployment="m",model="m",version="1",role="champion"} 0\n' in text
    assert f'overtake_rows_total{{deployment="m",model="m",version="1",role="champion"}} {rows}\n' in text


def test_readiness_means_every_version_of_the_revision(managed, bundles):
    """Without the arm it is not ready, whatever serves; a request meets no version that is not proven."""
    plane, start = managed
    one = bundles(1)
    plane.want(r.deployment(r.variant("champion", 1, one, 1)))
    s = start()
    wrong = bundles(2, wrong_golden=True)
    plane.want({**r.deployment(r.variant("champion", 1, one, 0.5), r.variant("arm", 2, wrong, 0.5)),
                "labels": {"green": 2}})
    o = plane.wait_observed(state="failed")
    failed = next(v for v in o["deployments"][0]["variants"] if v["version"] == 2)
    assert "golden" in failed["error"]
    assert s.request("GET", "/v2/health/ready")[0] == 503
    assert {version(s.infer("m", ZERO)) for _ in range(50)} == {1}
    assert s.infer("m", ZERO, headers={"overtake-label": "green"})[0] == 404
    plane.want(r.deployment(r.variant("champion", 1, one, 1)))
    plane.wait_observed()
    assert s.request("GET", "/v2/health/ready")[0] == 200


def test_fallback_is_the_version_that_the_control_plane_calls_previous(managed, bundles):
    """After a switch back the version before is the newer one."""
    plane, start = managed
    plane.want({**r.deployment(r.variant("champion", 1, bundles(1, fail_every=300), 1),
                               r.variant("arm", 2, bundles(2), 0), r.variant("arm", 3, bundles(3), 0),
                               fallback="previous"), "previous": 3})
    s = start()
    plane.wait_observed()
    answers = [s.infer("m", [[0, 0, 0, 0]] * 3) for _ in range(700)]
    assert {status for status, _, _ in answers} == {200}
    fell_back = [r.prediction_id(h)[2] for _, h, _ in answers if h.get("overtake-fallback") == "previous"]
    assert fell_back and set(fell_back) == {3}


# ---- by command


def test_label_switch_and_compare_from_the_command_line(cli, app):
    a = app()
    (a.folder / "app.yaml").write_text(a.yaml(quality={"window": "200ms", "block": "1s"}))
    cli("apply", a.folder / "app.yaml")
    up = cli.up
    up.api.wait_event("version.promoted")
    up.api.post("/apps/planes/act", json.dumps({"verb": "train"}))
    r.wait_for("v2", lambda: len(up.api.get("/models/planes")["list"]) == 2)
    r.wait_for("v2 serves", lambda: up.api.get("/apps/planes")["champion"] == 2)
    x, _ = two_classes(4, seed=5)
    up.wait_serves("planes", 2, x)
    assert "stable is the champion" in cli("label", "planes", "stable=1", code=1)
    cli("label", "planes", "blue=v1", "--reason", "the one we know")
    cli("label", "planes", "green=2")
    r.wait_for("blue answers", lambda: up.infer("planes", x, headers={"overtake-label": "blue"})[0] == 200)
    r.wait_for("v1 is reported", lambda: any(
        v["version"] == 1 and v["state"] == "serving"
        for d in up.api.get("/replicas")["replicas"][0]["observed"]["deployments"] for v in d["variants"]))
    cli("switch", "planes", "blue")
    up.wait_serves("planes", 1, x)
    cli("switch", "planes", "v2")
    up.wait_serves("planes", 2, x)
    out = cli("status", "planes")
    assert re.search(r"^  label +blue is v1$", out, re.M) and re.search(r"^  label +green is v2$", out, re.M), out
    assert "'v1=half' is not VERSION=SHARE" in cli("ab", "planes", "v1=half", code=2)
    cli("ab", "planes", "v1=50%")
    keys = {}

    def both():
        for k in range(20):
            status, headers, _ = up.infer("planes", x, headers={"overtake-key": f"k{k}"})
            assert status == 200
            keys.setdefault(k, set()).add(int(headers["overtake-prediction-id"].split("-")[2], 16))
        return {v for s in keys.values() for v in s} == {1, 2}
    r.wait_for("both versions answer", both)
    keys.clear()
    assert both() and both() and all(len(s) == 1 for s in keys.values())
    arms = r.wait_for("both were counted", lambda: (lambda t: t if all(
        one.get("requests", 0) > 0 for one in t) else None)(json.loads(cli("ab", "planes", "--output", "json"))["arms"]))
    assert [(one["version"], one["role"], one["share"]) for one in arms] == [(2, "champion", .5), (1, "arm", .5)]
    text = cli("ab", "planes").splitlines()
    assert re.match(r"VERSION +ROLE +SHARE +LABELS", text[0]) and re.match(r"v1 +arm +50% +blue +\d+ +0 ", text[2]), text
    cli("ab", "planes", "--end")
    assert [e["type"] for e in up.api.events(object="app/planes") if e["type"][:3] in ("lab", "ab.")] == \
        ["label.set", "label.set", "ab.started", "ab.ended"]
    assert len(up.api.events(type="version.switched")) == 2
