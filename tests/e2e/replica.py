"""What the end-to-end tests of the replica share: starting `overtake serve`, making bundles, and a
control plane's end of the agent protocol (docs/architecture.md), written apart from the product."""

import hashlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build/release")
OVERTAKE = BUILD / "overtake"
# Seconds a state may take to come about; nothing is asserted about how long it takes. A build with sanitizers takes longer.
PATIENCE = int(os.environ.get("PATIENCE", 120))


def wait_for(what, fn):
    """Calls fn until it gives something true, and returns that."""
    end = time.monotonic() + PATIENCE
    while True:
        got = fn()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"waited {PATIENCE} s for: {what}")
        time.sleep(0.01)


class Replica:
    """A running `overtake serve` on a port of its own."""

    def __init__(self, *args, log):
        self.log = open(log, "wb")
        self.log_path = log
        self.process = subprocess.Popen(
            [str(OVERTAKE), "serve", *map(str, args), "--listen", "127.0.0.1:0", "--output", "json"],
            stdout=subprocess.PIPE, stderr=self.log, cwd=ROOT)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise RuntimeError(pathlib.Path(log).read_text())
        self.address = json.loads(line)["listening"]
        self.host, port = self.address.rsplit(":", 1)
        self.port = int(port)

    def request(self, method, path, body=None, headers=None):
        """(status, headers, body) over a connection of its own."""
        c = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            c.request(method, path, body=body, headers=headers or {})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def get(self, path):
        status, _, body = self.request("GET", path)
        assert status == 200, (status, body)
        return json.loads(body)

    def post(self, path, value=None, headers=None):
        status, head, body = self.request("POST", path, json.dumps(value or {}), headers)
        return status, head, json.loads(body)

    def infer(self, model, data, name="x", datatype="FP32", headers=None, **more):
        data = np.asarray(data)
        return self.post(f"/v2/models/{model}/infer", {
            "inputs": [{"name": name, "datatype": datatype, "shape": list(data.shape),
                        "data": data.ravel().tolist()}], **more}, headers)

    def wait_ready(self):
        wait_for("ready", lambda: self.request("GET", "/v2/health/ready")[0] == 200)
        return self

    def stop(self, expect=0):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=PATIENCE)
        self.log.close()
        assert code == expect, f"exit {code}\n{pathlib.Path(self.log_path).read_text()}"
        text = pathlib.Path(self.log_path).read_text()
        assert "Sanitizer" not in text, text
        return text

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


# ---- models and bundles


def linear(weights, bias=None, softmax=False, **how):
    """null.json of y = x W + b, as the `null` runtime reads it."""
    w = np.asarray(weights, dtype=np.float32)
    model = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, w.shape[0]]}],
             "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, w.shape[1]]}],
             "op": "linear", "weights": w.tolist(), "softmax": softmax, **how}
    if bias is not None:
        model["bias"] = list(bias)
    return model


def write_raw(folder, model):
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".null.json"
    temporary.write_text(json.dumps(model))
    temporary.rename(folder / "null.json")
    return folder


