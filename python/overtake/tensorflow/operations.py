"""Collective operations on tensors, eager and inside tf.function, each with its gradient. Names are optional:
tensors without one run in the order of asking, which must be the same on all ranks."""

import pickle

import numpy as np
import tensorflow as tf

from .. import collective
from ..collective import (ALLGATHER, ALLREDUCE, ALLTOALL, AVERAGE, BROADCAST, CollectiveError, REDUCESCATTER, SUM,
                          WORLD)
from ._ops import Item, run


def _gradient_name(name):
    return name and name + ".gradient"


def allreduce(tensor, op=AVERAGE, name=None, prescale_factor=1.0, postscale_factor=1.0, group=WORLD):
    """The reduction over the ranks. Of tf.IndexedSlices: the rows of all ranks."""
    return grouped_allreduce([tensor], op, name and [name], prescale_factor, postscale_factor, group)[0]


def grouped_allreduce(tensors, op=AVERAGE, name=None, prescale_factor=1.0, postscale_factor=1.0, group=WORLD):
    """Of all tensors; they travel together. `name` is one for all or a list."""
    names = _names(name, len(tensors))
    if any(isinstance(t, tf.IndexedSlices) for t in tensors):
        return reduce_gradients(tensors, names, op, prescale_factor, postscale_factor, group=group)

    @tf.custom_gradient
    def reduce(*inputs):
        results = run([Item(ALLREDUCE, t, n, reduction=op, prescale=prescale_factor, postscale=postscale_factor,
                            group=group) for t, n in zip(inputs, names)])

        def gradient(*upstream):
            if op not in (SUM, AVERAGE):
                raise CollectiveError(f"{names[0] or 'tensor'}: only sum and average have a gradient", -12)
            real = [i for i, t in enumerate(inputs) if t.dtype.is_floating]
            found = grouped_allreduce([upstream[i] for i in real], op, [_gradient_name(names[i]) for i in real],
                                      prescale_factor, postscale_factor, group)
            at = dict(zip(real, found))
            return [at.get(i) for i in range(len(inputs))]

        return results, gradient

    return list(reduce(*map(tf.convert_to_tensor, tensors))) if tensors else []


def _names(name, n):
    if isinstance(name, str):
        return [f"{name}.{i}" for i in range(n)]
    return list(name) if name else [None] * n


def reduce_gradients(gradients, names, op=AVERAGE, prescale=1.0, postscale=1.0, sparse_as_dense=False, group=WORLD,
                     compression=None):
    """What the tape and the optimizer do: all gradients (None stays None) with one wait."""
    items, made = [], []
    for g, name in zip(gradients, names):
        if isinstance(g, tf.IndexedSlices) and sparse_as_dense:
            g = tf.convert_to_tensor(g)
        if g is None:
            made.append(lambda results, g=g: g)
        elif isinstance(g, tf.IndexedSlices):
            made.append(_sparse(items, g, name, op, prescale * postscale, group))
        else:
            sent, context = (g, None) if compression is None else compression.compress(g)
            made.append(lambda results, i=len(items), context=context: results[i] if compression is None else
                        compression.decompress(results[i], context))
            items.append(Item(ALLREDUCE, sent, name, reduction=op, prescale=prescale, postscale=postscale,
                              group=group))
    results = run(items)
    return [finish(results) for finish in made]


def _sparse(items, slices, name, op, factor, group):
    if op not in (SUM, AVERAGE):
        raise CollectiveError(f"{name or 'tensor'}: a sparse tensor is summed or averaged", -12)
    factor /= collective.size(group) if op == AVERAGE else 1
    at = len(items)
    items.append(Item(ALLGATHER, slices.values, name and name + ".values", group=group))
    items.append(Item(ALLGATHER, slices.indices, name and name + ".indices", group=group))
    return lambda results: tf.IndexedSlices(results[at] * tf.cast(factor, results[at].dtype), results[at + 1],
                                            slices.dense_shape)


def allgather(tensor, name=None, group=WORLD):
    """The ranks' rows, one behind the other; how many rows may differ."""
    return grouped_allgather([tensor], name and [name], group)[0]


