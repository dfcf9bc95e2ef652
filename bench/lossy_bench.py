"""Sums that lose bits on the wire, beside their bounds: 4 ranks in network namespaces whose links are shaped.

    lossy_bench.py [--rate 1gbit] [--ranks 4] [--rounds 10] [--ways exact,half,fp16,auto:0,auto:4]

A step averages the tensors of one case, by name, as a training does; `auto:N` is --wire auto --wire-rank N (0:
int8). Times are of rank 0, the first steps are left out. The bound is what each rank must send, at the rate that
one TCP stream reaches (0.941 of the nominal rate at frames of 1,500 bytes). Needs root and iproute2."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import textwrap

from allreduce_bench import Net, ROOT

CASES = {"48 MiB vector": [[12 << 20]], "3 matrices of 2048 x 2048": [[2048, 2048]] * 3,
         "12.6 M parameters in 8 tensors": [[3072, 1024], [1024], [1024, 4096], [4096], [4096, 1024], [1024],
                                            [1024, 1000], [1000]]}
WARM = 4  # steps until the plan stands
WORKER = """
    import json, pathlib, sys, time
    import numpy as np
    from overtake import collective as c
    shapes, rounds, warm = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    c.init()
    r = np.random.default_rng(c.rank())
    x = [r.standard_normal(s, dtype=np.float32) for s in shapes]
    y = [np.empty_like(a) for a in x]
    times, sent = [], []
    tx = pathlib.Path("/sys/class/net/wire/statistics/tx_bytes")
    for i in range(rounds + warm):
        c.barrier()
        before, t = int(tx.read_text()), time.perf_counter()
        for h in [c.start([c.Request(c.ALLREDUCE, a.shape, "float32", a.ctypes.data, b.ctypes.data, f"g{k}",
                                     reduction=c.AVERAGE)])[0] for k, (a, b) in enumerate(zip(x, y))]:
            h.wait()
        times.append(time.perf_counter() - t)
        sent.append(int(tx.read_text()) - before)
    if c.rank() == 0:
        print(json.dumps({"times": times[warm:], "sent": sent[warm:]}))
    c.finalize()
"""


def must_send(shapes, way, n):
    """Bytes that a rank must send at least: twice (n-1)/n of what stands for the tensors."""
    each = {"exact": 4, "half": 2, "fp16": 2, "auto:0": 1 + 4 / 512}
    if way in each:
        numbers = sum(s[0] * (s[1] if len(s) > 1 else 1) for s in shapes)
        return 2 * (n - 1) / n * each[way] * numbers
    rank = int(way.split(":")[1])
    return 2 * (n - 1) / n * 4 * sum(rank * sum(s) if len(s) > 1 else s[0] for s in shapes)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rate", type=float, default=1, help="Gbit/s")
    p.add_argument("--ranks", type=int, default=4)
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--ways", default="exact,half,fp16,auto:0,auto:4")
    a = p.parse_args()
    if os.geteuid() != 0:
        print("lossy_bench: skipped: namespaces need root")
        return 0
    build = ROOT / os.environ.get("BUILD", "build/release")
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "OVERTAKE_LIB": str(build / "libovertake.so")}
    net = Net(a.ranks, f"{a.rate}gbit")
    with tempfile.TemporaryDirectory() as folder:
        worker, ssh, links = (pathlib.Path(folder) / name for name in ("worker.py", "ssh", "links"))
        worker.write_text(textwrap.dedent(WORKER))
        ssh.write_text("#!/bin/sh\nhost=$1; shift\nexec ip netns exec $host sh -c \"exec $*\"\n")
        ssh.chmod(0o755)
        links.write_text(f"remote.bytes_per_us = {a.rate * 125 * 0.94:.3f}\n")
        try:
            for case, shapes in CASES.items():
                print(f"{case}, {a.ranks} ranks at {a.rate:g} Gbit/s, load "
                      f"{pathlib.Path('/proc/loadavg').read_text().split()[0]}")
                for way in a.ways.split(","):
                    wire, _, rank = way.partition(":")
                    done = subprocess.run(
                        ["ip", "netns", "exec", net.names[0], str(build / "overtake"), "run", "--no-prefix", "-H",
                         ",".join(f"{h}:1" for h in ["localhost"] + net.names[1:]), "--ssh", str(ssh), "--links",
                         str(links), "--wire", wire, *(["--wire-rank", rank] if rank else []), "-x", "OVERTAKE_LIB",
                         "--", sys.executable, str(worker), json.dumps(shapes), str(a.rounds), str(WARM)],
                        env=env, capture_output=True, text=True, timeout=900)
                    if done.returncode != 0:
                        raise SystemExit(done.stderr)
                    r = json.loads(done.stdout.splitlines()[-1])
                    ms, need = [1000 * t for t in r["times"]], must_send(shapes, way, a.ranks)
                    bound = need / (a.rate * 125e6 * 0.941) * 1000
                    print(f"  {way:8} ms {statistics.median(ms):7.1f} [{min(ms):.1f}, {max(ms):.1f}]; bound "
                          f"{bound:6.1f}, reached {bound / statistics.median(ms):4.0%}; bytes "
                          f"{statistics.median(r['sent']):,.0f} of {need:,.0f}", flush=True)
        finally:
            net.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
