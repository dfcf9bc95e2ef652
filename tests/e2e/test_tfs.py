"""TensorFlow Serving's API, asked by its clients; TensorFlow itself gives the reference answers."""

import base64
import gzip
import json
import shutil

import grpc
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

        @tf.function(input_signature=[tf.TensorSpec([None, 4], f32, "x")])
        def swapped(self, x):
            return {"z": tf.reverse(x, [1])}

        @tf.function(input_signature=[tf.TensorSpec([None], string, "examples")])
        def regress(self, examples):
            f = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([4], f32)})
            return {"outputs": tf.reduce_sum(tf.matmul(f["x"], self.w), axis=1)}

    class Words(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], string, "s")])
        def serve(self, s):
            return {"upper": tf.strings.upper(s), "raw_bytes": tf.strings.join([s, s])}

    class Image(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2, 2, 1], f32, "image")])
        def serve(self, image):
            return {"flat": tf.reshape(image, [-1, 4]) * 2}

    spec = {"x": tf.io.FixedLenFeature([2], f32), "k": tf.io.FixedLenFeature([], i64, 1),
            "s": tf.io.FixedLenFeature([], string, "none")}

    class Examples(tf.Module):
        """What an estimator exports: it parses serialised examples itself."""

        @tf.function(input_signature=[tf.TensorSpec([None], string, "examples")])
        def classify(self, examples):
            f = tf.io.parse_example(examples, spec)
            two = tf.fill([tf.shape(examples)[0]], "two")
            scores = tf.concat([f["x"], tf.cast(f["k"], f32)[:, None]], axis=1)
            return {"classes": tf.stack([f["s"], two, tf.strings.as_string(f["k"])], axis=1),
                    "scores": tf.nn.softmax(scores)}

        @tf.function(input_signature=[tf.TensorSpec([None], string, "examples")])
        def regress(self, examples):
            f = tf.io.parse_example(examples, spec)
            return {"outputs": tf.reduce_sum(f["x"], axis=1) * tf.cast(f["k"], f32)}

    live = {}
    examples = Examples()
    for name in ("classify", "regress"):
        tf.saved_model.save(examples, str(folder / name), signatures={"serving_default": getattr(examples, name)})
        live[name] = tf.saved_model.load(str(folder / name)).signatures["serving_default"]
    tf.saved_model.save(examples, str(folder / "heads"),
                        signatures={"serving_default": examples.classify, "value": examples.regress})
    for name, m in {"two": Two(), "words": Words(), "image": Image()}.items():
        more = {"swapped": m.swapped, "regress_x": m.regress} if name == "two" else {}
        tf.saved_model.save(m, str(folder / name), signatures={"serving_default": m.serve, **more})
        signatures = tf.saved_model.load(str(folder / name)).signatures
        live[name] = signatures["serving_default"]
        live.update({s: signatures[s] for s in more})
    return folder, live, tf


@pytest.fixture(scope="module")
def server(saved, tmp_path_factory):
    """One for all tests: TensorFlow takes its time to load."""
    s = r.Replica(saved[0], log=tmp_path_factory.mktemp("log") / "serve.log")
    try:
        yield s.wait_ready()
        assert "warn" not in s.stop()
    finally:
        s.kill()


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


def test_signatures(server, saved):
    _, live, tf = saved
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    want = live["swapped"](x=tf.constant(x))["z"].numpy().tolist()
    for body in ({"signature_name": "swapped", "instances": x.tolist()},
                 {"instances": x.tolist(), "signature_name": "swapped"},
                 {"instances": [{"x": row} for row in x.tolist()], "signature_name": "swapped"}):
        assert post(server, "two:predict", body) == (200, {"predictions": want})
    status, got = post(server, "two:regress", {"signature_name": "regress_x", "examples": [{"x": row} for row in x.tolist()]})
    np.testing.assert_allclose(got["results"], live["regress_x"](
        tf.constant([example(tf, x=row) for row in x.tolist()]))["outputs"].numpy(), rtol=1e-5)
    status, got = post(server, "two:predict", {"signature_name": "third", "instances": x.tolist()})
    assert status == 400
    assert "no signature 'third'; the model has: serving_default, regress_x, swapped" in got["error"], got
    known = server.get("/v1/models/two/metadata")["metadata"]["signature_def"]["signature_def"]
    assert set(known) == {"serving_default", "regress_x", "swapped"}
    assert list(known["swapped"]["outputs"]) == ["z"] and known["regress_x"]["inputs"]["examples"]["dtype"] == "DT_STRING"
    before = server.get("/v2/models/two/stats")["model_stats"][0]["inference_count"]
    assert before >= 8 and post(server, "two:predict", {"signature_name": "swapped", "inputs": x.tolist()})[0] == 200
    assert server.get("/v2/models/two/stats")["model_stats"][0]["inference_count"] == before + 2


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


