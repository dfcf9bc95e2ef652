"""overtake.data beside the frameworks: TFRecord files that TensorFlow wrote, as tf.data, under Keras; as a torch
IterableDataset with and without workers."""

import gzip
import hashlib
import os
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

ROWS = 500
TORCH = "/usr/bin/python3"


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="no TensorFlow here: make deps")


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(7)
    return {"x": rng.normal(size=(ROWS, 12)).astype(np.float32), "y": rng.integers(-2 ** 60, 2 ** 60, ROWS),
            "pair": rng.integers(0, 300, (ROWS, 2)), "id": np.arange(ROWS),
            "mark": rng.integers(0, 256, (ROWS, 4)).astype(np.uint8)}


@pytest.fixture(scope="module")
def records(tf, columns, tmp_path_factory):
    """Two files of TensorFlow's writer."""
    folder = tmp_path_factory.mktemp("records")
    paths = [folder / "a.tfrecord", folder / "b.tfrecord"]
    for path, rows in zip(paths, np.array_split(np.arange(ROWS), [120])):
        with tf.io.TFRecordWriter(str(path)) as w:
            for i in rows:
                w.write(example(tf, {k: v[i] for k, v in columns.items()}))
    return paths


def example(tf, row):
    def feature(v):
        v = np.atleast_1d(v)
        if v.dtype.kind == "S":
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=v))
        if v.dtype == np.uint8:
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.tobytes()]))
        if v.dtype == np.float32:
            return tf.train.Feature(float_list=tf.train.FloatList(value=v))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=v))
    return tf.train.Example(features=tf.train.Features(
        feature={k: feature(v) for k, v in row.items()})).SerializeToString()


def same(got, wanted):
    assert set(got) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name], name)


def whole(batches):
    batches = list(batches)
    return {k: np.concatenate([np.asarray(b[k]) for b in batches]) for k in batches[0]}


@pytest.mark.parametrize("read", [False, True])
def test_records_of_tensorflow(records, columns, read):
    with od.open(records, batch_size=33, seed=6, read=read) as reader:
        assert reader.rows == ROWS and reader.columns["x"] == (np.dtype("f4"), (12,))
        same(whole(reader), {k: v[od.order(ROWS, 6)] for k, v in columns.items()})
    some = {"x": ("float32", (3, 4)), "y": ("int64", ()), "mark": ("uint8", (4,))}
    with od.open(records, batch_size=33, shuffle=False, features=some, read=read) as reader:
        wanted = {k: columns[k] for k in some}
        same(whole(reader), {**wanted, "x": columns["x"].reshape(-1, 3, 4)})
    with od.open(records, columns=["id", "y"], batch_size=100, shuffle=False) as reader:
        same(whole(reader), {k: columns[k] for k in ("id", "y")})


def test_shards_without_records(records, columns, tmp_path):
    (tmp_path / "none.tfrecord").touch()
    (tmp_path / "none.tfrecord.gz").write_bytes(gzip.compress(b""))
    with od.open([tmp_path / "none.tfrecord", records[0], tmp_path / "none.tfrecord.gz", records[1]], batch_size=33,
                 shuffle=False) as reader:
        same(whole(reader), columns)


@pytest.mark.parametrize("how", ["GZIP", "ZLIB"])
def test_packed_records(tf, records, columns, tmp_path, how):
    path = tmp_path / ("a.tfrecord.gz" if how == "GZIP" else "a.tfrecord")
    with tf.io.TFRecordWriter(str(path), how) as w:
        for i in range(120):
            w.write(example(tf, {k: v[i] for k, v in columns.items()}))
    if how == "GZIP":  # two files behind each other are one
        path.write_bytes(path.read_bytes() + gzip.compress(records[1].read_bytes()))
        with od.open(path, batch_size=33, seed=6) as reader:
            same(whole(reader), {k: v[od.order(ROWS, 6)] for k, v in columns.items()})
    else:
        with od.open([path, records[1]], batch_size=33, shuffle=False) as reader:
            same(whole(reader), columns)
    digest = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    index = {"schema": "overtake.input/1", "records": [digest]}
    assert od.open(index, verify=True).rows in (120, ROWS)
    with pytest.raises(overtake.OvertakeError, match="SHA-256"):
        od.open({**index, "records": [{**digest, "sha256": "0" * 64}]}, verify=True)


