"""`overtake package` and `overtake evaluate`: what they write is checked against scikit-learn, SciPy and
the bytes on disk."""

import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import binomtest
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPClassifier

ROOT = pathlib.Path(__file__).resolve().parents[2]
OVERTAKE = ROOT / os.environ.get("BUILD", "build/release") / "overtake"


def job(verb, folder, spec, cwd=None):
    folder.mkdir(exist_ok=True)
    spec = {"result": str(folder / "result.json"), **spec}
    (folder / "job.json").write_text(json.dumps(spec))
    done = subprocess.run([OVERTAKE, verb, str(folder / "job.json")], capture_output=True, text=True,
                          timeout=300, cwd=cwd)
    assert "Sanitizer" not in done.stderr, done.stderr
    result = folder / "result.json"
    return done, json.loads(result.read_text()) if result.exists() else None


def columns(folder, **named):
    folder.mkdir(parents=True)
    for name, values in named.items():
        np.save(folder / f"{name}.npy", values)
    return str(folder)


class Digits:
    def __init__(self, folder):
        x, y = load_digits(return_X_y=True)
        x = (x / 16).astype(np.float32)
        order = np.random.default_rng(3).permutation(len(x))
        held, train = order[:500], order[500:]
        self.x, self.y = x[held], y[held]
        self.train = [columns(folder / "train/a", x=x[train[:700]], y=y[train[:700]]),
                      columns(folder / "train/b", x=x[train[700:]], y=y[train[700:]])]
        self.held = columns(folder / "held/base", x=self.x, y=self.y)
        self.models = {}
        for name, rounds in {"good": 60, "bad": 4}.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                m = MLPClassifier((32,), max_iter=rounds, random_state=1).fit(x[train], y[train])
            self.models[name] = m
            (folder / f"{name}.onnx").write_bytes(
                to_onnx(m, x[:1], options={"zipmap": False}, target_opset=17).SerializeToString())
        self.folder = folder
        self.bundles = {}

    def spec(self, name, bundle, **other):
        return {"model": str(self.folder / f"{name}.onnx"), "bundle": str(bundle), "train": self.train,
                "held_out": [self.held], "label": "y",
                "lineage": {"parent": None, "run": 7, "data": {"base": "0" * 64}}, **other}

    def bundle(self, name):
        if name not in self.bundles:
            at = self.folder / f"bundle-{name}"
            done, result = job("package", self.folder / f"job-{name}", self.spec(name, at))
            assert done.returncode == 0, done.stderr
            self.bundles[name] = at, result
        return self.bundles[name]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return Digits(tmp_path_factory.mktemp("digits"))


