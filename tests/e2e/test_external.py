"""External servers as variants: another server of the Open Inference Protocol, and servers of language models as the
tests make them (threads, http.server), well behaved and not."""

import http.client
import http.server
import json
import re
import socket
import threading

import numpy as np
import pytest

import replica as r
from linear_model import ROWS, W, Load, check_linear, expected

ZERO = [[0, 0, 0, 0]]
LARGE = 8000  # pieces of 8 KiB


def version(answer):
    status, headers, body = answer
    assert status == 200, body
    return r.prediction_id(headers)[2]


def external(folder, url, **more):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "external.json").write_text(json.dumps({"url": url, **more}))
    return folder


def deployments(tmp_path, *variants, name="m", **more):
    file = tmp_path / "deployments.json"
    file.write_text(json.dumps({"deployments": [{"name": name, "variants": [
        {"role": role, "version": v, "path": path, "share": share} for role, v, path, share in variants], **more}]}))
    return file


# ---- the Open Inference Protocol


@pytest.fixture
def far(tmp_path, serve):
    """Another server with the linear model, and one whose answers are one more."""
    r.write_raw(tmp_path / "far" / "one", r.linear(W))
    r.write_raw(tmp_path / "far" / "more", r.linear(W, bias=[1, 1]))
    return serve(tmp_path / "far", "--workers", 1)


def test_an_external_model_is_served_like_any_other(tmp_path, serve, far):
    external(tmp_path / "models" / "m", f"http://{far.address}", protocol="oip", model="one")
    s = serve(tmp_path / "models", "--workers", 2)
    status, head, body = s.infer("m", ROWS)
    assert status == 200 and body["model_name"] == "m" and r.prediction_id(head)[4] == 3
    np.testing.assert_allclose(np.array(body["outputs"][0]["data"]).reshape(3, 2), expected(ROWS), rtol=1e-5)
    about = s.get("/v2/models/m")
    assert about["platform"] == "external_external" and about["inputs"][0]["shape"] == [-1, 4]
    load = Load(s, check_linear, clients=6)
    r.wait_for("some answers", lambda: load.good > 300)
    sent = load.end()
    text = s.request("GET", "/metrics")[2].decode()
    assert f'overtake_requests_total{{deployment="m",model="m",version="1",role="champion"}} {sent + 1}\n' in text
    # What the caller got wrong is told before anything is passed on.
    assert s.infer("m", [[1, 2]])[0] == 400


def test_external_and_local_versions_share_a_deployment(tmp_path, serve, far):
    r.write_raw(tmp_path / "models" / "local", r.linear(W))
    external(tmp_path / "models" / "far", f"http://{far.address}", protocol="oip", model="more")
    file = deployments(tmp_path, ("champion", 1, "local", 0.5), ("arm", 2, "far", 0.5), labels={"far": 2})
    s = serve(tmp_path / "models", "--deployments", file, "--workers", 2)

    def check(x, y, headers):
        v = r.prediction_id(headers)[2]
        return None if np.allclose(y, expected(x) + v - 1, rtol=1e-4, atol=1e-4) else f"v{v}: {x} -> {y}"
    load = Load(s, check)
    by_key = {k: version(s.infer("m", ZERO, headers={"overtake-key": f"k{k}"})) for k in range(60)}
    assert set(by_key.values()) == {1, 2}
    assert by_key == {k: version(s.infer("m", ZERO, headers={"overtake-key": f"k{k}"})) for k in range(60)}
    assert version(s.infer("m", ZERO, headers={"overtake-label": "far"})) == 2
    load.end()
    status, _, body = s.post("/v2/repository/models/m/unload")
    assert status == 409 and "--deployments" in body["error"], body


def bundle_of_far(tmp_path, address, model, bias, wrong=False):
    """A bundle of an external model with golden answers. Returns its digest."""
    import hashlib
    y = (expected(ROWS) + bias + (5 if wrong else 0)).astype(np.float32)
    parts = {"model/external.json": json.dumps({"url": f"http://{address}", "protocol": "oip", "model": model}).encode(),
             "golden/golden.json": json.dumps({"tolerance": {"abs": 1e-4, "rel": 1e-3}, "cases": [
                 {"inputs": [r.tensor_json("x", ROWS[i:i + 1])], "outputs": [r.tensor_json("y", y[i:i + 1])]}
                 for i in range(len(ROWS))]}).encode()}
    manifest = {"schema": "overtake.bundle/1", "format": "external",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
                "batch": {"axis": 0, "max": 16}, "prediction": {"output": "y", "kind": "scores"},
                "files": [{"path": p, "size": len(b), "sha256": hashlib.sha256(b).hexdigest()} for p, b in sorted(parts.items())]}
    parts["manifest.json"] = json.dumps(manifest).encode()
    folder = tmp_path / f"bundle-{model}-{wrong}"
    for path, data in parts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    r.store_bundle(tmp_path / "blobs", folder)
    return hashlib.sha256(parts["manifest.json"]).hexdigest()


