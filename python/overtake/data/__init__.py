"""The rows that a training program reads.

    import overtake

    for batch in overtake.data.open("train.npz", batch_size=256, seed=1):    # one epoch
        step(batch["x"], batch["y"])

reads any number of files in batches, in an order of its own each epoch, ahead of the program, and deals
them to the ranks of the job (docs/data.md). `overtake.data("base")`, the module called, gives the whole
columns of one of this run's data sets.
"""

import ctypes
import json
import os
import pathlib
import sys
import types
import weakref

from .. import _library
from .._library import OvertakeError
from . import _input

__all__ = ["Ragged", "Reader", "columns", "open", "order", "raw"]


def columns(name, mmap=False):
    """The columns of one of this run's data sets: {name: array}. `mmap` maps the files, read-only."""
    import numpy

    return {p.stem: numpy.load(p, mmap_mode="r" if mmap else None, allow_pickle=False)
            for p in sorted(_folder(name).glob("*.npy"))}


def _folder(name):
    from .. import datasets

    root = os.environ.get("OVERTAKE_DATA")
    if not root:
        raise OvertakeError("OVERTAKE_DATA is not set: this is not a run of Overtake")
    folder = pathlib.Path(root) / name
    if not folder.is_dir():
        raise OvertakeError(f"data set '{name}' was not given to this run; it has: "
                            + (", ".join(datasets()) or "none"))
    return folder


class _Callable(types.ModuleType):
    def __call__(self, name, mmap=False):
        return columns(name, mmap)


sys.modules[__name__].__class__ = _Callable


def order(rows, seed=0, epoch=0, block=0, at=0, count=None):
    """The rows at positions [at, at + count) of an epoch: NumPy's int64. What the readers read by."""
    import numpy

    out = numpy.empty(rows - at if count is None else count, numpy.int64)
    code = _input.lib().overtake_input_order(rows, block, seed, epoch, at, len(out),
                                             out.ctypes.data_as(ctypes.POINTER(ctypes.c_int64)))
    if code != 0:
        raise ValueError(f"order: positions {at} to {at + len(out)} of {rows} rows")
    return out


def _datatype(dtype, what):
    """As an index says it. bfloat16 goes by its name, which NumPy alone does not know."""
    import numpy

    name = str(dtype).rpartition(".")[2] if "bfloat16" in str(dtype) else numpy.dtype(dtype).name
    if name not in _library.DATATYPES:
        raise OvertakeError(f"{what}: {name}; numbers and booleans are read")
    return _library.DATATYPES[name]


def raw(path, dtype, shape=(), at=0, rows=None):
    """A column that is plain numbers in a file: rows of `shape`, from byte `at` on. For `open`'s dict."""
    more = {} if rows is None else {"rows": int(rows)}
    return {"datatype": _datatype(dtype, path), "shape": [-1, *shape],
            "files": [{"path": os.path.abspath(path), "at": int(at), **more}]}


def _column(name, what):
    if isinstance(what, dict):
        return {"name": name, **what}
    if isinstance(what, (str, os.PathLike)):
        what = [what]
    parts = [w if isinstance(w, dict) else {"files": [{"path": os.path.abspath(w)}]} for w in what]
    types_of = {(p.get("datatype"), tuple(p.get("shape", ()))) for p in parts}
    if len(types_of) != 1:
        raise OvertakeError(f"column '{name}': its files are of {len(types_of)} types or shapes")
    return {"name": name, **parts[0], "files": [f for p in parts for f in p["files"]]}


def _feature(name, what):
    if what in (bytes, "bytes"):
        return {"name": name, "datatype": "BYTES", "shape": [-1]}
    dtype, shape = what
    return {"name": name, "datatype": _datatype(dtype, f"feature '{name}'"),
            "shape": [-1, -1] if shape is None else [-1, *shape]}


def _where(source, features):
    """What to open: (paths, index)."""
    if isinstance(source, dict):
        listed = source if "schema" in source else {
            "schema": "overtake.input/1", "columns": [_column(n, w) for n, w in source.items()]}
        return [], json.dumps(listed)
    paths = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if features is not None:
        given = [_feature(n, what) for n, what in features.items()]
        return [], json.dumps({"schema": "overtake.input/1", "columns": given,
                               "records": [{"path": os.path.abspath(p)} for p in paths]})
    if len(paths) == 1 and os.environ.get("OVERTAKE_DATA"):
        name = os.fspath(paths[0])
        if os.sep not in name and not os.path.exists(name) and not name.startswith("sha256:"):
            return [_folder(name)], None
    return paths, None


def _place():
    """(rank, size) in the job, or None outside of one."""
    if "overtake.collective" not in sys.modules:
        return None
    from .. import collective

    try:
        here = collective.where()
    except OvertakeError:
        return None
    return here.rank, here.size


