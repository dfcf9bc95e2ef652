"""horovod.tensorflow.keras (and horovod.keras) over Overtake, for Keras 3."""

import overtake.tensorflow.keras as okeras

from horovod.common.basics import (add_process_set, ccl_built, cross_rank, cross_size, cuda_built, ddl_built,
                                   gloo_built, gloo_enabled, init, is_homogeneous, is_initialized,
                                   local_rank, local_size, mpi_built, mpi_enabled, mpi_threads_supported,
                                   nccl_built, rank, remove_process_set, rocm_built, shutdown, size, start_timeline,
                                   stop_timeline)
from horovod.common.process_sets import ProcessSet, global_process_set
from horovod.common.refused import KERAS, refuse

from .. import mpi_ops
from ..compression import Compression
from ..gradients import PartialDistributedOptimizer
from ..mpi_ops import Adasum, Average, Max, Min, Product, Sum
from . import callbacks, elastic


def DistributedOptimizer(optimizer, name=None, device_dense="", device_sparse="", compression=Compression.none,
                         sparse_as_dense=False, gradient_predivide_factor=1.0, op=Average, backward_passes_per_step=1,
                         average_aggregated_gradients=False, num_groups=0, groups=None,
                         process_set=global_process_set, scale_local_gradients=True):
    return PartialDistributedOptimizer(
        optimizer, name, device_dense, device_sparse, compression, sparse_as_dense, gradient_predivide_factor, op,
        backward_passes_per_step, average_aggregated_gradients, num_groups, groups, process_set)


def allreduce(value, name=None, average=None, prescale_factor=1.0, postscale_factor=1.0, op=None,
              compression=Compression.none):
    return mpi_ops.allreduce(value, average, name=name, prescale_factor=prescale_factor,
                             postscale_factor=postscale_factor, op=op, compression=compression).numpy()


def allgather(value, name=None):
    return mpi_ops.allgather(value, name).numpy()


def broadcast(value, root_rank, name=None):
    return mpi_ops.broadcast(value, root_rank, name).numpy()


def reducescatter(value, name=None, op=Average):
    return mpi_ops.reducescatter(value, name=name, op=op).numpy()


def load_model(filepath, custom_optimizers=None, custom_objects=None, compression=Compression.none):
    """The model, its optimizer distributed."""
    known = {**{o.__name__: o for o in custom_optimizers or []}, **(custom_objects or {})}
    return okeras.load_model(filepath, known,
                             compression=None if compression is Compression.none else compression)


__getattr__ = refuse(__name__, KERAS)
