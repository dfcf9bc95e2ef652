"""What production does to a running loop beside killing it: programs that misbehave, pushes that come twice or out
of turn, clients that are slow or leave, a log that somebody changed. A clear error, nothing lost, nobody else harmed."""

import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from kill_campaign import alive, processes
from replica import OVERTAKE, ControlPlane, wait_for
from up import TRAIN, ApiError, two_classes

X = two_classes(5, 99)[0]


@pytest.fixture
def loop(up, app):
    """(up, app) with version 1 serving."""
    u, a = up(), app()
    a.apply(u.api)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    return u, a


# ---- programs

FORKS = '''
    import os, time
    for name in ("child", "daemon"):
        if os.fork() == 0:
            if name == "daemon":
                os.setsid()  # out of the session, and of the program's group
                if os.fork() != 0:
                    os._exit(0)
            with open(f"{HERE}/left", "a") as f:
                f.write(f"{os.getpid()}\\n")
            while True:
                time.sleep(60)
    while not os.path.exists(f"{HERE}/left") or len(open(f"{HERE}/left").read().split()) < 2:
        time.sleep(0.01)
'''
STUBBORN = '''
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("not listening", flush=True)
    while True:
        time.sleep(60)
'''
FILLS = '''
    import time
    with open("scratch", "wb") as f:
        for _ in range(64):
            f.write(bytes(1 << 20))
            f.flush()
    while True:
        time.sleep(60)
'''
PRINTS = '''
    import sys
    line = b"x" * 65535 + b"\\n"
    for _ in range(1 << 14):
        sys.stdout.buffer.write(line)
    sys.stdout.flush()
    print("the end of it", flush=True)
'''
# name -> (before the training proper, resources, state of its run, words of its message)
PROGRAMS = {"hangs": ("import time\ntime.sleep(600)\n", {"time": "1s"}, "timed_out", "time limit of 1s"),
            "ignores": (STUBBORN, {"time": "1s"}, "timed_out", "time limit of 1s"),
            "fills": (FILLS, {"disk": "8MiB"}, "disk_quota", "its disk limit is 8 MiB"),
            "prints": (PRINTS, {"log": "256KiB", "time": "10min"}, "succeeded", ""),
            "forks": (FORKS, {"time": "5min"}, "succeeded", "")}


def test_programs_that_misbehave(up, app):
    """All at once; each ends as what it is, leaves nothing running, and the good ones get their model promoted."""
    u = up()
    for name, (before, resources, _, _) in PROGRAMS.items():
        a = app(name)
        a.program(f"HERE = {str(a.folder)!r}\n" + "\n".join(
            line.removeprefix("    ") for line in (before + TRAIN).splitlines()))
        a.apply(u.api, train={"run": f"exec {sys.executable} train.py", "data": ["base"], "model": "out/model",
                              "resources": resources})
    for name, (_, _, state, words) in sorted(PROGRAMS.items(), key=lambda x: x[0] == "prints"):
        good = state == "succeeded"
        if name == "prints":  # a gigabyte, at the least priority, takes what the machine leaves it
            for _ in range(10):
                if any(r["state"] not in ("queued", "running") for r in u.api.runs(name)):
                    break
                try:
                    u.api.wait_event("run.finished", "run/%d" % u.api.runs(name)[-1]["run"], unless=())
                except AssertionError:
                    pass
        u.api.wait_event(*(("version.promoted", f"model/{name}@1") if good else ("cycle.failed", f"app/{name}")),
                         unless=())
        run = [r for r in u.api.runs(name) if r["step"] == "train"][-1]
        assert run["result"]["state"] == state and words in run["result"]["text"], (name, run)
    run = [r["run"] for r in u.api.runs("prints") if r["step"] == "train"][-1]
    log = (u.data / "runs" / str(run) / "log").read_bytes()
    assert len(log) < (256 << 10) + 1024 and b"log limit" in log and log.rstrip().endswith(b"rows")
    assert b"the end of it" in log  # the end is where a program says why
    left = [int(pid) for pid in (pathlib.Path(u.data.parent) / "app-forks" / "left").read_text().split()]
    assert len(left) == 2 and not any(map(alive, left))
    mine = str(u.data / "runs")
    wait_for("nothing of a run to be left", lambda: not [
        pid for pid, (words, cwd) in processes().items() if cwd.startswith(mine) or any(mine in w for w in words)])


