"""Mixed protocols through swaps, kills and upgrades, with an exact ledger: every request is answered once, with what the
version that its prediction id names says, and that version was admitted then. A request may break only with the replica
that was killed under it. (A stream has no end of its own: a replica that goes down ends it behind an answer, and a message
that crosses with that end is asked again; it is counted apart.)

    python tests/e2e/soak.py [--seed N] [--seconds S]

The clients are those that people have: plain HTTP, tritonclient over HTTP and gRPC (one call, and a stream), TensorFlow
Serving's REST and gRPC. test_soak.py runs a short one in `make test`, `make test-long` ten minutes."""

import argparse
import collections
import http.client
import json
import os
import pathlib
import queue
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

import numpy as np

from kill_campaign import alive, weights_of
from replica import OVERTAKE, PATIENCE, wait_for
from up import App, Up, two_classes

APP = "planes"
ROWS = 4
GOING = (r"the control plane is gone", r"the control plane is ending; tried again soon",
         r"(control|serve) ended with signal 9")

# After the death of a replica, until its clients have heard of it: threads of it may still hold its sockets when
# the first is gone, and a client may send on a connection whose reset lies unread.
HEARD = 0.1


class Broken(Exception):
    """The connection ended before the answer."""


class TurnedAway(Exception):
    """A stream was ended by a server that goes down, before it had read the message."""


def version_of(prediction_id):
    return int(prediction_id.split("-")[2], 16)


# ---- protocols: each is made once a connection; ask(x) -> (version, y); close()


class Rest:
    """OIP in JSON over one connection."""

    def __init__(self, host, port):
        self.c = http.client.HTTPConnection(host, port, timeout=PATIENCE)

    def post(self, path, body):
        try:
            self.c.request("POST", path, json.dumps(body))
            r = self.c.getresponse()
            data = r.read()
        except (OSError, http.client.HTTPException) as e:
            raise Broken(repr(e)) from e
        assert r.status == 200, (r.status, data)
        return json.loads(data), version_of(r.headers["overtake-prediction-id"])

    def ask(self, x):
        answer, version = self.post(f"/v2/models/{APP}/infer", {"inputs": [
            {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}]})
        assert int(answer["model_version"]) == version
        return version, np.reshape(answer["outputs"][0]["data"], answer["outputs"][0]["shape"])

    def close(self):
        self.c.close()


class ServingRest(Rest):
    """TensorFlow Serving's REST API."""

    def ask(self, x):
        answer, version = self.post(f"/v1/models/{APP}:predict", {"instances": x.tolist()})
        return version, np.array(answer["predictions"])


class TritonHttp:
    def __init__(self, host, port):
        import tritonclient.http as t
        self.t, self.c = t, t.InferenceServerClient(f"{host}:{port}", network_timeout=PATIENCE)

    def ask(self, x):
        i = self.t.InferInput("x", list(x.shape), "FP32")
        i.set_data_from_numpy(x)
        try:
            r = self.c.infer(APP, [i])
        except self.t.InferenceServerException:
            raise
        except Exception as e:  # geventhttpclient has many
            raise Broken(repr(e)) from e
        return int(r.get_response()["model_version"]), r.as_numpy("y")

    def close(self):
        self.c.close()


def grpc_broken(e):
    """gRPC's word for a connection that ended."""
    return "UNAVAILABLE" in str(e.status() if callable(getattr(e, "status", None)) else e)


class TritonGrpc:
    def __init__(self, host, port):
        import tritonclient.grpc as t
        self.t, self.c = t, t.InferenceServerClient(f"{host}:{port}")

    def input(self, x):
        i = self.t.InferInput("x", list(x.shape), "FP32")
        i.set_data_from_numpy(x)
        return i

    def ask(self, x):
        try:
            r = self.c.infer(APP, [self.input(x)], client_timeout=PATIENCE)
        except self.t.InferenceServerException as e:
            if grpc_broken(e):
                raise Broken(str(e)) from e
            raise
        return int(r.get_response().model_version), r.as_numpy("y")

    def close(self):
        self.c.close()


class TritonStream(TritonGrpc):
    """One stream, a message at a time."""

    def __init__(self, host, port):
        super().__init__(host, port)
        self.answers = queue.Queue()
        self.c.start_stream(callback=lambda result, error: self.answers.put((result, error)))

    def ask(self, x):
        try:
            self.c.async_stream_infer(APP, [self.input(x)])
        except self.t.InferenceServerException as e:  # the stream has ended while nothing was out
            raise TurnedAway from e
        r, error = self.answers.get(timeout=PATIENCE)
        if error is not None:
            if "the server is going down" in str(error):
                raise TurnedAway
            if grpc_broken(error):
                raise Broken(str(error))
            raise error
        return int(r.get_response().model_version), r.as_numpy("y")


