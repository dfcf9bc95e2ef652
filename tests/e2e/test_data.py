"""overtake.data against NumPy: every kind of file is what was written, in the order that is promised, dealt to ranks
that come and go."""

import collections
import gc
import json
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from replica import OVERTAKE, PATIENCE, ROOT

os.environ.setdefault("OVERTAKE_LIB", str(OVERTAKE.parent / "libovertake.so"))
sys.path.insert(0, str(ROOT / "python"))
import overtake  # noqa: E402
import overtake.data as od  # noqa: E402

ROWS = 1003


@pytest.fixture
def xy():
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(ROWS, 5, 3)).astype(np.float32), "y": np.arange(ROWS)}


def epoch(reader):
    batches = [{k: v.copy() for k, v in b.items()} for b in reader]
    return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


def same(got, wanted):
    assert set(got) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name], name)


def check(source, wanted, **options):
    """In an order of their own, and as they lie; mapped and read."""
    rows = len(next(iter(wanted.values())))
    for read in (False, True):
        with od.open(source, batch_size=64, seed=3, read=read, **options) as reader:
            assert reader.rows == rows and len(reader) == -(-rows // 64)
            same(epoch(reader), {k: v[od.order(rows, 3)] for k, v in wanted.items()})
            same(epoch(reader), {k: v[od.order(rows, 3, epoch=1)] for k, v in wanted.items()})
        with od.open(source, batch_size=64, shuffle=False, read=read, **options) as reader:
            same(epoch(reader), wanted)


def test_files_of_numpy(tmp_path, xy):
    np.savez(tmp_path / "stored.npz", **xy)
    np.savez_compressed(tmp_path / "deflated.npz", **xy)
    (tmp_path / "folder").mkdir()
    for name, a in xy.items():
        np.save(tmp_path / "folder" / f"{name}.npy", a)
    check(tmp_path / "stored.npz", xy, verify=True)
    check(tmp_path / "deflated.npz", xy)
    check(tmp_path / "folder", xy)
    check(tmp_path / "folder" / "y.npy", {"y": xy["y"]})


def test_shards_and_raw_numbers(tmp_path, xy):
    for i, part in enumerate(np.array_split(np.arange(ROWS), 7)):
        np.savez(tmp_path / f"{i}.npz", **{k: v[part] for k, v in xy.items()})
        np.save(tmp_path / f"y-{i}.npy", xy["y"][part])
    check([tmp_path / f"{i}.npz" for i in range(7)], xy)
    (tmp_path / "x.bin").write_bytes(b"head" + xy["x"].tobytes() + b"tail")
    x = od.raw(tmp_path / "x.bin", "float32", (5, 3), at=4, rows=ROWS)
    check({"x": x, "y": [tmp_path / f"y-{i}.npy" for i in range(7)]}, xy)
    (tmp_path / "index.json").write_text(json.dumps(
        {"schema": "overtake.input/1", "shards": [f"{i}.npz" for i in range(7)]}))
    check(tmp_path / "index.json", xy)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", ">i4", "u8", "f2", ">f8", "c8", ">c16", "S5", "U3", ">U3",
                                   "M8[ns]", "m8[s]", "V6"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", "CF")
def test_types(tmp_path, dtype, version, order):
    a = np.frombuffer(np.random.default_rng(5).bytes(37 * 2 * 3 * np.dtype(dtype).itemsize), dtype)
    if np.dtype(dtype).kind in "?bUS":
        a = np.array([chr(97 + i % 20) * (i % 4) for i in range(37 * 6)]).astype(dtype)
    a = np.array(a.reshape(37, 2, 3), order=order)
    with open(tmp_path / "a.npy", "wb") as f:
        np.lib.format.write_array(f, a, version=version)
    with od.open(tmp_path / "a.npy", batch_size=10, seed=1) as reader:
        got = epoch(reader)["a"]
    assert got.tobytes() == a[od.order(37, 1)].astype(a.dtype.newbyteorder("<")).tobytes()


def test_shards_smaller_than_the_job(tmp_path):
    """Fewer rows than ranks, in shards of one or none: each row once, and nobody waits for a batch that never comes."""
    paths = []
    for i, rows in enumerate((1, 0, 1, 0, 1)):
        paths.append(tmp_path / f"{i}.npz")
        np.savez(paths[-1], y=np.full(rows, i))
    readers = [od.open(paths, batch_size=4, rank=rank, size=5) for rank in range(5)]
    for e in range(3):
        got = [[int(y) for b in r for y in b["y"]] for r in readers]
        assert sorted(sum(got, [])) == [0, 2, 4] and all(r.state() == {"epoch": e + 1, "taken": 0} for r in readers)
    with pytest.raises(overtake.OvertakeError, match="nothing is left"):
        od.open(paths, batch_size=4, rank=0, size=5, remainder="drop")
    assert [len(list(od.open(paths, batch_size=4, rank=r, size=5, remainder="repeat"))) for r in range(5)] == [1] * 5


@pytest.mark.parametrize("block", [0, 256])
def test_orders_are_mixed(block):
    """What is near in the file is not near in an epoch, one epoch says nothing of the next, and no place prefers a row:
    as far as a shuffle in memory, or of the blocks that are mixed, would have it."""
    rows, epochs = 8192, 64
    orders = np.array([od.order(rows, seed=5, epoch=e, block=block) for e in range(epochs)])
    pairs = [(a, b) for a in range(8) for b in range(a)]
    assert max(abs(np.corrcoef(orders[a], orders[b])[0, 1]) for a, b in pairs) < (0.07 if block == 0 else 0.7)
    # Neighbours that stay neighbours: 2 of all on average; in runs of 16 blocks 16 * 256 rows are mixed.
    together = (abs(np.diff(orders, axis=1)) == 1).sum(axis=1)
    assert 0.5 < together.mean() < (5 if block == 0 else 8), together.mean()
    # Where a row stands is uniform: chi squared of 16 parts of the epoch, for 64 rows.
    if block == 0:
        where = np.argsort(orders, axis=1)[:, ::128] * 16 // rows
        counts = np.array([(where == k).sum(axis=0) for k in range(16)])
        chi = ((counts - epochs / 16) ** 2 / (epochs / 16)).sum(axis=0)
        assert 12 < chi.mean() < 18 and chi.max() < 45, (chi.mean(), chi.max())  # 15 degrees: 15 on average


def test_a_data_set_of_a_run(tmp_path, xy, monkeypatch):
    (tmp_path / "base").mkdir()
    for name, a in xy.items():
        np.save(tmp_path / "base" / f"{name}.npy", a)
    monkeypatch.setenv("OVERTAKE_DATA", str(tmp_path))
    check("base", xy)
    same(overtake.data("base"), xy)
    with pytest.raises(overtake.OvertakeError, match="it has: base"):
        od.open("other")


def test_order():
    for block in (0, 7, 64):
        orders = [od.order(ROWS, seed=s, epoch=e, block=block) for s in (0, 1) for e in (0, 1)]
        for o in orders:
            assert sorted(o) == list(range(ROWS))
        assert len({o.tobytes() for o in orders}) == 4
    assert (od.order(10 ** 15, at=5, count=3) == [od.order(10 ** 15, at=i, count=1)[0] for i in (5, 6, 7)]).all()
    with pytest.raises(ValueError):
        od.order(10, at=5, count=6)


def test_arrays_stay(tmp_path, xy):
    """No copy, and no buffer used again under an array that somebody holds; also when the reader has gone."""
    np.savez(tmp_path / "a.npz", **xy)
    reader = od.open(tmp_path / "a.npz", batch_size=16, shuffle=False, ahead_bytes=1)
    held = list(reader)
    part = held[3]["x"][2:4, 1]
    reader.close()
    same({k: np.concatenate([b[k] for b in held]) for k in xy}, xy)
    del held, reader
    gc.collect()
    assert (part == xy["x"][50:52, 1]).all() and part.base is not None
    with pytest.raises(overtake.OvertakeError, match="closed"):
        closed = od.open(tmp_path / "a.npz")
        closed.close()
        closed.next()


@pytest.mark.parametrize("remainder", ["keep", "drop", "repeat"])
@pytest.mark.parametrize("block", [0, 16])
def test_every_row_once_while_ranks_change(tmp_path, xy, remainder, block):
    np.savez(tmp_path / "a.npz", **xy)
    counts, state = collections.Counter(), {"epoch": 2, "taken": 0}
    for size, steps in ((4, 6), (3, 9), (5, None)):
        readers = [od.open(tmp_path / "a.npz", batch_size=8, seed=9, rank=0, size=1, remainder=remainder, block=block)
                   for _ in range(size)]
        for rank, r in enumerate(readers):
            r.next()  # it was somewhere else
            r.load(state)
            r.deal(rank, size)
        done = 0
        while steps is None or done < steps:
            batches = [r.next() for r in readers]
            if batches[0] is None:
                assert batches == [None] * size
                break
            for b in batches:
                counts.update(b["y"].tolist())
                same({"x": b["x"]}, {"x": xy["x"][b["y"]]})
            done += 1
        state = readers[0].state()
        assert all(r.state() == state for r in readers)
    assert state == {"epoch": 3, "taken": 0}
    if remainder == "drop":
        assert set(counts.values()) == {1} and len(counts) == ROWS - (ROWS - 6 * 32 - 9 * 24) % 40
    else:
        assert len(counts) == ROWS and max(counts.values()) <= (1 if remainder == "keep" else 2)
        assert sum(counts.values()) - ROWS < 5


def test_the_job_is_followed(tmp_path, xy, monkeypatch):
    """Rank and size come from the job and are looked at before each batch; what is left is dealt anew."""
    np.savez(tmp_path / "a.npz", **xy)
    here, counts = {}, collections.Counter()
    monkeypatch.setattr(od, "_place", lambda: here["place"])
    readers, size = [], 4
    for rank in range(4):
        here["place"] = (rank, 4)
        readers.append(od.open(tmp_path / "a.npz", batch_size=8, seed=9))
    for step in range(1000):
        if step == 5:  # rank 1 is lost between two steps, and nothing else is said
            readers.pop(1)
            size = 3
        batches = []
        for rank, r in enumerate(readers):
            here["place"] = (rank, size)
            batches.append(r.next())
            assert (r.rank, r.size) == (rank, size)
        if batches[0] is None:
            assert batches == [None] * 3
            break
        for b in batches:
            counts.update(b["y"].tolist())
    assert len(counts) == ROWS and set(counts.values()) == {1}


def test_resume_is_exact(tmp_path, xy):
    np.savez(tmp_path / "a.npz", **xy)
    with od.open(tmp_path / "a.npz", batch_size=10, seed=4, rank=1, size=3) as reader:
        for _ in range(50):  # into the second epoch
            reader.next()
        state = json.loads(json.dumps(reader.state()))
        rest = [b["y"].copy() for b in reader]
    assert state["epoch"] == 1 and rest
    with od.open(tmp_path / "a.npz", batch_size=10, seed=4, rank=1, size=3, threads=4) as again:
        again.load(state)
        assert [b["y"].tolist() for b in again] == [r.tolist() for r in rest]
        with pytest.raises(overtake.OvertakeError, match="another dataset"):
            again.load({"epoch": 0, "taken": ROWS + 1})


def test_what_is_refused(tmp_path, xy):
    np.savez(tmp_path / "a.npz", **xy)
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object))
    np.save(tmp_path / "one.npy", np.float32(3))
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    np.save(tmp_path / "fields.npy", np.zeros(3, [("a", "i4")]))
    (tmp_path / "empty").mkdir()
    for name in ("zero.npy", "zero.npz"):
        (tmp_path / name).touch()
    (tmp_path / "text.csv").write_text("1,2\n")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-100])
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "bit.npz").write_bytes(whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:])
    for path, options, why in [
            ("objects.npy", {}, "Python objects"), ("one.npy", {}, "single number"), ("none.npy", {}, "no rows"),
            ("fields.npy", {}, "structured"), ("empty", {}, "without .npy"), ("text.csv", {}, "need an index"),
            ("zero.npy", {}, "npy"), ("zero.npz", {}, "zip"), ("missing", {}, "no such file"), ("cut.npz", {}, "cut off"), ("bit.npz", {"verify": True}, "CRC"),
            ("a.npz", {"columns": ["z"]}, "no column 'z'"), ("a.npz", {"batch_size": 0}, "1 row or more"),
            ("a.npz", {"rank": 2, "size": 2}, "rank 2 of 2"), ("a.npz", {"remainder": "x"}, "keep, drop, repeat")]:
        with pytest.raises(overtake.OvertakeError, match=why) as e:
            od.open(tmp_path / path, **options)
        assert path in str(e.value) or "a.npz" == path, e.value


