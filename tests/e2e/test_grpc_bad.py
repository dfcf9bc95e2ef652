"""gRPC calls that are broken, dropped or sent over the wrong protocol: each gets the answer that it should,
and the server goes on."""

import gzip
import random
import shutil
import subprocess
import threading
import zlib

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

import replica as r
from linear_model import ROWS, expected

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
INFER = "/inference.GRPCInferenceService/ModelInfer"


def ask(**more):
    q = pb.ModelInferRequest(model_name="m", **more)
    q.inputs.add(name="x", datatype="FP32", shape=ROWS.shape)
    q.raw_input_contents.append(np.asarray(ROWS, np.float32).tobytes())
    return q.SerializeToString()


def frame(message, flag=0, length=None):
    n = len(message) if length is None else length
    return bytes([flag]) + n.to_bytes(4, "big") + message


def curl(server, body, path=INFER, version="--http2-prior-knowledge", method="POST", **headers):
    """(HTTP status, head fields, body) of a request as it stands; trailers are among the fields."""
    fields = {"content-type": "application/grpc", "te": "trailers", **headers}
    command = ["curl", "-s", "-i", version, "-X", method, "--data-binary", "@-", "--max-time", str(r.PATIENCE)]
    for k, v in fields.items():
        command += ["-H", f"{k.replace('_', '-')}: {v}"]
    done = subprocess.run([*command, f"http://{server.address}{path}"], input=body, capture_output=True,
                          check=True)
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), rest


GOOD = ask()
FRAMES = {
    "no message": (b"", {}, "12", "no message"),
    "a prefix cut short": (b"\0\0\0", {}, "3", "cut short"),
    "a message cut short": (frame(GOOD)[:-1], {}, "3", "cut short"),
    "a length that lies": (frame(GOOD, length=len(GOOD) + 1), {}, "3", "cut short"),
    "a length of 4 GiB": (frame(GOOD, length=0xffffffff), {}, "8", "4294967295 bytes"),
    "two messages": (frame(GOOD) * 2, {}, "12", "one message"),
    "a flag that is none": (frame(GOOD, 2), {}, "3", "compressed flag is 2"),
    "compressed without a coding": (frame(gzip.compress(GOOD), 1), {}, "13", "grpc-encoding"),
    "another coding": (frame(GOOD), {"grpc_encoding": "snappy"}, "12", "'snappy'"),
    "no gzip": (frame(GOOD, 1), {"grpc_encoding": "gzip"}, "3", "damaged"),
    "gzip cut short": (frame(gzip.compress(GOOD)[:-3], 1), {"grpc_encoding": "gzip"}, "3", "cut short"),
    "gzip for deflate": (frame(gzip.compress(GOOD), 1), {"grpc_encoding": "deflate"}, "3", "damaged"),
    "a bomb": (frame(gzip.compress(bytes(80 << 20)), 1), {"grpc_encoding": "gzip"}, "8", "unpacked"),
    "a timeout that is none": (frame(GOOD), {"grpc_timeout": "1h"}, "3", "grpc-timeout '1h'"),
}


@needs_curl
@pytest.mark.parametrize("name", FRAMES)
def test_broken_frames(linear, name):
    body, headers, status, text = FRAMES[name]
    code, fields, rest = curl(linear, body, **headers)
    assert code == 200 and fields["grpc-status"] == status and text in fields["grpc-message"], fields
    assert fields["content-type"] == "application/grpc" and not rest
    if status == "12":
        assert fields["grpc-accept-encoding"] == "identity,gzip,deflate"


@needs_curl
def test_whole_frames(linear):
    for body, headers in ((frame(GOOD), {}), (frame(gzip.compress(GOOD), 1), {"grpc_encoding": "gzip"}),
                          (frame(zlib.compress(GOOD), 1), {"grpc_encoding": "deflate"}),
                          (frame(GOOD), {"grpc_encoding": "gzip"}), (frame(GOOD), {"grpc_timeout": "30S"}),
                          (frame(GOOD), {"content-type": "application/grpc+proto"})):
        code, fields, rest = curl(linear, body, **headers)
        assert code == 200 and fields["content-type"] == "application/grpc"
        n = int.from_bytes(rest[1:5], "big")
        got = pb.ModelInferResponse.FromString(rest[5:5 + n])
        np.testing.assert_allclose(np.frombuffer(got.raw_output_contents[0], np.float32).reshape(3, 2),
                                   expected(ROWS), rtol=1e-6)


@needs_curl
def test_what_is_no_call(linear):
    """Answered in HTTP's words, since there is nobody who reads gRPC's."""
    for code, text, how in (
            (415, "application/json", {"content-type": "application/json"}),
            (415, "application/grpc-web", {"content-type": "application/grpc-web"}),
            (415, "application/grpc+json", {"content-type": "application/grpc+json"}),
            (405, "POST", {"method": "PUT"}),
            (505, "HTTP/2", {"version": "--http1.1"}),
            (505, "HTTP/2", {"version": "--http1.1", "path": "/any.Service/Method"}),
            (505, "HTTP/2", {"version": "--http1.1", "content-type": "application/json"})):
        status, _, body = curl(linear, frame(GOOD), **how)
        assert status == code and text in body.decode(), (how, status, body)
    assert linear.get("/v2/health/live") == {"live": True}


# ---- streams that break


def stream_end(channel, *bodies):
    """What a stream gives until it ends: (answers, its status)."""
    fn = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    call, got = fn(iter(bodies), timeout=r.PATIENCE), []
    try:
        for answer in call:
            got.append(pb.ModelStreamInferResponse.FromString(answer))
    except grpc.RpcError:
        pass
    return got, call


