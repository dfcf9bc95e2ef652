"""Neighbouring versions: control plane and replica of today with those of the landing before, in both directions, over
the real agent protocol and under load; an upgrade from there, and the way back."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading

import pytest

import previous
from kill_campaign import PROGRAM
from replica import OVERTAKE, ControlPlane, wait_for
from up import Api, Traffic, Up, two_classes

X = two_classes(5, 99)[0]
QUICK = {"window": "500ms", "block": "1s", "blocks_per_day": 8, "baseline": 4, "cycles": "none"}
CANARY = {"canary": {"shares": ["30%"], "margin": 0.2, "at_most": "5min", "otherwise": "roll_back"}}


@pytest.fixture(scope="session")
def before():
    return previous.binary()


class Pair(Up):
    """`overtake control` and `overtake serve` of different binaries on one data directory."""

    def __init__(self, data, control, serve):
        self.data, self.expected = pathlib.Path(data), []
        self.data.mkdir(parents=True)
        self.log_path = self.data.with_name("pair.log")
        self.parts = []
        self.control = self.part(control, "control", "--data", self.data)["control"]
        self.api = Api(self.control, (self.data / "token").read_text().strip())
        listening = self.part(serve, "serve", "--agent", f"unix:{self.data}/agent.sock", "--data", self.data)
        self.inference = listening["listening"]

    def part(self, binary, *args):
        with open(self.log_path, "ab") as log:
            p = subprocess.Popen([binary, *map(str, args), "--listen", "127.0.0.1:0", "--output", "json"],
                                 stdout=subprocess.PIPE, stderr=log)
        self.parts.append(p)
        line = p.stdout.readline()
        assert line, self.log()
        return json.loads(line)

    def stop(self):
        for p in reversed(self.parts):
            p.send_signal(signal.SIGTERM)
            assert p.wait(60) == 0, self.log()
            p.stdout.close()

    def kill(self):
        for p in self.parts:
            if p.poll() is None:
                p.kill()
                p.wait()
                p.stdout.close()


def light(a, tmp_path):
    a.program(f"STARTS = {str(tmp_path / 'starts')!r}\n" + PROGRAM)
    return a


def through_a_release(u, a):
    """Version 1 serves, version 2 comes through a canary, while clients ask and label."""
    a.apply(u.api, quality=QUICK)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    a.apply(u.api, quality=QUICK, release=[CANARY])
    with Traffic(u, "planes", pause=0.005) as t:
        u.api.act("planes", "train")
        u.api.wait_event("version.promoted", "model/planes@2")
        u.wait_serves("planes", 2, X)
        u.api.wait_event("windows.received")
        u.api.wait_event("samples.received")
    assert t.problems == [] and t.answered == t.sent and set(t.by_version) == {1, 2}
    assert t.accepted == t.answered * t.rows
    wait_for("labels joined", lambda: u.api.app("planes")["quality"]["labels"]["waiting"] == 0)
    assert u.api.app("planes")["quality"]["labels"]["joined"] == t.accepted
    assert u.api.get("/events/verify")["ok"]


@pytest.mark.parametrize("newer", ["control", "serve"])
def test_pairs(before, app, tmp_path, newer):
    parts = {"control": before, "serve": before, newer: OVERTAKE}
    u = Pair(tmp_path / "data", parts["control"], parts["serve"])
    try:
        through_a_release(u, light(app(), tmp_path))
        u.stop()
    finally:
        u.kill()


class Both:
    """A folder whose binary is that of the landing before, until it is replaced."""

    def __init__(self, folder, before):
        folder.mkdir()
        self.path = folder / "overtake"
        (folder / "plugins").symlink_to(pathlib.Path(OVERTAKE).parent / "plugins")
        shutil.copy(before, self.path)

    def put(self, binary):
        new = self.path.with_name("new")
        shutil.copy(binary, new)
        os.replace(new, self.path)


def test_an_upgrade_from_there_and_back(before, up, app, tmp_path):
    """The supervisor of the landing before starts its children from the new file, which brings the store forward, and
    is then replaced itself. The way back is the copy that it kept."""
    binary = Both(tmp_path / "bin", before)
    u, a = up(exe=binary.path), light(app(), tmp_path)
    u.expect_log("the control plane is gone", "ended with exit 1; starting it again", "tried again soon", "is gone")
    a.apply(u.api, quality=QUICK)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    head = u.api.get("/events", limit=1, newest=1)["head"]
    failed, asked, done = [], [0, 0], threading.Event()

    def guarded(n, ask):
        try:
            while not done.wait(0.002):
                ask()
                asked[n] += 1
        except BaseException as e:
            failed.append(repr(e))

    def predict():
        status, _, answer = u.infer("planes", X)
        assert status == 200, answer
    threads = [threading.Thread(target=guarded, args=(n, f)) for n, f in enumerate((predict, lambda: u.api.get("/health")))]
    for t in threads:
        t.start()
    children = {u.child("serve"), u.child("control")}
    binary.put(OVERTAKE)
    u.process.send_signal(signal.SIGHUP)
    wait_for("new children", lambda: None not in (now := {u.child("serve"), u.child("control")}) and not now & children)
    n = list(asked)
    wait_for("traffic after it", lambda: failed or min(b - a for a, b in zip(n, asked)) > 20)
    done.set()
    for t in threads:
        t.join()
    assert failed == []
    assert u.api.get("/events/verify")["ok"]
    wait_for("the replica", lambda: len(u.api.get("/replicas")["replicas"]) == 1)
    said = subprocess.run([OVERTAKE, "upgrade", "--data", u.data], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    u.wait_serves("planes", 1, X)
    copy = sorted((u.data / "store").glob("store.db.schema-*.backup"))
    u.stop()
    if not copy:
        return  # both are of one schema
    binary.put(before)
    store = u.data / "store/store.db"
    if readable_from(store) > int(copy[-1].name.split("-")[1].split(".")[0]):
        assert "run a newer Overtake" in refused(binary.path, u.data)
    else:  # what was added harms it not: it takes the store as it is
        u.start()
        u.wait_serves("planes", 1, X)
        u.api.act("planes", "train")
        u.api.wait_event("version.promoted", "model/planes@2")
        assert u.api.get("/events/verify")["ok"]
        u.stop()
    copy[-1].rename(store)
    store.with_name("store.db-wal").unlink(missing_ok=True)
    (u.data / "log.head").unlink()
    u.start()
    u.wait_serves("planes", 1, X)
    events = u.api.events(after=head["seq"] - 1)
    assert events[0]["seq"] == head["seq"] and events[0]["hash"] == head["hash"], "what was before is there"
    assert u.api.get("/events/verify")["ok"]


def readable_from(store):
    """The least schema that a program must know to use this store."""
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT value FROM kv WHERE scope = 'schema' AND key = 'readable_from'").fetchone()[0])


def refused(binary, data):
    """Starts a control plane that must end at once, and gives what it says."""
    done = subprocess.run([binary, "control", "--data", data, "--listen", "127.0.0.1:0"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode != 0
    return done.stderr


# ---- protocols further apart


def hello(s, protocol, **more):
    ControlPlane.send(s, 1, {"protocol": protocol, "id": "replica-9", "kind": "replica", "incarnation": "00000000000000aa",
                             "version": "7.0.0", "pid": os.getpid(), **more})


def test_a_protocol_two_versions_apart(up, tmp_path):
    u = up()
    u.expect_log("refused: the agent replica-9")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(str(u.data / "agent.sock"))
        hello(s, 3)
        kind, said, _ = ControlPlane.read(s)
        assert kind == 1 and said["protocol"] == 1 and "speaks protocol 3" in said["refused"]
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(str(u.data / "agent.sock"))
        hello(s, 2, later={"x": [1]})
        assert "refused" not in ControlPlane.read(s)[1]
        assert ControlPlane.read(s)[0] == 2
        wait_for("it is listed", lambda: "replica-9" in [r["id"] for r in u.api.get("/replicas")["replicas"]])
    assert "replica-9" in u.log()


@pytest.mark.parametrize("answer, word", [({"protocol": 3}, "speaks protocol 3"),
                                          ({"protocol": 1, "refused": "you are too old"}, "you are too old")])
def test_a_replica_of_a_control_plane_two_versions_apart(serve, tmp_path, answer, word):
    """It says why, and goes on serving what it has."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "agent.sock"))
    listener.listen(4)
    listener.settimeout(60)
    r = serve("--agent", f"unix:{tmp_path}/agent.sock", "--data", tmp_path / "data", ready=False)
    s, _ = listener.accept()
    with s:
        s.settimeout(60)
        assert ControlPlane.read(s)[1]["protocol"] == 1
        ControlPlane.send(s, 1, answer)
        assert s.recv(1) == b"", "it closes"
    wait_for("an error", lambda: word in pathlib.Path(r.log_path).read_text())
    assert r.request("GET", "/v2/health/live")[0] == 200
    listener.close()
