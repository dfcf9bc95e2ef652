"""The serving replica's protocol, alone on a directory, through real clients and raw sockets."""

import json
import shutil
import socket
import struct

import numpy as np
import pytest
import tritonclient.http as triton

import replica as r
from linear_model import ROWS, W, expected, one, raw_request, read_answers

# ---- the protocol


def test_health_and_metadata(linear):
    assert linear.get("/v2/health/live") == {"live": True}
    assert linear.get("/v2/health/ready") == {"ready": True}
    assert linear.get("/v2")["name"] == "overtake"
    m = linear.get("/v2/models/m")
    assert m["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert m["versions"] == ["1"]
    assert m["parameters"]["verified"] is False
    assert linear.get("/v2/models/m/versions/1/ready")["ready"] is True
    c = linear.get("/v2/models/m/config")
    assert c["max_batch_size"] == 64 and c["input"][0] == \
        {"name": "x", "data_type": "TYPE_FP32", "dims": [4]}


def test_infer_json_flat_and_nested(linear):
    for data in (ROWS.ravel().tolist(), ROWS.tolist()):
        status, head, body = linear.post("/v2/models/m/infer", {
            "id": "a1", "inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 4], "data": data}]})
        assert status == 200, body
        assert body["id"] == "a1" and body["model_name"] == "m" and body["model_version"] == "1"
        y = np.array(body["outputs"][0]["data"]).reshape(body["outputs"][0]["shape"])
        np.testing.assert_allclose(y, expected(ROWS), rtol=1e-6)
        assert r.prediction_id(head)[4] == 3


def test_every_row_has_its_own_id(linear):
    seen = set()
    for n in (1, 3, 2):
        _, head, _ = linear.infer("m", np.zeros((n, 4)))
        incarnation, seq, version, sampled, rows = r.prediction_id(head)
        assert version == 1 and not sampled and rows == n
        ids = {(incarnation, seq + k) for k in range(n)}
        assert not ids & seen
        seen |= ids


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_tritonclient(linear, binary_in, binary_out):
    c = triton.InferenceServerClient(linear.address)
    assert c.is_server_live() and c.is_server_ready() and c.is_model_ready("m")
    assert c.get_server_metadata()["name"] == "overtake"
    assert c.get_model_metadata("m")["name"] == "m"
    assert c.get_model_config("m")["name"] == "m"
    assert c.get_model_repository_index()[0]["state"] == "READY"
    x = triton.InferInput("x", list(ROWS.shape), "FP32")
    x.set_data_from_numpy(ROWS, binary_data=binary_in)
    out = triton.InferRequestedOutput("y", binary_data=binary_out)
    got = c.infer("m", [x], outputs=[out], request_id="7")
    np.testing.assert_allclose(got.as_numpy("y"), expected(ROWS), rtol=1e-6)
    assert got.get_response()["id"] == "7"
    assert c.get_inference_statistics("m")["model_stats"][0]["inference_count"] == 3
    with pytest.raises(triton.InferenceServerException, match="not known"):
        c.infer("nothing", [x])
    c.close()


def test_tritonclient_strings(models, tmp_path, serve):
    shutil.copytree(models / "onnx", tmp_path / "all")
    (tmp_path / "models" / "s").mkdir(parents=True)
    shutil.copy(tmp_path / "all" / "strings.onnx", tmp_path / "models" / "s")
    s = serve(tmp_path / "models")
    c = triton.InferenceServerClient(s.address)
    words = np.array([b"one", b"", "zwölf".encode()], dtype=np.object_)
    for binary in (True, False):
        x = triton.InferInput("s", [3], "BYTES")
        x.set_data_from_numpy(words, binary_data=binary)
        got = c.infer("s", [x], outputs=[triton.InferRequestedOutput("t", binary_data=binary)])
        assert [w if isinstance(w, bytes) else w.encode() for w in got.as_numpy("t")] == list(words)
    c.close()


def test_raw_body_is_one_tensor(linear):
    status, head, body = linear.request("POST", "/v2/models/m/infer", ROWS.tobytes(),
                                        {"Inference-Header-Content-Length": "0"})
    assert status == 200, body
    n = int(head["Inference-Header-Content-Length"])
    assert json.loads(body[:n])["outputs"][0]["shape"] == [3, 2]
    np.testing.assert_allclose(np.frombuffer(body[n:], np.float32).reshape(3, 2), expected(ROWS),
                               rtol=1e-6)


# ---- where the servers disagree: one row of notes on each line


BAD = {
    "wrong rank": (one(shape=[4]), ["'x'", "[-1,4]", "[4]"]),
    "wrong shape": (one(shape=[1, 3], data=[1, 2, 3]), ["'x'", "[-1,4]", "[1,3]"]),
    "wrong type": (one(datatype="INT64"), ["'x'", "FP32", "INT64"]),
    "unknown type": (one(datatype="FP33"), ["x", "FP33"]),
    "wrong name": (one(name="z"), ["'z'", "'x'"]),
    "missing input": ({"inputs": []}, ["input"]),
    "no inputs": ({}, ["inputs"]),
    "duplicate input": ({"inputs": one()["inputs"] * 2}, ["x"]),
    "extra input": ({"inputs": one()["inputs"] + one(name="z")["inputs"]}, ["'z'"]),
    "count is not the shape's": (one(data=[1, 2, 3]), ["x", "4", "3"]),
    "too many values": (one(data=[1, 2, 3, 4, 5]), ["x", "4"]),
    "string in FP32": (one(data=[1, 2, "3", 4]), ["x"]),
    "null in FP32": (one(data=[1, 2, None, 4]), ["x"]),
    "bool in FP32": (one(data=[1, 2, True, 4]), ["x"]),
    "negative dimension": (one(shape=[-1, 4]), ["x"]),
    "huge shape": (one(shape=[1 << 40, 1 << 40]), ["x"]),
    "unknown output": ({**one(), "outputs": [{"name": "q"}]}, ["'q'", "'y'"]),
    "no data": (one(data=None), ["x"]),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_request_is_400_and_says_why(linear, what):
    body, words = BAD[what]
    status, _, answer = linear.post("/v2/models/m/infer", body)
    assert status == 400, answer
    for w in words:
        assert w in answer["error"], answer
    assert linear.infer("m", [[1, 2, 3, 4]])[0] == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"inputs":[{]}', b"\xff\xfe", b"{}" * 9])
def test_malformed_json_is_400(linear, body):
    status, _, answer = linear.request("POST", "/v2/models/m/infer", body)
    assert status == 400 and "error" in json.loads(answer)


def test_unknown_model_is_404_on_any_route(linear):
    for path in ("", "/ready", "/stats", "/config", "/drift", "/versions/1", "/versions/1/ready"):
        status, _, body = linear.request("GET", f"/v2/models/nothing{path}")
        assert status == 404 and "nothing" in json.loads(body)["error"], path
    for path in ("infer", "versions/1/infer"):
        assert linear.post(f"/v2/models/nothing/{path}", one())[0] == 404
    assert linear.post("/v2/models/m/versions/9/infer", one())[0] == 404
    assert linear.post("/v2/repository/models/nothing/load")[0] == 404
    assert linear.post("/v2/repository/models/nothing/unload")[0] == 404
    assert linear.request("GET", "/elsewhere")[0] == 404


def test_wrong_method_is_405_with_allow(linear):
    for method, path, allow in (("GET", "/v2/models/m/infer", "POST"), ("POST", "/v2/models/m", "GET"),
                                ("DELETE", "/v2/health/live", "GET"), ("PUT", "/metrics", "GET"),
                                ("GET", "/v2/repository/index", "POST")):
        status, head, body = linear.request(method, path, b"")
        assert status == 405 and allow in head["Allow"] and "error" in json.loads(body), path


@pytest.mark.parametrize("kind", [None, "", "text/plain", "nonsense", "application/octet-stream"])
def test_content_type_does_not_matter(linear, kind):
    head = {} if kind is None else {"Content-Type": kind}
    assert linear.request("POST", "/v2/models/m/infer", json.dumps(one()), head)[0] == 200


def test_id_not_sent_is_not_invented(linear):
    assert "id" not in linear.post("/v2/models/m/infer", one())[2]


def test_nan_and_infinity_in_and_out(linear):
    text = json.dumps(one(data=[float("nan"), 0, 0, 0]))
    assert "NaN" in text
    status, _, body = linear.request("POST", "/v2/models/m/infer", text)
    assert status == 200 and all(np.isnan(v) for v in json.loads(body)["outputs"][0]["data"])
    status, _, body = linear.request("POST", "/v2/models/m/infer",
                                     json.dumps(one(data=[float("inf"), 0, 0, 0])))
    assert json.loads(body)["outputs"][0]["data"] == [float("inf"), -float("inf")]


def identity(datatype):
    spec = {"datatype": datatype, "shape": [-1, 2]}
    return {"op": "identity", "inputs": [{"name": "x", **spec}], "outputs": [{"name": "y", **spec}]}


@pytest.mark.parametrize("datatype,limit", [("INT8", 128), ("UINT8", 256), ("INT32", 1 << 31),
                                            ("UINT64", 1 << 64)])
def test_integer_out_of_range_is_400(tmp_path, serve, datatype, limit):
    s = serve(r.write_raw(tmp_path / "models" / "i", identity(datatype)))
    good = s.post("/v2/models/i/infer", one(datatype=datatype, shape=[1, 2], data=[limit - 1, 0]))[2]
    assert good.get("outputs", good)[0]["data"] == [limit - 1, 0]
    for bad in ([limit, 0], [-limit - 1, 0]):
        status, _, body = s.post("/v2/models/i/infer", one(datatype=datatype, shape=[1, 2], data=bad))
        assert status == 400 and "x" in body["error"]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_through_json(tmp_path, serve, datatype):
    s = serve(r.write_raw(tmp_path / "models" / "h", identity(datatype)))
    status, _, body = s.infer("h", [[1.5, -0.25]], datatype=datatype)
    assert status == 200 and body["outputs"][0]["data"] == [1.5, -0.25]


def test_zero_rows(linear):
    status, head, body = linear.post("/v2/models/m/infer", one(shape=[0, 4], data=[]))
    assert status == 200 and body["outputs"][0]["shape"] == [0, 2] and body["outputs"][0]["data"] == []
    assert head["overtake-rows"] == "0"


@pytest.mark.parametrize("length", ["x", "-1", "99999999", "1e3", ""])
def test_bad_binary_header_length(linear, length):
    status, _, body = linear.request("POST", "/v2/models/m/infer", b"{}",
                                     {"Inference-Header-Content-Length": length})
    assert status == 400 and "Inference-Header-Content-Length" in json.loads(body)["error"]


def test_binary_size_disagrees(linear):
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4],
                                   "parameters": {"binary_data_size": 12}}]}).encode()
    status, _, body = linear.request("POST", "/v2/models/m/infer", head + b"\0" * 12,
                                     {"Inference-Header-Content-Length": str(len(head))})
    assert status == 400 and "x" in json.loads(body)["error"]


