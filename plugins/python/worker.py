"""Runs a model that is a Python class, as the worker process of a server (docs/isolation.md has the protocol,
docs/python-models.md what the class looks like). Started by the plug-in `python` with the user's own interpreter, as
descriptor 4, with a socket as descriptor 3. Needs Python 3.9 and NumPy.

The interpreter and its packages are the operator's and are loaded first; then the filter of system calls is installed,
and only then is the model's code read. Files have been locked before this program began.
"""

import ctypes
import importlib.util
import itertools
import json
import mmap
import os
import socket
import sys
import threading
import traceback

import numpy as np

ASK_RUN, ASK_GO_ON, ASK_CLOSE = 1, 2, 3
ANSWER_RESPONSE, ANSWER_ROOM = 1, 2
FINAL = 1
INVALID, INTERNAL = -3, -13
ALIGN = 64
FUTEX_WAIT, FUTEX_WAKE_OP = 0, 5
WAKE_ALL = 0x7FFFFFFF
ADD_ONE = 1 << 28 | 1 << 12 | 0xFFF  # FUTEX_OP(ADD, 1, EQ, -1): the word grows by one, in one call with the wake
PR_SET_DUMPABLE = 4
SECCOMP_SET_MODE_FILTER, SECCOMP_TSYNC = 1, 1

# Element types by number. BF16 comes and goes as the 16 bits that it is.
NUMPY = {1: "?", 2: "u1", 3: "u2", 4: "u4", 5: "u8", 6: "i1", 7: "i2", 8: "i4", 9: "i8", 10: "f2", 11: "u2", 12: "f4",
         13: "f8"}
BYTES = 14
NAMES = dict(zip(("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
                  "FP64", "BYTES"), itertools.count(1)))

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def syscall(number, *args):
    return libc.syscall(*(ctypes.c_long(x) for x in (number, *args)))


class Tensor(ctypes.Structure):
    _fields_ = [("dtype", ctypes.c_int32), ("rank", ctypes.c_int32), ("dims", ctypes.c_int64 * 8),
                ("offset", ctypes.c_uint64), ("size", ctypes.c_uint64)]


class Wanted(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("offset", ctypes.c_uint64),
                ("capacity", ctypes.c_uint64)]


class Ask(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_uint32), ("out_segment", ctypes.c_uint32), ("n_inputs", ctypes.c_uint32),
                ("n_outputs", ctypes.c_uint32), ("n_parts", ctypes.c_uint32), ("reserved", ctypes.c_uint32),
                ("ticket", ctypes.c_uint64), ("deadline_ns", ctypes.c_uint64), ("parts_offset", ctypes.c_uint64),
                ("out_size", ctypes.c_uint64), ("inputs", Tensor * 256), ("outputs", Wanted * 32)]


class Answer(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("status", ctypes.c_int32),
                ("sequence", ctypes.c_uint32), ("n_outputs", ctypes.c_uint32), ("has_parts", ctypes.c_uint32),
                ("ticket", ctypes.c_uint64), ("need", ctypes.c_uint64), ("parts_offset", ctypes.c_uint64),
                ("outputs", Tensor * 32), ("message", ctypes.c_char * 512)]


class Ring(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pad0", ctypes.c_uint32 * 15),
                ("host_turn", ctypes.c_uint32), ("pad1", ctypes.c_uint32 * 15),
                ("worker_turn", ctypes.c_uint32), ("pad2", ctypes.c_uint32 * 15), ("ask", Ask),
                ("pad3", ctypes.c_char * (-(192 + ctypes.sizeof(Ask)) % 64)), ("answer", Answer)]


class Refused(Exception):
    """Something that the caller did; the message is all there is to say."""


# ---- the model


class Spec:
    def __init__(self, value, what):
        try:
            self.name, self.dtype, self.shape = str(value["name"]), NAMES[value["datatype"]], [int(d) for d in value["shape"]]
        except (KeyError, TypeError, ValueError) as e:
            raise Refused(f"signature: {what} {value!r}: it needs name, datatype (FP32, ...) and shape: {e!r}")

    def json(self):
        return {"name": self.name, "datatype": self.dtype, "shape": self.shape}


