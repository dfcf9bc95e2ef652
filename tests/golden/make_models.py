"""Writes the models that tests and benches run, from fixed seeds, into a folder.

    python tests/golden/make_models.py build/models [onnx] [saved_model] [null] [python] [chain]

Without names of kinds, all that the environment can make; a kind whose package is missing is
skipped with a line that says so. A kind that is there already, made by this version of the script,
is kept. Beside each model lies golden.txt: inputs and expected outputs computed with NumPy, apart
from any runtime, as lines of numbers (see write_golden).

    onnx/mlp.onnx             784-128-10, ReLU, softmax            x FP32 [N,784] -> y FP32 [N,10]
    onnx/cnn.onnx             28x28, 3x3 conv 8, pool, dense 10    x FP32 [N,1,28,28] -> y FP32 [N,10]
    onnx/strings.onnx         Identity on strings                  s BYTES [N] -> t BYTES [N]
    onnx/fixed.onnx           batch of 1 only                      x FP32 [1,4] -> y FP32 [1,4]
    saved_model/mlp/          the same MLP, exported by Keras
    null/linear/null.json     4 -> 2
    python/linear/            the same as a class
    python/strings/           Identity on strings
    chain/linear/             null/linear after a step that copies
    chain/strings/            strings through two steps that copy
"""

import hashlib
import json
import os
import shutil
import sys

import numpy as np

VERSION = hashlib.sha256(open(__file__, "rb").read()).hexdigest()


def weights(*shape, seed):
    rng = np.random.Generator(np.random.PCG64(seed))
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


MLP = dict(
    w1=weights(784, 128, seed=1), b1=weights(128, seed=2), w2=weights(128, 10, seed=3), b2=weights(10, seed=4)
)
CNN = dict(k=weights(8, 1, 3, 3, seed=5), kb=weights(8, seed=6), w=weights(8 * 13 * 13, 10, seed=7), b=weights(10, seed=8))


def mlp(x):
    h = np.maximum(x.astype(np.float64) @ MLP["w1"] + MLP["b1"], 0)
    return softmax(h @ MLP["w2"] + MLP["b2"]).astype(np.float32)


def cnn(x):
    n = len(x)
    h = np.zeros((n, 8, 26, 26))
    for i in range(3):
        for k in range(3):
            h += x[:, :, i : i + 26, k : k + 26] * CNN["k"][None, :, 0, i, k, None, None]
    h = np.maximum(h + CNN["kb"][None, :, None, None], 0)
    h = h.reshape(n, 8, 13, 2, 13, 2).max(axis=(3, 5)).reshape(n, -1)
    return softmax(h @ CNN["w"] + CNN["b"]).astype(np.float32)


def rows(n, *shape, seed=100):
    rng = np.random.Generator(np.random.PCG64(seed))
    return rng.random((n, *shape), dtype=np.float32)


def write_golden(path, x, y):
    """First line: rows, inputs a row, outputs a row. Then a line of inputs and one of outputs a row."""
    n = len(x)
    with open(path, "w") as f:
        f.write(f"{n} {x[0].size} {y[0].size}\n")
        for a, b in zip(x.reshape(n, -1), y.reshape(n, -1)):
            f.write(" ".join(f"{v:.9g}" for v in a) + "\n")
            f.write(" ".join(f"{v:.9g}" for v in b) + "\n")


def make_onnx(out):
    import onnx
    from onnx import TensorProto as T, helper as h, numpy_helper as nh

    def save(name, nodes, inputs, outputs, init):
        graph = h.make_graph(nodes, name, inputs, outputs, [nh.from_array(v, k) for k, v in init.items()])
        model = h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, os.path.join(out, name + ".onnx"))

    def value(name, kind, shape):
        return h.make_tensor_value_info(name, kind, shape)

    save(
        "mlp",
        [
            h.make_node("Gemm", ["x", "w1", "b1"], ["a"]),
            h.make_node("Relu", ["a"], ["h"]),
            h.make_node("Gemm", ["h", "w2", "b2"], ["z"]),
            h.make_node("Softmax", ["z"], ["y"], axis=-1),
        ],
        [value("x", T.FLOAT, ["N", 784])],
        [value("y", T.FLOAT, ["N", 10])],
        MLP,
    )
    save(
        "cnn",
        [
            h.make_node("Conv", ["x", "k", "kb"], ["a"]),
            h.make_node("Relu", ["a"], ["r"]),
            h.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            h.make_node("Flatten", ["p"], ["f"]),
            h.make_node("Gemm", ["f", "w", "b"], ["z"]),
            h.make_node("Softmax", ["z"], ["y"], axis=-1),
        ],
        [value("x", T.FLOAT, ["N", 1, 28, 28])],
        [value("y", T.FLOAT, ["N", 10])],
        CNN,
    )
    save(
        "strings",
        [h.make_node("Identity", ["s"], ["t"])],
        [value("s", T.STRING, ["N"])],
        [value("t", T.STRING, ["N"])],
        {},
    )
    save(
        "fixed",
        [h.make_node("Relu", ["x"], ["y"])],
        [value("x", T.FLOAT, [1, 4])],
        [value("y", T.FLOAT, [1, 4])],
        {},
    )
    x = rows(8, 784)
    write_golden(os.path.join(out, "mlp.golden.txt"), x, mlp(x))
    x = rows(8, 1, 28, 28)
    write_golden(os.path.join(out, "cnn.golden.txt"), x, cnn(x))


