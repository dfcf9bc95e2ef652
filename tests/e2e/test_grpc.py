"""gRPC through clients as they are: tritonclient, grpcio, its health and reflection; raw HTTP/2 where a
client of theirs would not send what is sent."""

import json
import queue
import re
import shutil
import subprocess

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

import replica as r
from linear_model import ROWS, expected
from test_listeners import Authority

METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def channel(linear):
    with grpc.insecure_channel(linear.address) as c:
        yield c


def ask(x=ROWS, **more):
    q = pb.ModelInferRequest(model_name="m", **more)
    q.inputs.add(name="x", datatype="FP32", shape=x.shape)
    q.raw_input_contents.append(np.asarray(x, np.float32).tobytes())
    return q


def call(channel, method=METHOD, body=None, metadata=(), timeout=r.PATIENCE, compression=None):
    """(response bytes, call) of a unary call whose message is bytes."""
    fn = channel.unary_unary(method)
    return fn.with_call(body, metadata=metadata, timeout=timeout, compression=compression)


def refused(channel, method=METHOD, body=b"", **how):
    with pytest.raises(grpc.RpcError) as e:
        call(channel, method, body, **how)
    return e.value


def infer(channel, q, **how):
    data, done = call(channel, body=q.SerializeToString(), **how)
    return pb.ModelInferResponse.FromString(data), done


# ---- tritonclient


def test_tritonclient(linear):
    c = triton.InferenceServerClient(linear.address)
    assert c.is_server_live() and c.is_server_ready() and c.is_model_ready("m")
    assert c.is_model_ready("m", "1") and not c.is_model_ready("m", "9")
    assert not c.is_model_ready("nothing")
    assert c.get_server_metadata().name == "overtake"
    m = c.get_model_metadata("m")
    assert m.name == "m" and list(m.versions) == ["1"]
    assert m.inputs[0].name == "x" and list(m.inputs[0].shape) == [-1, 4]
    config = c.get_model_config("m").config
    assert config.name == "m" and config.max_batch_size == 64 and list(config.input[0].dims) == [4]
    assert config.backend and c.get_model_config("m", as_json=True)["config"]["input"][0]["data_type"] == \
        "TYPE_FP32"
    x = triton.InferInput("x", list(ROWS.shape), "FP32")
    x.set_data_from_numpy(ROWS)
    got = c.infer("m", [x], outputs=[triton.InferRequestedOutput("y")], request_id="7",
                  model_version="1")
    np.testing.assert_allclose(got.as_numpy("y"), expected(ROWS), rtol=1e-6)
    response = got.get_response()
    assert (response.id, response.model_name, response.model_version) == ("7", "m", "1")
    stats = c.get_inference_statistics("m").model_stats[0]
    assert stats.inference_count == 3 and stats.inference_stats.success.count == 1
    assert len(c.get_inference_statistics().model_stats) == 1
    for model, code, text in (("nothing", "NOT_FOUND", "'nothing'"), ("m", "INVALID_ARGUMENT", "'q'")):
        with pytest.raises(triton.InferenceServerException) as e:
            c.infer(model, [x], outputs=[triton.InferRequestedOutput("q")])
        assert code in e.value.status() and text in e.value.message()
    c.close()


def test_callbacks(linear):
    c = triton.InferenceServerClient(linear.address)
    x = triton.InferInput("x", list(ROWS.shape), "FP32")
    x.set_data_from_numpy(ROWS)
    answers = queue.Queue()
    for _ in range(50):
        c.async_infer("m", [x], lambda result, error: answers.put((result, error)))
    for _ in range(50):
        result, error = answers.get(timeout=r.PATIENCE)
        assert error is None
        np.testing.assert_allclose(result.as_numpy("y"), expected(ROWS), rtol=1e-6)
    c.close()


def test_asyncio(linear):
    import asyncio

    import tritonclient.grpc.aio as aio

    async def run():
        async with aio.InferenceServerClient(linear.address) as c:
            x = aio.InferInput("x", list(ROWS.shape), "FP32")
            x.set_data_from_numpy(ROWS)
            for got in await asyncio.gather(*(c.infer("m", [x]) for _ in range(20))):
                np.testing.assert_allclose(got.as_numpy("y"), expected(ROWS), rtol=1e-6)

            async def requests():
                for k in range(10):
                    yield {"model_name": "m", "inputs": [x], "request_id": str(k)}
            ids = []
            async for result, error in c.stream_infer(requests()):
                assert error is None
                ids.append(result.get_response().id)
            assert ids == [str(k) for k in range(10)]
    asyncio.run(run())