@pytest.fixture(scope="module")
def lists(tf, tmp_path_factory):
    """Rows of any length, some empty, some not there; one that is longer than what is read ahead; and what TensorFlow
    reads of them."""
    rng, path, rows = np.random.default_rng(3), tmp_path_factory.mktemp("lists") / "a.tfrecord", []
    with tf.io.TFRecordWriter(str(path)) as w:
        for i in range(200):
            row = {"id": np.int64(i), "tokens": rng.integers(-2 ** 40, 2 ** 40, rng.integers(0, 9)),
                   "weights": rng.normal(size=rng.integers(0, 5)).astype(np.float32),
                   "image": np.array(rng.bytes(rng.integers(1, 3000) if i != 150 else 300000) + b".")}
            if i % 7 == 3:
                del row["tokens"], row["image"]
            rows.append(row)
            w.write(example(tf, row))
    return path, rows


LISTS = {"id": ("int64", ()), "tokens": ("int64", None), "weights": ("float32", None), "image": bytes}


def same_lists(batch, rows):
    wanted = [rows[i] for i in np.asarray(batch["id"])]
    for name, of in (("tokens", np.int64), ("weights", np.float32)):
        got = batch[name]
        assert len(got) == len(wanted)
        for g, w in zip(got, wanted):
            np.testing.assert_array_equal(np.asarray(g), w.get(name, np.empty(0, of)))
    assert [bytes(g) for g in batch["image"]] == [r["image"].item() if "image" in r else b"" for r in wanted]


@pytest.mark.parametrize("read", [False, True])
def test_lists_of_any_length(lists, read):
    path, rows = lists
    reader = od.open(path, batch_size=13, seed=8, features=LISTS, read=read, ahead_bytes=20000)
    assert reader.columns["tokens"] == (np.dtype("i8"), (None,)) and reader.columns["image"] == (bytes, ())
    assert reader.columns["id"] == (np.dtype("i8"), ())
    held = list(reader)
    reader.next()
    state = reader.state()
    rest = [b["id"].tolist() for b in reader]
    reader.load(state)
    assert [b["id"].tolist() for b in reader] == rest
    reader.close()
    del reader
    assert sorted(i for b in held for i in b["id"]) == list(range(200))
    for batch in held:
        same_lists(batch, rows)
        assert batch["tokens"].values.dtype == np.int64 and batch["tokens"].splits[0] == 0
        assert (batch["tokens"].lengths == [len(t) for t in batch["tokens"]]).all()
    with pytest.raises(IndexError):
        held[0]["tokens"][13]
    assert held[0]["image"][-1] == held[0]["image"][12]


def test_lists_as_tf_data(tf, lists):
    path, rows = lists
    data = od.open(path, batch_size=13, seed=8, features=LISTS).tf_dataset()
    assert isinstance(data.element_spec["tokens"], tf.RaggedTensorSpec) and data.element_spec["image"].dtype == tf.string
    n = 0
    for batch in data.prefetch(2):
        same_lists({"id": batch["id"], "tokens": [t.numpy() for t in batch["tokens"]],
                    "weights": [t.numpy() for t in batch["weights"]], "image": batch["image"].numpy()}, rows)
        n += len(batch["id"])
    assert n == 200


def test_bfloat16(tf, tmp_path):
    import ml_dtypes

    x = np.random.default_rng(1).normal(size=(40, 3)).astype(ml_dtypes.bfloat16)
    (tmp_path / "x.bin").write_bytes(x.tobytes())
    for name in ("bfloat16", x.dtype, "torch.bfloat16"):
        reader = od.open({"x": od.raw(tmp_path / "x.bin", name, (3,))}, batch_size=16, shuffle=False)
        assert reader.columns["x"] == (x.dtype, (3,))
        np.testing.assert_array_equal(np.concatenate([b["x"] for b in reader]), x)
    batch = next(iter(reader.tf_dataset()))["x"]
    assert batch.dtype == tf.bfloat16 and (batch.numpy() == x[:16]).all()


