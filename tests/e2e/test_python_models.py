"""Models that are a Python class: served, batched, and held to what a worker process may do."""

import json
import os
import pathlib
import sys
import textwrap
import threading

import numpy as np
import pytest

import replica as r
from linear_model import ROWS, W, Load, check_linear, expected
from test_isolation import children, worker_of

LINEAR = f"""
    import numpy as np
    W = np.array({W}, np.float32)

    class Model:
        signature = {{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [-1, 4]}}],
                     "outputs": [{{"name": "y", "datatype": "FP32", "shape": [-1, 2]}}]}}

        def predict(self, inputs):
            return {{"y": inputs["x"] @ W}}
    """

# One string says what to do, one string says how that went.
TRIES = """
    import os, socket, subprocess, sys, ctypes

    class Model:
        signature = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1]}],
                     "outputs": [{"name": "y", "datatype": "BYTES", "shape": [1]}]}

        def predict(self, inputs):
            try:
                return {"y": [str(eval(inputs["x"][0].decode()))]}
            except Exception as e:
                return {"y": [type(e).__name__]}
    """


@pytest.fixture(scope="module", autouse=True)
def needs_the_plugin():
    if not (r.BUILD / "plugins" / "overtake_python.so").exists():
        pytest.skip("the plug-in python is not built")


def write(folder, text):
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(textwrap.dedent(text))
    return folder


@pytest.fixture
def env(monkeypatch):
    """The interpreter that runs this is the one that models get."""
    monkeypatch.setenv("OVERTAKE_PYTHON_LIB", sys.executable)


@pytest.fixture
def start(serve, env):
    return serve