def test_compressed(linear):
    url = f"http://{linear.address}/v1/models/m:predict"
    rows = np.random.default_rng(3).standard_normal((2000, 4)).astype(np.float32)
    body = json.dumps({"instances": rows.tolist()}).encode()
    a = requests.post(url, data=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert a.status_code == 200 and a.headers["Content-Encoding"] == "gzip", a.text
    np.testing.assert_allclose(a.json()["predictions"], expected(rows), rtol=1e-4, atol=1e-5)
    a = requests.post(url, data=body, headers={"Content-Encoding": "br"})
    assert a.status_code == 415 and list(a.json()) == ["error"]


def test_no_instances(linear):
    assert post(linear, "m:predict", {"instances": []}) == (200, {"predictions": []})


# ---- classify and regress


def example(tf, **features):
    kinds = {bytes: ("bytes_list", tf.train.BytesList), float: ("float_list", tf.train.FloatList),
             int: ("int64_list", tf.train.Int64List)}
    out = tf.train.Example()
    for name, values in features.items():
        kind, make = kinds[type(values[0])]
        out.features.feature[name].CopyFrom(tf.train.Feature(**{kind: make(value=values)}))
    return out.SerializeToString()


def test_classify(server, saved):
    _, live, tf = saved
    want = live["classify"](tf.constant([example(tf, x=[1.0, -0.5], k=[2], s=[b"one"]),
                                         example(tf, x=[0.25, 3.0], k=[7], s=[b"\xc3\xb6"])]))
    status, got = post(server, "classify:classify", {
        "signature_name": "serving_default", "context": {"k": 2},
        "examples": [{"x": [1, -0.5], "s": "one"}, {"x": [0.25, 3.0], "k": [7], "s": {"b64": "w7Y="}}]})
    assert status == 200 and list(got) == ["results"], got
    assert [[c[0].encode() for c in row] for row in got["results"]] == want["classes"].numpy().tolist()
    np.testing.assert_allclose([[c[1] for c in row] for row in got["results"]], want["scores"].numpy(), rtol=1e-5)


def test_regress(server, saved):
    _, live, tf = saved
    want = live["regress"](tf.constant([example(tf, x=[1.0, 2.5], k=[3]), example(tf, x=[4.0, 5.0])]))["outputs"]
    status, got = post(server, "regress/versions/1:regress",
                       {"examples": [{"x": [1.0, 2.5], "k": 3}, {"x": [4.0, 5.0]}]})
    assert (status, got) == (200, {"results": want.numpy().tolist()})


def test_examples_by_the_names_of_plain_inputs(linear, server, saved):
    """An extension: features are the inputs of their names, classes numbers."""
    _, live, tf = saved
    status, got = post(linear, "m:classify", {"examples": [{"x": row.tolist()} for row in ROWS]})
    assert status == 200, got
    assert [[c[0] for c in row] for row in got["results"]] == [["0", "1"]] * 3
    np.testing.assert_allclose([[c[1] for c in row] for row in got["results"]], expected(ROWS), rtol=1e-6)
    status, got = post(server, "two:classify", {"context": {"k": 1}, "examples": [{"x": [1, 2, 3, 4]}]})
    assert status == 400 and "none is 'classes' or 'scores'; use predict" in got["error"], got


@pytest.mark.parametrize("body, why", [
    ({}, "the request has no 'examples'"),
    ({"examples": []}, "the request has no 'examples'"),
    ({"examples": [3]}, "examples[0]: JSON at byte 14: an object is expected here, not a number"),
    ({"examples": [{}]}, "examples[0] has no feature 'x' (FP32 [-1,4])"),
    ({"examples": [{"x": [1, 2, 3]}]}, "input 'x' is FP32 [-1,4], 4 values a row; examples[0] has 3"),
    ({"examples": [{"x": "four"}]}, "4 values a row; examples[0] has 1"),
    ({"examples": [{"x": ["f", "o", "u", "r"]}]}, "input 'x' is FP32; examples[0] has bytes"),
    ({"examples": [{"x": [1, "2"]}]}, "feature 'x': JSON at byte 27: a feature holds numbers or strings, not both"),
    ({"examples": [{"x": None}]}, "a feature is a number, a string, a b64 object or a list of them, not null"),
])
def test_examples_refused(linear, body, why):
    status, got = post(linear, "m:classify", body)
    assert status == 400 and why in got["error"], got


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


# ---- gRPC


@pytest.fixture(scope="module")
def apis():
    """The messages and stubs of TensorFlow Serving's own client."""
    return pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")


class Client:
    def __init__(self, server):
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        self.channel = grpc.insecure_channel(server.address)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def refused(self, call, request, code, why):
        with pytest.raises(grpc.RpcError) as e:
            call(request, timeout=r.PATIENCE)
        assert e.value.code() == code and why in e.value.details(), e.value


@pytest.fixture(scope="module")
def client(server, apis):
    c = Client(server)
    yield c
    c.channel.close()


def predict_request(tf, model, outputs=(), **inputs):
    from tensorflow_serving.apis import predict_pb2
    q = predict_pb2.PredictRequest()
    q.model_spec.name = model
    for name, value in inputs.items():
        q.inputs[name].CopyFrom(value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value))
    q.output_filter.extend(outputs)
    return q


