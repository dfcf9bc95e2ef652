"""What a rank has not sent yet (overtake.collective.residuals) as a part of what adapters save: it is this rank's alone."""

import warnings

from . import collective

KEY = "overtake_residuals"  # in the state of an optimizer


def state():
    """{"rank", "size", "kept": bytes}; None: nothing is kept."""
    kept = collective.residuals() if collective.is_initialized() else b""
    return {"rank": collective.rank(), "size": collective.size(), "kept": kept} if kept else None


def load(saved):
    """Goes on with what this rank has saved. With that of another rank, or without any (None), it begins with nothing."""
    if not collective.is_initialized():
        if saved is not None:
            warnings.warn("residuals are loaded before init(), which begins with none: load the state after it")
        return
    here = collective.where()
    own = saved is not None and saved["rank"] == here.rank
    collective.load_residuals(bytes(saved["kept"]) if own else b"")
    if own and here.rank == 0 and saved["size"] > here.size:
        warnings.warn(f"residuals were saved by {saved['size']} ranks, and {here.size} are here: what the others had "
                      "not sent yet is lost")
    elif saved is not None and not own:
        warnings.warn(f"this state has the residuals of rank {saved['rank']}; rank {here.rank} begins with none, and "
                      "what it had not sent yet is lost: let each rank save and load its own state")
