"""Clients by the thousand that drop calls in flight, stay idle, or use up descriptors: on HTTP/1.1, HTTP/2 and TLS
nothing leaks, nothing crashes, and others are answered meanwhile."""

import contextlib
import random
import resource
import socket
import ssl
import struct
import subprocess

import pytest

from replica import BUILD, PATIENCE, Replica, linear, wait_for, write_raw
from test_listeners import BODY, Authority, client_context, shake, start, tls_args, tls_port  # noqa: F401

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def head(path, stream, method=b"\x83", end=False):
    block = method + b"\x86\x41\x01h\x04" + bytes([len(path)]) + path
    return frame(1, 5 if end else 4, stream, block)


INFER = b"/v2/models/m/infer"
H1 = b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (INFER, len(BODY), BODY.encode())
H2 = PREFACE + b"".join(head(INFER, 2 * i + 1) + frame(0, 1, 2 * i + 1, BODY.encode()) for i in range(5))


def rss_kib(r):
    with open(f"/proc/{r.process.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def descriptors(r):
    return int(subprocess.run(["sh", "-c", f"ls /proc/{r.process.pid}/fd | wc -l"], capture_output=True, text=True).stdout)


@pytest.fixture
def server(start, tmp_path):  # noqa: F811
    authority = Authority("tests")
    authority.path = tmp_path / "ca.pem"
    authority.path.write_bytes(authority.pem())
    r = start(*tls_args(authority.issue(tmp_path, "server")))
    r.h1 = client_context(authority)
    r.h2 = client_context(authority, protocols=["h2"])
    return r


def connect(r, kind):
    if kind.startswith("tls"):
        return shake(tls_port(r), r.h2 if kind == "tls h2" else r.h1)
    return socket.create_connection((r.host, r.port), timeout=PATIENCE)


def good(r):
    status, _, answer = r.infer("m", [[1.0, 2.0]])
    assert status == 200 and answer["outputs"][0]["data"] == [1, 2]


@pytest.mark.parametrize("kind", ["h1", "h2", "tls h1", "tls h2"])
def test_calls_dropped_in_flight(server, kind):
    """Cut after any byte, by an end or a reset, before, in and after the answer."""
    rng = random.Random(kind)
    request = H2 if kind.endswith("h2") else H1
    quiet = descriptors(server)

    def drop(n):
        for _ in range(n):
            with contextlib.suppress(OSError, ssl.SSLError):
                s = connect(server, kind)
                sent = request[:rng.randint(1, len(request))] if rng.random() < 0.6 else request
                s.sendall(sent)
                if sent == request and rng.random() < 0.5:
                    s.recv(rng.randint(1, 200))
                if rng.random() < 0.5:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif rng.random() < 0.5:
                    socket.socket.shutdown(s, socket.SHUT_WR)
                s.close()
    n = 400 if kind.startswith("tls") else 1500
    drop(n // 2)
    good(server)
    before = rss_kib(server)
    drop(n // 2)
    good(server)
    assert "asan" in BUILD.name or rss_kib(server) - before < 4096  # which keeps what was freed for a while
    wait_for("all descriptors to be given back", lambda: descriptors(server) <= quiet)
    text = server.log_path.read_text()
    assert " error " not in text and " warn" not in text, text


def test_ten_thousand_idle_connections(server):
    """Each costs less than 10 KiB, having asked something or not, and those who work don't notice."""
    need = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need + 500:
        pytest.skip(f"this process may have {hard} descriptors, {need + 500} are needed")
    if soft != resource.RLIM_INFINITY and soft < need + 500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need + 500, hard))
    good(server)
    before = rss_kib(server)
    idle = []
    for i in range(need):
        s = socket.create_connection((server.host, server.port), timeout=PATIENCE)
        if i % 2:
            s.sendall(H1)
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
        idle.append(s)
    good(server)
    assert rss_kib(server) - before < 10 * need
    for s in idle[1:2000:2]:  # they were not forgotten
        s.sendall(H1)
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
    for s in idle:
        s.close()
    good(server)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_is_left(tmp_path):
    """The limit is reached: who comes then is told 503, and when some have gone all are served again."""
    write_raw(tmp_path / "models" / "m", linear([[1, 0], [0, 1]]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 120
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        r = Replica(tmp_path / "models", "-w", 1, log=tmp_path / "log")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    subprocess.run(["prlimit", "--pid", str(r.process.pid), f"--nofile={limit}:{limit}"], check=True)
    r.wait_ready()
    held, refused = [], 0
    for _ in range(limit + 20):
        s = socket.create_connection((r.host, r.port), timeout=PATIENCE)
        s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = s.recv(4096)
        assert answer[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 503"), answer
        refused += answer.startswith(b"HTTP/1.1 503")
        held.append(s)
    assert 10 < refused < limit and len(held) == limit + 20
    for s in held:
        s.close()
    wait_for("service", lambda: r.request("GET", "/v2/health/live")[0] == 200)
    good(r)
    r.stop()


def test_floods_end_only_their_own_connection(server):
    """Rapid resets and pings over TLS, beside a client that means well."""
    for attack in (b"".join(head(INFER, 2 * i + 1) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(2000)),
                   frame(6, 0, 0, b"12345678") * 3000, frame(4, 0, 0) * 3000):
        for kind in ("h2", "tls h2"):
            with connect(server, kind) as s:
                with contextlib.suppress(OSError, ssl.SSLError):
                    s.sendall(PREFACE + attack)
                seen = b""
                with contextlib.suppress(OSError, ssl.SSLError):
                    while got := s.recv(65536):
                        seen += got
                    assert frame(7, 0, 0, b"12345678")[:5] in seen  # GOAWAY
            good(server)


def test_half_closed_sockets_are_answered(server):
    for request, want in ((H1, b"HTTP/1.1 200"), (H2, b"\0\0\0\x04\x01")):
        with socket.create_connection((server.host, server.port), timeout=PATIENCE) as s:
            s.sendall(request)
            s.shutdown(socket.SHUT_WR)
            seen = b""
            while got := s.recv(65536):
                seen += got
            assert want in seen and b'"data":[1.0,2.0]' in seen, seen
