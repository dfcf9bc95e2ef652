"""Who this process is, and what is built in: the functions that Horovod has for every framework."""

import os

from overtake import collective
from overtake.collective import (cross_rank, cross_size, is_initialized, local_rank, local_size, rank,  # noqa: F401
                                 size)

from . import process_sets


def init(comm=None, process_sets=None):
    """`comm` may be a list of all ranks in order; a communicator of mpi4py is refused."""
    if comm is not None and not isinstance(comm, (list, tuple)):
        raise ValueError(f"init(comm=...): a {type(comm).__name__} is not taken; give all ranks in order, or nothing")
    if not collective.is_initialized():
        collective.init()
        if os.environ.get("HOROVOD_TIMELINE", "DYNAMIC") != "DYNAMIC":  # which asks for none as yet
            start_timeline(os.environ["HOROVOD_TIMELINE"])
    if comm and list(comm) != list(range(size())):
        raise ValueError(f"init(comm={list(comm)}): only all {size()} ranks in order are taken; use process sets "
                         "for parts")
    for p in process_sets or []:
        add_process_set(p)


def start_timeline(file_path, mark_cycles=False):
    """On all ranks; rank 0 records what it does there, as in Horovod. There are no cycles to mark."""
    if collective.rank() == 0:
        collective.timeline_start(file_path)


def stop_timeline():
    if collective.rank() == 0:
        collective.timeline_stop()


def shutdown():
    if collective.is_initialized():
        collective.finalize()
    process_sets.forget()


def is_homogeneous():
    """Whether every host has as many ranks."""
    here = collective.where()
    return here.local_size * here.cross_size == here.size


def _no(what):
    def built():
        return False

    built.__doc__ = f"{what} is not part of this build: the engine is Overtake's own."
    return built


mpi_enabled, mpi_built, mpi_threads_supported = _no("MPI"), _no("MPI"), _no("MPI")
gloo_enabled, gloo_built = _no("Gloo"), _no("Gloo")
nccl_built, ddl_built, ccl_built = _no("NCCL"), _no("DDL"), _no("oneCCL")
cuda_built, rocm_built = _no("CUDA"), _no("ROCm")

add_process_set = process_sets.add_process_set
remove_process_set = process_sets.remove_process_set
