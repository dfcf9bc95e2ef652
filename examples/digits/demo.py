"""The part of Overtake's loop that stands: train -> serve -> count -> swap under load -> drain.

A scikit-learn network is trained on digits and served from its ONNX file; clients send distorted
images and compare every answer with what the model itself says in this process; meanwhile a better
network is trained and swapped in; then the server is told to stop while requests are in flight. An
exact ledger counts every request; one wrong or failed answer fails the demo."""

import argparse
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings

started = time.monotonic()


def say(text):
    print(f"{time.monotonic() - started:7.2f}s  {text}", flush=True)


say("overtake demo: train -> serve -> count -> swap -> drain, on scikit-learn's digits")

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import digits


def train(x, y, hidden, rounds, path):
    """Trains, exports, and returns the ONNX session that is the reference for every answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few rounds are enough to tell them apart
        model = MLPClassifier(hidden, max_iter=rounds, random_state=1).fit(x, y)
    onx = to_onnx(model, x[:1], options={"zipmap": False}, target_opset=17)
    part = path.with_suffix(".part")
    part.write_bytes(onx.SerializeToString())
    os.replace(part, path)  # a half-written model is never seen
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(onx.SerializeToString(), options)


def probabilities(session, x):
    return session.run(["probabilities"], {session.get_inputs()[0].name: x})[0]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.sent = self.right = self.labelled_right = 0
        self.by_version = {}
        self.wrong = []

    def note(self, ok, why, label_ok, version):
        with self.lock:
            self.sent += 1
            self.right += ok
            self.labelled_right += label_ok
            self.by_version[version] = self.by_version.get(version, 0) + 1
            if not ok and len(self.wrong) < 5:
                self.wrong.append(why)


class Client(threading.Thread):
    """One keep-alive connection that sends row after row until told to stop."""

    def __init__(self, port, name, x, y, references, ledger, stop):
        super().__init__(daemon=True)
        self.port, self.name_in, self.x, self.y = port, name, x, y
        self.references, self.ledger, self.stop = references, ledger, stop

    def run(self):
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        i = 0
        while not self.stop.is_set():
            row, label = self.x[i % len(self.x)], int(self.y[i % len(self.x)])
            i += 1
            body = json.dumps({"inputs": [{"name": self.name_in, "datatype": "FP32",
                                           "shape": [1, row.size], "data": row.tolist()}],
                               "outputs": [{"name": "probabilities"}]})
            try:
                conn.request("POST", "/v2/models/digits/infer", body)
                answer = conn.getresponse()
                text = answer.read()
                if answer.status != 200:
                    raise ValueError(f"HTTP {answer.status}: {text[:200]!r}")
                reply = json.loads(text)
                got = np.array(reply["outputs"][0]["data"], np.float32)
                want = [probabilities(s, row[None])[0] for s in list(self.references)]
                ok = any(np.allclose(got, w, atol=1e-4) for w in want)
                self.ledger.note(ok, f"answer {got} is of no version", int(got.argmax()) == label,
                                 reply.get("model_version"))
            except (OSError, ValueError, KeyError, http.client.HTTPException) as e:
                if self.stop.is_set():
                    return
                self.ledger.note(False, repr(e), False, "failed")
                conn.close()


def get(port, path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
    with urllib.request.urlopen(request, timeout=30) as r:
        return r.read().decode()


def wait_ready(port, process, path="/v2/health/ready"):
    for _ in range(600):
        if process.poll() is not None:
            sys.exit("the server ended before it was ready")
        try:
            get(port, path)
            return
        except OSError:
            time.sleep(0.02)
    sys.exit("the server was not ready within 12 s")


def accuracy(session, x, y):
    return float((probabilities(session, x).argmax(1) == y).mean())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--overtake", default="build/release/overtake")
    parser.add_argument("--seconds", type=float, default=3.0, help="traffic before and after the swap")
    args = parser.parse_args()
    train_pool, traffic_pool, images, labels = digits.pools()
    x_traffic, y_traffic = digits.rows(traffic_pool, images, labels, 2000, seed=3)

    with tempfile.TemporaryDirectory() as tmp:
        folder = pathlib.Path(tmp) / "models" / "digits"
        folder.mkdir(parents=True)
        t = time.monotonic()
        x1, y1 = digits.rows(train_pool[:150], images, labels, 300, seed=1)
        v1 = train(x1, y1, (16,), 200, folder / "model.onnx")
        say(f"trained a first network on 300 rows in {time.monotonic() - t:.1f} s; "
            f"accuracy on images it never saw: {accuracy(v1, x_traffic, y_traffic):.3f}")

        port = free_port()
        t = time.monotonic()
        server = subprocess.Popen([args.overtake, "serve", str(folder.parent), "--listen",
                                   f"127.0.0.1:{port}", "--workers", "1"], stderr=subprocess.PIPE, text=True)
        wait_ready(port, server)
        say(f"served by one process, ready {time.monotonic() - t:.3f} s after its start")

        references, ledger, stop = [v1], Ledger(), threading.Event()
        name = v1.get_inputs()[0].name
        clients = [Client(port, name, x_traffic[i::4], y_traffic[i::4], references, ledger, stop)
                   for i in range(4)]
        for c in clients:
            c.start()
        time.sleep(args.seconds)
        with ledger.lock:
            before = (ledger.sent, ledger.labelled_right)
        say(f"{before[0]} requests answered, accuracy {before[1] / before[0]:.3f}")

        t = time.monotonic()
        x2, y2 = digits.rows(train_pool, images, labels, 3000, seed=2)
        v2 = train(x2, y2, (64,), 30, folder / "model.onnx")
        say(f"trained a second network on 3,000 rows in {time.monotonic() - t:.1f} s, while the first serves")
        references.append(v2)
        t = time.monotonic()
        get(port, "/v2/repository/models/digits/load", b"{}")
        wait_ready(port, server, "/v2/models/digits/ready")
        say(f"swapped in {1e3 * (time.monotonic() - t):.0f} ms under load")
        time.sleep(0.3)
        references.pop(0)  # from here only the second network's answers are right
        with ledger.lock:
            middle = (ledger.sent, ledger.labelled_right)
        time.sleep(args.seconds)
        with ledger.lock:
            after = (ledger.sent, ledger.labelled_right)
        metrics = get(port, "/metrics")
        stop.set()
        for c in clients:
            c.join(12)
        server.send_signal(signal.SIGTERM)
        code = server.wait(20)

    failed = ledger.sent - ledger.right
    n, good = after[0] - middle[0], after[1] - middle[1]
    first, second = before[1] / before[0], good / n
    print()
    print(f"  requests sent, answers checked     {ledger.sent}")
    print(f"  failed or of no admitted version   {failed}")
    print(f"  accuracy before / after the swap   {first:.3f} / {second:.3f}")
    print(f"  answers by version                 {ledger.by_version}")
    print(f"  server's exit after SIGTERM        {code}")
    print()
    problems = list(ledger.wrong)
    if code != 0:
        problems.append(f"the server ended with {code}")
    if second <= first:
        problems.append("the second network is not better: was it swapped in?")
    if "digits" not in metrics:
        problems.append("/metrics does not name the model")
    for p in problems:
        print(f"  problem: {p}")
    say("FAILED" if problems else "this part of the loop holds")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
