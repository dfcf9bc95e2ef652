"""Public names of Horovod that nothing backs here: using one raises at once and says what to do."""


class NotBacked(AttributeError, NotImplementedError):
    """A name of Horovod's that is refused: never a silent approximation."""


KERAS = {"broadcast_global_variables": "Keras 3 has no sessions; use hvd.callbacks.BroadcastGlobalVariablesCallback(0) with "
         "fit, or horovod.tensorflow's for graphs of TensorFlow 1"}


def refuse(module, names):
    """The module's __getattr__."""
    def missing(name):
        if name in names:
            raise NotBacked(f"{module}.{name}: {names[name]}")
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return missing
