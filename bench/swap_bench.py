"""Hot swaps under load: a version a second, by the desired state of a control plane.

    BUILD=build/release .deps/venv/bin/python bench/swap_bench.py [--swaps 60] [--rate 2000] [--rounds 3]

A replica of one worker on one core serves the MLP, loaded and verified by its loader at idle priority; `overtake bench` on
another core sends an open loop of even arrivals and checks every answer against the first one of its version. Each round
runs the same load without swaps, then with one swap a second, between two bundles under ever new version numbers. Prints one JSON line:
swaps, requests, failed (anything but a correct answer; beside it what failed without swaps, on a machine that is too slow or
busy for the rate), versions that answered, p99 of both and their ratio. Exit 1 when a
request failed."""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "bench")]

import bench_models  # noqa: E402
import replica  # noqa: E402
import serve_bench as sb  # noqa: E402


KINDS = ("wrong", "refused", "client_error", "server_error", "malformed", "broken", "timeout", "unsent")


def start_load(a, address, seconds):
    return subprocess.Popen(sb.pinned(a.load_core, replica.OVERTAKE, "bench", address, "-m", "m", "--rate", a.rate, "--arrivals", "even",
                                      "-c", 16, "-d", f"{seconds}s", "--warm-up", "500ms", "--output", "json"),
                            stdout=subprocess.PIPE, text=True)


def end_load(process, failed):
    """What the load says; adds to `failed` how each of its requests that had no correct answer ended."""
    got = json.loads(process.communicate()[0])
    for part in ("measured", "warmup"):
        for kind in KINDS:
            if got[part][kind]:
                failed[kind] = failed.get(kind, 0) + got[part][kind]
    return got


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--swaps", type=int, default=60)
    p.add_argument("--rate", type=int, default=2000)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--server-core", type=int, default=0)
    p.add_argument("--load-core", type=int, default=1)
    a = p.parse_args()
    each = max(a.swaps // a.rounds, 1)
    quiet, busy, requests, swaps, version, answered = [], [], 0, 0, 1, set()
    failed = {False: {}, True: {}}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "blobs").mkdir()
        digests = []
        for seed in (1, 2):
            bench_models.bundle(folder / f"b{seed}", bench_models.mlp(seed=seed), [784], 10, 64)
            replica.store_bundle(folder / "blobs", folder / f"b{seed}")
            digests.append(hashlib.sha256((folder / f"b{seed}" / "manifest.json").read_bytes()).hexdigest())
        plane = replica.ControlPlane(folder / "agent.sock", folder / "blobs")
        plane.want(replica.deployment(replica.variant("champion", version, digests[0], 1), rate=0.0))
        server = replica.Replica("--agent", f"unix:{folder}/agent.sock", "--data", folder / "data", "--workers", 1, "--pool-threads", 1,
                                 log=folder / "log")
        try:
            for thread in os.listdir(f"/proc/{server.process.pid}/task"):
                os.sched_setaffinity(int(thread), {a.server_core})
            server.wait_ready()
            for _ in range(a.rounds):
                for swapping, into in ((False, quiet), (True, busy)):
                    load = start_load(a, server.address, each + 1)
                    if swapping:
                        for k in range(each):
                            version += 1
                            plane.want(replica.deployment(replica.variant("champion", version, digests[version % 2], 1), rate=0.0))
                            time.sleep(1)
                            swaps += 1
                    got = end_load(load, failed[swapping])
                    requests += got["measured"]["due"] + got["warmup"]["due"]
                    answered |= set(got["versions"])
                    into.append(got["latency_us"]["p99"])
        finally:
            server.stop()
            plane.close()
    print(json.dumps({"bench": "swap", "model": "mlp", "rate": a.rate, "swaps": swaps, "requests": requests,
                      "failed": sum(failed[True].values()), "failed_by_kind": failed[True], "failed_without_swaps": failed[False],
                      "versions_that_answered": len(answered), "p99_us": sb.spread(quiet, 0), "p99_us_swapping": sb.spread(busy, 0),
                      "p99_ratio": sb.spread([b / q for b, q in zip(busy, quiet)])}), flush=True)
    sys.exit(any(failed[True].values()))


if __name__ == "__main__":
    main()
