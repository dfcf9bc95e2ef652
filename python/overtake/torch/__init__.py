"""Overtake for PyTorch.

    import overtake.torch as ot

    ot.init()
    ot.broadcast_parameters(model.state_dict(), root_rank=0)
    optimizer = ot.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())

and, for DistributedDataParallel and whatever is built on process groups,

    import overtake.torch
    torch.distributed.init_process_group("overtake")

Nothing is compiled against PyTorch: gradients are handed over by address (ctypes) from hooks. Tensors lie
in the memory of the host; one on another device is refused by name.
"""

from ..collective import (AVERAGE as Average, CollectiveError, MAX as Max, MIN as Min, PRODUCT as Product,
                          SUM as Sum, barrier, cross_rank, cross_size, finalize as shutdown, group_create,
                          group_free, init, is_initialized, join, local_rank, local_size, rank, size, where)
from .batch_norm import SyncBatchNorm
from .operations import (allgather, allgather_async, allgather_object, allreduce, allreduce_,
                         allreduce_async, allreduce_async_, alltoall, alltoall_async, broadcast,
                         broadcast_, broadcast_async, broadcast_async_, broadcast_object,
                         broadcast_optimizer_state, broadcast_parameters, grouped_allreduce,
                         grouped_allreduce_, grouped_allreduce_async, grouped_allreduce_async_, poll,
                         reducescatter, reducescatter_async, sparse_allreduce, synchronize)
from .optimizer import DistributedOptimizer
from .process_group import OvertakeProcessGroup

__all__ = [
    "Average", "CollectiveError", "DistributedOptimizer", "Max", "Min", "OvertakeProcessGroup", "Product",
    "Sum", "SyncBatchNorm", "allgather", "allgather_async", "allgather_object", "allreduce", "allreduce_", "allreduce_async",
    "allreduce_async_", "alltoall", "alltoall_async", "barrier", "broadcast", "broadcast_",
    "broadcast_async", "broadcast_async_", "broadcast_object", "broadcast_optimizer_state",
    "broadcast_parameters", "cross_rank", "cross_size", "group_create", "group_free", "grouped_allreduce",
    "grouped_allreduce_", "grouped_allreduce_async", "grouped_allreduce_async_", "init", "is_initialized",
    "join", "local_rank", "local_size", "poll", "rank", "reducescatter", "reducescatter_async", "shutdown",
    "size", "sparse_allreduce", "synchronize", "where"]
