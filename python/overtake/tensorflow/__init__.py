"""Overtake for TensorFlow.

    import overtake.tensorflow as ot

    ot.init()
    ot.broadcast_variables(model.variables)
    tape = ot.DistributedGradientTape(tape)          # or, for Keras: overtake.tensorflow.keras

Nothing is compiled against TensorFlow: libovertake_tf.so has its ops, through the C interface that every version
from 2.16 on has. XLA takes no ops of other libraries: functions with jit_compile=True are refused.
"""

from ..collective import (AVERAGE as Average, CollectiveError, MAX as Max, MIN as Min, PRODUCT as Product, SUM as Sum,
                          cross_rank, cross_size, finalize as shutdown, group_create, group_free, init,
                          is_initialized, local_rank, local_size, rank, size, where)
from .operations import (allgather, allgather_object, allreduce, alltoall, barrier, broadcast, broadcast_object,
                         broadcast_variables, grouped_allgather, grouped_allreduce, grouped_reducescatter, join,
                         reducescatter)
from .tape import DistributedGradientTape

__all__ = [
    "Average", "CollectiveError", "DistributedGradientTape", "Max", "Min", "Product", "Sum", "allgather",
    "allgather_object", "allreduce", "alltoall", "barrier", "broadcast", "broadcast_object", "broadcast_variables",
    "cross_rank", "cross_size", "group_create", "group_free", "grouped_allgather", "grouped_allreduce",
    "grouped_reducescatter", "init", "is_initialized", "join", "local_rank", "local_size", "rank", "reducescatter",
    "shutdown", "size", "where"]
