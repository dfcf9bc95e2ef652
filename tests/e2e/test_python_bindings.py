"""python/overtake over libovertake.so: bundles from arrays, and a run's inputs.

The library is $OVERTAKE_LIB or BUILD/libovertake.so; without it the tests that need it are skipped.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build/release")).resolve()
LIBRARY = pathlib.Path(os.environ.get("OVERTAKE_LIB", BUILD / "libovertake.so"))

sys.path.insert(0, str(ROOT / "python"))
os.environ["OVERTAKE_LIB"] = str(LIBRARY)
import overtake  # noqa: E402

needs_library = pytest.mark.skipif(not LIBRARY.exists(), reason=f"{LIBRARY} was not built")

W = np.array([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]], dtype=np.float32)


def rows(n, seed=1):
    return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)


def scores(x):
    e = np.exp(x @ W)
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "written"
    folder.mkdir()
    (folder / "null.json").write_text("{}")
    return folder


def saved(tmp_path, model, name="bundle", **more):
    x = rows(40)
    given = {"inputs": {"x": x}, "outputs": {"probabilities": scores(x)},
             "trained_on": {"x": rows(500, 2)}, "batch": 8} | more
    digest = overtake.save(tmp_path / name, model, **given)
    return tmp_path / name, digest


@needs_library
def test_bundle_is_what_the_document_says(tmp_path, model):
    path, digest = saved(tmp_path, model)
    text = (path / "manifest.json").read_bytes()
    assert hashlib.sha256(text).hexdigest() == digest
    m = json.loads(text)
    assert m["schema"] == "overtake.bundle/1" and m["format"] == "null"
    assert m["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    assert m["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    assert m["batch"] == {"axis": 0, "max": 8}
    assert m["prediction"] == {"output": "probabilities", "kind": "scores"}
    on_disk = {str(p.relative_to(path)): p for p in path.rglob("*")
               if p.is_file() and p.name != "manifest.json"}
    assert [f["path"] for f in m["files"]] == sorted(on_disk)
    assert {"golden/golden.json", "model/null.json", "reference/outputs.hist",
            "reference/trained_on.hist"} == set(on_disk)
    for f in m["files"]:
        content = on_disk[f["path"]].read_bytes()
        assert len(content) == f["size"] and hashlib.sha256(content).hexdigest() == f["sha256"]
    assert overtake.verify(path) == digest


@needs_library
def test_golden_answers_are_the_rows_given(tmp_path, model):
    path, _ = saved(tmp_path, model, golden=3, tolerance=(1e-5, 1e-2))
    g = json.loads((path / "golden/golden.json").read_text())
    assert g["tolerance"] == {"abs": 1e-5, "rel": 1e-2}
    x = rows(40)
    assert len(g["cases"]) == 3
    for i, case in enumerate(g["cases"]):
        assert case["inputs"][0]["shape"] == [1, 2]
        got = np.array(case["inputs"][0]["data"], dtype=np.float32)
        assert (got == x[i]).all()
        want = np.array(case["outputs"][0]["data"], dtype=np.float32)
        assert (want == scores(x)[i]).all()


@needs_library
def test_same_parts_same_name(tmp_path, model):
    _, a = saved(tmp_path, model, "a")
    _, b = saved(tmp_path, model, "b")
    assert a == b
    _, c = saved(tmp_path, model, "c", golden=2)
    assert c != a


@needs_library
def test_types_orders_and_views(tmp_path, model):
    x = rows(20)
    inputs = {"x": np.asfortranarray(x), "flag": np.arange(20) % 2 == 0,
              "big": np.arange(20, dtype=">i4"), "half": x[:, 0].astype(np.float16)}
    path = tmp_path / "b"
    overtake.save(path, model, inputs=inputs, outputs={"label": np.arange(20, dtype=np.int64)},
                  golden=20)
    m = json.loads((path / "manifest.json").read_text())
    assert [i["datatype"] for i in m["inputs"]] == ["FP32", "BOOL", "INT32", "FP16"]
    assert m["prediction"] == {"output": "label", "kind": "label"} and "batch" not in m
    last = json.loads((path / "golden/golden.json").read_text())["cases"][19]["inputs"]
    assert np.array_equal(np.array(last[0]["data"], dtype=np.float32), x[19])
    assert last[2]["data"] == [19]


@needs_library
@pytest.mark.parametrize("change, says", [
    ({"outputs": {"p": np.full((40, 3), np.nan, np.float32)}}, "NaN"),
    ({"outputs": {"p": np.zeros((39, 3), np.float32)}}, "39 rows"),
    ({"outputs": {}}, "outputs: 0 arrays"),
    ({"inputs": {"x": np.float32(3)}}, "rows"),
    ({"inputs": {"x": np.array(["a"] * 40)}}, "numbers and booleans"),
    ({"trained_on": {"z": rows(10)}}, "input 'x' is missing"),
    ({"trained_on": {"x": np.zeros((10, 5), np.float32)}}, "[10,5]"),
    ({"prediction": ("nothing", "scores")}, "'nothing' is not among the outputs"),
    ({"prediction": ("probabilities", "label")}, "does not fit"),
    ({"golden": 41}, "golden rows: 41"),
    ({"batch": -1}, "batch.max: -1"),
    ({"tolerance": (-1.0, 0.0)}, "tolerance"),
    ({"format": "../x"}, "format"),
])
def test_bad_input_is_named_and_leaves_nothing(tmp_path, model, change, says):
    with pytest.raises(overtake.OvertakeError) as e:
        saved(tmp_path, model, **change)
    assert says in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["written"]


@needs_library
def test_damage_is_found(tmp_path, model):
    path, _ = saved(tmp_path, model)
    with pytest.raises(overtake.OvertakeError, match="is there already"):
        saved(tmp_path, model)
    (path / "model/null.json").write_text("[]")
    with pytest.raises(overtake.OvertakeError, match="changed or damaged"):
        overtake.verify(path)
    with pytest.raises(overtake.OvertakeError, match="no model at"):
        saved(tmp_path, tmp_path / "missing", "other")


def test_a_runs_inputs(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    np.save(tmp_path / "base/x.npy", rows(5))
    np.save(tmp_path / "base/y.npy", np.arange(5))
    (tmp_path / "base/NOTES").write_text("not a column")
    monkeypatch.setenv("OVERTAKE_DATA", str(tmp_path))
    assert overtake.datasets() == ["base"]
    got = overtake.data("base")
    assert sorted(got) == ["x", "y"] and (got["x"] == rows(5)).all()
    with pytest.raises(ValueError):
        overtake.data("base", mmap=True)["y"][0] = 7
    with pytest.raises(overtake.OvertakeError, match="it has: base"):
        overtake.data("other")
    monkeypatch.delenv("OVERTAKE_DATA")
    assert overtake.datasets() == []
    with pytest.raises(overtake.OvertakeError, match="OVERTAKE_DATA"):
        overtake.data("base")
    monkeypatch.delenv("OVERTAKE_PARENT", raising=False)
    assert overtake.parent() is None
    monkeypatch.setenv("OVERTAKE_PARENT", str(tmp_path))
    assert overtake.parent() == tmp_path


def test_import_needs_neither_library_nor_numpy():
    code = ("import sys; sys.modules['numpy'] = None\n"
            "import overtake\n"
            "try:\n    overtake.verify('x')\n"
            "except overtake.OvertakeError as e:\n    print(e)")
    env = os.environ | {"PYTHONPATH": str(ROOT / "python"), "OVERTAKE_LIB": "/nowhere/lib.so"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "set OVERTAKE_LIB" in done.stdout


@needs_library
def test_library_needs_no_database_and_no_network():
    done = subprocess.run(["ldd", LIBRARY], capture_output=True, text=True, check=True)
    for name in ("sqlite", "ssl", "curl", "nghttp2", "yaml"):
        assert name not in done.stdout
    done = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True,
                          check=True)
    names = [line.split()[-1] for line in done.stdout.splitlines()]
    assert names and all(n.startswith("overtake_") for n in names)
