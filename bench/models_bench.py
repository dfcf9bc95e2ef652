"""Served throughput against the runtime's own for several models and protocols, beside other servers, in one run.

    BUILD=build/release .deps/venv/bin/python bench/models_bench.py [--rounds 5] [--seconds 2] [--models mlp,cnn14,...]

One core for the server, one for the load. In each round, one after the other so that a busy moment hits all: the
runtime alone in a process on the server's core (bench/runtime_bench, batch 1 and best batch), then `overtake bench` (closed
loop, every answer checked) against a replica with all defaults on, over each protocol; for the MLP also wrk and h2load
with the same requests, and, when `make deps-bench` has been run, FastAPI with ONNX Runtime and MLServer. Models come
from bench/bench_models.py and are named by their digest. Prints JSON lines: median, least and most over the rounds. CPU
is user + system from /proc/PID/stat of the server; `the_same_by_cpu` is the ratio that a machine with others on it shifts less.
A round with a wrong or failed answer ends the run."""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "bench")]

import bench_models  # noqa: E402
import replica  # noqa: E402
import serve_bench as sb  # noqa: E402

PEERS = ROOT / ".deps" / "bench" / "bin"
SLOW = ("resnet50",)


def in_process(a, model):
    slow = ["--few", "--seconds", "2"] if model.name.startswith(SLOW) else ["--seconds", "0.5"]
    path = model / "model" / "model.onnx" if (model / "model" / "model.onnx").exists() else model
    done = subprocess.run(sb.pinned(a.server_core, replica.BUILD / "bench" / "runtime_bench", "--plugins", replica.BUILD / "plugins",
                                    *slow, path), capture_output=True, text=True, check=True)
    return next(x for x in map(json.loads, done.stdout.splitlines()) if x["bench"] == "runtime_rate")


def tree_cpu(pid):
    """Of a process and its children: MLServer has some."""
    total = sb.cpu_seconds(pid)
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            total += tree_cpu(int(child))
    return total


def load(a, address, pid, model, protocol, connections, seconds=None):
    before = tree_cpu(pid)
    done = subprocess.run(sb.pinned(a.load_core, replica.OVERTAKE, "bench", address, "-m", model, "-p", protocol, "-c", connections,
                                    "-d", f"{seconds or a.seconds}s", "--warm-up", "200ms", "--timeout", "60s", "--output", "json"),
                          capture_output=True, text=True)
    cpu = tree_cpu(pid) - before
    if done.returncode != 0:
        sys.exit(f"models_bench: {model} {protocol}: {done.stdout}{done.stderr}")
    got = json.loads(done.stdout)
    n = got["measured"]["correct"] + got["warmup"]["correct"]
    return {"rate": got["rate"], "cpu_us": cpu * 1e6 / n, "p50_us": got["latency_us"]["p50"], "p99_us": got["latency_us"]["p99"]}


def wrk(a, server, folder):
    script = folder / "binary.lua"
    if not script.exists():
        sb.write_script(script, "binary")
    return sb.served(server, script, a.load_core, 64, a.seconds)


def h2load(a, server, folder):
    """gRPC calls with one message; its answers are not looked at (overtake bench does that)."""
    message = folder / "grpc.bin"
    if not message.exists():
        import numpy as np
        from tritonclient.grpc import service_pb2
        r = service_pb2.ModelInferRequest(model_name="mlp")
        r.inputs.add(name="x", datatype="FP32", shape=[1, 784])
        r.raw_input_contents.append(np.random.default_rng(5).random(784, dtype=np.float32).tobytes())
        body = r.SerializeToString()
        message.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
    before = tree_cpu(server.process.pid)
    done = subprocess.run(sb.pinned(a.load_core, "h2load", "-c64", "-m1", "-t1", f"-D{a.seconds}", "-d", message, "-H",
                                    "content-type: application/grpc", "-H", "te: trailers",
                                    f"http://{server.address}/inference.GRPCInferenceService/ModelInfer"), capture_output=True, text=True,
                          check=True)
    words = next(x for x in done.stdout.splitlines() if x.startswith("finished in")).split()
    total = next(x for x in done.stdout.splitlines() if x.startswith("requests:")).split()
    n = int(total[7])
    assert n > 0 and " 0 failed" in done.stdout, done.stdout
    return {"rate": float(words[3]), "cpu_us": (tree_cpu(server.process.pid) - before) * 1e6 / n}