class ServingGrpc:
    """TensorFlow Serving's gRPC with its own package, which brings TensorFlow."""

    def __init__(self, host, port):
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
        self.grpc, self.messages = grpc, predict_pb2
        self.channel = grpc.insecure_channel(f"{host}:{port}")
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def ask(self, x):
        import tensorflow as tf
        r = self.messages.PredictRequest()
        r.model_spec.name = APP
        r.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
        try:
            answer = self.stub.Predict(r, timeout=PATIENCE)
        except self.grpc.RpcError as e:
            if e.code() == self.grpc.StatusCode.UNAVAILABLE:
                raise Broken(str(e)) from e
            raise
        return answer.model_spec.version.value, tf.make_ndarray(answer.outputs["y"])

    def close(self):
        self.channel.close()


PROTOCOLS = {"rest": Rest, "triton http": TritonHttp, "serving rest": ServingRest, "triton grpc": TritonGrpc,
             "triton stream": TritonStream, "serving grpc": ServingGrpc}


class Client(threading.Thread):
    """Asks one way, anew after `per` requests, and writes down what came back."""

    def __init__(self, up, name, seed, per):
        super().__init__(daemon=True)
        self.up, self.way, self.seed, self.per = up, name, seed, per
        self.done = threading.Event()
        self.sent = self.turned_away = 0
        self.answers, self.broken, self.problems = collections.deque(), [], []

    def run(self):
        try:
            while not self.done.is_set():
                self.connection()
        except BaseException:
            self.problems.append(f"{self.way}: {traceback.format_exc()}")

    def connection(self):
        host, port = self.up.inference.rsplit(":", 1)
        opened, c = time.monotonic(), None
        try:
            c = PROTOCOLS[self.way](host, int(port))
            for _ in range(self.per):
                if self.done.wait(0.002):
                    return
                x = two_classes(ROWS, self.seed + self.sent)[0]
                version, y = c.ask(x)
                self.sent += 1
                self.answers.append((time.time() * 1e6, version, x, y))
        except TurnedAway:
            self.turned_away += 1  # it is asked again on another stream
        except Broken as e:
            self.sent += 1
            self.broken.append((opened, time.monotonic(), str(e)))
        finally:
            if c is not None:
                c.close()