def make_saved_model(out):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import keras

    model = keras.Sequential(
        [
            keras.Input((784,), name="x"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.layers[0].set_weights([MLP["w1"], MLP["b1"]])
    model.layers[1].set_weights([MLP["w2"], MLP["b2"]])
    model.export(os.path.join(out, "mlp"), format="tf_saved_model", verbose=False)
    x = rows(8, 784)
    write_golden(os.path.join(out, "mlp.golden.txt"), x, mlp(x))


def null_linear():
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            "op": "linear", "weights": weights(4, 2, seed=9).tolist(), "softmax": True}


def make_null(out):
    folder = os.path.join(out, "linear")
    os.makedirs(folder)
    with open(os.path.join(folder, "null.json"), "w") as f:
        json.dump(null_linear(), f)
    x = rows(8, 4)
    write_golden(os.path.join(out, "linear.golden.txt"), x, softmax(x @ weights(4, 2, seed=9)))


PYTHON_LINEAR = """import numpy as np


class Model:
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                 "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]}

    def load(self, path):
        self.w = np.load(path + "/w.npy")

    def predict(self, inputs):
        return {"y": np.exp(inputs["x"].astype(np.float64) @ self.w)
                / np.exp(inputs["x"].astype(np.float64) @ self.w).sum(axis=1, keepdims=True).astype(np.float64)
                * np.ones((1, 2), np.float64)[:, :] * (1.0 + 0.0) ** 2 * (2.0 - 1.0) ** 3 * (3.0 - 2.0) ** 4}
"""

PYTHON_STRINGS = """class Model:
    signature = {"inputs": [{"name": "s", "datatype": "BYTES", "shape": [-1]}],
                 "outputs": [{"name": "t", "datatype": "BYTES", "shape": [-1]}]}

    def predict(self, inputs):
        return {"t": inputs["s"] if len(inputs["s"]) >= 0 and inputs["s"].ndim == 1 and "s" in inputs else None}
"""


def make_python(out):
    w = weights(4, 2, seed=9)
    for name, text in (("linear", PYTHON_LINEAR), ("strings", PYTHON_STRINGS)):
        os.makedirs(os.path.join(out, name))
        with open(os.path.join(out, name, "model.py"), "w") as f:
            f.write(text)
    np.save(os.path.join(out, "linear", "w.npy"), w)
    x = rows(8, 4)
    write_golden(os.path.join(out, "linear.golden.txt"), x, softmax(x @ w))


def make_chain(out):
    def copies(name, datatype, shape):
        spec = [{"name": name, "datatype": datatype, "shape": shape}]
        return {"inputs": spec, "outputs": spec, "op": "identity"}

    strings = copies("s", "BYTES", [-1])
    for name, models in (("linear", {"pre": copies("x", "FP32", [-1, 4]), "net": null_linear()}),
                         ("strings", {"one": strings, "two": strings})):
        for folder, model in models.items():
            os.makedirs(os.path.join(out, name, folder))
            with open(os.path.join(out, name, folder, "null.json"), "w") as f:
                json.dump(model, f)
        with open(os.path.join(out, name, "chain.json"), "w") as f:
            json.dump({"steps": [{"model": folder} for folder in models]}, f)
    x = rows(8, 4)
    write_golden(os.path.join(out, "linear.golden.txt"), x, softmax(x @ weights(4, 2, seed=9)))


KINDS = {"onnx": make_onnx, "saved_model": make_saved_model, "null": make_null, "python": make_python,
         "chain": make_chain}


def make(kind, root):
    out = os.path.join(root, kind)
    stamp = os.path.join(out, "made_by")
    if os.path.exists(stamp) and open(stamp).read() == VERSION:
        return
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    try:
        KINDS[kind](out)
    except ImportError as e:
        shutil.rmtree(out)
        print(f"# {kind}: skipped, {e}")
        return
    with open(stamp, "w") as f:
        f.write(VERSION)
    print(f"# {kind}: {out}")


def main():
    if len(sys.argv) < 2 or any(k not in KINDS for k in sys.argv[2:]):
        sys.exit(__doc__)
    for kind in sys.argv[2:] or KINDS:
        make(kind, sys.argv[1])


if __name__ == "__main__":
    main()
