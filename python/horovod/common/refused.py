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


def refuse(module, names):
    """The module's __getattr__."""
    def missing(name):
        if name in names:
            raise NotBacked(f"{module}.{name}: {names[name]}")
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return missing
