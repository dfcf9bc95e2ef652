"""Collective operations between the processes of a job (include/overtake/collective.h) on NumPy arrays.

    import overtake.collective as oc

    oc.init()                                  # who we are comes from `overtake run`, Slurm, mpirun, torchrun
    mean = oc.allreduce(gradient, oc.AVERAGE, name="w")

`start` is what the adapters of the frameworks call: addresses in, a handle out. Every function may be
called from any thread.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import os
import pickle
import sys
import time
import traceback
import weakref

from . import _library
from ._library import OvertakeError

SUM, AVERAGE, MIN, MAX, PRODUCT = range(5)
ALLREDUCE, ALLGATHER, REDUCESCATTER, ALLTOALL, BROADCAST, BARRIER, JOIN = range(7)
WORLD = 0
DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16",
          "bfloat16", "float32", "float64")
DIMS_MAX = 16
NAME_MAX = 255  # bytes
TIMEOUT = -4


class CollectiveError(OvertakeError, RuntimeError):
    """An operation that failed on this rank: `code`, and where they are known the culprit's `rank` and
    `host`, the `tensor` and the `step`."""

    def __init__(self, message, code=0, rank=-1, host="", tensor="", step=0):
        super().__init__(message)
        self.code, self.rank, self.host, self.tensor, self.step = code, rank, host, tensor, step


class _Init(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("rank", ctypes.c_int32), ("size", ctypes.c_int32),
                ("rendezvous", ctypes.c_char_p), ("key", ctypes.c_char_p), ("timeout_s", ctypes.c_double)]


class _Request(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("kind", ctypes.c_int32), ("group", ctypes.c_int32),
                ("name", ctypes.c_char_p), ("dtype", ctypes.c_int32), ("reduction", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("root", ctypes.c_int32),
                ("dims", ctypes.POINTER(ctypes.c_int64)), ("splits", ctypes.POINTER(ctypes.c_int64)),
                ("input", ctypes.c_void_p), ("output", ctypes.c_void_p),
                ("prescale", ctypes.c_double), ("postscale", ctypes.c_double),
                ("out_bytes", ctypes.c_uint64)]


class _Result(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("out", ctypes.c_void_p), ("ndim", ctypes.c_int32),
                ("dims", ctypes.c_int64 * DIMS_MAX), ("last_joined", ctypes.c_int32),
                ("splits", ctypes.POINTER(ctypes.c_int64))]


class _Failure(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("code", ctypes.c_int32), ("rank", ctypes.c_int32),
                ("step", ctypes.c_int64), ("host", ctypes.c_char * 256), ("tensor", ctypes.c_char * 256),
                ("message", ctypes.c_char * 1024)]


class _Place(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t)] + [
        (n, ctypes.c_int32)
        for n in ("rank", "size", "local_rank", "local_size", "cross_rank", "cross_size")]


class _Membership(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("epoch", ctypes.c_uint64)] + [
        (n, ctypes.c_int32) for n in ("elastic", "rank", "size", "previous_rank", "previous_size", "waiting",
                                      "leaving", "failed", "batch_ranks")]


@functools.lru_cache(maxsize=None)
def _lib():
    lib = _library.library()
    text = [ctypes.c_char_p, ctypes.c_size_t]
    lib.overtake_init.argtypes = [ctypes.POINTER(_Init)] + text
    lib.overtake_finalize.argtypes = text
    lib.overtake_where.argtypes = [ctypes.c_int32, ctypes.POINTER(_Place)]
    lib.overtake_group_create.argtypes = [ctypes.POINTER(ctypes.c_int32), ctypes.c_size_t,
                                          ctypes.POINTER(ctypes.c_int32)] + text
    lib.overtake_group_open.argtypes = [ctypes.c_char_p] + lib.overtake_group_create.argtypes
    lib.overtake_group_free.argtypes = [ctypes.c_int32] + text
    lib.overtake_start.argtypes = [ctypes.POINTER(_Request), ctypes.c_size_t,
                                   ctypes.POINTER(ctypes.c_int64)] + text
    lib.overtake_test.argtypes = [ctypes.c_int64]
    lib.overtake_wait.argtypes = [ctypes.c_int64, ctypes.c_double, ctypes.POINTER(_Result),
                                  ctypes.POINTER(_Failure)]
    lib.overtake_membership_get.argtypes = [ctypes.POINTER(_Membership)]
    lib.overtake_reform.argtypes = [ctypes.c_double] + text
    lib.overtake_residuals_save.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)] + text
    lib.overtake_residuals_load.argtypes = [ctypes.c_char_p, ctypes.c_uint64] + text
    lib.overtake_step.argtypes = [ctypes.c_int64]
    lib.overtake_input_wait.argtypes = [ctypes.c_int64]
    lib.overtake_timeline_start.argtypes = [ctypes.c_char_p] + text
    lib.overtake_timeline_stop.argtypes = text
    lib.overtake_release.argtypes = [ctypes.c_void_p]
    return lib


def _call(function, *args):
    message = ctypes.create_string_buffer(_library.MESSAGE_SIZE)
    code = function(*args, message, len(message))
    if code != 0:
        raise CollectiveError(message.value.decode(errors="replace"), code)


def init(rank=-1, size=-1, rendezvous=None, key=None, timeout=0.0):
    """Joins the job; returns when all ranks are here. What is not given comes from the environment."""
    options = _Init(ctypes.sizeof(_Init), rank, size, _library.encode(rendezvous), _library.encode(key),
                    timeout)
    _call(_lib().overtake_init, ctypes.byref(options))
    _leave_at_exit()


def _write_error(kind, value, trace):
    """Where the launcher asks for it, in the form of torch.distributed's record decorator, whose own file stays."""
    path = os.environ.get("OVERTAKE_ERROR_FILE")
    if not path:
        return
    text = {"message": {"message": "".join(traceback.format_exception_only(kind, value)).strip(), "extraInfo": {
        "py_callstack": "".join(traceback.format_exception(kind, value, trace)), "timestamp": str(int(time.time()))}}}
    try:
        with open(path, "x") as f:
            json.dump(text, f)
    except OSError:  # the exception has been printed already
        pass


