"""Chains: steps before and after a model in one request, alone, in bundles and under a control plane."""

import hashlib
import json
import os
import pathlib
import re
import signal
import sys
import textwrap
import threading

import numpy as np
import pytest

import replica as r
from linear_model import ROWS, W, Load, expected
from test_isolation import children, command
from up import TRAIN

STEPS = {"steps": [{"model": "pre"}, {"model": "net", "inputs": {"x": ["pre", "pixels"]}},
                   {"model": "post", "inputs": {"raw": "x"}}]}
# Doubles; refuses what begins with 1000.
PRE = """
    class Model:
        signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                     "outputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 4]}]}

        def predict(self, inputs):
            if (inputs["x"][:, 0] == 1000).any():
                raise ValueError("a thousand is too much")
            return {"pixels": inputs["x"] * 2}
    """
# Adds the first column of what came in; breaks on what begins with 2000.
POST = """
    class Model:
        signature = {"inputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]},
                                {"name": "raw", "datatype": "FP32", "shape": [-1, 4]}],
                     "outputs": [{"name": "label", "datatype": "FP32", "shape": [-1, 2]}]}

        def predict(self, inputs):
            if (inputs["raw"][:, 0] == 2000).any():
                return {}["nothing"]
            return {"label": inputs["y"] + inputs["raw"][:, :1]}
    """
X = np.zeros((1, 4), np.float32)


@pytest.fixture
def python(monkeypatch):
    if not (r.BUILD / "plugins" / "overtake_python.so").exists():
        pytest.skip("the plug-in python is not built")
    monkeypatch.setenv("OVERTAKE_PYTHON_LIB", sys.executable)


def write_python(folder, text):
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(textwrap.dedent(text))


def three_steps(folder, chain=STEPS, net=None):
    write_python(folder / "pre", PRE)
    r.write_raw(folder / "net", net or r.linear(W))
    write_python(folder / "post", POST)
    (folder / "chain.json").write_text(json.dumps(chain))


def answer_of(x):
    return expected(2 * x) + x[:, :1]


def check(x, y, headers):
    return None if np.allclose(y, answer_of(x), rtol=1e-5, atol=1e-5) else f"{x} -> {y}"


def steps_of(pid):
    """{step: process} of the worker processes of `pid`."""
    return {command(p).split("step ")[1].split()[0]: p for p in children(pid) if "step " in command(p)}


def answers(s):
    status, _, body = s.infer("m", ROWS)
    return status == 200 and np.allclose(np.reshape(body["outputs"][0]["data"], (3, 2)), answer_of(ROWS))


def test_python_a_model_and_python_under_load(tmp_path, serve, python):
    three_steps(tmp_path / "models" / "m")
    s = serve(tmp_path / "models", "--workers", 2)
    m = s.get("/v2/models/m")
    assert [(t["name"], t["shape"]) for t in m["inputs"] + m["outputs"]] == [("x", [-1, 4]), ("label", [-1, 2])]
    assert m["parameters"]["batch"] > 1 and "in a worker process" in m["parameters"]["note"], m
    assert len(children(s.process.pid)) == 2  # of Python; the model between them is in the server
    load = Load(s, check, clients=12)
    threading.Event().wait(1)
    sent = load.end()
    stats = s.get("/v2/models/m/stats")["model_stats"][0]
    assert stats["inference_count"] > stats["execution_count"] > 0 and sent > 0


