"""The replica under a control plane: the agent protocol, shares, shadow copies, samples, windows."""

import json
import pathlib
import threading
import time

import numpy as np
import pytest

import replica as r
from linear_model import ROWS, W, Load, expected

NAMES = ["a", "b", "c", "d"]


def check_version(x, y, headers):
    version = r.prediction_id(headers)[2]
    return None if np.allclose(y, expected(x) + version, rtol=1e-4, atol=1e-4) else \
        f"version {version}: {x} -> {y}"


def test_hello_desired_observed(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 3, bundles(3), 1)))
    s = start("--workers", 2)
    o = plane.wait_observed()
    assert o["deployments"] == [{"name": "m", "variants": [
        {"role": "champion", "model": "m", "version": 3, "state": "serving", "error": None}]}]
    hello = plane.hellos[0]
    assert hello["protocol"] == 1 and hello["kind"] == "replica" and hello["id"] == "replica-0"
    assert hello["pid"] == s.process.pid and len(hello["incarnation"]) == 16
    _, head, body = s.infer("m", ROWS)
    np.testing.assert_allclose(np.array(body["outputs"][0]["data"]).reshape(3, 2), expected(ROWS) + 3,
                               rtol=1e-5)
    incarnation, _, version, sampled, rows = r.prediction_id(head)
    assert (incarnation, version, sampled, rows) == (hello["incarnation"], 3, True, 3)
    assert s.get("/v2/models/m")["parameters"]["verified"] is True
    assert s.post("/v2/repository/models/m/load")[0] == 200


def test_load_and_unload_change_nothing_that_the_control_plane_wants(managed, tmp_path):
    """A load tries again what it wants and could not be loaded; an unload is refused, with what to do instead."""
    plane, start = managed
    digest = r.make_bundle(tmp_path / "late", r.linear(W), golden=ROWS)
    plane.want(r.deployment(r.variant("champion", 1, digest, 1)))
    s = start(ready=False)
    plane.wait_observed(state="failed")
    status, _, body = s.post("/v2/repository/models/m/load")
    assert status == 400 and digest[:12] in body["error"], body
    r.store_bundle(plane.blobs, tmp_path / "late")
    assert s.post("/v2/repository/models/m/load")[0] == 200 and s.infer("m", ROWS)[0] == 200
    status, _, body = s.post("/v2/repository/models/m/unload")
    assert status == 409 and "overtake rollback" in body["error"] and s.infer("m", ROWS)[0] == 200
    for verb in ("load", "unload"):
        status, _, body = s.post(f"/v2/repository/models/other/{verb}")
        assert status == 404 and "overtake apply" in body["error"]
    assert [(m["name"], m["version"], m["state"]) for m in s.post("/v2/repository/index")[2]] == [("m", "1", "READY")]


def test_not_ready_before_the_control_plane_has_spoken(managed):
    plane, start = managed
    s = start(ready=False)
    r.wait_for("hello", lambda: plane.hellos)
    assert s.request("GET", "/v2/health/live")[0] == 200
    assert s.request("GET", "/v2/health/ready")[0] == 503


def test_accepts_when_the_control_plane_knows_it(managed, bundles):
    """Otherwise the label of a first answer could come to a control plane that has not heard of this replica."""
    plane, start = managed
    s = start(ready=False)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(s.request("GET", "/v2/health/live")[0]))
    asking.start()
    r.wait_for("hello", lambda: plane.hellos)
    asking.join(0.3)
    if "does not speak" in open(s.log_path).read():
        pytest.skip("this machine is so slow that the replica has given the control plane up")
    assert answers == [], "it waits in the backlog"
    plane.want(r.deployment(r.variant("champion", 3, bundles(3), 1)))
    asking.join(r.PATIENCE)
    assert answers == [200]
    assert "does not speak" not in open(s.log_path).read()


