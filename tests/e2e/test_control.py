"""The control API of `overtake up`: who may ask, what is refused and how, streams, proof of the log, and
what happens when the control plane dies."""

import ctypes.util
import http.client
import http.server
import json
import os
import shutil
import socket
import sqlite3
import ssl
import stat
import subprocess
import threading

import pytest

from replica import OVERTAKE, wait_for
from up import Api, ApiError, two_classes

SLOW = '''
    import pathlib, time
    print("begun", flush=True)
    while not pathlib.Path("/proc/self/cwd/../go").exists():
        time.sleep(0.01)
    print("going on", flush=True)
'''


@pytest.fixture
def plane(up):
    return up()


def error_of(answer):
    status, headers, body = answer
    assert headers["Content-Type"] == "application/json", headers
    return status, json.loads(body)["error"]


# ---- who may ask


@pytest.mark.parametrize("change, status, text", [
    ({}, 200, None),
    ({"Authorization": None}, 401, "a token is needed"),
    ({"Authorization": "Bearer 0123456789abcdef0123456789abcdef"}, 401, "is not this data directory's"),
    ({"Authorization": "Basic dXNlcjpwYXNz"}, 401, "a token is needed"),
    ({"Host": "evil.example"}, 403, "Host 'evil.example'"),
    ({"Host": "evil.example:{port}"}, 403, "Host 'evil.example:"),
    ({"Host": "localhost:1"}, 403, "Host 'localhost:1'"),
    ({"Host": "localhost:{port}"}, 200, None),
    ({"Origin": "http://evil.example"}, 403, "Origin 'http://evil.example'"),
    ({"Origin": "null"}, 403, "Origin 'null'"),
    ({"Origin": "http://127.0.0.1:{port}"}, 200, None),
    # The site is checked before the token: a stranger's page learns nothing of it.
    ({"Host": "evil.example", "Authorization": None}, 403, "Host"),
    ({"Origin": "http://evil.example", "Authorization": None}, 403, "Origin"),
])
def test_who_may_ask(still, change, status, text):
    api = still.api
    headers = api.headers()
    for k, v in change.items():
        headers.pop(k, None)
        if v is not None:
            headers[k] = v.format(port=api.port)
    answer = api.raw("GET", "/api/v1/apps", None, headers)
    assert answer[0] == status, answer
    if status != 200:
        assert text in error_of(answer)[1]
    assert (answer[1]["WWW-Authenticate"] == "Bearer") == (status == 401)


