"""Batch normalization over the rows of all ranks: the same as in one process that has all of them."""

import keras
import tensorflow as tf

from ..collective import WORLD
from .operations import allgather


class SyncBatchNormalization(keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization with the statistics of all ranks' rows while it trains; ranks may have different
    numbers of rows."""

    def __init__(self, *args, group=WORLD, **options):
        super().__init__(*args, **options)
        if self.synchronized:
            raise ValueError("synchronized=True is for tf.distribute; SyncBatchNormalization needs it not")
        self._group = group

    def _moments(self, inputs, mask):
        mean, variance = super()._moments(inputs, mask)
        if mask is None:
            count = tf.size(inputs) // inputs.shape[self._axis_of_channels()]
        else:
            count = tf.math.count_nonzero(mask)
        # One row a rank: how many, mean, variance.
        row = tf.concat([[tf.cast(count, mean.dtype)], tf.reshape(mean, [-1]), tf.reshape(variance, [-1])], 0)
        rows = allgather(row[tf.newaxis], f"{self.path}.moments", self._group)
        channels = (rows.shape[1] - 1) // 2
        counts, means, variances = tf.split(rows, [1, channels, channels], 1)
        parts = counts / tf.reduce_sum(counts)

        def over_ranks(values):
            return tf.reduce_sum(tf.math.multiply_no_nan(values, parts + tf.zeros_like(values)), 0)

        joint = over_ranks(means)
        spread = over_ranks(variances + tf.square(means - joint))
        return tf.reshape(joint, tf.shape(mean)), tf.reshape(spread, tf.shape(variance))

    def _axis_of_channels(self):
        return self.axis[0] if isinstance(self.axis, (list, tuple)) else self.axis

    def get_config(self):
        config = super().get_config()
        config.pop("synchronized", None)
        return config
