"""libovertake through ctypes: the structs of include/overtake/overtake.h and nothing else."""

import ctypes
import functools
import os
import pathlib

API_VERSION = 1
DIGEST_TEXT = 65
MESSAGE_SIZE = 1024

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64",
}


class OvertakeError(Exception):
    """What was wrong, with its value and the way out."""


class Array(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p),
                ("datatype", ctypes.c_char_p),
                ("rank", ctypes.c_int32),
                ("dims", ctypes.POINTER(ctypes.c_int64)),
                ("data", ctypes.c_void_p),
                ("size_bytes", ctypes.c_size_t)]


class Bundle(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t),
                ("model_path", ctypes.c_char_p),
                ("format", ctypes.c_char_p),
                ("inputs", ctypes.POINTER(Array)),
                ("outputs", ctypes.POINTER(Array)),
                ("n_inputs", ctypes.c_size_t),
                ("n_outputs", ctypes.c_size_t),
                ("trained_on", ctypes.POINTER(Array)),
                ("n_trained_on", ctypes.c_size_t),
                ("prediction_output", ctypes.c_char_p),
                ("prediction_kind", ctypes.c_char_p),
                ("batch_max", ctypes.c_int64),
                ("golden_rows", ctypes.c_int64),
                ("tolerance_abs", ctypes.c_double),
                ("tolerance_rel", ctypes.c_double)]


@functools.lru_cache(maxsize=None)
def library():
    here = pathlib.Path(__file__).parent / "libovertake.so"
    chosen = os.environ.get("OVERTAKE_LIB")
    names = [chosen] if chosen else [str(here)] if here.exists() else ["libovertake.so"]
    try:
        lib = ctypes.CDLL(names[0])
    except OSError as why:
        raise OvertakeError(f"libovertake was not found ({why}); set OVERTAKE_LIB to its path") from why
    lib.overtake_api_version.restype = ctypes.c_int
    if lib.overtake_api_version() != API_VERSION:
        raise OvertakeError(f"{names[0]}: its API has version {lib.overtake_api_version()}; this "
                            f"package needs {API_VERSION}")
    text = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.overtake_bundle_save.argtypes = [ctypes.POINTER(Bundle), ctypes.c_char_p] + text
    lib.overtake_bundle_save.restype = ctypes.c_int
    lib.overtake_bundle_verify.argtypes = [ctypes.c_char_p] + text
    lib.overtake_bundle_verify.restype = ctypes.c_int
    return lib


def encode(text):
    return None if text is None else os.fsencode(text)


def arrays_of(columns):
    """The arrays as C sees them, and what must stay alive beside them."""
    import numpy

    kept = []
    out = (Array * max(len(columns), 1))()
    for slot, (name, values) in zip(out, columns.items()):
        a = numpy.ascontiguousarray(values)
        a = a.astype(a.dtype.newbyteorder("<"), copy=False)
        if a.dtype.name not in DATATYPES:
            raise OvertakeError(f"'{name}' is {a.dtype}; numbers and booleans are accepted")
        dims = (ctypes.c_int64 * max(a.ndim, 1))(*a.shape)
        kept += [a, dims]
        slot.name = name.encode()
        slot.datatype = DATATYPES[a.dtype.name].encode()
        slot.rank = a.ndim
        slot.dims = dims
        slot.data = a.ctypes.data
        slot.size_bytes = a.nbytes
    return out, kept


def call(function, *args):
    digest = ctypes.create_string_buffer(DIGEST_TEXT)
    message = ctypes.create_string_buffer(MESSAGE_SIZE)
    if function(*args, digest, message, MESSAGE_SIZE) != 0:
        raise OvertakeError(message.value.decode(errors="replace"))
    return digest.value.decode()


def bundle_save(path, *, model_path, format, inputs, outputs, trained_on, prediction_output,
                prediction_kind, **numbers):
    arrays = {"inputs": inputs, "outputs": outputs, "trained_on": trained_on}
    b = Bundle(struct_size=ctypes.sizeof(Bundle), model_path=encode(model_path),
               format=encode(format), prediction_output=encode(prediction_output),
               prediction_kind=encode(prediction_kind), **numbers)
    alive = []
    for field, columns in arrays.items():
        array, kept = arrays_of(columns)
        alive += [array, kept]
        setattr(b, field, array)
        setattr(b, "n_" + field, len(columns))
    return call(library().overtake_bundle_save, ctypes.byref(b), encode(path))


def bundle_verify(path):
    return call(library().overtake_bundle_verify, encode(path))
