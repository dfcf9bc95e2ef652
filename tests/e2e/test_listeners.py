"""Listeners: every protocol on each, TLS, certificates that are read again, clients that must show one,
the ports of other servers. Clients are curl, h2load and Python's own."""

import datetime
import http.client
import ipaddress
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from replica import OVERTAKE, PATIENCE, ROOT, Replica, linear, wait_for, write_raw

CURL = shutil.which("curl")
H2LOAD = shutil.which("h2load")
needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")
needs_h2load = pytest.mark.skipif(H2LOAD is None, reason="h2load is not installed")
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]})
DAY = datetime.timedelta(days=1)


class Authority:
    """Issues certificates."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cert = self._sign(self.name, self.key.public_key(), x509.BasicConstraints(True, None))

    def _sign(self, subject, key, *extensions, since=-DAY, until=30 * DAY):
        now = datetime.datetime.utcnow()
        b = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
             .serial_number(x509.random_serial_number())
             .not_valid_before(now + since).not_valid_after(now + until))
        for e in extensions:
            b = b.add_extension(e, critical=False)
        return b.sign(self.key, hashes.SHA256())

    def pem(self):
        return self.cert.public_bytes(serialization.Encoding.PEM)

    def issue(self, folder, name, password=None, **when):
        """Writes NAME.pem and NAME.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(),
            x509.SubjectAlternativeName([x509.DNSName("localhost"),
                                         x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), **when)
        how = (serialization.BestAvailableEncryption(password) if password
               else serialization.NoEncryption())
        (folder / f"{name}.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
        return folder / f"{name}.pem", folder / f"{name}.key"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    a = Authority("tests")
    a.folder = tmp_path_factory.mktemp("authority")
    a.path = a.folder / "ca.pem"
    a.path.write_bytes(a.pem())
    return a


@pytest.fixture
def start(tmp_path):
    started = []
    write_raw(tmp_path / "models" / "m", linear([[1, 0], [0, 1]]))

    def _start(*args):
        r = Replica(tmp_path / "models", "-w", 1, *args, log=tmp_path / f"log{len(started)}")
        started.append(r)
        r.more = []  # (address, TLS) of the other listeners, which are announced after the first
        for _ in range(sum(str(a).startswith("--listen") for a in args)):
            line = json.loads(r.process.stdout.readline())
            r.more.append((line["listening"], line.get("tls", False)))
        return r.wait_ready()

    yield _start
    for r in started:
        r.stop() if r.process.poll() is None else r.kill()


def tls_args(pair, *more):
    # The first address that is announced is the clear one of Replica's own: TLS comes after it.
    return ("--listen-tls", "127.0.0.1:0", "--tls-cert", pair[0], "--tls-key", pair[1], *more)


def tls_port(r):
    (address,) = [a for a, tls in r.more if tls]
    return int(address.rsplit(":", 1)[1])


def curl(url, *args):
    """(HTTP version, status, body)"""
    done = subprocess.run([CURL, "-sS", "-m", str(PATIENCE), "-w", "\n%{http_version} %{http_code}", *map(str, args), url],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    body, last = done.stdout.rsplit("\n", 1)
    return (*last.split(), body)


def client_context(authority, cert=None, protocols=None):
    c = ssl.create_default_context(cafile=authority.path)
    if cert:
        c.load_cert_chain(*cert)
    if protocols:
        c.set_alpn_protocols(protocols)
    return c


def shake(port, context):
    raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return context.wrap_socket(raw, server_hostname="localhost")


def serial(sock):
    return x509.load_der_x509_certificate(sock.getpeercert(True)).serial_number


@needs_curl
def test_every_protocol_on_every_listener(start, authority, tmp_path):
    pair = authority.issue(tmp_path, "server")
    r = start("--listen", "127.0.0.1:0", *tls_args(pair))
    clear = [r.address] + [a for a, tls in r.more if not tls]
    assert len(set(clear)) == 2
    want = [1.0, 2.0]
    for address in clear:
        for flag, version in (("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")):
            got = curl(f"http://{address}/v2/models/m/infer", flag, "-d", BODY)
            assert got[:2] == (version, "200")
            assert json.loads(got[2])["outputs"][0]["data"] == want
    for flag, version in (("--http1.1", "1.1"), ("--http2", "2")):
        for tls in (("--tlsv1.2", "--tls-max", "1.2"), ("--tlsv1.3",)):
            got = curl(f"https://localhost:{tls_port(r)}/v2/models/m/infer", flag, *tls, "--cacert",
                       authority.path, "-d", BODY)
            assert got[:2] == (version, "200")
            assert json.loads(got[2])["outputs"][0]["data"] == want


@needs_curl
def test_large_bodies_come_whole_on_each(start, authority, tmp_path):
    r = start(*tls_args(authority.issue(tmp_path, "server")))
    n = 150_000
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [n, 2],
                                            "data": list(range(2 * n))}]}))
    answers = [json.loads(curl(url, *how, "-H", "content-type: application/json", "--data-binary", f"@{body}")[2])
               for url, how in (
        (f"http://{r.address}/v2/models/m/infer", ("--http1.1",)),
        (f"http://{r.address}/v2/models/m/infer", ("--http2-prior-knowledge",)),
        (f"https://localhost:{tls_port(r)}/v2/models/m/infer", ("--http1.1", "--cacert", authority.path)),
        (f"https://localhost:{tls_port(r)}/v2/models/m/infer", ("--http2", "--cacert", authority.path)))]
    assert answers[0]["outputs"][0]["data"][:4] == [0, 1, 2, 3]
    assert len(answers[0]["outputs"][0]["data"]) == 2 * n
    for other in answers[1:]:
        assert other["outputs"] == answers[0]["outputs"]


