"""Time to the same accuracy: one network, trained on four ranks over emulated links of 1 Gbit/s, on CPUs, by PyTorch's
DistributedDataParallel with and without its hooks, and by Overtake.

    accuracy_bench.py [--rate 1gbit] [--sizes 12,25] [--seeds 5] [--only overtake/exact,ddp] [--json FILE]

Needs root, iproute2 and Debian's PyTorch. Rows come from a generator (clusters on the corners of a hypercube, several a
class, as in Guyon's Madelon, 2003), 50,000 to train on and others to validate. The target is fixed before anything is
timed: by the same network in one process, exact, from a seed of its own. Methods take turns within a seed. What was
measured is written to FILE, too."""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from shaped import BUILD, PYTHON, ROOT, Net, environment, load, spread

ROWS, HELD, CLASSES, FEATURES = 50_000, 4_000, 10, 64
WIDTH, DEPTHS = 1024, {12: 12, 25: 24}  # millions of parameters: square layers
# The same for all: memory that was given back stays with the process, or the order of the methods would tell.
VARIABLES = ["GLOO_SOCKET_IFNAME=wire", "OMP_NUM_THREADS=1", "MALLOC_MMAP_THRESHOLD_=1073741824",
             "MALLOC_TRIM_THRESHOLD_=4294967296"]
# What each launch of the job trains with, one after the other.
EXACT, DDP = "overtake/exact", "ddp/exact"
METHODS = [DDP, "ddp fp16/exact", EXACT, "ddp overtake/exact", "overtake/half", "overtake/auto"]
LOW_RANK = "ddp low rank/exact"
LEAST_RATIO, LEAST_EXACT, LEAST_COMPUTE = 3.0, 1.15, 0.2


# --- rows -----------------------------------------------------------------------------------------------------------

def rows(seed, n, informative=16, clusters=2, noise=0.01):
    """Clusters on corners of a hypercube, each with its own covariance, `clusters` of them a class; then as many features
    that are mixtures of those, and features of noise alone; some labels are wrong."""
    r = np.random.default_rng(seed)
    corners = r.choice(1 << informative, CLASSES * clusters, replace=False)
    centres = 2.0 * ((corners[:, None] >> np.arange(informative)) & 1) - 1
    mixes = r.uniform(-1, 1, (len(corners), informative, informative)) * 0.5
    of = r.integers(0, len(corners), n)
    x = np.empty((n, FEATURES))
    for c, mix in enumerate(mixes):
        mine = of == c
        x[mine, :informative] = r.normal(size=(mine.sum(), informative)) @ mix + centres[c]
    x[:, informative:2 * informative] = x[:, :informative] @ r.uniform(-1, 1, (informative, informative))
    x[:, 2 * informative:] = r.normal(size=(n, FEATURES - 2 * informative))
    x = (x - x.mean(0)) / x.std(0)
    y = of % CLASSES
    wrong = r.random(n) < noise
    y[wrong] = r.integers(0, CLASSES, wrong.sum())
    return x[:, r.permutation(FEATURES)].astype("float32"), y.astype("int64")


def linear_accuracy(x, y, vx, vy):
    """What least squares on the features gets to: the task is not linear."""
    def ones(a):
        return np.hstack([a, np.ones((len(a), 1), "float32")])
    w = np.linalg.lstsq(ones(x), np.eye(CLASSES)[y], rcond=None)[0]
    return float(((ones(vx) @ w).argmax(1) == vy).mean())


# --- figures --------------------------------------------------------------------------------------------------------

def target_of(curve, share=0.9):
    """What is reached `share` of the way along the exact curve, in whole half percents: the median of three
    neighbours, so that no lucky evaluation sets it."""
    seen = [a for _, _, a in curve]
    at = max(1, min(len(seen) - 2, round(share * (len(seen) - 1))))
    return int(200 * statistics.median(seen[at - 1:at + 2])) / 200


def parameters(size):
    return (FEATURES + 1) * WIDTH + DEPTHS[size] * (WIDTH + 1) * WIDTH + (WIDTH + 1) * CLASSES


def figures(runs):
    """By method: seconds to the target of each seed (None: not reached), steps, seconds and bytes a step, seconds
    a step of rank 0's processor."""
    out = {}
    for r in runs:
        f = out.setdefault(r["name"], {"to_target_s": {}, "steps": [], "step_s": [], "bytes": [], "cpu_s": []})
        f["to_target_s"][r["seed"]] = r["to_target_s"] if r["reached"] else None
        f["steps"].append(r["steps"])
        f["step_s"] += r["step_s"][3:]  # the first ones learn the plan, and the windows of TCP
        f["bytes"].append(r["bytes"] / len(r["step_s"]))
        f["cpu_s"].append(r["cpu_s"] / len(r["step_s"]))
    return out


