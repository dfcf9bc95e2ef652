"""Allreduce between network namespaces whose links are shaped to a rate: Overtake, Gloo and bare TCP in turn,
in the same processes.

    allreduce_bench.py [--rate 1gbit] [--ranks 4] [--mib 16,100] [--rounds 20]

Needs root, iproute2 and Debian's PyTorch. The bound is full-duplex TCP of all ranks at once, in the same run;
beside each time stand the bytes that left the device. Over 102% of the bound the bench fails: it would have
measured something else."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BURST = 256 << 10


def sh(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


class Net:
    """A bridge and a namespace a rank; both ends of each link shaped."""

    def __init__(self, n, rate):
        self.tag, self.n = f"otb{os.getpid() % 10000}", n
        self.names = [f"{self.tag}n{i}" for i in range(n)]
        self.addresses = [f"10.77.0.{i + 1}" for i in range(n)]
        try:
            sh("ip", "link", "add", self.tag, "type", "bridge")
            sh("ip", "link", "set", self.tag, "up")
            for i, name in enumerate(self.names):
                outside = f"{self.tag}v{i}"
                sh("ip", "netns", "add", name)
                sh("ip", "link", "add", outside, "type", "veth", "peer", "name", "wire", "netns", name)
                sh("ip", "link", "set", outside, "master", self.tag, "up")
                for command in (["ip", "addr", "add", f"{self.addresses[i]}/24", "dev", "wire"],
                                ["ip", "link", "set", "wire", "up"], ["ip", "link", "set", "lo", "up"],
                                ["tc", "qdisc", "add", "dev", "wire", "root", "tbf", "rate", rate, "burst",
                                 str(BURST), "latency", "50ms"]):
                    sh("ip", "netns", "exec", name, *command)
                sh("tc", "qdisc", "add", "dev", outside, "root", "tbf", "rate", rate, "burst", str(BURST),
                   "latency", "50ms")
        except SystemExit:
            self.close()
            raise

    def close(self):
        for name in self.names:
            sh("ip", "netns", "del", name, check=False)
        sh("ip", "link", "del", self.tag, check=False)


def run(net, a):
    env = {**os.environ, "PYTHONPATH": str(ROOT / "python"),
           "OVERTAKE_LIB": str(ROOT / os.environ.get("BUILD", "build/release") / "libovertake.so")}
    ranks = [subprocess.Popen(
        ["ip", "netns", "exec", net.names[i], "/usr/bin/python3", str(ROOT / "bench/allreduce_worker.py"), str(i),
         str(net.n), ",".join(net.addresses), "wire", str(a.rounds), a.mib], env=env, text=True,
        stdout=subprocess.PIPE if i == 0 else None) for i in range(net.n)]
    try:
        out = ranks[0].communicate(timeout=a.timeout)[0]
        if any(r.wait(timeout=60) != 0 for r in ranks):
            raise SystemExit("allreduce_bench: a rank failed; what it said stands above")
        return json.loads(out)
    finally:
        for r in ranks:
            r.kill()
            r.wait()


def spread(values):
    return f"{statistics.median(values):.4g} [{min(values):.4g}, {max(values):.4g}]"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rate", default="1gbit")
    p.add_argument("--ranks", type=int, default=4)
    p.add_argument("--mib", default="16,100")
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--timeout", type=int, default=900)
    a = p.parse_args()
    if os.geteuid() != 0:
        print("allreduce_bench: skipped: namespaces need root")
        return 0
    net, bad = Net(a.ranks, a.rate), 0
    try:
        r = run(net, a)
    finally:
        net.close()
    load = pathlib.Path("/proc/loadavg").read_text().split()[0]
    print(f"{a.ranks} ranks at {a.rate}, {a.rounds} rounds in turn, load {load}: median [least, most]")
    for row in r["large"]:
        wire = statistics.median(t for t, _ in row["wire"])
        print(f"allreduce of {row['mib']:g} MiB, float32; each rank must send {row['least_bytes']:,} bytes")
        for who in ("wire", "overtake", "gloo"):
            share = [w[0] / t for (t, _), w in zip(row[who], row["wire"])]
            print(f"  {who:10} s {spread([t for t, _ in row[who]])}; of bare TCP {spread(share)}; bytes "
                  f"{statistics.median(b for _, b in row[who]):,.0f}")
        ratio = [o[0] / g[0] for o, g in zip(row["overtake"], row["gloo"])]
        print(f"  overtake / gloo, each round: {spread(ratio)}")
        if row["least_bytes"] < 100 * BURST:
            print("  too few bytes for a bound: the links let bursts pass")
        elif wire / statistics.median(t for t, _ in row["overtake"]) > 1.02:
            print("  above the bound: something else was measured")
            bad = 1
    print("100 tensors of 4 KiB, ms a step")
    for who, times in r["small"].items():
        print(f"  {who:18} {spread([1000 * t for t, _ in times])}")
    return bad


if __name__ == "__main__":
    sys.exit(main())
