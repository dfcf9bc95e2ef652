"""How long a large model takes from the desired state to answering, part by part.

    BUILD=build/release .deps/venv/bin/python bench/load_bench.py [--rounds 5]

The model has ResNet-50's shape with random weights from a seed (about 100 MB of ONNX). A replica under a control
plane of the tests' own, which serves a small model already, gets it as desired state: `first` with a bundle that is new to
it (linked from the content store, its digests computed), `again` as another deployment of the bundle that it has
verified. Parts are the replica's own figures; `control` is all of it less golden answers and first runs; `observed` is what the
control plane saw from sending the desired state to the report that the model serves. `took_over` is how long the optimised
session then took to replace the one that answered first; `run_first` and `run_then` are requests of one row before and after.
Prints a JSON line each, medians over the rounds."""

import argparse
import json
import pathlib
import re
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import replica as r  # noqa: E402
from onnx_bundle import bundle  # noqa: E402

SIDE = 64  # of the image: weights are what takes time here, not pixels
LOADED = (r"loaded in ([\d.]+) ms \(fetching ([\d.]+), session ([\d.]+), golden answers ([\d.]+), "
          r"measuring and first runs ([\d.]+)\)")
TOOK_OVER = r"the better session took over after ([\d.]+) ms"


class Net:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def weight(self, *shape):
        scale = np.sqrt(2 / max(1, np.prod(shape[1:])))
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(
            (self.rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)), name))
        return name

    def node(self, kind, *inputs, **how):
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **how))
        return out

    def conv(self, x, c_in, c_out, k, stride=1, relu=True):
        y = self.node("Conv", x, self.weight(c_out, c_in, k, k), self.weight(c_out), kernel_shape=[k, k],
                      strides=[stride, stride], pads=[k // 2] * 4)
        return self.node("Relu", y) if relu else y


def resnet50(path, seed=50):
    n = Net(seed)
    x = n.node("MaxPool", n.conv("x", 3, 64, 7, 2), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    width = 64
    for mid, blocks, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for i in range(blocks):
            s = stride if i == 0 else 1
            y = n.conv(n.conv(n.conv(x, width, mid, 1), mid, mid, 3, s), mid, 4 * mid, 1, relu=False)
            short = n.conv(x, width, 4 * mid, 1, s, relu=False) if i == 0 else x
            # Without normalisation the sum of each block is brought back to the size of its inputs.
            x = n.node("Relu", n.node("Mul", n.node("Add", y, short), "half"))
            width = 4 * mid
    n.weights.append(numpy_helper.from_array(np.array(0.7, np.float32), "half"))
    x = n.node("Flatten", n.node("GlobalAveragePool", x))
    n.nodes.append(helper.make_node("Gemm", [x, n.weight(width, 1000), n.weight(1000)], ["y"]))
    graph = helper.make_graph(
        n.nodes, "resnet50", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1000])], n.weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def small(path, seed):
    n = Net(seed)
    n.nodes.append(helper.make_node("Gemm", [n.node("Flatten", "x"), n.weight(3 * 64, 10), n.weight(10)], ["y"]))
    graph = helper.make_graph(n.nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])], n.weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def found(server, name, pattern):
    """What the replica's log says of the deployment."""
    line = re.compile(f" {name}: {name}@1:? " + pattern)
    return r.wait_for(line.pattern, lambda: line.search(pathlib.Path(server.log_path).read_text())).groups()


def run_ms(server, name, seconds):
    """Median time of a request of one row, one after the other."""
    x = np.zeros((1, 3, SIDE, SIDE), np.float32)
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": list(x.shape),
                                   "parameters": {"binary_data_size": x.nbytes}}],
                       "parameters": {"binary_data_output": True}}).encode()
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        status, _, body = server.request("POST", f"/v2/models/{name}/infer", head + x.tobytes(),
                                         {"Inference-Header-Content-Length": str(len(head))})
        assert status == 200, body[:200]
        took.append(1000 * (time.monotonic() - start))
    return statistics.median(took)


def deploy(name, digest):
    return r.deployment(r.variant("champion", 1, digest, 1, model=name), name=name, rate=0)


def measure(server, plane, before, name, digest):
    """One more deployment, from the desired state until its better session answers."""
    start = time.monotonic()
    plane.want(*before, deploy(name, digest))
    plane.wait_observed()
    observed = 1000 * (time.monotonic() - start)
    everything, *parts = map(float, found(server, name, LOADED))
    early = run_ms(server, name, 0.2)
    took_over = float(found(server, name, TOOK_OVER)[0])
    return {"control_ms": everything - parts[2] - parts[3], "fetch_ms": parts[0], "session_ms": parts[1],
            "rest_ms": everything - sum(parts), "golden_ms": parts[2], "first_runs_ms": parts[3],
            "observed_ms": observed, "run_first_ms": early, "took_over_ms": took_over,
            "run_then_ms": run_ms(server, name, 1)}


def one_round(folder, bundles, digest, small_digest):
    (folder / "blobs").mkdir(parents=True)
    for made in bundles:
        r.store_bundle(folder / "blobs", made)
    plane = r.ControlPlane(folder / "agent.sock", folder / "blobs", True)
    server = r.Replica("--agent", f"unix:{folder}/agent.sock", "--data", folder / "data", "--workers", "1",
                       "--pool-threads", "1", log=folder / "log")
    try:
        plane.want(deploy("small", small_digest))  # so that the runtime itself is there
        server.wait_ready()
        first = measure(server, plane, [deploy("small", small_digest)], "first", digest)
        return first, measure(server, plane, [deploy("small", small_digest), deploy("first", digest)], "again", digest)
    finally:
        server.stop()
        plane.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=5)
    rounds = p.parse_args().rounds
    with tempfile.TemporaryDirectory() as t:
        folder = pathlib.Path(t)
        made = [folder / "large", folder / "small"]
        digest = bundle(made[0], resnet50, (3, SIDE, SIDE), 1000)
        small_digest = bundle(made[1], small, (3, 8, 8), 10)
        size = sum(f.stat().st_size for f in made[0].rglob("*") if f.is_file())
        got = list(zip(*(one_round(folder / str(i), made, digest, small_digest) for i in range(rounds))))
    for name, figures in zip(["first", "again"], got):
        medians = {k: round(statistics.median(f[k] for f in figures), 2) for k in figures[0]}
        control = [f["control_ms"] for f in figures]
        print(json.dumps({"bench": "load", "case": name, "bytes": size, "digest": digest[:12], "rounds": rounds, **medians,
                          "control_least": round(min(control), 2), "control_most": round(max(control), 2)}))


if __name__ == "__main__":
    main()
