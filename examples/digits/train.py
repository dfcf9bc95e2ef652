"""Trains a small network on 8x8 digits and writes a TensorFlow SavedModel.

Nothing in it is Overtake's: it reads .npy columns from folders and writes a model.

    $OVERTAKE_DATA/NAME/{x,y,weight}.npy     rows (n, 8, 8), labels (n,), weights (n,) if there are any
    out/model, out/metrics.json              what it writes

Alone: `python digits.py base.npz`, then `python train.py --data base.npz`."""

import argparse
import json
import os
import pathlib

import numpy as np


def arguments(epochs):
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=pathlib.Path, help="an .npz file with x and y, when run alone")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    return parser.parse_args()


def load(data):
    """All rows: x (n, 8, 8), y (n,), weight (n,)."""
    parts = []
    if data:
        with np.load(data) as f:
            parts.append((f["x"], f["y"], np.ones(len(f["y"]))))
    else:
        for folder in sorted(p for p in pathlib.Path(os.environ["OVERTAKE_DATA"]).iterdir() if p.is_dir()):
            x, y, weight = (folder / f"{name}.npy" for name in ("x", "y", "weight"))
            y = np.load(y)
            parts.append((np.load(x), y, np.load(weight) if weight.exists() else np.ones(len(y))))
            print(f"{folder.name}: {len(y)} rows", flush=True)
    return (np.concatenate([np.float32(p[0]).reshape(-1, 8, 8) for p in parts]),
            np.concatenate([np.int64(p[1]) for p in parts]), np.concatenate([np.float32(p[2]) for p in parts]))


def metrics(out, **values):
    """Shown beside the version as what the program says of itself."""
    (out / "metrics.json").write_text(json.dumps(values))


def main():
    args = arguments(epochs=12)
    x, y, weight = load(args.data)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import keras
    import tensorflow as tf

    threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS", "1"))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(args.seed)
    model = keras.Sequential([
        keras.Input((8, 8), name="x"),
        keras.layers.Reshape((8, 8, 1)),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, sample_weight=weight, batch_size=128, epochs=args.epochs, verbose=2)
    args.out.mkdir(parents=True, exist_ok=True)
    model.export(str(args.out / "model"), format="tf_saved_model", verbose=False)
    metrics(args.out, rows=len(x), epochs=args.epochs, training_accuracy=history.history["accuracy"][-1])


if __name__ == "__main__":
    main()