def test_who_may_shake_hands(start, authority, tmp_path):
    """Mutual TLS: a certificate of the named authority that has not run out."""
    r = start(*tls_args(authority.issue(tmp_path, "server"), "--tls-client-ca", authority.path))
    other = Authority("others")
    good = authority.issue(tmp_path, "good")
    refused = {"none": None,
               "of another authority": other.issue(tmp_path, "other"),
               "run out": authority.issue(tmp_path, "old", since=-9 * DAY, until=-DAY),
               "not yet valid": authority.issue(tmp_path, "new", since=DAY)}
    for _ in range(2):
        with shake(tls_port(r), client_context(authority, good)) as s:
            s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 200")
        for what, cert in refused.items():
            with pytest.raises((ssl.SSLError, ConnectionError)):  # TLS 1.3: seen at the first read
                with shake(tls_port(r), client_context(authority, cert)) as s:
                    s.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
                    assert s.recv(100) == b"", what
                    raise ConnectionError


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_what_is_refused_before_http(start, authority, tmp_path):
    r = start(*tls_args(authority.issue(tmp_path, "server")))
    with pytest.raises(ssl.SSLError):
        shake(tls_port(r), client_context(authority, protocols=["spdy/3"]))
    old = client_context(authority)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake(tls_port(r), old)
    with socket.create_connection(("127.0.0.1", tls_port(r)), timeout=PATIENCE) as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"HTTP/1.1 200" not in s.recv(1000)
    # A hand-shake in single bytes, and one that is cut off anywhere.
    for cut in range(0, 600, 50):
        with socket.create_connection(("127.0.0.1", tls_port(r)), timeout=PATIENCE) as s:
            s.sendall(hello(authority)[:cut])
    step = socket.create_connection(("127.0.0.1", tls_port(r)), timeout=PATIENCE)
    assert drip(step, client_context(authority)).startswith(b"HTTP/1.1 200")


def hello(authority):
    out = ssl.MemoryBIO()
    s = client_context(authority).wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        s.do_handshake()
    return out.read()


