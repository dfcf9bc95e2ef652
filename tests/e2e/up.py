"""`overtake up` in a data directory of its own, and a client of its API: what end-to-end tests of the
whole loop start from. The fixture `up` is in conftest.py."""

import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.parse

import numpy as np

from replica import OVERTAKE, PATIENCE, ROOT, wait_for


# What a replica says on a machine so busy that the control plane has no time for it in two seconds.
SLOW = "the control plane does not speak; serving without it"
# What a killed control plane was about to start, a fork without its program yet, may hold the store a moment longer than
# itself: the next one ends and is started again.
HELD = "control ended with exit 1; starting it again"


class ApiError(AssertionError):
    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


class Api:
    """The control API (docs/api.md) with the token of a data directory."""

    def __init__(self, address, token, actor="tester"):
        host, port = address.rsplit(":", 1)
        self.host, self.port, self.token, self.actor = host, int(port), token, actor

    def raw(self, method, path, body=None, headers=None, **query):
        """(status, headers, body) of a request with exactly these headers beside Host."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        c = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            c.request(method, path, body=body, headers=headers or {})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def headers(self, **more):
        return {"Authorization": f"Bearer {self.token}", "overtake-actor": self.actor, **more}

    def call(self, method, path, body=None, **query):
        """The JSON of a 200; ApiError otherwise."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        status, _, data = self.raw(method, path, body, self.headers(), **query)
        value = json.loads(data)
        if status != 200:
            raise ApiError(status, value["error"])
        return value

    def get(self, path, **query):
        return self.call("GET", "/api/v1" + path, **query)

    def post(self, path, body=None, **query):
        return self.call("POST", "/api/v1" + path, body, **query)

    def text(self, path, **query):
        status, _, data = self.raw("GET", "/api/v1" + path, None, self.headers(), **query)
        assert status == 200, data
        return data.decode()

    def app(self, name):
        return self.get(f"/apps/{name}")

    def act(self, name, verb, reason="a test", **more):
        return self.post(f"/apps/{name}/act", {"verb": verb, "reason": reason, **more})

    def events(self, type=None, object=None, after=0):
        """All events, oldest first."""
        out = []
        while True:
            query = {k: v for k, v in (("type", type), ("object", object)) if v}
            page = self.get("/events", after=after, limit=1000, **query)["events"]
            out += page
            if not page:
                return out
            after = page[-1]["seq"]

    def happened(self, after):
        """Events after this one, but for those of replicas, which connect and hand in when they do."""
        return [e for e in self.events(after=after) if not re.match(r"replica\.|\w+\.received$", e["type"])]

    def runs(self, app):
        return self.get("/runs", app=app, limit=1000)["runs"]

    def wait_event(self, type, object=None, after=0, unless=("cycle.failed", "gate.refused")):
        """The first event of this type after `after`. An event of a type in `unless` that comes
        first fails the test at once."""
        def find():
            for e in self.events(after=after):
                if e["type"] == type and object in (None, e["object"]):
                    return e
                if e["type"] in unless:
                    raise AssertionError(f"waited for {type}, got {json.dumps(e, indent=1)}")
        return wait_for(f"event {type} {object or ''}", find)

    def wait_app(self, name, what, fn):
        return wait_for(f"app {name}: {what}", lambda: (lambda a: a if fn(a) else None)(self.app(name)))

    def head(self):
        return self.get("/events", limit=1, newest=1)["head"]["seq"]


