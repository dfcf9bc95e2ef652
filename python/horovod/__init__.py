"""Horovod's API over Overtake: programs written for `horovod.torch`, `horovod.tensorflow` or `horovod.keras` run
unchanged under `horovodrun` or `overtake run`. docs/horovod.md lists every public name, what backs it or why it is refused."""

from .runner import run

__version__ = "0.28.1+overtake"
__all__ = ["run", "__version__"]
