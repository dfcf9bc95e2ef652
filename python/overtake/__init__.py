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

import math
import operator
import os
import pathlib
import sys

from . import _checkpoint, _library, data
from ._checkpoint import Checkpoint
from ._library import OvertakeError

__all__ = ["Checkpoint", "OvertakeError", "checkpoint", "data", "datasets", "latest_checkpoint", "parent", "save",
           "verify"]


def datasets():
    """Names of the data sets that this run was given, sorted; empty outside of a run."""
    root = os.environ.get("OVERTAKE_DATA")
    if not root:
        return []
    return sorted(p.name for p in pathlib.Path(root).iterdir() if p.is_dir())


def parent():
    """The model that serves now, as a path to start from, or None: a bundle (docs/architecture.md),
    whose `model/` is in the framework's own format. Read it; do not write there."""
    path = os.environ.get("OVERTAKE_PARENT")
    return pathlib.Path(path) if path else None


def _is_other_rank():
    """In a run of the loop, whose ranks share one work directory: this is not the one that writes."""
    ranks = sys.modules.get("overtake.collective")
    if ranks is not None and ranks.is_initialized():
        return "OVERTAKE_RUN" in os.environ and ranks.rank() != 0
    return "OVERTAKE_RUN" in os.environ and os.environ.get("OVERTAKE_RANK", "0") != "0"


def checkpoint(path, step, keep=2, metrics=None):
    """Keeps the file or folder at `path` as this run's state after `step`, and returns its digest (SHA-256).

    It is durable when this returns, and whole: a process that dies meanwhile leaves the one before. The newest
    `keep` stay; a file that several of them have is there once. When the run is tried again, by the control plane or by
    `max_restarts`, `latest_checkpoint` gives the newest. With several ranks call it on all or on rank 0: rank 0
    writes, on the others nothing is done and None returned. The control plane takes it into its registry
    (train.checkpoints), with `metrics`: {name: number}.
    """
    root = os.environ.get("OVERTAKE_CHECKPOINTS")
    if not root:
        raise OvertakeError("OVERTAKE_CHECKPOINTS is not set: this is not a run of Overtake; set it to a folder to "
                            "keep checkpoints there")
    step = operator.index(step)
    if not 0 <= step < _checkpoint.STEP_MAX or keep < 1:
        raise ValueError(f"checkpoint: step {step!r} is not a whole number from 0, or keep {keep!r} is not above 0")
    if _is_other_rank():
        return None
    numbers = {str(name): float(x) for name, x in (metrics or {}).items()}
    return _checkpoint.put(root, path, step, keep, {n: x if math.isfinite(x) else None for n, x in numbers.items()})


def latest_checkpoint():
    """The newest whole checkpoint of this run and its earlier tries: a Checkpoint with `path` (what was given to
    `checkpoint`: a file or a folder, to read from) and `step`; None where there is none, and outside of a run."""
    root = os.environ.get("OVERTAKE_CHECKPOINTS")
    return _checkpoint.newest(root, tell=not _is_other_rank()) if root else None


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

    In a training of several ranks rank 0 writes: on the others nothing is done and None returned.
    """
    if _is_other_rank():
        return None
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