@pytest.mark.parametrize("change, status", [
    ({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 403), ({"Authorization": None}, 401)])
def test_a_foreign_post_changes_nothing(still, app, change, status):
    a = app()
    headers = {k: v for k, v in {**still.api.headers(), **change}.items() if v is not None}
    before = still.api.head()
    answer = still.api.raw("POST", "/api/v1/apps", a.yaml(), headers, file="app.yaml", dir=str(a.folder))
    assert answer[0] == status
    assert still.api.get("/apps") == {"apps": []} and still.api.happened(before) == []


def test_health_needs_no_token_and_nothing_else_is_open(still):
    api = still.api
    assert json.loads(api.raw("GET", "/api/v1/health")[2])["apps"] == 0
    assert error_of(api.raw("GET", "/api/v1/health", None, {"Host": "evil.example"}))[0] == 403
    for path in ("/metrics", "/api/v1/apps", "/api/v1/events/stream", "/api/v1/nothing", "/api/v1/runs/1/log"):
        assert error_of(api.raw("GET", path))[0] == 401, path


def test_the_actor_is_what_the_header_says(plane, app):
    a = app()
    a.apply(Api(plane.control, plane.api.token, actor="anna"), retrain={"when": []})
    assert plane.api.events("app.applied")[0]["actor"] == "anna"
    answer = plane.api.raw("GET", "/api/v1/apps", None, plane.api.headers(**{"overtake-actor": "x" * 65}))
    assert error_of(answer) == (400, "overtake-actor has 65 bytes; at most 64 are accepted")


def test_files_are_private(still):
    for name in ("token", "agent.sock", "control.addr"):
        assert stat.S_IMODE(os.stat(still.data / name).st_mode) == 0o600, name


# ---- what is refused


@pytest.mark.parametrize("method, path, body, status, text", [
    ("GET", "/api/v1/nothing", None, 404, "nothing at /api/v1/nothing"),
    ("GET", "/api/v1/apps/", None, 404, "nothing at"),
    ("GET", "/api/v1/apps/..%2fapps", None, 404, "nothing at"),
    ("GET", "/api/v1/apps/absent", None, 404, "app 'absent' is not here"),
    ("GET", "/api/v1/runs/77", None, 404, "run 77"),
    ("GET", "/api/v1/runs/77/log", None, 404, "run 77"),
    ("GET", "/api/v1/runs/x", None, 400, "'x' is not the number of a run"),
    ("POST", "/api/v1/runs/77/cancel", None, 404, "run 77"),
    ("GET", "/api/v1/models/absent", None, 404, "absent"),
    ("GET", "/api/v1/events?limit=0", None, 400, "limit is '0'; a whole number from 1 to 1000"),
    ("GET", "/api/v1/events?aftr=1", None, 400, "'aftr' is not a parameter here; did you mean 'after'?"),
    ("GET", "/api/v1/events?after=1&after=2", None, 400, "'after' is given twice"),
    ("GET", "/api/v1/deployments/absent/accuracy?version=1", None, 404, "deployment 'absent'"),
    ("GET", "/api/v1/deployments/absent/accuracy", None, 400, "version is needed"),
    ("POST", "/api/v1/deployments/absent/labels", '{"labels": [{"id": "a", "value": 1}]}', 404,
     "deployment 'absent'"),
    ("POST", "/api/v1/deployments/absent/labels", '{"labels": [{"id": "a", "value": 1}, {"id": 5, "value": 1}]}',
     400, "labels[1]: 'id' must be text"),
    ("POST", "/api/v1/deployments/absent/labels", '{"labels": [{"id": "a"}]}', 400, "'value' must be a number"),
    ("POST", "/api/v1/deployments/absent/labels", '{"labels": []}', 400, "a list of 1 to 100000"),
    ("POST", "/api/v1/apps/absent/act", '{"verb": "pause"}', 404, "app 'absent' is not here"),
    ("POST", "/api/v1/apps/absent/act", '{"verb": "pause"', 400, "body:1:"),
    ("POST", "/api/v1/apps/absent/act", '[]', 400, "a JSON object is expected"),
    ("POST", "/api/v1/apps/absent/act", '', 400, "it is empty"),
    ("POST", "/api/v1/apps/absent/act", '{"verb": "pause", "raeson": "x"}', 400, "did you mean 'reason'"),
    ("POST", "/api/v1/apps/absent/act", '{"verb": "pause", "verb": "resume"}', 400, "duplicate"),
    ("POST", "/api/v1/apps/absent/act", '{"verb": "pin", "version": "3"}', 400, "'version' must be"),
    ("POST", "/api/v1/apps/absent/act", '{"reason": "x"}', 400, "'verb' is needed"),
    ("POST", "/api/v1/apps?file=app.yaml&dir=here", "x", 400, "the absolute path of the app's folder"),
    ("POST", "/api/v1/apps?file=app.yaml&dir=/nowhere-at-all", "x", 404, "/nowhere-at-all"),
    ("POST", "/api/v1/apps?file=app.yaml&dir=/tmp", "", 400, "the app file is empty"),
    ("POST", "/api/v1/apps?file=app.yaml&dir=/tmp", "schema: overtake/1\napp: [", 400, "app.yaml:"),
])
def test_what_is_refused(still, method, path, body, status, text):
    answer = still.api.raw(method, path, body, still.api.headers())
    got, message = error_of(answer)
    assert got == status and text in message, (got, message)


@pytest.mark.parametrize("method, path, allow", [
    ("DELETE", "/api/v1/apps", "GET, HEAD, POST"),
    ("POST", "/api/v1/events", "GET, HEAD"),
    ("GET", "/api/v1/apps/a/act", "POST"),
    ("HEAD", "/api/v1/events/stream", "GET"),
    ("BREW", "/api/v1/health", "GET, HEAD"),
])
def test_methods(still, method, path, allow):
    status, headers, _ = still.api.raw(method, path, None, still.api.headers())
    assert (status, headers["Allow"]) == (405, allow)


def test_bodies_have_limits(still, app):
    api, a = still.api, app()
    at = f"/api/v1/apps?file=app.yaml&dir={a.folder}"
    assert error_of(api.raw("POST", at, b"#" * ((1 << 20) + 1), api.headers()))[0] == 413
    assert error_of(api.raw("POST", "/api/v1/apps/x/act", b" " * 65537, api.headers()))[0] == 413
    assert error_of(api.raw("POST", "/api/v1/deployments/d/labels", b" " * (2 << 20), {}))[0] == 413
    many = json.dumps({"labels": [{"id": "a", "value": 1}] * 100001})
    status, text = error_of(api.raw("POST", "/api/v1/deployments/d/labels", many, api.headers()))
    assert status == 400 and "it has 100001" in text


def test_an_app_file_that_is_wrong_says_where(still, app):
    a = app()
    yaml = ("schema: overtake/1\napp: planes\ndata: {base: {path: base.npz}}\ntrain:\n  run: python train.py\n"
            "  resorces: {cpu: 1}\n  data: [base]\n  model: out/model\nserve: planes\n")
    with pytest.raises(ApiError) as e:
        a.apply(still.api, yaml)
    assert (e.value.status, e.value.message) == (
        400, "app.yaml:6:3: 'resorces' is not known in train; did you mean 'resources'?")
    assert still.api.get("/apps") == {"apps": []}


@pytest.mark.parametrize("url", ["ftp://host/x", "http://", "host/x", "http:///x", "http://h/a b"])
def test_a_webhook_that_is_none(still, app, url):
    with pytest.raises(ApiError) as e:
        app().apply(still.api, alerts={"webhook": url})
    assert e.value.status == 400 and "alerts.webhook:" in e.value.message


def test_a_diff_changes_nothing(plane, app):
    a = app()
    said = a.apply(plane.api, diff=1)
    assert said["app"] == "planes" and not said["started"] and "+ app: planes" in said["changed"]
    assert plane.api.get("/apps") == {"apps": []} and plane.api.events("app.") == []
    a.apply(plane.api)
    plane.api.wait_event("version.promoted")
    said = a.apply(plane.api, diff=1, evaluate={"held_out": "30%"})
    assert said == {"app": "planes", "changed": ["-   held_out: 0.2", "+   held_out: 0.3"],
                    "diff": [{"key": "evaluate.held_out", "from": "0.2", "to": "0.3"}], "started": False}
    assert "held_out: 0.2" in plane.api.text("/apps/planes/config")


# ---- reading


def test_events_by_page_and_filter(plane, app):
    a = app()
    a.apply(plane.api)
    plane.api.wait_event("version.promoted")
    plane.wait_replica()
    all_ = plane.api.events()
    assert [e["seq"] for e in all_] == list(range(1, len(all_) + 1))
    assert all_[-1]["seq"] == plane.api.head()
    get = plane.api.get
    assert get("/events", limit=2, newest=1)["events"] == all_[:-3:-1]
    assert get("/events", before=3)["events"] == all_[:2]
    assert get("/events", type="run.")["events"] == [e for e in all_ if e["type"].startswith("run.")]
    assert get("/events", object="run/1")["events"] == [e for e in all_ if e["object"] == "run/1"]
    assert get("/events", object="run/*")["events"] == [e for e in all_ if e["object"].startswith("run/")]
    t = all_[4]["time_us"]
    assert get("/events", from_us=t)["events"] == [e for e in all_ if e["time_us"] >= t]
    assert get("/events", to_us=t)["events"] == [e for e in all_ if e["time_us"] < t]


def test_the_log_proves_itself(up, app):
    u = up()
    a = app()
    a.apply(u.api)
    u.api.wait_event("version.promoted")
    proof = u.api.get("/events/verify")
    assert proof["ok"] is True and proof["rows"] == proof["head"]["seq"] == u.api.head()
    u.stop()
    db = sqlite3.connect(u.data / "store" / "store.db")
    db.execute("UPDATE event SET payload = '{\"text\":\"nothing happened\"}' WHERE seq = 3")
    db.commit()
    db.close()
    u.start()
    proof = u.api.get("/events/verify")
    assert (proof["ok"], proof["bad_seq"]) == (False, 3) and "payload" in proof["what"]


class Stream:
    """A streamed answer, read line by line."""

    def __init__(self, api, path):
        self.c = http.client.HTTPConnection(api.host, api.port, timeout=60)
        self.c.request("GET", "/api/v1" + path, headers=api.headers())
        self.r = self.c.getresponse()
        assert self.r.status == 200, self.r.read()

    def lines(self, n):
        """n lines that are not empty; fewer when the stream has ended."""
        out = []
        while len(out) < n:
            line = self.r.readline()
            if not line:
                break
            if line.strip():
                out.append(line.decode().rstrip("\n"))
        return out

    def close(self):
        self.c.close()


def test_events_stream(plane, app):
    a = app()
    a.apply(plane.api)
    plane.api.wait_event("version.promoted")
    plane.wait_replica()
    old = plane.api.events(after=3)
    s = Stream(plane.api, "/events/stream?after=3")
    assert [json.loads(x) for x in s.lines(len(old))] == old
    news = Stream(plane.api, "/events/stream")
    plane.api.act("planes", "pause", "to see it")
    plane.api.act("planes", "resume", "to see it too")
    for stream in (s, news):
        assert [json.loads(x)["type"] for x in stream.lines(2)] == ["loop.paused", "loop.resumed"]
        stream.close()
    # Some of them: by the start of the type, by the object or its start.
    everything = plane.api.events()
    for query, fits in (("type=loop.", lambda e: e["type"].startswith("loop.")),
                        ("object=run/*", lambda e: e["object"].startswith("run/")),
                        ("type=run.finished&object=run/2", lambda e: (e["type"], e["object"]) == ("run.finished", "run/2"))):
        some = [e for e in everything if fits(e)]
        s = Stream(plane.api, f"/events/stream?after=0&{query}")
        assert some and [json.loads(x) for x in s.lines(len(some))] == some, query
        s.close()
    rest = Stream(plane.api, "/events/stream?type=loop.resumed")
    plane.api.act("planes", "pause", "to see it")
    plane.api.act("planes", "resume", "to see this alone")
    assert json.loads(rest.lines(1)[0])["type"] == "loop.resumed"
    rest.close()


def test_streams_are_counted(plane):
    streams = [Stream(plane.api, "/events/stream") for _ in range(64)]
    with pytest.raises(ApiError) as e:
        plane.api.get("/events/stream")
    assert e.value.status == 429 and "64 streams" in e.value.message
    streams.pop().close()

    def again():
        try:
            streams.append(Stream(plane.api, "/events/stream"))
            return True
        except AssertionError:
            return False
    wait_for("a stream", again)
    plane.stop()
    for s in streams:  # each ends, and not in the middle of a line
        assert {json.loads(x)["type"] for x in s.lines(99)} <= {"replica.connected", "replica.lost"}


def test_a_reader_that_takes_nothing_holds_nothing_up(plane, app):
    """It is cut; others read on, and the log of the process says why it ended."""
    a = app()
    a.apply(plane.api)
    plane.api.wait_event("version.promoted")
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((plane.api.host, plane.api.port))
    slow.sendall(f"GET /api/v1/events/stream?after=0 HTTP/1.1\r\nHost: {plane.control}\r\n"
                 f"Authorization: Bearer {plane.api.token}\r\n\r\n".encode())
    fast = Stream(plane.api, "/events/stream?after=0")
    seen = len(fast.lines(plane.api.head()))
    for i in range(200):  # each leaves in its event what was changed: some 30 kB
        unused = {f"d{k}": {"path": "x" * 900 + str(i)} for k in range(15)}
        a.apply(plane.api, data={"base": {"path": "base.npz"}, **unused})
        seen += len(fast.lines(plane.api.head() - seen))
    wait_for("the cut", lambda: "did not take what was sent" in plane.log())
    slow.close()
    fast.close()


def test_the_log_of_a_run(plane, app):
    a = app()
    a.program(SLOW)
    a.apply(plane.api)
    run = wait_for("a run", lambda: plane.api.runs("planes"))[0]["run"]
    s = Stream(plane.api, f"/runs/{run}/log?follow=1")
    assert s.lines(1) == ["begun"]
    assert plane.api.text(f"/runs/{run}/log") == "begun\n"
    (plane.data / "runs" / str(run) / "go").touch()
    assert s.lines(99) == ["going on"]  # and then its end
    assert plane.api.text(f"/runs/{run}/log") == "begun\ngoing on\n"
    r = plane.api.get(f"/runs/{run}")
    assert (r["app"], r["step"], r["attempt"], r["parent"]) == ("planes", "train", 1, None)
    assert r["created_us"] <= r["started_us"] <= r["ended_us"] and r["result"]["exit_code"] == 0


def test_metrics(plane, app):
    app().apply(plane.api)
    plane.api.wait_event("version.promoted")
    plane.wait_replica()
    status, headers, body = plane.api.raw("GET", "/metrics", None, plane.api.headers())
    lines = body.decode().splitlines()
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'overtake_app_champion_version{app="planes"} 1' in lines
    assert 'overtake_runs{state="succeeded"} 3' in lines
    assert "overtake_replicas 1" in lines and "overtake_store_failed 0" in lines


def test_webhook(up, app):
    """An alert is tried again, and the log says what became of it."""
    got, answers = [], [500, 200]
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                c, _ = server.accept()
            except OSError:
                return
            data = b""
            while b"\r\n\r\n" not in data:
                data += c.recv(65536)
            head, body = data.split(b"\r\n\r\n", 1)
            length = int(next(x.split(b":")[1] for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")))
            while len(body) < length:
                body += c.recv(65536)
            got.append((head.split(b"\r\n")[0].decode(), json.loads(body)))
            code = answers.pop(0) if answers else 200
            c.sendall(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % code)
            c.close()
    threading.Thread(target=serve, daemon=True).start()
    u = up()
    a = app()
    a.program("raise SystemExit(3)")
    a.apply(u.api, alerts={"webhook": f"http://127.0.0.1:{server.getsockname()[1]}/hook?key=secret"})
    sent = u.api.wait_event("alert.sent", unless=("alert.failed",))
    finished = u.api.events("run.finished")[0]
    assert sent["payload"]["tries"] == 2 and sent["payload"]["because"] == [finished["seq"]]
    assert "secret" not in json.dumps(sent) and sent["object"] == "app/planes"
    line, alert = got[0]
    assert line == "POST /hook?key=secret HTTP/1.1" and got[1] == got[0]
    assert (alert["app"], alert["type"], alert["event"]) == ("planes", "run.finished", finished["seq"])
    server.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not here")
@pytest.mark.skipif(ctypes.util.find_library("curl") is None, reason="libcurl is not here")
@pytest.mark.parametrize("trusted", [True, False])
def test_webhook_over_tls(up, app, tmp_path, monkeypatch, trusted):
    key, cert, other = (str(tmp_path / n) for n in ("key.pem", "cert.pem", "other.pem"))
    for out in (cert, other):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
                        key if out == cert else key + "2", "-out", out], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", cert if trusted else other)
    got = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # a client that does not trust us goes away
    threading.Thread(target=server.serve_forever, daemon=True).start()
    u = up()
    a = app()
    a.program("raise SystemExit(3)")
    a.apply(u.api, alerts={"webhook": f"https://localhost:{server.server_address[1]}/hook"})
    if trusted:
        sent = u.api.wait_event("alert.sent", unless=("alert.failed",))
        assert sent["payload"]["tries"] == 1 and got[0]["type"] == "run.finished"
    else:
        u.expect_log(r"alert: webhook localhost:\d+: not delivered in \d tries: .*certificate", "alerts were not delivered")
        failed = u.api.wait_event("alert.failed", unless=("alert.sent",))
        assert "certificate" in failed["payload"]["text"] and got == []
    server.shutdown()
    server.server_close()


# ---- death and return


def test_control_is_killed_and_predictions_go_on(up, app):
    u = up()
    u.expect_log(r"control ended with signal 9", r"agent: the control plane is gone")
    app().apply(u.api)
    u.api.wait_event("version.promoted")
    x = two_classes(3, 7)[0]
    u.wait_serves("planes", 1, x)
    stop, failed = threading.Event(), []

    def ask():
        while not stop.is_set():
            status, _, answer = u.infer("planes", x)
            if status != 200:
                failed.append(answer)
    t = threading.Thread(target=ask)
    t.start()
    for _ in range(3):
        before = len(u.api.events("replica.connected"))
        u.kill_child("control")
        wait_for("control plane", u.answers)
        wait_for("the replica", lambda: len(u.api.events("replica.connected")) > before)
    stop.set()
    t.join()
    assert failed == []
    assert u.api.app("planes")["champion"] == 1 and u.api.get("/events/verify")["ok"]


def test_a_run_is_found_again_and_not_started_twice(up, app):
    u = up()
    u.expect_log(r"control ended with signal 9", r"agent: the control plane is gone")
    a = app()
    ready = (a.folder / "train.py").read_text()
    a.program(SLOW + '''
    open("/proc/self/cwd/../started", "a").write("once\\n")
''')
    (a.folder / "train.py").write_text((a.folder / "train.py").read_text() + ready)
    a.apply(u.api)
    run = wait_for("a run", lambda: [r for r in u.api.runs("planes") if r["state"] == "running"])[0]["run"]
    folder = u.data / "runs" / str(run)
    wait_for("its output", lambda: "begun" in u.api.text(f"/runs/{run}/log"))
    u.kill_child("control")
    wait_for("control plane", u.answers)
    assert u.api.get(f"/runs/{run}")["state"] == "running"
    (folder / "go").touch()
    u.api.wait_event("version.promoted")
    assert (folder / "started").read_text() == "once\n"
    assert [r["step"] for r in u.api.runs("planes")] == ["evaluate", "package", "train"]
    assert len(u.api.events("run.started", "run/%d" % run)) == 1


def test_a_run_that_ended_while_nobody_looked(up, app):
    """The control plane is gone when training ends: the next one takes its result."""
    u = up()
    a = app()
    ready = (a.folder / "train.py").read_text()
    a.program(SLOW)
    (a.folder / "train.py").write_text((a.folder / "train.py").read_text() + ready)
    a.apply(u.api)
    run = wait_for("a run", lambda: [r for r in u.api.runs("planes") if r["state"] == "running"])[0]["run"]
    u.stop()
    (u.data / "runs" / str(run) / "go").touch()
    wait_for("its end", lambda: (u.data / "runs" / str(run) / "exit.json").exists())
    u.start()
    u.api.wait_event("version.promoted")
    assert len(u.api.events("run.finished", f"run/{run}")) == 1


def test_the_lock_does_not_outlive_the_control_plane(up, app):
    """A program that still runs must not keep the data directory from the next `overtake up`."""
    u = up()
    a = app()
    a.program(SLOW)
    a.apply(u.api)
    run = wait_for("a run", lambda: [r for r in u.api.runs("planes") if r["state"] == "running"])[0]["run"]
    u.stop()
    u.start()
    assert u.api.get(f"/runs/{run}")["state"] == "running"
    u.api.post(f"/runs/{run}/cancel")
    u.api.wait_event("cycle.failed", unless=())
    assert u.api.get(f"/runs/{run}")["state"] == "cancelled"


def test_two_on_one_directory(up):
    u = up()
    second = subprocess.run([OVERTAKE, "control", "--data", u.data, "--listen", "127.0.0.1:0"],
                            capture_output=True, text=True)
    assert second.returncode == 1 and "is in use by another overtake" in second.stderr


def test_control_alone(tmp_path):
    p = subprocess.Popen([OVERTAKE, "control", "--data", tmp_path / "data", "--listen", "127.0.0.1:0",
                          "--output", "json"], stdout=subprocess.PIPE)
    try:
        said = json.loads(p.stdout.readline())
        api = Api(said["control"], (tmp_path / "data" / "token").read_text().strip())
        assert api.get("/replicas") == {"replicas": []}
        assert (tmp_path / "data" / "control.addr").read_text() == said["control"]
        p.terminate()
        assert p.wait(60) == 0
    finally:
        p.kill()


def test_a_token_that_others_can_read_is_refused(tmp_path):
    (tmp_path / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "token").chmod(0o644)
    p = subprocess.run([OVERTAKE, "control", "--data", tmp_path, "--listen", "127.0.0.1:0"], capture_output=True,
                       text=True)
    assert p.returncode == 1 and "can be read by others" in p.stderr
