"""Training on all ranks against training on the whole batches in this process alone: a tape in a tf.function, and
Keras' fit, ten steps an execution; one thread for ops. argv: an .npz of x and y, a folder."""

import sys

import numpy as np
import tensorflow as tf

import keras
import overtake.tensorflow.keras as okeras
import overtake.tensorflow as ot

ROWS, STEPS = 60, 20
keras.config.set_floatx("float64")  # equal up to the order of sums
tf.config.threading.set_inter_op_parallelism_threads(1)
ot.init()
r, n = ot.rank(), ot.size()
data = np.load(sys.argv[1])
x, y = data["x"].reshape(len(data["x"]), -1).astype(np.float64), data["y"]
order = np.random.default_rng(1).permutation(len(x))[:ROWS * STEPS]
x, y = x[order], y[order]
mine = np.concatenate([np.arange(i, i + ROWS)[r::n] for i in range(0, len(x), ROWS)])


def net(seed):
    keras.utils.set_random_seed(seed)
    made = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Dense(32, activation="relu"),
                             keras.layers.Dense(10)])
    return made


loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def by_tape(model, rows, size, wrap):
    optimizer = keras.optimizers.SGD(0.2, momentum=0.9)

    @tf.function
    def step(a, b):
        with tf.GradientTape() as tape:
            loss = loss_of(b, model(a, training=True))
        gradients = wrap(tape).gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))

    for _ in range(2):
        for i in range(0, len(rows), size):
            step(tf.constant(x[rows[i:i + size]]), tf.constant(y[rows[i:i + size]]))
    return model.get_weights()


def by_fit(model, rows, size, optimizer, callbacks=()):
    model.compile(optimizer, loss=loss_of, metrics=["accuracy"], steps_per_execution=10)
    said = model.fit(x[rows], y[rows], batch_size=size, epochs=2, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model.get_weights(), said.history


def same(what, a, b):
    worst = max(np.abs(p - q).max() for p, q in zip(a, b))
    assert worst <= 1e-9, (what, worst)
    print(f"{what} equal", flush=True)


everything = np.arange(len(x))
model = net(r)  # ranks begin apart
ot.broadcast_variables(model.variables)
same("tape", by_tape(model, mine, ROWS // n, ot.DistributedGradientTape),
     by_tape(net(0), everything, ROWS, lambda tape: tape))

optimizer = okeras.DistributedOptimizer(keras.optimizers.Adam(0.01))
model = net(r)
weights, history = by_fit(model, mine, ROWS // n, optimizer, [okeras.BroadcastGlobalVariablesCallback(0),
                                                              okeras.MetricAverageCallback()])
expected, alone = by_fit(net(0), everything, ROWS, keras.optimizers.Adam(0.01))
same("fit", weights, expected)
np.testing.assert_allclose(history["loss"], alone["loss"], rtol=1e-9)
np.testing.assert_allclose(history["accuracy"], alone["accuracy"], rtol=1e-9)

# Two passes a step: the average over both and all ranks.
optimizer = okeras.DistributedOptimizer(keras.optimizers.SGD(0.1), backward_passes_per_step=2,
                                        average_aggregated_gradients=True)
model = net(0)
weights, _ = by_fit(model, mine, ROWS // n // 2, optimizer)
expected, _ = by_fit(net(0), everything, ROWS, keras.optimizers.SGD(0.1))
same("two passes", weights, expected)

path = f"{sys.argv[2]}/model.{r}.keras"
model.save(path)
assert type(keras.models.load_model(path).optimizer) is keras.optimizers.SGD
assert okeras.load_model(path).optimizer._overtake_distributed

# XLA takes no ops of other libraries.
tf.config.list_physical_devices = lambda kind=None: [tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")]
model.compile(okeras.DistributedOptimizer(keras.optimizers.SGD(0.1)), loss=loss_of)
assert model.jit_compile is False
other = net(0)
other.compile(keras.optimizers.SGD(0.1), loss=loss_of)
assert other.jit_compile, "a model of another optimizer is none of ours"
try:
    model.compile(okeras.DistributedOptimizer(keras.optimizers.SGD(0.1)), loss=loss_of, jit_compile=True)
except ValueError as why:
    print(why, flush=True)

rates = []
warm = okeras.LearningRateWarmupCallback(0.3, warmup_epochs=2)
seen = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda b, logs: rates.append(
    float(other.optimizer.learning_rate)))
other.compile(keras.optimizers.SGD(0.3), loss=loss_of, jit_compile=False)
other.fit(x[:40], y[:40], batch_size=20, epochs=3, verbose=0, callbacks=[warm, seen])
np.testing.assert_allclose(rates, [0.3 / n * (k / 4 * (n - 1) + 1) for k in (1, 2, 3, 4)] + [0.3] * 2, rtol=1e-6)
ot.shutdown()
print("done", flush=True)