# ---- pushes


class Agent:
    """A replica's end of the agent protocol, as a script."""

    def __init__(self, up, incarnation, id="replica-9"):
        self.incarnation = incarnation
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(up.seen("agent.sock")))
        ControlPlane.send(self.socket, 1, {"protocol": 1, "id": id, "kind": "replica", "incarnation": incarnation,
                                           "version": "0.1.0", "pid": os.getpid()})
        kind, hello, _ = ControlPlane.read(self.socket)
        assert kind == 1 and hello["protocol"] == 1 and "refused" not in hello
        kind, self.desired, _ = ControlPlane.read(self.socket)
        assert kind == 2

    def send(self, seq, rows, incarnation=None, first=None):
        """A segment of `rows` answered rows, the first with number `first`."""
        first = first if first is not None else seq * 1000
        x, y = two_classes(rows, 5000 + seq)
        now = time.time_ns() // 1000
        value = {"stream": "sample", "seq": seq, "incarnation": incarnation or self.incarnation,
                 "deployment": "planes", "model": "planes", "version": 1, "role": "live", "rows": rows, "keys": False,
                 "inputs": [{"name": "x", "datatype": "FP32", "shape": [4]}],
                 "outputs": [{"name": "y", "datatype": "FP32", "shape": [2]}]}
        binary = (np.arange(first, first + rows, dtype="<u8").tobytes() + np.full(rows, now, "<i8").tobytes() +
                  np.ones(rows, "<f4").tobytes() + x.astype("<f4").tobytes() +
                  np.eye(2, dtype="<f4")[y].tobytes())
        text = json.dumps(value).encode()
        self.socket.sendall(struct.pack("<4sIII", b"OTF1", 4, len(text), len(binary)) + text + binary)
        return [(f"{incarnation or self.incarnation}-{first + k:x}-1-1", int(y[k])) for k in range(rows)]

    def acknowledged(self):
        while True:
            kind, value, _ = ControlPlane.read(self.socket)
            if kind == 5:
                return value["incarnation"], value["seq"]


def joined(u, labels):
    report = u.api.post("/deployments/planes/labels", {"labels": [{"id": i, "value": v} for i, v in labels]})
    return report["joined"], report["waiting"], report["repeated"]


def test_pushes_are_counted_once(loop):
    """Repeated on the same connection, on the next one, by a later process under the old one's name, and overtaken."""
    u, _ = loop
    a = Agent(u, "00000000000000a1")
    labels = a.send(1, 30)
    assert a.acknowledged() == ("00000000000000a1", 1)
    assert joined(u, labels) == (30, 0, 0)
    for _ in range(3):
        a.send(1, 30)
        assert a.acknowledged() == ("00000000000000a1", 1)
    b = Agent(u, "00000000000000a2")  # the same replica, started again: what was not acknowledged comes again
    b.send(1, 30, incarnation="00000000000000a1")
    more = b.send(2, 20, incarnation="00000000000000a1")
    assert [b.acknowledged() for _ in range(2)] == [("00000000000000a1", 1), ("00000000000000a1", 2)]
    own = b.send(1, 10)
    assert b.acknowledged() == ("00000000000000a2", 1)
    b.send(2, 5, first=9000)
    b.send(1, 10)  # late: overtaken by its successor
    assert [b.acknowledged() for _ in range(2)] == [("00000000000000a2", 2), ("00000000000000a2", 1)]
    assert joined(u, more) == (20, 0, 0) and joined(u, own) == (10, 0, 0) and joined(u, labels) == (0, 0, 30)
    accuracy = u.api.get("/deployments/planes/accuracy", version=1)
    assert (accuracy["labelled"], accuracy["right"]) == (60, 60)