def test_records_that_are_refused(tf, records, columns, tmp_path):
    whole_file = records[0].read_bytes()
    first = int.from_bytes(whole_file[:8], "little") + 16

    def refused(name, content, why, when_opened=True, **options):
        path = tmp_path / f"{name}.tfrecord"
        path.write_bytes(content)
        with pytest.raises(overtake.OvertakeError, match=why) as e:
            reader = od.open(path, shuffle=False, **options)
            assert not when_opened
            list(reader)
        assert name in str(e.value) or options

    def record(row):
        path = tmp_path / "one"
        with tf.io.TFRecordWriter(str(path)) as w:
            w.write(example(tf, row))
        return path.read_bytes()

    damaged = bytearray(whole_file)
    damaged[first + 40] ^= 1
    refused("damaged", bytes(damaged), f"record 1 at byte {first}: its CRC", when_opened=False)
    damaged = bytearray(whole_file)
    damaged[first] ^= 1
    refused("length", bytes(damaged), f"record 1 at byte {first}: the CRC of a record's length")
    refused("cut", whole_file[:-5], "cut off")
    refused("text", b"what is this, then?\n", "not a TFRecord file")
    packed = gzip.compress(whole_file)
    refused("packed", packed[:-9], "packed with gzip or zlib, and damaged or cut off")
    refused("turned", packed[:100] + bytes([packed[100] ^ 1]) + packed[101:], "damaged|CRC|TFRecord")
    refused("nothing", gzip.compress(b""), "no columns")
    x, y = columns["x"][0], columns["y"][0]
    refused("ragged", record({"x": x, "y": y}) + record({"x": x[:5], "y": y}),
            r"'x' has 5 values, the column 12: .* features={'x': \('float32', None\)}", when_opened=False)
    refused("strings", record({"x": np.array([b"a", b"bc"])}), "'x' has 2 strings; one a row", when_opened=False,
            features={"x": bytes})
    refused("numbers", record({"x": y}), "'x' is an int64 list; the column is a bytes list", when_opened=False,
            features={"x": bytes})
    refused("missing", record({"x": x, "y": y}) + record({"x": x}), "no feature 'y'", when_opened=False)
    refused("kind", record({"x": x, "y": y}) + record({"x": x, "y": x[0]}), "'y' is a float list", when_opened=False)
    refused("other", record({"x": x}), "no feature 'z'", when_opened=False, features={"z": ("int64", ())})
    refused("type", record({"x": x}), "FP32 .a float list", features={"x": ("float64", (12,))})


def test_as_tf_data(tf, records, columns):
    reader = od.open(records, batch_size=64, seed=2, columns=["id", "x"])
    data = reader.tf_dataset()
    assert data.element_spec["x"].shape.as_list() == [None, 12]
    for epoch in range(2):
        order = od.order(ROWS, 2, epoch)
        same(whole(data.prefetch(2)), {k: columns[k][order] for k in ("id", "x")})
    held = list(data.map(lambda b: b["x"] * 1.0))  # more than is read ahead
    assert (np.concatenate([h.numpy() for h in held]) == columns["x"][od.order(ROWS, 2, 2)]).all()


