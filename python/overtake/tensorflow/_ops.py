"""The ops of libovertake_tf.so (plugins/tensorflow_ops): start, which does not block, one wait for all, and where."""

import functools
import pathlib
import struct

import tensorflow as tf

from .. import _library, collective
from ..collective import CollectiveError, WORLD

SAME_SHAPE = (collective.ALLREDUCE, collective.BROADCAST)


@functools.lru_cache(maxsize=None)
def library():
    # Loaded before, so that both halves of a process share its one place in the job.
    beside = pathlib.Path(_library.library()._name).with_name("libovertake_tf.so")
    path = str(beside) if beside.is_absolute() or beside.exists() else beside.name
    try:
        ops = tf.load_op_library(path)
    except tf.errors.NotFoundError as why:
        raise _library.OvertakeError(f"{path} was not loaded ({why}); it lies beside libovertake.so") from why
    if not all(hasattr(ops, f"overtake_{op}") for op in ("start", "wait_all", "where")):
        raise _library.OvertakeError(f"{path}: TensorFlow {tf.__version__} took no ops from it; 2.16 or newer is needed")
    return ops


class Item:
    """One operation on one tensor."""

    def __init__(self, kind, tensor, name=None, splits=None, reduction=collective.SUM, root=0, group=WORLD,
                 prescale=1.0, postscale=1.0):
        self.tensor = tf.convert_to_tensor(tensor)
        if self.tensor.dtype.name not in collective.DTYPES:
            raise CollectiveError(f"{name or 'tensor'} has type {self.tensor.dtype.name}; accepted: "
                                  f"{', '.join(collective.DTYPES)}", -12)
        self.same_shape = kind in SAME_SHAPE
        self.splits = tf.zeros([0], tf.int64) if splits is None else tf.cast(splits, tf.int64)
        self.attributes = {"kind": kind, "tensor_name": name or "", "reduction": reduction, "root": root,
                           "group": group, "prescale": _bits(prescale), "postscale": _bits(postscale)}


def place(group=WORLD):
    """rank, size, local_rank, local_size, cross_rank, cross_size. In a graph as of when it runs: an elastic job changes
    them."""
    if tf.executing_eagerly():
        here = collective.where(group)
        return [getattr(here, field) for field, _ in here._fields_[1:]]
    with tf.device("/CPU:0"):
        here = library().overtake_where(group=group)
    here.set_shape([6])
    return tf.unstack(here)


def _bits(factor):
    return struct.unpack("<q", struct.pack("<d", factor))[0]


def run(items, with_splits=False):
    """The results of all items, in order; with `with_splits` also the rows that came from each rank.

    They are started in reverse: in a tf.function ops with an effect run in the order in which they were made,
    and the gradients of the last layers are there first."""
    if not items:
        return []
    with tf.device("/CPU:0"):
        handles = [library().overtake_start(i.tensor, i.splits, **i.attributes) for i in reversed(items)]
        results, splits = library().overtake_wait_all(handles[::-1], T=[i.tensor.dtype for i in items],
                                                      S=len(items) if with_splits else 0)
    for item, result in zip(items, results):
        if item.same_shape:
            result.set_shape(item.tensor.shape)
        elif item.tensor.shape.rank:
            result.set_shape([None] + item.tensor.shape[1:])
    return (results, splits) if with_splits else results
