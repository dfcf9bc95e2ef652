import overtake.torch as ot
from overtake.torch.adasum import AdasumOptimizer

from horovod.common.process_sets import global_process_set

from .compression import Compression
from .mpi_ops import Adasum, Average, _group


def DistributedOptimizer(optimizer, named_parameters=None, compression=Compression.none,
                         backward_passes_per_step=1, op=Average, gradient_predivide_factor=1.0,
                         num_groups=0, groups=None, sparse_as_dense=False,
                         process_set=global_process_set):
    """`num_groups` and `groups` are accepted and change nothing: Overtake's plan makes the buckets."""
    if gradient_predivide_factor != 1.0 and op != Average:
        raise ValueError("gradient_predivide_factor needs op=Average")
    if op == Adasum:
        if compression is not Compression.none or sparse_as_dense:
            raise ValueError("op=Adasum: steps go as they are; leave out compression and sparse_as_dense")
        return AdasumOptimizer(optimizer, named_parameters, _group(process_set))
    return ot.DistributedOptimizer(
        optimizer, named_parameters, op, backward_passes_per_step,
        prescale_factor=1.0 / gradient_predivide_factor, postscale_factor=gradient_predivide_factor,
        sparse_as_dense=sparse_as_dense, group=_group(process_set),
        compression=None if compression is Compression.none else compression)
