"""overtake.checkpoint and latest_checkpoint: whole or not at all, each file once, only so many."""

import hashlib
import json
import os
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "python"))
import overtake  # noqa: E402


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of a run's checkpoints."""
    monkeypatch.setenv("OVERTAKE_CHECKPOINTS", str(tmp_path / "kept"))
    monkeypatch.delenv("OVERTAKE_RUN", raising=False)
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


def folder(tmp_path, name="state", **files):
    root = tmp_path / name
    for path, text in files.items():
        (root / path.replace("_", "/")).parent.mkdir(parents=True, exist_ok=True)
        (root / path.replace("_", "/")).write_text(text)
    return root


def blobs(kept):
    return sorted(p.name for p in (kept / "blobs").glob("*/*"))


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_file_and_a_folder(kept, tmp_path):
    assert overtake.latest_checkpoint() is None
    one = tmp_path / "w.npy"
    one.write_bytes(b"weights")
    overtake.checkpoint(one, step=3)
    at = overtake.latest_checkpoint()
    assert (at.path.name, at.path.read_bytes(), at.step) == ("w.npy", b"weights", 3)
    overtake.checkpoint(str(folder(tmp_path, a="1", sub_b="2")), step=10)
    at = overtake.latest_checkpoint()
    assert at.step == 10 and sorted(p.relative_to(at.path).as_posix() for p in at.path.rglob("*")) == ["a", "sub", "sub/b"]
    assert (at.path / "sub/b").read_text() == "2"
    manifest = json.loads((at.path.parent / "manifest.json").read_text())
    assert manifest["files"] == [{"path": "a", "size": 1, "sha256": sha("1")}, {"path": "sub/b", "size": 1, "sha256": sha("2")}]


def test_the_newest_stay_and_each_file_is_there_once(kept, tmp_path):
    for step in range(6):
        overtake.checkpoint(folder(tmp_path, same="s", more=str(step)), step, keep=3)
    assert [f.name.split("-")[0].lstrip("0") for f in sorted(kept.iterdir()) if f.name != "blobs"] == ["3", "4", "5"]
    assert blobs(kept) == sorted([sha("s"), sha("3"), sha("4"), sha("5")])
    assert overtake.checkpoint(tmp_path / "state", 5, keep=3) == overtake.checkpoint(tmp_path / "state", 5, keep=1)
    assert overtake.latest_checkpoint().step == 5 and blobs(kept) == sorted([sha("s"), sha("5")])


def test_a_process_that_dies_at_any_moment_leaves_a_whole_one(kept, tmp_path):
    overtake.checkpoint(folder(tmp_path, "old", a="1", b="1"), step=1)
    new = folder(tmp_path, "new", a="2", sub_b="22")
    steps = set()
    for moment in range(1, 40):
        child = os.fork()
        if child == 0:
            sync, calls = os.fsync, iter(range(1, 1000))
            os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == moment else sync(fd)
            overtake.checkpoint(new, step=2)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        at = overtake.latest_checkpoint()
        steps.add(at.step)
        assert {p.name: p.read_text() for p in at.path.rglob("*") if p.is_file()} == (
            {"a": "1", "b": "1"} if at.step == 1 else {"a": "2", "b": "22"})
        if status == 0:
            break
    assert steps == {1, 2} and moment > 5
    overtake.checkpoint(new, step=3)
    assert not [p for p in kept.rglob("*") if p.name.endswith(".tmp")]


def test_damage_is_passed_over(kept, tmp_path):
    overtake.checkpoint(folder(tmp_path, a="good"), step=1)
    overtake.checkpoint(folder(tmp_path, a="later"), step=2)
    (kept / "000000000000009-junk").mkdir()
    (kept / "000000000000009-junk" / "manifest.json").write_text('{"schema": "overtake.checkpoint/1", "step": "x"}')
    bad = overtake.latest_checkpoint()
    (bad.path / "a").chmod(0o644)
    (bad.path / "a").write_text("LATER")
    at = overtake.latest_checkpoint()
    assert (at.step, (at.path / "a").read_text()) == (1, "good")
    overtake.checkpoint(folder(tmp_path, a="later"), step=3)  # its blob is damaged too
    assert (overtake.latest_checkpoint().path / "a").read_text() == "later"


def test_ranks_of_a_run(kept, tmp_path, monkeypatch):
    monkeypatch.setenv("OVERTAKE_RUN", "7")
    monkeypatch.setenv("OVERTAKE_RANK", "1")
    assert overtake.checkpoint(folder(tmp_path, a="1"), 1) is None and overtake.latest_checkpoint() is None
    monkeypatch.setenv("OVERTAKE_RANK", "0")
    assert overtake.checkpoint(tmp_path / "state", 1) is not None
    monkeypatch.setenv("OVERTAKE_RANK", "1")
    assert overtake.latest_checkpoint().step == 1


def test_what_is_refused(kept, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no file at"):
        overtake.checkpoint(tmp_path / "nowhere", 1)
    for step, keep in ((-1, 2), (10**15, 2), (1, 0)):
        with pytest.raises(ValueError, match="checkpoint: step"):
            overtake.checkpoint(folder(tmp_path, a="1"), step, keep)
    assert overtake.latest_checkpoint() is None and not list(kept.glob("*-*"))
    monkeypatch.delenv("OVERTAKE_CHECKPOINTS")
    assert overtake.latest_checkpoint() is None
    with pytest.raises(overtake.OvertakeError, match="set it to a folder"):
        overtake.checkpoint(tmp_path / "state", 1)
