"""`overtake bench` and its like over TLS: every protocol, whom they trust, connections made again."""

import json
import ssl
import subprocess

import numpy as np
import pytest

import replica as r
from test_bench import Server, bench, is_ledger
from test_listeners import Authority, tls_args


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    a = Authority("tests")
    a.path = tmp_path_factory.mktemp("authority") / "ca.pem"
    a.path.write_bytes(a.pem())
    return a


@pytest.fixture
def secure(authority, serve, tmp_path):
    """(replica, its https address)"""
    r.write_raw(tmp_path / "models" / "m", r.linear(np.eye(4)))
    s = serve(tmp_path / "models", "--workers", 1, *tls_args(authority.issue(tmp_path, "server")))
    return s, "https://" + json.loads(s.process.stdout.readline())["listening"]


@pytest.mark.parametrize("protocol", ["rest", "binary", "grpc", "tfserving", "tfserving-grpc"])
def test_every_protocol(secure, authority, protocol):
    s, url = secure
    got = bench(f"{url}/v2/models/m", "-p", protocol, "-n", 200, "-c", 5, "--ca", authority.path)
    is_ledger(got["measured"])
    assert got["measured"]["correct"] == got["measured"]["due"] == 200 and got["reconnects"] == 0
    text = s.request("GET", "/metrics")[2].decode()
    assert 'overtake_requests_total{deployment="m",model="m",version="1",role="champion"} 200\n' in text


@pytest.mark.parametrize("protocol", ["binary", "grpc"])
def test_messages_of_many_records(secure, authority, protocol):
    got = bench(secure[1], "-p", protocol, "-n", 20, "-c", 2, "--rows", 20000, "--inputs", 3, "--ca", authority.path)
    assert got["measured"]["correct"] == 20
    for rows in range(980, 1024, 2):  # an answer may end where the buffer for it does
        got = bench(secure[1], "-p", protocol, "-n", 2, "-c", 1, "--rows", rows, "--inputs", 1, "--timeout", "3s", "--ca", authority.path)
        assert got["measured"]["correct"] == 2, rows


def test_whom_it_trusts(secure, authority, tmp_path):
    url = secure[1]
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(Authority("stranger").pem())
    for args in (["--ca", stranger], []):
        for command in (["bench", url, "-n", "1"], ["bench", url, "-m", "m", "-p", "grpc", "-n", "1"]):
            done = subprocess.run([r.OVERTAKE, *command, *args], capture_output=True, text=True)
            assert done.returncode == 1 and "its certificate is not accepted for '127.0.0.1'" in done.stderr, done.stderr
    assert bench(url, "-n", 5, "--insecure")["measured"]["correct"] == 5
    done = subprocess.run([r.OVERTAKE, "bench", url, "--ca", tmp_path / "none.pem"], capture_output=True, text=True)
    assert done.returncode == 1 and "none.pem" in done.stderr
    top = subprocess.run([r.OVERTAKE, "top", url, "--once", "--interval", "100ms", "--ca", authority.path], capture_output=True, text=True)
    assert top.returncode == 0 and "does not answer" not in top.stdout, top.stdout


def test_connections_are_made_again(authority, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(tmp_path, "server"))
    with Server([200, "cut", 200], context) as s:
        got = bench(f"https://{s.address}", "-m", "m", "-p", "rest", "-n", 30, "-c", 1, "--inputs", 1, "--ca", authority.path, expect=1)
        m = got["measured"]
        is_ledger(m)
        assert m["correct"] == 20 and m["broken"] == 10 and got["reconnects"] >= 9
        done = subprocess.run([r.OVERTAKE, "bench", f"https://{s.address}", "-m", "m", "-p", "grpc", "--ca", authority.path],
                              capture_output=True, text=True)
        assert done.returncode == 1 and "does not speak HTTP/2" in done.stderr, done.stderr