def test_grpc_predict(client, saved):
    _, live, tf = saved
    x = np.random.default_rng(2).standard_normal((3, 4)).astype(np.float32)
    k = np.array([1, 2, 3], np.int64)
    want = live["two"](x=tf.constant(x), k=tf.constant(k))
    q = predict_request(tf, "two", x=x, k=k)
    a = client.predictions.Predict(q)
    assert (a.model_spec.name, a.model_spec.version.value, a.model_spec.signature_name) == ("two", 1, "serving_default")
    assert set(a.outputs) == {"y", "best"}
    np.testing.assert_allclose(tf.make_ndarray(a.outputs["y"]), want["y"].numpy(), rtol=1e-5)
    assert tf.make_ndarray(a.outputs["best"]).tolist() == want["best"].numpy().tolist()
    assert len(a.outputs["y"].float_val) == 9 and list(a.outputs["best"].int64_val) == want["best"].numpy().tolist()
    q.output_filter.append("best")
    q.model_spec.version_label = "stable"
    q.model_spec.signature_name = "serving_default"
    assert set(client.predictions.Predict(q).outputs) == {"best"}
    other = predict_request(tf, "two", x=x)
    other.model_spec.signature_name = "swapped"
    a = client.predictions.Predict(other)
    assert a.model_spec.signature_name == "swapped"
    np.testing.assert_array_equal(tf.make_ndarray(a.outputs["z"]), x[:, ::-1])
    q.model_spec.ClearField("version_label")
    q.model_spec.version.value = 1
    call = client.predictions.Predict.with_call(q)[1]
    assert dict(call.initial_metadata())["overtake-rows"] == "3"


def test_grpc_typed_values(client, saved):
    """Values in the fields of their types, and one value for all."""
    _, live, tf = saved
    x = tf.make_tensor_proto(np.ones((2, 4), np.float32))
    x.ClearField("tensor_content")
    x.float_val.append(0.5)
    k = tf.make_tensor_proto(np.zeros(2, np.int64))
    k.ClearField("tensor_content")
    k.int64_val.extend([3, -4])
    want = live["two"](x=tf.fill([2, 4], 0.5), k=tf.constant([3, -4], tf.int64))
    a = client.predictions.Predict(predict_request(tf, "two", x=x, k=k))
    np.testing.assert_allclose(tf.make_ndarray(a.outputs["y"]), want["y"].numpy(), rtol=1e-5)
    words = [b"one", b"", b"\xff\x00"]
    a = client.predictions.Predict(predict_request(tf, "words", s=tf.make_tensor_proto(words)))
    assert list(a.outputs["raw_bytes"].string_val) == [w + w for w in words]


