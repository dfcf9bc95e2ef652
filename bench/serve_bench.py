"""Served throughput beside the same model in-process, interleaved in one run.

    python bench/serve_bench.py BUILD [ROUNDS] [SECONDS]

One core serves and runs in-process, the other holds the load (wrk, 64 connections, binary tensors,
all defaults on). Prints one JSON line: medians, spread, and the ratio served / in-process batch 1
taken round by round. `cpu_us` is the server's own user + system time a request: the figure that a
busy second core does not disturb."""

import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

build = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/release")
rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
root = pathlib.Path(__file__).resolve().parent.parent
model = root / "build/models/onnx/mlp.onnx"
tick = os.sysconf("SC_CLK_TCK")

if shutil.which("wrk") is None or os.cpu_count() < 2:
    print("# serve_bench: skipped: needs wrk (Debian package) and two cores")
    sys.exit(0)


def in_process():
    out = subprocess.run(["taskset", "-c", "0", build / "bench/runtime_bench", "--plugins",
                          build / "plugins", "--seconds", "1", model],
                         capture_output=True, text=True, check=True).stdout
    for line in map(json.loads, out.splitlines()):
        if line["bench"] == "runtime_rate":
            return line["rows_per_s_batch1"], line["rows_per_s_best"]
    raise SystemExit("runtime_bench printed no rate")


def cpu_seconds(pid):
    f = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(f[11]) + int(f[12])) / tick


def served(port, pid):
    before = cpu_seconds(pid)
    out = subprocess.run(["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s", "-s",
                          root / "bench/wrk_binary.lua", f"http://127.0.0.1:{port}/v2/models/mlp/infer"],
                         capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"failed requests: {out}")
    n = int(re.search(r"(\d+) requests in", out).group(1))
    return float(re.search(r"Requests/sec:\s*([\d.]+)", out).group(1)), 1e6 * (cpu_seconds(pid) - before) / n


with tempfile.TemporaryDirectory() as tmp, socket.socket() as s:
    os.makedirs(f"{tmp}/mlp")
    shutil.copy(model, f"{tmp}/mlp/model.onnx")
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    server = subprocess.Popen(["taskset", "-c", "0", build / "overtake", "serve", tmp, "--listen",
                               f"127.0.0.1:{port}", "--workers", "1"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1).read()
                break
            except OSError:
                time.sleep(0.05)
        rows = []
        for _ in range(rounds):
            one, best = in_process()
            rate, cpu = served(port, server.pid)
            rows.append((rate, cpu, one, best, rate / one))
    finally:
        server.terminate()
        server.wait(10)

columns = ["served_per_s", "cpu_us", "in_process_b1_per_s", "in_process_best_per_s", "served_to_b1"]
line = {"bench": "serve", "model": "mlp 784-128-10", "connections": 64, "rounds": rounds}
for name, values in zip(columns, zip(*rows)):
    line[name] = round(statistics.median(values), 3)
    line[name + "_min"], line[name + "_max"] = round(min(values), 3), round(max(values), 3)
print(json.dumps(line))