def test_under_keras(tf, records, columns, tmp_path):
    y = (columns["x"].sum(axis=1, keepdims=True) > 0).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=columns["x"], y=y)
    reader = od.open(tmp_path / "d.npz", batch_size=50, seed=2)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, activation="sigmoid")])
    model.compile(tf.keras.optimizers.Adam(0.1), loss="binary_crossentropy")
    losses = model.fit(reader.tf_dataset().map(lambda b: (b["x"], b["y"])), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2 and reader.state() == {"epoch": 4, "taken": 0}


def test_types_that_tensorflow_lacks(tf, tmp_path):
    np.savez(tmp_path / "d.npz", when=np.arange(3).astype("M8[s]"), x=np.arange(3))
    with pytest.raises(overtake.OvertakeError, match="column 'when'"):
        od.open(tmp_path / "d.npz").tf_dataset()
    assert whole(od.open(tmp_path / "d.npz", columns=["x"], shuffle=False).tf_dataset())["x"].tolist() == [0, 1, 2]


PROGRAM = """
    import sys
    import numpy as np, torch
    import overtake.data as od

    ROWS, PATH = 500, sys.argv[1]

    def numbers(batches):
        return [b["y"].tolist() for b in batches]

    def loader(data, workers, **options):
        return torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers, **options)

    def rank_of_two(rank, ways):
        def fresh():
            return od.open(PATH, columns=["x", "y"], batch_size=16, seed=4, rank=rank, size=2).torch_dataset()
        rows = np.load(PATH)
        wanted = numbers(fresh())
        assert len(wanted) == len(fresh()) == 16 and sum(map(len, wanted)) == 250
        for workers, how in ways:
            data = fresh()
            batches = list(loader(data, workers, multiprocessing_context=how))
            assert numbers(batches) == wanted, (workers, how)
            for b in batches:
                assert torch.equal(b["x"], torch.from_numpy(rows["x"][b["y"].numpy()]))
            if how == "spawn":
                continue  # each of its workers imports torch anew
            data.set_epoch(1)
            second = numbers(loader(data, workers, multiprocessing_context=how))
            assert second != wanted and sum(map(len, second)) == 250

    def main():
        rank_of_two(0, ((0, None), (3, "fork")))
        rank_of_two(1, ((1, "fork"), (2, "spawn")))
        # A parent whose threads run and that has a batch out; workers that live on take the next epoch.
        data = od.open(PATH, columns=["x", "y"], batch_size=16, seed=4).torch_dataset()
        one = next(iter(data))
        data.set_epoch(0)
        lasting = loader(data, 2, persistent_workers=True)
        for epoch in range(3):
            assert sum(numbers(lasting), []) == od.order(ROWS, 4, epoch).tolist()
        try:
            next(iter(od.open(PATH, columns=["text"]).torch_dataset()))
        except od.OvertakeError as e:
            assert "column 'text'" in str(e)
        # Rows of any length, and a type that NumPy alone does not have.
        lists = od.open(sys.argv[2], batch_size=13, seed=8, features={"id": ("int64", ()), "tokens": ("int64", None),
                                                                      "image": bytes}).torch_dataset()
        for workers in (0, 2):
            for batch in loader(lists, workers):
                for i, tokens, image in zip(batch["id"].tolist(), batch["tokens"], batch["image"]):
                    assert tokens.tolist() == list(range(i % 5)) and image.dtype == torch.uint8
                    assert bytes(image.numpy()) == b"x" * (i % 3)
            lists.set_epoch(0)
        halves = od.open({"x": od.raw(sys.argv[3], "bfloat16", (2,))}, shuffle=False, batch_size=3)
        got = torch.cat([b["x"] for b in halves.torch_dataset()])
        assert got.dtype == torch.bfloat16 and got.tolist() == [[1.0, -2.5]] * 4
        try:
            import ml_dtypes
        except ImportError:
            try:
                halves.next()
                assert False, "NumPy has no bfloat16"
            except od.OvertakeError as e:
                assert "column 'x' is bfloat16" in str(e)
        print("all the same")

    if __name__ == "__main__":
        main()
"""


def written(row):
    """One record of int64 lists and a string, by hand: small numbers, all lengths below 128."""
    def field(number, content):
        return bytes([number << 3 | 2, len(content)]) + content

    def feature(v):
        return field(1, field(1, v)) if isinstance(v, bytes) else field(3, field(1, bytes(v)))

    def crc(p):
        c = 0xffffffff
        for byte in p:
            c ^= byte
            for _ in range(8):
                c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
        c ^= 0xffffffff
        return (((c >> 15 | c << 17) + 0xa282ead8) & 0xffffffff).to_bytes(4, "little")
    body = field(1, b"".join(field(1, field(1, k.encode()) + field(2, feature(v))) for k, v in row.items()))
    head = len(body).to_bytes(8, "little")
    return head + crc(head) + body + crc(body)


def test_as_torch(tmp_path):
    has = subprocess.run([TORCH, "-c", "import torch, numpy"], capture_output=True) if os.path.exists(TORCH) else None
    if has is None or has.returncode != 0:
        pytest.skip(f"{TORCH} has no torch: install python3-torch")
    rng = np.random.default_rng(7)
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(ROWS, 12)).astype(np.float32), y=np.arange(ROWS),
             text=np.array(["a"] * ROWS))
    (tmp_path / "x.bin").write_bytes(b"\x80\x3f\x20\xc0" * 4)
    with open(tmp_path / "lists.tfrecord", "wb") as f:
        for i in range(50):
            f.write(written({"id": [i], "tokens": list(range(i % 5)), "image": b"x" * (i % 3)}))
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run([TORCH, str(tmp_path / "program.py"), str(tmp_path / "d.npz"), str(tmp_path / "lists.tfrecord"),
                           str(tmp_path / "x.bin")], capture_output=True, text=True,
                          timeout=4 * PATIENCE, env={**os.environ, "PYTHONPATH": str(ROOT / "python")})
    assert done.returncode == 0 and "all the same" in done.stdout, done.stdout + done.stderr