@functools.lru_cache(maxsize=None)
def _leave_at_exit():
    """A program that ends without an error leaves on purpose, also if it does not say so."""
    failed, before = [], sys.excepthook

    def hook(*what):
        failed.append(what)
        before(*what)
        _write_error(*what)

    def leave():
        if not failed and is_initialized():
            finalize()

    sys.excepthook = hook
    atexit.register(leave)


def finalize():
    """Waits for what is in flight and leaves on purpose."""
    _call(_lib().overtake_finalize)


def where(group=WORLD):
    """rank, size, local_rank, local_size, cross_rank, cross_size of this process in the group."""
    place = _Place(ctypes.sizeof(_Place))
    code = _lib().overtake_where(group, ctypes.byref(place))
    if code != 0:
        raise CollectiveError("this process is in no job: call init() first" if group == WORLD else
                              f"this process is not in group {group}", code)
    return place


def is_initialized():
    return _lib().overtake_where(WORLD, ctypes.byref(_Place(ctypes.sizeof(_Place)))) == 0


def rank(group=WORLD):
    return where(group).rank


def size(group=WORLD):
    return where(group).size


def local_rank():
    return where().local_rank


def local_size():
    return where().local_size


def cross_rank():
    return where().cross_rank


def cross_size():
    return where().cross_size


def membership():
    """Who is in an elastic job: epoch, elastic, rank, size, previous_rank, previous_size, waiting, leaving, failed,
    batch_ranks     (overtake_membership in include/overtake/collective.h). Never blocks."""
    m = _Membership(ctypes.sizeof(_Membership))
    code = _lib().overtake_membership_get(ctypes.byref(m))
    if code != 0:
        raise CollectiveError("this process is in no job: call init() first", code)
    return m


def reform(timeout=0.0):
    """Ends this epoch of an elastic job on this rank and joins the next: ranks are dealt anew, groups are gone."""
    _call(_lib().overtake_reform, timeout)


def residuals():
    """What this rank has not sent yet of sums that lose bits on the wire (--wire auto), as bytes for its checkpoint;
    b"": nothing. Between two steps."""
    size = ctypes.c_uint64()
    _call(_lib().overtake_residuals_save, None, 0, ctypes.byref(size))
    out = ctypes.create_string_buffer(size.value)
    _call(_lib().overtake_residuals_save, out, size.value, ctypes.byref(size))
    return out.raw


