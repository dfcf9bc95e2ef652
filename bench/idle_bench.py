"""What connections at rest cost: memory, and the throughput of those beside them that work.

    BUILD=build/release .deps/venv/bin/python bench/idle_bench.py [--idle 10000] [--kinds http1,http2,tls,tls_http2] [--rounds 5]

For each kind two replicas of one worker on the server's core. One of them gets the idle connections, each of which has had an
answer to one request with the fields that clients send. `bytes_per_connection` is what its proportional set size (smaps_rollup) has
grown by, a few seconds later, for each; what the kernel keeps for a socket is not in it. Then 64 connections work in a closed loop
(`overtake bench`, every answer checked) against the one and the other in turns, and `rate_to_none` is the one's rate over the
other's. Prints a JSON line a kind, medians and spread over the rounds. Exit 1 when an idle connection was closed meanwhile or
an answer was wrong."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import resource
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "bench")]

import replica  # noqa: E402
import serve_bench as sb  # noqa: E402

PATH = "/v2/health/live"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIELDS = {"user-agent": "grpc-python/1.66.1 grpc-c/43.0.0 (linux; chttp2)", "te": "trailers", "accept": "*/*",
          "grpc-accept-encoding": "identity, deflate, gzip"}


def pss(pid):
    return 1024 * int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))


def http1(s, authority):
    head = "".join(f"{k}: {v}\r\n" for k, v in FIELDS.items())
    s.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {authority}\r\n{head}\r\n".encode())
    got = b""
    while b'{"live":true}' not in got:
        more = s.recv(4096)
        assert more, got
        got += more


def frame(kind, flags, stream, body):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def text(z):
    assert len(z) < 127
    return bytes([len(z)]) + z.encode()


def http2(s, authority):
    """One GET, its fields added to the table of names (RFC 7541, 6.2.1)."""
    block = b"\x82\x86" + b"\x44" + text(PATH) + b"\x41" + text(authority)
    block += b"".join(b"\x40" + text(k) + text(v) for k, v in FIELDS.items())
    s.sendall(PREFACE + frame(4, 0, 0, b"") + frame(1, 5, 1, block))
    got = b""
    while True:
        while len(got) >= 9 and len(got) >= 9 + int.from_bytes(got[:3], "big"):
            n, kind, flags, stream = int.from_bytes(got[:3], "big"), got[3], got[4], int.from_bytes(got[5:9], "big")
            assert kind not in (3, 7), "reset or going away"
            got = got[9 + n:]
            if kind == 4 and not flags & 1:
                s.sendall(frame(4, 1, 0, b""))
            if stream == 1 and flags & 1:
                return
        more = s.recv(4096)
        assert more, got
        got += more


def open_one(kind, address, context):
    host, port = address.rsplit(":", 1)
    s = socket.create_connection((host, int(port)), timeout=replica.PATIENCE)
    if context is not None:
        s = context.wrap_socket(s, server_hostname="localhost")
    (http2 if kind.endswith("http2") else http1)(s, address)
    return s


def client_context(kind):
    if not kind.startswith("tls"):
        return None
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    c.set_alpn_protocols(["h2" if kind.endswith("http2") else "http/1.1"])
    return c


def tls_args(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                    "/CN=localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    return ["--listen-tls", "127.0.0.1:0", "--tls-cert", folder / "cert.pem", "--tls-key", folder / "key.pem"]


class Server:
    """A replica of one worker; `idle` is where its idle connections go to, `busy` the load, which is in clear text."""

    def __init__(self, a, folder, models, kind):
        folder.mkdir()
        tls = kind.startswith("tls")
        self.replica = replica.Replica(models, "--workers", 1, "--pool-threads", 1, "--inline", "1s", *(tls_args(folder) if tls else ()), log=folder / "log")
        self.busy = self.idle = self.replica.address
        if tls:
            self.idle = json.loads(self.replica.process.stdout.readline())["listening"]
        self.pid = self.replica.wait_ready().process.pid
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            os.sched_setaffinity(int(thread), {a.server_core})


def load(a, server, seconds):
    done = subprocess.run(sb.pinned(a.load_core, replica.OVERTAKE, "bench", server.busy, "-m", "m", "-c", 64, "-d", f"{seconds}s",
                                    "--warm-up", "300ms", "--output", "json"), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"idle_bench: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)["rate"]


def at_rest(pid):
    """Bytes, when buffers of connections at rest have been given back: when two looks two seconds apart saw the same."""
    before, now = None, pss(pid)
    while before is None or now < before - 65536:
        time.sleep(2.5)
        before, now = now, pss(pid)
    return now


def measure(a, kind, folder):
    replica.write_raw(folder / "models" / "m", replica.linear([[0.1] * 10 for _ in range(64)]))
    (folder / kind).mkdir()
    with contextlib.ExitStack() as stack:
        ours, other = (Server(a, folder / kind / name, folder / "models", kind) for name in ("with", "without"))
        stack.callback(ours.replica.stop)
        stack.callback(other.replica.stop)
        context = client_context(kind)
        load(a, ours, 1)  # what any load leaves behind is not the idle ones'
        open_one(kind, ours.idle, context).close()
        before, began = at_rest(ours.pid), time.monotonic()
        idle = [stack.enter_context(open_one(kind, ours.idle, context)) for _ in range(a.idle)]
        took = time.monotonic() - began
        each = (at_rest(ours.pid) - before) / a.idle
        rates = []
        for k in range(2 * a.rounds):
            rates.append(load(a, (ours, other)[(k + k // 2) % 2], a.seconds))  # a b b a: what drifts hits both
        pairs = [rates[k:k + 2] if k % 4 == 0 else rates[k:k + 2][::-1] for k in range(0, len(rates), 2)]
        gone = select.poll()
        for s in idle:
            gone.register(s, select.POLLIN | select.POLLHUP)
        closed = len(gone.poll(0))
        print(json.dumps({"bench": "idle", "kind": kind, "connections": a.idle, "bytes_per_connection": round(each), "open_s": round(took, 1),
                          "rate": sb.spread([x for x, _ in pairs], 0), "rate_without": sb.spread([y for _, y in pairs], 0),
                          "rate_to_none": sb.spread([x / y for x, y in pairs], 3), "closed": closed}), flush=True)
    return closed == 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--idle", type=int, default=10000)
    p.add_argument("--kinds", default="http1,http2,tls,tls_http2")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.5)
    p.add_argument("--server-core", type=int, default=0)
    p.add_argument("--load-core", type=int, default=1)
    a = p.parse_args()
    need, (soft, hard) = a.idle + 256, resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < need:
        sys.exit(f"idle_bench: {a.idle} connections need {need} descriptors; the limit here is {hard} (--idle)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    with tempfile.TemporaryDirectory() as folder:
        good = [measure(a, kind, pathlib.Path(folder)) for kind in a.kinds.split(",")]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
