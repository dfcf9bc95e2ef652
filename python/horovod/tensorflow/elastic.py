"""horovod.tensorflow.elastic over Overtake."""

import overtake.elastic.tensorflow as oe

from horovod.common.elastic import ObjectState, State, run
from horovod.common.exceptions import HorovodInternalError, HostsUpdatedInterrupt

__all__ = ["HorovodInternalError", "HostsUpdatedInterrupt", "ObjectState", "State", "TensorFlowKerasState",
           "TensorFlowState", "run"]


def _no_session(session):
    if session is not None:
        raise NotImplementedError("session=...: sessions of TensorFlow 1 are not backed; leave it out")


class TensorFlowState(oe.TensorFlowState):
    def __init__(self, variables=None, session=None, **kwargs):
        _no_session(session)
        if variables is None:
            raise ValueError("TensorFlowState(variables=None): TensorFlow 2 has no list of all variables; give them")
        super().__init__(variables, **kwargs)


class TensorFlowKerasState(oe.KerasState):
    def __init__(self, model, optimizer=None, backend=None, **kwargs):
        super().__init__(model, optimizer, **kwargs)
