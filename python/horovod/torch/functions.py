"""Parameters, optimizer state and objects for all ranks."""

from overtake.torch import operations

from horovod.common.process_sets import global_process_set

from .mpi_ops import _group


def broadcast_parameters(params, root_rank, process_set=global_process_set):
    operations.broadcast_parameters(params, process_set._root(root_rank), _group(process_set))


def broadcast_optimizer_state(optimizer, root_rank, model=None, process_set=global_process_set):
    operations.broadcast_optimizer_state(optimizer, process_set._root(root_rank), _group(process_set))


def broadcast_object(obj=None, root_rank=0, name=None, process_set=global_process_set):
    return operations.broadcast_object(obj, process_set._root(root_rank), name or "object",
                                       _group(process_set))


def allgather_object(obj, name=None, process_set=global_process_set):
    return operations.allgather_object(obj, name or "object", _group(process_set))
