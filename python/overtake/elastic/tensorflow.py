"""Elastic training with TensorFlow and Keras 3.

    state = KerasState(model, epoch=0, batch=0)

    @run
    def train(state):
        model.fit(data, epochs=10 - state.epoch, steps_per_epoch=600 // size(), callbacks=[
            UpdateEpochStateCallback(state), UpdateBatchStateCallback(state), CommitStateCallback(state)])
"""

import keras

from ..tensorflow.operations import path_of
from . import HostsUpdatedInterrupt, ObjectState, run

__all__ = ["CommitStateCallback", "HostsUpdatedInterrupt", "KerasState", "ObjectState", "TensorFlowState",
           "UpdateBatchStateCallback", "UpdateEpochStateCallback", "run"]


class _Variables:
    """The values of variables; `find` gives them, because models and optimizers make theirs late."""

    def __init__(self, find):
        self._find = find

    def state_dict(self):
        return [(path_of(v), v.numpy()) for v in self._find()]

    def load_state_dict(self, values):
        variables = list(self._find())
        if len(variables) != len(values):
            raise ValueError(f"{len(variables)} variables here, {len(values)} in the state that came: build the model and "
                             "its optimizer on all ranks before the elastic function (a model by its input's shape)")
        for variable, (path, value) in zip(variables, values):
            if tuple(variable.shape) != value.shape:
                raise ValueError(f"'{path_of(variable)}' has shape {tuple(variable.shape)}; '{path}' of the state that came "
                                 f"has {value.shape}")
            variable.assign(value)


class TensorFlowState(ObjectState):
    """A list of variables and whatever else is given by name."""

    def __init__(self, variables, **values):
        variables = list(variables)
        super().__init__(_variables=_Variables(lambda: variables), **values)


class KerasState(ObjectState):
    """A model with its optimizer (the compiled one, unless it is given) and whatever else is given by name."""

    def __init__(self, model, optimizer=None, **values):
        super().__init__(_variables=_Variables(self._find), **values)
        self.model, self._optimizer = model, optimizer

    optimizer = property(lambda self: self._optimizer or getattr(self.model, "optimizer", None))

    def _find(self):
        optimizer = self.optimizer
        if optimizer is not None and not optimizer.built and self.model.built:
            optimizer.build(self.model.trainable_variables)
        return self.model.variables + (optimizer.variables if optimizer is not None else [])


class CommitStateCallback(keras.callbacks.Callback):
    """Commits after so many batches, and at the end of an epoch; behind the callbacks that change the state."""

    def __init__(self, state, batches_per_commit=1):
        super().__init__()
        self.state, self.batches_per_commit, self._left = state, batches_per_commit, batches_per_commit

    def on_train_begin(self, logs=None):
        self._left = self.batches_per_commit

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            self._left = self.batches_per_commit
            self.state.commit()

    def on_epoch_end(self, epoch, logs=None):
        self.state.commit()


class _EndOfEpoch:
    """In Keras' stop_training: only this epoch ends."""


class UpdateBatchStateCallback(keras.callbacks.Callback):
    """state.batch is how many batches of the epoch are done. The first epoch of a fit() that begins in the middle of one
    has as many less, if fit() knows how many an epoch has."""

    def __init__(self, state):
        super().__init__()
        self.state, self._before = state, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._before = self.state.batch

    def on_train_batch_end(self, batch, logs=None):
        self.state.batch = self._before + batch + 1
        if self._before and self.state.batch >= (self.params.get("steps") or float("inf")):
            self.model.stop_training = _EndOfEpoch()

    def on_epoch_end(self, epoch, logs=None):
        self.state.batch = 0
        if isinstance(self.model.stop_training, _EndOfEpoch):
            self.model.stop_training = False


class UpdateEpochStateCallback(keras.callbacks.Callback):
    """state.epoch is how many epochs are done, over all calls of fit()."""

    def __init__(self, state):
        super().__init__()
        self.state, self._before = state, 0

    def on_train_begin(self, logs=None):
        self._before = self.state.epoch

    def on_epoch_end(self, epoch, logs=None):
        self.state.epoch = self._before + epoch + 1