def test_grpc_refused(client, saved):
    _, _, tf = saved
    p, image = client.predictions, np.zeros((1, 2, 2, 1), np.float32)
    bad = grpc.StatusCode.INVALID_ARGUMENT
    client.refused(p.Predict, predict_request(tf, "none"), grpc.StatusCode.NOT_FOUND, "model 'none' is not known")
    client.refused(p.Predict, predict_request(tf, "image"), bad, "input 'image' (FP32 [-1,2,2,1]) is missing")
    client.refused(p.Predict, predict_request(tf, "image", image=image[0]), bad,
                   "input 'image' is FP32 [-1,2,2,1]; the request has [2,2,1]")
    client.refused(p.Predict, predict_request(tf, "image", image=image.astype(np.int32)), bad,
                   "the request has INT32")
    client.refused(p.Predict, predict_request(tf, "image", image=image, x=image), bad, "there is no input 'x'")
    client.refused(p.Predict, predict_request(tf, "image", ["z"], image=image), bad, "there is no output 'z'")
    q = predict_request(tf, "image", image=image)
    q.inputs["image"].tensor_content = b"123"
    client.refused(p.Predict, q, bad, "input 'image': FP32 [1,2,2,1] needs 16 bytes; tensor_content has 3")
    q = predict_request(tf, "image", image=image)
    q.model_spec.signature_name = "other"
    client.refused(p.Predict, q, bad, "there is no signature 'other'; the model has: serving_default")
    q = predict_request(tf, "image", image=image)
    q.model_spec.version.value = 9
    client.refused(p.Predict, q, grpc.StatusCode.NOT_FOUND, "no version 9")


def test_grpc_classify_and_regress(client, saved):
    _, live, tf = saved
    from tensorflow_serving.apis import classification_pb2, regression_pb2
    rows = [example(tf, x=[1.0, -0.5], s=[b"one"]), example(tf, x=[0.25, 3.0])]
    want = live["classify"](tf.constant([example(tf, k=[2]) + row for row in rows]))
    q = classification_pb2.ClassificationRequest()
    q.model_spec.name = "classify"
    for row in rows:
        q.input.example_list_with_context.examples.append(tf.train.Example.FromString(row))
    q.input.example_list_with_context.context.CopyFrom(tf.train.Example.FromString(example(tf, k=[2])))
    got = client.predictions.Classify(q)
    assert got.model_spec.name == "classify"
    assert [[c.label.encode() for c in row.classes] for row in got.result.classifications] == want["classes"].numpy().tolist()
    np.testing.assert_allclose([[c.score for c in row.classes] for row in got.result.classifications],
                               want["scores"].numpy(), rtol=1e-5)
    q = regression_pb2.RegressionRequest()
    q.model_spec.name = "regress"
    for row in rows:
        q.input.example_list.examples.append(tf.train.Example.FromString(row))
    want = live["regress"](tf.constant(rows))["outputs"].numpy().tolist()
    assert [v.value for v in client.predictions.Regress(q).result.regressions] == want
    q.ClearField("input")
    client.refused(client.predictions.Regress, q, grpc.StatusCode.INVALID_ARGUMENT, "there is no input")


def multi_request(tf, rows, *tasks):
    from tensorflow_serving.apis import inference_pb2
    q = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = q.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name, task.model_spec.signature_name = name, signature
    for row in rows:
        q.input.example_list.examples.append(tf.train.Example.FromString(row))
    return q