class Soak:
    def __init__(self, folder, seed, seconds, protocols=PROTOCOLS, say=print):
        self.folder, self.seed, self.seconds, self.say = pathlib.Path(folder), seed, seconds, say
        self.protocols, self.rng = list(protocols), random.Random(seed)
        self.kills, self.counts, self.weights, self.checked = [], collections.Counter(), {}, collections.Counter()

    def run(self):
        self.say(f"soak: seed {self.seed}, {self.seconds} s, {', '.join(self.protocols)}")
        exe = self.folder / "bin" / "overtake"  # a name of its own, as an upgrade finds it
        exe.parent.mkdir()
        (exe.parent / "plugins").symlink_to(pathlib.Path(OVERTAKE).parent / "plugins")
        shutil.copy(OVERTAKE, exe)
        app = App(self.folder / "app", APP)
        self.up = Up(self.folder / "data", "--workers", 2, exe=exe)
        self.up.expect_log(*GOING)
        clients = []
        try:
            app.apply(self.up.api, release=[{"gate": {"require": "candidate.base > 0.01"}}])
            self.up.api.wait_event("version.promoted", f"model/{APP}@1")
            self.up.wait_serves(APP, 1, two_classes(4, 1)[0])
            clients = [Client(self.up, name, 1_000_000 * k, self.rng.choice((1, 20, 1000)) if k else 1000)
                       for k, name in enumerate(self.protocols * 2)]
            for c in clients:
                c.start()
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                self.act()
                self.check(clients)
            for c in clients:
                c.done.set()
                c.join(PATIENCE)
            self.check(clients)
            self.ledger(clients)
            assert self.up.api.get("/events/verify")["ok"]
            self.up.stop()
        finally:
            for c in clients:
                c.done.set()
            self.up.kill()
        return self.report(clients)

    # ---- what happens meanwhile

    def act(self):
        what = self.rng.choices((self.swap, self.upgrade, self.kill_control, self.kill_serve), (12, 2, 1, 1))[0]
        what()
        self.counts[what.__name__] += 1

    def swap(self):
        path = self.folder / "app" / f"pushed-{self.counts['swap']}"
        path.mkdir()
        w = [1.0 + 0.2 * self.rng.random()] + [0.2 * self.rng.random() for _ in range(3)]
        (path / "null.json").write_text(json.dumps({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            "op": "linear", "weights": [[-v, v] for v in w], "bias": [0.0, 0.0], "softmax": True}))
        after = self.up.api.head()
        self.up.api.act(APP, "push", path=str(path))
        e = self.up.api.wait_event("version.promoted", after=after)
        version = int(e["object"].split("@")[1])
        self.up.wait_serves(APP, version, two_classes(4, 1)[0])

    def upgrade(self):
        after = self.up.api.head()
        self.up.process.send_signal(signal.SIGHUP)
        self.up.api.wait_event("upgrade.finished", after=after, unless=("upgrade.failed",))

    def kill_control(self):
        self.up.kill_child("control")
        wait_for("the control plane", self.up.answers)

    def kill_serve(self):
        pid = wait_for("serve", lambda: self.up.child("serve"))
        before = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_for("its death", lambda: not alive(pid))
        self.kills.append((before, time.monotonic() + HEARD))
        champion = self.up.api.app(APP)["champion"]
        wait_for("the next", lambda: self.up.child("serve") not in (None, pid))
        self.up.wait_serves(APP, champion, two_classes(4, 1)[0])

    # ---- checking

    def check(self, clients):
        for v in self.up.api.get(f"/models/{APP}")["list"]:
            if v["version"] not in self.weights:
                self.weights[v["version"]] = weights_of(self.up.data / "store/blobs", v["bundle"])
        admitted = {int(e["object"].split("@")[1]): e["time_us"] for e in reversed(self.up.api.events("version.promoted"))}
        for c in clients:
            assert not c.problems, "\n".join(c.problems)
            while c.answers:
                wall, version, x, y = c.answers.popleft()
                if version not in admitted:  # it came after the list
                    c.answers.appendleft((wall, version, x, y))
                    break
                assert admitted[version] <= wall, f"{c.way}: v{version} answered before it was admitted"
                z = x.astype(np.float64) @ self.weights[version]
                if version == 1:
                    z += self.bias()
                e = np.exp(z - z.max(1, keepdims=True))
                assert np.allclose(y, e / e.sum(1, keepdims=True), atol=1e-4), f"{c.way}: a wrong answer of v{version}: {y}"
                self.checked[c] += 1
            broken = [b for b in c.broken if not any(b[0] <= after and b[1] >= before for before, after in self.kills)]
            assert not broken, f"{c.way}: failed though its replica lived: {broken[:3]} (kills: {self.kills[-3:]})"

    def bias(self):
        """Of the version that the app's own program trained."""
        if not hasattr(self, "trained_bias"):
            (v,) = [v for v in self.up.api.get(f"/models/{APP}")["list"] if v["version"] == 1]
            blobs = self.up.data / "store/blobs"
            files = json.loads((blobs / v["bundle"][:2] / v["bundle"]).read_bytes())["files"]
            (sha,) = [f["sha256"] for f in files if f["path"].endswith("null.json")]
            self.trained_bias = np.array(json.loads((blobs / sha[:2] / sha).read_bytes())["bias"])
        return self.trained_bias

    def ledger(self, clients):
        for c in clients:
            assert not c.answers, f"{c.way}: answers of versions that nobody promoted: {c.answers[0][1]}"
            assert c.sent == self.checked[c] + len(c.broken), f"{c.way}: {c.sent} sent, {self.checked[c]} answered"
            drains = self.counts["upgrade"] + len(self.kills)
            assert c.turned_away <= drains, f"{c.way}: turned away {c.turned_away} times in {drains} ends of a replica"
            assert self.checked[c] > 0, f"{c.way} got no answer"

    def report(self, clients):
        ways = collections.Counter()
        for c in clients:
            ways[c.way] += self.checked[c]
        out = {"seed": self.seed, "seconds": self.seconds, "did": dict(self.counts), "answers": dict(ways),
               "streams turned away": sum(c.turned_away for c in clients),
               "broken with a killed replica": sum(len(c.broken) for c in clients)}
        self.say(json.dumps(out))
        return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--seconds", type=int, default=600)
    p.add_argument("--only", default="", help="protocols, with commas")
    args = p.parse_args()
    folder = tempfile.mkdtemp(prefix="soak-")
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 31)
    try:
        Soak(folder, seed, args.seconds, [x for x in args.only.split(",") if x] or PROTOCOLS).run()
    except BaseException:
        print(f"left for a look: {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