def test_swap_by_desired_state_fails_nothing(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    s = start("--workers", 2)
    load = Load(s, check_version, clients=8)
    for version in range(2, 9):
        plane.want(r.deployment(r.variant("champion", version, bundles(version), 1)))
        plane.wait_observed()
        assert r.prediction_id(s.infer("m", [[0, 0, 0, 0]])[1])[2] == version
    load.end()
    cache = list(pathlib.Path(plane.path).parent.glob("data-*/replica/cache/*"))
    kept = plane.desired["deployments"][0]["variants"][0]["bundle"]
    assert sorted(d.name for d in cache) == [kept, f"{kept}.seal"]


def test_version_that_cannot_be_loaded_changes_nothing(managed, bundles, tmp_path):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    s = start()
    load = Load(s, check_version, clients=4)
    for digest, word in ((bundles(2, wrong_golden=True), "golden"), ("ab" * 32, "abababab"),
                         (bundles(2, golden=None), "golden")):
        plane.want(r.deployment(r.variant("champion", 2, digest, 1)))
        o = plane.wait_observed(state="failed")
        assert word in o["deployments"][0]["variants"][0]["error"]
        assert r.prediction_id(s.infer("m", [[0, 0, 0, 0]])[1])[2] == 1
        assert s.request("GET", "/v2/health/ready")[0] == 503
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    plane.wait_observed()
    load.end()
    assert s.request("GET", "/v2/health/ready")[0] == 200


def test_bad_desired_state_is_refused_and_the_old_kept(managed, bundles):
    plane, start = managed
    digest = bundles(1)
    plane.want(r.deployment(r.variant("champion", 1, digest, 1)))
    s = start()
    for bad in (r.deployment(r.variant("champion", 1, digest, 0.5)),
                r.deployment(r.variant("king", 1, digest, 1)),
                r.deployment(r.variant("champion", 1, "zz", 1)),
                r.deployment(r.variant("champion", 1, digest, 1), name="../m")):
        plane.want(bad)
    plane.want(r.deployment(r.variant("champion", 1, digest, 1)))
    plane.wait_observed()
    assert s.infer("m", [[0, 0, 0, 0]])[0] == 200
    assert s.stop().count("refused") == 4


def test_serves_on_without_the_control_plane_and_after_a_restart(managed, bundles, serve, tmp_path):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 4, bundles(4), 1)))
    s = start()
    plane.wait_observed()
    plane.close()
    assert s.infer("m", [[0, 0, 0, 0]])[2]["outputs"][0]["data"] == [4, 4]
    s.stop()
    s = start()  # nobody listens at the socket; blobs are not needed either
    assert s.infer("m", [[0, 0, 0, 0]])[2]["outputs"][0]["data"] == [4, 4]


def test_comes_back_to_a_new_control_plane(managed, bundles, control):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    s = start()
    plane.wait_observed()
    plane.close()
    plane = control()
    plane.revision = 10
    plane.want(r.deployment(r.variant("champion", 2, bundles(2), 1)))
    plane.wait_observed(revision=11)
    assert r.prediction_id(s.infer("m", [[0, 0, 0, 0]])[1])[2] == 2


# ---- shares


def test_shares_by_key_are_stable_and_grow(managed, bundles):
    plane, start = managed
    one, two = bundles(1), bundles(2)

    def share(x):
        plane.want(r.deployment(r.variant("champion", 1, one, 1 - x), r.variant("canary", 2, two, x)))
        plane.wait_observed()
    s = start(ready=False)
    share(0.3)

    def versions():
        return {k: r.prediction_id(s.infer("m", [[0, 0, 0, 0]], headers={"overtake-key": f"user{k}"})[1])[2]
                for k in range(400)}
    first = versions()
    assert first == versions()
    canaries = {k for k, v in first.items() if v == 2}
    assert 80 <= len(canaries) <= 160  # 120 expected, sd 9.2
    # The documented rule: SipHash of the key, the canary has the lowest hashes.
    assert canaries == {k for k in range(400)
                        if r.hash_stable(f"user{k}".encode(), 0x7368617265) < 0.3 * 2**64}
    share(0.6)
    assert canaries < {k for k, v in versions().items() if v == 2}


