"""Horovod's operations, by Overtake's. `device_dense`, `device_sparse` and `ignore_name_scope` change nothing."""

import tensorflow as tf

import overtake.tensorflow as ot
from overtake import collective
from overtake.adasum import ADASUM as Adasum  # noqa: F401
from overtake.tensorflow._ops import place

from horovod.common.process_sets import get_process_set_ids_and_ranks, global_process_set

from .compression import Compression

Average, Sum, Min, Max, Product = (collective.AVERAGE, collective.SUM, collective.MIN, collective.MAX,
                                   collective.PRODUCT)
join = ot.join


def allreduce(tensor, average=None, device_dense="", device_sparse="", compression=Compression.none, op=None,
              prescale_factor=1.0, postscale_factor=1.0, name=None, process_set=global_process_set):
    return grouped_allreduce([tensor], average, device_dense, device_sparse, compression, op, prescale_factor,
                             postscale_factor, process_set, name and [name])[0]


def grouped_allreduce(tensors, average=None, device_dense="", device_sparse="", compression=Compression.none, op=None,
                      prescale_factor=1.0, postscale_factor=1.0, process_set=global_process_set, name=None):
    sent = [(t, None) if isinstance(t, tf.IndexedSlices) else compression.compress(t) for t in tensors]
    summed = ot.grouped_allreduce([t for t, _ in sent], collective.reduction_of(average, op), name, prescale_factor,
                                  postscale_factor, process_set._group())
    return [t if isinstance(t, tf.IndexedSlices) else compression.decompress(t, context)
            for t, (_, context) in zip(summed, sent)]


def allgather(tensor, name=None, ignore_name_scope=False, process_set=global_process_set):
    return ot.allgather(tensor, name, process_set._group())


def grouped_allgather(tensors, name=None, ignore_name_scope=False, process_set=global_process_set):
    return ot.grouped_allgather(tensors, name, process_set._group())


def broadcast(tensor, root_rank, name=None, ignore_name_scope=False, process_set=global_process_set):
    return ot.broadcast(tensor, process_set._root(root_rank), name, process_set._group())


def broadcast_variables(variables, root_rank, process_set=global_process_set):
    return ot.broadcast_variables(variables, process_set._root(root_rank), process_set._group())


def broadcast_(variables, root_rank, name=None, process_set=global_process_set):
    return broadcast_variables(variables, root_rank, process_set)


def alltoall(tensor, splits=None, name=None, ignore_name_scope=False, process_set=global_process_set):
    return ot.alltoall(tensor, splits, name, process_set._group())


def reducescatter(tensor, device_dense="", compression=Compression.none, op=Average, name=None,
                  process_set=global_process_set, prescale_factor=1.0, postscale_factor=1.0):
    return grouped_reducescatter([tensor], device_dense, compression, op, name and [name], process_set,
                                 prescale_factor, postscale_factor)[0]


def grouped_reducescatter(tensors, device_dense="", compression=Compression.none, op=Average, name=None,
                          process_set=global_process_set, prescale_factor=1.0, postscale_factor=1.0):
    sent = [compression.compress(t) for t in tensors]
    parts = ot.grouped_reducescatter([t for t, _ in sent], op, name, prescale_factor, postscale_factor,
                                     process_set._group())
    return [compression.decompress(t, context) for t, (_, context) in zip(parts, sent)]


def barrier(process_set=global_process_set):
    ot.barrier(process_set._group())


def broadcast_object(obj=None, root_rank=0, session=None, name=None, process_set=global_process_set):
    _no_session(session)
    return ot.broadcast_object(obj, process_set._root(root_rank), name or "object", process_set._group())


def broadcast_object_fn(root_rank=0, session=None, name=None, process_set=global_process_set):
    _no_session(session)
    return lambda obj=None: broadcast_object(obj, root_rank, None, name, process_set)


def allgather_object(obj, session=None, name=None, process_set=global_process_set):
    _no_session(session)
    return ot.allgather_object(obj, name or "object", process_set._group())


def _no_session(session):
    if session is not None:
        raise NotImplementedError("session=...: sessions of TensorFlow 1 are not backed; call it eagerly without one")


def _scalar(value, name):
    return tf.identity(tf.convert_to_tensor(value, tf.int32), name=name)


def rank_op(name=None):
    return _scalar(place()[0], name)


def size_op(process_set_id=0, name=None):
    return _scalar(place(process_set_id)[1], name)


def local_rank_op(name=None):
    return _scalar(place()[2], name)


def local_size_op(name=None):
    return _scalar(place()[3], name)


def process_set_included_op(process_set_id=0, name=None):
    ranks = get_process_set_ids_and_ranks()
    if process_set_id not in ranks:
        raise ValueError(f"process set {process_set_id} is not there; added: {sorted(ranks)}")
    return _scalar(int(collective.rank() in ranks[process_set_id]), name)
