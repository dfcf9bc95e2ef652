"""For graphs and sessions of TensorFlow 1 (tf.compat.v1)."""

import tensorflow as tf

import overtake.tensorflow.tape as tape

from horovod.common.process_sets import global_process_set

from .mpi_ops import broadcast_variables


def broadcast_global_variables(root_rank, process_set=global_process_set):
    """The op that gives the graph's global variables the root's values."""
    if tf.executing_eagerly():
        raise RuntimeError("broadcast_global_variables is for graphs of TensorFlow 1: with eager execution use "
                           "hvd.broadcast_variables(model.variables, root_rank=0)")
    return tf.group(*broadcast_variables(tf.compat.v1.global_variables(), root_rank, process_set))


class BroadcastGlobalVariablesHook(tf.compat.v1.train.SessionRunHook):
    """Does it when a session has been made, after initialization or restoring; `device` changes nothing."""

    def __init__(self, root_rank, device="", process_set=global_process_set):
        super().__init__()
        self.root_rank, self.process_set, self.op = root_rank, process_set, None

    def begin(self):
        if self.op is None or self.op.graph is not tf.compat.v1.get_default_graph():
            self.op = broadcast_global_variables(self.root_rank, self.process_set)

    def after_create_session(self, session, coord):
        session.run(self.op)


def distributed(optimizer, options):
    """An optimizer of tf.compat.v1.train, the same from now on with reduced gradients."""
    if getattr(optimizer, "_overtake_distributed", False):
        raise ValueError(f"the optimizer '{optimizer.get_name()}' is distributed already")
    reduction, plain = tape.Reduction(**options), type(optimizer)

    def compute_gradients(self, *args, **kwargs):
        gradients, variables = zip(*plain.compute_gradients(self, *args, **kwargs))
        return list(zip(reduction(gradients, variables), variables))

    optimizer.__class__ = type(plain.__name__, (plain,), {
        "compute_gradients": compute_gradients, "_overtake_distributed": True})
    return optimizer