def test_shares_without_key_and_versions_by_name(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 0.5),
                            r.variant("canary", 2, bundles(2), 0.5),
                            r.variant("shadow", 3, bundles(3), 0)))
    s = start("--workers", 2)
    seen = [r.prediction_id(s.infer("m", [[0, 0, 0, 0]])[1])[2] for _ in range(400)]
    assert set(seen) == {1, 2} and 150 <= seen.count(2) <= 250
    for version in (1, 2, 3):
        body = s.infer("m", [[0, 0, 0, 0]], headers={"overtake-version": str(version)})[2]
        assert body["model_version"] == str(version) and body["outputs"][0]["data"][0] == version
        body = s.post(f"/v2/models/m/versions/{version}/infer", {"inputs": [r.tensor_json("x", [[0.0] * 4])]})[2]
        assert body["model_version"] == str(version)
    assert s.infer("m", [[0, 0, 0, 0]], headers={"overtake-version": "9"})[0] == 404


# ---- fallbacks


@pytest.mark.parametrize("fallback", ["previous", "refuse", {"constant": [7, 8]}, {"constant": {"y": 5}}])
def test_fallback(managed, bundles, fallback):
    plane, start = managed
    one = bundles(1)
    plane.want(r.deployment(r.variant("champion", 1, one, 1), fallback=fallback))
    s = start()
    # Every 300th run fails: far more than loading takes.
    plane.want(r.deployment(r.variant("champion", 2, bundles(2, fail_every=300), 1), fallback=fallback))
    plane.wait_observed()
    failed = 0
    for _ in range(700):
        status, head, body = s.infer("m", [[0, 0, 0, 0]] * 3)
        if status == 200 and "overtake-fallback" not in head:
            assert body["outputs"][0]["data"] == [2, 2] * 3
            continue
        failed += 1
        if fallback == "previous":
            assert status == 200 and head["overtake-fallback"] == "previous", body
            assert r.prediction_id(head)[2] == 1 and body["model_version"] == "1"
            assert body["outputs"][0]["data"] == [1, 1] * 3
        elif fallback == "refuse":
            assert status == 500 and "error" in body
        else:
            want = [7, 8] if isinstance(fallback["constant"], list) else [5, 5]
            assert status == 200 and head["overtake-fallback"] == "constant", body
            assert body["outputs"][0]["data"] == want * 3 and body["outputs"][0]["shape"] == [3, 2]
            assert not r.prediction_id(head)[3]
    assert 1 <= failed <= 3
    text = s.request("GET", "/metrics")[2].decode()
    assert f'overtake_failed_total{{deployment="m",model="m",version="2",role="champion"}} {failed}\n' in text
    # What the caller got wrong is the caller's: no fallback answers it.
    assert s.post("/v2/models/m/infer", {})[0] == 400


# ---- samples and shadow copies


def by_seq(pushes):
    out = {}
    for value, binary in pushes:
        columns = r.decode_sample(value, binary)
        for i, seq in enumerate(columns["seq"].tolist()):
            assert seq not in out
            out[seq] = {k: c[i] for k, c in columns.items()}
    return out


def test_samples_hold_every_row(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    s = start("--workers", 2)
    rng = np.random.default_rng(5)
    sent = {}
    before = time.time()
    for k in range(60):
        x = rng.standard_normal((k % 4 + 1, 4)).astype(np.float32)
        headers = {"overtake-key": f"key{k}"} if k % 3 == 0 else {}
        _, head, body = s.infer("m", x, headers=headers)
        _, seq, _, sampled, rows = r.prediction_id(head)
        assert sampled and rows == len(x)
        y = np.array(body["outputs"][0]["data"]).reshape(-1, 2)
        for i in range(rows):
            sent[seq + i] = (x[i], y[i], headers.get("overtake-key", ""))
    s.stop()  # the drain hands over what is left
    got = by_seq(plane.taken("sample", role="live"))
    assert got.keys() == sent.keys()
    for seq, (x, y, key) in sent.items():
        np.testing.assert_array_equal(got[seq]["x"], x)
        np.testing.assert_allclose(got[seq]["y"], y, rtol=1e-6)
        assert got[seq]["probability"] == 1
        assert before - 1 <= got[seq]["time_us"] / 1e6 <= time.time() + 1
        assert got[seq].get("keys", "") == key
    for value, binary in plane.taken("sample"):
        assert value["deployment"] == "m" and value["version"] == 1 and len(binary) <= 4 << 20


def test_sampling_rate(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1), rate=0.25))
    s = start()
    bits = {}
    for _ in range(800):
        _, seq, _, sampled, _ = r.prediction_id(s.infer("m", [[0, 0, 0, 0]])[1])
        bits[seq] = sampled
    assert 140 <= sum(bits.values()) <= 260  # 200 expected, sd 12
    s.stop()
    got = by_seq(plane.taken("sample"))
    assert got.keys() == {seq for seq, sampled in bits.items() if sampled}
    assert all(row["probability"] == 0.25 for row in got.values())


