"""Horovod's operations, by Overtake's. Handles are small numbers, as in Horovod."""

import itertools

import torch

import overtake.torch as ot
from overtake import collective
from overtake.adasum import ADASUM as Adasum  # noqa: F401
from overtake.torch import operations

from horovod.common.process_sets import global_process_set

from .compression import Compression

Average, Sum, Min, Max, Product = (collective.AVERAGE, collective.SUM, collective.MIN, collective.MAX,
                                   collective.PRODUCT)
_numbers, _pending = itertools.count(), {}


def _handle(pending):
    number = next(_numbers)
    _pending[number] = pending
    return number


def _group(process_set):
    return process_set._group()


def poll(handle):
    """Whether synchronize(handle) would return at once."""
    return handle not in _pending or all(p.poll() for p in _each(_pending[handle]))


def _each(pending):
    return pending if isinstance(pending, list) else [pending]


def synchronize(handle):
    """The result of an asynchronous operation; ends the handle."""
    if handle not in _pending:
        raise ValueError(f"handle {handle} is not in flight: each is synchronized once")
    pending = _pending.pop(handle)
    return [p.wait() for p in pending] if isinstance(pending, list) else pending.wait()


def allreduce_async(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0,
                    process_set=global_process_set):
    return _handle(operations.allreduce_async(tensor, average, name, op, prescale_factor, postscale_factor,
                                              _group(process_set)))


def allreduce_async_(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0,
                     process_set=global_process_set):
    return _handle(operations.allreduce_async_(tensor, average, name, op, prescale_factor, postscale_factor,
                                               _group(process_set)))


def allreduce(tensor, average=None, name=None, compression=Compression.none, op=None, prescale_factor=1.0,
              postscale_factor=1.0, process_set=global_process_set):
    sent, context = compression.compress(tensor)
    summed = operations.allreduce(sent, average, name, op, prescale_factor, postscale_factor,
                                  _group(process_set))
    return compression.decompress(summed, context)


def allreduce_(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0,
               process_set=global_process_set):
    return synchronize(allreduce_async_(tensor, average, name, op, prescale_factor, postscale_factor,
                                        process_set))


def grouped_allreduce_async(tensors, average=None, name=None, op=None, prescale_factor=1.0,
                            postscale_factor=1.0, process_set=global_process_set):
    return _handle(operations.grouped_allreduce_async(tensors, average, name, op, prescale_factor,
                                                      postscale_factor, _group(process_set)))


def grouped_allreduce_async_(tensors, average=None, name=None, op=None, prescale_factor=1.0,
                             postscale_factor=1.0, process_set=global_process_set):
    return _handle(operations.grouped_allreduce_async_(tensors, average, name, op, prescale_factor,
                                                       postscale_factor, _group(process_set)))


def grouped_allreduce(tensors, average=None, name=None, compression=Compression.none, op=None,
                      prescale_factor=1.0, postscale_factor=1.0, process_set=global_process_set):
    sent = [compression.compress(t) for t in tensors]
    summed = synchronize(grouped_allreduce_async([t for t, _ in sent], average, name, op, prescale_factor,
                                                 postscale_factor, process_set))
    return [compression.decompress(t, context) for t, (_, context) in zip(summed, sent)]


def grouped_allreduce_(tensors, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0,
                       process_set=global_process_set):
    return synchronize(grouped_allreduce_async_(tensors, average, name, op, prescale_factor,
                                                postscale_factor, process_set))


def sparse_allreduce_async(tensor, name, op=Average, process_set=global_process_set):
    return _handle(operations.sparse_allreduce_async(tensor, name, op, _group(process_set)))


def allgather_async(tensor, name=None, process_set=global_process_set):
    return _handle(operations.allgather_async(tensor, name, _group(process_set)))


class _Allgather(torch.autograd.Function):
    """The gradient of a gather: this rank's rows of the summed gradient."""

    @staticmethod
    def forward(ctx, tensor, name, process_set):
        ctx.rows, ctx.name, ctx.process_set = tensor.shape[0], name, process_set
        return synchronize(allgather_async(tensor, name, process_set))

    @staticmethod
    def backward(ctx, gradient):
        name = ctx.name and ctx.name + ".gradient"
        group = _group(ctx.process_set)
        rows = operations.allgather(torch.tensor([ctx.rows]), name and name + ".rows", group).tolist()
        summed = operations.synchronize(operations.allreduce_async(gradient, None, name, Sum, group=group))
        return summed.split(rows)[collective.rank(group)], None, None


def allgather(tensor, name=None, process_set=global_process_set):
    return _Allgather.apply(tensor, name, process_set)


def grouped_allgather_async(tensors, name=None, process_set=global_process_set):
    requests = [operations.request(collective.ALLGATHER, t, name=name and f"{name}.{i}",
                                   group=_group(process_set)) for i, t in enumerate(tensors)]
    return _handle(operations.start(requests, [operations._made(t) for t in tensors]))


def grouped_allgather(tensors, name=None, process_set=global_process_set):
    return synchronize(grouped_allgather_async(tensors, name, process_set))


def broadcast_async(tensor, root_rank, name=None, process_set=global_process_set):
    return _handle(operations.broadcast_async(tensor, process_set._root(root_rank), name,
                                              _group(process_set)))


def broadcast_async_(tensor, root_rank, name=None, process_set=global_process_set):
    return _handle(operations.broadcast_async_(tensor, process_set._root(root_rank), name,
                                               _group(process_set)))


def broadcast(tensor, root_rank, name=None, process_set=global_process_set):
    return synchronize(broadcast_async(tensor, root_rank, name, process_set))


def broadcast_(tensor, root_rank, name=None, process_set=global_process_set):
    return synchronize(broadcast_async_(tensor, root_rank, name, process_set))


def alltoall_async(tensor, splits=None, name=None, process_set=global_process_set):
    return _handle(operations.alltoall_async(tensor, splits, name, _group(process_set)))


def alltoall(tensor, splits=None, name=None, process_set=global_process_set):
    return synchronize(alltoall_async(tensor, splits, name, process_set))


def reducescatter_async(tensor, name=None, op=Average, process_set=global_process_set):
    return _handle(operations.reducescatter_async(tensor, name, op, _group(process_set)))


def reducescatter(tensor, name=None, compression=Compression.none, op=Average,
                  process_set=global_process_set):
    sent, context = compression.compress(tensor)
    return compression.decompress(synchronize(reducescatter_async(sent, name, op, process_set)), context)


def grouped_reducescatter_async(tensors, name=None, op=Average, process_set=global_process_set):
    requests = [operations.request(collective.REDUCESCATTER, t, name=name and f"{name}.{i}", reduction=op,
                                   group=_group(process_set)) for i, t in enumerate(tensors)]
    return _handle(operations.start(requests, [operations._made(t) for t in tensors]))


def grouped_reducescatter(tensors, name=None, compression=Compression.none, op=Average,
                          process_set=global_process_set):
    sent = [compression.compress(t) for t in tensors]
    parts = synchronize(grouped_reducescatter_async([t for t, _ in sent], name, op, process_set))
    return [compression.decompress(t, context) for t, (_, context) in zip(parts, sent)]


def join(device=-1):
    """No data any more from this rank; the last rank that joined. `device` is not needed."""
    return collective.join()


def barrier(process_set=global_process_set):
    ot.barrier(_group(process_set))
