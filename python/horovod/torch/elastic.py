"""horovod.torch.elastic over Overtake."""

from overtake.elastic.torch import ElasticSampler, TorchState

from horovod.common.elastic import ObjectState, State, run
from horovod.common.exceptions import HorovodInternalError, HostsUpdatedInterrupt

__all__ = ["ElasticSampler", "HorovodInternalError", "HostsUpdatedInterrupt", "ObjectState", "State", "TorchState", "run"]
