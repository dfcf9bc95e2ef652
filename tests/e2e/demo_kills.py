"""kill -9 during the whole demo: control plane, replica, supervisor and shims, at moments drawn from a seed, while
the digits' loop trains, serves, drifts, retrains, releases and throws a bad model out. The demo's own claims must
hold all the same; a request may fail only if it was with a replica, or a supervisor, that was killed.

    python tests/e2e/demo_kills.py [--seed N] [--kills N] [--runtime onnx]

Commands are given between two kills (kill_campaign.py kills under every kind of write). A run whose shim is
killed is lost and started again; the one that follows is let live, since an app allows that twice."""

import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import threading
import time

from kill_campaign import alive, processes
from replica import BUILD, ROOT, wait_for

sys.path.insert(0, str(ROOT / "examples" / "digits"))
import demo  # noqa: E402
from client import ApiError  # noqa: E402
from traffic import failed  # noqa: E402

TARGETS = {"control": 12, "serve": 2, "shim": 2, "supervisor": 1}  # how often each, as weights


class Stack(demo.Stack):
    """The demo's, over deaths: it comes back under the same addresses, and who asks is patient."""

    def __init__(self, *args):
        super().__init__(*args)
        self.calm = threading.RLock()  # held by whoever must not be disturbed, and by the killer while it kills

    def start(self):
        super().start()
        self.control, call = self.api.address, self.api.call

        def patient(method, path, *args, **query):
            """Nobody there, or about to go: a question is asked again, who writes hears OSError and comes back."""
            def ask():
                try:
                    return call(method, path, *args, **query) or True
                except ApiError as e:
                    if ": 503: " in str(e):
                        raise ConnectionError(str(e)) from e
                    raise
            return self.until(path, ask) if method == "GET" else ask()
        self.api.call = patient

    def begin_traffic(self):
        with self.calm:
            self.until("the model answers", self.metadata)
            super().begin_traffic()

    def restart(self):
        """After the supervisor's death."""
        self.up.wait()
        self.up.stdout.close()
        self.launch(self.inference, self.control)

    def until(self, what, ask, *_, **__):
        def patient():
            try:
                return ask()
            except (OSError, http.client.HTTPException):
                return None
        return wait_for(what, patient)

    def command(self, *words):
        with self.calm:
            self.until("the control plane answers", self.answers)
            return super().command(*words)


class Killer(threading.Thread):
    def __init__(self, stack, seed, kills):
        super().__init__(daemon=True, name="killer")
        self.s, self.n, self.rng = stack, kills, random.Random(seed)
        self.kills = []  # (who, before, after) in wall us
        self.counts = collections.Counter()
        self.lost = set()  # runs whose shim was killed
        self.problem = None

    def run(self):
        try:
            while len(self.kills) < self.n:
                time.sleep(self.rng.uniform(0.1, 1.3))  # the moment itself is the point
                with self.s.calm:
                    self.one()
        except BaseException as e:
            self.problem = e
            raise

    def one(self):
        who = self.rng.choices(list(TARGETS), TARGETS.values())[0]
        pid = self.find(who) or self.find(who := "control")
        if pid is None:
            return  # between two control planes
        before = time.time_ns() // 1000
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        if who == "supervisor":
            self.s.restart()
        else:
            wait_for(f"the death of {pid}", lambda: not alive(pid))
        self.counts[who] += 1
        self.kills.append((who, before, time.time_ns() // 1000))

    def find(self, who):
        if who == "supervisor":
            return self.s.up.pid
        data = str(self.s.data)
        for pid, (words, _) in processes().items():
            if who != "shim":
                if words[1:2] == [who] and data in words:
                    return pid
            elif words[1:2] == ["shim"] and words[2].startswith(data):
                run = int(pathlib.Path(words[2]).name)
                if not self.lost & {run, run - 1}:
                    self.lost.add(run)
                    return pid
        return None

    def excused(self, faults):
        """Which of the failed requests were with a process that was killed, or sent while there was no supervisor.
        A connection that outlived its replica tells so only to the next request: one each."""
        out, late = set(), collections.Counter()
        for e in faults:
            for who, before, after in self.kills:
                if who not in ("serve", "supervisor") or e.time_us + e.latency_us < before:
                    continue
                if e.time_us <= after:
                    out.add(e)
                elif e.fault.startswith(("BrokenPipe", "ConnectionReset", "RemoteDisconnected")) and \
                        e.time_us < after + 100_000 and late[before] < len(self.s.traffic.clients):
                    late[before] += 1
                    out.add(e)
        return out


class Demo(demo.Demo):
    def __init__(self, stack, killer):
        super().__init__(stack)
        self.killer = killer

    def kill(self):
        """The demo's own, when the killer is done: its claim is exact."""
        self.killer.join()
        if self.killer.problem:
            raise demo.Failed(f"the killer: {self.killer.problem!r}")
        self.s.requests(2 * self.s.rate)
        super().kill()

    def judge(self):
        entries = self.s.ledger.entries
        self.excused = self.killer.excused(failed(entries))
        for e in set(failed(entries)) - self.excused:
            print(f"  failed: {e.fault} at {e.time_us} us for {e.latency_us} us")
        self.s.ledger.entries = [e for e in entries if e not in self.excused]
        # Rows that a killed replica had answered and not yet handed over are not known to anybody.
        if self.s.labels.problem and re.search(r"ids? unknown", self.s.labels.problem):
            self.s.labels.problem = None
        runs = self.s.api_runs
        self.claim("no run is stuck", not [r for r in runs if r["state"] in ("queued", "running")])
        return super().judge()

    def finish(self):
        self.s.until("no run is under way", lambda: self.s.state()["cycle"]["state"] == "idle")
        self.s.api_runs = self.s.api.get("/runs", app="digits")["runs"]
        super().finish()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--runtime", choices=demo.RUNTIMES, default="onnx")
    a = p.parse_args()
    seed = a.seed if a.seed is not None else random.SystemRandom().randrange(1 << 31)
    print(f"demo under kills: seed {seed}, {a.kills} kills", flush=True)
    with tempfile.TemporaryDirectory(prefix="demo-kills-") as folder:
        stack = Stack(BUILD / "overtake", pathlib.Path(folder) / "demo", a.runtime)
        killer = Killer(stack, seed, a.kills)
        shown = Demo(stack, killer)
        try:
            stack.lay_out()
            stack.start()
            killer.start()
            shown.run()
        except BaseException as e:
            print(f"seed {seed}, after {len(killer.kills)} kills (the last: {[k[0] for k in killer.kills[-5:]]}): {e!r}")
            stack.stop()
            print((stack.work / "up.log").read_text(errors="replace")[-3000:])
            raise
        holds = shown.tell()
        print(json.dumps({"seed": seed, "kills": dict(killer.counts), "requests": len(stack.ledger.entries),
                          "failed with the replica or supervisor that had them": len(shown.excused),
                          "failed otherwise": len(failed(stack.ledger.entries)),
                          "runs": dict(collections.Counter(r["state"] for r in stack.api_runs))}))
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
