"""More to do than can be done, and a heavy neighbour.

    BUILD=build/release .deps/venv/bin/python bench/overload_bench.py [--rounds 5]

`overload`: an ONNX model of a little over 1 ms that runs one request at a time, behind a deadline of 100 ms that its deployment
sets. In each round a closed loop of 4 connections finds the capacity, then an open loop (Poisson, 512 connections) sends three
times as much. `goodput` is what was answered in time over the capacity, `goodput_by_cpu` the same for each second of the server's
processor time, which a machine with others on it shifts less; `refused_p50_us` and `refused_p99_us` are how long a refusal took.

`neighbour`: a model of about 1 ms at half its capacity, open loop, alone and then beside a model of about 100 ms that four
connections ask all the time and whose versions are loaded one after the other meanwhile. `ratio` is the p99 beside it over
the p99 alone in the same round; `heavy_per_s` is what the neighbour was answered. The server has one core, the load another.

Models have random weights from a seed. Prints a JSON line each, medians over the rounds."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import replica as r  # noqa: E402
from onnx_bundle import bundle  # noqa: E402
from serve_bench import cpu_seconds  # noqa: E402

DEADLINE_MS = 100


def square(side, repeats):
    """x -> (x W) ^ repeats with one weight: time without size."""
    def make(path, seed):
        w = np.random.default_rng(seed).standard_normal((side, side), dtype=np.float32) / np.float32(np.sqrt(side))
        nodes = [helper.make_node("MatMul", ["x" if i == 0 else f"t{i - 1}", "w"], [f"t{i}"]) for i in range(repeats)]
        nodes.append(helper.make_node("Tanh", [f"t{repeats - 1}"], ["y"]))
        graph = helper.make_graph(nodes, "square", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", side])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", side])],
                                  [numpy_helper.from_array(w, "w")])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return make


def bench(server, model, *args):
    done = subprocess.run([r.OVERTAKE, "bench", "--output", "json", "--warm-up", "300ms", *map(str, args),
                           f"http://{server.address}/v2/models/{model}"], capture_output=True, text=True)
    if not done.stdout:
        sys.exit(f"overload_bench: {done.stderr}")
    return json.loads(done.stdout)


def want(plane, digests, versions):
    deployments = [r.deployment(r.variant("champion", versions[name], digest, 1, model=name), name=name, rate=0)
                   for name, digest in digests.items()]
    for d in deployments:
        if d["name"] == "tight":
            d["limits"] = {"deadline_us": DEADLINE_MS * 1000}
    plane.want(*deployments)
    plane.wait_observed()


def per_cpu(server, *args):
    """What bench tells, and what was answered in time for each second of the server's processor time."""
    before = cpu_seconds(server.process.pid)
    got = bench(server, *args)
    return got, (got["measured"]["correct"] + got["warmup"]["correct"]) / (cpu_seconds(server.process.pid) - before)


def overload(server, seconds):
    at_capacity, capacity_by_cpu = per_cpu(server, "tight", "-c", 4, "-d", f"{seconds}s", "--realtime")
    capacity = at_capacity["rate"]
    got, by_cpu = per_cpu(server, "tight", "-c", 512, "-d", f"{2 * seconds}s", "--rate", int(3 * capacity), "--realtime")
    return {"capacity_per_s": capacity, "sent_per_s": got["measured"]["due"] / got["elapsed_s"],
            "goodput": got["rate"] / capacity, "goodput_by_cpu": by_cpu / capacity_by_cpu,
            "answered_p50_us": got["latency_us"]["p50"], "answered_p99_us": got["latency_us"]["p99"],
            "refused": got["measured"]["refused"],
            "refused_p50_us": got["refused_us"]["p50"], "refused_p99_us": got["refused_us"]["p99"],
            "failed": got["measured"]["failed"], "load_late_us": got["behind_us"]}


def neighbour(server, plane, digests, versions, seconds):
    rate = int(bench(server, "light", "-c", 4, "-d", f"{seconds}s", "--realtime")["rate"] / 2)
    args = ("light", "-c", 64, "-d", f"{2 * seconds}s", "--rate", rate, "--realtime")
    alone = bench(server, *args)
    heavy = []
    stop = threading.Event()

    def load():
        while not stop.is_set():
            versions["heavy"] += 1
            want(plane, digests, versions)

    threads = [threading.Thread(target=lambda: heavy.append(bench(server, "heavy", "-c", 4, "-d", f"{3 * seconds}s"))),
               threading.Thread(target=load)]
    for t in threads:
        t.start()
    time.sleep(0.3 * seconds)  # so that both are at work when it begins
    beside = bench(server, *args)
    stop.set()
    for t in threads:
        t.join()
    return {"rate_per_s": rate, "alone_p50_us": alone["latency_us"]["p50"], "alone_p99_us": alone["latency_us"]["p99"],
            "beside_p50_us": beside["latency_us"]["p50"], "beside_p99_us": beside["latency_us"]["p99"],
            "ratio": beside["latency_us"]["p99"] / alone["latency_us"]["p99"], "heavy_per_s": heavy[0]["rate"],
            "heavy_p50_us": heavy[0]["latency_us"]["p50"],
            "failed": alone["measured"]["failed"] + beside["measured"]["failed"] + heavy[0]["measured"]["failed"]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--server-core", type=int, default=0)
    p.add_argument("--load-core", type=int, default=1)
    a = p.parse_args()
    got = {"overload": [], "neighbour": []}
    with tempfile.TemporaryDirectory() as t:
        folder = pathlib.Path(t)
        (folder / "blobs").mkdir()
        digests = {}
        for name, make, side in [("tight", square(256, 400), 256), ("light", square(256, 350), 256),
                                 ("heavy", square(2048, 60), 2048)]:
            digests[name] = bundle(folder / name, make, (side,), side, batch=0)
            r.store_bundle(folder / "blobs", folder / name)
        plane = r.ControlPlane(folder / "agent.sock", folder / "blobs", True)
        os.sched_setaffinity(0, {a.server_core})
        server = r.Replica("--agent", f"unix:{folder}/agent.sock", "--data", folder / "data", log=folder / "log")
        os.sched_setaffinity(0, {a.load_core})
        try:
            versions = dict.fromkeys(digests, 1)
            want(plane, digests, versions)
            server.wait_ready()
            for _ in range(a.rounds):
                got["overload"].append(overload(server, a.seconds))
                got["neighbour"].append(neighbour(server, plane, digests, versions, a.seconds))
        finally:
            server.stop()
            plane.close()
    for name, least in [("overload", "goodput"), ("neighbour", "ratio")]:
        figures = got[name]
        medians = {k: round(statistics.median(f[k] for f in figures), 3) for k in figures[0]}
        spread = [f[least] for f in figures]
        print(json.dumps({"bench": name, "rounds": a.rounds, **medians, f"{least}_least": round(min(spread), 3),
                          f"{least}_most": round(max(spread), 3)}))


if __name__ == "__main__":
    main()
