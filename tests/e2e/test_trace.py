"""Traces of a replica, as a collector receives them (OTLP over HTTP, JSON)."""

import http.server
import json
import subprocess
import threading
import time

import numpy as np
import pytest

import replica as r

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector:
    """An OTLP receiver: keeps the spans; `status` is what it answers."""

    def __init__(self):
        self.spans, self.resources, self.status, self.asked, self.lock = [], [], 200, 0, threading.Lock()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/json"
                with collector.lock:
                    collector.asked += 1
                    for part in json.loads(body)["resourceSpans"] if collector.status == 200 else []:
                        collector.resources.append({a["key"]: a["value"]["stringValue"]
                                                    for a in part["resource"]["attributes"]})
                        for scope in part["scopeSpans"]:
                            collector.spans += scope["spans"]
                self.send_response(collector.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def requests(self):
        with self.lock:
            return [s for s in self.spans if s["name"].startswith("infer ")]

    def close(self):
        self.httpd.shutdown()
        self.httpd.server_close()


@pytest.fixture
def collector():
    c = Collector()
    yield c
    c.close()


@pytest.fixture
def model(tmp_path):
    r.write_raw(tmp_path / "models" / "m", r.linear(np.eye(4)))
    return tmp_path / "models"


def attributes(span):
    return {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}


def test_a_request_and_its_stages(serve, model, collector):
    s = serve(model, "--otlp", collector.url, "--trace-sample", "100%")
    before = time.time_ns()
    head = s.infer("m", np.zeros((3, 4)), headers={"traceparent": PARENT})[1]
    after = time.time_ns()
    s.infer("m", np.zeros((1, 4)))
    found = r.wait_for("two requests", lambda: len(collector.requests()) == 2 and collector.requests())
    mine = next(x for x in found if x["traceId"] == PARENT.split("-")[1])
    other = next(x for x in found if x is not mine)
    assert mine["parentSpanId"] == PARENT.split("-")[2] and mine["kind"] == 2 and mine["name"] == "infer m"
    assert other["parentSpanId"] == "" and other["traceId"] != mine["traceId"] and len(other["traceId"]) == 32
    a = attributes(mine)
    assert a["overtake.model"] == "m" and a["overtake.version"] == "1" and a["overtake.rows"] == "3"
    assert a["overtake.protocol"] == "rest"
    assert head["overtake-prediction-id"].startswith(a["overtake.prediction"] + "-")
    with collector.lock:
        stages = [x for x in collector.spans if x["parentSpanId"] == mine["spanId"]]
        assert collector.resources[0]["service.name"] == "overtake"
    assert [x["name"] for x in stages] == ["queue", "batch", "run", "encode"]
    assert len({x["spanId"] for x in stages} | {mine["spanId"]}) == 5
    times = [int(x["startTimeUnixNano"]) for x in stages] + [int(stages[-1]["endTimeUnixNano"])]
    assert times == sorted(times)
    assert times[0] == int(mine["startTimeUnixNano"]) and times[-1] == int(mine["endTimeUnixNano"])
    # Wall clocks have microseconds, and may be set while this runs: a second is near enough.
    assert before - 10**9 <= times[0] and times[-1] <= after + 10**9


def test_a_trace_goes_on_in_an_external_server(serve, model, tmp_path, collector):
    far = serve(model, "--otlp", collector.url, "--trace-sample", "0%")
    near = tmp_path / "near" / "m"
    near.mkdir(parents=True)
    (near / "external.json").write_text(json.dumps({"url": f"http://{far.address}", "protocol": "oip", "model": "m"}))
    s = serve(tmp_path / "near", "--otlp", collector.url, "--trace-sample", "100%")
    assert s.infer("m", np.zeros((1, 4)), headers={"traceparent": PARENT})[0] == 200

    def found():
        mine = [x for x in collector.requests() if x["traceId"] == PARENT.split("-")[1]]
        return len(mine) == 2 and mine
    spans = {x["parentSpanId"]: x for x in r.wait_for("both", found)}
    outer = spans[PARENT.split("-")[2]]
    assert outer["spanId"] in spans, "the far server's span is below the near one's"


def test_who_brings_a_trace_decides(serve, model, collector):
    """Not sampled by the caller: not sent, whatever the share; sampled: sent, even at 0%."""
    s = serve(model, "--otlp", collector.url, "--trace-sample", "0%")
    for _ in range(5):
        s.infer("m", np.zeros((1, 4)))
        s.infer("m", np.zeros((1, 4)), headers={"traceparent": PARENT[:-1] + "0"})
        s.infer("m", np.zeros((1, 4)), headers={"traceparent": PARENT + "junk"})
    s.infer("m", np.zeros((1, 4)), headers={"traceparent": PARENT})
    r.wait_for("the one", lambda: len(collector.requests()) > 0)
    s.stop()
    assert [x["traceId"] for x in collector.requests()] == [PARENT.split("-")[1]]


def test_what_is_left_is_sent_at_the_end(serve, model, collector):
    s = serve(model, "--otlp", collector.url, "--trace-sample", "1")
    for _ in range(20):
        s.infer("m", np.zeros((1, 4)))
    s.stop()
    assert len(collector.requests()) == 20


def test_a_collector_that_is_down_harms_nobody(serve, model, collector):
    address = collector.url
    collector.close()
    s = serve(model, "--otlp", address, "--trace-sample", "1")
    for _ in range(300):
        assert s.infer("m", np.zeros((1, 4)))[0] == 200

    def dropped():
        text = s.request("GET", "/metrics")[2].decode()
        return float(text.split("overtake_trace_dropped_requests_total ")[-1].split()[0])
    r.wait_for("a drop that is counted", lambda: dropped() > 0)
    said = s.stop()
    assert "traces can't be sent to" in said and said.count("can't be sent") == 1


def test_a_collector_that_refuses_is_tried_again(serve, model, collector):
    collector.status = 503
    s = serve(model, "--otlp", collector.url + "/v1/traces", "--trace-sample", "1")
    s.infer("m", np.zeros((1, 4)))
    r.wait_for("a refusal", lambda: collector.asked > 0)
    collector.status = 200

    def again():
        s.infer("m", np.zeros((1, 4)))
        return collector.requests()
    r.wait_for("traces again", again)
    assert "are sent to" in s.stop()


def test_a_url_that_is_none(model):
    done = subprocess.run([str(r.OVERTAKE), "serve", str(model), "--listen", "127.0.0.1:0", "--otlp", "collector:4318"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "--otlp 'collector:4318' does not begin with http://" in done.stderr