def ask(s, text, model="t"):
    status, _, body = s.post(f"/v2/models/{model}/infer", {
        "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [text]}]})
    assert status == 200, body
    return body["outputs"][0]["data"][0]


def test_answers_and_batches(tmp_path, start):
    write(tmp_path / "models" / "m", LINEAR)
    s = start(tmp_path / "models", "--workers", 1)
    m = s.get("/v2/models/m")
    assert m["parameters"]["batch"] > 1 and "in a worker process" in m["parameters"]["note"]
    load = Load(s, check_linear, clients=12)
    threading.Event().wait(1)
    sent = load.end()
    stats = s.get("/v2/models/m/stats")["model_stats"][0]
    assert stats["execution_count"] < stats["inference_count"] and sent > 0


def test_a_bundle_says_the_signature(tmp_path, start):
    import hashlib
    folder = tmp_path / "models" / "b"
    code = textwrap.dedent("""
        class Model:
            def predict(self, inputs):
                return {"y": inputs["x"] * 2}
        """).encode()
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.py").write_bytes(code)
    spec = {"datatype": "FP32", "shape": [-1, 4]}
    (folder / "manifest.json").write_text(json.dumps({
        "schema": "overtake.bundle/1", "format": "python", "inputs": [{"name": "x", **spec}],
        "outputs": [{"name": "y", **spec}], "batch": {"axis": 0, "max": 8},
        "files": [{"path": "model/model.py", "size": len(code), "sha256": hashlib.sha256(code).hexdigest()}]}))
    s = start(tmp_path / "models")
    status, _, body = s.infer("b", ROWS)
    assert status == 200 and body["outputs"][0]["data"] == (ROWS * 2).ravel().tolist()


def test_exceptions_are_answers(tmp_path, start):
    write(tmp_path / "models" / "m", LINEAR.replace('return {', """if inputs["x"][0, 0] == 5:
                raise ValueError("five is not allowed")
            if inputs["x"][0, 0] == 6:
                return {}["nothing"]
            return {"""))
    s = start(tmp_path / "models")
    status, _, body = s.infer("m", [[5, 0, 0, 0]])
    assert status == 400 and "ValueError: five is not allowed (model.py:" in body["error"], body
    status, _, body = s.infer("m", [[6, 0, 0, 0]])
    assert status == 500 and "KeyError: 'nothing' (model.py:" in body["error"], body
    log = body["error"].rpartition("the whole is in ")[2]
    assert "Traceback" in pathlib.Path(log).read_text()
    assert s.infer("m", ROWS)[0] == 200


@pytest.mark.parametrize("text,says", [
    ("class Model:\n    pass\n", "no method predict"),
    ("x = 1\n", "no class Model"),
    ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module' (model.py:1)"),
    ("class Model:\n    def predict(self, inputs):\n        return {}\n", "needs signature"),
    ("class Model:\n    signature = {'inputs': [{'name': 'x', 'datatype': 'FP33', 'shape': [1]}], 'outputs': [1]}\n"
     "    def predict(self, inputs):\n        return {}\n", "FP33"),
    ("import os\nos._exit(7)\n", "ended by itself with code 7"),
    ("import ctypes\nctypes.string_at(0)\n", "signal 11"),
    ("def f(:\n", "SyntaxError"),
])
def test_what_cannot_be_loaded_says_why(tmp_path, start, text, says):
    write(tmp_path / "models" / "m", text)
    s = start(tmp_path / "models", ready=False)
    r.wait_for(says, lambda: says in pathlib.Path(s.log_path).read_text())
    assert children(s.process.pid) == {}


def test_what_code_may_not_do(tmp_path, start):
    write(tmp_path / "models" / "t", TRIES)
    secret = tmp_path / "secret"
    secret.write_text("token")
    s = start(tmp_path / "models")
    note = s.get("/v2/models/t")["parameters"]["note"]
    if "Landlock" in note or "seccomp" in note:
        pytest.skip(note)
    assert ask(s, "1 + 1") == "2"
    for code in ("os.system('true')", "subprocess.run(['/bin/true'])", "os.fork()", "os.execv('/bin/true', ['true'])",
                 "socket.socket()", "socket.socketpair()", "os.kill(os.getppid(), 9)",
                 f"open({str(secret)!r})", f"open({str(tmp_path / 'new')!r}, 'w')", "open('/tmp/new', 'w')",
                 f"os.listdir({str(tmp_path)!r})", f"os.chmod({str(secret)!r}, 0o777)",
                 f"os.unlink({str(secret)!r})", f"os.rename({str(secret)!r}, 'x')",
                 f"os.symlink({str(secret)!r}, 'x')", f"os.link({str(secret)!r}, 'x')",
                 f"open('/proc/{s.process.pid}/environ').read()"):
        got = ask(s, code)
        assert got in ("PermissionError", "-1", "32512", "256"), (code, got)
    assert secret.read_text() == "token" and not (tmp_path / "new").exists()
    assert ask(s, "os.getcwd()").endswith("/cache")
    assert ask(s, "open('kept', 'w').write('abc')") == "3" and ask(s, "open('kept').read()") == "abc"
    assert ask(s, "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)") == "-1"  # not made readable again
    assert s.process.poll() is None and worker_of(s)


def test_a_crash_costs_one_request(tmp_path, start):
    write(tmp_path / "models" / "t", TRIES)
    s = start(tmp_path / "models")
    for code, says in (("os._exit(9)", "code 9"), ("ctypes.string_at(0)", "signal 11")):
        status, _, body = s.post("/v2/models/t/infer", {
            "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [code]}]})
        assert status == 503 and says in body["error"] and "model t version 1" in body["error"], body
        r.wait_for("it answers again", lambda: s.post("/v2/models/t/infer", {
            "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["1"]}]})[0] == 200)


def test_a_process_that_holds_too_much(tmp_path, start):
    """--process-memory: it is ended by name, its request says so, and it comes back."""
    write(tmp_path / "models" / "t", TRIES)
    s = start(tmp_path / "models", "--process-memory", "512MiB")
    assert ask(s, "len(b'x' * (64 << 20))") == str(64 << 20)
    status, _, body = s.post("/v2/models/t/infer", {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [
        "(globals().__setitem__('k', b'x' * (600 << 20)), __import__('threading').Event().wait())"]}]})
    assert status == 503 and "model t version 1" in body["error"], body
    assert "of memory, more than the 512 MiB that its process may (process_memory)" in body["error"], body
    r.wait_for("it answers again", lambda: s.post("/v2/models/t/infer", {
        "inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["1"]}]})[0] == 200)


def test_another_interpreter_is_an_answer(tmp_path, serve, monkeypatch):
    monkeypatch.setenv("OVERTAKE_PYTHON_LIB", "/no/such/python")
    write(tmp_path / "models" / "m", LINEAR)
    s = serve(tmp_path / "models", ready=False)
    r.wait_for("told", lambda: "no Python with NumPy was found" in pathlib.Path(s.log_path).read_text())


def test_every_type_comes_and_goes(tmp_path, start):
    types = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"]
    io = [{"name": t, "datatype": t, "shape": [-1, 2]} for t in types]
    write(tmp_path / "models" / "m", f"""
    class Model:
        signature = {{"inputs": {io!r}, "outputs": {io!r}}}

        def predict(self, inputs):
            return inputs
    """)
    s = start(tmp_path / "models")
    data = {"BOOL": [True, False], "BYTES": ["a", "héllo"]}
    status, _, body = s.post("/v2/models/m/infer", {
        "inputs": [{"name": t, "datatype": t, "shape": [1, 2], "data": data.get(t, [1, 2])} for t in types]})
    assert status == 200, body
    assert {o["name"]: o["data"] for o in body["outputs"]} == {t: data.get(t, [1, 2]) for t in types}


COUNT = """
    class Model:
        signature = {"inputs": [{"name": "n", "datatype": "INT32", "shape": [1]}],
                     "outputs": [{"name": "k", "datatype": "INT32", "shape": [1]},
                                 {"name": "text", "datatype": "BYTES", "shape": [1]}]}

        def predict(self, inputs):
            n = int(inputs["n"][0])
            for k in range(n):
                if k == 50:
                    raise RuntimeError("fifty is too many")
                yield {"k": [k], "text": ["x" * k]}
    """


def test_streams(tmp_path, start):
    grpcclient = pytest.importorskip("tritonclient.grpc")
    import queue
    write(tmp_path / "models" / "count", COUNT)
    s = start(tmp_path / "models")
    c = grpcclient.InferenceServerClient(f"{s.host}:{s.port}")
    answers = queue.Queue()
    c.start_stream(lambda result, error: answers.put((result, error)))

    def send(n, id):
        x = grpcclient.InferInput("n", [1], "INT32")
        x.set_data_from_numpy(np.array([n], np.int32))
        c.async_stream_infer("count", [x], request_id=id)

    def take():
        result, error = answers.get(timeout=r.PATIENCE)
        return result, error

    send(20, "a")
    for k in range(20):
        result, error = take()
        assert error is None, str(error)
        message = result.get_response()
        assert message.id == "a" and result.as_numpy("k")[0] == k and result.as_numpy("text")[0] == b"x" * k
        assert message.parameters["triton_final_response"].bool_param == (k == 19)
    send(1, "b")
    send(60, "c")
    assert take()[0].get_response().id == "b"
    for k in range(49):  # the one before the failure is held back until it is known whether it is the last
        assert take()[0].as_numpy("k")[0] == k
    result, error = take()
    assert result is None and "RuntimeError: fifty is too many (model.py:" in str(error)
    send(2, "d")
    assert [take()[0].as_numpy("k")[0] for _ in range(2)] == [0, 1]
    c.stop_stream()
    c.close()
    status, _, body = s.post("/v2/models/count/infer", {
        "inputs": [{"name": "n", "datatype": "INT32", "shape": [1], "data": [3]}]})
    assert status == 501 and "3 responses" in body["error"] and "ModelStreamInfer" in body["error"], body
    assert s.post("/v2/models/count/infer", {
        "inputs": [{"name": "n", "datatype": "INT32", "shape": [1], "data": [1]}]})[0] == 200
