"""kill -9 of any process of a running loop, again and again, at moments drawn from a seed, while clients ask, label
and act; an exact ledger of what was acknowledged says afterwards whether anything was lost.

    python tests/e2e/kill_campaign.py [--seed N] [--kills N] [--only control,serve,shim,program,supervisor]

runs one campaign alone and prints what it saw; test_kills.py runs the same in `make test`. The seed fixes who is
killed and what the moment waits for; the scheduler still has a say, so a seed that failed may need a few tries."""

import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

import numpy as np

from replica import PATIENCE, wait_for
from up import HELD, ApiError, App, Up, two_classes

APP = "planes"
TARGETS = {"control": 4, "serve": 3, "shim": 2, "program": 2, "supervisor": 2}  # how often each, as weights
PHASES = ("run.started", "run.finished", "version.registered", "gate.passed", "stage.entered", "version.promoted",
          "labels.received", "trigger.fired")
FATES = (r"(control|serve) ended with signal 9", r"the control plane is gone", r"the control plane is ending; tried again soon",
         HELD)

# Class means, without an import that takes long: a training is over in well under a second.
PROGRAM = '''
import json, os, pathlib, struct
run = int(os.environ["OVERTAKE_RUN"])
with open(STARTS, "a") as f:
    f.write(f"{run} {os.getpid()}\\n")

def column(path, form, width):
    raw = path.read_bytes()
    (skip,) = struct.unpack_from("<H", raw, 8)
    return list(struct.iter_unpack("<" + form * width, raw[10 + skip:]))

sums, counts = [[0.0] * 4, [0.0] * 4], [1, 1]
for d in sorted(pathlib.Path(os.environ["OVERTAKE_DATA"]).iterdir()):
    for x, (y,) in zip(column(d / "x.npy", "f", 4), column(d / "y.npy", "q", 1)):
        counts[y] += 1
        for k in range(4):
            sums[y][k] += x[k]
w = [sums[1][k] / counts[1] - sums[0][k] / counts[0] + 0.001 * (run % 50) for k in range(4)]
out = pathlib.Path(OUT)
out.mkdir(parents=True)
(out / "null.json").write_text(json.dumps({
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    "op": "linear", "weights": [[-v, v] for v in w], "bias": [0.0, 0.0], "softmax": True}))
'''


def stages(n):
    """Releases in turn: at once, and through every stage."""
    gate = {"gate": {"require": "candidate.base > 0.01"}}
    return [gate] if n % 3 == 0 else [
        gate, {"shadow": {"until": "20 compared", "at_most": "20s", "otherwise": "stop"}},
        {"canary": {"shares": ["50%"], "margin": 0.3, "at_most": "20s"}}, {"probation": {"for": "500ms"}}]