# ---- other servers

FASTAPI = '''
import numpy as np, onnxruntime, orjson
from fastapi import FastAPI, Request, Response
o = onnxruntime.SessionOptions()
o.intra_op_num_threads = o.inter_op_num_threads = 1
session = onnxruntime.InferenceSession("MODEL", o, providers=["CPUExecutionProvider"])
app = FastAPI()

@app.get("/v2/models/mlp")
async def metadata():
    return {"name": "mlp", "versions": ["1"], "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 784]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}]}

@app.post("/v2/models/mlp/infer")
async def infer(request: Request):
    x = orjson.loads(await request.body())["inputs"][0]
    y = session.run(None, {"x": np.array(x["data"], dtype=np.float32).reshape(x["shape"])})[0]
    body = {"model_name": "mlp", "model_version": "1", "outputs": [{"name": "y", "datatype": "FP32", "shape": list(y.shape), "data": y.ravel()}]}
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
'''

MLSERVER = '''
import numpy as np, onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Onnx(MLModel):
    async def load(self):
        o = onnxruntime.SessionOptions()
        o.intra_op_num_threads = o.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession("MODEL", o, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        y = self.session.run(None, {"x": x})[0]
        return InferenceResponse(model_name="mlp", model_version="1", outputs=[NumpyCodec.encode_output("y", y)])
'''


def free_ports(n):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in held:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in held]


class Peer:
    def __init__(self, a, folder, model, name):
        self.name = name
        folder = folder / name
        folder.mkdir()
        path = str(model / "model" / "model.onnx")
        port, grpc, metrics = free_ports(3)
        if name == "fastapi":
            (folder / "app.py").write_text(FASTAPI.replace("MODEL", path))
            command = [PEERS / "python", "-m", "uvicorn", "app:app", "--port", port, "--log-level", "error", "--no-access-log"]
        else:
            (folder / "onnx_model.py").write_text(MLSERVER.replace("MODEL", path))
            (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "http_port": port, "grpc_port": grpc,
                                                              "metrics_port": metrics, "parallel_workers": 0, "debug": False}))
            (folder / "model-settings.json").write_text(json.dumps({
                "name": "mlp", "implementation": "onnx_model.Onnx", "parameters": {"version": "1"},
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 784]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}]}))
            command = [PEERS / "mlserver", "start", "."]
        self.address = f"127.0.0.1:{port}"
        self.log = open(folder / "log", "wb")
        self.process = subprocess.Popen(sb.pinned(a.server_core, *command), cwd=folder, stdout=self.log, stderr=self.log,
                                        env={**os.environ, "PYTHONPATH": str(folder)})
        try:
            replica.wait_for(f"{name} ({folder / 'log'})", self.answers)
        except AssertionError:
            self.stop()
            sys.exit(f"models_bench: {name} does not start: {(folder / 'log').read_text()[-2000:]}")

    def answers(self):
        try:
            http = socket.create_connection(self.address.split(":"), timeout=1)
            http.sendall(b"GET /v2/models/mlp HTTP/1.0\r\nHost: x\r\n\r\n")
            return b" 200 " in http.recv(64)
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


# ---- a model


def start(a, folder, model, name):
    (folder / "models").mkdir(parents=True)
    shutil.copytree(model, folder / "models" / name)
    s = replica.Replica(folder / "models", "--workers", 1, "--pool-threads", 1, log=folder / "log")
    for thread in os.listdir(f"/proc/{s.process.pid}/task"):
        os.sched_setaffinity(int(thread), {a.server_core})
    return s.wait_ready()


def spreads(rows, digits=2):
    return {k: sb.spread([r[k] for r in rows], digits) for k in rows[0]}


def named(model, name):
    """A bundle's folder has its digest; a framework's own files are digested here."""
    if model.name.startswith(f"{name}-"):
        return model.name
    digest = hashlib.sha256()
    for f in sorted(p for p in model.rglob("*") if p.is_file()):
        digest.update(f.relative_to(model).as_posix().encode() + b"\0" + f.read_bytes())
    return f"{name}-{digest.hexdigest()[:12]}"


