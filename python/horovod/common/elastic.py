"""Elastic training for every framework, by overtake.elastic."""

import os

import overtake.elastic

from . import process_sets
from .exceptions import HorovodInternalError, HostsUpdatedInterrupt  # noqa: F401


def run(func):
    """func(state, ...), called again when ranks have changed. Process sets are gone then: a reset callback adds them."""
    limit = os.environ.get("HOROVOD_RESET_LIMIT")
    return overtake.elastic.run(func, after_reform=process_sets.forget,
                                timeout=float(os.environ.get("HOROVOD_ELASTIC_TIMEOUT") or 0),
                                changes_max=int(limit) if limit else None)


class ObjectState(overtake.elastic.ObjectState):
    """`bcast_object` and `get_rank` are not needed: Overtake's are used."""

    def __init__(self, bcast_object=None, get_rank=None, **kwargs):
        super().__init__(**kwargs)


State = ObjectState
