"""The serving replica under load: batches, versions that come and go, the end."""

import json
import socket
import subprocess
import threading
import time

import numpy as np
import pytest

import replica as r
from linear_model import ROWS, W, Load, check_linear, expected, one, raw_request, read_answers

# ---- batches


def test_batched_answers_belong_to_their_requests(linear):
    load = Load(linear, check_linear, clients=16)
    time.sleep(1)
    sent = load.end()
    stats = linear.get("/v2/models/m/stats")["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] == sent
    assert stats["inference_stats"]["fail"]["count"] == 0


@pytest.mark.parametrize("how", [{"late": True, "delay_us": 2000}, {"delay_us": 1000}])
def test_long_runs_go_to_the_pool_and_batch_there(tmp_path, serve, how):
    r.write_raw(tmp_path / "models" / "m", r.linear(W, **how))
    s = serve(tmp_path / "models", "--workers", 2, "--pool-threads", 1)
    load = Load(s, check_linear, clients=12)
    time.sleep(1)
    sent = load.end()
    metrics = s.request("GET", "/metrics")[2].decode()
    assert f'overtake_requests_total{{deployment="m",model="m",version="1",role="champion"}} {sent}' \
        in metrics
    # While one run lasts others come in: far fewer runs than requests.
    assert "overtake_run_seconds_total" in metrics


def test_rows_that_depend_on_each_other_are_not_batched(tmp_path, serve):
    center = {"op": "center", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
              "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]}
    s = serve(r.write_raw(tmp_path / "models" / "c", center))
    m = s.get("/v2/models/c")
    assert m["parameters"]["batch"] == 1 and "not batched" in m["parameters"]["note"]


def test_a_request_that_fails_does_not_fail_its_neighbours(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W, fail_on_nan=True))
    s = serve(tmp_path / "models", "--workers", 1)
    load = Load(s, check_linear, clients=6)
    bad = [s.post("/v2/models/m/infer", one(data=[float("nan"), 0, 0, 0])) for _ in range(100)]
    load.end()
    assert all(status >= 400 and "error" in body for status, _, body in bad)


def test_a_run_that_fails_is_tried_once_more(tmp_path, serve):
    # Every 50th run of the model fails: of a batch each request is then run alone, which succeeds.
    r.write_raw(tmp_path / "models" / "m", r.linear(W, fail_every=50))
    s = serve(tmp_path / "models", "--workers", 1)
    answers = [s.infer("m", [[1, 2, 3, 4]])[0] for _ in range(200)]
    assert answers.count(500) + answers.count(200) == 200 and 1 <= answers.count(500) <= 8


def test_a_run_that_hangs_is_named(tmp_path, serve):
    # With one golden answer and no batches to prove it is loaded after a few of its runs.
    r.make_bundle(tmp_path / "models" / "slow", r.linear(W, delay_us=1_500_000), golden=ROWS[:1], batch=0)
    s = serve(tmp_path / "models", "--hang", "200ms")
    assert s.infer("slow", ROWS[:1])[0] == 200  # a slow answer is an answer
    lines = [x for x in open(s.log_path).read().splitlines() if "hangs" in x]
    assert len(lines) == 1 and "model slow version 1 hangs" in lines[0], lines
    assert 'overtake_oldest_run_seconds{deployment="slow"' in s.request("GET", "/metrics")[2].decode()


def test_queue_has_a_limit(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W, delay_us=100_000))
    s = serve(tmp_path / "models", "--workers", 1, "--pool-threads", 1, "--queue", 2)
    got = []
    threads = [threading.Thread(target=lambda: got.append(s.infer("m", [[1, 2, 3, 4]])))
               for _ in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    codes = [status for status, _, _ in got]
    assert set(codes) == {200, 429} and len(codes) == 24
    refused = next(g for g in got if g[0] == 429)
    assert refused[1]["Retry-After"] == "1" and "limit is 2" in refused[2]["error"]


def test_deadline_that_cannot_be_met_is_refused(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W, delay_us=50_000))
    s = serve(tmp_path / "models", "--workers", 1, "--pool-threads", 1)
    status, _, body = s.infer("m", [[1, 2, 3, 4]], headers={"overtake-deadline-ms": "5"})
    assert status == 504 and "deadline" in body["error"]
    assert s.infer("m", [[1, 2, 3, 4]], headers={"overtake-deadline-ms": "30000"})[0] == 200
    assert s.infer("m", [[1, 2, 3, 4]], headers={"overtake-deadline-ms": "soon"})[0] == 400


def test_more_rows_than_a_run_takes(tmp_path, serve):
    x = np.random.default_rng(1).standard_normal((150, 4)).astype(np.float32)
    r.make_bundle(tmp_path / "models" / "m", r.linear(W), golden=ROWS, batch=8)
    s = serve(tmp_path / "models")
    assert s.get("/v2/models/m")["parameters"] == \
        {"verified": True, "batch": 8, "bundle": s.get("/v2/models/m")["parameters"]["bundle"]}
    status, _, body = s.infer("m", x)
    assert status == 200
    np.testing.assert_allclose(np.array(body["outputs"][0]["data"]).reshape(150, 2), expected(x),
                               rtol=1e-4, atol=1e-4)


# ---- versions come and go


