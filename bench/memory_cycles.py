"""What comes back of the memory of a model that is unloaded.

    BUILD=build/release .deps/venv/bin/python bench/memory_cycles.py [--cycles 100] [--runtimes null,onnx,saved_model,python]

One replica for each runtime loads a model, answers, and unloads it, over and over. Prints a JSON line each with the
resident memory after the third cycle and after the last, both with nothing loaded: what grows between them is not given
back, by the runtime or by us. `before` is the replica before its first load: what a runtime keeps for good lies between that and
`after_3`. Runtimes that are not here are skipped with a line that says so."""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import numpy as np  # noqa: E402

import replica as r  # noqa: E402

MODELS = {"null": "null/linear", "onnx": "onnx/mlp.onnx", "saved_model": "saved_model/mlp", "python": "python/linear"}


def rss_kib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def cycle(server, n):
    status, _, body = server.post("/v2/repository/models/m/load")
    assert status == 200, body
    meta = server.get("/v2/models/m")["inputs"][0]
    data = np.ones([2 if d < 0 else d for d in meta["shape"]], np.float32)
    status, _, body = server.infer("m", data, name=meta["name"])
    assert status == 200, body
    assert server.post("/v2/repository/models/m/unload")[0] == 200
    r.wait_for("the unload", lambda: pathlib.Path(server.log_path).read_text().count(" unloaded") == n)
    # One thread loads and unloads in order: when the next load has failed the unload is over.
    assert server.post("/v2/repository/models/broken/load")[0] == 400


def measure(runtime, source, cycles, t):
    folder = pathlib.Path(t) / runtime
    (folder / "models" / "broken").mkdir(parents=True)
    (folder / "models" / "broken" / "null.json").write_text("{}")
    if source.is_dir():
        shutil.copytree(source, folder / "models" / "m")
    else:
        (folder / "models" / "m").mkdir()
        shutil.copy(source, folder / "models" / "m")
    server = r.Replica(folder / "models", "--model-control", "explicit", "--workers", "1", "--pool-threads", "1",
                       log=folder / "log")
    try:
        pid = server.process.pid
        figures = {"before_kib": rss_kib(pid)}
        for i in range(1, cycles + 1):
            cycle(server, i)
            if i in (3, 10, cycles):
                figures[f"after_{i}_kib"] = rss_kib(pid)
        grown = 100 * (figures[f"after_{cycles}_kib"] / figures["after_3_kib"] - 1)
        print(json.dumps({"bench": "memory_cycles", "runtime": runtime, "cycles": cycles, **figures,
                          "grown_percent": round(grown, 2)}), flush=True)
    finally:
        server.kill()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cycles", type=int, default=100)
    p.add_argument("--runtimes", default=",".join(MODELS))
    a = p.parse_args()
    os.environ.setdefault("OVERTAKE_PYTHON_LIB", sys.executable)
    with tempfile.TemporaryDirectory() as t:
        for runtime in a.runtimes.split(","):
            made = subprocess.run([sys.executable, ROOT / "tests/golden/make_models.py", r.BUILD / "models", runtime],
                                  capture_output=True, text=True)
            source = r.BUILD / "models" / MODELS[runtime]
            if made.returncode != 0 or not source.exists():
                print(f"memory_cycles: {runtime} is left out: {(made.stderr or made.stdout).strip()[-200:]}", file=sys.stderr)
                continue
            measure(runtime, source, a.cycles, t)


if __name__ == "__main__":
    main()