def siphash24(data, key):
    """SipHash-2-4 (Aumasson, Bernstein 2012)."""
    mask = (1 << 64) - 1
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261,
         k1 ^ 0x7465646279746573]

    def rotl(x, b):
        return ((x << b) | (x >> (64 - b))) & mask

    def round_():
        v[0] = (v[0] + v[1]) & mask
        v[1] = rotl(v[1], 13) ^ v[0]
        v[0] = rotl(v[0], 32)
        v[2] = (v[2] + v[3]) & mask
        v[3] = rotl(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & mask
        v[3] = rotl(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & mask
        v[1] = rotl(v[1], 17) ^ v[2]
        v[2] = rotl(v[2], 32)

    end = len(data) - len(data) % 8
    for i in range(0, end, 8):
        m = struct.unpack_from("<Q", data, i)[0]
        v[3] ^= m
        round_(), round_()
        v[0] ^= m
    m = (len(data) & 0xFF) << 56 | int.from_bytes(data[end:], "little")
    v[3] ^= m
    round_(), round_()
    v[0] ^= m
    v[2] ^= 0xFF
    for _ in range(4):
        round_()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


STABLE_KEY = b"overtake"  # then the salt: src/base/hash.c


def hash_stable(data, salt):
    return siphash24(data, STABLE_KEY + struct.pack("<Q", salt))


def record(magic, body):
    return (magic + struct.pack("<HI", 1, len(body)) + body +
            struct.pack("<I", hash_stable(body, 0x73746174) & 0xFFFFFFFF))


CELLS = 67  # written of a feature: 64 inner, below, above, missing


class Histogram:
    """Equal cells of [lo, hi) for each feature, written as src/stats writes them."""

    def __init__(self, names, lo, hi, inner=8):
        self.names, self.inner = names, inner
        self.lo = np.float32(lo - (hi - lo) / 254)
        self.scale = np.float32(254 / (hi - lo))
        self.first = np.linspace(1, 255, inner + 1).astype(int)[:-1]
        body = struct.pack("<I", len(names))
        for n in names:
            body += struct.pack("<BBB", 1, 0, len(n)) + n.encode() + struct.pack("<B", inner)
            body += struct.pack("<ffff", self.lo, self.scale, 0, 1) + bytes(self.first.tolist())
        self.body = body
        self.id = hash_stable(body, 0x736368656D61)

    def cells(self, x):
        """The cell of each value: (rows, features) -> (rows, features)."""
        x = np.asarray(x, dtype=np.float32)
        t = np.clip((x - self.lo) * self.scale, np.float32(0), np.float32(255.5))
        q = np.where(np.isnan(x), 256, np.nan_to_num(t).astype(np.int64))
        cell = np.searchsorted(self.first, q, side="right") - 1
        cell[q == 0] = 64
        cell[q == 255] = 65
        cell[q == 256] = 66
        return cell

    def count(self, x):
        cell = self.cells(x)
        return np.stack([np.bincount(cell[:, j], minlength=CELLS) for j in range(cell.shape[1])])

    def write(self, x):
        """A reference: schema and the counts of rows x."""
        def varint(n):
            out = b""
            while n >= 0x80:
                out += bytes([n & 0x7F | 0x80])
                n >>= 7
            return out + bytes([n])

        table = struct.pack("<Q", self.id) + varint(len(x)) + varint(0) + varint(len(self.names))
        for counts in self.count(x):
            k = 0
            while k < CELLS:
                run = 0
                while k + run < CELLS and counts[k + run] == 0:
                    run += 1
                if run:
                    table += bytes([0, run])
                    k += run
                else:
                    table += varint(int(counts[k]))
                    k += 1
        return record(b"OTHS", self.body) + record(b"OTHT", table)

    @staticmethod
    def read_table(data):
        """(rows, counts) of a written table."""
        assert data[:4] == b"OTHT", data[:16]
        length = struct.unpack_from("<I", data, 6)[0]
        body, at = data[10:10 + length], 8

        def varint():
            nonlocal at
            x = shift = 0
            while True:
                b = body[at]
                at += 1
                x |= (b & 0x7F) << shift
                shift += 7
                if b < 0x80:
                    return x

        rows, _, features = varint(), varint(), varint()
        counts = np.zeros((features, CELLS), dtype=np.int64)
        for j in range(features):
            k = 0
            while k < CELLS:
                c = varint()
                if c == 0:
                    k += body[at]
                    at += 1
                else:
                    counts[j, k] = c
                    k += 1
        return rows, counts


def tensor_json(name, a, datatype="FP32"):
    a = np.asarray(a)
    return {"name": name, "datatype": datatype, "shape": list(a.shape), "data": a.ravel().tolist()}


def make_bundle(folder, model, golden=None, histogram=None, reference=None, batch=64,
                wrong_golden=False, prediction="scores", serve=None):
    """A bundle of a `linear` model; golden answers are computed here with NumPy. Returns its digest."""
    w = np.asarray(model["weights"], dtype=np.float64)
    parts = {"model/null.json": json.dumps(model).encode()}
    if golden is not None:
        x = np.asarray(golden, dtype=np.float32)
        y = x.astype(np.float64) @ w + np.asarray(model.get("bias", np.zeros(w.shape[1])))
        if model.get("softmax"):
            e = np.exp(y - y.max(axis=1, keepdims=True))
            y = e / e.sum(axis=1, keepdims=True)
        y = y.astype(np.float32) + (1 if wrong_golden else 0)
        parts["golden/golden.json"] = json.dumps({
            "tolerance": {"abs": 1e-4, "rel": 1e-3},
            "cases": [{"inputs": [tensor_json("x", x[i:i + 1])],
                       "outputs": [tensor_json("y", y[i:i + 1])]} for i in range(len(x))]}).encode()
    if histogram is not None:
        parts["reference/trained_on.hist"] = histogram.write(reference)
    manifest = {"schema": "overtake.bundle/1", "format": "null", "inputs": model["inputs"],
                "outputs": model["outputs"],
                "prediction": {"output": "y", "kind": prediction},
                "files": [{"path": p, "size": len(b), "sha256": hashlib.sha256(b).hexdigest()}
                          for p, b in sorted(parts.items())]}
    if batch:
        manifest["batch"] = {"axis": 0, "max": batch}
    if serve:
        manifest |= {"schema": "overtake.bundle/2", "serve": serve}
    parts["manifest.json"] = json.dumps(manifest).encode()
    for path, data in parts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return hashlib.sha256(parts["manifest.json"]).hexdigest()


def store_bundle(blobs, folder):
    """Puts a bundle's files into a content store; the manifest's digest is the bundle's."""
    for f in folder.rglob("*"):
        if f.is_file():
            data = f.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            (blobs / digest[:2]).mkdir(parents=True, exist_ok=True)
            (blobs / digest[:2] / digest).write_bytes(data)


# ---- the control plane


class ControlPlane:
    """Listens for agents, says what is desired, and keeps what they push."""

    def __init__(self, path, blobs, acks=True):
        self.path, self.blobs, self.acks = path, blobs, acks
        self.lock = threading.Lock()
        self.agents, self.hellos, self.observed, self.pushes = [], [], {}, []
        self.asks, self.answer = [], None  # what a replica asks for; answer(ask) is what it hears, None: nothing
        self.more = {}  # beside what `want` says
        self.desired = None
        self.revision = 0
        self.listener = socket.socket(socket.AF_UNIX)
        pathlib.Path(path).unlink(missing_ok=True)
        self.listener.bind(str(path))
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(s,), daemon=True).start()

    @staticmethod
    def send(s, kind, value):
        text = json.dumps(value).encode()
        s.sendall(struct.pack("<4sIII", b"OTF1", kind, len(text), 0) + text)

    @staticmethod
    def read(s):
        def exactly(n):
            out = b""
            while len(out) < n:
                piece = s.recv(n - len(out))
                if not piece:
                    raise ConnectionError
                out += piece
            return out
        magic, kind, n_json, n_bin = struct.unpack("<4sIII", exactly(16))
        assert magic == b"OTF1"
        text = exactly(n_json)
        return kind, json.loads(text), exactly(n_bin)

    def talk(self, s):
        name = None
        try:
            while True:
                kind, value, binary = self.read(s)
                with self.lock:
                    if kind == 1:
                        name = value["id"]
                        self.hellos.append(value)
                        self.agents.append(s)
                        if self.desired is not None:
                            self.send(s, 2, self.desired)
                    elif kind == 3:
                        self.observed[name] = value
                    elif kind == 4:
                        self.pushes.append((name, value, binary))
                        if self.acks:
                            self.send(s, 5, {k: value[k] for k in ("stream", "seq", "incarnation")})
                    elif kind == 6:
                        self.asks.append(value)
                        answer = self.answer(value) if self.answer else None
                        if answer is not None:
                            self.send(s, 7, {"seq": value["seq"], **answer})
        except (ConnectionError, OSError):
            with self.lock:
                if s in self.agents:
                    self.agents.remove(s)

    def want(self, *deployments, window_us=1_000_000):
        with self.lock:
            self.revision += 1
            self.desired = {"revision": self.revision, "blobs": str(self.blobs),
                            "window_us": window_us, "deployments": list(deployments), **self.more}
            for s in self.agents:
                self.send(s, 2, self.desired)
            return self.revision

    def wait_observed(self, replica="replica-0", revision=None, state="serving"):
        revision = revision or self.revision

        def settled():
            with self.lock:
                o = self.observed.get(replica)
            if o is None or o["revision"] != revision:
                return None
            states = [v["state"] for d in o["deployments"] for v in d["variants"]]
            if state == "serving":
                return o if all(x == "serving" for x in states) else None
            return o if state in states and "loading" not in states else None
        return wait_for(f"revision {revision} {state} at {replica}", settled)

    def taken(self, stream, **fields):
        """Pushes of the stream with these fields, each (incarnation, seq) once."""
        with self.lock:
            seen = {}
            for _, value, binary in self.pushes:
                if value["stream"] == stream and all(value[k] == f for k, f in fields.items()):
                    seen[value["incarnation"], value["seq"]] = (value, binary)
            return list(seen.values())

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        except OSError:
            pass
        self.listener.close()
        with self.lock:
            for s in self.agents:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()
            self.agents.clear()


def variant(role, version, bundle, share, model="m"):
    return {"role": role, "model": model, "version": version, "bundle": bundle, "share": share}


def deployment(*variants, name="m", fallback="refuse", rate=1.0, compare=False):
    return {"name": name, "fallback": fallback, "sample": {"rate": rate, "max_bytes": 1 << 30},
            "variants": list(variants), "compare": compare}


NUMPY = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32}