def load_residuals(saved):
    """Goes on with what residuals() has given on this rank; b"": with nothing."""
    _call(_lib().overtake_residuals_load, saved, len(saved))


def group_create(ranks):
    """The number of a new group. Every rank of the job calls it, with the same ranks, ascending."""
    array = (ctypes.c_int32 * len(ranks))(*ranks)
    group = ctypes.c_int32()
    _call(_lib().overtake_group_create, array, len(ranks), ctypes.byref(group))
    return group.value


def group_open(tag, ranks):
    """The same by its members alone; the tag sets it apart from other groups of the same ranks."""
    array = (ctypes.c_int32 * len(ranks))(*ranks)
    group = ctypes.c_int32()
    _call(_lib().overtake_group_open, _library.encode(tag), array, len(ranks), ctypes.byref(group))
    return group.value


def group_free(group):
    _call(_lib().overtake_group_free, group)


_program_counts = False


def step(samples=0):
    """The program has ended a step over so many rows of its own: for the progress line of the launcher. An
    optimizer's steps are no longer counted then."""
    global _program_counts
    _program_counts = True
    code = _lib().overtake_step(samples)
    if code != 0:
        raise CollectiveError(f"step({samples}): call init() first, and give 0 or more samples", code)


def optimizer_step():
    """What an adapter's optimizer says."""
    if not _program_counts:
        _lib().overtake_step(0)


def input_wait(seconds):
    """The program has just waited so long for its input: for `overtake run --explain`."""
    code = _lib().overtake_input_wait(round(seconds * 1e6))
    if code != 0:
        raise CollectiveError(f"input_wait({seconds}): call init() first, and give 0 or more seconds", code)


def timeline_start(path):
    """Records what this rank does, tensor by tensor, until timeline_stop() or finalize(), and writes it to
    `path`, in the trace format of Chrome and Perfetto. Ranks need paths of their own."""
    _call(_lib().overtake_timeline_start, _library.encode(path))


def timeline_stop():
    _call(_lib().overtake_timeline_stop)


@contextlib.contextmanager
def timeline(path):
    """with timeline("/tmp/rank-0.json"): what is inside is recorded."""
    timeline_start(path)
    try:
        yield
    finally:
        timeline_stop()


class Request:
    """One operation: addresses, C order. `keep` stays alive until the handle has been waited for."""

    def __init__(self, kind, dims=(), dtype="uint8", input=0, output=0, name=None, group=WORLD,
                 reduction=SUM, root=0, splits=None, prescale=1.0, postscale=1.0, out_bytes=0, keep=None):
        if dtype not in DTYPES:
            raise CollectiveError(f"{name or 'tensor'}: type {dtype}; accepted: {', '.join(DTYPES)}", -3)
        self.keep = keep
        self.dims = (ctypes.c_int64 * max(len(dims), 1))(*dims)
        self.splits = None if splits is None else (ctypes.c_int64 * len(splits))(*splits)
        self.raw = _Request(ctypes.sizeof(_Request), kind, group, _library.encode(name),
                            DTYPES.index(dtype), reduction, len(dims), root, self.dims, self.splits,
                            input or None, output or None, prescale, postscale, out_bytes)


class Handle:
    """An operation in flight. Keeps its buffers alive until `wait` has returned."""

    def __init__(self, number, request):
        self.number, self.request = number, request

    def done(self):
        return self.number == 0 or _lib().overtake_test(self.number) != 0

    def wait(self, timeout=0.0):
        """The library's result; raises CollectiveError. On a time-out the operation goes on."""
        result, failure = _Result(ctypes.sizeof(_Result)), _Failure(ctypes.sizeof(_Failure))
        code = _lib().overtake_wait(self.number, timeout, ctypes.byref(result), ctypes.byref(failure))
        if code != TIMEOUT:
            self.number, self.request = 0, None
        if code != 0:
            raise CollectiveError(failure.message.decode(errors="replace"), code, failure.rank,
                                  failure.host.decode(errors="replace"),
                                  failure.tensor.decode(errors="replace"), failure.step)
        return result