class Model:
    """The user's object and its signature: its own, else that of the bundle around it."""

    def __init__(self, path):
        self.object = self.make(path)
        value = getattr(self.object, "signature", None) or self.manifest(path)
        if not isinstance(value, dict) or not value.get("inputs") or not value.get("outputs"):
            raise Refused('Model needs signature = {"inputs": [{"name", "datatype", "shape"}], "outputs": [...]}, or a '
                          "bundle's manifest that says it")
        self.inputs = [Spec(x, "input") for x in value["inputs"]]
        self.outputs = [Spec(x, "output") for x in value["outputs"]]

    @staticmethod
    def make(path):
        sys.path[0] = path
        spec = importlib.util.spec_from_file_location("model", os.path.join(path, "model.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules["model"] = module
        spec.loader.exec_module(module)
        made = getattr(module, "Model", None)
        if made is None:
            raise Refused("model.py has no class Model")
        made = made()
        if not callable(getattr(made, "predict", None)):
            raise Refused("class Model has no method predict(self, inputs)")
        if hasattr(made, "load"):
            made.load(path)
        return made

    @staticmethod
    def manifest(path):
        try:
            with open(os.path.join(path, "..", "manifest.json")) as f:
                return json.load(f)
        except OSError:
            return None

    def loaded(self, lacks):
        rows = all(s.shape and s.shape[0] == -1 for s in self.inputs + self.outputs)
        return {"ok": True, "version": f"Python {sys.version.split()[0]}, NumPy {np.__version__}", "lacks": lacks,
                "inputs": [s.json() for s in self.inputs], "outputs": [s.json() for s in self.outputs],
                "batch_axis": 0 if rows else -1, "memory_bytes": 0, "instance_memory_bytes": 0}


# ---- tensors


def strings_in(data, count):
    out, at = np.empty(count, object), 0
    for i in range(count):
        n = int.from_bytes(data[at:at + 4], "little")
        out[i] = data[at + 4:at + 4 + n]
        at += 4 + n
    return out


def encoded(x):
    b = x if isinstance(x, bytes) else str(x).encode()
    return len(b).to_bytes(4, "little") + b


def output_of(spec, value):
    """What predict gave under a name, as an array or, for strings, (shape, bytes)."""
    if spec.dtype == BYTES:
        a = np.asarray(value, object)
        return a.shape, b"".join(encoded(x) for x in a.ravel())
    a = np.asarray(value)
    want = np.dtype(NUMPY[spec.dtype])
    if a.dtype != want:
        if not np.can_cast(a.dtype, want, "same_kind"):
            raise TypeError(f"output '{spec.name}' is {a.dtype}; the signature says {want}")
        a = a.astype(want)
    return a.shape, np.ascontiguousarray(a)


# ---- lanes


class Lane:
    def __init__(self, model, log, futex, fd):
        self.model, self.log, self.futex = model, log, futex
        self.memory = mmap.mmap(fd, ctypes.sizeof(Ring))
        os.close(fd)
        self.ring = Ring.from_buffer(self.memory)
        self.ask, self.answer = self.ring.ask, self.ring.answer
        self.host_turn = ctypes.addressof(self.ring) + Ring.host_turn.offset
        self.worker_turn = ctypes.addressof(self.ring) + Ring.worker_turn.offset
        self.segments = {}
        self.seen = 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def map(self, number, fd, size):
        self.segments[number] = mmap.mmap(fd, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if number else 0))
        os.close(fd)

    def next_ask(self):
        while True:
            # A call even when the turn has come: it orders what is read afterwards.
            syscall(self.futex, self.host_turn, FUTEX_WAIT, self.seen, 0, 0, 0)
            turn = self.ring.host_turn
            if turn != self.seen:
                self.seen = turn
                return

    def post(self):
        syscall(self.futex, self.worker_turn, FUTEX_WAKE_OP, WAKE_ALL, 0, self.worker_turn, ADD_ONE)

    def run(self):
        while True:
            self.next_ask()
            if self.ask.kind == ASK_CLOSE:
                return
            if self.ask.kind == ASK_RUN:
                self.ticket, self.sequence = self.ask.ticket, 0
                try:
                    self.predict()
                except Exception as e:
                    self.fail(e)
                self.post()

    def fail(self, e):
        traceback.print_exc()
        last = traceback.extract_tb(e.__traceback__)[-1]
        text = f"{type(e).__name__}: {e} ({os.path.basename(last.filename)}:{last.lineno}); the whole is in {self.log}"
        a = self.answer
        a.kind, a.flags, a.n_outputs, a.has_parts, a.ticket = ANSWER_RESPONSE, FINAL, 0, 0, self.ticket
        a.status = INVALID if isinstance(e, ValueError) else INTERNAL
        a.sequence = self.sequence
        a.message = text.encode(errors="replace")[:511]

    def inputs(self):
        segment, out = self.segments.get(0), {}
        for i, spec in enumerate(self.model.inputs[:self.ask.n_inputs]):
            t = self.ask.inputs[i]
            shape = tuple(t.dims[:t.rank])
            if spec.dtype == BYTES:
                count = int(np.prod(shape, dtype=np.int64))
                out[spec.name] = strings_in(segment[t.offset:t.offset + t.size], count).reshape(shape)
            elif t.size == 0:
                out[spec.name] = np.empty(shape, NUMPY[spec.dtype])
            else:
                dtype = np.dtype(NUMPY[spec.dtype])
                out[spec.name] = np.frombuffer(segment, dtype, t.size // dtype.itemsize, t.offset).reshape(shape)
        return out

    def predict(self):
        wanted = [self.model.outputs[self.ask.outputs[i].index] for i in range(self.ask.n_outputs)]
        got = self.model.object.predict(self.inputs())
        if isinstance(got, dict):
            self.respond(wanted, got, FINAL)
            return
        if not hasattr(got, "__iter__"):
            raise TypeError(f"predict gave {type(got).__name__}; it gives a dict of arrays, or yields such dicts")
        # One is held back, so that the last is known to be the last.
        held = None
        for more in got:
            if held is not None:
                self.respond(wanted, held, 0)
            held = more
        if held is None:
            raise TypeError("predict yielded nothing")
        self.respond(wanted, held, FINAL)

    def go_on(self):
        self.post()
        self.next_ask()

    def respond(self, wanted, got, flags):
        if not isinstance(got, dict):
            raise TypeError(f"predict gave {type(got).__name__} instead of a dict")
        missing = [s.name for s in wanted if s.name not in got]
        if missing:
            raise KeyError(f"predict gave no '{missing[0]}', only {sorted(map(str, got))}")
        outputs = [output_of(s, got[s.name]) for s in wanted]
        sizes = [len(data) if isinstance(data, bytes) else data.nbytes for _, data in outputs]
        need = sum(-(-n // ALIGN) * ALIGN for n in sizes)
        a = self.answer
        if need > self.ask.out_size:
            a.kind, a.need, a.ticket = ANSWER_ROOM, need, self.ticket
            self.go_on()
        segment, at = self.segments[self.ask.out_segment], 0
        for i, ((shape, data), size) in enumerate(zip(outputs, sizes)):
            t = a.outputs[i]
            t.dtype, t.rank, t.offset, t.size = wanted[i].dtype, len(shape), at, size
            if len(shape) > 8:
                raise ValueError(f"output '{wanted[i].name}' has {len(shape)} axes; the limit is 8")
            for k, d in enumerate(shape):
                t.dims[k] = d
            if size:
                memoryview(segment)[at:at + size] = memoryview(data).cast("B")
            at += -(-size // ALIGN) * ALIGN
        a.kind, a.flags, a.status, a.n_outputs, a.has_parts = ANSWER_RESPONSE, flags, 0, len(outputs), 0
        a.ticket, a.sequence = self.ticket, self.sequence
        self.sequence += 1
        if not flags & FINAL:
            self.go_on()


# ---- the process


def lock(m):
    """Installs the filter for all threads; what could not be done."""
    code = bytes.fromhex(m["filter"])
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("n", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    program = Program(len(code) // 8, ctypes.addressof(buffer))
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if code and syscall(m["seccomp"], SECCOMP_SET_MODE_FILTER, SECCOMP_TSYNC, ctypes.addressof(program)) == 0:
        return m["lacks"]
    return m["lacks"] + "The kernel filters no system calls (seccomp): it can start programs and use the network. "


class Worker:
    def __init__(self):
        self.socket = socket.socket(fileno=3)
        self.socket.setblocking(True)
        self.model, self.lanes, self.load = None, {}, None

    def exactly(self, n):
        data, fds = b"", []
        while len(data) < n:
            part, more, _, _ = socket.recv_fds(self.socket, n - len(data), 1)
            fds += more
            if not part:
                os._exit(0)  # the server has let us go, or is dead
            data += part
        return data, fds

    def receive(self):
        head, fds = self.exactly(4)
        body, more = self.exactly(int.from_bytes(head, "little"))
        return json.loads(body), (fds + more or [None])[0]

    def send(self, value):
        text = json.dumps(value).encode()
        self.socket.sendall(len(text).to_bytes(4, "little") + text)

    def start(self, m):
        import resource
        import signal
        self.load = m
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (m["file_max"], m["file_max"]))
        os.chdir(m["cache"])
        lacks = lock(m)
        self.model = Model(m["path"])
        return self.model.loaded(lacks)

    def on_lane(self, m, fd):
        lane, op = m["lane"], m["op"]
        if op == "lane":
            self.lanes[lane] = Lane(self.model, self.load["log"], self.load["futex"], fd)
        elif op == "segment":
            self.lanes[lane].map(m["id"], fd, m["size"])
        elif op == "close":
            self.lanes.pop(lane).thread.join()
        return {"ok": True}

    def serve(self):
        while True:
            m, fd = self.receive()
            if m["op"] == "cancel":
                continue  # Python code can't be ended from outside
            try:
                self.send(self.start(m) if m["op"] == "load" else self.on_lane(m, fd))
            except Refused as e:
                self.send({"ok": False, "code": INVALID, "message": str(e)})
            except BaseException as e:
                traceback.print_exc()
                frames = [f for f in traceback.extract_tb(e.__traceback__) if f.filename.endswith("model.py")]
                where = f" (model.py:{frames[-1].lineno})" if frames else ""
                last = traceback.format_exception_only(type(e), e)[-1].strip()
                self.send({"ok": False, "code": INVALID, "message": f"{last}{where}"})


Worker().serve()
