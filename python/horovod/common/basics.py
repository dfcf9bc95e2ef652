"""Who this process is, and what is built in: the functions that Horovod has for every framework."""

from overtake import collective

from . import process_sets


def init(comm=None, process_sets=None):
    """`comm` may be a list of all ranks in order; a communicator of mpi4py is refused."""
    if comm is not None and list(comm) not in ([], list(range(len(list(comm))))):
        raise ValueError("init(comm=...): only all ranks in order are taken; use process sets for parts")
    if not collective.is_initialized():
        collective.init()
    for p in process_sets or []:
        add_process_set(p)


def shutdown():
    if collective.is_initialized():
        collective.finalize()
    process_sets.forget()


def is_initialized():
    return collective.is_initialized()


def rank():
    return collective.where().rank


def size():
    return collective.where().size


def local_rank():
    return collective.where().local_rank


def local_size():
    return collective.where().local_size


def cross_rank():
    return collective.where().cross_rank


def cross_size():
    return collective.where().cross_size


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