def test_golden_canary_and_shadow_of_an_external_version(tmp_path, managed, bundles, far):
    plane, start = managed
    local, more = bundles(1), bundle_of_far(tmp_path, far.address, "more", 1)
    plane.want(r.deployment(r.variant("champion", 1, local, 1), r.variant("shadow", 2, more, 0), compare=True))
    s = start("--workers", 2)
    plane.wait_observed()
    assert s.request("GET", "/v2/models/m/versions/2")[0] == 200
    assert json.loads(s.request("GET", "/v2/models/m/versions/2")[2])["parameters"]["verified"] is True
    for k in range(40):
        assert version(s.infer("m", np.full((2, 4), k, np.float32))) == 1
    plane.want(r.deployment(r.variant("champion", 1, local, 0.5), r.variant("canary", 2, more, 0.5)))
    plane.wait_observed()
    assert {version(s.infer("m", ZERO)) for _ in range(60)} == {1, 2}
    plane.want(r.deployment(r.variant("champion", 1, local, 1),
                            r.variant("shadow", 3, bundle_of_far(tmp_path, far.address, "one", 0, wrong=True), 0)))
    o = plane.wait_observed(state="failed")
    assert "golden" in next(v["error"] for v in o["deployments"][0]["variants"] if v["version"] == 3)
    s.stop()
    copied = [r.decode_sample(v, b) for v, b in plane.taken("sample", role="shadow", version=2)]
    assert sum(len(c["seq"]) for c in copied) == 80
    live = [r.decode_sample(v, b) for v, b in plane.taken("sample", role="live", version=2)]
    assert live and all(len(c["y"]) for c in live)  # what it answered itself was sampled too


def test_a_server_that_is_gone_falls_back_or_is_told(tmp_path, serve, far):
    r.write_raw(tmp_path / "models" / "local", r.linear(W))
    external(tmp_path / "models" / "far", f"http://{far.address}", protocol="oip", model="one")
    for fallback in ("refuse", {"constant": [7, 8]}, "previous"):
        file = deployments(tmp_path, ("champion", 2, "far", 1), ("shadow", 1, "local", 0), fallback=fallback)
        if far.process.poll() is not None:
            far = serve(tmp_path / "far", "--workers", 1)
            external(tmp_path / "models" / "far", f"http://{far.address}", protocol="oip", model="one")
        s = serve(tmp_path / "models", "--deployments", file, "--workers", 1)
        assert version(s.infer("m", ZERO)) == 2
        far.kill()
        status, head, body = s.infer("m", [[1, 2, 3, 4]])
        if fallback == "refuse":
            assert status == 503 and far.address in body["error"], body
        elif fallback == "previous":
            assert status == 200 and head["overtake-fallback"] == "previous" and r.prediction_id(head)[2] == 1
        else:
            assert status == 200 and body["outputs"][0]["data"] == [7, 8], body
        text = s.request("GET", "/metrics")[2].decode()
        assert 'overtake_failed_total{deployment="m",model="m",version="2",role="champion"} 1\n' in text
        s.stop()


# ---- servers of language models


class Llm:
    """A server as language models have them. `how` says what it does next."""

    def __init__(self, tls=None):
        """`tls`: an ssl.SSLContext."""
        self.asked, self.gone, self.how, self.sent, self.connections = [], threading.Event(), "well", 0, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                outer.connections += 1

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, dict(self.headers), body))
                outer.answer(self, body)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.release = threading.Event()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, h, body):
        how = self.how
        if how == "hang":
            self.release.wait(r.PATIENCE)
            return
        if how == "garbage":
            h.wfile.write(b"\x00\x01nonsense\r\n\r\n")
            h.close_connection = True
            return
        if how == "busy":
            self.whole(h, 429, {"error": {"message": "slow down", "type": "rate_limit_error"}})
            return
        if not body.get("stream"):
            text = " ".join(m["content"] for m in body.get("messages", [])) or body.get("prompt", "")
            self.whole(h, 200, {"id": "c1", "model": body["model"], "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text.upper()}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
            return
        h.send_response(200)
        h.send_header("Content-Type", "text/event-stream; charset=utf-8")
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        try:
            for i in range({"endless": 10_000_000, "large": LARGE}.get(how, 5)):
                self.piece(h, {"choices": [{"delta": {"content": f"w{i} " if how != "large" else "x" * 8192}}]})
                self.sent += 1
                if how == "die" and i == 2:
                    h.connection.shutdown(socket.SHUT_RDWR)
                    h.close_connection = True
                    return
                if how == "wait" and i == 0:
                    self.release.wait(r.PATIENCE)
            self.piece(h, {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 20}})
            h.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        except OSError:
            self.gone.set()

    @staticmethod
    def piece(h, value):
        data = f"data: {json.dumps(value)}\n\n".encode()
        h.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        h.wfile.flush()

    @staticmethod
    def whole(h, status, value):
        data = json.dumps(value).encode()
        h.send_response(status)
        h.send_header("Content-Type", "application/json")
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data)

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def llm():
    x = Llm()
    yield x
    x.close()