def test_a_bundle_is_what_its_manifest_says(digits):
    at, result = digits.bundle("good")
    raw = (at / "manifest.json").read_bytes()
    manifest = json.loads(raw)
    assert result["bundle_sha256"] == hashlib.sha256(raw).hexdigest()
    assert (result["format"], result["golden_rows"]) == ("onnx", 16)
    assert (result["batching"], result["batching_reason"]) == (True, "")
    assert result["inputs"] == manifest["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 64]}]
    assert result["outputs"] == manifest["outputs"]
    assert manifest["prediction"] == {"output": "probabilities", "kind": "scores"}
    assert manifest["batch"] == {"axis": 0, "max": 64}
    listed = {f["path"]: f for f in manifest["files"]}
    there = {str(p.relative_to(at)) for p in at.rglob("*") if p.is_file()} - {"manifest.json"}
    assert there == set(listed) == {"model/good.onnx", "reference/trained_on.hist", "reference/outputs.hist",
                                    "golden/golden.json", "lineage.json"}
    for path, f in listed.items():
        content = (at / path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (f["size"], f["sha256"]), path
    assert json.loads((at / "lineage.json").read_text())["run"] == 7


def test_golden_answers_are_what_the_model_says(digits):
    at, _ = digits.bundle("good")
    cases = json.loads((at / "golden/golden.json").read_text())["cases"]
    want = digits.models["good"].predict_proba(digits.x[:16])
    assert len(cases) == 16
    for case, x, p in zip(cases, digits.x, want):
        np.testing.assert_array_equal(np.float32(case["inputs"][0]["data"]), x)
        assert case["inputs"][0]["shape"] == [1, 64]
        by_name = {o["name"]: o["data"] for o in case["outputs"]}
        np.testing.assert_allclose(by_name["probabilities"], p, atol=1e-4)
        assert by_name["label"] == [p.argmax()]


def test_evaluation_agrees_with_scikit_learn_and_scipy(digits, tmp_path):
    few = columns(tmp_path / "few", pixels=digits.x[:60].astype(np.float64).reshape(-1, 8, 8),
                  answer=digits.y[:60].astype(np.float64), weight=np.ones(60, np.float32))
    done, result = job("evaluate", tmp_path / "job", {
        "bundles": [{"name": n, "dir": str(digits.bundle(b)[0])}
                    for n, b in (("candidate", "good"), ("champion", "bad"))],
        "data": [{"name": "base", "dir": digits.held, "label": "y"},
                 {"name": "few", "dir": few, "label": "answer"}]})
    assert done.returncode == 0, done.stderr
    for name, n in {"base": 500, "few": 60}.items():
        got = result["data"][name]
        good, bad = (digits.models[m].predict(digits.x[:n]) == digits.y[:n] for m in ("good", "bad"))
        assert got["rows"] == n
        for who, right in (("candidate", good), ("champion", bad)):
            assert got[who] == {"right": right.sum(), "accuracy": pytest.approx(right.mean())}
        only = int((good & ~bad).sum()), int((bad & ~good).sum())
        assert (got["only_candidate"], got["only_champion"]) == only
        assert only[0] > only[1], "the worse model is not worse: the test says nothing"
        for key, k in (("p_better", only[0]), ("p_worse", only[1])):
            p = binomtest(k, sum(only), alternative="greater").pvalue
            assert got[key] == pytest.approx(p, rel=1e-8), key


def test_equal_bundles_are_no_evidence(digits, tmp_path):
    at = str(digits.bundle("good")[0])
    done, result = job("evaluate", tmp_path / "job", {
        "bundles": [{"name": "candidate", "dir": at}, {"name": "champion", "dir": at}],
        "data": [{"name": "base", "dir": digits.held, "label": "y"}]})
    assert done.returncode == 0, done.stderr
    got = result["data"]["base"]
    assert (got["only_candidate"], got["only_champion"], got["p_better"], got["p_worse"]) == (0, 0, 1, 1)


def test_first_version_is_evaluated_alone(digits, tmp_path):
    done, result = job("evaluate", tmp_path / "job", {
        "bundles": [{"name": "candidate", "dir": str(digits.bundle("good")[0])}],
        "data": [{"name": "base", "dir": digits.held, "label": "y"}]})
    assert done.returncode == 0, done.stderr
    assert set(result["data"]["base"]) == {"rows", "candidate"}


def test_relative_paths(digits, tmp_path):
    columns(tmp_path / "held", x=digits.x, y=digits.y)
    (tmp_path / "m.onnx").write_bytes((digits.folder / "good.onnx").read_bytes())
    done, _ = job("package", tmp_path / "job", {
        "model": "m.onnx", "bundle": "b", "train": ["held"], "held_out": ["held"], "label": "y",
        "result": "r.json"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["golden_rows"] == 16
    assert (tmp_path / "b/manifest.json").exists()


def test_a_programs_own_bundle_keeps_its_parts(digits, tmp_path):
    at, first = digits.bundle("good")
    other = columns(tmp_path / "held", x=digits.x[100:], y=digits.y[100:])
    done, again = job("package", tmp_path / "job", {
        "model": str(at), "bundle": str(tmp_path / "b"), "train": [other], "held_out": [other], "label": "y",
        "lineage": {"run": 8}})
    assert done.returncode == 0, done.stderr
    assert again["bundle_sha256"] != first["bundle_sha256"]
    for part in ("golden/golden.json", "reference/trained_on.hist", "reference/outputs.hist", "model/good.onnx"):
        assert (tmp_path / "b" / part).read_bytes() == (at / part).read_bytes(), part
    assert json.loads((tmp_path / "b/lineage.json").read_text()) == {"run": 8}


def test_a_regression_is_packaged_but_not_compared_with_labels(digits, tmp_path):
    m = LinearRegression().fit(digits.x, digits.y)
    (tmp_path / "r.onnx").write_bytes(to_onnx(m, digits.x[:1], target_opset=17).SerializeToString())
    done, _ = job("package", tmp_path / "job", digits.spec("good", tmp_path / "b", model=str(tmp_path / "r.onnx")))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "b/manifest.json").read_text())["prediction"]["kind"] == "value"
    done, result = job("evaluate", tmp_path / "job2", {
        "bundles": [{"name": "candidate", "dir": str(tmp_path / "b")}],
        "data": [{"name": "base", "dir": digits.held, "label": "y"}]})
    assert (done.returncode, result) == (1, None)
    assert "bundle 'candidate': its prediction is 'value'" in done.stderr


def test_no_held_out_rows_means_no_batches(digits, tmp_path):
    done, result = job("package", tmp_path / "job", digits.spec("good", tmp_path / "b", held_out=[]))
    assert done.returncode == 0, done.stderr
    assert (result["batching"], result["golden_rows"]) == (False, 0)
    assert "no held-out row" in result["batching_reason"]
    assert not (tmp_path / "b/golden").exists()
    assert "batch" not in json.loads((tmp_path / "b/manifest.json").read_text())


def graph(path, nodes, constants, columns_in=4, columns_out=4):
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", c])
          for n, c in (("x", columns_in), ("p", columns_out))]
    g = helper.make_graph(nodes, "g", io[:1], io[1:], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    path.write_bytes(onnx.helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)],
                                            ir_version=8).SerializeToString())
    return str(path)


