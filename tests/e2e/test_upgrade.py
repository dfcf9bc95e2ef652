"""`overtake up` is replaced by a new binary while clients ask, label, act and read: no request fails, and what can't
take over does not."""

import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import threading

import pytest

from kill_campaign import PROGRAM, alive
from replica import OVERTAKE, PATIENCE, wait_for
from up import Traffic, two_classes

X = two_classes(5, 99)[0]
SEEDS = range(1, 1 + int(os.environ.get("OT_UPGRADE_SEEDS", 2)))
ROUNDS = int(os.environ.get("OT_UPGRADE_ROUNDS", 2))  # upgrades of a seed, second SIGHUPs apart
GOING = (r"the control plane is gone", r"the control plane is ending; tried again soon")


# What breaks one child of a new binary, and nothing else: what it opens lies below a file.
BROKEN = {"serve": (b"replica/spool\0", b"lock/no/spool\0"), "control": (b"log.head\0", b"lock/abc\0")}


class Binary:
    """An `overtake` in a folder of its own that a test may replace."""

    def __init__(self, folder):
        folder.mkdir()
        self.path = folder / "overtake"
        (folder / "plugins").symlink_to(pathlib.Path(OVERTAKE).parent / "plugins")
        self.old = subprocess.run([OVERTAKE, "version"], capture_output=True, text=True, check=True).stdout.split()[-1]
        shutil.copy(OVERTAKE, self.path)

    def put(self, data, path=None):
        new = self.path.with_name("new")
        new.write_bytes(data)
        new.chmod(0o755)
        os.replace(new, path or self.path)

    def versioned(self, version, *changes):
        """The binary with another version in it, and other words for the same length."""
        data = OVERTAKE.read_bytes().replace(self.old.encode() + b"\0", version.encode()[:len(self.old)] + b"\0")
        for a, b in changes:
            assert len(a) == len(b) and data.count(a) > 0, a
            data = data.replace(a, b)
        return data

    def put_version(self, version, *changes, path=None):
        self.put(self.versioned(version, *changes), path)

    def run(self, *args):
        done = subprocess.run([self.path, *map(str, args)], capture_output=True, text=True, timeout=PATIENCE)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def binary(tmp_path):
    return Binary(tmp_path / "bin")


@pytest.fixture
def loop(up, app, binary):
    """(up, app, binary) with version 1 serving."""
    u, a = up("--workers", 2, exe=binary.path), app()
    u.expect_log(*GOING)
    a.apply(u.api)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    return u, a, binary


class Reader:
    """Reads of the control API over one connection that is kept, and others of their own; acts of a person. Counts what
    was sent and what was answered."""

    def __init__(self, up):
        self.up, self.done, self.problems = up, threading.Event(), []
        self.sent = self.answered = self.acted = 0
        self.threads = [threading.Thread(target=self.guarded, args=(w,)) for w in (self.read, self.keep, self.act)]

    def guarded(self, work):
        try:
            while not self.done.wait(0.005):
                work()
        except BaseException as e:
            self.problems.append(repr(e))

    def count(self, ok, what):
        self.answered += ok
        if not ok:
            self.problems.append(what)

    def read(self):
        self.sent += 1
        self.count(self.up.api.get("/health")["apps"] == 1, "health")

    def keep(self):
        """Several requests on a connection; who is told `close` comes anew, and that is no failure."""
        host, port = self.up.inference.rsplit(":", 1)
        c = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        try:
            for _ in range(50):
                self.sent += 1
                c.request("GET", "/v2/models/planes")
                r = c.getresponse()
                body = r.read()
                self.count(r.status == 200, body)
                if r.getheader("connection", "").lower() == "close":
                    return
        finally:
            c.close()

    def act(self):
        self.done.wait(0.05)
        self.sent += 1
        self.acted += 1
        self.up.api.act("planes", "pause" if self.acted % 2 else "resume")
        self.answered += 1

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for t in self.threads:
            t.join()


def ended(u, after, what="upgrade.finished"):
    return wait_for(what, lambda: next((e for e in u.api.events("upgrade.", after=after)
                                        if e["type"] in ("upgrade.finished", "upgrade.failed")), None))


def upgrade(u):
    """SIGHUP; the event that ends it."""
    after = u.api.head()
    u.process.send_signal(signal.SIGHUP)
    return ended(u, after)


def settled(u, traffic, reader):
    """Every client's ledger: all that was sent was answered, all labels are in the store."""
    assert traffic.problems == [] and reader.problems == []
    assert traffic.answered == traffic.sent and reader.answered == reader.sent
    wait_for("labels joined", lambda: u.api.app("planes")["quality"]["labels"]["waiting"] == 0)
    assert traffic.accepted == traffic.answered * traffic.rows
    assert u.api.app("planes")["quality"]["labels"]["joined"] == traffic.accepted
    acts = [e for e in u.api.events("loop.") if e["type"] in ("loop.paused", "loop.resumed")]
    assert len(acts) == reader.acted
    assert u.api.get("/events/verify")["ok"]