# ---- clients


def test_slow_clients_and_clients_that_leave(loop):
    """Fifty of each on both listeners; others are answered meanwhile, and nothing of them stays."""
    u, _ = loop
    head = f"Host: {u.control}\r\nAuthorization: Bearer {u.api.token}\r\nContent-Length: 5000\r\n\r\n"
    starts = {u.inference: b"POST /v2/models/planes/infer HTTP/1.1\r\n" + head.encode(),
              u.control: b"POST /api/v1/deployments/planes/labels HTTP/1.1\r\n" + head.encode()}
    fds = {name: len(os.listdir(f"/proc/{u.child(name)}/fd")) for name in ("serve", "control")}
    before = u.api.head()
    slow = []
    for address, start in starts.items():
        host, port = address.rsplit(":", 1)
        for k in range(100):
            s = socket.create_connection((host, int(port)))
            if k % 2:
                s.sendall(start + b'{"labels": [' + b" " * k)  # leaves in the middle of its body
                if k % 4 == 1:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # with a reset
                s.close()
            else:
                s.sendall(start[:20 + k])  # in the middle of its head
                slow.append((s, start[20 + k:]))
    for round_ in range(20):
        for s, rest in slow:
            s.sendall(rest[round_:round_ + 1])
        status, _, answer = u.infer("planes", X)
        assert status == 200, answer
        assert u.api.app("planes")["champion"] == 1
    for s, _ in slow:
        s.close()
    wait_for("their descriptors to be closed", lambda: all(
        len(os.listdir(f"/proc/{u.child(name)}/fd")) <= n + 2 for name, n in fds.items()))
    changed = {e["type"] for e in u.api.events(after=before)} - {"windows.received", "samples.received"}
    assert not changed, changed


# ---- the log


def test_a_log_that_somebody_changed(loop):
    """Edited, with a row missing, cut short: the command names the row."""
    u, a = loop
    u.expect_log("the log was changed while nobody had it open: event 9: gone")
    u.stop()
    db, head = u.data / "store" / "store.db", u.data / "log.head"
    for sql, row, word in (("UPDATE event SET actor = 'somebody else' WHERE seq = 4", 4, "edited"),
                           ("UPDATE event SET payload = '{}' WHERE seq = 5", 5, "payload"),
                           ("DELETE FROM event WHERE seq = 6", 6, "missing"),
                           ("DELETE FROM event WHERE seq > 8", 9, "gone")):
        kept = db.read_bytes(), head.read_bytes()
        with sqlite3.connect(db) as c:
            c.execute(sql)
        c.close()
        u.start()
        p = subprocess.run([OVERTAKE, "events", "verify", "--data", u.data], capture_output=True, text=True)
        assert p.returncode == 1 and f"event {row}" in p.stdout and word in p.stdout, (sql, p.stdout, p.stderr)
        u.stop()
        db.write_bytes(kept[0])
        head.write_bytes(kept[1])
    u.start()
    assert subprocess.run([OVERTAKE, "events", "verify", "--data", u.data]).returncode == 0


# ---- a full disk


