"""Large models: quickly there, better behind; and what a replica remembers of a bundle that it has verified."""

import pathlib
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import replica as r
from linear_model import ROWS, W, Load, expected
from onnx_bundle import bundle


def log_of(s):
    return pathlib.Path(s.log_path).read_text()


def test_a_better_session_takes_over_under_load_and_fails_nothing(tmp_path, serve):
    r.make_bundle(tmp_path / "models" / "m", r.linear(W, load_us=700_000), golden=ROWS)
    s = serve(tmp_path / "models", "--workers", 2)
    load = Load(s, lambda x, y, _: None if np.allclose(y, expected(x), rtol=1e-4, atol=1e-4) else f"{x} -> {y}", clients=4)
    r.wait_for("the better session", lambda: "the better session took over" in log_of(s))
    time.sleep(0.3)  # and goes on with it
    before = s.get("/v2/models/m/stats")["model_stats"][0]["inference_stats"]["success"]["count"]
    sent = load.end()
    after = s.get("/v2/models/m/stats")["model_stats"][0]["inference_stats"]["success"]["count"]
    assert 0 < before <= after == sent  # counts go on
    assert log_of(s).index(" loaded in ") < log_of(s).index("took over")  # it answered before
    assert s.get("/v2/models/m/config")["platform"] == "null_null"


def gemm(path, seed):
    """x W + b with 6 MB of weights, which lie at any byte of the file."""
    rng = np.random.default_rng(seed)
    w, b = rng.standard_normal((1200, 1250), dtype=np.float32), rng.standard_normal(1250, dtype=np.float32)
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], "g",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1200])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1250])],
                              [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return w, b


def test_an_onnx_model_s_weights_are_mapped_first(tmp_path, serve):
    bundle(tmp_path / "models" / "m", gemm, (1200,), 1250, batch=0)
    w, b = gemm(tmp_path / "again.onnx", 50)
    s = serve(tmp_path / "models", "--workers", 1)
    x = np.random.default_rng(1).standard_normal((1, 1200), dtype=np.float32)

    def right():
        status, _, body = s.infer("m", x)
        assert status == 200, body
        np.testing.assert_allclose(body["outputs"][0]["data"], (x @ w + b).ravel(), rtol=1e-3, atol=1e-3)
    right()
    maps = pathlib.Path(f"/proc/{s.process.pid}/maps").read_text()
    mapped = "model.onnx" in maps
    took_over = "took over" in log_of(s)
    assert mapped or took_over
    r.wait_for("the better session", lambda: "the better session took over" in log_of(s))
    for _ in range(3):
        right()


def test_without_golden_answers_a_model_is_loaded_as_well_as_can_be_at_once(tmp_path, serve):
    s = serve(r.write_raw(tmp_path / "models" / "m", r.linear(W, load_us=300_000)))
    assert s.infer("m", ROWS)[0] == 200
    s.stop()
    assert "took over" not in log_of(s)


def test_a_bundle_that_was_verified_is_not_trusted_once_it_was_changed(tmp_path, managed, bundles):
    plane, start = managed
    digest = bundles(1)
    plane.want(r.deployment(r.variant("champion", 1, digest, 1)))
    s = start()
    s.stop()
    cache = tmp_path / "data-replica-0" / "replica" / "cache"
    seal = cache / f"{digest}.seal"
    assert len(seal.read_text().splitlines()) == 3  # the manifest and two files
    # The same size, another content: only its inode and change time tell.
    model = cache / digest / "model" / "null.json"
    text = model.read_text()
    model.unlink()
    model.write_text(text.replace("3.0", "4.0"))
    assert model.stat().st_size == len(text) and model.read_text() != text
    s = start()
    x = np.array([[1, 2, 3, 4]], np.float32)
    status, _, body = s.infer("m", x)
    assert status == 200
    np.testing.assert_allclose(body["outputs"][0]["data"], (expected(x) + 1).ravel(), rtol=1e-5)
    log = s.stop()
    assert "fetched again" in log and "changed or damaged" in log