def ratios(figure, by):
    """Seed by seed: how many times faster `figure` was at the target than the best of `by`. A run that did not get
    there took for ever; where `figure` did not, the ratio is 0."""
    out = []
    for seed, mine in figure["to_target_s"].items():
        others = [f["to_target_s"].get(seed) for f in by]
        others = [t for t in others if t is not None]
        if mine is None or others:
            out.append(0.0 if mine is None else min(others) / mine)
    return out


def verdicts(f, compute_s):
    """(what, measured, least, reached) for each target that can be judged."""
    out = []
    ddp = [f[m] for m in (DDP, "ddp fp16/exact", LOW_RANK) if m in f]
    if compute_s and DDP in f:
        share = statistics.median(compute_s) / statistics.median(f[DDP]["step_s"])
        out.append(("computation, of a step of DDP", share, LEAST_COMPUTE))
    for name, by, least, what in (("overtake/auto", ddp, LEAST_RATIO, "auto, of the best of DDP and its hooks"),
                                  (EXACT, ddp[:1], LEAST_EXACT, "exact, of DDP")):
        if name in f and by and (r := ratios(f[name], by)):
            out.append((f"{what}, time to accuracy", statistics.median(r), least))
    return [(what, measured, least, measured >= least) for what, measured, least in out]


# --- runs -----------------------------------------------------------------------------------------------------------

class Job:
    """`overtake run` from the first namespace, the others in the place of ssh."""

    def __init__(self, net, folder, rank):
        self.net, self.folder, self.rank, self.n = net, pathlib.Path(folder), rank, 0
        ssh = self.folder / "ssh"
        ssh.write_text(f'#!/bin/sh\nhost=$1; shift\nexec ip netns exec {net.tag}n$host sh -c "exec $*"\n')
        ssh.chmod(0o755)
        self.hosts = ["-H", ",".join(["localhost:1"] + [f"{i}:1" for i in range(1, net.n)]), "--ssh", str(ssh)]

    def run(self, *words, hosts=None, **options):
        env = environment()
        passed = [w for v in VARIABLES + [f"{v}={env[v]}" for v in ("OVERTAKE_LIB", "PYTHONPATH")] for w in ("-x", v)]
        return subprocess.run(
            ["ip", "netns", "exec", self.net.names[0], str(BUILD / "overtake"), "run", *(hosts or self.hosts), *passed,
             "--no-prefix", "--no-progress", *words],
            env=env, text=True, cwd=self.folder, **options)

    def measure_links(self):
        text = self.run("--", str(BUILD / "overtake"), "tune", stdout=subprocess.PIPE, check=True).stdout
        (self.folder / "links").write_text(text)
        return text

    def train(self, plan, wire, timeout, hosts=None):
        """The worker's results; None and what it said where it failed."""
        self.n += 1
        at = self.folder / f"plan{self.n}"
        at.write_text(json.dumps({**plan, "address": self.net.addresses[0], "port": 29500 + self.n}))
        options = [] if wire == "exact" else ["--links", "links", "--wire-rank", str(self.rank)]
        done = self.run("--wire", wire, *options, "--", PYTHON,
                        str(ROOT / "bench/accuracy_worker.py"), str(at), hosts=hosts, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, timeout=timeout)
        out = pathlib.Path(f"{at}.out")
        said = [line for line in done.stdout.splitlines() if line.strip()]
        return (json.loads(out.read_text()) if done.returncode == 0 else None), said