def decode_sample(value, binary):
    """A sample segment's columns by name, as the documented format has them."""
    n, at, out = value["rows"], 0, {}

    def column(dtype, shape):
        nonlocal at
        a = np.frombuffer(binary, dtype, int(np.prod([n, *shape])), at).reshape([n, *shape])
        at += a.nbytes
        return a

    def texts(shape):
        nonlocal at
        a = []
        for _ in range(int(np.prod([n, *shape]))):
            size = struct.unpack_from("<I", binary, at)[0]
            a.append(binary[at + 4:at + 4 + size])
            at += 4 + size
        return np.array(a, dtype=object).reshape([n, *shape])
    out["seq"] = column("<u8", [])
    out["time_us"] = column("<i8", [])
    out["probability"] = column("<f4", [])
    for t in value["inputs"] + value["outputs"]:
        out[t["name"]] = (texts(t["shape"]) if t["datatype"] == "BYTES"
                          else column(NUMPY[t["datatype"]], t["shape"]))
    if value["keys"]:
        out["keys"] = []
        for _ in range(n):
            size = struct.unpack_from("<H", binary, at)[0]
            out["keys"].append(binary[at + 2:at + 2 + size].decode())
            at += 2 + size
    assert at == len(binary)
    return out


ID = re.compile(r"^([0-9a-f]{16})-([0-9a-f]+)-([0-9a-f]+)-([01])$")


def prediction_id(headers):
    """(incarnation, seq, version, sampled, rows) of an answer."""
    m = ID.match(headers["overtake-prediction-id"])
    return m[1], int(m[2], 16), int(m[3], 16), m[4] == "1", int(headers["overtake-rows"])
