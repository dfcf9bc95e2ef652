"""Recovery of an elastic job: from the death of one of four ranks (kill -9) to the first step of the next epoch that is
done on all survivors, beside a restart of the whole job (--max-restarts), both in turn.

    elastic_bench.py [--rounds 20] [--json FILE]
"""

import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
OVERTAKE = ROOT / os.environ.get("BUILD", "build/release") / "overtake"
RANK = ROOT / "tests" / "e2e" / "elastic_rank.py"
RANKS, LIMIT_S, PATIENCE_S = 4, 3.0, 120


def wait_for(find):
    until = time.time() + PATIENCE_S
    while time.time() < until:
        got = find()
        if got:
            return got
        time.sleep(0.02)
    sys.exit("elastic_bench: nothing more comes")


def one(elastic):
    """Seconds from the death to the last rank's first step after it."""
    with tempfile.TemporaryDirectory() as d:
        times, until, out = (pathlib.Path(d) / n for n in ("times", "until", "out"))
        times.touch()
        options = ["--min-np", "2"] if elastic else ["--max-restarts", "1", "--settle", "0s"]
        program = [sys.executable, RANK, f"until={until}", f"times={times}", *([] if elastic else ["aware=no"])]
        with open(out, "wb") as f:
            p = subprocess.Popen([OVERTAKE, "run", "-np", str(RANKS), *options, "--", *program], stdout=f, stderr=f)
        try:
            def steps():
                return [line.split() for line in times.read_text().splitlines()]
            wait_for(lambda: len(steps()) == RANKS)
            victim = int(wait_for(lambda: re.search(rb"^\[2\] pid (\d+)$", out.read_bytes(), re.M))[1])
            died = time.time()
            os.kill(victim, signal.SIGKILL)
            left = RANKS - 1 if elastic else RANKS
            def after():
                later = [float(t) for _, size, t in steps()[RANKS:] if int(size) == left]
                return later[:left] if len(later) >= left else None
            took = max(wait_for(after)) - died
            until.touch()
            p.wait(PATIENCE_S)
            return took
        finally:
            p.kill()
            p.wait()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--rounds", type=int, default=20)
    a.add_argument("--json")
    args = a.parse_args()
    took = {True: [], False: []}
    for _ in range(args.rounds):
        for elastic in took:
            took[elastic].append(one(elastic))
    for elastic, name in ((True, "survivors go on"), (False, "whole job again")):
        s = sorted(took[elastic])
        print(f"{name}: median {statistics.median(s):.3f} s, {s[0]:.3f} to {s[-1]:.3f} s, {len(s)} deaths of one of {RANKS} ranks")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"elastic": took[True], "restart": took[False]}))
    if statistics.median(took[True]) > LIMIT_S:
        sys.exit(f"elastic_bench: survivors take more than {LIMIT_S:g} s")


main()
