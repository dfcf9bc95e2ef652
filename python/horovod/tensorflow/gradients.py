"""The gradient tape and the optimizers. `num_groups`, `groups` and devices change nothing: Overtake's plan makes the
buckets."""

import keras
import tensorflow as tf

import overtake.tensorflow as ot
from overtake.tensorflow import keras as okeras

from horovod.common.process_sets import global_process_set

from . import sessions
from .compression import Compression
from .mpi_ops import Average, Sum


def reduction(compression, sparse_as_dense, op, predivide, process_set, local_layers=(), scale_local_gradients=True):
    """The options of Overtake's for those of Horovod's."""
    if predivide != 1.0 and op != Average:
        raise ValueError("gradient_predivide_factor needs op=Average")
    layers = [local_layers] if isinstance(local_layers, keras.layers.Layer) else local_layers or []
    return {"op": op, "prescale_factor": 1.0 / predivide, "postscale_factor": predivide,
            "sparse_as_dense": sparse_as_dense, "group": process_set._group(),
            "compression": None if compression is Compression.none else compression,
            "local": [v for layer in layers for v in layer.trainable_variables], "scale_local": scale_local_gradients}


def DistributedGradientTape(gradtape, device_dense="", device_sparse="", compression=Compression.none,
                            sparse_as_dense=False, op=Average, gradient_predivide_factor=1.0, num_groups=0,
                            groups=None, process_set=global_process_set, scale_local_gradients=True):
    return ot.DistributedGradientTape(gradtape, **reduction(
        compression, sparse_as_dense, op, gradient_predivide_factor, process_set))


def PartialDistributedGradientTape(gradtape, device_dense="", device_sparse="", compression=Compression.none,
                                   sparse_as_dense=False, op=Average, gradient_predivide_factor=1.0, num_groups=0,
                                   groups=None, process_set=global_process_set, local_layers=None,
                                   scale_local_gradients=True):
    return ot.DistributedGradientTape(gradtape, **reduction(
        compression, sparse_as_dense, op, gradient_predivide_factor, process_set, local_layers, scale_local_gradients))


def PartialDistributedOptimizer(optimizer, name=None, device_dense="", device_sparse="", compression=Compression.none,
                                sparse_as_dense=False, gradient_predivide_factor=1.0, op=Average,
                                backward_passes_per_step=1, average_aggregated_gradients=False, num_groups=0,
                                groups=None, process_set=global_process_set, local_layers=None,
                                scale_local_gradients=True):
    if op not in (Average, Sum):
        raise ValueError("an optimizer of Keras takes op=Average or op=Sum; Adasum is for allreduce and the tape")
    options = reduction(compression, sparse_as_dense, op, gradient_predivide_factor, process_set, local_layers,
                        scale_local_gradients)
    if isinstance(optimizer, tf.compat.v1.train.Optimizer) and backward_passes_per_step == 1:
        return sessions.distributed(optimizer, options)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise NotImplementedError(f"DistributedOptimizer: {type(optimizer).__name__} is not backed; use one of "
                                  "keras.optimizers, or one of tf.compat.v1.train with backward_passes_per_step=1")
    return okeras.DistributedOptimizer(optimizer, backward_passes_per_step, average_aggregated_gradients, **options)


def DistributedOptimizer(optimizer, name=None, use_locking=False, device_dense="", device_sparse="",
                         compression=Compression.none, sparse_as_dense=False, backward_passes_per_step=1, op=Average,
                         gradient_predivide_factor=1.0, average_aggregated_gradients=False, num_groups=0, groups=None,
                         process_set=global_process_set, scale_local_gradients=True):
    return PartialDistributedOptimizer(
        optimizer, name, device_dense, device_sparse, compression, sparse_as_dense, gradient_predivide_factor, op,
        backward_passes_per_step, average_aggregated_gradients, num_groups, groups, process_set)