def test_body_over_the_limit_is_413(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    s = serve(tmp_path / "models", "--body-max", "4k")
    status, _, body = s.request("POST", "/v2/models/m/infer", b"x" * 8192)
    assert status == 413 and "error" in json.loads(body)


# ---- connections


def test_pipelined_answers_come_in_order(linear):
    s = socket.create_connection((linear.host, linear.port))
    s.sendall(b"".join(raw_request({**one(data=[k, 0, 0, 0]), "id": str(k)}) for k in range(50)))
    answers = read_answers(s.makefile("rb"), 50)
    assert [a[1]["id"] for a in answers] == [str(k) for k in range(50)]
    assert [a[1]["outputs"][0]["data"][0] for a in answers] == list(range(50))
    s.close()


def test_client_that_leaves_harms_nobody(linear):
    for cut in (5, 40, 100):
        s = socket.create_connection((linear.host, linear.port))
        s.sendall(raw_request(one())[:cut])
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    assert linear.infer("m", [[1, 2, 3, 4]])[0] == 200


# ---- counting


def test_drift_is_shown(tmp_path, serve):
    rng = np.random.default_rng(3)
    h = r.Histogram(["a", "b", "c", "d"], -4, 4)
    reference = rng.standard_normal((2000, 4))
    r.make_bundle(tmp_path / "models" / "m", r.linear(W), golden=ROWS, histogram=h, reference=reference)
    s = serve(tmp_path / "models", "--window", "1s", "--count-budget", "100%", "--watch-drift")
    moved = rng.standard_normal((400, 4)).astype(np.float32)
    moved[:, 2] += 1.5

    def drift():
        assert s.infer("m", moved)[0] == 200
        v = s.get("/v2/models/m/drift")["variants"][0]
        return v if v["rows"] >= 400 and v["features"] else None
    v = r.wait_for("a window with drift", drift)
    assert v["features"][0]["name"] == "c" and v["features"][0]["shift"] > 1
    assert v["features"][0]["psi"] > 4 * v["features"][1]["psi"]
    line = r.wait_for("a line on stdout", lambda: s.process.stdout.readline().decode())
    assert "m@1" in line


def test_metrics_add_up(linear):
    for k in range(5):
        linear.infer("m", np.zeros((k + 1, 4)))
    linear.post("/v2/models/m/infer", {})
    text = linear.request("GET", "/metrics")[2].decode()
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name not in values
            values[name] = float(value)
    label = 'deployment="m",model="m",version="1",role="champion"'
    assert values[f"overtake_requests_total{{{label}}}"] == 5
    assert values[f"overtake_rows_total{{{label}}}"] == 15
    assert values[f'overtake_request_seconds_bucket{{{label},le="+Inf"}}'] == 5
    assert values['overtake_answers_total{class="4xx"}'] >= 1
    assert values["overtake_ready"] == 1