def test_shadow_copies_run_all_other_versions_on_the_same_rows(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 0.5),
                            r.variant("canary", 2, bundles(2), 0.5),
                            r.variant("shadow", 3, bundles(3), 0), compare=True))
    s = start("--workers", 2)
    rng = np.random.default_rng(6)
    sent = {}
    for k in range(100):
        x = rng.standard_normal((k % 3 + 1, 4)).astype(np.float32)
        _, seq, version, _, rows = r.prediction_id(s.infer("m", x)[1])
        for i in range(rows):
            sent[seq + i] = (x[i], version)
    s.stop()
    for version in (1, 2, 3):
        live = by_seq(plane.taken("sample", role="live", version=version))
        shadow = by_seq(plane.taken("sample", role="shadow", version=version))
        assert live.keys() == {q for q, (_, v) in sent.items() if v == version}
        assert shadow.keys() == {q for q, (_, v) in sent.items() if v != version}
        for seq, row in shadow.items():
            assert "x" not in row
            np.testing.assert_allclose(row["y"], expected(sent[seq][0]) + version, rtol=1e-4, atol=1e-4)


def test_unacknowledged_pushes_come_again_under_their_own_name(managed, bundles, serve, control):
    plane, start = managed
    plane.acks = False
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    s = start()
    seqs = {r.prediction_id(s.infer("m", [[k, 0, 0, 0]])[1])[1] for k in range(20)}
    first = plane.hellos[0]["incarnation"]
    r.wait_for("a push", lambda: plane.taken("sample"))
    s.kill()
    plane.close()

    plane = control()
    s = start()  # another incarnation; the control plane has nothing to say yet
    more = {r.prediction_id(s.infer("m", [[k, 0, 0, 0]])[1])[1] for k in range(5)}
    plane.want(json.loads(json.dumps(r.deployment(r.variant("champion", 1, bundles(1), 1)))))
    plane.wait_observed()
    r.wait_for("the old samples", lambda: len(by_seq(plane.taken("sample", incarnation=first))) == 20)
    assert set(by_seq(plane.taken("sample", incarnation=first))) == seqs
    s.stop()
    second = plane.hellos[-1]["incarnation"]
    assert second != first
    assert set(by_seq(plane.taken("sample", incarnation=second))) == more
    left = list(pathlib.Path(plane.path).parent.glob("data-*/replica/spool/*"))
    assert left == [], left


def test_pushes_are_sent_again_on_the_next_connection(managed, bundles, control):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    s = start()
    seqs = set()
    for k in range(10):
        seqs.add(r.prediction_id(s.infer("m", [[k, 0, 0, 0]])[1])[1])
    plane.acks = False
    r.wait_for("a push", lambda: plane.taken("sample"))
    plane.close()
    for k in range(10):
        seqs.add(r.prediction_id(s.infer("m", [[k, 0, 0, 0]])[1])[1])
    again = control()
    r.wait_for("hello again", lambda: again.hellos)
    again.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    s.stop()
    got = by_seq({(v["incarnation"], v["seq"]): (v, b)
                  for v, b in plane.taken("sample") + again.taken("sample")}.values())
    assert got.keys() == seqs


