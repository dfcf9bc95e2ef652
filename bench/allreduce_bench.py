"""Allreduce between network namespaces whose links are shaped to a rate: Overtake, Gloo and bare TCP in turn,
in the same processes.

    allreduce_bench.py [--rate 1gbit] [--ranks 4] [--mib 16,100] [--rounds 20] [--peers mpi]

--peers mpi: Open MPI too (with mpi_yield_when_idle, as its ranks share the cores), by its own call in turn with the
others, and afterwards Overtake with the engine mpi. mpirun starts the ranks then.

Needs root, iproute2 and Debian's PyTorch. The bound is full-duplex TCP of all ranks at once, in the same run;
beside each time stand the bytes that left the device. Over 102% of the bound the bench fails: it would have
measured something else. Targets that are missed are printed as NOT REACHED, and the exit code is 1."""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

from shaped import BUILD, BURST, PYTHON, ROOT, Net, environment, load, spread


def run(net, a):
    ranks = [subprocess.Popen(
        ["ip", "netns", "exec", net.names[i], PYTHON, str(ROOT / "bench/allreduce_worker.py"), str(i),
         str(net.n), ",".join(net.addresses), "wire", str(a.rounds), a.mib], env=environment(), text=True,
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


def run_by_mpirun(net, a):
    """Daemons of Open MPI, one a namespace: a program in the place of ssh starts them there."""
    with tempfile.TemporaryDirectory() as folder:
        agent = pathlib.Path(folder, "agent")
        agent.write_text("#!/bin/sh\nname=$1\nshift\ncase $name in\n" + "".join(
            f"{address}) ns={name} ;;\n" for address, name in zip(net.addresses, net.names)) +
            'esac\nexec ip netns exec $ns sh -c "$*"\n')
        agent.chmod(0o755)
        done = subprocess.run(
            ["ip", "netns", "exec", net.names[0], "mpirun", "--allow-run-as-root", "--mca", "plm_rsh_agent", str(agent),
             "--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca", "btl_tcp_if_include", "wire", "--mca",
             "oob_tcp_if_include", "wire", "--mca", "mpi_yield_when_idle", "1", "--host",
             ",".join(f"{address}:1" for address in net.addresses), "-np", str(net.n), "-x", "PYTHONPATH", "-x", "OVERTAKE_LIB",
             PYTHON, str(ROOT / "bench/allreduce_worker.py"), "mpi", str(net.n), ",".join(net.addresses), "wire",
             str(a.rounds), a.mib], env=environment(), text=True, stdout=subprocess.PIPE, timeout=a.timeout)
        if done.returncode != 0:
            raise SystemExit("allreduce_bench: a rank failed; what it said stands above")
        return json.loads(done.stdout)


def verdicts(r):
    """(what, measured, limit, reached)"""
    out = []
    for row in r["large"]:
        if row["least_bytes"] < 100 * BURST:
            continue
        share = statistics.median(w[0] / o[0] for o, w in zip(row["overtake"], row["wire"]))
        ratio = statistics.median(o[0] / g[0] for o, g in zip(row["overtake"], row["gloo"]))
        out += [(f"{row['mib']:g} MiB: of bare TCP, at least", share, 0.96, share >= 0.96),
                (f"{row['mib']:g} MiB: of bare TCP, at most (above, something else was measured)", share, 1.02,
                 share <= 1.02),
                (f"{row['mib']:g} MiB: of Gloo's time, at most", ratio, 1.03, ratio <= 1.03)]
    small = {who: statistics.median(1000 * t for t, _ in times) for who, times in r["small"].items()}
    for what, limit in (("a third of Gloo's, async one by one", small["gloo at once"] / 3),
                        ("2 x (5.3 ms and a barrier)", 2 * (5.3 + small["barrier"]))):
        out.append((f"100 x 4 KiB: ms, at most {what}", small["overtake"], limit, small["overtake"] <= limit))
    ratio = statistics.median(o[0] / g[0] for o, g in zip(r["small"]["overtake"], r["small"]["gloo in a bucket"]))
    return [*out, ("100 x 4 KiB: of Gloo's in one bucket, as DDP does it, at most", ratio, 1.03, ratio <= 1.03)]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rate", default="1gbit")
    p.add_argument("--ranks", type=int, default=4)
    p.add_argument("--mib", default="16,100")
    p.add_argument("--rounds", type=int, default=20)
    p.add_argument("--timeout", type=int, default=900)
    p.add_argument("--peers", choices=["mpi"])
    a = p.parse_args()
    if os.geteuid() != 0:
        print("allreduce_bench: skipped: namespaces need root")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("allreduce_bench: was ended"))  # the network goes, too
    mpi = a.peers == "mpi"
    if mpi and not (shutil.which("mpirun") and (BUILD / "libovertake_mpi.so").exists()):
        print("allreduce_bench: without MPI: Debian's openmpi-bin and libopenmpi-dev bring it")
        mpi = False
    net = Net(a.ranks, a.rate)
    try:
        r = (run_by_mpirun if mpi else run)(net, a)
    finally:
        net.close()
    print(f"{a.ranks} ranks at {a.rate}, {a.rounds} rounds in turn, load {load()}: median [least, most]")
    for row in r["large"]:
        print(f"allreduce of {row['mib']:g} MiB, float32; each rank must send {row['least_bytes']:,} bytes")
        for who in (w for w in ("wire", "overtake", "gloo", "open mpi", "overtake over mpi") if w in row):
            share = [w[0] / t for (t, _), w in zip(row[who], row["wire"])]
            print(f"  {who:17} s {spread([t for t, _ in row[who]])}; of bare TCP {spread(share)}; bytes "
                  f"{statistics.median(b for _, b in row[who]):,.0f}")
        ratio = [o[0] / g[0] for o, g in zip(row["overtake"], row["gloo"])]
        print(f"  overtake / gloo, each round: {spread(ratio)}")
        if row["least_bytes"] < 100 * BURST:
            print("  too few bytes for a bound: the links let bursts pass")
    print("100 tensors of 4 KiB, ms a step")
    for who, times in r["small"].items():
        print(f"  {who:18} {spread([1000 * t for t, _ in times])}")
    cost = [w[0] / o[0] for o, w in zip(r["small"]["overtake"], r["small"]["overtake, timeline"])]
    print(f"  with a timeline / without, each round: {spread(cost)}")
    judged = [] if mpi else verdicts(r)  # among MPI's processes others are at work, too
    for what, measured, limit, reached in judged:
        print(f"{'reached' if reached else 'NOT REACHED'}: {what} {limit:.3g}: {measured:.3g}")
    return 1 if not all(v[-1] for v in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
