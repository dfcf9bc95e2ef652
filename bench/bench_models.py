"""Models for benchmarks, from fixed seeds, as bundles in folders named by their digest.

    .deps/venv/bin/python bench/bench_models.py FOLDER

    mlp       784-128-10, about 6 us a run in ONNX Runtime
    cnn14     28x28, one 3x3 convolution, about 14 us
    cnn75     28x28, two 3x3 convolutions, about 75 us
    resnet50  224x224x3 in the shape of ResNet-50, 25 million random weights, about 50 ms
    small     64-10, to count 64 features
    tf_mlp    the MLP as TensorFlow's SavedModel (no bundle: the model itself)
"""

import hashlib
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from onnx import TensorProto, helper as h, numpy_helper  # noqa: E402

import replica  # noqa: E402


class Net:
    """An ONNX graph put together node by node; weights are random, scaled to keep activations near 1."""

    def __init__(self, seed):
        self.rng, self.nodes, self.init, self.n = np.random.default_rng(seed), [], [], 0

    def node(self, op, *inputs, **how):
        self.n += 1
        out = f"t{self.n}"
        self.nodes.append(h.make_node(op, list(inputs), [out], **how))
        return out

    def weights(self, *shape):
        self.n += 1
        w = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
        self.init.append(numpy_helper.from_array(w.astype(np.float32), f"w{self.n}"))
        return f"w{self.n}"

    def conv(self, x, cin, cout, k, stride=1, pad=None):
        pad = k // 2 if pad is None else pad
        return self.node("Conv", x, self.weights(cout, cin, k, k), self.weights(cout), strides=[stride] * 2, pads=[pad] * 4)

    def dense(self, x, n_in, n_out):
        return self.node("Gemm", x, self.weights(n_out, n_in), self.weights(n_out), transB=1)

    def save(self, out, shape, classes):
        self.nodes.append(h.make_node("Softmax", [out], ["y"], axis=-1))
        graph = h.make_graph(self.nodes, "net", [h.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
                             [h.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])], self.init)
        return h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8).SerializeToString()


def mlp(n_in=784, hidden=128, seed=1):
    net = Net(seed)
    return net.save(net.dense(net.node("Relu", net.dense("x", n_in, hidden)), hidden, 10), [n_in], 10)


def cnn(channels, seed=2):
    net, x, cin, size = Net(seed), "x", 1, 28
    for cout in channels:
        x = net.node("Relu", net.conv(x, cin, cout, 3, pad=0))
        x = net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        cin, size = cout, (size - 2) // 2
    return net.save(net.dense(net.node("Flatten", x), cin * size * size, 10), [1, 28, 28], 10)


def resnet50(seed=3):
    net = Net(seed)
    x = net.node("MaxPool", net.node("Relu", net.conv("x", 3, 64, 7, 2)), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    cin = 64
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            y = net.node("Relu", net.conv(x, cin, width, 1))
            y = net.node("Relu", net.conv(y, width, width, 3, stride))
            y = net.conv(y, width, width * 4, 1)
            x = net.node("Relu", net.node("Add", y, net.conv(x, cin, width * 4, 1, stride) if block == 0 else x))
            cin = width * 4
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.save(net.dense(x, cin, 1000), [3, 224, 224], 1000)


MODELS = {"mlp": (mlp, [784]), "cnn14": (lambda: cnn([8]), [1, 28, 28]), "cnn75": (lambda: cnn([48, 64]), [1, 28, 28]),
          "resnet50": (resnet50, [3, 224, 224]), "small": (lambda: mlp(64, 16, 4), [64])}


def bundle(folder, data, shape, classes, batch):
    """Golden answers from this environment's ONNX Runtime; a reference where an input has at most 784 features."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    features = int(np.prod(shape))
    rng = np.random.default_rng(17)
    x = rng.random((4, *shape), dtype=np.float32)
    y = session.run(None, {"x": x})[0]
    parts = {"model/model.onnx": data, "golden/golden.json": json.dumps({"tolerance": {"abs": 1e-4, "rel": 1e-3}, "cases": [
        {"inputs": [replica.tensor_json("x", x[i:i + 1])], "outputs": [replica.tensor_json("y", y[i:i + 1])]}
        for i in range(4)]}).encode()}
    if features <= 784:
        reference = replica.Histogram([f"x_{j}" for j in range(features)], 0, 1, inner=20)
        parts["reference/trained_on.hist"] = reference.write(rng.random((1000, features), dtype=np.float32))
    manifest = {"schema": "overtake.bundle/1", "format": "onnx",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, *shape]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, classes]}],
                "batch": {"axis": 0, "max": batch}, "prediction": {"output": "y", "kind": "scores"},
                "files": [{"path": p, "size": len(b), "sha256": hashlib.sha256(b).hexdigest()} for p, b in sorted(parts.items())]}
    parts["manifest.json"] = json.dumps(manifest).encode()
    for path, text in parts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text)


def make(root, name):
    """Where the model lies; made if it is not there yet."""
    root = pathlib.Path(root)
    if name == "tf_mlp":
        done = subprocess.run([sys.executable, ROOT / "tests/golden/make_models.py", root, "saved_model"], capture_output=True, text=True)
        folder = root / "saved_model" / "mlp"
        return folder if done.returncode == 0 and folder.exists() else None
    how, shape = MODELS[name]
    data = how()
    folder = root / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    if not (folder / "manifest.json").exists():
        bundle(folder, data, shape, 1000 if name == "resnet50" else 10, 8 if name == "resnet50" else 64)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for each in [*MODELS, "tf_mlp"]:
        print(each, make(sys.argv[1], each))
