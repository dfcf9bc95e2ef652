"""What `overtake up` costs without models: start to the first answer of each listener, and memory.

    BUILD=build/release .deps/venv/bin/python bench/up_bench.py [--rounds 7]

Each round starts it on a fresh data directory. Start is the time from exec to the first HTTP 200 of the
inference listener's liveness and of the control API's health. Memory is the sum of PSS (smaps_rollup) of
the supervisor and all processes below it, two windows of idling after both have answered. The baseline
of the time is exec to exit of `overtake version`; that of memory is one such process asleep in `sleep`."""

import argparse
import http.client
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
OVERTAKE = ROOT / os.environ.get("BUILD", "build/release") / "overtake"


def answers(address, path):
    host, port = address.rsplit(":", 1)
    c = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        c.request("GET", path)
        return c.getresponse().status == 200
    except OSError:
        return False
    finally:
        c.close()


def wait_answer(address, path, end):
    while not answers(address, path):
        if time.monotonic() > end:
            raise SystemExit(f"up_bench: no answer from {address}{path} within 20 s")
        time.sleep(0.001)


def tree(pid):
    """The process and all below it."""
    found = [pid]
    for parent in found:
        for task in pathlib.Path(f"/proc/{parent}/task").iterdir():
            found += [int(p) for p in (task / "children").read_text().split()]
    return found


def pss_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise SystemExit(f"up_bench: no PSS of process {pid}")


def sleeper_kib():
    p = subprocess.Popen(["sleep", "30"])
    time.sleep(0.05)
    size = pss_kib(p.pid)
    p.kill()
    p.wait()
    return size


def one_round():
    start = time.monotonic()
    subprocess.run([OVERTAKE, "version"], check=True, stdout=subprocess.DEVNULL)
    version_s = time.monotonic() - start
    with tempfile.TemporaryDirectory() as tmp:
        start = time.monotonic()
        up = subprocess.Popen(
            [OVERTAKE, "up", "--data", f"{tmp}/data", "--listen", "127.0.0.1:0", "--control",
             "127.0.0.1:0", "--output", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            where = json.loads(up.stdout.readline())
            wait_answer(where["inference"], "/v2/health/live", start + 20)
            inference_s = time.monotonic() - start
            wait_answer(where["control"], "/api/v1/health", start + 20)
            control_s = time.monotonic() - start
            time.sleep(2)
            processes = tree(up.pid)
            memory = sum(pss_kib(p) for p in processes)
        finally:
            up.send_signal(signal.SIGTERM)
            code = up.wait(40)
        if code != 0:
            raise SystemExit(f"up_bench: exit {code}: {up.stderr.read().decode()}")
    return version_s, inference_s, max(inference_s, control_s), memory / 1024, len(processes)


def show(name, unit, values, **more):
    print(json.dumps({"bench": "up", "what": name, "unit": unit,
                      "median": round(statistics.median(values), 4),
                      "least": round(min(values), 4), "most": round(max(values), 4),
                      "rounds": len(values), **more}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = [one_round() for _ in range(parser.parse_args().rounds)]
    version_s, inference_s, both_s, memory, processes = zip(*rounds)
    show("overtake version: exec to exit (baseline)", "s", version_s)
    show("start to the first prediction listener's answer", "s", inference_s)
    show("start to the first answer of both listeners", "s", both_s, bound=0.2)
    show("memory of all processes, sum of PSS", "MiB", memory, bound=24,
         processes=max(processes), sleep_mib=round(sleeper_kib() / 1024, 2))


if __name__ == "__main__":
    main()
