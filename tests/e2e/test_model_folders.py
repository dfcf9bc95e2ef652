"""Model folders as Triton and TensorFlow Serving lay them out: numbered versions, config.pbtxt, the three control modes,
and changes under load without one failed request."""

import contextlib
import json
import shutil
import threading

import numpy as np
import pytest
import tritonclient.http as triton

import replica as r
from linear_model import ROWS, W, Load, expected, one

POLL = ("--model-control", "poll", "--poll", "50ms")


def times(k):
    """A model that answers x -> x (k W)."""
    return r.linear((np.asarray(W) * k).tolist())


def version(folder, k):
    return r.write_raw(folder / str(k), times(k))


def states(s, body=None):
    rows = s.post("/v2/repository/index", body)[2]
    return {(m["name"], m.get("version")): m["state"] for m in rows}


def reason(s, name, number=None):
    return "".join(m["reason"] for m in s.post("/v2/repository/index")[2]
                   if m["name"] == name and number in (None, m.get("version")))


def answers(s, path="/v2/models/m"):
    """(version, k) of an answer: k is what the model multiplies with."""
    status, _, body = s.post(path + "/infer", one(data=[1, 0, 0, 0]))
    assert status == 200, body
    return body["model_version"], body["outputs"][0]["data"][0]


def serves(s, *numbers, name="m"):
    got = s.request("GET", f"/v2/models/{name}")
    return got[0] == 200 and set(json.loads(got[2])["versions"]) == {str(n) for n in numbers}


@contextlib.contextmanager
def under_load(s, check, clients=2, **how):
    """Clients that send all the while; each of their requests must be answered, and rightly."""
    load = Load(s, check, clients, **how)
    try:
        yield
    except BaseException:
        load.stop.set()
        raise
    load.end()


def check_any(x, y, headers):
    """An answer of some version is right for that version."""
    k = r.prediction_id(headers)[2]
    return None if np.allclose(y, expected(x) * k, rtol=1e-5, atol=1e-5) else f"{k}: {x} -> {y}"


def right_for(*ks):
    return lambda x, y, _: None if any(np.allclose(y, expected(x) * k, rtol=1e-5, atol=1e-5) for k in ks) else f"{x} -> {y}"


# ---- layouts


def test_a_triton_repository(models, tmp_path, serve):
    m = tmp_path / "models" / "mlp"
    (m / "1").mkdir(parents=True)
    shutil.copy(models / "onnx" / "mlp.onnx", m / "1" / "model.onnx")
    (m / "config.pbtxt").write_text("""
        name: "mlp"
        platform: "onnxruntime_onnx"
        max_batch_size: 8
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 784 ] } ]
        output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
        instance_group [ { count: 1 kind: KIND_CPU } ]
        dynamic_batching { max_queue_delay_microseconds: 100 }
        """)
    s = serve(tmp_path / "models")
    c = triton.InferenceServerClient(s.address)
    config = c.get_model_config("mlp")
    assert config["max_batch_size"] == 8 and config["input"][0]["dims"] == [784]
    assert config["output"][0]["dims"] == [10]
    x = triton.InferInput("x", [3, 784], "FP32")
    x.set_data_from_numpy(np.ones((3, 784), np.float32))
    got = c.infer("mlp", [x], model_version="1")
    assert got.as_numpy("y").shape[0] == 3 and got.get_response()["model_version"] == "1"
    c.close()
    log = s.stop()
    assert "followed but for" in log and "max_queue_delay_microseconds" in log and "kind" in log


def test_a_file_by_another_name(models, tmp_path, serve):
    m = tmp_path / "models" / "mlp"
    (m / "1").mkdir(parents=True)
    for name in ("a.onnx", "b.onnx"):
        shutil.copy(models / "onnx" / "mlp.onnx", m / "1" / name)
    (m / "config.pbtxt").write_text('default_model_filename: "b.onnx"')
    s = serve(tmp_path / "models")
    assert s.get("/v2/models/mlp")["platform"] == "onnxruntime_onnx"