def grouped_allgather(tensors, name=None, group=WORLD):
    names = _names(name, len(tensors))

    @tf.custom_gradient
    def gather(*inputs):
        results, rows = run([Item(ALLGATHER, t, n, group=group) for t, n in zip(inputs, names)], True)

        def gradient(*upstream):
            summed = grouped_allreduce(list(upstream), SUM, [_gradient_name(n) for n in names], group=group)
            rank = collective.rank(group)
            return [s[tf.reduce_sum(r[:rank]):tf.reduce_sum(r[:rank + 1])] for s, r in zip(summed, rows)]

        return results, gradient

    return list(gather(*map(tf.convert_to_tensor, tensors))) if tensors else []


def broadcast(tensor, root_rank=0, name=None, group=WORLD):
    """The root's tensor; all ranks give one of its shape."""
    @tf.custom_gradient
    def send(t):
        def gradient(upstream):
            summed = allreduce(upstream, SUM, _gradient_name(name), group=group)
            return summed if collective.rank(group) == root_rank else tf.zeros_like(summed)

        return run([Item(BROADCAST, t, name, root=root_rank, group=group)])[0], gradient

    return send(tf.convert_to_tensor(tensor))


def alltoall(tensor, splits=None, name=None, group=WORLD):
    """Rows splits[r] go to rank r. With splits the result is (rows, how many came from each rank)."""
    @tf.custom_gradient
    def exchange(t):
        (result,), (rows,) = run([Item(ALLTOALL, t, name, splits=splits, group=group)], True)

        def gradient(upstream, _=None):
            return alltoall(upstream, rows, _gradient_name(name), group)[0]

        return (result, rows), gradient

    result, rows = exchange(tf.convert_to_tensor(tensor))
    return result if splits is None else (result, rows)


def reducescatter(tensor, op=AVERAGE, name=None, prescale_factor=1.0, postscale_factor=1.0, group=WORLD):
    """This rank's rows of the reduction: the first dims[0] % size ranks get one more."""
    return grouped_reducescatter([tensor], op, name and [name], prescale_factor, postscale_factor, group)[0]


def grouped_reducescatter(tensors, op=AVERAGE, name=None, prescale_factor=1.0, postscale_factor=1.0, group=WORLD):
    names = _names(name, len(tensors))

    @tf.custom_gradient
    def scatter(*inputs):
        results = run([Item(REDUCESCATTER, t, n, reduction=op, prescale=prescale_factor, postscale=postscale_factor,
                            group=group) for t, n in zip(inputs, names)])

        def gradient(*upstream):
            if op not in (SUM, AVERAGE):
                raise CollectiveError(f"{names[0] or 'tensor'}: only sum and average have a gradient", -12)
            factor = prescale_factor * postscale_factor / (collective.size(group) if op == AVERAGE else 1)
            gathered = grouped_allgather(list(upstream), [_gradient_name(n) for n in names], group)
            return [g * tf.cast(factor, g.dtype) for g in gathered]

        return results, gradient

    return list(scatter(*map(tf.convert_to_tensor, tensors))) if tensors else []


def path_of(variable):
    return getattr(variable, "path", None) or variable.name


def broadcast_variables(variables, root_rank=0, group=WORLD):
    """The root's values for all, in place; all ranks give the same variables in the same order."""
    variables = list(variables)
    values = run([Item(BROADCAST, v, f"variables.{i}.{path_of(v)}", root=root_rank, group=group)
                  for i, v in enumerate(variables)])
    return [v.assign(value) for v, value in zip(variables, values)]


def broadcast_object(obj=None, root_rank=0, name="object", group=WORLD):
    """Any object that pickle takes; the ranks of a job trust each other."""
    root = collective.rank(group) == root_rank
    data = np.frombuffer(pickle.dumps(obj) if root else b"", np.uint8)
    length = collective.broadcast(np.array([len(data)]), root_rank, f"{name}.length", group)[0]
    data = data if root else np.zeros(length, np.uint8)
    return pickle.loads(collective.broadcast(data, root_rank, f"{name}.data", group).tobytes())


def allgather_object(obj, name="object", group=WORLD):
    data = np.frombuffer(pickle.dumps(obj), np.uint8)
    lengths = collective.allgather(np.array([len(data)]), f"{name}.lengths", group)
    parts = np.split(collective.allgather(data, f"{name}.parts", group), np.cumsum(lengths)[:-1])
    return [pickle.loads(p.tobytes()) for p in parts]


def _outside(what):
    if not tf.executing_eagerly():
        raise CollectiveError(f"{what}() has no place in a graph: call it outside of tf.function", -9)


def barrier(group=WORLD):
    _outside("barrier")
    collective.barrier(group)


def join():
    """No data any more from this rank; the last rank that joined."""
    _outside("join")
    return collective.join()
