"""What a spare process saves of a retraining.

    BUILD=build/release .deps/venv/bin/python bench/warm_bench.py [--rounds 10] [--torch /usr/bin/python3]

`overtake up` with one app for each framework: TensorFlow under this interpreter, torch under the one of --torch; what
is missing is left out with a line why. Each round retrains once cold and once warm, in turn. Counted from before the
API's request: to the script's first line, to its framework imported, and to the end of the first step; the first step
is one of a small net, its tracing (tf.function, torch.jit) told apart. For one process and for two ranks (of which the
last one counts), prints a JSON line for each framework with the median, least and most of each. Cold and warm run in the background as every retraining does: on a machine that others
fill, both wait."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import replica  # noqa: E402
from replica import wait_for  # noqa: E402
from up import App, Up  # noqa: E402

replica.PATIENCE = 600  # an import in the background of a busy machine

HEAD = '''
import time
times = {"first_line": time.time()}
import json, os, pathlib
'''

TAIL = '''
rank = os.environ.get("OVERTAKE_RANK", "0")
out = pathlib.Path("out/model")
out.mkdir(parents=True, exist_ok=True)
if rank == "0":
    (out / "null.json").write_text(json.dumps({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "op": "linear", "weights": [[1, 0], [0, 1], [0, 0], [0, 0]], "bias": [0, 0], "softmax": True}))
pathlib.Path(f"times-{rank}.json").write_text(json.dumps(times))
'''

TENSORFLOW = '''
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
times["imported"] = time.time()
w = tf.Variable(tf.random.normal((64, 10)))
x, y = tf.random.normal((128, 64)), tf.zeros((128,), tf.int32)
@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, x @ w))
    w.assign_sub(0.1 * tape.gradient(loss, w))
    return loss
t = time.time()
step = step.get_concrete_function(x, y)
times["trace"] = time.time() - t
float(step(x, y))
times["first_step"] = time.time()
'''

TORCH = '''
import torch
times["imported"] = time.time()
net = torch.nn.Linear(64, 10)
sgd = torch.optim.SGD(net.parameters(), 0.1)
x, y = torch.randn(128, 64), torch.zeros(128, dtype=torch.long)
t = time.time()
forward = torch.jit.trace(net, x)
times["trace"] = time.time() - t
loss = torch.nn.functional.cross_entropy(forward(x), y)
loss.backward()
sgd.step()
float(loss)
times["first_step"] = time.time()
'''


def round_of(up, name, want):
    """Times of one retraining, in seconds since the request. `want`: what its log must begin with."""
    api = up.api
    before = {r["run"] for r in api.runs(name)}
    asked = time.time()
    api.act(name, "train", "a round")
    answered = time.time() - asked
    run = wait_for("a run", lambda: next((r["run"] for r in api.runs(name) if r["run"] not in before and r["step"] == "train"),
                                         None))
    wait_for("its end", lambda: idle(api, name) and {r["run"]: r["state"] for r in api.runs(name)}[run] == "succeeded")
    log = (up.data / "runs" / str(run) / "log").read_text(errors="replace")
    if not log.startswith(want):
        sys.exit(f"warm_bench: run {run} of {name} should have started with '{want}':\n{log[:500]}")
    if want and "started cold" in log:
        sys.exit(f"warm_bench: a rank of run {run} of {name} started cold:\n{log[:500]}")
    ranks = [json.loads(f.read_text()) for f in (up.data / "runs" / str(run) / "work").glob("times-*.json")]
    last = {k: max(r[k] for r in ranks) for k in ranks[0]}  # of the rank that came last
    trace = last.pop("trace")
    return {"answer": answered, **{k: v - asked for k, v in last.items()}, "trace": trace}


def idle(api, name):
    app = api.app(name)
    return app if app["champion"] and app["cycle"]["state"] == "idle" else None


def spread(values):
    return {"median": round(statistics.median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


def measure(up, folder, name, module, script, python, rounds, np):
    app = App(folder, name=name, rows=200)
    app.program(HEAD + script + TAIL)
    train = {**json.loads(app.yaml(python=python))["train"], "np": np}
    cold, warm = train, {**train, "warm": [module]}
    app.apply(up.api, train=cold)
    wait_for("its first version", lambda: idle(up.api, name))
    got = {"cold": [], "warm": []}
    for _ in range(rounds):
        app.apply(up.api, train=cold)
        got["cold"].append(round_of(up, name, ""))
        app.apply(up.api, train=warm)
        spare = wait_for("a spare", lambda: (lambda s: s if s["state"] == "ready" else None)(up.api.app(name)["spare"]))
        got["warm"].append(round_of(up, name, "[overtake: started in a spare process"))
    app.apply(up.api, train=cold)  # its spare's memory is the next one's
    result = {"framework": module, "processes": max(np, 1), "rounds": rounds, "spare_mib": round(spare["memory_bytes"] / 2**20),
              "load": round(os.getloadavg()[0], 1)}
    for how, all_times in got.items():
        result[how] = {k: spread([t[k] for t in all_times]) for k in all_times[0]}
    print(json.dumps(result), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--np", type=int, nargs="+", default=[0, 2], help="ranks; 0: one process")
    p.add_argument("--torch", default="/usr/bin/python3", help="interpreter that has torch")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        up = Up(pathlib.Path(temp) / "data")
        try:
            for name, module, script, python in (("tensor", "tensorflow", TENSORFLOW, sys.executable),
                                                 ("torch", "torch", TORCH, args.torch)):
                has = subprocess.run([python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is None)",
                                      module], capture_output=True)
                if has.returncode != 0:
                    print(f"warm_bench: {python} has no {module}", file=sys.stderr)
                    continue
                for np in args.np:
                    measure(up, pathlib.Path(temp) / f"{name}{np}", f"{name}{np}", module, script, python, args.rounds, np)
            up.stop()
        finally:
            up.kill()


if __name__ == "__main__":
    main()
