"""Overtake's loop on real data, with nothing staged: a network that reads scikit-learn's digits is
trained, judged, released and served; its traffic changes; the inputs that moved are named; late labels
prove that accuracy fell; a better version is trained, released by stages and watched. Then a bad model
is pushed and the control plane is killed.

Every line of the timeline is a row of Overtake's own log; every figure of the table at the end comes
from that log or from the ledger that the traffic kept. What does not hold fails the demo."""

import sys
import time

started = time.time()


def say(text, mark=" ", at=None):
    """One line of the timeline, in one write: several threads tell it."""
    sys.stdout.write(f"{(at or time.time()) - started:7.1f}s {mark} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say("overtake demo: train -> gate -> serve -> drift -> labels -> retrain -> canary -> promote, on digits")

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import threading

import numpy as np

import digits
from client import PATIENCE, Api, Log
from traffic import Labels, Source, Traffic, accuracy, failed

HERE = pathlib.Path(__file__).resolve().parent
RUNTIMES = {"tensorflow": "train.py", "onnx": "train_sklearn.py"}
QUIET = ("samples.", "windows.", "labels.", "drift.spread")  # what comes every second, or belongs to an alarm
COLOUR = {"drift.detected": 33, "quality.at_risk": 33, "quality.degraded": 31, "version.rolled_back": 31,
          "gate.refused": 31, "cycle.failed": 31, "version.promoted": 32, "probation.passed": 32,
          "gate.passed": 32, "trigger.fired": 36}
ALARMS = ("drift.detected", "quality.at_risk", "quality.degraded", "trigger.fired")
BROKEN = ("cycle.failed", "gate.refused", "release.stopped", "version.rolled_back")
TARGET, FALLEN = 0.88, 0.80  # the objective of app.yaml; what counts as lost here


class Failed(Exception):
    pass


def short(path):
    """A path as one would type it here."""
    here = pathlib.Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def timeline(e):
    """A row of the log as a line."""
    if e["type"].startswith(QUIET):
        return
    text = f"{e['type']:<20}"
    if sys.stdout.isatty() and e["type"] in COLOUR:
        text = f"\033[{COLOUR[e['type']]}m{text}\033[0m"
    say(f"{text} {(e['text'] or e['object'])[:240]}", "|", e["time_us"] / 1e6)


class Stack:
    """An app's folder, `overtake up` on a data directory of its own, the log, and traffic."""

    def __init__(self, overtake, work, runtime="tensorflow", rate=300, late=5.0, seed=11):
        self.overtake, self.work = pathlib.Path(overtake).resolve(), pathlib.Path(work).resolve()
        self.runtime, self.rate, self.late, self.seed = runtime, rate, late, seed
        self.app, self.data = self.work / "app", self.work / "data"
        self.up = self.log = self.traffic = self.labels = None

    # ---- the app's folder

    def lay_out(self, rows=6000):
        shutil.rmtree(self.work, ignore_errors=True)
        (self.app / "data").mkdir(parents=True)
        for name in ("digits.py", "train.py", "train_sklearn.py"):
            shutil.copy(HERE / name, self.app)
        text = (HERE / "app.yaml").read_text().replace("python train.py", f"python {RUNTIMES[self.runtime]}")
        (self.app / "app.yaml").write_text(text)
        digits.write(self.app / "data" / "digits.npz", rows)

    def edit(self, name, *changes):
        """A copy of app.yaml with pieces replaced; each must be there."""
        text = (self.app / "app.yaml").read_text()
        for old, new in changes:
            if old not in text:
                raise Failed(f"app.yaml does not hold {old!r}")
            text = text.replace(old, new)
        (self.app / name).write_text(text)

    # ---- processes

    def launch(self, listen="127.0.0.1:0", control="127.0.0.1:0"):
        """`overtake up`, until it says where it listens."""
        env = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
               "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        self.up = subprocess.Popen(
            [self.overtake, "up", "--data", self.data, "--listen", listen, "--control", control,
             "--output", "json"], stdout=subprocess.PIPE, stderr=self.up_log, env=env, cwd=self.work)
        line = self.up.stdout.readline()
        if not line:
            raise Failed(f"overtake up ended with {self.up.wait()}; see {self.up_log.name}")
        self.inference = json.loads(line)["inference"]

    def start(self):
        self.up_log = open(self.work / "up.log", "wb")
        self.launch()
        self.api = Api(self.data)
        self.log = Log(self.api, timeline)
        self.until("the control plane answers", self.answers)
        self.log.start()

    def answers(self):
        try:
            return self.api.get("/health")
        except OSError:
            return None

    def until(self, what, ask, seconds=60, every=0.1):
        """Asks until the answer is true: for what the log has no event for."""
        end = time.monotonic() + seconds
        while not (got := ask()):
            if time.monotonic() > end:
                raise Failed(f"waited {seconds} s until {what}")
            if self.up.poll() is not None:
                raise Failed(f"overtake up ended with {self.up.returncode}; see {self.up_log.name}")
            time.sleep(every)
        return got

    def command(self, *words):
        """Runs a command of the CLI as anybody would, and shows it."""
        say("overtake " + shlex.join(str(w) for w in words), "$")
        done = subprocess.run([self.overtake, *map(str, words), "--data", self.data], cwd=self.work,
                              capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failed(f"overtake {words[0]}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def state(self):
        return self.api.get("/apps/digits")

    def control_pid(self):
        """The control plane's process: the supervisor's child of that name."""
        children = pathlib.Path(f"/proc/{self.up.pid}/task/{self.up.pid}/children").read_text().split()
        for pid in children:
            try:
                words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[1:2] == [b"control"]:
                return int(pid)
        return None

    def stop(self):
        """Drains everything; the exit code of `overtake up`."""
        if self.log:
            self.log.stopped = True
        if self.traffic:
            self.traffic.stop()
        if self.labels:
            self.labels.stop()
        if not self.up:
            return None
        if self.up.poll() is None:
            self.up.send_signal(signal.SIGTERM)
        try:
            code = self.up.wait(40)
        except subprocess.TimeoutExpired:
            self.up.kill()
            code = self.up.wait()
        self.up.stdout.close()
        self.up_log.close()
        if self.traffic:
            self.traffic.ledger.write(self.work / "ledger.csv")
        return code

    # ---- steps that the tests take too

    def first_version(self):
        self.command("apply", "app/app.yaml")
        first = self.log.wait("version.promoted", unless=BROKEN)
        self.until("v1 answers", self.metadata)
        return first

    def metadata(self):
        """What the replica says of the model that answers; None while there is none."""
        with contextlib.closing(http.client.HTTPConnection(self.inference, timeout=10)) as c:
            c.request("GET", "/v2/models/digits")
            answer = c.getresponse()
            body = answer.read()
        return json.loads(body) if answer.status == 200 else None

    def begin_traffic(self):
        self.source = Source(self.seed)
        self.source.enter("steady", "before", 0.0)
        self.traffic = Traffic(self.inference, "digits", self.source, self.rate)
        self.ledger = self.traffic.ledger
        self.labels = Labels(self.api, "digits", self.ledger, self.late)
        self.traffic.start()
        self.labels.start()

    def learned(self):
        """Until the baseline of accepted traffic is known."""
        self.until("the baseline is learnt", lambda: self.state()["quality"]["drift"]["learning"] is False,
                   every=0.5)

    def requests(self, n, seconds=60):
        """Until so many more requests are answered."""
        target = len(self.ledger.entries) + n
        self.until(f"{n} requests are answered", lambda: len(self.ledger.entries) >= target, seconds)

    def bad_model(self):
        """Somebody trains on rows in which the labels of one class, the 3s, are shuffled."""
        x, y = digits.rows(self.source.pools["training"], self.source.images, self.source.labels, 3000, 5)
        cx, cy = digits.rows(self.source.pools["before"], self.source.images, self.source.labels, 3000, 6, 1.0)
        x, y = np.concatenate([x, cx]), np.concatenate([y, cy])
        np.savez(self.work / "hurry.npz", x=x, y=np.where(y == 3, np.random.default_rng(7).integers(0, 10, len(y)), y))
        return subprocess.Popen(["nice", "-n", "19", sys.executable, RUNTIMES[self.runtime], "--data",
                                 self.work / "hurry.npz", "--out", self.work / "hurry"], cwd=self.app,
                                env={**os.environ, "OMP_NUM_THREADS": "1"},
                                stdout=open(self.work / "hurry.log", "wb"), stderr=subprocess.STDOUT)

    def push_bad(self):
        """Under a loose gate and without a shadow stage. The events of its rollback."""
        text = (self.app / "app.yaml").read_text()
        head, _ = text.split("release:\n")
        (self.app / "hurry.yaml").write_text(head + """release:
  - gate: {require: "candidate.base > 0.5"}
  - canary: {shares: [20%], margin: 0.02, at_most: 2min, otherwise: roll_back}
""")
        after = self.log.last()
        self.command("apply", "app/hurry.yaml")
        self.command("push", "digits", "hurry/model", "--reason", "works on my machine")
        gate = self.log.wait("gate.passed", after, unless=("cycle.failed", "gate.refused"))
        canary = self.log.wait("stage.entered", gate["seq"] - 1)
        back = self.log.wait("version.rolled_back", canary["seq"], unless=("version.promoted",))
        return gate, canary, back


def ticker(stack, every=5.0):
    """A line about the traffic now and then."""
    seen = 0
    while not stack.traffic.stopped.wait(every):
        entries = list(stack.ledger.entries)
        part, seen = entries[seen:], len(entries)
        share, n = accuracy(part)
        say(f"{len(entries):,} requests, {len(failed(entries))} failed; the last {n:,}: accuracy {share:.3f}", ".")


class Demo:
    def __init__(self, stack):
        self.s = stack
        self.claims = []

    def claim(self, text, holds):
        self.claims.append((text, bool(holds)))

    def steady(self):
        s = self.s
        self.v1 = s.first_version()
        says = s.metadata()["parameters"]
        self.verified = says["verified"]
        say(f"v1 answers: {'golden answers repeated' if self.verified else 'NOT VERIFIED'} where it is served, "
            f"batches of up to {says.get('batch', 1)} rows proven equal to single ones", ">")
        say(f"traffic begins: {s.rate} requests/s of clean digits; labels come {s.late:g} s after each request", ">")
        s.begin_traffic()
        threading.Thread(target=ticker, args=(s,), daemon=True).start()
        s.learned()
        say("the baseline of accepted traffic is learnt: from now on change is tested against it", ">")
        s.requests(5 * s.rate)

    def shift(self):
        s = self.s
        self.onset_us = time.time_ns() // 1000
        self.before_onset = s.log.last()
        s.source.enter("shifted", "before", 1.0)
        say(f"the camera slips: turned {digits.TURN:g} degrees, blurred, noisy", ">")
        self.drift = s.log.wait("drift.detected", self.before_onset)
        self.degraded = s.log.wait("quality.degraded", self.before_onset)
        self.trigger = s.log.wait("trigger.fired", self.before_onset)
        self.v2 = s.log.wait("version.promoted", self.trigger["seq"], unless=BROKEN)
        self.switch_us = time.time_ns() // 1000
        s.source.enter("after", "after", 1.0)
        say("from here on the traffic shows images that no version was trained on", ">")

    def probation(self):
        s = self.s
        hurry = s.bad_model()
        self.passed = s.log.wait("probation.passed", self.v2["seq"], unless=BROKEN)
        # Whole seconds, so that the command in the table asks the same.
        self.from_us, self.to_us = (t // 1_000_000 * 1_000_000
                                    for t in (self.switch_us + 999_999, self.passed["time_us"]))
        s.until("the labels of probation are in", lambda: self.late_labels(self.to_us))
        ask = {"from_us": self.from_us, "to_us": self.to_us}
        self.without, self.with_ = (s.api.get("/deployments/digits/accuracy", version=v, **ask) for v in (1, 2))
        if hurry.wait(PATIENCE) != 0:
            raise Failed(f"the bad model was not trained; see {s.work / 'hurry.log'}")

    def late_labels(self, to_us):
        entries = self.s.ledger.entries
        return self.s.labels.posted > 0 and entries[self.s.labels.posted - 1].time_us >= to_us

    def brake(self):
        say("somebody in a hurry loosens the gate and pushes a model that learnt from shuffled 3s", ">")
        self.gate, self.canary, self.back = self.s.push_bad()

    def kill(self):
        s = self.s
        pid = s.control_pid()
        say(f"kill -9 {pid}: the control plane is gone", ">")
        t0 = time.time_ns() // 1000
        os.kill(pid, signal.SIGKILL)
        s.until("another control plane answers", lambda: s.control_pid() not in (None, pid) and s.answers(),
                every=0.02)
        t1 = time.time_ns() // 1000
        s.requests(s.rate)
        self.killed = (t1 - t0, s.ledger.of(since_us=t0 - 100_000, to_us=time.time_ns() // 1000))
        self.champion = s.until("the log is read again", s.state)["champion"]
        say(f"back {(t1 - t0) / 1e6:.2f} s later with v{self.champion}; "
            f"{len(self.killed[1])} predictions since, {len(failed(self.killed[1]))} failed", ">")

    def finish(self):
        s = self.s
        s.traffic.stop()
        s.until("the last labels are in", lambda: self.late_labels(s.ledger.entries[-1].time_us))
        self.why = [s.command("why", "digits"), s.command("why", "digits", "not", f"v{self.back_version()}")]
        self.verify = s.api.get("/events/verify")
        self.models = s.api.get("/models/digits")
        self.exit = s.stop()

    def back_version(self):
        return int(self.back["object"].rsplit("@", 1)[1])

    def run(self):
        self.steady()
        self.shift()
        self.probation()
        self.brake()
        self.kill()
        self.finish()

    # ---- the table

    def judge(self):
        """Every claim, from the log and the ledger."""
        s, all_ = self.s, self.s.ledger.entries
        steady, shifted, after = (s.ledger.of(phase=p) for p in ("steady", "shifted", "after"))
        pools = s.source.pools
        early = [e for e in s.log.events if e["type"] in ALARMS and e["seq"] <= self.before_onset]
        bad = self.back_version()
        admitted = {1, 2, bad}
        self.acc = {"before": accuracy(steady)[0], "during": accuracy(shifted)[0],
                    "after": accuracy([e for e in after if e.version == 2 and e.time_us < self.canary["time_us"]])[0]}
        c = self.claim
        c(f"all {len(all_):,} requests answered, none failed", not failed(all_))
        c("every answer has a prediction id of its own", len({e.id for e in all_}) == len(all_))
        c("every answer is from a version that was admitted", {e.version for e in all_} <= admitted)
        c("v1 repeated its golden answers where it is served", self.verified)
        c("no alarm before the traffic changed", not early)
        c("drift was found after the change, and inputs are named", self.drift["payload"]["moved"])
        c("labels proved the loss after that", self.degraded["time_us"] > self.onset_us)
        c(f"accuracy before is above {TARGET}", self.acc["before"] >= TARGET)
        c(f"accuracy during is below {FALLEN}", self.acc["during"] < FALLEN)
        c(f"accuracy after is above {TARGET}", self.acc["after"] >= TARGET)
        c("accuracy after was measured on images of a third pool",
          {e.image for e in after} <= set(pools["after"].tolist()) and
          not set(pools["after"]) & (set(pools["before"]) | set(pools["training"])))
        c("the old version would be worse by 10 points and more",
          self.with_["labelled"] > 500 and self.with_["estimate"] - self.without["estimate"] > 0.1)
        c("Overtake's accuracy of v2 is the ledger's",
          abs(self.with_["estimate"] - accuracy([e for e in after if e.version == 2 and
                                                 self.from_us <= e.time_us < self.to_us])[0]) < 0.01)
        c("probation passed", self.passed)
        c("the bad model passed the loose gate and the canary threw it out", self.back["seq"] > self.gate["seq"])
        c("v2 still serves", self.champion == 2)
        c("predictions went on without the control plane", self.killed[1] and not failed(self.killed[1]))
        c("the log's chain of hashes is whole", self.verify["ok"])
        c("no label was refused", not s.labels.problem)
        c("overtake up ended in order", self.exit == 0)
        return all(ok for _, ok in self.claims)

    def table(self):
        s = self.s
        ledger = f"python {short(HERE / 'traffic.py')} {short(s.work / 'ledger.csv')}"
        bad = self.back_version()
        seen = s.ledger.of(version=bad)
        shifted = s.ledger.of(phase="shifted")

        def delay(e):
            sent = sum(r.time_us < e["time_us"] for r in shifted)
            return f"{sent:,} requests, {(e['time_us'] - self.onset_us) / 1e6:.1f} s"

        t = {k: v / 1e6 for k, v in self.v2["payload"]["time"].items()}
        waited = (self.trigger["time_us"] - self.degraded["time_us"]) / 1e6
        total = (self.v2["time_us"] - self.degraded["time_us"]) / 1e6
        window = " ".join(f"--{k} {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(us // 1_000_000))}"
                          for k, us in (("from", self.from_us), ("to", self.to_us)))
        rows = [
            ("versions", ", ".join(f"v{v['version']} {v['status']}" for v in reversed(self.models["list"])),
             "overtake models digits"),
            ("accuracy before the change", f"{self.acc['before']:.3f}", ledger),
            ("          during", f"{self.acc['during']:.3f}", ledger),
            ("          after, with v2", f"{self.acc['after']:.3f}", ledger),
            ("          without Overtake (v1, same rows)",
             f"{self.without['estimate']:.3f} (v2 {self.with_['estimate']:.3f}, {self.with_['labelled']:,} rows)",
             f"overtake accuracy digits --version 1 {window}"),
            ("inputs named after", delay(self.drift), "overtake events --type drift.detected"),
            ("loss proven after", f"{delay(self.degraded)}, of which labels {s.late:g} s late",
             "overtake events --type quality.degraded"),
            ("from that alarm to promoted", f"{total:.1f} s", "overtake events --type version.promoted"),
            ("          more labels, as app.yaml asks", f"{waited:.1f} s", "overtake events --type trigger.fired"),
            ("          training", f"{t['training_us']:.1f} s", "overtake runs"),
            ("          packaging, evaluation", f"{t['jobs_us']:.1f} s", "overtake runs"),
            ("          evidence: shadow, canary", f"{t['evidence_us']:.1f} s", "overtake events --type stage.entered"),
            ("          control", f"{t['control_us']:.2f} s", "overtake events --type version.promoted"),
            (f"bad v{bad}", f"seen by {len(seen):,} requests, reverted in "
             f"{(self.back['time_us'] - self.canary['time_us']) / 1e6:.1f} s", f"overtake why digits not v{bad}"),
            ("control plane killed", f"back in {self.killed[0] / 1e6:.2f} s; {len(self.killed[1]):,} predictions, "
             f"{len(failed(self.killed[1]))} failed", "kill -9 PID"),
            ("failed requests", f"{len(failed(s.ledger.entries))} of {len(s.ledger.entries):,}", ledger),
        ]
        print()
        for name, value, command in rows:
            print(f"  {name:<42} {value:<46} {command}")
        print(f"\n  The commands read what this run left: overtake up --data {short(s.data)}")

    def tell(self):
        holds = self.judge()
        self.table()
        for name, text in zip(("", f" not v{self.back_version()}"), self.why):
            print(f"\n  $ overtake why digits{name}")
            print("".join(f"  {line[:200]}\n" for line in text.splitlines()), end="")
        print()
        for text, ok in self.claims:
            if not ok:
                print(f"  DOES NOT HOLD: {text}")
        print(f"  {sum(ok for _, ok in self.claims)} of {len(self.claims)} claims hold\n")
        say("the loop closed" if holds else "FAILED: the loop did not close", ">")
        if holds:
            print("\n  now yours: overtake init your_train.py")
        return holds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overtake", default="build/release/overtake")
    parser.add_argument("--runtime", choices=RUNTIMES, default="tensorflow")
    parser.add_argument("--work", default="build/demo", help="a folder of its own; what is in it is removed")
    parser.add_argument("--rate", type=int, default=300, help="requests a second")
    parser.add_argument("--late", type=float, default=5.0, help="seconds until a label comes")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    stack = Stack(args.overtake, args.work, args.runtime, args.rate, args.late, args.seed)
    demo = Demo(stack)
    try:
        say(f"{args.runtime}; three pools of images: training, traffic before, traffic after promotion", ">")
        stack.lay_out()
        for line in (stack.app / "app.yaml").read_text().split("\nquality:")[1].splitlines():
            if line.strip() and not line.strip().startswith("#"):
                print(f"           {'quality:' if line.startswith(' {') else ''}{line}")
        stack.start()
        demo.run()
    except (Failed, TimeoutError, OSError, KeyError) as e:
        say(f"FAILED: {type(e).__name__}: {e}", ">")
        stack.stop()
        print((stack.work / "up.log").read_text(errors="replace")[-3000:])
        sys.exit(1)
    except BaseException:
        stack.stop()
        raise
    sys.exit(0 if demo.tell() else 1)


if __name__ == "__main__":
    main()