def drip(raw, context):
    """One request whose bytes leave one by one."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    s = context.wrap_bio(into, out, server_hostname="localhost")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def until(fn):
        while True:
            try:
                return fn()
            except ssl.SSLWantReadError:
                for b in out.read():
                    raw.sendall(bytes([b]))
                got = raw.recv(65536)
                into.write(got) if got else into.write_eof()
    until(s.do_handshake)
    s.write(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
    for b in out.read():
        raw.sendall(bytes([b]))
    answer = until(lambda: s.read(1000))
    raw.close()
    return answer


class Load(threading.Thread):
    """Requests over TLS until told to stop; each is right or counted as failed."""

    def __init__(self, port, context, keep, method="POST", path="/v2/models/m/infer", body=BODY):
        super().__init__()
        self.port, self.context, self.keep = port, context, keep
        self.request = method, path, body
        self.done, self.failed, self.going = 0, [], True

    def run(self):
        c = None
        while self.going:
            try:
                c = c or http.client.HTTPSConnection("localhost", self.port, timeout=PATIENCE, context=self.context)
                c.request(*self.request)
                r = c.getresponse()
                answer = r.read()
                assert r.status == 200, answer
                assert self.request[2] is None or json.loads(answer)["outputs"][0]["data"] == [1, 2], answer
                self.done += 1
            except Exception as e:  # whatever it is, it is a failed request
                self.failed.append(repr(e))
                c = None
            if c and not self.keep:
                c.close()
                c = None


def replace(src, dst):
    for s, d in zip(src, dst):
        shutil.copyfile(s, d)


def test_certificates_are_read_again_under_load(start, authority, tmp_path):
    """A hang-up signal, and without one; cert and key are never changed at once, and connections stay."""
    use = tmp_path / "use.pem", tmp_path / "use.key"
    pairs = [authority.issue(tmp_path, f"server{i}") for i in range(4)]
    replace(pairs[0], use)
    r = start(*tls_args(use))
    context = client_context(authority)
    kept = shake(tls_port(r), context)
    before = serial(kept)
    loads = [Load(tls_port(r), context, keep) for keep in (True, True, False)]
    for load in loads:
        load.start()

    def now():
        with shake(tls_port(r), context) as s:
            return serial(s)

    for i in range(1, 4):
        replace(pairs[i], use)
        if i < 3:
            r.process.send_signal(signal.SIGHUP)
        want = x509.load_pem_x509_certificate(pairs[i][0].read_bytes()).serial_number
        wait_for(f"certificate {i}", lambda: now() == want)
    use[1].write_bytes(pairs[0][1].read_bytes())  # not the key of that certificate
    r.process.send_signal(signal.SIGHUP)
    wait_for("the log says so", lambda: "the certificate in use stays" in r.log_path.read_text())
    assert now() == want
    kept.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: h\r\n\r\n")
    assert kept.recv(100).startswith(b"HTTP/1.1 200") and serial(kept) == before
    kept.close()
    for load in loads:
        load.going = False
        load.join()
    assert [load.failed for load in loads] == [[], [], []]
    assert all(load.done > 0 for load in loads)


@needs_h2load
def test_h2load_is_answered_in_full(start, authority, tmp_path):
    r = start(*tls_args(authority.issue(tmp_path, "server")))
    body = tmp_path / "body.json"
    body.write_text(BODY)
    for url in (f"http://{r.address}", f"https://localhost:{tls_port(r)}"):
        done = subprocess.run([H2LOAD, "-n", "5000", "-c", "16", "-m", "16", "-d", str(body),
                               "-H", "content-type: application/json", f"{url}/v2/models/m/infer"],
                              capture_output=True, text=True, timeout=PATIENCE)
        assert "5000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout + done.stderr
        assert "status codes: 5000 2xx" in done.stdout


@needs_h2load
def test_a_drain_fails_no_request(start, authority, tmp_path):
    """SIGTERM under load: clients are told to go elsewhere, what they had begun is answered."""
    r = start(*tls_args(authority.issue(tmp_path, "server")))
    body = tmp_path / "body.json"
    body.write_text(BODY)
    loads = [subprocess.Popen([H2LOAD, "-D", "3", "-c", "4", "-m", "8", "-d", str(body), f"{url}/v2/models/m/infer"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
             for url in (f"http://{r.address}", f"https://localhost:{tls_port(r)}")]
    wait_for("load", lambda: stats(r) > 1000)
    r.stop()
    answered = 0
    for load in loads:
        out = load.communicate(timeout=PATIENCE)[0]
        (codes,) = re.findall(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", out, re.M)
        assert codes[1:] == ("0", "0", "0"), out
        answered += int(codes[0])
    assert answered >= 1000


def stats(r):
    return int(r.get("/v2/models/m/stats")["model_stats"][0]["inference_count"])


def free(host, ports):
    for port in ports:
        try:
            socket.create_server((host, port)).close()
        except OSError as e:
            return f"{host}:{port} can't be used here: {e}"
    return None


def test_ports_of_other_servers(start):
    host = "127.81.94.3"  # of the loopback network: what listens on the usual ports is not in the way
    ports = (8000, 8001, 8002, 8500, 8501)
    lacking = free(host, ports)
    if lacking:
        pytest.skip(lacking)
    start("--compat", "triton", "--compat", "tfserving", "--compat-host", host)
    for port in ports:
        c = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        c.request("GET", "/v2/health/ready")
        assert c.getresponse().status == 200
        c.close()


def test_up_has_them_too_and_keeps_them_over_an_upgrade(up, authority, tmp_path):
    """TLS beside the clear listener; the ports pass from binary to binary, and no request fails."""
    pair = authority.issue(tmp_path, "server")
    host = "127.81.94.4"
    lacking = free(host, (8500, 8501))
    compat = () if lacking else ("--compat", "tfserving", "--compat-host", host)
    u = up(*tls_args(pair, *compat))
    u.expect_log("the control plane is gone")  # an upgrade exchanges it as well
    assert [m for m in u.more if m.startswith("https://")] == u.more[:1]
    assert u.more[1:] == ([] if lacking else [f"http://{host}:8500", f"http://{host}:8501"])
    port = int(u.more[0].rsplit(":", 1)[1])
    wait_for("the replica", lambda: len(u.api.get("/replicas")["replicas"]) == 1)
    load = Load(port, client_context(authority), False, "GET", "/v2/health/live", None)
    load.start()
    wait_for("load", lambda: load.done > 3 or load.failed)
    after, before, was = u.api.head(), u.child("serve"), load.done
    u.process.send_signal(signal.SIGHUP)
    u.api.wait_event("upgrade.finished", after=after, unless=("upgrade.failed",))
    assert u.child("serve") != before
    wait_for("load", lambda: load.done > was + 3 or load.failed)
    load.going = False
    load.join()
    assert load.failed == []
    for address in u.more[1:]:
        c = http.client.HTTPConnection(address.removeprefix("http://"), timeout=PATIENCE)
        c.request("GET", "/v2/health/live")
        assert c.getresponse().status == 200
        c.close()


def fails(*args):
    done = subprocess.run([str(OVERTAKE), "serve", *map(str, args)], capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE)
    assert done.returncode != 0
    return done.stderr


def test_what_can_not_be_started(authority, tmp_path):
    write_raw(tmp_path / "models" / "m", linear([[1, 0], [0, 1]]))
    models = tmp_path / "models"
    cert, key = authority.issue(tmp_path, "server")
    _, wrong = authority.issue(tmp_path, "wrong")
    locked = authority.issue(tmp_path, "locked", password=b"secret")
    at = ("--listen-tls", "127.0.0.1:0")
    assert "--listen-tls needs --tls-cert" in fails(models, *at)
    assert "belong together" in fails(models, *at, "--tls-cert", cert)
    assert "need --listen-tls" in fails(models, "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
    assert "is not the one of the certificate" in fails(models, *at, "--tls-cert", cert, "--tls-key", wrong)
    assert "must not be encrypted" in fails(models, *at, "--tls-cert", locked[0], "--tls-key", locked[1])
    assert "holds no certificate" in fails(models, *at, "--tls-cert", key, "--tls-key", key)
    assert "to trust clients by" in fails(models, *at, "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", key)
    assert "nothing.pem" in fails(models, *at, "--tls-cert", tmp_path / "nothing.pem", "--tls-key", key)
    assert "triton or tfserving" in fails(models, "--compat", "torchserve")
    assert "nowhere" in fails(models, "--listen", "nowhere")