class Clients:
    """What asks, labels, acts and reads the stream, and the ledger of it all. Times are monotonic."""

    def __init__(self, up, app, rng):
        self.up, self.app, self.rng = up, app, rng
        self.done, self.calm = threading.Event(), threading.Event()
        self.problems = []            # what must never be: ends the campaign
        self.answers = []             # (opened, ended, wall us, version, x, y)
        self.broken = []              # (opened, ended, "inference" or "control", what)
        self.to_label = collections.deque()
        self.labelled = []            # batches that were acknowledged
        self.refused_labels = 0
        self.acts = {}                # seq of an acknowledged act -> types that its event may have
        self.owner = (0, 0)           # (acknowledged, last tried) of the app file's counter
        self.events = {}              # seq -> (hash, type)
        self.last_seq = 0
        self.news = threading.Condition()
        self.threads = [threading.Thread(target=self.guard, args=(f,), daemon=True)
                        for f in (self.ask_anew, self.ask_on, self.label, self.act, self.read_stream)]

    def guard(self, work):
        try:
            work()
        except BaseException:
            self.problems.append(traceback.format_exc())

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.calm.set()
        self.done.set()
        for t in self.threads:
            t.join(PATIENCE)

    # ---- predictions

    def ask_anew(self):
        """A connection for each request."""
        n = 0
        while not self.done.wait(0.01):
            self.ask(None, n := n + 1)

    def ask_on(self):
        """One connection as long as it holds."""
        held, n = None, 1 << 20
        while not self.done.wait(0.01):
            held = self.ask(held, n := n + 1, keep=True)

    def ask(self, held, n, keep=False):
        x, y = two_classes(4, 1000 + n)
        opened = held[1] if held else time.monotonic()
        host, port = self.up.inference.rsplit(":", 1)
        c = held[0] if held else http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        try:
            c.request("POST", f"/v2/models/{APP}/infer", json.dumps({"inputs": [
                {"name": "x", "datatype": "FP32", "shape": [4, 4], "data": x.ravel().tolist()}]}))
            r = c.getresponse()
            body = json.loads(r.read())
        except (OSError, http.client.HTTPException) as e:
            c.close()
            self.broken.append((opened, time.monotonic(), "inference", repr(e)))
            return None
        if r.status != 200:
            self.problems.append(f"a prediction got {r.status}: {body}")
            return None
        self.answers.append((opened, time.monotonic(), time.time() * 1e6, int(body["model_version"]), x,
                             body["outputs"][0]["data"]))
        incarnation, seq, version, sampled = r.headers["overtake-prediction-id"].split("-")
        self.to_label.append([{"id": f"{incarnation}-{int(seq, 16) + k:x}-{version}-{sampled}", "value": int(v)}
                              for k, v in enumerate(y)])
        if keep and not r.will_close:
            return c, opened
        c.close()
        return None

    # ---- writes

    def control(self, fn, *args, **how):
        """The answer, None when the control plane went away under the request; ApiError is for the caller."""
        opened = time.monotonic()
        try:
            return fn(*args, **how)
        except (OSError, http.client.HTTPException) as e:
            self.broken.append((opened, time.monotonic(), "control", repr(e)))
        except ApiError as e:
            if e.status != 503 or "try again in a moment" in e.message:
                raise
            self.broken.append((opened, time.monotonic(), "control", str(e)))
        return None

    def post_labels(self, batch):
        return self.control(self.up.api.post, f"/deployments/{APP}/labels", {"labels": batch})

    def label(self):
        batch = []
        while not self.done.wait(0.1):
            while self.to_label and len(batch) < 400:
                batch += self.to_label.popleft()
            if not batch:
                continue
            try:
                report = self.post_labels(batch)
            except ApiError as e:
                # A replica that lived while no control plane did: its rows may never have come.
                if e.status != 400 or "unknown" not in e.message:
                    raise
                self.refused_labels += len(batch)
                batch = []
                continue
            if report is None:
                continue  # the same again
            if report["accepted"] + report["repeated"] + report["unknown"] != len(batch):
                self.problems.append(f"{len(batch)} labels: {report}")
            if report["unknown"] == 0:
                self.labelled.append(batch)
            self.refused_labels += report["unknown"]
            batch = []

    def act(self):
        while not self.calm.wait(self.rng.uniform(0.1, 0.9)):
            try:
                self.rng.choice((self.train, self.train, self.push, self.apply, self.brake, self.back))()
            except ApiError as e:
                if e.status != 409 and "try again in a moment" not in e.message:
                    raise

    def acted(self, answer, *types):
        if answer is not None:
            self.acts[answer["event"]] = types

    def train(self):
        self.acted(self.control(self.up.api.act, APP, "train"), "trigger.fired")

    def push(self):
        path = self.app.folder / f"pushed-{self.rng.randrange(1 << 30)}"
        path.mkdir()
        w = [1.0 + 0.2 * self.rng.random()] + [0.2 * self.rng.random() for _ in range(3)]
        (path / "null.json").write_text(json.dumps({
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            "op": "linear", "weights": [[-v, v] for v in w], "bias": [0.0, 0.0], "softmax": True}))
        self.acted(self.control(self.up.api.act, APP, "push", path=str(path)), "version.pushed")

    def brake(self):
        self.acted(self.control(self.up.api.act, APP, "pause"), "loop.paused")
        self.acted(self.control(self.up.api.act, APP, "resume"), "loop.resumed")

    def back(self):
        self.acted(self.control(self.up.api.act, APP, "rollback"), "version.rolled_back", "release.stopped", "run.cancel_asked")

    def apply(self):
        n = self.owner[1] + 1
        self.owner = (self.owner[0], n)
        if self.control(self.app.apply, self.up.api, app_file(self.app, n)) is not None:
            self.owner = (n, n)

    # ---- the log

    def note(self, e):
        """An event as anybody saw it: from now on it is so for good."""
        seen = self.events.setdefault(e["seq"], (e["hash"], e["type"]))
        if seen != (e["hash"], e["type"]):
            self.problems.append(f"event {e['seq']} was {seen} and is {e['hash']}, {e['type']}")

    def read_stream(self):
        while not self.done.is_set():
            host, port = self.up.control.rsplit(":", 1)
            c = http.client.HTTPConnection(host, int(port), timeout=1)
            try:
                c.request("GET", f"/api/v1/events/stream?after={self.last_seq}", headers=self.up.api.headers())
                r = c.getresponse()
                while not self.done.is_set():
                    line = r.readline()
                    if not line.endswith(b"\n"):
                        break
                    if line != b"\n":
                        e = json.loads(line)
                        self.note(e)
                        with self.news:
                            self.last_seq = e["seq"]
                            self.news.notify_all()
            except (OSError, http.client.HTTPException):
                self.done.wait(0.02)
            finally:
                c.close()

    def wait_news(self, type, seconds):
        """Until an event of this type is streamed; False when none came in time."""
        end = time.monotonic() + seconds
        with self.news:
            seen = self.last_seq
            while time.monotonic() < end:
                self.news.wait(max(0.0, end - time.monotonic()))
                if any(self.events[s][1] == type for s in range(seen + 1, self.last_seq + 1) if s in self.events):
                    return True
                seen = self.last_seq
        return False