def test_stream_with_bad_messages(linear):
    """A message that is wrong is answered as such and the stream goes on."""
    with grpc.insecure_channel(linear.address) as channel:
        got, call = stream_end(channel, ask(id="a"), b"\xff\xff", ask(id="b"), ask(id="c", model_version="7"),
                               ask(id="d"))
        assert call.code() == grpc.StatusCode.OK
        assert [bool(g.error_message) for g in got] == [False, True, False, True, False]
        assert "ModelInferRequest" in got[1].error_message and "version 7" in got[3].error_message
        assert [g.infer_response.id for g in got] == ["a", "", "b", "c", "d"]
        long = pb.ModelInferRequest(model_name="m")
        long.inputs.add(name="ż" * 79 + "x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
        got, call = stream_end(channel, long.SerializeToString(), b"\x0a\x01m\x2a\x06\x0a\x01x\x12\x01\xff")
        assert call.code() == grpc.StatusCode.OK and all(g.error_message for g in got) and len(got) == 2
        got, call = stream_end(channel)
        assert not got and call.code() == grpc.StatusCode.OK


@needs_curl
def test_stream_with_broken_frames(linear):
    """What came before a broken frame is answered; then the stream ends and says why."""
    path = "/inference.GRPCInferenceService/ModelStreamInfer"
    for tail, status, text in ((frame(GOOD)[:-1], "3", "cut short"), (b"\0\0", "3", "cut short"),
                               (b"\7", "3", "flag is 7"), (frame(b"", length=0xf0000000), "8", "4026531840")):
        code, fields, rest = curl(linear, frame(GOOD) + tail, path)
        assert code == 200
        n = int.from_bytes(rest[1:5], "big")
        assert pb.ModelStreamInferResponse.FromString(rest[5:5 + n]).infer_response.outputs
        trailers = dict(line.split(": ", 1) for line in rest[5 + n:].decode().strip().split("\r\n"))
        assert trailers["grpc-status"] == status and text in trailers["grpc-message"], trailers


def test_slow_reader(linear):
    """A client that sends and does not read is held, and gets every answer in the end."""
    with grpc.insecure_channel(linear.address) as channel:
        n, sent = 3000, 0
        x = np.zeros((2048, 4), np.float32)
        q = pb.ModelInferRequest(model_name="m")
        q.inputs.add(name="x", datatype="FP32", shape=x.shape)
        q.raw_input_contents.append(x.tobytes())

        def messages():
            nonlocal sent
            for sent in range(1, n + 1):
                q.id = str(sent)
                yield q
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(messages(), timeout=r.PATIENCE)
        ids = [next(call).infer_response.id]
        with grpc.insecure_channel(linear.address) as other:
            def held():  # while others are not
                before = sent
                for _ in range(30):
                    other.unary_unary(INFER)(GOOD, timeout=r.PATIENCE)
                return sent == before
            r.wait_for("nothing more is taken", held)
            assert sent < n
        ids += [a.infer_response.id for a in call]
        assert ids == [str(k) for k in range(1, n + 1)]


# ---- clients that go


def memory_kib(server):
    with open(f"/proc/{server.process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def drop_unary(server, count, seed):
    """Calls of which most are cancelled at random moments. How many ended well."""
    rng, good = random.Random(seed), 0
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        fn = channel.unary_unary(INFER)
        while count > 0:
            calls = [fn.future(GOOD, timeout=r.PATIENCE) for _ in range(min(count, 50))]
            count -= len(calls)
            for call in calls:
                if rng.random() < 0.7:
                    call.cancel()
            for call in calls:
                good += not call.cancelled() and call.code() == grpc.StatusCode.OK
    return good


def drop_streams(server, count, seed):
    """Streams that are cancelled after some of their answers, some with a connection that just goes."""
    rng, answers = random.Random(seed), 0
    while count > 0:
        with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            fn = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            for _ in range(min(count, 10)):
                count -= 1
                call = fn(iter([GOOD] * rng.randrange(1, 40)), timeout=r.PATIENCE)
                for _, answer in zip(range(rng.randrange(0, 20)), call):
                    answers += not pb.ModelStreamInferResponse.FromString(answer).error_message
                if rng.random() < 0.8:
                    call.cancel()
    return answers


@pytest.mark.parametrize("pooled", [False, True])
def test_dropped_calls(tmp_path, serve, pooled):
    """Thousands of calls in flight are dropped: nothing is kept, and what was answered was counted."""
    r.make_bundle(tmp_path / "models" / "m", r.linear(np.ones((4, 2)), delay_us=1000 if pooled else 0), golden=ROWS)
    s = serve(tmp_path / "models", "--workers", 2, *(["--inline", "1us"] if pooled else []))
    good = []

    def storm(seed, calls):
        def run(fn, n, k):
            good.append(fn(s, n, k))
        threads = [threading.Thread(target=run, args=(fn, n, seed * 10 + k))
                   for k, (fn, n) in enumerate(((drop_unary, calls), (drop_unary, calls), (drop_streams, calls // 8)))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    storm(1, 600)
    before = memory_kib(s)
    storm(2, 1500)
    metrics = s.request("GET", "/metrics")[2].decode()
    counted = sum(int(line.split()[-1]) for line in metrics.splitlines()
                  if line.startswith("overtake_requests_total{"))
    assert counted >= sum(good) > 0
    assert sum(int(line.split()[-1]) for line in metrics.splitlines()
               if line.startswith("overtake_failed_total{")) == 0
    if r.BUILD.name != "asan":  # which keeps freed memory apart, and finds leaks when the server ends
        assert memory_kib(s) < before + 8192, "what clients left behind is kept"
    with grpc.insecure_channel(s.address) as channel:
        assert channel.unary_unary(INFER)(GOOD, timeout=r.PATIENCE)
    s.stop()
