"""An elastic program in Horovod's style for Keras' fit; one rank kills itself once, in the middle of the second epoch, and
the last epoch begins when another has taken its place.

    horovodrun -np 3 --min-np 2 python horovod_elastic_keras.py digits.npz MARKER"""

import os
import pathlib
import signal
import sys

import numpy as np
import tensorflow as tf

import keras
import horovod.tensorflow as hvd_tf
import horovod.tensorflow.keras as hvd

hvd.init()
marker, EPOCHS, STEPS = pathlib.Path(sys.argv[2]), 4, 90
data = np.load(sys.argv[1])
x, y = data["x"].reshape(len(data["x"]), -1), data["y"]
keras.utils.set_random_seed(hvd.rank())
model = keras.Sequential([keras.Input((x.shape[1],)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10)])
model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.02 * hvd.size(), momentum=0.9)),
              loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
begun = []


class Watch(keras.callbacks.Callback):
    """Counts the batches of each epoch of the training, and dies once."""

    def on_train_batch_begin(self, batch, logs=None):
        if hvd.rank() == 1 and state.epoch == 1 and state.batch == 9 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, batch, logs=None):
        state.steps[state.epoch] += 1


@tf.function
def of_all(x):
    return hvd_tf.allreduce(x, name="of all"), hvd_tf.size_op()


@hvd.elastic.run
def train(state):
    begun.append((state.epoch, state.batch))
    mean, size = of_all(tf.constant(float(hvd.rank())))  # also where it was traced when there were others
    assert float(mean) == (hvd.size() - 1) / 2 and int(size) == hvd.size(), (mean, size, hvd.size())
    rows = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=hvd.rank()).batch(16).repeat()

    def fit(until):
        model.fit(rows, steps_per_epoch=STEPS // hvd.size(), epochs=until - state.epoch, verbose=0, callbacks=[
            Watch(), hvd.elastic.UpdateEpochStateCallback(state), hvd.elastic.UpdateBatchStateCallback(state),
            hvd.elastic.CommitStateCallback(state)])

    if state.epoch < EPOCHS - 1:
        fit(EPOCHS - 1)
    while hvd.size() < 3:
        model.fit(rows, steps_per_epoch=20, verbose=0, callbacks=[hvd.elastic.CommitStateCallback(state)])
    fit(EPOCHS)


state = hvd.elastic.KerasState(model, epoch=0, batch=0, steps=[0] * EPOCHS)
state.register_reset_callbacks([lambda: model.optimizer.learning_rate.assign(0.02 * hvd.size())])
train(state)
assert of_all.experimental_get_tracing_count() == 1
accuracy = float((model.predict(x, verbose=0).argmax(1) == y).mean())
same = hvd.allgather(np.concatenate([w.reshape(-1) for w in model.get_weights()])[np.newaxis], name="weights")
assert np.ptp(same, axis=0).max() == 0
if hvd.rank() == 2:
    print(f"admitted at {begun}", flush=True)
if hvd.rank() == 0:
    print(f"accuracy {accuracy:.3f} on {hvd.size()} ranks, begun {begun}, steps {state.steps}, "
          f"rate {float(model.optimizer.learning_rate):.2f}", flush=True)
hvd.shutdown()