def busy(t, r):
    """A moment of traffic of every kind."""
    n = (t.answered, t.accepted, r.answered, r.acted)
    wait_for("traffic", lambda: t.problems or r.problems or
             all(b > a + 2 for a, b in zip(n, (t.answered, t.accepted, r.answered, r.acted))))


@pytest.mark.parametrize("seed", SEEDS)
def test_under_load(loop, seed):
    """SIGHUP at moments drawn from a seed, some while another upgrade is under way."""
    u, _, binary = loop
    rng = random.Random(seed)
    with Traffic(u, "planes", pause=0.001) as t, Reader(u) as r:
        for n in range(ROUNDS):
            busy(t, r)
            version = f"{seed % 10}.{n // 10 % 10}.{n % 10}"
            binary.put_version(version)
            threading.Event().wait(rng.random() * 0.2)
            before = [u.child("serve"), u.child("control")]
            after = u.api.head()
            u.process.send_signal(signal.SIGHUP)
            if rng.random() < 0.7:
                threading.Event().wait(rng.random() * 0.3)
                u.process.send_signal(signal.SIGHUP)
            u.api.wait_event("upgrade.finished", after=after, unless=("upgrade.failed",))
            # One that was asked for before may end first.
            wait_for(version, lambda: any(e["payload"]["to"] == version for e in u.api.events("upgrade.finished", after=after)))
            assert not set(before) & {u.child("serve"), u.child("control")}
            busy(t, r)
    settled(u, t, r)
    print(f"seed {seed}: {ROUNDS} upgrades, {len(u.api.events('upgrade.finished'))} with those asked for meanwhile; "
          f"{t.sent} predictions, {t.accepted} labels, {r.sent} reads and acts, 0 failed")
    assert u.api.get("/health")["version"] == version and u.process.poll() is None
    wait_for("its replica", lambda: len(u.api.get("/replicas")["replicas"]) == 1)
    fds = len(os.listdir(f"/proc/{u.process.pid}/fd"))
    upgrade(u)
    wait_for("an upgrade to leave no descriptor open", lambda: len(os.listdir(f"/proc/{u.process.pid}/fd")) <= fds)


def test_during_a_run_and_a_canary(loop, tmp_path):
    """A program runs on under the new binary, and a release goes on where it was."""
    u, a, binary = loop
    gate = tmp_path / "go"
    a.program(f"import os, time\nSTARTS = {str(tmp_path / 'starts')!r}\nwhile not os.path.exists({str(gate)!r}):\n"
              "    time.sleep(0.02)\n" + PROGRAM)
    a.apply(u.api, release=[{"canary": {"shares": ["30%"], "margin": 0.2, "at_most": "5min", "otherwise": "roll_back"}}])
    u.api.act("planes", "train")
    run = wait_for("a run", lambda: next((r for r in u.api.runs("planes") if r["state"] == "running"), None))
    with Traffic(u, "planes", pause=0.005) as t:
        assert upgrade(u)["type"] == "upgrade.finished"
        assert u.api.get(f"/runs/{run['run']}")["state"] == "running"
        gate.touch()
        u.api.wait_event("stage.entered")
        assert upgrade(u)["type"] == "upgrade.finished"
        u.api.wait_event("version.promoted", "model/planes@2")
        u.wait_serves("planes", 2, X)
    assert t.problems == [] and t.answered == t.sent and set(t.by_version) == {1, 2}
    assert len([e for e in u.api.events("run.started") if e["object"] == f"run/{run['run']}"]) == 1
    assert u.api.get("/events/verify")["ok"]


# ---- what can't take over


def refused(u, want):
    """SIGHUP: refused with these words; the same children and the same supervisor go on."""
    before = [u.child("serve"), u.child("control")]
    e = upgrade(u)
    assert e["type"] == "upgrade.failed" and re.search(want, e["payload"]["why"]), e
    assert [u.child("serve"), u.child("control")] == before
    assert u.version_that_answers("planes", X) == 1


