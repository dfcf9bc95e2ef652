"""Backups of a loop that is at work, and what comes back from them elsewhere."""

import json
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from replica import OVERTAKE, wait_for
from up import TRAIN, ApiError, Traffic, two_classes

X = two_classes(5, 99)[0]
HOLD = '''
    import time
    if os.path.exists(HOLD):
        pathlib.Path(HOLD + ".pid").write_text(str(os.getpid()))
    while os.path.exists(HOLD):
        time.sleep(0.02)
'''


def command(*args, code=0):
    """The JSON that a command prints."""
    done = subprocess.run([OVERTAKE, *map(str, args), "--output", "json"], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def held_train(hold):
    return TRAIN.replace('    exec(os.environ.get("TRAIN_HOOK", ""))\n', HOLD.replace("HOLD", repr(str(hold))))


def accepted(events):
    return sum(e["payload"]["accepted"] for e in events if e["type"] == "labels.received")


def test_backup_of_a_loop_at_work_goes_on_elsewhere(up, app, tmp_path):
    u, a = up(), app()
    hold = tmp_path / "hold"
    a.program(held_train(hold))
    a.apply(u.api)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    hold.touch()
    u.api.act("planes", "train")
    run = wait_for("a run", lambda: next((r for r in u.api.runs("planes") if r["state"] == "running"), None))
    pid = int(wait_for("its program", lambda: (p := pathlib.Path(f"{hold}.pid")).exists() and p.read_text()))
    with Traffic(u, "planes") as traffic:
        wait_for("labels", lambda: traffic.accepted > 50)
        acknowledged, head = traffic.accepted, u.api.head()
        made = command("backup", tmp_path / "backups", "--data", u.data)
        more = traffic.accepted
        wait_for("more labels", lambda: traffic.accepted > more)
    assert not traffic.problems
    assert made["head"]["seq"] >= head and made["missing"] == 0
    again = command("backup", tmp_path / "backups", "--data", u.data, "--keep", 1)
    assert again["linked"] >= 3 and again["removed"] == 1 and not os.path.exists(made["path"])
    assert u.api.wait_event("backup.made")["payload"]["backup"]["path"] == made["path"]

    there = command("restore", again["path"], "--data", tmp_path / "elsewhere")
    assert there["head"] == again["head"]
    v = up(name="elsewhere")
    v.expect_log("planes: run .* lost")
    assert v.api.token != u.api.token
    proof = v.api.get("/events/verify")
    assert proof["ok"], proof
    v.wait_serves("planes", 1, X)
    ours, theirs = u.api.events(), v.api.events()
    same = there["head"]["seq"]
    assert [e["hash"] for e in ours[:same]] == [e["hash"] for e in theirs[:same]]
    assert accepted(theirs[:same]) >= acknowledged
    assert theirs[same]["type"] == "backup.restored"
    # The run that was under way is lost there, and goes on here.
    wait_for("the run is lost", lambda: v.api.get(f"/runs/{run['run']}")["state"] == "lost")
    assert pathlib.Path(f"/proc/{pid}").exists()
    assert u.api.get(f"/runs/{run['run']}")["state"] == "running"
    hold.unlink()
    u.wait_serves("planes", 2, X)
    v.wait_serves("planes", 2, X)


@pytest.fixture
def stopped(up, tmp_path):
    """A data directory of a loop that has ended, and a backup of it."""
    u = up()
    u.stop()
    return u.data, command("backup", tmp_path / "b", "--data", u.data)


def refused(backup, data, *words):
    said = command("restore", backup, "--data", data, code=1)["error"]
    assert all(w in said for w in words), said


def test_a_stopped_directory_is_left_as_it_was(stopped, tmp_path):
    data, made = stopped
    before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
    command("backup", tmp_path / "b", "--data", data)
    assert before == {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
    refused(made["path"], data, "not empty", "--data")


def test_one_file(stopped, up, tmp_path):
    data, _ = stopped
    made = command("backup", tmp_path / "one.tar", "--data", data)
    assert made["path"] == str(tmp_path / "one.tar") and not (tmp_path / "one.tar.partial").exists()
    with tarfile.open(made["path"]) as t:
        assert t.getnames()[0] == "store/store.db" and t.getnames()[-1] == "manifest"
    said = command("backup", tmp_path / "one.tar", "--data", data, code=1)
    assert "already" in said["error"]
    assert command("restore", tmp_path / "one.tar", "--data", tmp_path / "new")["head"] == made["head"]
    u = up(name="new")
    command("backup", tmp_path / "live.tar", "--data", u.data)
    assert u.api.get("/events/verify")["ok"]
    command("restore", tmp_path / "live.tar", "--data", tmp_path / "newer")


def test_what_the_api_refuses(up, tmp_path):
    u = up()
    u.expect_log("/api/v1/backups")
    for body in ({"path": "relative"}, {"keep": 1}, {"path": "/x", "keep": 0}, {"path": "/x", "kep": 1}):
        with pytest.raises(ApiError) as e:
            u.api.post("/backups", body)
        assert e.value.status == 400, (body, e.value)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ApiError):
        u.api.post("/backups", {"path": str(tmp_path / "file/x")})
    assert "file/x" in u.api.wait_event("backup.failed")["payload"]["text"]
    assert (tmp_path / "file").read_text() == "no folder"


def test_an_end_in_the_middle_leaves_no_half(up, tmp_path):
    u = up()
    log = u.data / "runs/1/log"
    log.parent.mkdir(parents=True)
    with open(log, "wb") as f:
        f.truncate(256 << 20)  # takes a while at the pace of a backup
    folder = tmp_path / "b"
    backup = subprocess.Popen([OVERTAKE, "backup", folder, "--data", u.data], stderr=subprocess.PIPE, text=True)
    wait_for("half of a backup", lambda: list(folder.glob("*.partial/runs/1/log")))
    u.stop()
    assert backup.wait() == 1 and "stopped" in backup.stderr.read()
    assert os.listdir(folder) == ["lock"]
    log.unlink()
    command("backup", folder, "--data", u.data)
    command("restore", folder, "--data", tmp_path / "new")


def test_what_is_no_whole_backup_is_refused(stopped, up, tmp_path):
    _, made = stopped
    path, new = pathlib.Path(made["path"]), tmp_path / "new"
    database = path / "store/store.db"
    good = database.read_bytes()
    database.write_bytes(good[:5000] + b"x" + good[5001:])
    refused(path, new, "store/store.db", "edited or damaged")
    database.write_bytes(good)
    manifest = path / "manifest"
    lines = manifest.read_text()
    manifest.write_text(lines.replace("schema ", "schema 9"))
    refused(path, new, "manifest")
    manifest.unlink()
    refused(path, new, "not finished")
    refused(tmp_path / "nothing", new, "nothing")
    manifest.write_text(lines)
    assert os.listdir(new) == ["lock"]
    command("restore", path.parent, "--data", new)


def test_a_restore_that_was_broken_off_starts_nothing(stopped, up, tmp_path):
    _, made = stopped
    half = tmp_path / "half"
    shutil.copytree(made["path"], half / "restore.partial")
    with pytest.raises(RuntimeError, match="broken off"):
        up(name="half")
    command("restore", made["path"], "--data", half)
    assert not (half / "restore.partial").exists()
    assert up(name="half").api.get("/events/verify")["ok"]
