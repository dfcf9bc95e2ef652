"""Public names of Horovod that nothing backs here: using one raises at once and says what to do."""


class NotBacked(AttributeError, NotImplementedError):
    """A name of Horovod's that is refused: never a silent approximation."""


ADASUM = "Adasum is not backed; use op=hvd.Average (or hvd.Sum and a learning rate of your own)"
ELASTIC = ("elastic membership is not backed yet; `overtake run --max-restarts N` starts the job again and the "
           "program goes on from its own checkpoint")
TIMELINE = "the timeline is not backed yet; `overtake run` shows steps, bytes and the slowest rank"
SYNC_BATCH_NORM = ("SyncBatchNorm is not backed yet; use torch.nn.BatchNorm (statistics of each rank), or "
                   "GroupNorm or LayerNorm, which need none from other ranks")

TORCH = {
    "Adasum": ADASUM,
    "SyncBatchNorm": SYNC_BATCH_NORM,
    "elastic": ELASTIC,
    "start_timeline": TIMELINE,
    "stop_timeline": TIMELINE,
}

TF_BATCH_NORM = ("batch normalization over ranks is not backed yet; use keras.layers.BatchNormalization (statistics of "
                 "each rank), or GroupNormalization or LayerNormalization, which need none from other ranks")
SESSIONS = ("sessions of TensorFlow 1 are not backed; use hvd.broadcast_variables(model.variables, root_rank=0), or "
            "BroadcastGlobalVariablesCallback with fit")

TENSORFLOW = {
    "Adasum": ADASUM,
    "BroadcastGlobalVariablesHook": SESSIONS,
    "SyncBatchNormalization": TF_BATCH_NORM,
    "broadcast_global_variables": SESSIONS,
    "elastic": ELASTIC,
    "start_timeline": TIMELINE,
    "stop_timeline": TIMELINE,
}

KERAS = {name: TENSORFLOW[name] for name in ("Adasum", "broadcast_global_variables", "elastic", "start_timeline",
                                             "stop_timeline")}


def refuse(module, names):
    """The module's __getattr__."""
    def missing(name):
        if name in names:
            raise NotBacked(f"{module}.{name}: {names[name]}")
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return missing
