"""horovod.tensorflow.keras.elastic (and horovod.keras.elastic) over Overtake."""

from overtake.elastic.tensorflow import (CommitStateCallback, KerasState, UpdateBatchStateCallback,
                                         UpdateEpochStateCallback)

from horovod.common.elastic import run
from horovod.common.exceptions import HorovodInternalError, HostsUpdatedInterrupt

__all__ = ["CommitStateCallback", "HorovodInternalError", "HostsUpdatedInterrupt", "KerasState",
           "UpdateBatchStateCallback", "UpdateEpochStateCallback", "run"]
