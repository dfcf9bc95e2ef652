"""horovod.tensorflow over Overtake."""

from overtake.tensorflow.batch_norm import SyncBatchNormalization

from horovod.common.basics import (add_process_set, ccl_built, cross_rank, cross_size, cuda_built, ddl_built,
                                   gloo_built, gloo_enabled, init, is_homogeneous, is_initialized,
                                   local_rank, local_size, mpi_built, mpi_enabled, mpi_threads_supported,
                                   nccl_built, rank, remove_process_set, rocm_built, shutdown, size, start_timeline,
                                   stop_timeline)
from horovod.common.exceptions import HorovodInternalError
from horovod.common.process_sets import ProcessSet, global_process_set

from . import elastic
from .compression import Compression
from .gradients import DistributedGradientTape, DistributedOptimizer, PartialDistributedGradientTape
from .mpi_ops import (Adasum, Average, Max, Min, Product, Sum, allgather, allgather_object, allreduce, alltoall, barrier,
                      broadcast, broadcast_, broadcast_object, broadcast_object_fn, broadcast_variables,
                      grouped_allgather, grouped_allreduce, grouped_reducescatter, join, local_rank_op,
                      local_size_op, process_set_included_op, rank_op, reducescatter, size_op)
from .sessions import BroadcastGlobalVariablesHook, broadcast_global_variables
