"""`overtake bench`: against a replica, and against a server that does what servers do wrong. Its ledger is
compared with what the other side counted."""

import http.server
import json
import subprocess
import threading

import numpy as np
import pytest

import replica as r

SIGNATURE = {"name": "m", "versions": ["1"], "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
             "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]}


def bench(url, *args, expect=0, **kw):
    done = subprocess.run([str(r.OVERTAKE), "bench", url, "--output", "json", "--warm-up", "0s", *map(str, args)],
                          capture_output=True, text=True, timeout=r.PATIENCE, **kw)
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


def is_ledger(m):
    """Each request that was due ended in one way."""
    kinds = ("client_error", "server_error", "malformed", "broken", "timeout", "unsent")
    assert m["failed"] == sum(m[k] for k in kinds)
    assert m["due"] == m["correct"] + m["wrong"] + m["refused"] + m["failed"]


@pytest.mark.parametrize("protocol", ["rest", "binary", "grpc", "tfserving", "tfserving-grpc"])
@pytest.mark.parametrize("loop", [[], ["--rate", 400], ["--rate", 400, "--arrivals", "even"]],
                         ids=["closed", "poisson", "even"])
def test_every_answer_of_a_replica_is_counted(linear, protocol, loop):
    got = bench(f"http://{linear.address}/v2/models/m", "--protocol", protocol, "-n", 200, "-c", 5, *loop)
    m = got["measured"]
    is_ledger(m)
    assert m["due"] == m["correct"] == 200
    assert got["versions"] == {"1": {"correct": 200, "wrong": 0}}
    assert 0 < got["latency_us"]["p50"] <= got["latency_us"]["p99"] <= got["latency_us"]["max"]
    text = linear.request("GET", "/metrics")[2].decode()
    assert 'overtake_requests_total{deployment="m",model="m",version="1",role="champion"} 200\n' in text


def test_many_calls_on_a_connection(linear):
    got = bench(linear.address, "-p", "grpc", "--streams", 30, "-c", 2, "-n", 500)
    is_ledger(got["measured"])
    assert got["measured"]["correct"] == 500 and got["reconnects"] == 0


def test_grpc_refusals_and_failures(serve, tmp_path):
    r.write_raw(tmp_path / "m", r.linear(np.eye(4), delay_us=5000, fail_every=3))
    s = serve(tmp_path, "--workers", 1, "--pool-threads", 1, "--queue", 1, "--inline", "0s")
    got = bench(s.address, "-p", "grpc", "-c", 1, "--streams", 32, "--rate", 400, "-n", 150, expect=1)
    m = got["measured"]
    is_ledger(m)
    assert m["refused"] > 0 and m["server_error"] > 0 and m["correct"] > 0
    assert m["due"] == m["refused"] + m["server_error"] + m["correct"] == 150
    assert got["first_fault"].startswith("status 13: ") and "fails because fail_every is 3" in got["first_fault"]


def test_inputs_and_answers_from_files(linear, tmp_path):
    from linear_model import expected
    x = np.random.default_rng(3).random((20, 4), dtype=np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "y.npz", y=expected(x).astype(np.float32))
    np.savez(tmp_path / "no.npz", y=expected(x).astype(np.float32) + 1)
    args = ("--data", tmp_path / "x.npz", "--rows", 2, "-n", 30)
    assert bench(linear.address, *args, "--expect", tmp_path / "y.npz")["measured"]["correct"] == 30
    got = bench(linear.address, *args, "--expect", tmp_path / "no.npz", expect=1)
    assert got["measured"]["wrong"] == got["versions"]["1"]["wrong"] == 30
    assert "element 0" in got["first_fault"]
    (tmp_path / "x.json").write_text(json.dumps([
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": row.tolist()}]} for row in x]))
    got = bench(linear.address, "--data", tmp_path / "x.json", "--expect", tmp_path / "y.npz", "-n", 40)
    assert got["measured"]["correct"] == 40 and got["inputs"] == 20
    done = subprocess.run([r.OVERTAKE, "bench", linear.address, "--data", tmp_path / "y.npz"], capture_output=True, text=True)
    assert done.returncode == 1 and "there is no column 'x'" in done.stderr


class Server:
    """Answers infer requests by turns as `how` says: a status, "wrong", "cut", "garbage", "hang"."""

    def __init__(self, how, tls=None):
        self.how, self.n, self.lock, self.over = how, 0, threading.Lock(), threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.send(200, SIGNATURE)

            def send(self, status, value):
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    how = server.how[server.n % len(server.how)]
                    server.n += 1
                self.answer(how, body["inputs"][0]["data"])

            def answer(self, how, x):
                if how == "cut":
                    self.close_connection = True
                elif how == "garbage":
                    self.wfile.write(b"this is no HTTP\r\n\r\n")
                    self.close_connection = True
                elif how == "hang":
                    server.over.wait(r.PATIENCE)
                    self.close_connection = True
                elif how in (200, "wrong"):
                    y = sum(x) + (5 if how == "wrong" else 0)
                    self.send(200, {"model_name": "m", "model_version": "9", "outputs": [
                        {"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [y]}]})
                else:
                    self.send(how, {"error": "as it was told"})
        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        if tls:
            self.httpd.socket = tls.wrap_socket(self.httpd.socket, server_side=True)
        self.address = f"127.0.0.1:{self.httpd.server_port}"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.httpd.shutdown()
        self.httpd.server_close()


def test_each_way_to_fail_is_told_apart():
    how = [200, 503, 200, 429, 404, 500, "wrong", "cut", 200, "garbage"]
    with Server(how) as s:
        got = bench(f"http://{s.address}/v2/models/m", "-p", "rest", "-n", 100, "-c", 1, "--inputs", 1, expect=1)
        m = got["measured"]
        is_ledger(m)
        assert s.n == m["due"] == 100
        assert {k: m[k] for k in ("correct", "refused", "client_error", "server_error", "wrong", "broken", "malformed")} == {
            "correct": 30, "refused": 20, "client_error": 10, "server_error": 10, "wrong": 10, "broken": 10, "malformed": 10}
        assert got["versions"] == {"9": {"correct": 30, "wrong": 10}}
        assert got["reconnects"] >= 19
        assert "as it was told" in got["first_fault"] and got["refused_us"]["p50"] > 0


def test_refusals_alone_are_no_failure():
    with Server([200, 429]) as s:
        got = bench(s.address, "-m", "m", "-p", "rest", "-n", 20)
        assert got["measured"]["refused"] == 10


def test_a_server_that_hangs_is_charged_for_all_that_was_due():
    """An open loop goes on: what was due while the only connection waited counts from then."""
    with Server([200] * 5 + ["hang"] + [200] * 1000) as s:
        got = bench(s.address, "-m", "m", "-p", "rest", "--rate", 100, "--arrivals", "even", "-c", 1, "-n", 60,
                    "-d", "60s", "--timeout", "1s", expect=1)
        m = got["measured"]
        is_ledger(m)
        assert m["due"] == 60 and m["timeout"] == 1 and m["correct"] == 59
        # The connection hung for longer than the others take to be due: each of those waited.
        assert got["late"] >= 1 and got["latency_us"]["p50"] > 10_000 and got["latency_us"]["max"] > 300_000


def test_what_could_not_be_sent_is_a_failure():
    with Server(["hang"]) as s:
        got = bench(s.address, "-m", "m", "-p", "rest", "--rate", 200, "-c", 2, "-d", "100ms", "--timeout", "3s",
                    expect=1)
        m = got["measured"]
        is_ledger(m)
        assert m["timeout"] == 2 and m["unsent"] == m["due"] - 2 > 0


def test_a_server_that_goes_away_and_comes_back(serve, tmp_path):
    r.write_raw(tmp_path / "m", r.linear(np.eye(4)))
    s = serve(tmp_path, "--workers", 1)
    p = subprocess.Popen([str(r.OVERTAKE), "bench", s.address, "-d", "60s", "--warm-up", "0s", "--output", "json"],
                         stdout=subprocess.PIPE, text=True)
    r.wait_for("load", lambda: s.get("/v2/models/m/stats")["model_stats"][0]["inference_count"] > 100)
    s.stop()  # drains: answers what it has, then refuses connections
    p.send_signal(2)
    got = json.loads(p.communicate(timeout=r.PATIENCE)[0])
    is_ledger(got["measured"])
    assert got["measured"]["correct"] > 100 and got["measured"]["failed"] <= 16


def test_usage(linear):
    def fails(*args):
        done = subprocess.run([str(r.OVERTAKE), "bench", *args], capture_output=True, text=True)
        return done.returncode, done.stderr
    assert fails("127.0.0.1:1")[0] == 1
    code, said = fails(f"https://{linear.address}")
    assert code == 1 and "TLS: " in said  # its port has none
    code, said = fails(linear.address, "-m", "none")
    assert code == 1 and "answers 404" in said
    code, said = fails(linear.address, "-m", "none", "-p", "grpc")
    assert code == 1 and "gRPC status 5" in said and "not known" in said
    code, said = fails(linear.address, "--rate", "-3")
    assert code == 2 and "--rate" in said