def _rows_of_rank(rows, place):
    """A rank's part of a step's rows; overtake.elastic.batch_size where the job deals."""
    if place is None and _place() is not None:
        from .. import elastic

        return elastic.batch_size(rows)
    return -(-rows // (place[1] if place else 1))


def open(source, *, columns=None, batch_size=1, global_batch=0, shuffle=True, block=0, seed=0, rank=None, size=None,
         remainder="keep", features=None, threads=0, ahead_bytes=0, read=False, verify=False, store=None):
    """A Reader of `source`: a path or several (a folder of .npy, .npz, .npy, .tfrecord, .json), the name of one
    of this run's data sets, "sha256:DIGEST" with `store` (a data directory), or {column: files}.

    columns      names, in that order; None: all
    batch_size   rows a batch of one rank
    global_batch instead: rows of a step of all ranks, of which each takes its part; in an elastic job as
                 --elastic-batch says
    shuffle      a new order each epoch, of `seed` and the epoch; False: as they lie
    block        shuffle, but read runs of so many rows, 16 runs mixed with each other: for disks
    rank, size   None: this process' place in the job (overtake.collective), followed when it changes
    remainder    of an epoch: "keep" (each row once, the last batches smaller), "drop", "repeat" (all ranks have
                 as many rows, up to size - 1 come twice)
    features     of TFRecord files: {name: (dtype, shape)}, (dtype, None) for lists of any length, bytes for one string
                 a row; None: what the first record has
    threads      that read ahead; 0: 1, or 2 for records
    ahead_bytes  how much they may read ahead; 0: 64 MiB
    read         the files may change meanwhile: read, do not map
    verify       check the digests and checksums that the files come with
    """
    paths, index = _where(source, features)
    return Reader({"paths": [os.fspath(p) for p in paths], "index": index,
                   "columns": list(columns or ()), "batch": batch_size, "of_all": global_batch, "shuffle": bool(shuffle),
                   "block": block, "seed": seed, "remainder": remainder, "threads": threads,
                   "ahead_bytes": ahead_bytes, "read": read, "verify": verify,
                   "store": None if store is None else os.fspath(store)},
                  None if rank is None and size is None else (rank or 0, size or 1))


class Ragged:
    """Rows of any length: row i is values[splits[i]:splits[i + 1]], and self[i]; of a bytes column that is bytes."""

    def __init__(self, values, splits, string):
        self.values, self.splits, self.string = values, splits, string

    def __len__(self):
        return len(self.splits) - 1

    def __getitem__(self, i):
        i = range(len(self))[i]
        row = self.values[self.splits[i]:self.splits[i + 1]]
        return row.tobytes() if self.string else row

    @property
    def lengths(self):
        return self.splits[1:] - self.splits[:-1]


def _bfloat16():
    """NumPy's type for it, or None."""
    import numpy

    try:
        import ml_dtypes
    except ImportError:
        return None
    return numpy.dtype(ml_dtypes.bfloat16)


class Reader:
    """Batches, {column: array}. An iteration ends with the epoch; the next goes on with the next one. Arrays are the
    program's for as long as it holds them: nothing is copied, and buffers come back when they are collected."""

    def __init__(self, options, place=None, part=0, parts=1):
        if options["remainder"] not in _input.REMAINDERS:
            raise OvertakeError(f"remainder={options['remainder']!r}: {', '.join(_input.REMAINDERS)} are taken")
        self.options, self.fixed = options, place
        self.rank, self.size = place or _place() or (0, 1)
        self.epoch = self.taken = 0
        self._parts = part, parts
        if options["of_all"]:
            self.options = {**options, "batch": _rows_of_rank(options["of_all"], place)}
        self._open(part, parts)
        self._batch = _input.Batch(ctypes.sizeof(_input.Batch))

    def _open(self, part, parts):
        import numpy

        numbers = ("batch", "shuffle", "block", "seed", "threads", "ahead_bytes", "read", "verify")
        o = _input.Options(ctypes.sizeof(_input.Options), rank=self.rank, size=self.size, part=part,
                           parts=parts, index=_library.encode(self.options["index"]),
                           store=_library.encode(self.options["store"]),
                           remainder=_input.REMAINDERS.index(self.options["remainder"]),
                           **{n: self.options[n] for n in numbers})
        o.paths, o.n_paths = _input.strings(self.options["paths"])
        o.columns, o.n_columns = _input.strings(self.options["columns"])
        handle = ctypes.c_void_p()
        _input.call(_input.lib().overtake_input_open, ctypes.byref(o), ctypes.byref(handle))
        self._handle = handle
        self._close = weakref.finalize(self, _input.lib().overtake_input_close, handle)
        self.columns, self._layout, self._halves = {}, [], set()
        c = _input.Column(ctypes.sizeof(_input.Column))
        while _input.lib().overtake_input_column_at(handle, len(self.columns), ctypes.byref(c)) == 0:
            name, shape = c.name.decode(errors="surrogateescape"), tuple(c.dims[:c.ndim])
            dtype = _bfloat16() if c.descr == b"bfloat16" else numpy.dtype(c.descr.decode())
            if dtype is None:
                dtype = numpy.dtype("<u2")
                self._halves.add(name)
            if c.ragged:
                shape = (None,) if c.ndim else None
            self.columns[name] = (bytes, ()) if shape is None else (dtype, shape)
            self._layout.append((name, dtype, shape, c.offset, c.ragged, c.row_bytes // dtype.itemsize))

    def close(self):
        """Ends the threads; arrays that the program holds stay."""
        self._close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _alive(self):
        if not self._close.alive:
            raise OvertakeError("this reader was closed")

    def stats(self):
        """rows, bytes (of the data set), batches_read, rows_read, bytes_read, wait_ns: how long the program waited."""
        self._alive()
        s = _input.Stats(ctypes.sizeof(_input.Stats))
        _input.lib().overtake_input_stats_of(self._handle, ctypes.byref(s))
        return {n: getattr(s, n) for n, _ in s._fields_[1:]}

    @property
    def rows(self):
        return self.stats()["rows"]

    def __len__(self):
        """Batches of this rank in a whole epoch."""
        n, each = self.rows, self.options["batch"] * self.size
        left = n % each
        more = {"keep": left > 0 and (left > self.rank or self.options["batch"] > 1 and n >= self.size),
                "drop": False, "repeat": left > 0}
        return n // each + more[self.options["remainder"]]

    def state(self):
        """Where the job is: what `load` takes, on any rank of any number of ranks."""
        return {"epoch": self.epoch, "taken": self.taken}

    state_dict = state

    def _seek(self, epoch, taken, rank, size):
        self._alive()
        if self.options["of_all"]:
            batch = _rows_of_rank(self.options["of_all"], self.fixed)
            if batch != self.options["batch"]:
                self.options["batch"] = batch
                self.rank, self.size = rank, size
                self._close()
                self._open(*self._parts)
        _input.call(_input.lib().overtake_input_seek, self._handle, epoch, taken, rank, size)
        self.epoch, self.taken, self.rank, self.size = epoch, taken, rank, size

    def load(self, state):
        """Goes on from an earlier state(): after a restart, or on all ranks when a step is taken back. A reader is a value
        that overtake.elastic's states keep."""
        self._seek(state["epoch"], state["taken"], *(self.fixed or _place() or (self.rank, self.size)))

    load_state_dict = load

    def set_epoch(self, epoch):
        """The epoch from its begin."""
        self._seek(epoch, 0, self.rank, self.size)

    def deal(self, rank, size):
        """What is left of the epoch is dealt to `size` ranks, of which this is `rank`."""
        self.fixed = (rank, size)
        self._seek(self.epoch, self.taken, rank, size)

    def _follow(self):
        """Ranks have come or gone: what nobody has read is dealt anew."""
        now = None if self.fixed else _place()
        if now is not None and now != (self.rank, self.size):
            self._seek(self.epoch, self.taken, *now)

    def next(self):
        """The next batch; None when the epoch has ended."""
        for name in self._halves:
            raise OvertakeError(f"column '{name}' is bfloat16, which NumPy does not have: install ml_dtypes, use "
                                "torch_dataset(), or choose others with columns=")
        return self._next()

    def _next(self):
        self._alive()
        self._follow()
        lib, b = _input.lib(), self._batch
        # In steps, so that Ctrl-C is heard.
        while _input.call(lib.overtake_input_next, self._handle, 0.5, ctypes.byref(b)) == _input.TIMEOUT:
            pass
        self.epoch, self.taken = b.epoch, b.taken
        return None if not b.data else self._arrays(b.data, b.rows)

    def _arrays(self, data, rows):
        import numpy

        _, dtype, _, offset, ragged, count = self._layout[-1]
        size = ctypes.sizeof(_input.Ragged) + (rows + 1) * 8 if ragged else rows * count * dtype.itemsize
        block = (ctypes.c_uint8 * (offset + size)).from_address(data)
        weakref.finalize(block, _input.lib().overtake_input_release, data).atexit = False
        return {name: self._ragged(block, dtype, shape, offset, rows) if ragged else
                numpy.frombuffer(block, dtype, rows * count, offset).reshape((rows, *shape))
                for name, dtype, shape, offset, ragged, count in self._layout}

    @staticmethod
    def _ragged(block, dtype, shape, offset, rows):
        import numpy

        splits = numpy.frombuffer(block, numpy.int64, rows + 1, offset + ctypes.sizeof(_input.Ragged))
        n = int(splits[-1]) * dtype.itemsize
        if n == 0:
            return Ragged(numpy.empty(0, dtype), splits, shape is None)
        values = (ctypes.c_uint8 * n).from_address(_input.Ragged.from_buffer(block, offset).values)
        values.batch = block  # which they go with
        return Ragged(numpy.frombuffer(values, dtype), splits, shape is None)

    def __iter__(self):
        while (batch := self.next()) is not None:
            yield batch

    def tf_dataset(self):
        """A tf.data.Dataset of the batches of one epoch; iterated again, of the next."""
        from . import _tensorflow

        return _tensorflow.dataset(self)

    def torch_dataset(self):
        """A torch IterableDataset of batches of tensors: give it to a DataLoader with batch_size=None."""
        from . import _torch

        return _torch.Batches(self)