def test_the_directory_is_one_model_of_numbered_versions(tmp_path, serve):
    """As `--model_base_path` of TensorFlow Serving."""
    for k in (1, 2):
        version(tmp_path / "m", k)
    s = serve(tmp_path / "m")
    assert serves(s, 2) and answers(s) == ("2", 2)


@pytest.mark.parametrize("policy,served", [
    (None, [4]), ("latest { num_versions: 2 }", [4, 3]), ("all { }", [4, 3, 2, 1]),
    ("specific { versions: [1, 3, 9] }", [3, 1])])
def test_versions_by_policy(tmp_path, serve, policy, served):
    m = tmp_path / "models" / "m"
    for k in (1, 2, 3, 4):
        version(m, k)
    (m / "5").write_text("no folder")
    version(m, 0)
    if policy:
        (m / "config.pbtxt").write_text(f"version_policy: {{ {policy} }}")
    s = serve(tmp_path / "models")
    r.wait_for("all versions", lambda: serves(s, *served))
    assert answers(s) == (str(served[0]), served[0])
    for k in (1, 2, 3, 4):
        path = f"/v2/models/m/versions/{k}"
        if k in served:
            assert answers(s, path) == (str(k), k) and s.get(path + "/ready")["ready"] is True
        else:
            assert s.post(path + "/infer", one())[0] == 404 and s.request("GET", path + "/ready")[0] == 404
    assert states(s, {"ready": True}) == {("m", str(k)): "READY" for k in served}
    listed = [1, 3] if policy and "specific" in policy else [1, 2, 3, 4]
    assert set(states(s)) == {("m", str(k)) for k in listed}


@pytest.mark.parametrize("text,where", [
    ('max_batch_size: 8\nmax_batch: 2', "config.pbtxt:2:1: 'max_batch' is not known"),
    ('\n  sequence_batching { }', "config.pbtxt:2:3: sequence_batching is not supported"),
    ('name: "other"', "name is 'other'"),
    ('platform: "tensorflow_savedmodel"', "format null"),
    ('max_batch_size: 4 input { name: "z" data_type: TYPE_FP32 dims: 4 }', "no input 'z'"),
    ('max_batch_size: 4 input { name: "x" data_type: TYPE_INT64 dims: 4 }', "INT64 [4]"),
    ('max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: [4, 4] }', "FP32 [4,4]"),
    ('version_policy { specific { versions: 7 } }', "no version that is there")])
def test_a_config_that_does_not_fit_is_named(tmp_path, serve, text, where):
    m = tmp_path / "models" / "m"
    version(m, 1)
    r.write_raw(tmp_path / "models" / "other", times(3))
    (m / "config.pbtxt").write_text(text)
    s = serve(tmp_path / "models", "--model-control", "explicit")
    assert s.post("/v2/repository/models/other/load")[0] == 200
    status, _, body = s.post("/v2/repository/models/m/load")
    assert status == 400 and where in body["error"], body
    assert where in reason(s, "m")
    assert s.request("GET", "/v2/health/ready")[0] == 200 and answers(s, "/v2/models/other") == ("1", 3)
    (m / "config.pbtxt").write_text("max_batch_size: 4")
    assert s.post("/v2/repository/models/m/load")[0] == 200 and answers(s) == ("1", 1)


def test_max_batch_size_is_kept(tmp_path, serve):
    m = tmp_path / "models" / "m"
    version(m, 1)
    (m / "config.pbtxt").write_text("max_batch_size: 0")
    s = serve(tmp_path / "models")
    assert s.get("/v2/models/m")["parameters"]["batch"] == 1
    (m / "config.pbtxt").write_text("max_batch_size: 3")
    assert s.post("/v2/repository/models/m/load")[0] == 200
    r.wait_for("the new configuration", lambda: s.get("/v2/models/m/config")["max_batch_size"] == 3)
    status, _, body = s.infer("m", np.ones((10, 4)))  # in runs of three
    assert status == 200 and body["outputs"][0]["shape"] == [10, 2]


