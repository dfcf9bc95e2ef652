"""External servers behind TLS: whose certificate is taken, and what is said of one that is not."""

import json
import socket
import ssl
import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization

import replica as r
from linear_model import ROWS, W, Load, check_linear, expected
from test_external import LARGE, Llm, ask, events, external
from test_listeners import DAY, Authority, tls_args


@pytest.fixture(scope="module")
def authority():
    return Authority("tests")


@pytest.fixture
def secrets(tmp_path, authority, monkeypatch):
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "corp").write_bytes(authority.pem())
    monkeypatch.setenv("OVERTAKE_SECRETS", str(folder))
    return folder


@pytest.fixture
def llm_with(request):
    """llm_with((CERT, KEY)) starts a server of language models with it; what clients call it: server.names."""
    def start(pair):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        names = []
        context.sni_callback = lambda _, name, __: names.append(name)
        x = Llm(context)
        x.names = names
        request.addfinalizer(x.close)
        return x
    return start


@pytest.fixture
def chat_of(tmp_path, serve, secrets):
    """chat_of(LLM, {tls}) serves it as `chat`."""
    def start(llm, tls, host="localhost"):
        port = llm.address.rpartition(":")[2]
        external(tmp_path / "models" / "chat", f"https://{host}:{port}", protocol="openai", model="llama",
                 timeout_ms=5000, **({"tls": tls} if tls is not None else {}))
        return serve(tmp_path / "models", "--workers", 1)
    return start


def self_signed(folder):
    own = Authority("localhost")
    (folder / "self.pem").write_bytes(own.pem())
    (folder / "self.key").write_bytes(own.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return folder / "self.pem", folder / "self.key"


def message(answer):
    return json.loads(answer.read())["error"]["message"]


def test_completions_pass_through_tls(tmp_path, authority, llm_with, chat_of):
    llm = llm_with(authority.issue(tmp_path, "server"))
    s = chat_of(llm, {"ca": "corp"})
    for i in range(5):
        _, a = ask(s)
        assert a.status == 200 and json.loads(a.read())["choices"][0]["message"]["content"] == "HELLO YOU"
    assert llm.connections == 1 and set(llm.names) == {"localhost"}
    llm.how = "large"
    _, a = ask(s, stream=True)
    got = events(a)
    assert got[-1] == "[DONE]" and len(got) == LARGE + 2
    assert all(json.loads(e)["choices"][0]["delta"]["content"] == "x" * 8192 for e in got[:LARGE:97])
    llm.how = "well"
    assert ask(s)[1].status == 200


def test_a_slow_client_slows_a_server_behind_tls(tmp_path, authority, llm_with, chat_of):
    llm = llm_with(authority.issue(tmp_path, "server"))
    s = chat_of(llm, {"ca": "corp"})
    llm.how = "large"
    _, a = ask(s, stream=True)
    assert a.readline().startswith(b"data: ")
    looks = []

    def held_up():
        looks.append(llm.sent)
        return len(looks) > 30 and len(set(looks[-30:])) == 1
    r.wait_for("the server is held up", held_up)
    assert llm.sent < LARGE // 2
    rest = events(a)
    assert rest[-1] == "[DONE]" and len(rest) == LARGE + 1


def test_certificates_that_are_not_taken(tmp_path, authority, llm_with, chat_of):
    old = {"since": -30 * DAY, "until": -DAY}
    good = authority.issue(tmp_path, "good")
    for pair, tls, host, word in (
            (good, {"ca": "corp", "name": "other.example"}, "localhost", "for 'other.example': hostname mismatch"),
            (authority.issue(tmp_path, "old", **old), {"ca": "corp"}, "localhost", "for 'localhost': certificate has expired"),
            (self_signed(tmp_path), {"ca": "corp"}, "localhost", "self-signed certificate"),
            (Authority("stranger").issue(tmp_path, "strange"), {"ca": "corp"}, "localhost", "unable to get local issuer"),
            (good, None, "localhost", "unable to get local issuer"),  # by default the system says whom to trust
            (good, {"ca": "corp", "name": "127.0.0.2"}, "127.0.0.1", "for '127.0.0.2': IP address mismatch")):
        llm = llm_with(pair)
        s = chat_of(llm, tls, host)
        for stream in (False, True):
            _, a = ask(s, stream=stream)
            why = message(a)
            assert a.status == 503 and word in why and "its certificate is not accepted" in why, why
        assert llm.asked == []  # nothing was said to it, the secret neither
        s.stop()


def test_a_name_or_an_address_that_fits(tmp_path, authority, llm_with, chat_of):
    llm = llm_with(authority.issue(tmp_path, "good"))
    for tls, host in (({"ca": "corp"}, "127.0.0.1"), ({"ca": "corp", "name": "localhost"}, "127.0.0.1")):
        s = chat_of(llm, tls, host)
        assert ask(s)[1].status == 200
        s.stop()
    assert llm.names == [None, "localhost"]  # an address is no name that is sent


def test_verification_can_be_given_up_and_is_told(tmp_path, llm_with, chat_of):
    llm = llm_with(Authority("stranger").issue(tmp_path, "strange"))
    s = chat_of(llm, {"verify": False})
    assert ask(s)[1].status == 200
    assert "not verified" in s.get("/v2/models/chat")["parameters"]["note"]


def test_tensors_pass_through_tls(tmp_path, serve, authority, secrets):
    r.write_raw(tmp_path / "far" / "one", r.linear(W))
    far = serve(tmp_path / "far", "--workers", 1, *tls_args(authority.issue(tmp_path, "server")))
    port = json.loads(far.process.stdout.readline())["listening"].rpartition(":")[2]
    external(tmp_path / "models" / "m", f"https://localhost:{port}", protocol="oip", model="one", tls={"ca": "corp"})
    s = serve(tmp_path / "models", "--workers", 2)
    status, _, body = s.infer("m", ROWS)
    assert status == 200
    np.testing.assert_allclose(np.array(body["outputs"][0]["data"]).reshape(3, 2), expected(ROWS), rtol=1e-5)
    load = Load(s, check_linear, clients=6)
    r.wait_for("some answers", lambda: load.good > 300)
    load.end()
    external(tmp_path / "strange" / "m", f"https://localhost:{port}", protocol="oip", model="one")
    s = serve(tmp_path / "strange", ready=False)
    r.wait_for("it is told at load", lambda: "unable to get local issuer" in open(s.log_path).read())


def test_a_server_that_stops_in_the_middle_of_a_handshake(tmp_path, chat_of):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        class Mute:
            address = f"127.0.0.1:{mute.getsockname()[1]}"
        held = []
        threading.Thread(target=lambda: held.append(mute.accept()[0]), daemon=True).start()
        s = chat_of(Mute, {"verify": False}, "127.0.0.1")
        _, a = ask(s, headers={"overtake-deadline-ms": "300"})
        assert a.status == 504 and "nothing moved" in message(a)
    with socket.create_server(("127.0.0.1", 0)) as plain:
        def answer():
            c = plain.accept()[0]
            c.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            held.append(c)
        threading.Thread(target=answer, daemon=True).start()

        class Plain:
            address = f"127.0.0.1:{plain.getsockname()[1]}"
        s.stop()
        s = chat_of(Plain, {"verify": False}, "127.0.0.1")
        _, a = ask(s)
        why = message(a)
        assert a.status == 503 and "TLS: wrong version number" in why, why
    for c in held:
        c.close()