def test_stream(linear):
    """Answers in the order of requests, a failure among them, ids and prediction ids in each."""
    c = triton.InferenceServerClient(linear.address)
    answers = queue.Queue()
    c.start_stream(lambda result, error: answers.put((result, error)))
    x = triton.InferInput("x", list(ROWS.shape), "FP32")
    x.set_data_from_numpy(ROWS)
    n = 300
    for k in range(n):
        c.async_stream_infer("nothing" if k % 7 == 3 else "m", [x], request_id=str(k))
    seen = set()
    for k in range(n):
        result, error = answers.get(timeout=r.PATIENCE)
        if k % 7 == 3:
            assert "nothing" in error.message()
            continue
        assert error is None
        response = result.get_response()
        assert response.id == str(k)
        np.testing.assert_allclose(result.as_numpy("y"), expected(ROWS), rtol=1e-6)
        assert response.parameters["triton_final_response"].bool_param
        assert response.parameters["overtake-rows"].string_param == "3"
        seen.add(response.parameters["overtake-prediction-id"].string_param)
    assert len(seen) == n - len(range(3, n, 7))
    c.stop_stream()
    c.close()


def test_strings(models, tmp_path, serve):
    import shutil

    shutil.copytree(models / "onnx", tmp_path / "all")
    (tmp_path / "models" / "s").mkdir(parents=True)
    shutil.copy(tmp_path / "all" / "strings.onnx", tmp_path / "models" / "s")
    s = serve(tmp_path / "models")
    words = np.array([b"one", b"", "zwölf".encode()], dtype=np.object_)
    c = triton.InferenceServerClient(s.address)
    x = triton.InferInput("s", [3], "BYTES")
    x.set_data_from_numpy(words)
    assert list(c.infer("s", [x]).as_numpy("t")) == list(words)
    c.close()
    with grpc.insecure_channel(s.address) as channel:
        q = pb.ModelInferRequest(model_name="s")
        q.inputs.add(name="s", datatype="BYTES", shape=[3]).contents.bytes_contents.extend(words)
        got, _ = infer(channel, q)
        assert list(got.outputs[0].contents.bytes_contents) == list(words)
        assert not got.raw_output_contents


# ---- the messages


def test_typed_contents(channel):
    q = pb.ModelInferRequest(model_name="m", id="a")
    q.inputs.add(name="x", datatype="FP32", shape=[3, 4]).contents.fp32_contents.extend(
        ROWS.ravel().tolist())
    got, _ = infer(channel, q)
    y = np.array(got.outputs[0].contents.fp32_contents).reshape(got.outputs[0].shape)
    np.testing.assert_allclose(y, expected(ROWS), rtol=1e-6)
    assert not got.raw_output_contents and got.id == "a"
    q.parameters["binary_data_output"].bool_param = True
    got, _ = infer(channel, q)
    np.testing.assert_allclose(np.frombuffer(got.raw_output_contents[0], np.float32).reshape(3, 2),
                               expected(ROWS), rtol=1e-6)


def test_metadata_as_over_rest(channel):
    _, done = infer(channel, ask())
    head = dict(done.initial_metadata())
    incarnation, seq, version, sampled, rows = r.prediction_id(head)
    assert version == 1 and rows == 3
    for metadata in ([("overtake-key", "abc")], [("overtake-version", "1")]):
        infer(channel, ask(), metadata=metadata)
    error = refused(channel, body=ask().SerializeToString(), metadata=[("overtake-version", "9")])
    assert error.code() == grpc.StatusCode.NOT_FOUND and "version 9" in error.details()