@pytest.fixture
def chat(tmp_path, serve, llm, monkeypatch):
    """A replica with the deployment `chat`, whose server is `llm` and calls it llama."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "llm").write_text("s3cret\n")
    monkeypatch.setenv("OVERTAKE_SECRETS", str(tmp_path / "secrets"))
    external(tmp_path / "models" / "chat", f"http://{llm.address}", protocol="openai", model="llama", timeout_ms=2000,
             auth={"secret": "llm"})
    s = serve(tmp_path / "models", "--workers", 2)
    llm.asked.clear()
    return s


def ask(s, stream=False, path="/v1/chat/completions", headers=None, model="chat", **more):
    body = {"model": model, "messages": [{"role": "user", "content": "hello you"}], "stream": stream, **more}
    c = http.client.HTTPConnection(s.host, s.port, timeout=r.PATIENCE)
    c.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
    return c, c.getresponse()


def events(response):
    """As clients of these servers read them: lines of data until [DONE]."""
    out = []
    for line in response:
        if line.startswith(b"data: "):
            out.append(line[6:].strip().decode())
    return out


def test_a_completion_is_passed_on(chat, llm):
    c, a = ask(chat, temperature=0.5, user="anna")
    body = json.loads(a.read())
    assert a.status == 200 and body["choices"][0]["message"]["content"] == "HELLO YOU"
    path, headers, sent = llm.asked[0]
    assert path == "/v1/chat/completions" and headers["authorization"] == "Bearer s3cret"
    assert sent["model"] == "llama" and sent["temperature"] == 0.5 and sent["user"] == "anna"
    assert r.ID.match(a.headers["overtake-prediction-id"]) and a.headers["overtake-version"] == "1"
    c = http.client.HTTPConnection(chat.host, chat.port, timeout=r.PATIENCE)
    c.request("POST", "/v1/completions", json.dumps({"model": "chat", "prompt": "tell me"}))
    assert json.loads(c.getresponse().read())["choices"][0]["message"]["content"] == "TELL ME"
    assert llm.asked[-1][0] == "/v1/completions"
    assert chat.get("/v1/models")["data"][0]["id"] == "chat"


def test_a_stream_comes_through_piece_by_piece(chat, llm):
    llm.how = "wait"
    _, a = ask(chat, stream=True)
    assert a.status == 200 and a.headers["Content-Type"] == "text/event-stream"
    assert a.readline().startswith(b'data: {"choices": [{"delta": {"content": "w0 "')  # while the server waits
    llm.release.set()
    rest = events(a)
    assert rest[-1] == "[DONE]" and [json.loads(e)["choices"][0]["delta"]["content"] for e in rest[:4]] == ["w1 ", "w2 ", "w3 ", "w4 "]
    r.wait_for("usage is counted", lambda: re.search(r'overtake_tokens_total\{deployment="chat".*kind="completion"\} 20\n',
                                                     chat.request("GET", "/metrics")[2].decode()))


def test_what_a_server_does_wrong_is_told(chat, llm):
    llm.how = "busy"
    _, a = ask(chat)
    body = json.loads(a.read())
    assert a.status == 429 and "slow down" in body["error"]["message"] and body["error"]["type"] == "rate_limit_error"
    _, a = ask(chat, stream=True)  # an error in place of a stream
    assert a.status == 429
    llm.how = "garbage"
    _, a = ask(chat)
    assert a.status == 503 and "not HTTP/1.1" in json.loads(a.read())["error"]["message"]
    llm.how = "hang"
    _, a = ask(chat)
    assert a.status == 504 and "nothing moved" in json.loads(a.read())["error"]["message"]
    llm.how = "die"
    _, a = ask(chat, stream=True)
    got = events(a)
    assert len(got) == 4 and "[DONE]" not in got and "ended before" in json.loads(got[-1])["error"]["message"]
    llm.how = "well"
    for _ in range(20):
        assert ask(chat)[1].status == 200
    for bad, status in ((b"{", 400), (b"[]", 400), (b"{}", 400), (b'{"model": "chat"}', 400), (b'{"model": "nobody"}', 404)):
        assert chat.request("POST", "/v1/chat/completions", bad)[0] == status, bad
    assert chat.request("GET", "/v1/chat/completions")[0] == 405
    text = chat.request("GET", "/metrics")[2].decode()
    assert int(re.search(r'overtake_failed_total\{deployment="chat".*\} (\d+)\n', text)[1]) >= 5


def test_a_hanging_server_holds_no_other_model_up(tmp_path, chat, llm, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    s = serve(tmp_path / "models", "--workers", 1, "--pool-threads", 1)
    llm.how = "hang"
    waiting = [ask_later(s) for _ in range(20)]
    r.wait_for("they hang", lambda: len(llm.asked) >= 20)
    for _ in range(50):
        assert s.infer("m", [[1, 2, 3, 4]])[0] == 200
    assert all(w.getresponse().status == 504 for w in waiting)


def test_the_end_waits_for_no_other_server_longer_than_for_a_drain(tmp_path, serve, llm):
    external(tmp_path / "models" / "chat", f"http://{llm.address}", protocol="openai", model="llama", timeout_ms=600_000)
    s = serve(tmp_path / "models", "--drain", "300ms")
    llm.how = "hang"
    waiting = ask_later(s)
    r.wait_for("it hangs", lambda: llm.asked)
    s.stop()
    try:  # told or cut, as the two come first
        assert waiting.getresponse().status == 503
    except (OSError, http.client.HTTPException):
        pass


def ask_later(s):
    c = http.client.HTTPConnection(s.host, s.port, timeout=r.PATIENCE)
    c.request("POST", "/v1/chat/completions", json.dumps({"model": "chat", "messages": []}))
    return c


def test_a_client_that_leaves_ends_the_servers_work(chat, llm):
    llm.how = "endless"
    c, a = ask(chat, stream=True)
    assert a.readline().startswith(b"data: ")
    a.close()
    c.close()
    assert llm.gone.wait(r.PATIENCE)
    llm.how = "well"
    assert ask(chat)[1].status == 200


def test_a_slow_client_slows_the_server(chat, llm):
    """What is on the way stays small, and nothing of it is lost."""
    llm.how = "large"
    c, a = ask(chat, stream=True)
    assert a.readline().startswith(b"data: ")
    looks = []

    def held_up():
        looks.append(llm.sent)
        return len(looks) > 30 and len(set(looks[-30:])) == 1
    r.wait_for("the server is held up", held_up)
    assert llm.sent < LARGE // 2
    rest = events(a)
    assert rest[-1] == "[DONE]" and len(rest) == LARGE + 1


def test_two_servers_share_a_chat_deployment(tmp_path, serve, llm):
    other = Llm()
    try:
        for name, x in (("a", llm), ("b", other)):
            external(tmp_path / "models" / name, f"http://{x.address}", protocol="openai", model=name)
        file = deployments(tmp_path, ("champion", 1, "a", 0.5), ("arm", 2, "b", 0.5), name="chat", labels={"new": 2})
        s = serve(tmp_path / "models", "--deployments", file, "--workers", 2)
        seen = {}
        for k in range(40):
            _, a = ask(s, headers={"overtake-key": f"k{k}"})
            model = json.loads(a.read())["model"]
            assert model == "ab"[int(a.headers["overtake-version"]) - 1]
            seen[k] = model
        assert set(seen.values()) == {"a", "b"}
        assert all(json.loads(ask(s, headers={"overtake-key": f"k{k}"})[1].read())["model"] == v for k, v in seen.items())
        assert json.loads(ask(s, headers={"overtake-label": "new"})[1].read())["model"] == "b"
    finally:
        other.close()


@pytest.mark.parametrize("change, word", [
    ({"url": "ftp://x:1"}, "ftp://x:1"), ({"tls": {}}, "not one of https"), ({"url": "https://x:1", "tls": {"ca": "../x"}}, "tls: ca is the name"),
    ({"url": "https://x:1", "tls": {"ca": "x"}}, "OVERTAKE_SECRETS"), ({"url": "http://"}, "url"), ({"protocol": "soap"}, "soap"), ({"model": ""}, "model"),
    ({"timeout_ms": 0}, "timeout_ms"), ({"auth": {"secret": "../x"}}, "auth.secret"), ({"auth": {"secret": "none"}}, "OVERTAKE_SECRETS"),
    ({"inputs": [{"name": "x"}], "outputs": []}, "datatype"), ({"url": "http://127.0.0.1:1"}, "127.0.0.1:1")])
def test_a_description_that_is_wrong_is_told(tmp_path, serve, change, word):
    external(tmp_path / "models" / "m", **{"url": "http://127.0.0.1:9", "protocol": "oip", "model": "m", **change})
    r.write_raw(tmp_path / "models" / "good", r.linear(W))
    s = serve(tmp_path / "models", ready=False)
    r.wait_for("it is told", lambda: word in open(s.log_path).read())
    assert s.infer("m", ZERO)[0] == 503
    r.wait_for("the other serves", lambda: s.infer("good", ZERO)[0] == 200)
