"""TensorFlow Serving's API, asked by its clients; TensorFlow itself gives the reference answers."""

import base64
import json

import numpy as np
import pytest
import requests

import replica as r
from linear_model import ROWS, expected


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of SavedModels, and the same models loaded by TensorFlow."""
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    folder = tmp_path_factory.mktemp("saved")
    f32, i64, string = tf.float32, tf.int64, tf.string

    class Two(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(tf.reshape(tf.range(12, dtype=f32), [4, 3]) / 7)

        @tf.function(input_signature=[tf.TensorSpec([None, 4], f32, "x"), tf.TensorSpec([None], i64, "k")])
        def serve(self, x, k):
            y = tf.matmul(x, self.w)
            return {"y": y, "best": tf.argmax(y, axis=1) + k}

    class Words(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], string, "s")])
        def serve(self, s):
            return {"upper": tf.strings.upper(s), "raw_bytes": tf.strings.join([s, s])}

    class Image(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 1], f32, "image")])
        def serve(self, image):
            return {"flat": tf.reshape(image, [-1, 4]) * 2}

    live = {}
    for name, m in {"two": Two(), "words": Words(), "image": Image()}.items():
        tf.saved_model.save(m, str(folder / name), signatures={"serving_default": m.serve})
        live[name] = tf.saved_model.load(str(folder / name)).signatures["serving_default"]
    return folder, live, tf


@pytest.fixture
def server(saved, serve):
    return serve(saved[0])


def post(server, path, body):
    a = requests.post(f"http://{server.address}/v1/models/{path}", json=body)
    return a.status_code, a.json()


# ---- predict


def test_rows_and_columns(server, saved):
    _, live, tf = saved
    x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    k = np.array([0, 10, -5], np.int64)
    want = live["two"](x=tf.constant(x), k=tf.constant(k))
    status, rows = post(server, "two:predict", {
        "signature_name": "serving_default",
        "instances": [{"x": x[i].tolist(), "k": int(k[i])} for i in range(3)]})
    assert status == 200 and list(rows) == ["predictions"], rows
    status, columns = post(server, "two:predict", {"inputs": {"x": x.tolist(), "k": k.tolist()}})
    assert status == 200 and list(columns) == ["outputs"], columns
    np.testing.assert_allclose([p["y"] for p in rows["predictions"]], want["y"].numpy(), rtol=1e-5)
    np.testing.assert_allclose(columns["outputs"]["y"], want["y"].numpy(), rtol=1e-5)
    assert [p["best"] for p in rows["predictions"]] == want["best"].numpy().tolist()
    assert columns["outputs"]["best"] == want["best"].numpy().tolist()


def test_one_tensor_has_no_name(server, saved):
    _, live, tf = saved
    image = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
    want = live["image"](image=tf.constant(image))["flat"].numpy().tolist()
    for path in ("image:predict", "image/versions/1:predict", "image/labels/stable:predict"):
        assert post(server, path, {"instances": image.tolist()}) == (200, {"predictions": want})
    assert post(server, "image:predict", {"instances": [{"image": i} for i in image.tolist()]}) \
        == (200, {"predictions": want})
    assert post(server, "image:predict", {"inputs": image.tolist()}) == (200, {"outputs": want})
    assert post(server, "image:predict", {"inputs": {"image": image.tolist()}}) == (200, {"outputs": want})


def test_strings(server, saved):
    _, live, tf = saved
    words = [b"one", b"zw\xc3\xb6lf", b"\xff\x00"]
    want = live["words"](s=tf.constant(words))
    assert want["upper"].numpy()[2] == words[2]
    status, got = post(server, "words:predict", {
        "instances": ["one", "zwölf", {"b64": base64.b64encode(words[2]).decode()}]})
    assert status == 200, got
    for k, p in enumerate(got["predictions"]):
        assert base64.b64decode(p["raw_bytes"]["b64"]) == want["raw_bytes"].numpy()[k]
        plain = p["upper"]
        plain = base64.b64decode(plain["b64"]) if isinstance(plain, dict) else plain.encode()
        assert plain == want["upper"].numpy()[k]


def test_answers_carry_their_id(linear):
    a = requests.post(f"http://{linear.address}/v1/models/m:predict", json={"instances": ROWS.tolist()})
    assert r.prediction_id(a.headers)[4] == 3
    np.testing.assert_allclose(a.json()["predictions"], expected(ROWS), rtol=1e-6)


REFUSED = [
    ({}, "neither 'instances' (rows) nor 'inputs' (columns)"),
    ({"instances": [[1, 2, 3]]}, "input 'x' is FP32 [4], which needs 4 values; the data have 3"),
    ({"instances": [[1, 2, 3, "4"]]}, "input 'x' is FP32; its data hold a string"),
    ({"instances": [[1, 2, 3, None]]}, "its data hold null"),
    ({"instances": [{"z": [1, 2, 3, 4]}]}, "there is no input 'z'; the first of 1 is 'x'"),
    ({"inputs": {}}, "input 'x' (FP32 [-1,4]) is missing"),
    ({"inputs": [1, 2, 3, 4]}, "the data of input 'x' must be an array"),
    ({"signature_name": "other", "instances": [[1, 2, 3, 4]]},
     "there is no signature 'other'; the model has: serving_default"),
    ({"instances": [[1, 2, 3, 4]], "inputs": [[1, 2, 3, 4]]}, "send 'instances' alone"),
]


@pytest.mark.parametrize("body, why", REFUSED)
def test_refused(linear, body, why):
    status, got = post(linear, "m:predict", body)
    assert status == 400 and list(got) == ["error"] and why in got["error"], got


def test_refused_by_path(linear):
    row = {"instances": [[1, 2, 3, 4]]}
    for path, status, why in [
            ("nobody:predict", 404, "model 'nobody' is not known"),
            ("m/versions/7:predict", 404, "no version 7"),
            ("m/labels/canary:predict", 404, "no version loaded with the label 'canary'"),
            ("m/versions/x:predict", 404, "there is nothing at"),
            ("m:divine", 404, "there is nothing at"),
            ("m/metadata:predict", 404, "there is nothing at"), ("m", 405, "this takes GET")]:
        got = post(linear, path, row)
        assert got[0] == status and why in got[1]["error"], (path, got)
    assert requests.get(f"http://{linear.address}/v1/models/m:predict").headers["Allow"] == "POST"


def test_no_instances(linear):
    assert post(linear, "m:predict", {"instances": []}) == (200, {"predictions": []})


# ---- status and metadata


def test_status(linear):
    want = {"model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}
    for path in ("m", "m/versions/1", "m/labels/stable"):
        assert linear.get(f"/v1/models/{path}") == want
    assert linear.request("GET", "/v1/models/m/versions/2")[0] == 404
    assert linear.request("GET", "/v1/models/none")[0] == 404


def test_metadata(server, saved):
    m = server.get("/v1/models/two/metadata")
    assert m["model_spec"] == {"name": "two", "signature_name": "", "version": "1"}
    s = m["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert s["inputs"]["x"]["dtype"] == "DT_FLOAT" and s["inputs"]["k"]["dtype"] == "DT_INT64"
    assert s["inputs"]["x"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}], "unknown_rank": False}
    assert set(s["outputs"]) == {"y", "best"}
    assert s["method_name"] == "tensorflow/serving/predict"
    assert json.dumps(m) == json.dumps(server.get("/v1/models/two/versions/1/metadata"))