def test_swap_under_load_fails_nothing(tmp_path, serve):
    """Each version adds its number; an answer must be that of the version it names."""
    folder = tmp_path / "models" / "m"
    r.write_raw(folder, r.linear(W, bias=[1, 1]))
    s = serve(tmp_path / "models", "--workers", 2)

    def check(x, y, headers):
        version = r.prediction_id(headers)[2]
        return None if np.allclose(y, expected(x) + version, rtol=1e-4, atol=1e-4) else \
            f"version {version}: {x} -> {y}"
    load = Load(s, check, clients=8)
    for version in range(2, 12):
        r.write_raw(folder, r.linear(W, bias=[version, version]))
        assert s.post("/v2/repository/models/m/load")[0] == 200
        # From here on nothing older answers.
        assert r.prediction_id(s.infer("m", [[0, 0, 0, 0]])[1])[2] == version
    load.end()
    assert s.get("/v2/models/m")["versions"] == ["11"]
    log = s.stop()
    assert log.count("unloaded") == 11


def test_load_that_fails_leaves_the_old_version(tmp_path, serve):
    folder = tmp_path / "models" / "m"
    r.write_raw(folder, r.linear(W))
    s = serve(tmp_path / "models")
    (folder / "null.json").write_text(json.dumps({"op": "linear", "weights": "none"}))
    status, _, body = s.post("/v2/repository/models/m/load")
    assert status == 400 and body["error"]
    assert s.infer("m", [[1, 2, 3, 4]])[0] == 200
    assert s.request("GET", "/v2/health/ready")[0] == 200
    r.write_raw(folder, r.linear(W))
    assert s.post("/v2/repository/models/m/load")[0] == 200
    assert s.infer("m", [[1, 2, 3, 4]])[0] == 200


def test_explicit_control(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "a", r.linear(W))
    r.write_raw(tmp_path / "models" / "b", r.linear(W))
    s = serve(tmp_path / "models", "--model-control", "explicit")
    assert s.infer("a", [[1, 2, 3, 4]])[0] == 404
    states = {m["name"]: m["state"] for m in s.post("/v2/repository/index")[2]}
    assert states == {"a": "UNAVAILABLE", "b": "UNAVAILABLE"}
    assert s.post("/v2/repository/models/a/load")[0] == 200
    assert s.infer("a", [[1, 2, 3, 4]])[0] == 200 and s.infer("b", [[1, 2, 3, 4]])[0] == 404
    assert s.post("/v2/repository/models/a/unload")[0] == 200
    assert s.infer("a", [[1, 2, 3, 4]])[0] == 404


def test_wrong_golden_answers_are_not_served(tmp_path, serve):
    r.make_bundle(tmp_path / "models" / "m", r.linear(W), golden=ROWS, wrong_golden=True)
    s = serve(tmp_path / "models", ready=False)
    why = r.wait_for("a failed load", lambda: [m for m in s.post("/v2/repository/index")[2]
                                               if m["reason"]])[0]
    assert why["state"] == "UNAVAILABLE" and "golden" in why["reason"]
    status, head, body = s.infer("m", [[1, 2, 3, 4]])
    assert status == 503 and "golden" in body["error"] and head["Retry-After"] == "1"
    assert s.request("GET", "/v2/health/ready")[0] == 503


def test_tampered_bundle_is_not_served(tmp_path, serve):
    folder = tmp_path / "models" / "m"
    r.make_bundle(folder, r.linear(W), golden=ROWS)
    (folder / "model" / "null.json").write_text(json.dumps(r.linear(W, bias=[9, 9])))
    s = serve(tmp_path / "models", ready=False)
    why = r.wait_for("a failed load", lambda: [m for m in s.post("/v2/repository/index")[2]
                                               if m["reason"]])[0]
    assert "model/null.json" in why["reason"]


def test_nothing_to_serve_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    done = subprocess.run([r.OVERTAKE, "serve", tmp_path / "empty", "--listen", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=r.PATIENCE)
    assert done.returncode == 1 and "manifest.json" in done.stderr
    done = subprocess.run([r.OVERTAKE, "serve"], capture_output=True, text=True, timeout=r.PATIENCE)
    assert done.returncode == 2 and "DIR" in done.stderr


# ---- the end


def test_sigterm_answers_what_is_in_flight(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W, delay_us=300_000))
    s = serve(tmp_path / "models", "--pool-threads", 1)
    sockets = [socket.create_connection((s.host, s.port), timeout=r.PATIENCE) for _ in range(4)]
    answers = [x.makefile("rb") for x in sockets]
    for x, f in zip(sockets, answers):  # each is known to the server
        x.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answers(f, 1)[0][0] == 200
    for x in sockets:
        x.sendall(raw_request(one()))
    r.wait_for("one that waits for another's run",
               lambda: s.get("/v2/models/m/stats")["model_stats"][0]["queue_waiting"] >= 1)
    s.stop(expect=0)
    assert [read_answers(f, 1)[0][0] for f in answers] == [200] * 4
    for x, f in zip(sockets, answers):
        f.close()
        x.close()


def test_drain_under_load_drops_no_started_request(linear):
    """A request that was sent on a connection that the server had open is answered; one that finds
    the door closed is refused at connect, which is not an answer that is missing."""
    lost = []
    stop = threading.Event()

    def client():
        c = None
        while not stop.is_set():
            try:
                c = c or socket.create_connection((linear.host, linear.port), timeout=r.PATIENCE)
            except OSError:
                return
            try:
                f = c.makefile("rb")
                c.sendall(raw_request(one()))
                head = f.readline()
                if not head:
                    lost.append("closed before the answer")
                    return
                closing = False
                length = 0
                while (line := f.readline().strip()):
                    closing |= line.lower() == b"connection: close"
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                f.read(length)
                if closing:
                    c.close()
                    return
            except OSError as e:
                lost.append(repr(e))
                return
    threads = [threading.Thread(target=client) for _ in range(6)]
    for t in threads:
        t.start()
    time.sleep(0.3)
    linear.stop()
    stop.set()
    for t in threads:
        t.join()
    assert not lost, lost
