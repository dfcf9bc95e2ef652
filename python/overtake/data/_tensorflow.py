"""A reader as tf.data."""

import numpy
import tensorflow as tf

from .._library import OvertakeError
from . import Ragged


def _spec(name, dtype, shape):
    if dtype is bytes:
        return tf.TensorSpec((None,), tf.string)
    try:
        dtype = tf.dtypes.as_dtype(dtype)
    except TypeError as why:
        raise OvertakeError(f"column '{name}' is {dtype}, which TensorFlow does not have; choose others with "
                            "columns=") from why
    if shape == (None,):
        return tf.RaggedTensorSpec((None, None), dtype, 1, tf.int64)
    return tf.TensorSpec((None, *shape), dtype)


def _value(a):
    if not isinstance(a, Ragged):
        return a
    if a.string:
        return numpy.array([*a, None], object)[:-1]  # never an array of texts of one length
    return tf.RaggedTensor.from_row_splits(a.values, a.splits, validate=False)


def dataset(reader):
    signature = {n: _spec(n, dtype, shape) for n, (dtype, shape) in reader.columns.items()}
    # TensorFlow may keep a batch as it is: its buffer comes back when the tensor is gone.
    return tf.data.Dataset.from_generator(lambda: ({n: _value(a) for n, a in b.items()} for b in reader),
                                          output_signature=signature)