def test_instance_group_limits_the_runs_at_a_time(tmp_path, serve):
    m = tmp_path / "models" / "m"
    r.write_raw(m / "1", times(1) | {"delay_us": 300_000})
    (m / "config.pbtxt").write_text("max_batch_size: 0 instance_group [ { count: 1 } ]")
    s = serve(tmp_path / "models", "--pool-threads", 4)
    got = []
    threads = [threading.Thread(target=lambda: got.append(s.infer("m", [[1, 0, 0, 0]])[0])) for _ in range(4)]
    for t in threads:
        t.start()
    # With four threads and nothing that limits them none of the four would be left waiting.
    r.wait_for("two that wait for one", lambda: s.get("/v2/models/m/stats")["model_stats"][0]["queue_waiting"] >= 2
               or len(got) == 4)
    assert len(got) < 4
    for t in threads:
        t.join()
    assert got == [200] * 4


# ---- asked for


def test_load_and_unload_of_versions(tmp_path, serve):
    m = tmp_path / "models" / "m"
    (m / "x").mkdir(parents=True)
    (m / "config.pbtxt").write_text("version_policy { all { } }")
    version(m, 1)
    s = serve(tmp_path / "models", "--model-control", "explicit")
    assert states(s) == {("m", "1"): "UNAVAILABLE"} and reason(s, "m") == "unloaded"
    c = triton.InferenceServerClient(s.address)
    c.load_model("m")
    assert c.is_model_ready("m") and c.is_model_ready("m", "1")
    version(m, 2)
    assert states(s) == {("m", "2"): "UNAVAILABLE", ("m", "1"): "READY"} and answers(s) == ("1", 1)
    c.load_model("m")
    assert serves(s, 2, 1) and answers(s) == ("2", 2)
    (m / "3").mkdir()
    (m / "3" / "null.json").write_text('{"op": ')
    with pytest.raises(triton.InferenceServerException, match="null.json|JSON|op"):
        c.load_model("m")
    assert serves(s, 2, 1) and answers(s) == ("2", 2)
    r.write_raw(m / "2", times(20))  # the same version, changed
    shutil.rmtree(m / "3")
    shutil.rmtree(m / "1")
    c.load_model("m")
    assert serves(s, 2) and answers(s) == ("2", 20)
    c.unload_model("m")
    assert not c.is_model_ready("m") and s.request("GET", "/v2/health/ready")[0] == 200
    c.close()


def test_versions_that_cannot_be_looked_at(tmp_path, serve):
    m = tmp_path / "models" / "m"
    (m / "1").mkdir(parents=True)
    r.write_raw(tmp_path / "models" / "other", times(3))
    s = serve(tmp_path / "models", "--model-control", "explicit")
    (m / "2").mkdir()
    (m / "2" / "null.json").symlink_to(tmp_path / "models" / "other" / "null.json")
    status, _, body = s.post("/v2/repository/models/m/load")
    assert status == 400 and "symbolic link" in body["error"], body
    assert states(s) == {("m", "2"): "UNAVAILABLE", ("m", "1"): "UNAVAILABLE", ("other", "1"): "UNAVAILABLE"}
    assert "symbolic link" in reason(s, "m", "2") and s.request("GET", "/v2/health/ready")[0] == 200
    r.write_raw(m / "1", times(1))
    assert s.post("/v2/repository/models/m/load")[0] == 200 and answers(s) == ("1", 1)


def test_bodies_of_repository_requests(tmp_path, serve):
    version(tmp_path / "models" / "m", 1)
    s = serve(tmp_path / "models")
    load = "/v2/repository/models/m/load"
    for body, status in (({"parameters": {}}, 200), ({"parameters": {"unload_dependents": True}}, 200),
                         ({"parameters": {"config": "{}"}}, 501), ({"parameters": {"file:1/model.onnx": "AA"}}, 501),
                         ({"parameters": {"other": 1}}, 400), ({"parameters": 3}, 400), ({"x": 1}, 400), ([], 400)):
        got, _, answer = s.request("POST", load, json.dumps(body))
        assert got == status, (body, answer)
    assert s.request("POST", load, b"")[0] == 200 and s.request("POST", load, b"{")[0] == 400
    assert s.post("/v2/repository/index", {"ready": 1})[0] == 400
    assert s.post("/v2/repository/index", {"state": "x"})[0] == 400