def test_a_model_whose_rows_depend_on_each_other_is_not_batched(tmp_path):
    x = np.random.default_rng(1).random((40, 4), dtype=np.float32)
    model = graph(tmp_path / "m.onnx", [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Add", ["x", "mean"], ["p"])], {})
    held = columns(tmp_path / "held", x=x)
    done, result = job("package", tmp_path / "job", {
        "model": model, "bundle": str(tmp_path / "b"), "train": [held], "held_out": [held]})
    assert done.returncode == 0, done.stderr
    assert result["batching"] is False
    assert "in a batch of 2 rows" in result["batching_reason"]
    assert "batch" not in json.loads((tmp_path / "b/manifest.json").read_text())


def fails(verb, folder, spec, *words):
    done, result = job(verb, folder, spec)
    assert (done.returncode, result) == (1, None), done.stderr
    for w in words:
        assert w in done.stderr, (w, done.stderr)
    if spec.get("bundle"):
        assert not list(pathlib.Path(spec["bundle"]).parent.glob(pathlib.Path(spec["bundle"]).name + "*"))


def test_nan_late_in_the_rows_is_found(tmp_path):
    x = np.ones((300, 4), np.float32)
    x[270, 2] = -1  # its logarithm is no number
    model = graph(tmp_path / "m.onnx", [helper.make_node("Log", ["x"], ["p"])], {})
    held = columns(tmp_path / "held", x=x)
    fails("package", tmp_path / "job", {"model": model, "bundle": str(tmp_path / "b"), "train": [], "held_out": [held]},
          "m.onnx", "output 'p'", "NaN", "row 270")
    x[270, 2] = np.nan  # an input that is missing may give a missing answer
    np.save(tmp_path / "held/x.npy", x)
    done, result = job("package", tmp_path / "job", {
        "model": model, "bundle": str(tmp_path / "b"), "train": [held], "held_out": [held]})
    assert done.returncode == 0, done.stderr


def test_what_is_wrong_is_named(digits, tmp_path):
    b = tmp_path / "b"
    narrow = columns(tmp_path / "narrow", x=digits.x[:, :63], y=digits.y)
    twice = columns(tmp_path / "twice", a=digits.x, b=digits.x, y=digits.y)
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    fails("package", tmp_path / "1", digits.spec("good", b, model=str(tmp_path / "gone.onnx")), "gone.onnx")
    fails("package", tmp_path / "2", digits.spec("good", b, held_out=[narrow]),
          "narrow", "input 'X'", "[-1,64]", "'x' FP32 [500,63]")
    fails("package", tmp_path / "3", digits.spec("good", b, train=[twice]), "more than one column fits", "'a'", "'b'")
    fails("package", tmp_path / "4", digits.spec("good", b, model=str(text)), "text.onnx")
    fails("package", tmp_path / "5", digits.spec("good", b, train="data"), '"train" must be a list')
    fails("package", tmp_path / "6", digits.spec("good", b, held_out=[str(tmp_path / "none")]), "none")
    fails("package", tmp_path / "7", {"model": "m", "bundle": ""}, '"bundle"')
    good = {"name": "candidate", "dir": str(digits.bundle("good")[0])}
    base = {"name": "base", "dir": digits.held, "label": "y"}
    fails("evaluate", tmp_path / "8", {"bundles": [good], "data": [{**base, "label": "z"}]}, "'base'", "'z'")
    fails("evaluate", tmp_path / "9", {"bundles": [good], "data": [{**base, "label": "x"}]}, "label column 'x'")
    half = columns(tmp_path / "half", x=digits.x, y=digits.y + 0.5)
    fails("evaluate", tmp_path / "10", {"bundles": [good], "data": [{**base, "dir": half}]}, "'y'", "row 0")
    fails("evaluate", tmp_path / "11", {"bundles": [good], "data": [{**base, "dir": narrow}]}, "'base'", "63")
    fails("evaluate", tmp_path / "12", {"bundles": [{**good, "dir": "/none"}], "data": [base]}, "'candidate'")
    fails("evaluate", tmp_path / "13", {"bundles": [good, good], "data": [base]}, "both bundles")
    fails("evaluate", tmp_path / "14", {"bundles": [], "data": [base]}, '"bundles"')


def test_a_bundle_that_is_there_is_not_touched(digits, tmp_path):
    (tmp_path / "b").mkdir()
    done, result = job("package", tmp_path / "job", digits.spec("good", tmp_path / "b"))
    assert (done.returncode, result) == (1, None)
    assert "it is there already" in done.stderr
    assert not list((tmp_path / "b").iterdir())


def test_a_changed_bundle_is_not_scored(digits, tmp_path):
    done, _ = job("package", tmp_path / "job", digits.spec("good", tmp_path / "b"))
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "b/model/good.onnx", "r+b") as f:
        f.seek(200)
        byte = f.read(1)
        f.seek(200)
        f.write(bytes([byte[0] ^ 1]))
    fails("evaluate", tmp_path / "job2", {
        "bundles": [{"name": "candidate", "dir": str(tmp_path / "b")}],
        "data": [{"name": "base", "dir": digits.held, "label": "y"}]}, "model/good.onnx")


def test_a_spec_that_is_no_json_is_named(tmp_path):
    (tmp_path / "s.json").write_text("{")
    done = subprocess.run([OVERTAKE, "package", str(tmp_path / "s.json")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "s.json:1:" in done.stderr
    done = subprocess.run([OVERTAKE, "evaluate", str(tmp_path / "no.json")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "no.json" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="no TensorFlow: the small path")
def test_a_saved_model_of_keras_is_packaged_batched_and_scored(tmp_path):
    models = tmp_path / "models"
    made = subprocess.run([sys.executable, ROOT / "tests/golden/make_models.py", models, "saved_model"],
                          capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    x = np.random.default_rng(5).random((40, 784), dtype=np.float32)
    y = np.zeros(40, np.int64)
    held = columns(tmp_path / "held", x=x, y=y)
    done, result = job("package", tmp_path / "job", {
        "model": str(models / "saved_model" / "mlp"), "bundle": str(tmp_path / "b"), "train": [held],
        "held_out": [held], "label": "y"})
    assert done.returncode == 0, done.stderr
    assert (result["format"], result["batching"], result["golden_rows"]) == ("saved_model", True, 16)
    assert result["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 784]}]
    manifest = json.loads((tmp_path / "b/manifest.json").read_text())
    assert manifest["prediction"]["kind"] == "scores" and manifest["batch"] == {"axis": 0, "max": 64}
    done, result = job("evaluate", tmp_path / "job2", {
        "bundles": [{"name": "candidate", "dir": str(tmp_path / "b")}],
        "data": [{"name": "base", "dir": held, "label": "y"}]})
    assert done.returncode == 0, done.stderr
    # The same network in NumPy, apart from any runtime.
    sys.path.insert(0, str(ROOT / "tests/golden"))
    from make_models import mlp
    assert result["data"]["base"]["candidate"]["right"] == (mlp(x).argmax(1) == 0).sum()
