"""`overtake doctor`: what it finds, what it says to do, and that it leaves things as they were."""

import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess

import pytest

from replica import OVERTAKE


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def doctor(data, *args, listen=None, control=None, **how):
    """(exit code, {name: check}) of a run; of several checks of a name the last."""
    done = subprocess.run(
        [OVERTAKE, "doctor", "--data", data, "--listen", f"127.0.0.1:{listen or free_port()}",
         "--control", f"127.0.0.1:{control or free_port()}", "--output", "json", *args],
        capture_output=True, text=True, **how)
    said = json.loads(done.stdout)
    checks = {c["name"]: c for c in said["checks"]}
    assert said["fail"] == sum(c["state"] == "fail" for c in said["checks"])
    assert all(c["fix"] for c in said["checks"] if c["state"] != "ok"), said
    assert (done.returncode == 0) == (said["fail"] == 0), done
    return done.returncode, checks


def content(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def test_a_machine_that_is_fit(tmp_path):
    code, checks = doctor(tmp_path / "data")
    assert code == 0, [c for c in checks.values() if c["state"] == "fail"]
    assert checks["app"]["state"] == "ok" and "trained" in checks["app"]["text"]
    assert {"clock", "limits.files", "limits.memory", "disk.space", "disk.sync", "ports.listen", "data",
            "python", "runtime"} <= set(checks)
    assert not os.listdir(tmp_path)


def test_without_python_it_says_so(tmp_path):
    bin = tmp_path / "bin"
    bin.mkdir()
    for name in ("sh", "cat", "mkdir"):
        (bin / name).symlink_to(shutil.which(name))
    code, checks = doctor(tmp_path / "data", env={"PATH": str(bin), "TMPDIR": str(tmp_path)})
    assert code == 0, [c for c in checks.values() if c["state"] == "fail"]
    assert checks["python"]["state"] == "warn"
    assert checks["app"]["state"] == "warn" and "not trained" in checks["app"]["text"]
    assert not list(tmp_path.glob("overtake-*")) and not (tmp_path / "data").exists()


def test_a_live_data_directory(up, tmp_path):
    u = up()
    before = (u.data / "lock").read_bytes()
    ports = [int(a.rsplit(":", 1)[1]) for a in (u.inference, u.control)]
    code, checks = doctor(u.data, "--no-app", listen=ports[0], control=ports[1])
    assert code == 0, [c for c in checks.values() if c["state"] == "fail"]
    assert "own" in checks["ports.listen"]["text"] and "own" in checks["ports.control"]["text"]
    assert checks["data.lock"]["text"].endswith("in use")
    assert "each chained" in checks["data.log"]["text"]
    assert (u.data / "lock").read_bytes() == before
    with socket.create_server(("127.0.0.1", 0)) as s:
        code, checks = doctor(u.data, "--no-app", listen=s.getsockname()[1])
        assert code == 1 and checks["ports.listen"]["state"] == "fail"
        assert f"process {os.getpid()} (" in checks["ports.listen"]["text"]
        assert "--listen" in checks["ports.listen"]["fix"]


@pytest.fixture
def data(up):
    """A data directory that nobody has."""
    u = up()
    u.stop()
    return u.data


def fails(data, name, *words):
    code, checks = doctor(data, "--no-app")
    assert code == 1 and checks[name]["state"] == "fail", checks
    assert all(w in checks[name]["text"] + checks[name]["fix"] for w in words), checks[name]


def test_a_stopped_data_directory(data):
    before = content(data)
    code, checks = doctor(data, "--no-app")
    assert code == 0, [c for c in checks.values() if c["state"] == "fail"]
    assert checks["data.schema"]["state"] == "ok" and "nobody" in checks["data.lock"]["text"]
    assert content(data) == before


def test_what_is_wrong_with_a_data_directory(data):
    (data / "token").chmod(0o644)
    fails(data, "data.modes", "token", "chmod 600")
    (data / "token").chmod(0o600)
    (data / "restore.partial").mkdir()
    fails(data, "data", "broken off", "restore")
    (data / "restore.partial").rmdir()
    with sqlite3.connect(data / "store/store.db") as db:
        newest = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute(f"PRAGMA user_version = {newest + 1}")
    assert doctor(data, "--no-app")[1]["data.schema"]["state"] == "ok", "an addition shuts nobody out"
    with sqlite3.connect(data / "store/store.db") as db:
        db.execute(f"UPDATE kv SET value = CAST('{newest + 1}' AS BLOB) WHERE scope = 'schema' AND key = 'readable_from'")
    fails(data, "data.schema", str(newest + 1), "newer")
    with sqlite3.connect(data / "store/store.db") as db:
        db.execute(f"PRAGMA user_version = {newest}")
        db.execute("UPDATE event SET actor = 'nobody' WHERE seq = 1")
    fails(data, "data.log", "event 1", "restore a backup")
    with sqlite3.connect(data / "store/store.db") as db:
        db.execute("DELETE FROM event")
    fails(data, "data.log", "had come to event")


def test_limits_that_are_too_low(tmp_path):
    code, checks = doctor(tmp_path / "data", "--no-app",
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))
    assert code == 1 and checks["limits.files"]["state"] == "fail"
    assert "ulimit -n" in checks["limits.files"]["fix"]
