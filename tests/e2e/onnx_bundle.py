"""Bundles of ONNX models with golden answers from ONNX Runtime in Python."""

import hashlib
import json

import numpy as np
import onnxruntime

import replica as r


def bundle(folder, make, shape, classes, seed=50, batch=8):
    """make(path, seed) writes the model, which takes `x` of rows of that shape and gives `y`. The bundle's digest."""
    (folder / "model").mkdir(parents=True)
    (folder / "golden").mkdir()
    make(folder / "model" / "model.onnx", seed)
    x = np.random.default_rng(seed).standard_normal((2, *shape), dtype=np.float32)
    y = onnxruntime.InferenceSession(folder / "model" / "model.onnx").run(None, {"x": x})[0]
    (folder / "golden" / "golden.json").write_text(json.dumps({
        "tolerance": {"abs": 1e-3, "rel": 1e-3},
        "cases": [{"inputs": [r.tensor_json("x", x[i:i + 1])], "outputs": [r.tensor_json("y", y[i:i + 1])]}
                  for i in range(len(x))]}))
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    manifest = {"schema": "overtake.bundle/1", "format": "onnx",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, *shape]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, classes]}],
                "prediction": {"output": "y", "kind": "scores"},
                "files": [{"path": str(p.relative_to(folder)), "size": p.stat().st_size,
                           "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files]}
    if batch > 0:
        manifest["batch"] = {"axis": 0, "max": batch}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