def test_onnx_to_onnx(tmp_path, serve):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    def matmul(name, w, takes, gives):
        w = np.asarray(w, np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", [takes, "w"], [gives])], "g",
            [helper.make_tensor_value_info(takes, TensorProto.FLOAT, ["n", w.shape[0]])],
            [helper.make_tensor_value_info(gives, TensorProto.FLOAT, ["n", w.shape[1]])],
            [numpy_helper.from_array(w, "w")])
        folder = tmp_path / "models" / "m" / name
        folder.mkdir(parents=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")

    matmul("first", W, "x", "h")
    matmul("second", [[1, 2, 3], [4, 5, 6]], "h", "y")
    (tmp_path / "models" / "m" / "chain.json").write_text(json.dumps(
        {"steps": [{"model": "first"}, {"model": "second"}], "outputs": {"y": ["second", "y"], "h": ["first", "h"]}}))
    s = serve(tmp_path / "models")
    status, _, body = s.infer("m", ROWS)
    assert status == 200 and [t["name"] for t in body["outputs"]] == ["y", "h"], body
    got = [np.reshape(t["data"], t["shape"]) for t in body["outputs"]]
    assert np.allclose(got[1], expected(ROWS)) and np.allclose(got[0], got[1] @ [[1, 2, 3], [4, 5, 6]])


def test_a_step_that_fails_is_named_and_fails_nobody_else(tmp_path, serve, python):
    three_steps(tmp_path / "models" / "m")
    s = serve(tmp_path / "models", "--workers", 2)
    load = Load(s, check, clients=4)
    for _ in range(20):
        status, _, body = s.infer("m", [[1000, 0, 0, 0]])
        assert status == 400 and "step 'pre' (model 'pre')" in body["error"], body
        assert "a thousand is too much" in body["error"], body
        status, _, body = s.infer("m", [[2000, 0, 0, 0]])
        assert status == 500 and "chain: step 'post' (model 'post')" in body["error"], body
        assert "KeyError: 'nothing' (model.py:" in body["error"], body
    load.end()


def test_a_step_that_dies_is_named_and_comes_back(tmp_path, serve, python):
    three_steps(tmp_path / "models" / "m")
    s = serve(tmp_path / "models", "--workers", 1)
    died = children(s.process.pid)
    for pid in died:
        os.kill(pid, signal.SIGKILL)
    said = r"m version 1, step (pre|post): its worker process (\d+) was killed by signal 9"
    r.wait_for("the log tells", lambda: {step for step, pid in re.findall(
        said, pathlib.Path(s.log_path).read_text()) if int(pid) in died} == {"pre", "post"})
    r.wait_for("answers again", lambda: answers(s))
    assert not set(children(s.process.pid)) & set(died)


@pytest.mark.parametrize("chain,net,says", [
    (STEPS, r.linear([[1.0], [1.0], [1.0], [1.0]]),
     "chain.json: steps[2].inputs.y: step 'post' takes 'y' as FP32 [-1,2], step 'net' gives 'y' as FP32 [-1,1]"),
    ({"steps": [{"model": "pre"}, {"model": "net"}, {"model": "post", "inputs": {"raw": "x"}}]}, None,
     "chain.json: steps[0]: nobody takes anything that step 'pre' gives"),
    ({"steps": [{"model": "pre"}, {"model": "net", "inputs": {"x": ["post", "label"]}}, {"model": "post"}]}, None,
     "chain.json: steps[1].inputs.x: step 'post' comes later"),
    ({"steps": [{"model": "pre"}, {"model": "nett"}]}, None, "step 'nett' (model 'nett')"),
    ({"step": []}, None, "chain.json: step: not known; did you mean 'steps'?"),
])
def test_what_does_not_fit_is_refused(tmp_path, serve, python, chain, net, says):
    three_steps(tmp_path / "models" / "m", chain, net)
    s = serve(tmp_path / "models", ready=False)
    r.wait_for(says, lambda: says in pathlib.Path(s.log_path).read_text())
    assert s.infer("m", ROWS)[0] != 200 and children(s.process.pid) == {}


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_a_bundle_has_golden_answers_of_the_whole(tmp_path, serve, python, wrong):
    folder = tmp_path / "models" / "m"
    three_steps(folder / "model")
    (folder / "golden").mkdir()
    (folder / "golden" / "golden.json").write_text(json.dumps({
        "tolerance": {"abs": 1e-4, "rel": 1e-4},
        "cases": [{"inputs": [r.tensor_json("x", ROWS[i:i + 1])],
                   "outputs": [r.tensor_json("label", answer_of(ROWS[i:i + 1]) + np.float32(wrong))]} for i in range(3)]}))
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    (folder / "manifest.json").write_text(json.dumps({
        "schema": "overtake.bundle/1", "format": "chain",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "label", "datatype": "FP32", "shape": [-1, 2]}], "batch": {"axis": 0, "max": 8},
        "files": [{"path": str(p.relative_to(folder)), "size": p.stat().st_size,
                   "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files]}))
    s = serve(tmp_path / "models", ready=not wrong)
    if wrong:
        r.wait_for("refused", lambda: "golden case 0" in pathlib.Path(s.log_path).read_text())
        assert s.infer("m", ROWS)[0] != 200
    else:
        assert answers(s) and "8" in str(s.get("/v2/models/m")["parameters"]["batch"])


def test_a_chain_is_trained_packed_and_pushed(tmp_path, up, app):
    copy = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}], "op": "identity"}
    a = app()
    a.program(TRAIN.replace('(out / "null.json")', '(out / "net" / "null.json")').replace(
        "out.mkdir(parents=True)", f"""for name in ("pre", "net"):
        (out / name).mkdir(parents=True)
    (out / "pre" / "null.json").write_text({json.dumps(copy)!r})
    (out / "chain.json").write_text({json.dumps({"steps": [{"model": "pre"}, {"model": "net"}]})!r})"""))
    u = up()
    a.apply(u.api)
    u.api.wait_event("version.promoted")
    u.wait_serves("planes", 1, X)
    assert children(u.child("serve")) == {}
    brought = tmp_path / "brought"
    r.write_raw(brought / "pre", copy)
    r.write_raw(brought / "net", r.linear([[-1, 1], [0, 0], [0, 0], [0, 0]], bias=[0, 0], softmax=True))
    (brought / "chain.json").write_text(json.dumps({"steps": [{"model": "pre"}, {"model": "net"}]}))
    u.api.act("planes", "push", path=str(brought))
    u.wait_serves("planes", 2, X)
    assert set(steps_of(u.child("serve"))) == {"pre", "net"}  # what was brought is isolated, each step