def one_model(a, name, folder):
    model = bench_models.make(replica.BUILD / "bench_models", name)
    if model is None:
        print(json.dumps({"bench": "models", "model": name, "skipped": "its framework is not installed"}), flush=True)
        return
    slow = name in SLOW
    protocols = {"mlp": ["binary", "rest", "grpc"], "resnet50": ["binary", "grpc"]}.get(name, ["binary"])
    alone, got, tools = [], {p: [] for p in protocols}, {}
    with contextlib.ExitStack() as stack:
        server = start(a, folder / name, model, name)
        stack.callback(server.stop)
        peers = []
        for peer in ("fastapi", "mlserver") if name == "mlp" and PEERS.exists() else ():
            peers.append(Peer(a, folder, model, peer))
            stack.callback(peers[-1].stop)
        for _ in range(a.rounds if not slow else min(a.rounds, 3)):
            alone.append(in_process(a, model))
            for p in protocols:
                got[p].append(load(a, server.address, server.process.pid, name, p, 64 if not slow else 4, None if not slow else 8))
            if name == "mlp":
                for tool, run in (("wrk", wrk), ("h2load", h2load)):
                    if shutil.which(tool):
                        tools.setdefault(tool, []).append(run(a, server, folder))
            for peer in peers:
                tools.setdefault(peer.name, []).append(load(a, peer.address, peer.process.pid, "mlp", "rest", 64))
    for p in protocols:
        print(json.dumps({
            "bench": "models", "model": named(model, name), "protocol": p, "rounds": len(alone),
            "in_process_batch1_per_s": sb.spread([x["rows_per_s_batch1"] for x in alone], 0),
            "in_process_best_per_s": sb.spread([x["rows_per_s_best"] for x in alone], 0),
            "in_process_best_cpu_us": sb.spread([x["cpu_us_row_best"] for x in alone]),
            **spreads(got[p]),
            "cpu_us_over_best_batch": sb.spread([g["cpu_us"] - x["cpu_us_row_best"] for g, x in zip(got[p], alone)]),
            "served_to_in_process_batch1": sb.spread([g["rate"] / x["rows_per_s_batch1"] for g, x in zip(got[p], alone)], 3),
            "the_same_by_cpu": sb.spread([x["cpu_us_row_batch1"] / g["cpu_us"] for g, x in zip(got[p], alone)], 3)}), flush=True)
    for tool, rows in tools.items():
        ours = got["grpc" if tool == "h2load" else "rest" if tool in ("fastapi", "mlserver") else "binary"]
        line = {"bench": "beside", "what": tool, "rounds": len(rows), **spreads(rows)}
        if tool in ("fastapi", "mlserver"):
            line["their_cpu_to_ours"] = sb.spread([t["cpu_us"] / g["cpu_us"] for t, g in zip(rows, ours)], 1)
        else:
            line["overtake_bench_rate_to_theirs"] = sb.spread([g["rate"] / t["rate"] for t, g in zip(rows, ours)], 3)
        print(json.dumps(line), flush=True)
    if name == "mlp" and not peers:
        print("# FastAPI and MLServer are left out: make deps-bench", flush=True)


def counting(a, folder):
    """What it costs to count every row of the inputs."""
    for name, features in (("small", 64), ("mlp", 784)):
        model = bench_models.make(replica.BUILD / "bench_models", name)
        took = []
        for k in range(a.rounds):
            at = folder / f"count-{name}-{k}"
            (at / "models").mkdir(parents=True)
            shutil.copytree(model, at / "models" / name)
            s = replica.Replica(at / "models", "--workers", 1, "--count-budget", "100%", log=at / "log").wait_ready()
            load(a, s.address, s.process.pid, name, "binary", 64, 1)
            values = dict(x.rsplit(" ", 1) for x in s.request("GET", "/metrics")[2].decode().splitlines() if not x.startswith("#"))
            rows = sum(float(v) for k, v in values.items() if k.startswith("overtake_rows_total"))
            took.append(float(values["overtake_count_seconds_total"]) * 1e6 / rows)
            s.stop()
        print(json.dumps({"bench": "count_all", "features": features, "us_per_row": sb.spread(took, 3)}), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=int, default=2)
    p.add_argument("--models", default="mlp,cnn14,cnn75,tf_mlp,resnet50")
    p.add_argument("--server-core", type=int, default=0)
    p.add_argument("--load-core", type=int, default=1)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in filter(None, a.models.split(",")):
            one_model(a, name, folder)
        counting(a, folder)


if __name__ == "__main__":
    main()
