"""Overtake for Keras 3 on TensorFlow.

    import overtake.tensorflow.keras as ot

    ot.init()
    model.compile(ot.DistributedOptimizer(keras.optimizers.SGD(0.1 * ot.size())), loss=...)
    model.fit(..., callbacks=[ot.BroadcastGlobalVariablesCallback(0), ot.MetricAverageCallback()])
"""

import functools
import inspect
import numbers
import os
import warnings

import keras
import tensorflow as tf

from .. import _residuals, collective
from ..collective import (AVERAGE as Average, CollectiveError, MAX as Max, MIN as Min, PRODUCT as Product, SUM as Sum,
                          WORLD, cross_rank, cross_size, finalize as shutdown, init, is_initialized, local_rank,
                          local_size, rank, size)
from .operations import (allgather, allreduce, barrier, broadcast, broadcast_object, broadcast_variables,
                         reducescatter)
from .tape import Reduction

__all__ = [
    "Average", "BroadcastGlobalVariablesCallback", "CollectiveError", "DistributedOptimizer",
    "LearningRateScheduleCallback", "LearningRateWarmupCallback", "Max", "MetricAverageCallback", "Min", "Product",
    "ResidualsCallback", "Sum", "allgather", "allreduce", "barrier", "broadcast", "broadcast_object", "broadcast_variables", "cross_rank",
    "cross_size", "init", "is_initialized", "load_model", "local_rank", "local_size", "rank", "reducescatter",
    "shutdown", "size"]


def DistributedOptimizer(optimizer, backward_passes_per_step=1, average_aggregated_gradients=False, **options):
    """The same optimizer, which from now on reduces gradients over the ranks before it applies them. Options: those
    of overtake.tensorflow.tape.Reduction. With backward_passes_per_step gradients of as many batches are summed (or
    averaged) before variables change.

    A LossScaleOptimizer is wrapped from outside, so that all ranks find the same gradients finite."""
    if getattr(optimizer, "_overtake_distributed", False):
        raise ValueError(f"the optimizer '{optimizer.name}' is distributed already")
    if backward_passes_per_step > 1:
        if optimizer.built:
            raise ValueError("backward_passes_per_step: the optimizer has been built; make it distributed before")
        optimizer.gradient_accumulation_steps = backward_passes_per_step
        if not average_aggregated_gradients:
            options["postscale_factor"] = options.get("postscale_factor", 1.0) * backward_passes_per_step
    reduction, plain = Reduction(**options), type(optimizer)

    def apply(self, grads, trainable_variables=None):
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        return plain.apply(self, reduction(list(grads), list(variables)), trainable_variables)

    # The class has its own's name and module: what is saved loads without Overtake.
    optimizer.__class__ = type(plain.__name__, (plain,), {
        "apply": apply, "_overtake_distributed": True, "__module__": plain.__module__, "__doc__": plain.__doc__})
    _watch_compile()
    return optimizer


@functools.lru_cache(maxsize=None)
def _watch_compile():
    """Keras turns XLA on where there is an accelerator, and XLA takes no ops of other libraries: `jit_compile` of a
    model with such an optimizer is False, and True is refused."""
    trainer = next(c for c in keras.Model.__mro__ if "compile" in vars(c))
    compile_ = trainer.compile
    signature = inspect.signature(compile_)

    @functools.wraps(compile_)
    def compile(self, *args, **options):
        given = signature.bind(self, *args, **options)
        asked = given.arguments.get("jit_compile", "auto")
        if _is_distributed(given.arguments.get("optimizer")) and asked is not False:
            if asked != "auto":
                raise ValueError("jit_compile=True with a DistributedOptimizer: XLA takes no ops of other libraries; "
                                 "give jit_compile=False, or leave it out")
            if tf.config.list_physical_devices("GPU") and rank() == 0:
                print("overtake: jit_compile is False for this model: XLA takes no ops of other libraries", flush=True)
            given.arguments["jit_compile"] = False
        _refuse_inner_scale(self, given.arguments)
        return compile_(*given.args, **given.kwargs)

    trainer.compile = compile


def _is_distributed(optimizer):
    return getattr(optimizer, "_overtake_distributed", False)


def _refuse_inner_scale(model, arguments):
    """A scale of the loss outside of our optimizer skips steps by what this rank alone finds: the others would wait."""
    optimizer = arguments.get("optimizer")
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    added = _is_distributed(optimizer) and not scaled and arguments.get("auto_scale_loss", True) and (
        model.dtype_policy.name == "mixed_float16")
    if added or (scaled and _is_distributed(optimizer.inner_optimizer)):
        raise ValueError("a loss scale around a DistributedOptimizer lets ranks skip different steps; wrap it the other "
                         "way: DistributedOptimizer(keras.optimizers.LossScaleOptimizer(optimizer))")


class BroadcastGlobalVariablesCallback(keras.callbacks.Callback):
    """Before the first step, or after it where only it builds the model: all ranks have the root's variables, the
    optimizer's too."""

    def __init__(self, root_rank=0, group=WORLD):
        super().__init__()
        self.root_rank, self.group, self._done = root_rank, group, False

    def _broadcast(self):
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        broadcast_variables(self.model.variables + optimizer.variables, self.root_rank, self.group)
        self._done = True

    def on_train_begin(self, logs=None):
        if not self._done and self.model.built:
            self._broadcast()

    def on_train_batch_end(self, batch, logs=None):
        if not self._done:
            self._broadcast()