BAD = {
    "not protobuf": (b"\xff\xff\xff", "INVALID_ARGUMENT", "ModelInferRequest: byte 0"),
    "cut short": (ask().SerializeToString()[:-1], "INVALID_ARGUMENT", "field 7"),
    "a field of another type": (b"\x28\x01", "INVALID_ARGUMENT", "field 'inputs' (5)"),
    "no inputs": (b"\x0a\x01m", "INVALID_ARGUMENT", "inputs"),
    "unknown model": (ask().SerializeToString().replace(b"\x0a\x01m", b"\x0a\x01q", 1), "NOT_FOUND", "'q'"),
    "wrong shape": (ask(np.zeros((2, 3))).SerializeToString(), "INVALID_ARGUMENT", "[-1,4]"),
    "shared memory": (b"", "INVALID_ARGUMENT", "shared memory is not supported"),
    "no version": (ask(model_version="9").SerializeToString(), "NOT_FOUND", "version 9"),
    "no label": (ask(model_version="beta").SerializeToString(), "NOT_FOUND", "'beta'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_messages(channel, name):
    body, code, text = BAD[name]
    if name == "shared memory":
        q = ask()
        q.inputs[0].parameters["shared_memory_region"].string_param = "/mine"
        body = q.SerializeToString()
    error = refused(channel, body=body)
    assert error.code().name == code and text in error.details(), error
    infer(channel, ask())


def test_unknown_methods(channel):
    for method in ("/inference.GRPCInferenceService/Nothing", "/no.Service/Method", "/x"):
        error = refused(channel, method)
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED and method in error.details()


def test_what_of_tritons_is_not_here(linear):
    c = triton.InferenceServerClient(linear.address)
    assert not c.get_system_shared_memory_status().regions
    assert not c.get_cuda_shared_memory_status().regions
    c.unregister_system_shared_memory()
    c.unregister_cuda_shared_memory()
    for fn, text in ((lambda: c.register_system_shared_memory("a", "/a", 64), "never mapped"),
                     (lambda: c.register_cuda_shared_memory("a", b"aGk=", 0, 64), "never mapped"),
                     (c.get_trace_settings, "traces"), (c.get_log_settings, "log")):
        with pytest.raises(triton.InferenceServerException, match=text) as e:
            fn()
        assert "UNIMPLEMENTED" in e.value.status()
    c.close()


def test_repository(tmp_path, serve):
    for name in ("a", "b"):
        r.write_raw(tmp_path / "models" / name, r.linear(np.eye(2)))
    s = serve(tmp_path / "models", "--model-control", "explicit")
    c = triton.InferenceServerClient(s.address)

    def index(**how):
        q = pb.RepositoryIndexRequest(**how)
        return {m.name: m.state for m in service_pb2_grpc.GRPCInferenceServiceStub(
            c._channel).RepositoryIndex(q).models}
    assert index() == {"a": "UNAVAILABLE", "b": "UNAVAILABLE"} and index(ready=True) == {}
    c.load_model("a")
    assert index(ready=True) == {"a": "READY"} and c.is_model_ready("a")
    c.unload_model("a", unload_dependents=True)
    r.wait_for("the model has gone", lambda: not c.is_model_ready("a"))
    for fn, code in ((lambda: c.load_model("zzz"), "NOT_FOUND"), (lambda: c.unload_model("b"), "NOT_FOUND"),
                     (lambda: c.load_model("a", config="{}"), "INVALID_ARGUMENT")):
        with pytest.raises(triton.InferenceServerException) as e:
            fn()
        assert code in e.value.status()
    c.close()


# ---- compression, limits, deadlines


def test_compressed(channel):
    q = ask(np.zeros((500, 4)))
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        got, _ = infer(channel, q, compression=compression)
        assert list(got.outputs[0].shape) == [500, 2]


def test_message_limit(tmp_path, serve):
    """--body-max is of a message: exactly as much is taken, one byte more is refused, in a stream too."""
    limit = 100_000
    r.write_raw(tmp_path / "models" / "m", r.linear(np.ones((4, 2))))
    s = serve(tmp_path / "models", "--body-max", limit)
    with grpc.insecure_channel(s.address) as channel:
        def sized(n):
            q = ask(np.zeros(((n - 200) // 16, 4)))
            q.id = "i"
            q.id = "i" * (n - q.ByteSize() + 1 - (1 if n - q.ByteSize() > 126 else 0))
            assert q.ByteSize() == n
            return q
        infer(channel, sized(limit))
        for compression in (None, grpc.Compression.Gzip):
            error = refused(channel, body=sized(limit + 1).SerializeToString(), compression=compression)
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = stub.ModelStreamInfer(iter([sized(limit), ask(), sized(limit + 1), ask()]), timeout=r.PATIENCE)
        assert next(answers).infer_response.outputs and next(answers).infer_response.outputs
        with pytest.raises(grpc.RpcError) as e:
            next(answers)
        assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and str(limit) in e.value.details()


def test_full_queue(tmp_path, serve):
    """RESOURCE_EXHAUSTED says when to come again, as google.rpc.RetryInfo."""
    r.make_bundle(tmp_path / "models" / "m", r.linear(np.ones((4, 2)), delay_us=100_000), golden=ROWS,
                  batch=0)
    s = serve(tmp_path / "models", "--workers", 1, "--pool-threads", 1, "--queue", 2)
    with grpc.insecure_channel(s.address) as channel:
        fn = channel.unary_unary(METHOD)
        calls = [fn.future(ask().SerializeToString(), timeout=r.PATIENCE) for _ in range(30)]
        full = [c for c in calls if c.code() != grpc.StatusCode.OK]
        assert 0 < len(full) < 30 and {c.code() for c in full} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        trailers = dict(full[0].trailing_metadata())
        assert int(trailers["grpc-retry-pushback-ms"]) >= 1000
        details = trailers["grpc-status-details-bin"]
        assert b"type.googleapis.com/google.rpc.RetryInfo" in details and details.startswith(b"\x08\x08\x12")


def test_deadline(tmp_path, serve):
    """grpc-timeout is the server's deadline too: who waits too long is refused and not run."""
    r.make_bundle(tmp_path / "models" / "m", r.linear(np.ones((4, 2)), delay_us=200_000), golden=ROWS,
                  batch=0)
    s = serve(tmp_path / "models", "--workers", 1, "--pool-threads", 1)
    with grpc.insecure_channel(s.address) as channel:
        fn = channel.unary_unary(METHOD)
        calls = [fn.future(ask().SerializeToString(), timeout=1.5) for _ in range(40)]
        codes = [c.code().name for c in calls]
        assert "OK" in codes and set(codes) <= {"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
        assert codes.count("OK") < 10
        error = refused(channel, body=ask().SerializeToString(), metadata=[("overtake-deadline-ms", "x")])
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    stats = s.get("/v2/models/m/stats")["model_stats"][0]
    assert stats["execution_count"] < 15


# ---- health and reflection


def test_health(tmp_path, serve):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    r.write_raw(tmp_path / "models" / "m", r.linear(np.ones((4, 2))))
    s = serve(tmp_path / "models")
    with grpc.insecure_channel(s.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        serving, gone = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

        def check(name):
            return stub.Check(health_pb2.HealthCheckRequest(service=name)).status
        for name in ("", "inference.GRPCInferenceService", "m"):
            assert check(name) == serving
        with pytest.raises(grpc.RpcError) as e:
            check("nothing")
        assert e.value.code() == grpc.StatusCode.NOT_FOUND and "'nothing'" in e.value.details()
        listed = stub.List(health_pb2.HealthListRequest()).statuses
        assert listed[""].status == listed["m"].status == serving and "grpc.health.v1.Health" in listed
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="m"), timeout=r.PATIENCE)
        nobody = stub.Watch(health_pb2.HealthCheckRequest(service="nobody"), timeout=r.PATIENCE)
        assert next(watch).status == serving and next(nobody).status == gone
        nobody.cancel()
        s.post("/v2/repository/models/m/unload")
        assert next(watch).status == gone
        s.post("/v2/repository/models/m/load")
        assert next(watch).status == serving
        whole = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=r.PATIENCE)
        assert next(whole).status == serving
        idle = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(queue.Queue().get, None),
                                                                                  timeout=r.PATIENCE)
        s.stop()
        assert next(whole).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for stream in (whole, watch, idle):
            with pytest.raises(grpc.RpcError) as e:
                while True:
                    next(stream)
            assert e.value.code() == grpc.StatusCode.UNAVAILABLE


def test_reflection(channel):
    """All that a tool needs to call a method that it was not compiled with; and our files say what
    tritonclient's do."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import proto_reflection_descriptor_database as database
    from grpc_reflection.v1alpha import reflection_pb2

    db = database.ProtoReflectionDescriptorDatabase(channel)
    names = set(db.get_services())
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection"} <= names
    pool = descriptor_pool.DescriptorPool(db)
    for name in names:
        assert pool.FindServiceByName(name).methods
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    method = service.methods_by_name["ModelInfer"]
    q = message_factory.GetMessageClass(method.input_type)()
    q.ParseFromString(ask().SerializeToString())
    data, _ = call(channel, body=q.SerializeToString())
    answer = message_factory.GetMessageClass(method.output_type)()
    answer.ParseFromString(data)
    assert answer.outputs[0].name == "y"

    def bare(file):
        f = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(f)
        for m in f.service[0].method:
            m.ClearField("options")
        return f.message_type, f.service, f.enum_type
    for ours, theirs in ((service.file, pb.DESCRIPTOR),
                         (pool.FindServiceByName("grpc.health.v1.Health").file, health_pb2.DESCRIPTOR)):
        assert list(map(str, bare(ours)[0])) == list(map(str, bare(theirs)[0]))
        assert sorted(m.name for m in bare(ours)[1][0].method) == sorted(m.name for m in bare(theirs)[1][0].method)
    config = {f.name: f.number for f in pool.FindMessageTypeByName("inference.ModelConfig").fields}
    theirs = triton.model_config_pb2.ModelConfig.DESCRIPTOR.fields_by_name
    assert all(theirs[name].number == number for name, number in config.items())

    # The newer version, and what is not there.
    ask_v1 = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                   request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                                   response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
    R = reflection_pb2.ServerReflectionRequest
    got = list(ask_v1(iter([R(list_services="*", host="h"), R(file_by_filename="model_config.proto"),
                            R(file_containing_symbol="inference.GRPCInferenceService.ModelInfer"),
                            R(file_containing_symbol="no.Such"), R(file_by_filename="no.proto"),
                            R(all_extension_numbers_of_type="inference.ModelInferRequest"),
                            R(file_containing_extension=reflection_pb2.ExtensionRequest(containing_type="a"))]),
                        timeout=r.PATIENCE))
    assert {s.name for s in got[0].list_services_response.service} == names
    assert got[0].valid_host == "h" and got[0].original_request.list_services == "*"
    assert len(got[1].file_descriptor_response.file_descriptor_proto) == 1
    assert len(got[2].file_descriptor_response.file_descriptor_proto) == 2
    assert [g.error_response.error_code for g in got[3:5]] == [5, 5]
    assert got[5].all_extension_numbers_response.base_type_name == "inference.ModelInferRequest"
    assert got[6].error_response.error_code == 5
    with pytest.raises(grpc.RpcError) as e:
        list(ask_v1(iter([R()]), timeout=r.PATIENCE))
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT


# ---- listeners and load


def test_over_tls(tmp_path, serve):
    """The same over TLS, by ALPN; a client that has no certificate where one is asked for is not let in."""
    authority = Authority("tests")
    cert, key = authority.issue(tmp_path, "server")
    mine, my_key = (p.read_bytes() for p in authority.issue(tmp_path, "client"))
    (tmp_path / "ca.pem").write_bytes(authority.pem())
    r.write_raw(tmp_path / "models" / "m", r.linear(np.ones((4, 2))))
    s = serve(tmp_path / "models", "--listen-tls", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key,
              "--tls-client-ca", tmp_path / "ca.pem")
    address = json.loads(s.process.stdout.readline())["listening"]
    port = address.rsplit(":", 1)[1]
    good = grpc.ssl_channel_credentials(authority.pem(), my_key, mine)
    with grpc.secure_channel(f"localhost:{port}", good) as channel:
        got, _ = infer(channel, ask())
        assert list(got.outputs[0].shape) == [3, 2]
    with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(authority.pem())) as channel:
        assert refused(channel, body=ask().SerializeToString()).code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_h2load(tmp_path, linear):
    """Many calls of many connections share runs; each is answered and counted once."""
    message = ask().SerializeToString()
    (tmp_path / "framed").write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    done = subprocess.run(["h2load", "-n", "4000", "-c", "16", "-m", "8", "-d", tmp_path / "framed",
                           "-H", "content-type: application/grpc", "-H", "te: trailers",
                           f"http://{linear.address}{METHOD}"], capture_output=True, text=True, check=True)
    assert "4000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout
    assert int(re.search(r"status codes: (\d+) 2xx", done.stdout)[1]) == 4000
    stats = linear.get("/v2/models/m/stats")["model_stats"][0]
    assert stats["inference_count"] == 3 * 4000 and stats["execution_count"] < 4000
    assert stats["inference_stats"]["fail"]["count"] == 0