class Up:
    """A running `overtake up`."""

    def __init__(self, data, *args, within=(), exe=OVERTAKE):
        """`within`: a command that runs another in surroundings of its own, as `unshare` does."""
        self.data, self.within, self.exe = pathlib.Path(data), list(within), exe
        self.data.mkdir(parents=True, exist_ok=True)
        self.log_path = self.data.with_name(self.data.name + ".log")
        self.expected = [SLOW]  # regular expressions of WARN and ERROR lines that may be there
        self.start(*args)

    def start(self, *args, same_ports=False):
        """Starts it, or starts it again: on ports of the kernel's choice, or on those it had."""
        listen, control = (self.inference, self.control) if same_ports else ("127.0.0.1:0", "127.0.0.1:0")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.within, str(self.exe), "up", "--data", str(self.data), "--listen", listen,
                 "--control", control, "--output", "json", *map(str, args)],
                stdout=subprocess.PIPE, stderr=log, cwd=ROOT)
        line = self.process.stdout.readline()
        said = json.loads(line) if line else {}
        if "inference" not in said:
            self.process.wait()
            raise RuntimeError(said.get("error", self.log()))
        self.inference, self.control = said["inference"], said["control"]
        self.more = said.get("more", [])  # a binary from before says none
        self.api = Api(self.control, self.seen("token").read_text().strip())
        wait_for("control plane", self.answers)
        return self

    def wait_replica(self):
        """Until it has connected, which it does by itself: nothing more comes into a log in which nothing is done."""
        wait_for("the replica", lambda: self.api.events("replica.connected") and self.api.get("/replicas")["replicas"])

    def seen(self, name):
        """A file of the data directory as the process sees it."""
        return pathlib.Path(f"/proc/{self.process.pid}/root{self.data / name}")

    def answers(self):
        try:
            return self.api.raw("GET", "/api/v1/health")[0] == 200
        except OSError:
            return False

    def log(self):
        return self.log_path.read_text(errors="replace")

    def expect_log(self, *patterns):
        """Lines of level warn or error that this test brings about."""
        self.expected += patterns

    def child(self, name):
        """The process id of `control` or `serve`, None while there is none."""
        me = self.process.pid
        for pid in pathlib.Path(f"/proc/{me}/task/{me}/children").read_text().split():
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if name.encode() in words[1:2]:
                return int(pid)
        return None

    def kill_child(self, name):
        """kill -9; returns the process id that is gone."""
        pid = wait_for(name, lambda: self.child(name))
        self.expect_log(HELD)
        os.kill(pid, signal.SIGKILL)
        wait_for(f"another {name}", lambda: self.child(name) not in (None, pid))
        return pid

    def stop(self, code=0):
        """Drains; the log must hold no warning and no error that was not expected."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        got = self.process.wait(timeout=PATIENCE)
        self.process.stdout.close()
        log = self.log()
        assert got == code, f"exit {got}\n{log}"
        bad = [line for line in log.splitlines()
               if re.match(r"\S+ (warn|error) |.*Sanitizer", line)
               and not any(re.search(p, line) for p in self.expected)]
        assert not bad, "\n".join(bad)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

    # ---- predictions

    def infer(self, model, rows, name="x", datatype="FP32", headers=None):
        """(status, headers, answer) of the Open Inference Protocol."""
        rows = np.asarray(rows)
        host, port = self.inference.rsplit(":", 1)
        c = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        try:
            c.request("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": [{
                "name": name, "datatype": datatype, "shape": list(rows.shape),
                "data": rows.ravel().tolist()}]}), headers or {})
            r = c.getresponse()
            return r.status, r.headers, json.loads(r.read())
        finally:
            c.close()

    def version_that_answers(self, model, rows):
        status, _, answer = self.infer(model, rows)
        return int(answer["model_version"]) if status == 200 else None

    def wait_serves(self, model, version, rows):
        wait_for(f"{model} v{version} answers",
                 lambda: self.version_that_answers(model, rows) == version)


# ---- a small app: two classes, told apart by a plane; its program writes a model of the `null` runtime

TRAIN = '''
    """Learns a plane by least squares and writes it for the `null` runtime."""
    import json, os, pathlib, sys
    import numpy as np

    data = pathlib.Path(os.environ["OVERTAKE_DATA"])
    rows = [(np.load(d / "x.npy"), np.load(d / "y.npy")) for d in sorted(data.iterdir())]
    x = np.concatenate([r[0] for r in rows]).astype(np.float64)
    y = np.concatenate([r[1] for r in rows])
    print("training on", len(x), "rows", flush=True)
    exec(os.environ.get("TRAIN_HOOK", ""))
    a = np.hstack([x, np.ones((len(x), 1))])
    w, *_ = np.linalg.lstsq(a, np.eye(2)[y], rcond=None)
    out = pathlib.Path(OUT)
    out.mkdir(parents=True)
    (out / "null.json").write_text(json.dumps({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, x.shape[1]]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "op": "linear", "weights": w[:-1].tolist(), "bias": w[-1].tolist(), "softmax": True}))
    (out.parent / "metrics.json").write_text(json.dumps({"rows": len(x)}))
'''


def two_classes(n, seed, turn=0.0, features=4):
    """Rows and labels of two overlapping classes; `turn` (radians) moves the plane between them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)).astype(np.float32)
    y = (np.cos(turn) * x[:, 0] + np.sin(turn) * x[:, 1] + 0.3 * rng.normal(size=n) > 0)
    return x, y.astype(np.int64)


