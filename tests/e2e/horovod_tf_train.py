"""A program in Horovod's style: Keras' fit, then a tape. argv: an .npz of x and y."""

import sys

import numpy as np
import tensorflow as tf

import keras
import horovod.tensorflow as hvd_tf
import horovod.tensorflow.keras as hvd

hvd.init()
data = np.load(sys.argv[1])
x, y = data["x"].reshape(len(data["x"]), -1)[hvd.rank()::hvd.size()], data["y"][hvd.rank()::hvd.size()]
keras.utils.set_random_seed(hvd.rank())
model = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Dense(64, activation="relu"),
                          keras.layers.Dense(10, name="head")])
loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
optimizer = hvd.DistributedOptimizer(keras.optimizers.Adam(0.003 * hvd.size()), compression=hvd.Compression.fp16)
model.compile(optimizer, loss=loss_of, metrics=["accuracy"])
model.fit(x, y, batch_size=32, epochs=4, verbose=0, callbacks=[
    hvd.callbacks.BroadcastGlobalVariablesCallback(0), hvd.callbacks.MetricAverageCallback(),
    hvd.callbacks.LearningRateWarmupCallback(0.003 * hvd.size(), warmup_epochs=2)])


@tf.function
def step(a, b, local):
    with tf.GradientTape() as tape:
        loss = loss_of(b, model(a, training=True))
    tape = hvd_tf.PartialDistributedGradientTape(tape, local_layers=local) if local else (
        hvd_tf.DistributedGradientTape(tape, gradient_predivide_factor=2.0, compression=hvd_tf.Compression.fp16))
    return tape.gradient(loss, model.trainable_variables)


sgd = keras.optimizers.SGD(0.05)
for i in range(0, 320, 32):
    sgd.apply_gradients(zip(step(x[i:i + 32], y[i:i + 32], None), model.trainable_variables))
same = [np.ptp(hvd_tf.allgather(tf.reshape(w, [1, -1])).numpy(), axis=0).max() for w in model.get_weights()]
assert max(same) == 0, same  # the same bits on every rank
found = step(x[:32], y[:32], model.get_layer("head"))
spread = [np.ptp(hvd_tf.allgather(tf.reshape(g, [1, -1])).numpy(), axis=0).max() for g in found]
assert max(spread[:2]) == 0 and min(spread[2:]) > 0, spread
odd = hvd.add_process_set([1])
assert hvd_tf.process_set_included_op(odd.process_set_id).numpy() == hvd.rank()
assert hvd_tf.size_op().numpy() == hvd.size() and hvd_tf.rank_op().numpy() == hvd.rank()
assert hvd_tf.broadcast_object_fn(1)({"of": hvd.rank()}) == {"of": 1}
assert hvd.allreduce(float(hvd.rank()), name="value", op=hvd.Sum) == 1.0


def session():
    """A graph of TensorFlow 1: all begin with rank 0's variable, and step by the mean over the ranks."""
    v1 = tf.compat.v1
    rows = [np.random.default_rng(rank).standard_normal((8, 3)) for rank in range(hvd.size())]
    with tf.Graph().as_default():
        begin = np.arange(3.0) + 10 * hvd.rank()
        w = v1.get_variable("w", initializer=tf.constant(begin))
        loss = tf.reduce_mean((tf.linalg.matvec(tf.constant(rows[hvd.rank()]), w) - 1.0) ** 2)
        optimizer = hvd_tf.DistributedOptimizer(v1.train.MomentumOptimizer(0.125, 0.5))
        step = optimizer.minimize(loss, v1.train.get_or_create_global_step())
        fresh, of_1 = v1.global_variables_initializer(), hvd_tf.broadcast_global_variables(1)
        with v1.train.MonitoredTrainingSession(hooks=[hvd_tf.BroadcastGlobalVariablesHook(0)]) as s:
            for _ in range(5):
                s.run(step)
            got = s.run(w)
            s.run(fresh)
            np.testing.assert_array_equal(s.run(w), begin)
            s.run(of_1)
            np.testing.assert_array_equal(s.run(w), [10.0, 11.0, 12.0])
    expected, momentum = np.arange(3.0), 0
    for _ in range(5):
        momentum = 0.5 * momentum + np.mean([2 / 8 * a.T @ (a @ expected - 1.0) for a in rows], 0)
        expected = expected - 0.125 * momentum
    np.testing.assert_allclose(got, expected, rtol=1e-9)


session()
try:
    hvd_tf.broadcast_global_variables(0)
except RuntimeError as why:
    assert "hvd.broadcast_variables" in str(why)
right = tf.reduce_sum(tf.cast(tf.argmax(model(x), 1) == y, tf.float32))
accuracy = float(hvd_tf.allreduce(right, op=hvd_tf.Sum)) / float(hvd_tf.allreduce(float(len(x)), op=hvd_tf.Sum))
if hvd.rank() == 0:
    print(f"accuracy {accuracy:.4f} on {hvd.size()} ranks", flush=True)
