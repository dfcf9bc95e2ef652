"""Every operation of overtake.tensorflow on 3 ranks, eager and in a tf.function, with gradients; one thread for
ops, so that a wait that held it up would end nowhere."""

import numpy as np
import tensorflow as tf

import keras
import overtake.tensorflow as ot
from overtake.adasum import ADASUM
from overtake.tensorflow._ops import place
from overtake.tensorflow.batch_norm import SyncBatchNormalization
from overtake.tensorflow.operations import reduce_gradients

tf.config.threading.set_inter_op_parallelism_threads(1)
ot.init()
r, n = ot.rank(), ot.size()
assert n == 3


def eq(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6)


def operations(x):
    """x: [6, 2] of r + 1."""
    out = [ot.allreduce(x, op=ot.Sum, name="sum"), ot.allreduce(x, name="mean", prescale_factor=0.5),
           ot.allreduce(x, op=ot.Max, name="max"), ot.broadcast(x, 1, name="bc"),
           ot.allgather(x[:r + 1], name="ag"), ot.reducescatter(x, op=ot.Sum, name="rs")]
    rows, received = ot.alltoall(x, splits=[1, 2, 3], name="aa")
    return out + [rows, received]


def check(x, out):
    sum_, mean, largest, root, gathered, scattered, rows, received = out
    eq(sum_, np.full((6, 2), 6.0))
    eq(mean, np.full((6, 2), 1.0))
    eq(largest, np.full((6, 2), 3.0))
    eq(root, np.full((6, 2), 2.0))
    eq(gathered, np.repeat([1, 2, 2, 3, 3, 3], 2).reshape(6, 2))
    eq(scattered, np.full((2, 2), 6.0))
    eq(rows, np.repeat([1.0, 2.0, 3.0], 2 * (r + 1)).reshape(-1, 2))
    eq(received, [r + 1] * 3)


def gradients(x):
    """Of each operation's sum, weighted by rank + 1."""
    def of(f):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(f()) * (r + 1)
        return tape.gradient(loss, x)

    return [of(lambda: ot.allreduce(x, op=ot.Sum, name="g.sum")), of(lambda: ot.allreduce(x, name="g.mean")),
            of(lambda: ot.broadcast(x, 1, name="g.bc")), of(lambda: ot.allgather(x, name="g.ag")),
            of(lambda: ot.reducescatter(x, name="g.rs")), of(lambda: ot.alltoall(x, splits=[1, 2, 3], name="g.aa")[0])]


def check_gradients(found):
    one = np.ones((6, 2))
    eq(found[0], 6 * one)
    eq(found[1], 2 * one)
    eq(found[2], 6 * one if r == 1 else 0 * one)
    eq(found[3], 6 * one)
    eq(found[4], np.repeat([1, 1, 2, 2, 3, 3], 2).reshape(6, 2) / 3)
    eq(found[5], np.repeat([1, 2, 2, 3, 3, 3], 2).reshape(6, 2))


x = tf.fill([6, 2], float(r + 1))
check(x, operations(x))
check_gradients(gradients(x))
compiled = tf.function(operations)
for _ in range(3):
    check(x, compiled(x))
check_gradients(tf.function(gradients)(x))
print("operations", flush=True)

for dtype in (tf.bool, tf.uint8, tf.int8, tf.uint16, tf.int16, tf.uint32, tf.int32, tf.uint64, tf.int64, tf.float16,
              tf.bfloat16, tf.float32, tf.float64):
    value = tf.cast([r == 1, True], dtype)
    got = ot.allreduce(value, op=ot.Sum, name=f"type.{dtype.name}")
    assert got.dtype == dtype and tf.cast(got, tf.float32).numpy().tolist() == ([1, 1] if dtype == tf.bool else [1, 3])
assert ot.allreduce(tf.zeros([0, 4]), name="empty").shape == (0, 4)
assert ot.allgather(tf.zeros([0, 4]), name="none").shape == (0, 4)
assert float(ot.allreduce(tf.constant(float(r)), name="scalar")) == 1.0