def test_what_is_refused(loop, tmp_path):
    u, _, binary = loop
    u.expect_log("the upgrade failed")
    good = OVERTAKE.read_bytes()
    binary.put(b"no program at all, but long enough to be read")
    refused(u, "not a program")
    aarch64 = bytearray(good)
    aarch64[18:20] = (183).to_bytes(2, "little")
    binary.put(bytes(aarch64))
    refused(u, "another machine")
    binary.put(good[:len(good) // 20])
    refused(u, "does not start")
    binary.path.unlink()
    refused(u, "No such file|not found")
    binary.put_version("9.9.9", (b"\"schema\": ", b"\"schemx\": "))
    refused(u, "schema up to version 0 and this one up to")
    binary.put_version("9.9.9", (b"\"handover\"", b"\"handovxr\""))
    refused(u, "can't take over")
    binary.put_version("9.9.9", (b"workers\0", b"wxrkers\0"))
    refused(u, "--workers.*exit 2")  # it does not know our options
    binary.put_version("9.9.9", (b"\0children\0", b"\0chixdren\0"))
    refused(u, "hand-over")  # nor what it would be handed
    binary.put(good)
    code, out, err = binary.run("upgrade", "--data", u.data, "--binary", tmp_path / "none")
    assert code == 1 and "none" in err
    code, out, _ = binary.run("upgrade", "--data", u.data, "--check", "--output", "json")
    assert code == 0 and json.loads(out)["version"] == binary.old
    code, _, err = binary.run("upgrade", "--data", tmp_path / "elsewhere")
    assert code == 1 and "no overtake runs" in err
    assert u.api.get("/events/verify")["ok"]


@pytest.mark.parametrize("who", ["serve", "control"])
def test_children_that_do_not_come_up(loop, who):
    """The new binary's replica, or its control plane, is never ready: back to the one before, and no request fails."""
    u, _, binary = loop
    u.expect_log("the upgrade( to 9.9.9)? failed", "going back", "is killed", r"(serve|control) \(process \d+\) ended")
    binary.put_version("9.9.9", BROKEN[who])
    with Traffic(u, "planes", pause=0.001) as t, Reader(u) as r:
        busy(t, r)
        pid = u.process.pid
        e = upgrade(u)
        assert e["type"] == "upgrade.failed" and who in e["payload"]["why"], e
        assert e["payload"]["from"] == binary.old and e["payload"]["to"] == "9.9.9"
        busy(t, r)
    settled(u, t, r)
    assert u.process.pid == pid and u.process.poll() is None
    assert u.api.get("/health")["version"] == binary.old
    binary.put_version("9.9.8")
    assert upgrade(u)["type"] == "upgrade.finished", "and what comes up is taken later"
    assert u.api.get("/health")["version"] == "9.9.8"


def test_the_command(loop, tmp_path):
    """`overtake upgrade`, with a binary that lies elsewhere; the next one is looked for there."""
    u, _, binary = loop
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "plugins").symlink_to(pathlib.Path(OVERTAKE).parent / "plugins")
    binary.put_version("9.9.9", path=other / "overtake")
    code, out, err = binary.run("upgrade", "--data", u.data, "--binary", other / "overtake")
    assert code == 0 and "9.9.9" in out, err
    assert os.readlink(f"/proc/{u.process.pid}/exe") == str(other / "overtake")
    binary.put_version("9.9.8", path=other / "overtake")
    code, out, err = binary.run("upgrade", "--data", u.data, "--output", "json")
    assert code == 0 and json.loads(out)["payload"]["to"] == "9.9.8", err
    u.wait_serves("planes", 1, X)


def test_a_hand_over_that_cannot_be_taken(loop):
    """The new binary gives it back, and the one before goes on with the children it had."""
    u, _, binary = loop
    u.expect_log("can't be taken", "the upgrade to .* failed")
    binary.put_version("9.9.9", (b"/proc/%d/exe\0", b"/proc/%d/exx\0"))
    before = [u.child("serve"), u.child("control")]
    e = upgrade(u)
    assert e["type"] == "upgrade.failed" and "could not take" in e["payload"]["why"]
    assert [u.child("serve"), u.child("control")] == before
    u.wait_serves("planes", 1, X)
    u.kill_child("serve")
    u.expect_log("serve ended with signal 9")
    u.wait_serves("planes", 1, X)


def test_the_end_in_the_middle(loop):
    """SIGTERM during an upgrade drains all there is, also what was to replace a child."""
    u, _, binary = loop
    u.expect_log("is killed")
    u.process.send_signal(signal.SIGHUP)
    wait_for("a second replica", lambda: len(children(u, "serve")) == 2 or None)
    pids = children(u, "serve") + children(u, "control")
    u.stop()
    assert not any(alive(p) for p in pids)


def test_a_kill_in_the_middle(loop):
    """kill -9 of the supervisor during an upgrade: all that it had started drains, and the next `up` finds all."""
    u, _, binary = loop
    u.expect_log("another overtake was killed")
    with Traffic(u, "planes", pause=0.002) as t:
        busy_with(t)
    assert t.problems == []
    u.process.send_signal(signal.SIGHUP)
    wait_for("a second replica", lambda: len(children(u, "serve")) == 2 or None)
    pids = children(u, "serve") + children(u, "control")
    u.kill()
    u.start()
    wait_for("those before to end", lambda: not any(alive(p) for p in pids))
    u.wait_serves("planes", 1, X)
    wait_for("labels joined", lambda: u.api.app("planes")["quality"]["labels"]["waiting"] == 0)
    assert u.api.app("planes")["quality"]["labels"]["joined"] == t.accepted == t.answered * t.rows
    assert u.api.get("/events/verify")["ok"] and upgrade(u)["type"] == "upgrade.finished"


def busy_with(t):
    wait_for("traffic", lambda: t.problems or t.accepted > 500)


def children(u, name):
    out = []
    for pid in pathlib.Path(f"/proc/{u.process.pid}/task/{u.process.pid}/children").read_text().split():
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if name.encode() in words[1:2]:
            out.append(int(pid))
    return out