def app_file(app, n):
    return app.yaml(
        owner=f"owner-{n}", release=stages(n), run=f"{sys.executable} -I -S train.py",
        data={"base": {"path": "base.npz", "label": "y"},
              "recent": {"from": f"{APP}.labelled", "label": "y", "last": "6s", "max_rows": 2000}},
        train={"run": f"{sys.executable} -I -S train.py", "data": ["base", "recent"], "model": "out/model",
               "resources": {"time": "30s"}},
        quality={"window": "500ms", "block": "1s", "blocks_per_day": 8, "baseline": 4, "cycles": "none"},
        objectives={"accuracy": 0.5, "false_alarms": {"at_most": "1 per hour"}},
        retrain={"when": ["labels.new >= 400", "accuracy.degraded"], "cool_down": "1s", "at_most": "100000 per day",
                 "pause_after": "100000 failures"})


# ---- processes


def processes():
    """pid -> (words of its command line, working directory) of what lives."""
    out = {}
    for d in pathlib.Path("/proc").iterdir():
        if d.name.isdigit():
            try:
                if (d / "stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                    continue
                words = (d / "cmdline").read_bytes().decode(errors="replace").split("\0")
                out[int(d.name)] = (words, os.readlink(d / "cwd"))
            except OSError:
                pass
    return out


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Campaign:
    def __init__(self, folder, seed, kills, only=None, say=print):
        self.folder, self.seed, self.n, self.say = pathlib.Path(folder), seed, kills, say
        self.targets = {k: v for k, v in TARGETS.items() if not only or k in only}
        self.rng = random.Random(seed)
        self.starts = self.folder / "starts"
        self.starts.touch()
        self.kills = []     # (who, before, after, back): monotonic; back: its place is taken again
        self.checked = 0    # seq up to which the log was compared
        self.labels_checked = 0
        self.counts = collections.Counter()

    def run(self):
        began = time.monotonic()
        self.say(f"kill campaign: seed {self.seed}, {self.n} kills")
        app = App(self.folder / "app", APP)
        (app.folder / "train.py").write_text(
            f"STARTS = {str(self.starts)!r}\nOUT = 'out/model'\n" + PROGRAM)
        self.up = Up(self.folder / "data")
        self.up.expect_log(*FATES)
        try:
            app.apply(self.up.api, app_file(app, 0))
            self.up.api.wait_event("version.promoted", f"model/{APP}@1")
            self.up.wait_serves(APP, 1, two_classes(4, 1)[0])
            with Clients(self.up, app, random.Random(self.seed + 1)) as self.clients:
                for _ in range(self.n):
                    self.one()
                self.settle()
            self.final()
            self.up.stop()
            left = [(p, w) for p, (w, cwd) in processes().items()
                    if any(str(self.folder) in x for x in w + [cwd]) and p != os.getpid()]
            assert not left, f"left after the end: {left}"
        except BaseException as e:
            self.say(f"seed {self.seed}, after {len(self.kills)} kills (the last: {[k[0] for k in self.kills[-5:]]}): {e}")
            raise
        finally:
            self.up.kill()
        return self.report(time.monotonic() - began)

    # ---- killing

    def one(self):
        self.moment()
        who = self.rng.choices(list(self.targets), list(self.targets.values()))[0]
        pids = self.find(who)
        if not pids and self.clients.wait_news("run.started", 1.0):
            pids = self.find(who)
        if not pids:
            who, pids = "control", self.find("control")
        before = time.monotonic()
        pid = self.rng.choice(pids)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return self.one()  # a program that ended by itself
        if who == "supervisor":
            self.up.process.wait()
            self.up.process.stdout.close()
        wait_for(f"the death of {pid}", lambda: not alive(pid))
        after = time.monotonic()
        self.counts[who] += 1
        if who == "supervisor":
            self.kills.append((who, before, after, None))
            self.up.start(same_ports=True)
            self.kills[-1] = (who, before, after, time.monotonic())
        else:
            self.kills.append((who, before, after, after))
        self.check()

    def moment(self):
        """Some time, or just after something happened."""
        kind, wait, phase = self.rng.random(), self.rng.uniform(0, 0.6), self.rng.choice(PHASES)
        if kind < 0.5 or not self.clients.wait_news(phase, 1.0):
            time.sleep(wait)  # the moment itself is the point
        else:
            time.sleep(wait / 20)

    def find(self, who):
        me = self.up.process.pid
        if who == "supervisor":
            return [me]
        data, out = str(self.up.data), []
        for pid, (words, cwd) in processes().items():
            if who in ("control", "serve"):
                if words[1:2] == [who] and data in words:
                    out.append(pid)
            elif who == "shim":
                if words[1:2] == ["shim"] and words[2].startswith(data):
                    out.append(pid)
            elif words[1:2] in (["package"], ["evaluate"]) and words[2].startswith(data) or (
                    cwd.startswith(data + "/runs/") and words[1:2] != ["shim"]):
                out.append(pid)
        return sorted(out)

    # ---- checking

    def excused(self, opened, ended, what):
        """A request may break with the process that had it, and while the supervisor is down."""
        owner = "serve" if what == "inference" else "control"
        return any(opened <= (after if who == owner else back or ended) and ended >= before
                   for who, before, after, back in self.kills if who in (owner, "supervisor"))

    def check_ledgers(self):
        c = self.clients
        assert not c.problems, "\n".join(c.problems)
        broken = [b for b in c.broken if not self.excused(*b[:3])]
        assert not broken, f"failed though nobody was killed that it needs: {broken} (kills: {self.kills[-3:]})"
        ids = [line.split()[0] for line in self.starts.read_text().splitlines()]
        twice = [k for k, n in collections.Counter(ids).items() if n > 1]
        assert not twice, f"runs whose program was started twice: {twice}"

    def retry(self, fn, *args, **how):
        """Checks are clients too, and the next death may already be on its way."""
        while True:
            got = self.clients.control(fn, *args, **how)
            if got is not None:
                return got

    def check_log(self):
        while True:
            page = self.retry(self.up.api.get, "/events", after=self.checked, limit=1000)["events"]
            for e in page:
                assert e["seq"] == self.checked + 1, f"after event {self.checked} comes {e['seq']}"
                self.checked = e["seq"]
                self.clients.note(e)
            if not page:
                break
        proof = self.retry(self.up.api.get, "/events/verify")
        assert proof["ok"], proof

    def check_writes(self):
        c = self.clients
        (acknowledged, _), acts = c.owner, dict(c.acts)
        self.check_log()
        head = self.checked
        for seq, types in acts.items():
            assert seq <= head and c.events[seq][1] in types, f"act {seq} ({types}) is {c.events.get(seq)}"
        config = self.retry(self.up.api.text, f"/apps/{APP}/config")
        got = int(config.split("owner-", 1)[1].split()[0].strip('"'))
        assert acknowledged <= got <= c.owner[1], f"owner-{acknowledged} was acknowledged, {got} stands"

    def check_labels(self, batches):
        for batch in batches:
            report = self.retry(self.up.api.post, f"/deployments/{APP}/labels", {"labels": batch})
            assert report["repeated"] == len(batch), f"{len(batch)} acknowledged labels again: {report}"

    def check_runs(self):
        for _ in range(3):
            before = self.retry(self.up.api.app, APP)
            runs = self.retry(self.up.api.runs, APP)
            if self.retry(self.up.api.app, APP)["cycle"] == before["cycle"]:
                break
        else:
            return
        if before["cycle"]["state"] == "idle":
            open_ = [r for r in runs if r["state"] in ("queued", "running")]
            assert not open_, f"the app is idle, and yet: {open_}"

    def check(self):
        wait_for("the control plane", self.up.answers)
        self.check_writes()
        self.check_labels(self.clients.labelled[-2:])
        self.check_runs()
        self.check_ledgers()

    # ---- the end

    def settle(self):
        """Nobody kills any more: what is under way comes to its end."""
        c = self.clients
        c.calm.set()
        c.threads[3].join(PATIENCE)
        wait_for("an answer after the last death", lambda: c.answers and c.answers[-1][0] > self.kills[-1][3])
        def idle():
            try:
                self.retry(self.up.api.act, APP, "pause")
            except ApiError:
                pass
            return self.retry(self.up.api.app, APP)["cycle"]["state"] == "idle"
        wait_for("every run to end", idle)

    def final(self):
        self.check()
        self.check_labels(self.clients.labelled)
        runs = self.up.api.runs(APP)
        open_ = [r for r in runs if r["state"] in ("queued", "running")]
        assert not open_, f"runs that are stuck: {open_}"
        self.check_answers()
        champion = self.up.api.app(APP)["champion"]
        wait_for("the champion answers", lambda: self.up.version_that_answers(APP, two_classes(4, 1)[0]) == champion)
        self.counts["versions"] = len(self.up.api.get(f"/models/{APP}")["list"])
        self.counts["runs"] = len(runs)
        for r in runs:
            self.counts["run " + r["state"]] += 1

    def admitted(self):
        """version -> wall time in us from which it might answer."""
        out = {}
        for e in self.up.api.events():
            canary = e["type"] == "stage.entered" and e["payload"]["stage"] == "canary"
            if canary or e["type"] == "version.promoted":
                version = int(e["object"].split("@")[1])
                out.setdefault(version, e["time_us"])
        return out

    def check_answers(self):
        """Each is of a version that was admitted then, and is what that version says."""
        admitted, weights = self.admitted(), {}
        for v in self.up.api.get(f"/models/{APP}")["list"]:
            weights[v["version"]] = weights_of(self.up.data / "store/blobs", v["bundle"])
        for opened, ended, wall, version, x, y in self.clients.answers:
            assert version in admitted and admitted[version] <= wall, f"v{version} answered, admitted: {admitted}"
            z = x.astype(np.float64) @ weights[version]
            e = np.exp(z - z.max(1, keepdims=True))
            want = e / e.sum(1, keepdims=True)
            assert np.allclose(np.reshape(y, (4, 2)), want, atol=1e-4), f"a wrong answer of v{version}: {y} for {want}"

    def report(self, took):
        c = self.clients
        first = [min((ended for opened, ended, *_ in c.answers if ended > after), default=float("nan")) - before
                 for who, before, after, _ in self.kills if who == "serve"]
        out = {"seed": self.seed, "seconds": round(took, 1), "kills": dict(self.counts),
               "answers": len(c.answers), "broken with their process": len(c.broken),
               "labels": sum(map(len, c.labelled)), "labels refused": c.refused_labels, "acts": len(c.acts),
               "applied": c.owner[0], "events": self.checked, "versions": self.counts.pop("versions", 0),
               "first answer after a killed replica, ms": [round(1000 * s) for s in sorted(first)]}
        self.say(json.dumps(out))
        return out


def weights_of(blobs, bundle):
    def blob(sha):
        return json.loads((blobs / sha[:2] / sha).read_bytes())
    (model,) = [f["sha256"] for f in blob(bundle)["files"] if f["path"].endswith("null.json")]
    return np.array(blob(model)["weights"])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--only", default="")
    p.add_argument("--keep", action="store_true", help="leave the data directory where it is")
    args = p.parse_args()
    folder = tempfile.mkdtemp(prefix="kills-")
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 31)
    try:
        Campaign(folder, seed, args.kills, [x for x in args.only.split(",") if x]).run()
    finally:
        if args.keep:
            print("kept:", folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