def ordered(a, b):
    """Two gradients of which ranks ask in opposite order."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(a) * (r + 1) + tf.reduce_sum(b) * 2
    named = list(zip(tape.gradient(loss, [a, b]), ["order.a", "order.b"]))[::1 if r else -1]
    return reduce_gradients(*zip(*named))[::1 if r else -1]


pair = tf.Variable([1.0, 2.0]), tf.Variable([3.0])
for f in (ordered, tf.function(ordered)):
    of_a, of_b = f(*pair)
    eq(of_a, [2.0, 2.0])
    eq(of_b, [2.0])
print("order", flush=True)


@tf.function
def looped(x, steps):
    total = tf.zeros([4])
    for i in tf.range(steps):
        total += ot.allreduce(x * tf.cast(i, tf.float32), name="loop")
    return total


eq(looped(tf.fill([4], float(r)), tf.constant(10)), [45.0] * 4)


@tf.function
def sized(x):  # a trace for each shape
    return ot.allreduce(x, name="traced")


for k in (1, 2, 3):
    eq(sized(tf.fill([k], float(r))), [1.0] * k)

table = tf.Variable(tf.ones([5, 2]))
with tf.GradientTape(persistent=True) as tape:
    loss = tf.reduce_sum(tf.gather(table, [r, 4])) * 3
sparse = ot.DistributedGradientTape(tape).gradient(loss, table)
assert isinstance(sparse, tf.IndexedSlices)
dense = ot.DistributedGradientTape(tape, sparse_as_dense=True).gradient(loss, [table])[0]
eq(tf.convert_to_tensor(sparse), np.array([1, 1, 1, 0, 3])[:, None] * np.ones((1, 2)))
eq(dense, tf.convert_to_tensor(sparse))
own = tf.Variable(1.0)
with tf.GradientTape() as tape:
    loss = own * (r + 1) + table[0, 0]
found = ot.DistributedGradientTape(tape, local=[own]).gradient(loss, {"own": own, "table": table})
eq(found["own"], (r + 1) / 3)
eq(tf.convert_to_tensor(found["table"])[0, 0], 1.0)

assert ot.broadcast_object({"from": r} if r == 2 else None, 2) == {"from": 2}
assert ot.allgather_object("x" * r) == ["", "x", "xx"]
odd = ot.group_create([1, 2])
if r:
    eq(ot.allreduce(tf.ones([2]) * r, op=ot.Sum, name="odd", group=odd), [3.0, 3.0])
ot.barrier()
where = tf.function(lambda: tf.stack(place()))
assert where().numpy().tolist() == place() == [r, n, r, n, 0, 1]
even = ot.group_create([0, 2])
if r != 1:
    mine = tf.constant([3.0, 4.0]) if r else tf.constant([6.0, 8.0])
    of = tf.function(lambda v, op=ADASUM: ot.allreduce(v, op, name="adasum", group=even))
    eq(of(mine), [4.5, 6.0])  # parallel: the average
    eq(of(tf.constant([[0.0, 2.0]]) if r else tf.constant([[1.0, 1.0]])), [[0.5, 2.0]])  # a.b = 2, a.a = 2, b.b = 4
print("rest", flush=True)

try:
    ot.allreduce(tf.constant(["text"]), name="layer1/words")
except ot.CollectiveError as why:
    print("refused:", why, flush=True)
try:
    tf.function(lambda: ot.allreduce(tf.ones([2 + (r == 1)]), name="layer1/w"))()
except tf.errors.InvalidArgumentError as why:
    print("mismatch:", " ".join(str(why).split()), flush=True)
try:
    tf.function(lambda v: ot.allreduce(v, name="compiled"), jit_compile=True)(tf.ones([2]))
except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as why:
    print("xla:", "Overtake" in str(why), flush=True)
for _ in range(r + 1):
    ot.allreduce(tf.ones([1]), name="uneven")
print("last", ot.join(), flush=True)


@tf.function
def ends(steps):
    for _ in tf.range(steps):
        ot.allreduce(tf.ones([1]), name="uneven in a graph")
    last = ot.join()
    ot.barrier()
    return last


assert ends(tf.constant(r + 1)).numpy() == 2
print("graph ends", flush=True)


def batch_norm(axis, rows, shape, masked=False):
    """The layer and its gradients on this rank's part against Keras' own on all parts; far from zero."""
    begin, end = sum(rows[:r]), sum(rows[:r + 1])
    whole, ours = keras.layers.BatchNormalization(axis, momentum=0.5), SyncBatchNormalization(axis, momentum=0.5)
    x = tf.random.stateless_normal([sum(rows), *shape], (1, 2)) + 50.0
    weights = tf.random.stateless_normal(x.shape, (3, 4))
    mask = tf.random.stateless_uniform(x.shape[:-1], (5, 6)) > 0.3 if masked else None
    found = []
    for layer, part in ((whole, slice(None)), (ours, slice(begin, end))):
        own = x[part]
        layer.build(own.shape)

        @tf.function
        def pass_over(own):
            with tf.GradientTape() as tape:
                tape.watch(own)
                y = layer(own, training=True, mask=None if mask is None else mask[part])
                loss = tf.reduce_sum(y * weights[part])
            return [y, *tape.gradient(loss, [own, layer.gamma, layer.beta])]

        found.append(pass_over(own))
    (y, dx, dgamma, dbeta), (y_own, dx_own, dgamma_own, dbeta_own) = found
    for a, b in ((y[begin:end], y_own), (dx[begin:end], dx_own), (dgamma, ot.allreduce(dgamma_own, ot.Sum)),
                 (dbeta, ot.allreduce(dbeta_own, ot.Sum)), (whole.moving_mean, ours.moving_mean),
                 (whole.moving_variance, ours.moving_variance)):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=2e-4)


batch_norm(-1, [2, 4, 3], [5])
batch_norm(1, [2, 1, 3], [3, 4, 4])
batch_norm(-1, [1, 2, 2], [6, 4], masked=True)
print("batch norm", flush=True)
ot.shutdown()
ot.init()
eq(ot.allreduce(tf.ones([1]), op=ot.Sum), [3.0])
print("again", flush=True)
