"""The small path: what train.py does, with scikit-learn and ONNX instead of TensorFlow."""

import warnings

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import digits
from train import arguments, load, metrics


def main():
    args = arguments(epochs=12)
    x, y, _ = load(args.data)  # traffic is kept whole here, so that every weight is 1
    # Each row once more, moved and with noise: a network without convolutions needs to be told.
    rng = np.random.default_rng(args.seed)
    again = digits.move(x, rng.uniform(-6, 6, len(x)), *rng.uniform(-0.5, 0.5, (2, len(x))))
    again = np.clip(again + rng.normal(0, 0.1, x.shape), 0, 1).astype(np.float32)
    x, y = np.concatenate([x, again]).reshape(2 * len(x), -1), np.concatenate([y, y])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # how many epochs is ours to say
        model = MLPClassifier((256,), alpha=1e-3, batch_size=64, max_iter=args.epochs,
                              learning_rate_init=2e-3, random_state=args.seed).fit(x, y)
    onnx = to_onnx(model, initial_types=[("x", FloatTensorType([None, x.shape[1]]))],
                   options={"zipmap": False}, target_opset=17)
    (args.out / "model").mkdir(parents=True, exist_ok=True)
    (args.out / "model" / "model.onnx").write_bytes(onnx.SerializeToString())
    metrics(args.out, rows=len(x), epochs=args.epochs, training_accuracy=model.score(x, y))


if __name__ == "__main__":
    main()
