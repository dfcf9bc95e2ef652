"""What a retrain on the same machine does to the latency of serving.

    BUILD=build/release .deps/venv/bin/python bench/retrain_bench.py [--rounds 15] [--seconds 1.5]

One replica with all defaults (a worker for each core) serves the ONNX MLP; `overtake bench` sends 1,000
requests a second, each at its time, and counts latency from then. Beside it Keras trains on as many threads as
there are cores, first as a background run of the product's own shim (`overtake shim`), then, to show what that
does, as an ordinary process. Each round measures while the training is stopped by a signal, then while it runs,
so that what else the machine does hits both. Prints a JSON line for each of the two with medians, least and most
over the rounds; the ratios are of one round's figures. `cores_used` by the training tells whether there was one
to speak of: a background run on a machine that others fill hardly runs."""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
sys.path.insert(0, str(ROOT / "bench"))

import replica  # noqa: E402
import serve_bench  # noqa: E402

READY_SECONDS = 600

TRAIN = '''
import os, pathlib, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, keras
rng = np.random.default_rng(3)
x = rng.random((8192, 784), dtype=np.float32)
y = rng.integers(0, 10, 8192)
model = keras.Sequential([keras.Input((784,))] +
                         [keras.layers.Dense(1024, activation="relu") for _ in range(2)] +
                         [keras.layers.Dense(10, activation="softmax")])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
model.fit(x[:512], y[:512], batch_size=128, verbose=0)
pathlib.Path("ready").touch()
while True:
    model.fit(x, y, batch_size=128, verbose=0)
'''


def load(server, rate, seconds):
    done = subprocess.run([replica.OVERTAKE, "bench", server.address, "--rate", str(rate), "--arrivals", "even", "--warm-up", "0s",
                           "--duration", f"{round(seconds * 1000)}ms", "--realtime", "--output", "json"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"retrain_bench: {done.stdout}{done.stderr}")
    got = json.loads(done.stdout)
    return {"realtime": got["realtime"], "p50_us": got["latency_us"]["p50"], "p99_us": got["latency_us"]["p99"],
            "p999_us": got["latency_us"]["p99.9"]}


def threads_cpu(pids):
    total = 0.0
    for pid in pids:
        try:
            total += serve_bench.cpu_seconds(pid)
        except OSError:
            continue
    return total


def tree(pid):
    """`pid` and its descendants."""
    parent = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError):
            parent[int(p)] = int(pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()[1])
    found = [pid]
    for p in found:
        found += [child for child, of in parent.items() if of == p]
    return found


class Training:
    """Keras in a directory, through the shim when `background`, else as a process of its own session."""

    def __init__(self, folder, background):
        folder.mkdir()
        self.folder, self.background = folder, background
        program = folder / "train.py"
        program.write_text(TRAIN)
        argv = [sys.executable, str(program)]
        log = open(folder / "output", "wb")
        if background:
            spec = {"argv": argv, "env": {}, "cwd": str(folder), "run": 1, "time_limit_us": 0,
                    "grace_us": 1000000, "memory_limit_bytes": 0, "disk_limit_bytes": 0,
                    "log_limit_bytes": 1 << 20, "nice": 0, "cpu_weight": 0, "background": True}
            (folder / "spec.json").write_text(json.dumps(spec))
            argv = [str(replica.OVERTAKE), "shim", str(folder)]
        # A run is started in the session of what serves (src/launch); a person's own process has another.
        self.process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log, process_group=0 if background else None,
                                        start_new_session=not background)
        self.wait_ready()

    def wait_ready(self):
        """Until its first epoch is over. On a busy machine a background run gets what is left."""
        end = time.monotonic() + READY_SECONDS
        while not (self.folder / "ready").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                said = "".join(f.read_text() for f in (self.folder / "output", self.folder / "log") if f.exists())
                sys.exit(f"retrain_bench: the training did not begin: {said[-2000:]}")
            time.sleep(0.05)

    def cpu(self):
        return threads_cpu(tree(self.process.pid))

    def pause(self, on):
        """The program and what it started, not the shim."""
        for pid in tree(self.process.pid):
            if not self.background or pid != self.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP if on else signal.SIGCONT)

    def stop(self):
        if self.process.poll() is None:
            self.pause(False)
        if self.background:
            (self.folder / "cancel").touch()
        else:
            self.process.kill()
        self.process.wait()


def measure(a, server, folder, background):
    """Rounds of (stopped, running)."""
    idle, busy = [], []
    training = Training(folder / ("background" if background else "plain"), background)
    try:
        for _ in range(a.rounds):
            training.pause(True)
            idle.append(load(server, a.rate, a.seconds))
            training.pause(False)
            before, start = training.cpu(), time.monotonic()
            busy.append(load(server, a.rate, a.seconds))
            busy[-1]["cores_used"] = (training.cpu() - before) / (time.monotonic() - start)
    finally:
        training.stop()
    return idle, busy


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--seconds", type=float, default=1.5)
    p.add_argument("--rate", type=int, default=1000)
    a = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the training ends with us
    build = replica.BUILD.resolve()
    subprocess.run([sys.executable, ROOT / "tests/golden/make_models.py", build / "models", "onnx"], check=True,
                   capture_output=True)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        serve_bench.make_bundle(folder / "models" / "mlp", build / "models" / "onnx" / "mlp.onnx")
        server = replica.Replica(folder / "models", log=folder / "log")
        try:
            server.wait_ready()
            load(server, a.rate, 1)
            for background in (True, False):
                report(a, background, *measure(a, server, folder, background))
        finally:
            server.stop()


def report(a, background, idle, busy):
    line = {"bench": "retrain", "training": "background run" if background else "ordinary process",
            "model": "mlp 784-128-10", "rate": a.rate, "rounds": a.rounds, "cores": os.cpu_count(),
            "realtime_client": idle[0]["realtime"],
            "cores_used": serve_bench.spread([b["cores_used"] for b in busy])}
    for what in ("p50_us", "p99_us", "p999_us"):
        line[f"idle_{what}"] = serve_bench.spread([i[what] for i in idle], 0)
        line[f"retrain_{what}"] = serve_bench.spread([b[what] for b in busy], 0)
        line[f"{what[:-3]}_ratio"] = serve_bench.spread([b[what] / i[what] for b, i in zip(busy, idle)])
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
