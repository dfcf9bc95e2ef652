"""Rows a second from files to batches: overtake.data, NumPy's fancy indexing, tf.data and torch's DataLoader, in turn.

    BUILD=build/release .deps/venv/bin/python bench/input_bench.py [--rows 60000] [--records 20000] [--rounds 5]

784 float32 features and a label, batches of 256 in a new order each epoch, files in the page cache; every batch is summed up
by one column, so that nobody hands out what was never read. TFRecord holds the same rows as tf.train.Example; another file
holds strings of about 1.5 KB and lists of 0 to 49 numbers. The bound of arrays is a copy of the same bytes (memcpy of rows in
order, one thread). TensorFlow and PyTorch live in two Pythons: a second process, kept between rounds, has PyTorch; the others
in it are measured there, too. Prints JSON lines: median, least and most over the rounds, in each of which everything runs once."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build" / "release"))
os.environ.setdefault("OVERTAKE_LIB", str((BUILD / "libovertake.so").absolute()))
sys.path.insert(0, str(ROOT / "python"))
BATCH, WIDTH = 256, 784
TORCH = "/usr/bin/python3"


def epoch(batches):
    """Seconds and rows; the first column of each batch is used."""
    begin, rows, total = time.perf_counter(), 0, 0.0
    for x in batches:
        total += float(x[:, 0].sum())
        rows += len(x)
    return rows / (time.perf_counter() - begin)


def copied(folder):
    """The bound: the same bytes, copied once, as they lie."""
    x = np.load(folder / "x.npy", mmap_mode="r")
    out = np.empty((BATCH, WIDTH), np.float32)

    def batches():
        for at in range(0, len(x) - BATCH + 1, BATCH):
            np.copyto(out, x[at:at + BATCH])
            yield out
    return lambda: epoch(batches())


def anew(reader, batches):
    """What was read ahead while the others had their turn does not count."""
    reader.set_epoch(reader.epoch)
    yield from batches


def ours(source, **options):
    import overtake.data as od

    reader = od.open(source, batch_size=BATCH, seed=1, **options)
    return lambda: epoch(b["x"] for b in anew(reader, reader))


def fancy(folder, mapped):
    x = np.load(folder / "x.npy", mmap_mode="r" if mapped else None)
    y = np.load(folder / "y.npy")
    chance = np.random.default_rng(1)

    def batches():
        order = chance.permutation(len(x))
        for at in range(0, len(x), BATCH):
            rows = order[at:at + BATCH]
            y[rows]
            yield x[rows]
    return lambda: epoch(batches())


def tf_tensors(folder):
    import tensorflow as tf

    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return lambda: epoch(b[0] for b in data.as_numpy_iterator())


def tf_records(path):
    import tensorflow as tf

    features = {"x": tf.io.FixedLenFeature([WIDTH], tf.float32), "y": tf.io.FixedLenFeature([], tf.int64)}
    data = (tf.data.TFRecordDataset(str(path)).batch(BATCH)
            .map(lambda r: tf.io.parse_example(r, features), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))
    return lambda: epoch(b["x"] for b in data.as_numpy_iterator())


def ours_lists(path):
    import overtake.data as od

    reader = od.open(path, batch_size=BATCH, seed=1, features={"image": bytes, "tokens": ("int64", None)})
    return lambda: epoch(b["tokens"].lengths[:, None] for b in anew(reader, reader))


def tf_lists(path):
    import tensorflow as tf

    features = {"image": tf.io.FixedLenFeature([], tf.string), "tokens": tf.io.RaggedFeature(tf.int64)}
    data = (tf.data.TFRecordDataset(str(path)).batch(BATCH)
            .map(lambda r: tf.io.parse_example(r, features), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE))
    return lambda: epoch(b["tokens"].row_lengths().numpy()[:, None] for b in data)


def ours_as_tf(folder):
    import overtake.data as od

    reader = od.open(folder, batch_size=BATCH, seed=1)
    data = reader.tf_dataset()
    return lambda: epoch(b["x"] for b in anew(reader, data.as_numpy_iterator()))


def torch_loader(folder, workers, whole_batches):
    import torch

    x, y = (torch.from_numpy(np.load(folder / f"{n}.npy")) for n in "xy")
    data = torch.utils.data.TensorDataset(x, y)
    if whole_batches:
        order = torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(data), BATCH, False)
        loader = torch.utils.data.DataLoader(data, sampler=order, batch_size=None, num_workers=workers)
    else:
        loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=workers)
    return lambda: epoch(b[0] for b in loader)


def ours_as_torch(folder):
    import torch
    import overtake.data as od

    reader = od.open(folder, batch_size=BATCH, seed=1)
    loader = torch.utils.data.DataLoader(reader.torch_dataset(), batch_size=None)
    return lambda: epoch(b["x"] for b in anew(reader, loader))


def here(folder):
    records = folder / "rows.tfrecord"
    return {"copy of the same bytes (bound)": copied(folder),
            "overtake.data": ours(folder),
            "overtake.data, block=1024": ours(folder, block=1024),
            "overtake.data, read=True": ours(folder, read=True),
            "NumPy fancy indexing, in memory": fancy(folder, False),
            "NumPy fancy indexing, mapped": fancy(folder, True),
            "tf.data from_tensor_slices": tf_tensors(folder),
            "overtake.data as tf.data": ours_as_tf(folder),
            "TFRecord: overtake.data": ours(records),
            "TFRecord: overtake.data, shuffle=False": ours(records, shuffle=False),
            "TFRecord: tf.data parse_example, in order": tf_records(records),
            "strings and lists of any length: overtake.data": ours_lists(folder / "lists.tfrecord"),
            "strings and lists of any length: tf.data, in order": tf_lists(folder / "lists.tfrecord")}


def with_torch(folder):
    return {"torch DataLoader": torch_loader(folder, 0, False),
            "torch DataLoader, 2 workers": torch_loader(folder, 2, False),
            "torch DataLoader, index a batch": torch_loader(folder, 0, True),
            "overtake.data as torch": ours_as_torch(folder)}


def write_files(folder, rows, records):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    x, y = rng.random((rows, WIDTH), np.float32), rng.integers(0, 10, rows)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    with tf.io.TFRecordWriter(str(folder / "rows.tfrecord")) as w:
        for i in range(records):
            w.write(tf.train.Example(features=tf.train.Features(feature={
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=x[i])),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[y[i]]))})).SerializeToString())
    with tf.io.TFRecordWriter(str(folder / "lists.tfrecord")) as w:
        for i in range(records):
            w.write(tf.train.Example(features=tf.train.Features(feature={
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[x[i].tobytes()[:rng.integers(100, 3000)]])),
                "tokens": tf.train.Feature(int64_list=tf.train.Int64List(value=range(i % 50)))})).SerializeToString())


def torch_process(folder):
    """The process that has PyTorch, or None with the reason said."""
    probe = subprocess.run([TORCH, "-c", "import torch, numpy"], capture_output=True) if os.path.exists(TORCH) else None
    if probe is None or probe.returncode != 0:
        print(f"input_bench: {TORCH} has no torch (make deps-torch): left out", file=sys.stderr)
        return None
    return subprocess.Popen([TORCH, __file__, "--with-torch", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def serve_torch(folder):
    """A line in, a round of figures out."""
    ways = with_torch(folder)
    for _ in sys.stdin:
        print(json.dumps({name: way() for name, way in ways.items()}), flush=True)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rows", type=int, default=60000)
    a.add_argument("--records", type=int, default=20000)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--with-torch", type=pathlib.Path, help=argparse.SUPPRESS)
    a = a.parse_args()
    if a.with_torch:
        return serve_torch(a.with_torch)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_files(folder, a.rows, a.records)
        other, ways, figures = torch_process(folder), here(folder), {}
        for n in range(a.rounds + 1):  # the first warms up
            got = {name: way() for name, way in ways.items()}
            if other is not None:
                other.stdin.write("\n")
                other.stdin.flush()
                got.update(json.loads(other.stdout.readline()))
            for name, rate in got.items() if n > 0 else ():
                figures.setdefault(name, []).append(rate)
        if other is not None:
            other.stdin.close()
            other.wait()
    bound = statistics.median(figures["copy of the same bytes (bound)"])
    for name, rates in figures.items():
        median = statistics.median(rates)
        print(json.dumps({"bench": "input", "what": name, "rows_a_second": round(median), "least": round(min(rates)),
                          "most": round(max(rates)), "of_the_bound": round(median / bound, 3)}))


if __name__ == "__main__":
    main()
