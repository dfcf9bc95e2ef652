"""The structs and functions of include/overtake/input.h."""

import ctypes
import functools

from .. import _library

NAME_MAX, DIMS_MAX = 128, 8
TIMEOUT, NOT_FOUND = -4, -5
REMAINDERS = ("keep", "drop", "repeat")


class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t),
                ("paths", ctypes.POINTER(ctypes.c_char_p)), ("n_paths", ctypes.c_size_t),
                ("index", ctypes.c_char_p), ("directory", ctypes.c_char_p), ("store", ctypes.c_char_p),
                ("columns", ctypes.POINTER(ctypes.c_char_p)), ("n_columns", ctypes.c_size_t),
                ("batch", ctypes.c_int64), ("rank", ctypes.c_int32), ("size", ctypes.c_int32),
                ("part", ctypes.c_int32), ("parts", ctypes.c_int32),
                ("shuffle", ctypes.c_int32), ("remainder", ctypes.c_int32),
                ("seed", ctypes.c_uint64), ("block", ctypes.c_uint64),
                ("threads", ctypes.c_int32), ("read", ctypes.c_int32), ("verify", ctypes.c_int32),
                ("ahead_bytes", ctypes.c_uint64)]


class Column(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("name", ctypes.c_char * (NAME_MAX + 1)),
                ("descr", ctypes.c_char * 32), ("ndim", ctypes.c_int32),
                ("dims", ctypes.c_int64 * DIMS_MAX),
                ("row_bytes", ctypes.c_uint64), ("offset", ctypes.c_uint64), ("ragged", ctypes.c_int32)]


class Ragged(ctypes.Structure):
    _fields_ = [("values", ctypes.c_void_p), ("splits", ctypes.c_void_p)]


class Batch(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("data", ctypes.c_void_p), ("rows", ctypes.c_int64),
                ("epoch", ctypes.c_uint64), ("taken", ctypes.c_uint64)]


class Stats(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t)] + [
        (n, ctypes.c_uint64)
        for n in ("rows", "bytes", "batches_read", "rows_read", "bytes_read", "wait_ns")]


@functools.lru_cache(maxsize=None)
def lib():
    lib = _library.library()
    text = [ctypes.c_char_p, ctypes.c_size_t]
    lib.overtake_input_open.argtypes = [ctypes.POINTER(Options), ctypes.POINTER(ctypes.c_void_p)] + text
    lib.overtake_input_close.argtypes = [ctypes.c_void_p]
    lib.overtake_input_close.restype = None
    lib.overtake_input_column_at.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(Column)]
    lib.overtake_input_stats_of.argtypes = [ctypes.c_void_p, ctypes.POINTER(Stats)]
    lib.overtake_input_next.argtypes = [ctypes.c_void_p, ctypes.c_double, ctypes.POINTER(Batch)] + text
    lib.overtake_input_release.argtypes = [ctypes.c_void_p]
    lib.overtake_input_seek.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int32,
                                        ctypes.c_int32] + text
    lib.overtake_input_order.argtypes = [ctypes.c_uint64] * 5 + [ctypes.c_size_t,
                                                                 ctypes.POINTER(ctypes.c_int64)]
    return lib


def call(function, *args):
    message = ctypes.create_string_buffer(_library.MESSAGE_SIZE)
    code = function(*args, message, len(message))
    if code not in (0, TIMEOUT):
        raise _library.OvertakeError(message.value.decode(errors="replace"))
    return code


def strings(values):
    values = [_library.encode(v) for v in values]
    return (ctypes.c_char_p * max(len(values), 1))(*values), len(values)
