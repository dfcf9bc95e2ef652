"""One rank of a job, through the C interface alone (include/overtake/collective.h): sums a vector of ones under one
name, STEPS times, and says how it went. What else happens to it is in its arguments, as WHEN=WHAT."""

import ctypes
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
lib = ctypes.CDLL(str(ROOT / os.environ.get("BUILD", "build/release") / "libovertake.so"))
args = dict(a.split("=", 1) for a in sys.argv[1:])


class Request(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("kind", ctypes.c_int32), ("group", ctypes.c_int32),
                ("name", ctypes.c_char_p), ("dtype", ctypes.c_int32), ("reduction", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("root", ctypes.c_int32), ("dims", ctypes.POINTER(ctypes.c_int64)),
                ("splits", ctypes.c_void_p), ("input", ctypes.c_void_p), ("output", ctypes.c_void_p),
                ("prescale", ctypes.c_double), ("postscale", ctypes.c_double)]


class Failure(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("code", ctypes.c_int32), ("rank", ctypes.c_int32),
                ("step", ctypes.c_int64), ("host", ctypes.c_char * 256), ("tensor", ctypes.c_char * 256),
                ("message", ctypes.c_char * 1024)]


class Place(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t)] + [
        (n, ctypes.c_int32) for n in ("rank", "size", "local_rank", "local_size", "cross_rank", "cross_size")]


text = ctypes.create_string_buffer(1024)
N = 1000
F32 = 11


def check(rc):
    if rc != 0:
        print("failed:", text.value.decode(), flush=True)
        sys.exit(3)


def step():
    ones, total = (ctypes.c_float * N)(*[1.0] * N), (ctypes.c_float * N)()
    r = Request(ctypes.sizeof(Request), kind=0, name=b"grad", dtype=F32, ndim=1, dims=(ctypes.c_int64 * 1)(N),
                input=ctypes.addressof(ones), output=ctypes.addressof(total))
    handle, f = ctypes.c_int64(), Failure(ctypes.sizeof(Failure))
    check(lib.overtake_start(ctypes.byref(r), 1, ctypes.byref(handle), text, len(text)))
    lib.overtake_wait.argtypes = [ctypes.c_int64, ctypes.c_double, ctypes.c_void_p, ctypes.c_void_p]
    if lib.overtake_wait(handle, 0, None, ctypes.byref(f)) != 0:
        print(f"failed: {f.tensor.decode()}: rank {f.rank} {f.host.decode()}: {f.message.decode()}", flush=True)
        sys.exit(3)
    return total[N - 1]


for name in args.get("wait_for", "").split(","):
    while name and not os.path.exists(name):
        time.sleep(0.01)
check(lib.overtake_init(None, text, len(text)))
place = Place(ctypes.sizeof(Place))
lib.overtake_where(0, ctypes.byref(place))
print("pid", os.getpid(), flush=True)
where = f"{place.rank} {place.size} {place.local_rank} {place.local_size} {place.cross_rank} {place.cross_size}"
print("place", where, flush=True)
until, steps, total = args.get("until"), 0, 0
wanted = int(args.get("steps", 3)) + (args.get("linger", str(place.rank)) != str(place.rank))
while steps < wanted or (until and not os.path.exists(until)):
    if args.get("raise") == f"{place.rank}@{steps}":
        raise ValueError("the loss is nan")
    total = step()
    steps += 1
    if steps == 3:
        print("under way", flush=True)
    if until:
        time.sleep(0.001)
print("sum", total, flush=True)
if args.get("linger") == str(place.rank):
    def in_no_hurry():
        time.sleep(1000)
    in_no_hurry()
if "out" in args:
    (pathlib.Path(args["out"]) / f"rank-{place.rank}").write_text(f"{total} of {where}")
check(lib.overtake_finalize(text, len(text)))