RANK = """
    import collections, json, os, sys
    import numpy as np
    import overtake.collective as oc, overtake.data as od

    oc.init()
    counts = collections.Counter()
    reader = od.open(sys.argv[1], batch_size=8, seed=2)
    assert (reader.rank, reader.size) == (oc.rank(), oc.size()) and oc.size() == 3
    for _ in range(2):
        for batch in reader:
            assert (batch["x"][:, 0, 0] == np.load(sys.argv[1])["x"][batch["y"], 0, 0]).all()
            counts.update(batch["y"].tolist())
            mean = oc.allreduce(batch["x"].mean(axis=0), name="m")   # as many batches on all ranks
    every = oc.allreduce(np.array([counts[i] for i in range(reader.rows)]), oc.SUM, name="counts")
    assert (every == 2).all(), every
    print("rows", sum(counts.values()), reader.state(), reader.stats()["batches_read"])
"""


def test_three_ranks(tmp_path, xy):
    np.savez(tmp_path / "a.npz", **xy)
    (tmp_path / "rank.py").write_text(textwrap.dedent(RANK))
    done = subprocess.run(
        [str(OVERTAKE), "run", "-np", "3", "--", sys.executable, str(tmp_path / "rank.py"), str(tmp_path / "a.npz")],
        capture_output=True, text=True, timeout=4 * PATIENCE, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("{'epoch': 2, 'taken': 0} 84") == 3, done.stdout


@pytest.mark.parametrize("which, two, of", [("shrink", 4, "numpy"), ("keep", 6, "numpy"), ("keep", 6, "torch")])
def test_a_rank_is_lost_in_the_middle(tmp_path, xy, which, two, of):
    """What it and the others took in the step that it broke is read by those that are left, or by who takes its place; of
    12 rows a step three ranks take 4 each, and two `two`."""
    np.savez(tmp_path / "a.npz", **xy)
    python = sys.executable if of == "numpy" else "/usr/bin/python3"
    if of == "torch" and (not os.path.exists(python) or subprocess.run([python, "-c", "import torch, numpy"],
                                                                       capture_output=True).returncode != 0):
        pytest.skip(f"{python} has no torch: install python3-torch")
    done = subprocess.run(
        [str(OVERTAKE), "run", "-np", "3", "--min-np", "2", "--max-np", "3", "--elastic-batch", which, "--", python,
         ROOT / "tests/e2e/elastic_input.py", tmp_path / "a.npz", *(["torch"] if of == "torch" else [])],
        capture_output=True, text=True, timeout=4 * PATIENCE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was killed by signal 9" in done.stderr, done.stderr
    end = re.search(r"^\[0\] [23] ranks have read every row twice .*'epoch': 2.*rows (.*)$", done.stdout, re.M)
    assert end, done.stdout
    assert json.loads(re.sub(r"(\d+):", r'"\1":', end[1])) == {"3": 4, "2": two}, done.stdout


def test_a_mapped_file_that_was_cut_is_a_reason():
    done = subprocess.run([str(OVERTAKE), "run", "-np", "1", "--", "sh", "-c", "kill -BUS $$"], capture_output=True, text=True,
                          timeout=PATIENCE)
    assert done.returncode == 135 and "a file that it had mapped was cut short" in done.stderr, done.stderr


SLOW = """
    import json, sys, time
    import numpy as np
    import overtake.collective as oc, overtake.data as od

    oc.init()
    # Rows of 4 MB, two batches ahead at most: the program does nothing but wait for them.
    reader = od.open({"x": od.raw(sys.argv[1], "uint8", (4 << 20,))}, batch_size=8, ahead_bytes=1)
    for epoch in range(4):
        for batch in reader:
            oc.allreduce(np.ones(4, np.float32), name="one")
            oc.step()
"""


def test_waits_are_explained(tmp_path):
    with open(tmp_path / "x.bin", "wb") as f:
        f.truncate(64 * (4 << 20))
    (tmp_path / "slow.py").write_text(textwrap.dedent(SLOW))
    done = subprocess.run(
        [str(OVERTAKE), "run", "-np", "2", "--explain", "--output", "json", "--", sys.executable, tmp_path / "slow.py",
         tmp_path / "x.bin"],
        capture_output=True, text=True, timeout=4 * PATIENCE, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
    assert done.returncode == 0, done.stdout + done.stderr
    shares = json.loads(done.stdout.splitlines()[-1])["explain"]["shares"]
    assert shares["input"] > max(shares["compute"], 0.1), (shares, done.stdout)