def test_grpc_multi_inference(client, server, saved):
    """Two heads of a model over the same examples, answered by TensorFlow's own words for both."""
    _, live, tf = saved
    rows = [example(tf, x=[1.0, -0.5], k=[2], s=[b"one"]), example(tf, x=[0.25, 3.0], k=[7])]
    classes, values = live["classify"](tf.constant(rows)), live["regress"](tf.constant(rows))["outputs"]
    heads = ("heads", "", "classify"), ("heads", "value", "regress")
    a, call = client.predictions.MultiInference.with_call(multi_request(tf, rows, *heads))
    assert [(s.model_spec.name, s.model_spec.signature_name, s.model_spec.version.value, s.WhichOneof("result"))
            for s in a.results] == [("heads", "serving_default", 1, "classification_result"),
                                    ("heads", "value", 1, "regression_result")]
    got = a.results[0].classification_result.classifications
    assert [[c.label.encode() for c in row.classes] for row in got] == classes["classes"].numpy().tolist()
    np.testing.assert_allclose([[c.score for c in row.classes] for row in got], classes["scores"].numpy(), rtol=1e-5)
    assert [v.value for v in a.results[1].regression_result.regressions] == values.numpy().tolist()
    assert dict(call.initial_metadata())["overtake-rows"] == "2"
    again = client.predictions.MultiInference(multi_request(tf, rows, *reversed(heads)))
    assert [s.WhichOneof("result") for s in again.results] == ["regression_result", "classification_result"]
    assert again.results[1].classification_result == a.results[0].classification_result
    counted = server.get("/v2/models/heads/stats")["model_stats"][0]["inference_count"]
    assert counted == 8  # each head of each row
    at_once = [client.predictions.MultiInference.future(multi_request(tf, rows[k % 2:k % 2 + 1], *heads)) for k in range(8)]
    for k, future in enumerate(at_once):
        assert future.result(r.PATIENCE).results[1].regression_result.regressions[0].value == values.numpy()[k % 2]


def test_grpc_multi_inference_refused(client, saved):
    _, _, tf = saved
    rows = [example(tf, x=[1.0, 2.0])]
    bad, multi = grpc.StatusCode.INVALID_ARGUMENT, client.predictions.MultiInference
    head = ("heads", "", "classify")
    client.refused(multi, multi_request(tf, rows), bad, "there are no tasks")
    client.refused(multi, multi_request(tf, [], head), bad, "there is no input")
    client.refused(multi, multi_request(tf, rows, head, ("two", "", "regress")), bad, "tasks[1]: it asks model 'two'")
    client.refused(multi, multi_request(tf, rows, head, head), bad,
                   "tasks[1]: signature 'serving_default' is tasks[0]'s already")
    client.refused(multi, multi_request(tf, rows, head, ("heads", "third", "regress")), bad,
                   "tasks[1]: there is no signature 'third'")
    client.refused(multi, multi_request(tf, rows, head, ("heads", "value", "predict")),
                   grpc.StatusCode.UNIMPLEMENTED, "tasks[1]: method_name 'tensorflow/serving/predict' is neither")
    client.refused(multi, multi_request(tf, rows, ("none", "", "classify")), grpc.StatusCode.NOT_FOUND, "'none' is not known")
    client.refused(multi, multi_request(tf, [example(tf, x=[1.0, 2.0, 3.0, 4.0], k=[1])], ("two", "regress_x", "regress"),
                                        ("two", "", "classify")), bad, "tasks[1]: model 'two': the model has 2 outputs")
    client.refused(multi, multi_request(tf, [b""], head, ("heads", "value", "regress")), bad, "tasks[0]: model 'heads': ")


def test_grpc_metadata_and_status(client, saved):
    from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2
    q = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    q.model_spec.name = "two"
    a = client.predictions.GetModelMetadata(q)
    assert a.model_spec.version.value == 1
    known = get_model_metadata_pb2.SignatureDefMap()
    assert a.metadata["signature_def"].Unpack(known)
    assert set(known.signature_def) == {"serving_default", "regress_x", "swapped"}
    s = known.signature_def["serving_default"]
    assert s.inputs["x"].dtype == 1 and [d.size for d in s.inputs["x"].tensor_shape.dim] == [-1, 4]
    assert set(s.outputs) == {"y", "best"} and s.method_name == "tensorflow/serving/predict"
    q.metadata_field[0] = "all"
    client.refused(client.predictions.GetModelMetadata, q, grpc.StatusCode.INVALID_ARGUMENT, "signature_def is")
    q = get_model_status_pb2.GetModelStatusRequest()
    q.model_spec.name = "two"
    [v] = client.models.GetModelStatus(q).model_version_status
    assert v.version == 1 and v.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE and v.status.error_code == 0
    q.model_spec.version.value = 2
    client.refused(client.models.GetModelStatus, q, grpc.StatusCode.NOT_FOUND, "no version 2")