class MetricAverageCallback(keras.callbacks.Callback):
    """At the end of an epoch, metrics are averages over the ranks. It stands before callbacks that read them."""

    def __init__(self, group=WORLD):
        super().__init__()
        self.group = group

    def on_epoch_end(self, epoch, logs=None):
        import numpy

        names = sorted(n for n, v in (logs or {}).items() if isinstance(v, (numbers.Real, numpy.generic)))
        if names:
            mean = collective.allreduce(numpy.array([float(logs[n]) for n in names]), collective.AVERAGE,
                                        f"metrics.{','.join(names)}"[:collective.NAME_MAX], self.group)
            logs.update(zip(names, mean.tolist()))


class ResidualsCallback(keras.callbacks.Callback):
    """What this rank has not sent yet (--wire auto), in a file of its own: `filepath` has {rank} in it. It is saved at the
    end of each epoch, as ModelCheckpoint and BackupAndRestore save the model, and the first fit() goes on with it if the
    model is of that very step."""

    def __init__(self, filepath):
        super().__init__()
        if "{rank}" not in os.fspath(filepath):
            raise ValueError(f"ResidualsCallback('{filepath}'): each rank has a file of its own; put {{rank}} into its name")
        self.filepath, self._looked = os.fspath(filepath), False

    def on_train_batch_begin(self, batch, logs=None):
        import numpy

        path = self.filepath.replace("{rank}", str(rank()))
        if not self._looked and os.path.exists(path):
            with numpy.load(path) as f:
                saved, step = {n: f[n].tolist() for n in ("rank", "size")}, int(f["step"])
                saved["kept"] = f["kept"].tobytes()
            here = int(self.model.optimizer.iterations)
            if step == here:
                _residuals.load(saved)
            elif saved["kept"]:
                warnings.warn(f"{path} is of step {step}, and the model of step {here}: rank {rank()} begins without, and "
                              "what it had not sent yet is lost")
        self._looked = True

    def on_epoch_end(self, epoch, logs=None):
        import numpy

        path = self.filepath.replace("{rank}", str(rank()))
        with open(path + ".part", "wb") as f:
            numpy.savez(f, rank=rank(), size=size(), step=int(self.model.optimizer.iterations),
                        kept=numpy.frombuffer(collective.residuals(), numpy.uint8))
        os.replace(path + ".part", path)


class LearningRateScheduleCallback(keras.callbacks.Callback):
    """The learning rate is initial_lr * multiplier(epoch) in the epochs start_epoch <= epoch < end_epoch; without
    `staircase` at every batch, with a fraction of an epoch."""

    def __init__(self, initial_lr, multiplier, start_epoch=0, end_epoch=None, staircase=True,
                 momentum_correction=False, steps_per_epoch=None):
        super().__init__()
        if momentum_correction:
            raise ValueError("momentum_correction=True: the momentum of a Keras 3 optimizer is part of its compiled "
                             "step and cannot be changed between batches; leave it out")
        self.initial_lr, self.start_epoch, self.end_epoch = initial_lr, start_epoch, end_epoch
        self.staircase = staircase if callable(multiplier) else True
        self.multiplier = multiplier if callable(multiplier) else lambda epoch: multiplier
        self.steps_per_epoch, self.epoch = steps_per_epoch, 0

    def _set(self, epoch):
        if epoch >= self.start_epoch and (self.end_epoch is None or epoch < self.end_epoch):
            self.model.optimizer.learning_rate = self.initial_lr * self.multiplier(epoch)

    def on_train_begin(self, logs=None):
        self.steps_per_epoch = self.steps_per_epoch or self.params.get("steps")
        if not self.staircase and not self.steps_per_epoch:
            raise ValueError("the number of steps of an epoch is not known: give steps_per_epoch")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        if self.staircase:
            self._set(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        if not self.staircase:
            self._set(self.epoch + batch / self.steps_per_epoch)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["lr"] = float(self.model.optimizer.learning_rate)


class LearningRateWarmupCallback(LearningRateScheduleCallback):
    """From initial_lr / size to initial_lr, batch by batch, in the first warmup_epochs epochs."""

    def __init__(self, initial_lr, warmup_epochs=5, momentum_correction=False, steps_per_epoch=None, verbose=0):
        def multiplier(epoch):
            # The last batch of the warm-up has the whole rate.
            epoch += 1.0 / self.steps_per_epoch
            return 1.0 / size() * (epoch * (size() - 1) / warmup_epochs + 1)

        super().__init__(initial_lr, multiplier, 0, warmup_epochs, False, momentum_correction, steps_per_epoch)
        self.verbose = verbose

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if epoch == self.end_epoch - 1 and self.verbose and rank() == 0:
            print(f"Epoch {epoch + 1}: warm-up is done, the learning rate is "
                  f"{float(self.model.optimizer.learning_rate):g}", flush=True)


def load_model(filepath, custom_objects=None, compile=True, **options):
    """keras.models.load_model; the model's optimizer is distributed. Options: those of DistributedOptimizer."""
    model = keras.models.load_model(filepath, custom_objects=custom_objects, compile=compile)
    if getattr(model, "optimizer", None) is not None:
        DistributedOptimizer(model.optimizer, **options)
        model.jit_compile = False
    return model