def test_a_full_disk(up, app, tmp_path):
    """What cannot be kept is refused and says why, predictions go on, and with room again all goes on; what was
    acknowledged before is there."""
    data = tmp_path / "data"
    within = ["unshare", "--mount", "sh", "-c",
              f"mount -t tmpfs -o size=48m,mode=700 tmpfs {data} && exec \"$@\"", "sh"]
    data.mkdir()
    if (tried := subprocess.run([*within, "true"], capture_output=True, text=True)).returncode != 0:
        pytest.skip(f"no mount namespace of our own: {tried.stderr.strip()}")
    u, a = up(within=within), app()
    a.apply(u.api)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    agent = Agent(u, "00000000000000b1")
    kept = agent.send(1, 50)
    agent.acknowledged()
    assert joined(u, kept) == (50, 0, 0)
    u.expect_log("disk", "full", "No space left", "the control plane is gone", "control ended", "agent")
    head = u.api.get("/events", limit=1, newest=1)["head"]
    filler = u.seen("filler")
    with open(filler, "wb", buffering=0) as f:
        for piece in (1 << 20, 1 << 12, 1):
            while True:
                try:
                    f.write(bytes(piece))
                except OSError:
                    break
    refused, k = None, 0
    while refused is None and k < 200:  # what the store holds open may still have a page of room
        k += 1
        try:
            u.api.act("planes", "pause" if k % 2 else "resume", reason="x" * 900)
        except ApiError as e:
            refused = e
    assert refused is not None and refused.status == 503, refused
    assert "full" in refused.message or "space" in refused.message, refused.message
    for _ in range(50):
        status, _, answer = u.infer("planes", X)
        assert status == 200 and answer["model_version"] == "1", answer
    proof = u.api.get("/events/verify")
    assert proof["ok"] and proof["head"]["seq"] >= head["seq"]
    filler.unlink()
    wait_for("writes to go on", lambda: works(u))
    assert joined(u, kept) == (0, 0, 50)
    after = u.api.head()
    u.api.act("planes", "train")
    u.api.wait_event("version.promoted", "model/planes@2", after)
    u.wait_serves("planes", 2, X)
    assert u.api.get("/events/verify")["ok"]
    events = [e for e in u.api.events(after=head["seq"]) if e["type"] in ("loop.paused", "loop.resumed")]
    assert len(events) >= k - 1, (k, events)


def works(u):
    try:
        return u.api.act("planes", "resume")
    except ApiError as e:
        return e.status == 409
    except OSError:
        return False


# ---- an upgrade


def test_an_upgrade_under_load(up, app, tmp_path):
    """SIGHUP: the children drain and begin anew from the file as it is by then; no request fails, on either listener."""
    build = pathlib.Path(OVERTAKE).parent
    exe = tmp_path / "bin" / "overtake"
    exe.parent.mkdir()
    shutil.copy(OVERTAKE, exe)
    (exe.parent / "plugins").symlink_to(build / "plugins")
    u, a = up(exe=exe), app()
    u.expect_log("the control plane is gone")
    a.apply(u.api)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    new = tmp_path / "new"
    binary = OVERTAKE.read_bytes()
    old_version = subprocess.run([OVERTAKE, "version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    assert binary.count(old_version.encode() + b"\0") > 0
    new.write_bytes(binary.replace(old_version.encode() + b"\0", b"9.9.9"[:len(old_version)] + b"\0"))
    new.chmod(0o755)
    failed, asked, done = [], [0, 0], threading.Event()

    def ask():
        while not done.is_set():
            status, _, answer = u.infer("planes", X)
            asked[0] += 1
            if status != 200:
                failed.append(answer)

    def read():
        while not done.is_set():
            asked[1] += u.api.get("/health")["apps"] == 1

    def guarded(work):
        try:
            work()
        except BaseException as e:
            failed.append(repr(e))
    threads = [threading.Thread(target=guarded, args=(w,)) for w in (ask, ask, read)]
    for t in threads:
        t.start()
    for round_ in range(3):
        before = [u.child("serve"), u.child("control")]
        if round_ == 1:
            os.replace(new, exe)
        u.process.send_signal(signal.SIGHUP)
        wait_for("new children", lambda: None not in (now := [u.child("serve"), u.child("control")]) and
                 not set(now) & set(before))
        n = list(asked)
        wait_for("answers after it", lambda: failed or asked[0] > n[0] + 20 and asked[1] > n[1] + 5)
    done.set()
    for t in threads:
        t.join()
    assert failed == [] and min(asked) > 15
    assert u.api.get("/health")["version"] == "9.9.9"
    assert u.version_that_answers("planes", X) == 1 and u.api.get("/events/verify")["ok"]
