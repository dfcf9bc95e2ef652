"""Served throughput against the runtime's own, in one run: ONNX Runtime MLP 784-128-10, binary bodies,
one worker on one core, 64 connections of wrk on another, all defaults on (counting with a reference of
784 features, prediction ids, latencies).

    BUILD=build/release .deps/venv/bin/python bench/serve_bench.py [--rounds 7] [--seconds 3]

In each round, one after the other so that a busy moment hits all: the runtime alone in a process on
the server's core (bench/runtime_bench), wrk with the same requests against our HTTP server with a trivial
answer (bench/http_bench), against a bare loop of epoll, recv and send with the sizes of these requests and
answers (bench/wire_bench: what this machine's TCP asks for), then against the replica. `ceiling_ratio_by_cpu` is what
a server would reach whose only costs are that loop and the runtime at its best batch. Prints one JSON line a
figure with median, least and most over the rounds. CPU is user + system from /proc/PID/stat, of wrk (which may
be what limits the rate) from its resource usage."""

import argparse
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

import replica  # noqa: E402

FEATURES, CLASSES = 784, 10
JSON_BYTES = 18000  # of every JSON body, filled up with spaces: wire_bench reads requests of one size


def make_bundle(folder, onnx, seed=17):
    """The MLP as a bundle: golden answers from this environment's ONNX Runtime, and a reference."""
    rng = np.random.default_rng(seed)
    x = rng.random((1000, FEATURES), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": x[:4]})[0]
    h = replica.Histogram([f"x_{j}" for j in range(FEATURES)], 0, 1, inner=20)
    parts = {
        "model/model.onnx": onnx.read_bytes(),
        "reference/trained_on.hist": h.write(x),
        "golden/golden.json": json.dumps({"tolerance": {"abs": 1e-4, "rel": 1e-3}, "cases": [
            {"inputs": [replica.tensor_json("x", x[i:i + 1])],
             "outputs": [replica.tensor_json("y", y[i:i + 1])]} for i in range(4)]}).encode()}
    manifest = {
        "schema": "overtake.bundle/1", "format": "onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, CLASSES]}],
        "batch": {"axis": 0, "max": 64}, "prediction": {"output": "y", "kind": "scores"},
        "files": [{"path": p, "size": len(b), "sha256": hashlib.sha256(b).hexdigest()}
                  for p, b in sorted(parts.items())]}
    parts["manifest.json"] = json.dumps(manifest).encode()
    for path, data in parts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def write_script(path, kind):
    """wrk's script: one request, 64 different rows in turn."""
    head = ('{"inputs":[{"name":"x","datatype":"FP32","shape":[1,784],'
            '"parameters":{"binary_data_size":3136}}],"parameters":{"binary_data_output":true}}')
    rows = np.random.default_rng(5).random((64, FEATURES), dtype=np.float32)
    folder = path.parent / f"{kind}_bodies"
    folder.mkdir()
    for i, row in enumerate(rows):
        body = head.encode() + row.tobytes()
        if kind == "json":
            body = json.dumps({"inputs": [replica.tensor_json("x", row.reshape(1, -1))]}).encode()
            body = body.ljust(JSON_BYTES)
        (folder / str(i)).write_bytes(body)
    length = f'["Inference-Header-Content-Length"]="{len(head)}"' if kind == "binary" else ""
    path.write_text(f'''
local requests, at = {{}}, 0
init = function(args)
  for i = 0, 63 do
    local f = io.open("{folder}/" .. i, "rb")
    requests[i] = wrk.format("POST", "/v2/models/mlp/infer", {{{length}}}, f:read("*a"))
    f:close()
  end
end
request = function() at = (at + 1) % 64; return requests[at] end
''')


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pinned(core, *command):
    return ["taskset", "-c", str(core), *map(str, command)]


def in_process(build, onnx, core):
    done = subprocess.run(pinned(core, build / "bench" / "runtime_bench", "--plugins", build / "plugins",
                                 "--seconds", "1", onnx), capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    rate = next(line for line in lines if line["bench"] == "runtime_rate")
    return rate


def served(server, script, core, connections, seconds):
    before, load_before = cpu_seconds(server.process.pid), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(pinned(core, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s",
                                 script, f"http://{server.address}"), capture_output=True, text=True,
                          check=True)
    cpu = cpu_seconds(server.process.pid) - before
    requests = int(re.search(r"(\d+) requests in", done.stdout)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])
    assert "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout, done.stdout

    def latency(p):
        value, unit = re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", done.stdout).groups()
        return float(value) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
    load = resource.getrusage(resource.RUSAGE_CHILDREN)
    load_cpu = load.ru_utime + load.ru_stime - load_before.ru_utime - load_before.ru_stime
    return {"rate": rate, "cpu_us": cpu * 1e6 / requests, "load_cpu_us": load_cpu * 1e6 / requests, "p50_us": latency(50), "p99_us": latency(99)}


class Bare:
    """A server of bench/ on a free port: no codec, no model."""

    def __init__(self, build, core, name, *args):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.process = subprocess.Popen(pinned(core, build / "bench" / name, port, *args),
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        replica.wait_for(name, self.answers)

    def answers(self):
        try:
            socket.create_connection(self.address.split(":"), timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait()


def spread(values, digits=2):
    return {"median": round(statistics.median(values), digits), "least": round(min(values), digits),
            "most": round(max(values), digits)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=int, default=3)
    p.add_argument("--connections", type=int, default=64)
    p.add_argument("--kinds", default="binary,json")
    p.add_argument("--server-core", type=int, default=0)
    p.add_argument("--load-core", type=int, default=1)
    a = p.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("serve_bench: wrk is not installed")
    build = replica.BUILD
    subprocess.run([sys.executable, ROOT / "tests/golden/make_models.py", build / "models", "onnx"], check=True,
                   capture_output=True)
    onnx = build / "models" / "onnx" / "mlp.onnx"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make_bundle(folder / "models" / "mlp", onnx)
        server = replica.Replica(folder / "models", "--workers", 1, log=folder / "log")
        http = Bare(build, a.server_core, "http_bench")
        try:
            for thread in os.listdir(f"/proc/{server.process.pid}/task"):
                os.sched_setaffinity(int(thread), {a.server_core})
            server.wait_ready()
            parameters = server.get("/v2/models/mlp")["parameters"]
            assert parameters["verified"] and parameters["batch"] == 64, parameters
            for kind in a.kinds.split(","):
                write_script(folder / f"{kind}.lua", kind)
                sizes = wire_sizes(server, folder / f"{kind}_bodies" / "0", kind)
                wire = Bare(build, a.server_core, "wire_bench", *sizes)
                try:
                    measure(a, build, onnx, server, http, wire, folder, kind)
                finally:
                    wire.stop()
        finally:
            http.stop()
            server.stop()


def wire_sizes(server, body, kind):
    """Bytes of a request as wrk sends it, and of its answer."""
    body = body.read_bytes()
    head = "Inference-Header-Content-Length: %d\r\n" % (len(body) - 4 * FEATURES) if kind == "binary" else ""
    request = (f"POST /v2/models/mlp/infer HTTP/1.1\r\n{head}Host: {server.address}\r\n"
               f"Content-Length: {len(body)}\r\n\r\n").encode() + body
    with socket.create_connection(server.address.split(":"), timeout=replica.PATIENCE) as s:
        s.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += s.recv(65536)
        length = int(re.search(rb"Content-Length: (\d+)", answer)[1])
    return len(request), answer.index(b"\r\n\r\n") + 4 + length


def measure(a, build, onnx, server, http, wire, folder, kind):
    alone, got, bare, floor = [], [], [], []
    for _ in range(a.rounds):
        alone.append(in_process(build, onnx, a.server_core))
        bare.append(served(http, folder / f"{kind}.lua", a.load_core, a.connections, a.seconds))
        floor.append(served(wire, folder / f"{kind}.lua", a.load_core, a.connections, a.seconds))
        got.append(served(server, folder / f"{kind}.lua", a.load_core, a.connections, a.seconds))
    v = server.get("/v2/models/mlp/stats")["model_stats"][0]
    print(json.dumps({
        "bench": "serve", "model": "mlp 784-128-10", "body": kind, "connections": a.connections,
        "workers": 1, "rounds": a.rounds,
        "in_process_batch1_per_s": spread([x["rows_per_s_batch1"] for x in alone], 0),
        "in_process_best_batch_rows_per_s": spread([x["rows_per_s_best"] for x in alone], 0),
        "in_process_batch1_cpu_us": spread([x["cpu_us_row_batch1"] for x in alone]),
        "in_process_best_batch_cpu_us_per_row": spread([x["cpu_us_row_best"] for x in alone]),
        "served_per_s": spread([g["rate"] for g in got], 0),
        "cpu_us_per_request": spread([g["cpu_us"] for g in got]),
        "http_alone_cpu_us_per_request": spread([h["cpu_us"] for h in bare]),
        "http_alone_per_s": spread([h["rate"] for h in bare], 0),
        "wire_alone_cpu_us_per_request": spread([f["cpu_us"] for f in floor]),
        "load_cpu_us_per_request": spread([g["load_cpu_us"] for g in got]),
        "ratio_to_batch1": spread([g["rate"] / x["rows_per_s_batch1"] for g, x in zip(got, alone)], 3),
        "ratio_by_cpu": spread([x["cpu_us_row_batch1"] / g["cpu_us"] for g, x in zip(got, alone)], 3),
        "ceiling_ratio_by_cpu": spread([x["cpu_us_row_batch1"] / (f["cpu_us"] + x["cpu_us_row_best"])
                                        for f, x in zip(floor, alone)], 3),
        "p50_us": spread([g["p50_us"] for g in got], 0), "p99_us": spread([g["p99_us"] for g in got], 0),
        "rows_per_run": round(v["inference_count"] / max(v["execution_count"], 1), 1)}), flush=True)


if __name__ == "__main__":
    main()