def start(requests):
    """Starts the requests as one; a handle each."""
    array = (_Request * len(requests))(*(r.raw for r in requests))
    numbers = (ctypes.c_int64 * len(requests))()
    _call(_lib().overtake_start, array, len(requests), numbers)
    return [Handle(n, r) for n, r in zip(numbers, requests)]


def reduction_of(average, op):
    """What a program asks for that has both: the average, unless it says otherwise."""
    if average is not None and op is not None:
        raise ValueError("give op or average, not both")
    return AVERAGE if op is None and average in (None, True) else SUM if op is None else op


def made(result, dtype_bytes):
    """What the library made, as a writable memory view that gives it back when it is collected."""
    n = dtype_bytes
    for d in result.dims[:result.ndim]:
        n *= d
    if not result.out:
        return memoryview(bytearray())
    block = (ctypes.c_uint8 * n).from_address(result.out)
    weakref.finalize(block, _lib().overtake_release, result.out)
    return memoryview(block)


def _prepare(array):
    import numpy

    return numpy.ascontiguousarray(array) if getattr(array, "ndim", 0) else numpy.array(array)


def _request(kind, array, **options):
    dtype = str(array.dtype)
    return Request(kind, array.shape, dtype, array.ctypes.data, keep=(array, options.pop("out", None)),
                   **options)


def _made_array(result, like):
    import numpy

    return numpy.frombuffer(made(result, like.itemsize), like.dtype).reshape(result.dims[:result.ndim])


def allreduce(array, reduction=AVERAGE, name=None, group=WORLD, prescale=1.0, postscale=1.0):
    import numpy

    array = _prepare(array)
    out = numpy.empty_like(array)
    start([_request(ALLREDUCE, array, out=out, output=out.ctypes.data, out_bytes=out.nbytes, name=name,
                    group=group, reduction=reduction, prescale=prescale, postscale=postscale)])[0].wait()
    return out


def broadcast(array, root=0, name=None, group=WORLD):
    import numpy

    array = _prepare(array)
    out = numpy.empty_like(array)
    start([_request(BROADCAST, array, out=out, output=out.ctypes.data, out_bytes=out.nbytes, name=name,
                    group=group, root=root)])[0].wait()
    return out


def allgather(array, name=None, group=WORLD):
    """The ranks' rows, one behind the other; how many rows may differ."""
    array = _prepare(array)
    return _made_array(start([_request(ALLGATHER, array, name=name, group=group)])[0].wait(), array)


def alltoall(array, splits=None, name=None, group=WORLD):
    array = _prepare(array)
    return _made_array(start([_request(ALLTOALL, array, splits=splits, name=name, group=group)])[0].wait(),
                       array)


def reducescatter(array, reduction=AVERAGE, name=None, group=WORLD):
    array = _prepare(array)
    return _made_array(start([_request(REDUCESCATTER, array, reduction=reduction, name=name,
                                       group=group)])[0].wait(), array)


def broadcast_object(obj=None, root_rank=0, name="object", group=WORLD):
    """Any object that pickle takes; the ranks of a job trust each other."""
    import numpy

    root = rank(group) == root_rank
    data = numpy.frombuffer(pickle.dumps(obj) if root else b"", numpy.uint8)
    length = broadcast(numpy.array([len(data)]), root_rank, f"{name}.length", group)[0]
    data = data if root else numpy.zeros(length, numpy.uint8)
    return pickle.loads(broadcast(data, root_rank, f"{name}.data", group).tobytes())


def allgather_object(obj, name="object", group=WORLD):
    """The ranks' objects, a list."""
    import numpy

    data = numpy.frombuffer(pickle.dumps(obj), numpy.uint8)
    lengths = allgather(numpy.array([len(data)]), f"{name}.lengths", group)
    parts = numpy.split(allgather(data, f"{name}.parts", group), numpy.cumsum(lengths)[:-1])
    return [pickle.loads(p.tobytes()) for p in parts]


def barrier(group=WORLD, timeout=0.0):
    start([Request(BARRIER, group=group)])[0].wait(timeout)


def join():
    """No data any more from this rank; the last rank that joined."""
    return start([Request(JOIN, name="join")])[0].wait().last_joined