# ---- watched


def test_versions_come_and_go_under_load(tmp_path, serve):
    m = tmp_path / "models" / "m"
    version(m, 1)
    s = serve(tmp_path / "models", *POLL)
    with under_load(s, check_any, clients=4):
        for k in (2, 3):
            version(m, k)
            r.wait_for(f"version {k}", lambda: serves(s, k))
        shutil.rmtree(m / "3")
        r.wait_for("back to version 2", lambda: serves(s, 2))
        (m / "2").rename(m / ".old")
        version(m, 5)
        r.wait_for("version 5", lambda: serves(s, 5))
        (m / "config.pbtxt").write_text("version_policy { all { } }")
        r.wait_for("all versions", lambda: serves(s, 5, 1))
    for method in ("load", "unload"):
        status, _, body = s.post(f"/v2/repository/models/m/{method}")
        assert status == 409 and "--model-control" in body["error"], body


def test_a_half_written_version_is_never_seen(tmp_path, serve):
    """Its file comes in pieces; what cannot be loaded leaves what served, and is tried again once it has changed."""
    m = tmp_path / "models" / "m"
    version(m, 1)
    s = serve(tmp_path / "models", *POLL)
    text = json.dumps(times(2))
    with under_load(s, check_any):
        (m / "2").mkdir()
        (m / "2" / "null.json").write_text(text[:20])
        r.wait_for("a failed load", lambda: "null.json" in reason(s, "m", "2"))
        assert serves(s, 1) and s.request("GET", "/v2/health/ready")[0] == 200
        (m / "2" / "null.json").write_text(text)
        r.wait_for("version 2", lambda: serves(s, 2))
        r.write_raw(m / "2", times(2) | {"weights": "none"})  # the version that serves is damaged
        r.wait_for("a failed load", lambda: reason(s, "m", "2"))
        assert serves(s, 2)
    assert answers(s) == ("2", 2)


def test_models_come_and_go(tmp_path, serve):
    folder = tmp_path / "models"
    folder.mkdir()
    s = serve(folder, *POLL)
    assert states(s) == {} and s.request("GET", "/v2/models/m")[0] == 404
    version(folder / "m", 1)
    r.write_raw(folder / "plain", times(7))
    r.wait_for("both", lambda: serves(s, 1) and serves(s, 1, name="plain"))
    r.write_raw(folder / "plain", times(8))
    r.wait_for("the changed one", lambda: serves(s, 2, name="plain"))
    assert answers(s, "/v2/models/plain") == ("2", 8)
    with under_load(s, right_for(8), path="/v2/models/plain/infer"):
        shutil.rmtree(folder / "m")
        r.wait_for("it gone", lambda: s.request("GET", "/v2/models/m")[0] == 404)
    assert states(s) == {("plain", "2"): "READY"}


def test_a_start_while_a_version_is_written(tmp_path, serve):
    """Nothing is served, and the replica is not ready, before two looks have seen the same files."""
    version(tmp_path / "models" / "m", 1)
    s = serve(tmp_path / "models", "--model-control", "poll", "--poll", "1h", ready=False)
    assert s.request("GET", "/v2/health/ready")[0] == 503
    assert states(s) == {("m", "1"): "UNAVAILABLE"} and "settled" in reason(s, "m")


def test_swaps_of_the_whole_folder_under_load(tmp_path, serve):
    """Renamed away and another in its place: a moment without it is not the end of it."""
    folder = tmp_path / "models"
    version(folder / "m", 1)
    s = serve(folder, *POLL)
    with under_load(s, right_for(1, 2, 3)):
        for k in (2, 3):
            r.write_raw(tmp_path / "next" / "1", times(k))
            (folder / "m").rename(tmp_path / f"old{k}")
            (tmp_path / "next").rename(folder / "m")
            r.wait_for(f"state {k}", lambda: answers(s) == ("1", k))