def test_grpc_reload_config(saved, apis, serve, tmp_path):
    from tensorflow_serving.apis import model_management_pb2
    shutil.copytree(saved[0] / "image", tmp_path / "m" / "image")
    shutil.copytree(saved[0] / "words", tmp_path / "m" / "words")
    server = serve(tmp_path / "m")
    c = Client(server)

    def config(*names, **more):
        q = model_management_pb2.ReloadConfigRequest()
        for name in names:
            q.config.model_config_list.config.add(name=name, **more)
        return q

    def served():
        return {n for n in ("image", "words") if server.request("GET", f"/v1/models/{n}")[0] == 200}

    assert c.models.HandleReloadConfigRequest(config("image", "words")).status.error_code == 0
    assert served() == {"image", "words"}
    c.models.HandleReloadConfigRequest(config("words", base_path=str(tmp_path / "m" / "words")))
    assert served() == {"words"}
    c.models.HandleReloadConfigRequest(config("image"))
    assert served() == {"image"}
    bad = grpc.StatusCode.INVALID_ARGUMENT
    call = c.models.HandleReloadConfigRequest
    c.refused(call, config(), bad, "has no config.model_config_list")
    c.refused(call, config("image", base_path="/elsewhere"), bad, "base_path '/elsewhere' is not")
    c.refused(call, config("image", model_version_policy={"latest": {}}), bad, "model_version_policy is not taken")
    c.refused(call, config("image", "nobody"), grpc.StatusCode.NOT_FOUND, "model 'nobody' could not be loaded")
    assert served() == {"image"}
    c.channel.close()


# ---- under a control plane


def test_labels_and_reload_under_a_control_plane(managed, bundles, apis):
    from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, predict_pb2
    plane, start = managed
    plane.want({**r.deployment(r.variant("champion", 1, bundles(1), 0.7), r.variant("canary", 2, bundles(2), 0.3),
                               r.variant("shadow", 3, bundles(3), 0)), "labels": {"next": 3}})
    s = start()
    c = Client(s)
    for label, version in (("stable", 1), ("canary", 2), ("next", 3)):
        status, got = post(s, f"m/labels/{label}:predict", {"instances": [[0, 0, 0, 0]]})
        assert (status, got) == (200, {"predictions": [[version, version]]}), label
        q = predict_pb2.PredictRequest()
        q.model_spec.name, q.model_spec.version_label = "m", label
        q.inputs["x"].dtype = 1
        q.inputs["x"].tensor_shape.dim.add(size=1)
        q.inputs["x"].tensor_shape.dim.add(size=4)
        a = c.predictions.Predict(q)
        assert a.model_spec.version.value == version and list(a.outputs["y"].float_val) == [version, version]
        assert s.get(f"/v1/models/m/labels/{label}")["model_version_status"][0]["version"] == str(version)
        assert s.get(f"/v1/models/m/labels/{label}/metadata")["model_spec"]["version"] == str(version)
    assert post(s, "m/labels/other:predict", {"instances": [[0, 0, 0, 0]]})[0] == 404
    assert {v["version"] for v in s.get("/v1/models/m")["model_version_status"]} == {"1", "2", "3"}
    q = get_model_status_pb2.GetModelStatusRequest()
    q.model_spec.name = "m"
    assert len(c.models.GetModelStatus(q).model_version_status) == 3
    nothing = model_management_pb2.ReloadConfigRequest()
    nothing.config.model_config_list.SetInParent()
    c.refused(c.models.HandleReloadConfigRequest, nothing, grpc.StatusCode.FAILED_PRECONDITION,
              "model 'm' could not be unloaded: model 'm' is served because the control plane says so")
    c.channel.close()
