"""Overtake from inside a training program. A program needs none of it.

    import overtake

    base = overtake.data("base")                      # {"x": array, "y": array}
    model = train(base["x"], base["y"])
    model.export("out/saved_model")
    overtake.save("out/model", "out/saved_model",
                  inputs={"x": test_x}, outputs={"probabilities": model(test_x)},
                  trained_on={"x": base["x"]}, batch=64)

`data` and `parent` only read what a run was given; `save` and `verify` call libovertake
(include/overtake/overtake.h), which is looked for at $OVERTAKE_LIB, in this package, then where the
system's loader looks.
"""

import os
import pathlib

from . import _library
from ._library import OvertakeError

__all__ = ["OvertakeError", "data", "datasets", "parent", "save", "verify"]


def datasets():
    """Names of the data sets that this run was given, sorted; empty outside of a run."""
    root = os.environ.get("OVERTAKE_DATA")
    if not root:
        return []
    return sorted(p.name for p in pathlib.Path(root).iterdir() if p.is_dir())


def data(name, mmap=False):
    """The columns of one of this run's data sets: {name: array}. `mmap` maps the files, read-only."""
    import numpy

    root = os.environ.get("OVERTAKE_DATA")
    if not root:
        raise OvertakeError("OVERTAKE_DATA is not set: this is not a run of Overtake")
    folder = pathlib.Path(root) / name
    if not folder.is_dir():
        raise OvertakeError(f"data set '{name}' was not given to this run; it has: "
                            + (", ".join(datasets()) or "none"))
    return {p.stem: numpy.load(p, mmap_mode="r" if mmap else None, allow_pickle=False)
            for p in sorted(folder.glob("*.npy"))}


def parent():
    """The model that serves now, as a path to start from, or None: a bundle (docs/architecture.md),
    whose `model/` is in the framework's own format. Read it; do not write there."""
    path = os.environ.get("OVERTAKE_PARENT")
    return pathlib.Path(path) if path else None


def save(path, model, *, inputs, outputs, trained_on=None, prediction=None, batch=0, golden=0,
         tolerance=None, format=None):
    """Writes a bundle at `path`, which must not exist, and returns its SHA-256.

    model       file or directory in the framework's own format
    inputs      {name: array}: rows the model was not trained on; axis 0 is the row
    outputs     {name: array}: the model's answers to them
    trained_on  {name: array}: the rows it was trained on, what live traffic is compared with
    prediction  (output, kind) with kind "scores", "label" or "value"; None: guessed where it is clear
    batch       rows that may run together; 0: one at a time
    golden      how many of the first rows become golden answers; 0: 16, or as many as there are
    tolerance   (abs, rel) of the golden answers; None: (1e-4, 1e-3)
    format      "onnx", "saved_model", ...; None: found by its content
    """
    output, kind = prediction if prediction is not None else (None, None)
    absolute, relative = tolerance if tolerance is not None else (0.0, 0.0)
    return _library.bundle_save(os.fspath(path), model_path=os.fspath(model), format=format,
                                inputs=inputs, outputs=outputs, trained_on=trained_on or {},
                                prediction_output=output, prediction_kind=kind, batch_max=batch,
                                golden_rows=golden, tolerance_abs=absolute,
                                tolerance_rel=relative)


def verify(path):
    """Checks every file of the bundle at `path` and its golden answers; returns its SHA-256."""
    return _library.bundle_verify(os.fspath(path))
