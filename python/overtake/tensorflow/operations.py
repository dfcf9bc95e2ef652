"""Collective operations on tensors, eager and inside tf.function, each with its gradient. Names are optional:
tensors without one run in the order of asking, which must be the same on all ranks."""

import tensorflow as tf

from .. import adasum, collective
from ..adasum import ADASUM
from ..collective import (ALLGATHER, ALLREDUCE, ALLTOALL, AVERAGE, BARRIER, BROADCAST, CollectiveError, JOIN,
                          REDUCESCATTER, SUM, WORLD, allgather_object, broadcast_object)  # noqa: F401
from ._ops import Item, place, run


def _gradient_name(name):
    return name and name + ".gradient"


def allreduce(tensor, op=AVERAGE, name=None, prescale_factor=1.0, postscale_factor=1.0, group=WORLD):
    """The reduction over the ranks. Of tf.IndexedSlices: the rows of all ranks."""
    return grouped_allreduce([tensor], op, name and [name], prescale_factor, postscale_factor, group)[0]


def grouped_allreduce(tensors, op=AVERAGE, name=None, prescale_factor=1.0, postscale_factor=1.0, group=WORLD):
    """Of all tensors; they travel together. `name` is one for all or a list."""
    names = _names(name, len(tensors))
    if op == ADASUM or any(isinstance(t, tf.IndexedSlices) for t in tensors):
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
        elif op == ADASUM:
            made.append(_adasum(items, g, name, prescale, postscale, group))
        else:
            sent, context = (g, None) if compression is None else compression.compress(g)
            made.append(lambda results, i=len(items), context=context: results[i] if compression is None else
                        compression.decompress(results[i], context))
            items.append(Item(ALLREDUCE, sent, name, reduction=op, prescale=prescale, postscale=postscale,
                              group=group))
    results = run(items)
    return [finish(results) for finish in made]


def _adasum(items, tensor, name, prescale, postscale, group):
    tensor = tf.convert_to_tensor(tensor)
    if not tensor.dtype.is_floating:
        raise CollectiveError(f"{name or 'tensor'} has type {tensor.dtype.name}; Adasum is of floating types", -12)
    size, at = adasum.check(group), len(items)
    items.append(Item(ALLGATHER, tf.reshape(tensor, [1, -1]) * tf.cast(prescale, tensor.dtype), name, group=group))

    def finish(results):
        wide = tf.ensure_shape(tf.cast(results[at], tf.float64), [size, None])
        found = adasum.put_together(wide, lambda a, b: tf.reduce_sum(a * b, 1, keepdims=True),
                                    lambda a, b: tf.where(a != 0, a, tf.ones_like(a) * b))
        return tf.reshape(tf.cast(found * postscale, tensor.dtype), tf.shape(tensor))

    return finish


def _sparse(items, slices, name, op, factor, group):
    if op not in (SUM, AVERAGE):
        raise CollectiveError(f"{name or 'tensor'}: a sparse tensor is summed or averaged", -12)
    divisor = place(group)[1] if op == AVERAGE else 1
    at = len(items)
    items.append(Item(ALLGATHER, slices.values, name and name + ".values", group=group))
    items.append(Item(ALLGATHER, slices.indices, name and name + ".indices", group=group))
    return lambda results: tf.IndexedSlices(
        results[at] * tf.cast(factor / tf.cast(divisor, tf.float64), results[at].dtype), results[at + 1],
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
            rank = place(group)[0]
            return [s[tf.reduce_sum(r[:rank]):tf.reduce_sum(r[:rank + 1])] for s, r in zip(summed, rows)]

        return results, gradient

    return list(gather(*map(tf.convert_to_tensor, tensors))) if tensors else []


def broadcast(tensor, root_rank=0, name=None, group=WORLD):
    """The root's tensor; all ranks give one of its shape."""
    @tf.custom_gradient
    def send(t):
        def gradient(upstream):
            summed = allreduce(upstream, SUM, _gradient_name(name), group=group)
            return tf.where(place(group)[0] == root_rank, summed, tf.zeros_like(summed))

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
            divisor = place(group)[1] if op == AVERAGE else 1
            factor = prescale_factor * postscale_factor / tf.cast(divisor, tf.float64)
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


def barrier(group=WORLD):
    """Returns when all ranks are here."""
    run([Item(BARRIER, tf.zeros([], tf.int32), group=group)])


def join():
    """No data any more from this rank; the last rank that joined (in a graph a tensor)."""
    last, = run([Item(JOIN, tf.zeros([], tf.int32), "join")])
    return int(last) if tf.executing_eagerly() else last
