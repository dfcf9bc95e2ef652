"""The Open Inference Protocol over REST in full, with unmodified clients of Triton: types, selections, codings of bodies,
and the extensions that are answered without being had."""

import asyncio
import gzip
import json
import zlib

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

import replica as r
from linear_model import ROWS, W, expected, one

TYPES = {"BOOL": bool, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
         "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16,
         "FP32": np.float32, "FP64": np.float64}


def identity(datatype, shape=(-1, 3)):
    spec = {"datatype": datatype, "shape": list(shape)}
    return {"op": "identity", "inputs": [{"name": "x", **spec}], "outputs": [{"name": "y", **spec}]}


def extremes(datatype):
    t = TYPES[datatype]
    if t is bool:
        return np.array([[True, False, True]])
    if np.issubdtype(t, np.integer):
        return np.array([[np.iinfo(t).min, 0, np.iinfo(t).max]], t)
    return np.array([[np.finfo(t).min, -0.5, np.finfo(t).smallest_subnormal]], t)


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A replica with an identity of every type, and linear_model's `m`."""
    folder = tmp_path_factory.mktemp("types")
    for t in (*TYPES, "BF16"):
        r.write_raw(folder / "models" / t.lower(), identity(t))
    r.write_raw(folder / "models" / "bytes", identity("BYTES", (-1,)))
    r.write_raw(folder / "models" / "wide", identity("FP32", (-1, 4096)))
    r.write_raw(folder / "models" / "m", r.linear(W))
    s = r.Replica(folder / "models", "--body-max", "4MiB", log=folder / "serve.log").wait_ready()
    yield s
    s.stop()


def values(name, x, binary):
    t = triton.InferInput(name, list(x.shape), triton.np_to_triton_dtype(x.dtype) if x.dtype != object else "BYTES")
    t.set_data_from_numpy(x, binary_data=binary)
    return t


# ---- types