def test_spool_over_its_limit_drops_the_oldest_and_says_so(managed, bundles, control):
    plane, start = managed
    digest = bundles(1)
    d = r.deployment(r.variant("champion", 1, digest, 1))
    d["sample"]["max_bytes"] = 8000
    plane.want(d)
    s = start()
    plane.wait_observed()
    plane.close()
    total = 0
    for _ in range(4):
        for _ in range(10):
            assert s.infer("m", np.zeros((10, 4)))[0] == 200
            total += 10
        time.sleep(1.3)  # one segment a second
    again = control()
    again.want(d)
    again.wait_observed()
    s.infer("m", [[0, 0, 0, 0]])
    s.stop()
    pushed = again.taken("sample")
    rows = sum(v["rows"] for v, _ in pushed)
    dropped = sum(v.get("dropped_rows", 0) for v, _ in pushed)
    assert dropped > 0 and rows + dropped == total + 1


# ---- windows


def test_window_counts_equal_numpys(managed, bundles):
    plane, start = managed
    h = r.Histogram(NAMES, -3, 3, inner=10)
    rng = np.random.default_rng(8)
    digest = bundles(1, histogram=h, reference=rng.standard_normal((500, 4)))
    plane.want(r.deployment(r.variant("champion", 1, digest, 1), rate=0))
    s = start("--workers", 2, "--count-budget", "100%")
    sent = []
    threads = []

    def client(seed):
        g = np.random.default_rng(seed)
        for _ in range(50):
            x = (g.standard_normal((int(g.integers(1, 5)), 4)) * 2).astype(np.float32)
            x[g.random(x.shape) < 0.05] = np.nan
            sent.append(x)
            assert s.infer("m", x)[0] == 200
    for k in range(4):
        threads.append(threading.Thread(target=client, args=(k,)))
        threads[-1].start()
    for t in threads:
        t.join()
    bad = s.post("/v2/models/m/infer", {})[0]
    assert bad == 400
    s.stop()
    all_rows = np.concatenate(sent)
    windows = plane.taken("window")
    requests = sum(v["requests"] for v, _ in windows)
    assert requests == len(sent) and sum(v["failed"] for v, _ in windows) == 0
    total = np.zeros((4, r.CELLS), dtype=np.int64)
    for value, binary in windows:
        assert value["role"] == "champion" and value["version"] == 1 and value["length_us"] > 0
        assert len(binary) == value["inputs_bytes"] + value["outputs_bytes"] + value["latency_bytes"]
        rows, counts = h.read_table(binary[:value["inputs_bytes"]])
        assert rows == value["rows"] == value["counted_rows"] and value["probability"] == 1
        assert 0 < value["latency"]["p50_us"] <= value["latency"]["p99_us"]
        total += counts
    np.testing.assert_array_equal(total, h.count(all_rows))


def test_windows_are_aligned_and_the_same_on_two_replicas(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    replicas = [start(id=f"replica-{k}") for k in range(2)]
    for k in range(2):
        plane.wait_observed(f"replica-{k}")
    assert replicas[0].port != replicas[1].port

    def windows(name):
        with plane.lock:
            return {v["start_us"]: v for who, v, _ in plane.pushes if v["stream"] == "window" and who == name}

    def both():
        for s in replicas:
            assert s.infer("m", [[0, 0, 0, 0]])[0] == 200
        full = [{t for t, v in windows(f"replica-{k}").items() if v["length_us"] == 1_000_000}
                for k in range(2)]
        return full[0] & full[1] if len(full[0] & full[1]) >= 2 else None
    starts = r.wait_for("two windows of both", both)
    assert all(t % 1_000_000 == 0 for t in starts)
    for s in replicas:
        s.stop()


def test_two_replicas_swap_while_both_serve(managed, bundles):
    plane, start = managed
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    replicas = [start(id=f"replica-{k}") for k in range(2)]
    loads = [Load(s, check_version, clients=3) for s in replicas]
    for version in (2, 3):
        plane.want(r.deployment(r.variant("champion", version, bundles(version), 1)))
        for k in range(2):
            plane.wait_observed(f"replica-{k}")
    for load in loads:
        load.end()
