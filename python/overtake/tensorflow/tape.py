"""A gradient tape whose gradients are reduced over the ranks."""

import tensorflow as tf

from ..collective import AVERAGE, WORLD
from ._ops import place
from .operations import path_of, reduce_gradients


class Reduction:
    """How the gradients of a list of variables are reduced. Those of `local` variables are this rank's own,
    divided by the number of ranks if `scale_local` (so that they weigh as much as the average's)."""

    def __init__(self, op=AVERAGE, prescale_factor=1.0, postscale_factor=1.0, sparse_as_dense=False, group=WORLD,
                 compression=None, local=(), scale_local=True):
        self.options = {"op": op, "prescale": prescale_factor, "postscale": postscale_factor,
                        "sparse_as_dense": sparse_as_dense, "group": group, "compression": compression}
        self.local, self.scale_local, self.group = {id(v) for v in local}, scale_local, group

    def __call__(self, gradients, variables):
        shared = [i for i, v in enumerate(variables) if id(v) not in self.local]
        out = [self._own(g) for g in gradients]
        found = reduce_gradients([gradients[i] for i in shared],
                                 [f"gradient.{i}.{path_of(variables[i])}" for i in shared], **self.options)
        for i, g in zip(shared, found):
            out[i] = g
        return out

    def _own(self, gradient):
        if gradient is None or not self.local or not self.scale_local:
            return gradient
        if isinstance(gradient, tf.IndexedSlices):
            return tf.IndexedSlices(self._own(gradient.values), gradient.indices, gradient.dense_shape)
        return gradient / tf.cast(place(self.group)[1], gradient.dtype)


class _Tape(tf.GradientTape):
    def __init__(self, tape, reduction):
        self.__dict__.update(tape.__dict__)
        self._overtake = reduction

    def gradient(self, target, sources, output_gradients=None,
                 unconnected_gradients=tf.UnconnectedGradients.NONE):
        found = super().gradient(target, sources, output_gradients, unconnected_gradients)
        variables = tf.nest.flatten(sources)
        reduced = self._overtake(tf.nest.flatten(found), variables)
        return tf.nest.pack_sequence_as(sources, reduced)


def DistributedGradientTape(tape, **options):
    """The tape, with gradients reduced (averaged, unless `op` says otherwise). Options: those of Reduction."""
    return _Tape(tape, Reduction(**options))