class App:
    """The folder of an app: its program, its data, its file."""

    def __init__(self, folder, name="planes", out="out/model", rows=2000):
        self.folder, self.name = pathlib.Path(folder), name
        self.folder.mkdir(parents=True)
        x, y = two_classes(rows, seed=1)
        np.savez(self.folder / "base.npz", x=x, y=y)
        self.program(out=out)

    def program(self, text=TRAIN, out="out/model"):
        (self.folder / "train.py").write_text(f"OUT = {out!r}\n" + textwrap.dedent(text))

    def yaml(self, release=(), python=sys.executable, run=None, **more):
        """The file as YAML; JSON is YAML. Keyword arguments replace whole blocks."""
        file = {"schema": "overtake/1", "app": self.name,
                "data": {"base": {"path": "base.npz", "label": "y"}},
                "train": {"run": run or f"{python} train.py", "data": ["base"], "model": "out/model",
                          "resources": {"time": "2min"}},
                "serve": {"deployment": self.name},
                "retrain": {"when": [], "cool_down": "1s"}}
        if release:
            file["release"] = list(release)
        file.update(more)
        return json.dumps(file, indent=1)

    def apply(self, api, yaml=None, diff=0, **more):
        return api.post("/apps", yaml if yaml is not None else self.yaml(**more),
                        file="app.yaml", dir=str(self.folder), **({"diff": 1} if diff else {}))


class Traffic:
    """Clients of a deployment: rows of two classes, and after each round the labels of what was answered. An exact
    ledger: every request and every label is counted. `with Traffic(up, "planes"): ...` `pause`: seconds between
    requests, where something else is to have the processor too."""

    def __init__(self, up, deployment, rows=8, seed=1000, turn=0.0, label=lambda y: y, pause=0):
        self.pause = pause
        self.up, self.deployment, self.rows, self.seed, self.turn, self.label = up, deployment, rows, seed, turn, label
        self.sent = self.answered = self.accepted = 0
        self.by_version, self.problems = {}, []
        self.ids = []
        self.done = threading.Event()
        self.threads = [threading.Thread(target=f) for f in (self.ask, self.tell)]

    def ask(self):
        while not self.done.wait(self.pause):
            self.seed += 1
            x, y = two_classes(self.rows, self.seed, self.turn)
            self.sent += 1
            status, headers, answer = self.up.infer(self.deployment, x)
            if status != 200:
                self.problems.append(answer)
                continue
            self.answered += 1
            incarnation, seq, version, sampled = headers["overtake-prediction-id"].split("-")
            self.by_version[int(version, 16)] = self.by_version.get(int(version, 16), 0) + 1
            self.ids += [(f"{incarnation}-{int(seq, 16) + i:x}-{version}-{sampled}", int(self.label(v)))
                         for i, v in enumerate(y)]

    def tell(self):
        while not self.done.wait(0.1):
            self.send_labels()
        self.send_labels()

    def send_labels(self):
        n = min(len(self.ids), 50_000)
        take = self.ids[:n]
        del self.ids[:n]  # in place: the other thread adds to this list
        if take:
            try:
                self.accepted += self.up.api.post(f"/deployments/{self.deployment}/labels", {
                    "labels": [{"id": i, "value": v} for i, v in take]})["accepted"]
            except (OSError, AssertionError) as e:
                self.problems.append(e)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for t in self.threads:
            t.join()
        while self.ids and not self.problems:  # what was answered while the last were told
            self.send_labels()
