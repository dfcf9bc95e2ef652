"""The control API over TLS: who may ask from elsewhere, whom the client trusts, commands on the machine itself,
certificates that are read again."""

import ctypes.util
import http.client
import json
import os
import ssl
import subprocess

import pytest

from replica import OVERTAKE, PATIENCE, wait_for
from test_listeners import Authority
from up import SLOW

needs_curl = pytest.mark.skipif(ctypes.util.find_library("curl") is None, reason="libcurl is not installed")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority")
    a = Authority("the authority")
    (folder / "ca.pem").write_bytes(a.pem())
    a.folder = folder
    return a


@pytest.fixture
def plane(authority, tmp_path):
    """`overtake up` whose control API anybody may reach, and who reaches it by its port."""
    authority.issue(tmp_path, "first")
    for kind in ("pem", "key"):
        (tmp_path / f"now.{kind}").write_bytes((tmp_path / f"first.{kind}").read_bytes())

    def start():
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        log = open(tmp_path / "up.log", "ab")
        p = subprocess.Popen([OVERTAKE, "up", "--data", data, "--listen", "127.0.0.1:0", "--control", "0.0.0.0:0",
                              "--control-tls-cert", tmp_path / "now.pem", "--control-tls-key", tmp_path / "now.key",
                              "--output", "json"], stdout=subprocess.PIPE, stderr=log, text=True)
        p.log, p.data, p.expected = tmp_path / "up.log", data, [SLOW]
        p.port = int(json.loads(p.stdout.readline())["control"].rsplit(":", 1)[1])
        p.token = (data / "token").read_text().strip()
        started.append(p)
        return p
    started = []
    try:
        p = start()
        yield p
        p.terminate()
        assert p.wait(PATIENCE) == 0
        bad = [line for line in p.log.read_text().splitlines() if (" warn " in line or " error " in line)
               and not any(text in line for text in p.expected)]
        assert not bad, bad
    finally:
        for p in started:
            p.kill()
            p.wait()
            p.stdout.close()


def cli(*args, code=0, **env):
    done = subprocess.run([OVERTAKE, *map(str, args)], capture_output=True, text=True, timeout=PATIENCE,
                          env={**{k: v for k, v in os.environ.items() if k != "SSL_CERT_FILE"}, **env})
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def ask(plane, authority, path="/api/v1/apps", **headers):
    context = ssl.create_default_context(cadata=authority.pem().decode())
    c = http.client.HTTPSConnection("localhost", plane.port, context=context, timeout=PATIENCE)
    try:
        c.request("GET", path, headers=headers)
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def certificate(port):
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE)


@needs_curl
def test_commands_of_this_machine_and_of_others(plane, authority):
    wait_for("the control plane", lambda: ask(plane, authority, "/api/v1/health")[0] == 200)
    assert (plane.data / "control.addr").read_text() == f"unix:{plane.data}/control.sock"
    assert (plane.data / "control.sock").stat().st_mode & 0o777 == 0o600
    wait_for("a replica", lambda: "replica-0" in cli("replicas", "--data", plane.data))
    url = f"https://localhost:{plane.port}"
    far = ("replicas", "--url", url, "--data", "/nonexistent")
    assert "replica-0" in cli(*far, "--ca", authority.folder / "ca.pem", OVERTAKE_TOKEN=plane.token)
    assert "replica-0" in cli(*far, OVERTAKE_TOKEN=plane.token, OVERTAKE_CA=str(authority.folder / "ca.pem"))
    assert "certificate" in cli(*far, code=1, OVERTAKE_TOKEN=plane.token), "the system does not know the authority"
    other = Authority("another").pem()
    (plane.data / "other.pem").write_bytes(other)
    assert "certificate" in cli(*far, "--ca", plane.data / "other.pem", code=1, OVERTAKE_TOKEN=plane.token)
    assert "token" in cli(*far, "--ca", authority.folder / "ca.pem", code=1, OVERTAKE_TOKEN="x" * 32)
    assert url in cli("page", "--url", url, "--data", plane.data)


def test_who_may_ask(plane, authority):
    bearer = {"Authorization": f"Bearer {plane.token}"}
    wait_for("the control plane", lambda: ask(plane, authority, **bearer)[0] == 200)
    assert ask(plane, authority)[0] == 401
    own = f"https://localhost:{plane.port}"
    assert ask(plane, authority, **bearer, Origin=own)[0] == 200
    for origin in (own.replace("https", "http"), "https://evil.example", "null"):
        assert ask(plane, authority, **bearer, Origin=origin)[0] == 403, origin
    c = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=PATIENCE)
    with pytest.raises((http.client.HTTPException, ConnectionError)):  # in the clear nothing is answered
        c.request("GET", "/api/v1/health")
        c.getresponse()
    c.close()


@needs_curl
def test_events_are_followed_as_they_come(plane, authority):
    wait_for("the control plane", lambda: ask(plane, authority, "/api/v1/health")[0] == 200)
    follow = subprocess.Popen([OVERTAKE, "events", "--follow", "--type", "key.", "--output", "json",
                               "--url", f"https://localhost:{plane.port}",
                               "--ca", authority.folder / "ca.pem"], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "OVERTAKE_TOKEN": plane.token})
    try:
        for name in ("one", "two"):  # the second can only come while the answer goes on
            cli("keys", "add", name, "--data", plane.data)
            assert json.loads(follow.stdout.readline())["object"] == f"client/{name}"
    finally:
        follow.kill()
        follow.wait()
        follow.stdout.close()


def test_a_new_certificate_is_taken(plane, authority, tmp_path):
    wait_for("the control plane", lambda: ask(plane, authority, "/api/v1/health")[0] == 200)
    before = certificate(plane.port)
    authority.issue(tmp_path, "second")
    for kind in ("key", "pem"):
        os.replace(tmp_path / f"second.{kind}", tmp_path / f"now.{kind}")
    wait_for("the new one", lambda: certificate(plane.port) != before)
    assert ask(plane, authority, "/api/v1/health")[0] == 200


def test_an_upgrade_goes_on_with_it(plane, authority):
    wait_for("the control plane", lambda: ask(plane, authority, "/api/v1/health")[0] == 200)
    plane.expected.append("the control plane is gone")
    cli("upgrade", "--data", plane.data)
    assert ask(plane, authority, "/api/v1/health")[0] == 200
    wait_for("a replica", lambda: "replica-0" in cli("replicas", "--data", plane.data))


@pytest.mark.parametrize("given", [["--control-tls-cert", "now.pem"], ["--control-tls-key", "now.key"],
                                   ["--control-tls-cert", "now.key", "--control-tls-key", "now.key"]])
def test_files_that_do_not_fit_are_refused(authority, tmp_path, given):
    authority.issue(tmp_path, "now")
    given = [tmp_path / x if x.startswith("now") else x for x in given]
    error = cli("up", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--control", "0.0.0.0:0", *given, code=1)
    assert "control-tls" in error or "now.key" in error, error
    assert not (tmp_path / "data").exists()