@pytest.mark.parametrize("datatype", TYPES)
@pytest.mark.parametrize("binary", [True, False])
def test_every_type_comes_back_as_it_went(every, datatype, binary):
    if datatype == "FP16" and not binary:
        pytest.skip("tritonclient sends FP16 as binary data only; the next test sends numbers")
    c = triton.InferenceServerClient(every.address)
    x = extremes(datatype)
    got = c.infer(datatype.lower(), [values("x", x, binary)],
                  outputs=[triton.InferRequestedOutput("y", binary_data=binary)]).as_numpy("y")
    assert got.dtype == x.dtype and np.array_equal(got, x)
    c.close()


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_halves_as_numbers_and_as_bytes(every, datatype):
    numbers = [[1.5, -0.25, 3.0]]
    status, _, body = every.post(f"/v2/models/{datatype.lower()}/infer",
                                 one(datatype=datatype, shape=[1, 3], data=numbers))
    assert status == 200 and body["outputs"][0]["data"] == numbers[0] and body["outputs"][0]["datatype"] == datatype
    raw = np.array(numbers, np.float16).tobytes() if datatype == "FP16" else \
        (np.array(numbers, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    status, head, body = every.request("POST", f"/v2/models/{datatype.lower()}/infer", raw,
                                       {"Inference-Header-Content-Length": "0"})
    n = int(head["Inference-Header-Content-Length"])
    assert status == 200 and body[n:] == raw and json.loads(body[:n])["outputs"][0]["parameters"] == {"binary_data_size": 6}


@pytest.mark.parametrize("binary", [True, False])
def test_strings(every, binary):
    words = np.array([b"one", b"", "zwölf".encode(), b"x" * 70000], dtype=np.object_)
    c = triton.InferenceServerClient(every.address)
    got = c.infer("bytes", [values("x", words, binary)],
                  outputs=[triton.InferRequestedOutput("y", binary_data=binary)]).as_numpy("y")
    assert [w if isinstance(w, bytes) else w.encode() for w in got] == list(words)
    c.close()


def test_strings_that_are_no_text_go_as_bytes(every):
    c = triton.InferenceServerClient(every.address)
    x = values("x", np.array([b"\xff\x00"], dtype=np.object_), True)
    with pytest.raises(InferenceServerException, match="not UTF-8"):
        c.infer("bytes", [x], outputs=[triton.InferRequestedOutput("y", binary_data=False)])
    assert c.infer("bytes", [x]).as_numpy("y")[0] == b"\xff\x00"
    c.close()


def test_a_raw_body_is_answered_in_binary(every):
    for accept in ({}, {"Accept-Encoding": "gzip"}):
        status, head, body = every.request("POST", "/v2/models/m/versions/1/infer", ROWS.tobytes(),
                                           {"Inference-Header-Content-Length": "0", **accept})
        n = int(head["Inference-Header-Content-Length"])
        assert status == 200 and head["Content-Type"] == "application/octet-stream"
        np.testing.assert_allclose(np.frombuffer(body[n:], np.float32).reshape(3, 2), expected(ROWS), rtol=1e-6)


def test_a_request_as_kserve_sends_it(every):
    """Nested data, parameters everywhere, an output by name, the id echoed."""
    status, head, body = every.post("/v2/models/m/infer", {
        "id": "9b1c", "parameters": {"sequence_id": 7, "tag": "x", "none": None},
        "inputs": [{"name": "x", "shape": [3, 4], "datatype": "FP32", "data": ROWS.tolist(),
                    "parameters": {"content_type": "np"}}],
        "outputs": [{"name": "y", "parameters": {"content_type": "np"}}]}, {"Content-Type": "application/json"})
    assert status == 200 and body["id"] == "9b1c" and list(body) == ["model_name", "model_version", "id", "outputs"]
    assert body["outputs"][0]["shape"] == [3, 2]
    np.testing.assert_allclose(body["outputs"][0]["data"], expected(ROWS).ravel(), rtol=1e-6)
    assert head["overtake-rows"] == "3"


# ---- codings


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("wanted", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_codings_with_tritonclient(every, sent, wanted, binary):
    x = np.tile(np.arange(4096, dtype=np.float32), (5, 1))
    how = {"request_compression_algorithm": sent, "response_compression_algorithm": wanted,
           "outputs": [triton.InferRequestedOutput("y", binary_data=binary)]}
    c = triton.InferenceServerClient(every.address)
    assert np.array_equal(c.infer("wide", [values("x", x, binary)], **how).as_numpy("y"), x)
    c.close()

    async def ask():
        a = triton_aio.InferenceServerClient(every.address)
        try:
            return (await a.infer("wide", [values("x", x, binary)], **how)).as_numpy("y")
        finally:
            await a.close()
    assert np.array_equal(asyncio.run(ask()), x)


def test_what_is_short_is_not_packed(every):
    body = json.dumps(one()).encode()
    for name, pack in (("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes), ("x-gzip", gzip.compress)):
        status, head, got = every.request("POST", "/v2/models/m/infer", pack(body),
                                          {"Content-Encoding": name, "Accept-Encoding": "gzip, deflate"})
        assert status == 200 and "Content-Encoding" not in head and json.loads(got)["outputs"], name


def test_what_is_long_is_packed_if_asked(every):
    body = json.dumps(one(shape=[2, 4096], data=[0.25] * 8192)).encode()
    for accept, got in ((None, None), ("gzip", "gzip"), ("deflate, br", "deflate"), ("gzip;q=0", None), ("br", None)):
        status, head, answer = every.request("POST", "/v2/models/wide/infer", body,
                                             {"Accept-Encoding": accept} if accept else {})
        assert status == 200 and head["Content-Encoding"] == got, accept
        assert (head["Vary"] == "Accept-Encoding") == (got is not None)
        text = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[got](answer)
        assert json.loads(text)["outputs"][0]["data"] == [0.25] * 8192
        assert got is None or len(answer) < len(text) / 4
    noise = np.random.default_rng(1).bytes(4 * 8192)  # does not shrink: it goes as it is
    status, head, answer = every.request("POST", "/v2/models/wide/infer", noise,
                                         {"Inference-Header-Content-Length": "0", "Accept-Encoding": "gzip"})
    assert status == 200 and "Content-Encoding" not in head and answer.endswith(noise)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_bombs_and_damage(every, pack):
    name = {"Content-Encoding": "gzip" if pack is gzip.compress else "deflate"}
    good = pack(json.dumps(one()).encode())

    def ask(body, path="/v2/models/m/infer"):
        status, _, answer = every.request("POST", path, body, name)
        return status, json.loads(answer)["error"]
    assert ask(pack(bytes(64 << 20)))[0] == 413  # 64 KiB that hold 64 MiB; the limit is 4
    assert ask(pack(b" " * (4 << 20) + b"{}"))[0] == 413
    for bad in (b"", good[:-1], good[:10], good + b"x", b"x" + good, good[:20] + b"\0\0\0\0" + good[24:]):
        assert ask(bad)[0] == 400, bad
    assert ask(pack(b" " * (2 << 20)), "/v2/repository/index")[0] == 413
    assert every.request("POST", "/v2/repository/index", pack(b'{"ready": true}'), name)[0] == 200
    assert every.request("POST", "/v2/models/m/infer", good, name)[0] == 200


def test_other_codings_are_415(every):
    for coding in ("br", "gzip, deflate", "nonsense"):
        status, head, body = every.request("POST", "/v2/models/m/infer", json.dumps(one()), {"Content-Encoding": coding})
        assert status == 415 and head["Accept-Encoding"] == "gzip, deflate" and coding in json.loads(body)["error"]


def test_many_bombs_at_a_time_hold_no_memory(every):
    """Bodies just within the limit, all in flight at once: none is kept once its call has ended."""
    body = gzip.compress(b" " * ((4 << 20) - 400) + json.dumps(one()).encode())
    for _ in range(30):
        status, _, answer = every.request("POST", "/v2/models/m/infer", body, {"Content-Encoding": "gzip"})
        assert status == 200, answer


# ---- extensions of Triton's


def test_shared_memory_is_refused(every):
    c = triton.InferenceServerClient(every.address)
    assert c.get_system_shared_memory_status() == [] and c.get_cuda_shared_memory_status() == []
    with pytest.raises(InferenceServerException, match="never mapped"):
        c.register_system_shared_memory("a", "/a", 64)
    with pytest.raises(InferenceServerException, match="never mapped"):
        c.register_cuda_shared_memory("a", b"AAAA", 0, 64)
    with pytest.raises(InferenceServerException, match="no region 'a'"):
        c.get_system_shared_memory_status("a")
    c.unregister_system_shared_memory("a")
    c.unregister_cuda_shared_memory()
    x = triton.InferInput("x", [1, 4], "FP32")
    x.set_shared_memory("a", 16)
    with pytest.raises(InferenceServerException, match="shared memory is not supported"):
        c.infer("m", [x])
    y = triton.InferRequestedOutput("y")
    y.set_shared_memory("a", 16)
    with pytest.raises(InferenceServerException, match="shared memory is not supported"):
        c.infer("m", [values("x", ROWS, True)], outputs=[y])
    c.close()


def test_traces_and_log_cannot_be_set(every):
    c = triton.InferenceServerClient(every.address)
    assert c.get_trace_settings()["trace_level"] == ["OFF"] and c.get_trace_settings("m")["trace_level"] == ["OFF"]
    assert c.get_log_settings()["log_error"] is True
    for refused in (lambda: c.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}),
                    lambda: c.update_trace_settings("m", {}), lambda: c.update_log_settings({"log_info": False})):
        with pytest.raises(InferenceServerException, match="are the server's"):
            refused()
    with pytest.raises(InferenceServerException, match="not known"):
        c.get_trace_settings("nothing")
    assert every.request("DELETE", "/v2/logging")[0] == 405 and every.request("GET", "/v2/logging/x")[0] == 404
    assert every.request("GET", "/v2/systemsharedmemory/region/a/else")[0] == 404
    c.close()


def test_statistics_and_configuration(every):
    c = triton.InferenceServerClient(every.address)
    x = values("x", np.zeros((2, 4), np.float32), True)
    before = c.get_inference_statistics("m", "1")["model_stats"][0]["inference_count"]
    c.infer("m", [x])
    after = c.get_inference_statistics("m", "1")["model_stats"][0]
    assert after["inference_count"] == before + 2 and after["inference_stats"]["success"]["count"] >= 1
    assert {m["name"] for m in c.get_inference_statistics()["model_stats"]} >= {"m", "bytes", "fp16"}
    assert c.get_model_config("m", "1")["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert c.get_model_config("bytes")["input"][0]["data_type"] == "TYPE_STRING"
    c.close()