def make_rows(folder, seed):
    x, y = rows(seed, ROWS + HELD)
    for k, v in {"x": x[:ROWS], "y": y[:ROWS], "vx": x[ROWS:], "vy": y[ROWS:]}.items():
        np.save(f"{folder}/rows{seed}.{k}.npy", v)
    return linear_accuracy(x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


def plan_of(a, folder, size, seed, methods, batch=None, every=None):
    return {"rows": f"{folder}/rows{seed}", "seed": seed, "width": WIDTH, "depth": DEPTHS[size], "classes": CLASSES,
            "batch": batch or a.batch, "rate": a.learning_rate, "every": every or a.every, "low_rank": a.wire_rank,
            "methods": methods}


def calibrate(a, job, size):
    """The target, from a seed that is not timed; one process holds all rows of a batch."""
    seed = 1000
    linear = make_rows(job.folder, seed)
    plan = plan_of(a, job.folder, size, seed, [["compute", a.steps, None]], batch=a.batch * a.ranks)
    got, said = job.train(plan, "exact", a.timeout, hosts=["-np", "1"])
    if got is None:
        raise SystemExit("\n".join(said))
    target = target_of(got[0]["curve"])
    curve = " ".join(f"{s}:{v:.3f}" for s, _, v in got[0]["curve"])
    print(f"exact, one process (step:accuracy): {curve}\ntarget: {target:.3f}; least squares gets {linear:.3f}", flush=True)
    return target


def one_seed(a, job, size, seed, target, wanted, runs):
    """All methods in turn; those that need the same setting of the job in one launch of it."""
    for wire in ("exact", "half", "auto"):
        names = [m for m in wanted if m.endswith("/" + wire)]
        shift = seed % max(len(names), 1)
        names = names[shift:] + names[:shift]
        if names:
            methods = [[m.split("/")[0], a.most * a.steps, target] for m in names]
            got, said = job.train(plan_of(a, job.folder, size, seed, methods), wire, a.timeout)
            if got is None:
                raise SystemExit("\n".join(said))
            for line in said:
                print("  " + line)
            for m, r in zip(names, got):
                runs.append({**r, "name": m, "seed": seed, "size": size, "load": load()})
                print(f"  seed {seed} {m:20} {r['to_target_s']:.2f} s, {r['steps']} steps, "
                      f"{statistics.median(r['step_s'][3:]):.4f} s a step, accuracy {r['curve'][-1][2]:.3f}, load {load()}",
                      flush=True)


def one_size(a, job, size):
    print(f"\n{parameters(size):,} parameters: {DEPTHS[size]} square layers of {WIDTH}, {a.ranks} ranks, {a.batch} rows a rank and "
          f"step, Adam {a.learning_rate:g}, one thread a rank, "
          f"low rank {a.wire_rank}", flush=True)
    target, runs = calibrate(a, job, size), []
    make_rows(job.folder, 1)
    got, said = job.train(plan_of(a, job.folder, size, 1, [["compute", 12, None]], every=1), "exact", a.timeout)
    compute_s = got[0]["step_s"][3:]
    wanted = [m for m in a.only if m != LOW_RANK]
    if LOW_RANK in a.only:
        got, said = job.train(plan_of(a, job.folder, size, 1, [["ddp low rank", 6, None]]), "exact", a.timeout)
        wanted += [LOW_RANK] if got is not None else []
        print(f"DDP's low-rank hook: {'runs' if got is not None else 'fails: ' + ' | '.join(said[-3:])}", flush=True)
    for seed in range(a.first_seed, a.first_seed + a.seeds):
        make_rows(job.folder, seed)
        one_seed(a, job, size, seed, target, wanted, runs)
    f, bad = figures(runs), 0
    print(f"{parameters(size):,} parameters, {a.ranks} ranks, emulated {a.rate}, CPU: median [least, most]; load {load()}")
    print(f"  computation alone, all ranks at once: s a step {spread(compute_s)}")
    for name, v in f.items():
        reached = [t for t in v["to_target_s"].values() if t is not None]
        print(f"  {name:20} to {target:.3f}: s {spread(reached) if reached else '-'} ({len(reached)} of "
              f"{len(v['to_target_s'])} seeds); steps {spread(v['steps'])}; s a step {spread(v['step_s'])}; MB a step "
              f"{statistics.median(v['bytes']) / 1e6:.1f}; processor s a step {spread(v['cpu_s'])}" +
              (f"; of ddp's time {spread([1 / r if r else float('inf') for r in ratios(v, [f[DDP]])])}" if DDP in f else ""))
    for what, measured, least, reached in verdicts(f, compute_s):
        bad += not reached
        print(f"  {'reached' if reached else 'NOT REACHED'}: {what}: {measured:.3g} (at least {least:g})", flush=True)
    return bad, {"size": size, "rate": a.rate, "target": target, "compute_s": compute_s, "runs": runs,
                 "verdicts": verdicts(f, compute_s)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rate", default="1gbit")
    p.add_argument("--ranks", type=int, default=4)
    p.add_argument("--sizes", default="12,25", help="millions of parameters")
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--first-seed", type=int, default=1, help="to go on with in another run")
    p.add_argument("--batch", type=int, default=32, help="rows a rank and step")
    p.add_argument("--learning-rate", type=float, default=1e-3)
    p.add_argument("--steps", type=int, default=32, help="of the exact curve that sets the target")
    p.add_argument("--most", type=int, default=2, help="a run ends without success after so many times --steps")
    p.add_argument("--every", type=int, default=2, help="steps between evaluations")
    p.add_argument("--wire-rank", type=int, default=8, help="of overtake/auto; DDP's low-rank hook has the same")
    p.add_argument("--only", default=",".join(METHODS + [LOW_RANK]))
    p.add_argument("--json", default=str(BUILD / "bench" / "accuracy.json"))
    p.add_argument("--timeout", type=int, default=900, help="seconds of one launch")
    a = p.parse_args()
    a.only = a.only.split(",")
    if os.geteuid() != 0:
        print("accuracy_bench: skipped: namespaces need root")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("accuracy_bench: was ended"))  # the network goes, too
    started, bad, all_sizes = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory() as folder:
        net = Net(a.ranks, a.rate)
        try:
            job = Job(net, folder, a.wire_rank)
            print("links, as measured:", ", ".join(job.measure_links().split("\n")))
            for size in a.sizes.split(","):
                missed, result = one_size(a, job, int(size))
                bad += missed
                all_sizes.append(result)
        finally:
            net.close()
    os.makedirs(os.path.dirname(a.json) or ".", exist_ok=True)
    pathlib.Path(a.json).write_text(json.dumps(all_sizes))
    print(f"\n{bad} of the targets not reached; {time.monotonic() - started:.0f} s; all runs in {a.json}")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
