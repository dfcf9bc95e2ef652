"""The process group behind `torch.distributed.init_process_group("overtake")`.

Its operations have no names: a process group asks in the same order on all ranks, and so they need no
negotiation. Futures are completed by one thread a group, in order.
"""

import collections
import datetime
import inspect
import itertools
import os
import queue
import secrets
import socket
import threading

import torch
import torch.distributed as dist

from .. import collective
from ..collective import CollectiveError
from . import operations

_REDUCTIONS = {"SUM": collective.SUM, "AVG": collective.AVERAGE, "PRODUCT": collective.PRODUCT,
               "MIN": collective.MIN, "MAX": collective.MAX}
_worlds = itertools.count()  # sets the pairs of one that is made anew apart
_Work = getattr(dist, "_Work", None) or dist.Work


def _reduction(op):
    for name, ours in _REDUCTIONS.items():
        if op == getattr(dist.ReduceOp, name, None):
            return ours
    raise CollectiveError(f"reduction {op} is not backed; accepted: {', '.join(_REDUCTIONS)}", -12)


class _Done(_Work):
    """Several operations that end as one; `finish` then gives the tensors of the result."""

    def __init__(self, group, pending, finish, limit_s):
        super().__init__()
        self.group, self.pending, self.finish, self.limit_s = group, pending, finish, limit_s
        self.lock = threading.Lock()
        self.value = self.error = self.future = None

    def wait(self, timeout=None):
        with self.lock:
            if self.finish is not None:
                seconds = timeout.total_seconds() if timeout else 0
                try:
                    for p in self.pending:
                        p.wait(seconds if seconds > 0 else self.limit_s)
                    self.value = self.finish()
                except CollectiveError as why:
                    if why.code == collective.TIMEOUT:
                        raise
                    self.error = why
                self.finish, self.pending = None, ()
                self.group._running.discard(self)
        if self.error is not None:
            raise self.error
        return True

    def is_completed(self):
        return self.finish is None or all(p.poll() for p in self.pending)

    def is_success(self):
        return self.finish is None and self.error is None

    def result(self):
        self.wait()
        return self.value

    def exception(self):
        return self.error

    def synchronize(self):
        self.wait()

    def get_future(self):
        if self.future is None:
            self.future = torch.futures.Future()
            self.group._complete_later(self)
        return self.future


class _Devices(list):
    """PyTorch 2 looks for the CPU here before a monitored barrier. False, because its flight recorder attaches
    itself to a group that has devices, and then asks for a name that a group in Python has not got."""

    def __bool__(self):
        return False


class OvertakeProcessGroup(dist.ProcessGroup):
    def __init__(self, rank, size, group, timeout, ranks, tag):
        super().__init__(rank, size)
        self._rank, self._size, self._group = rank, size, group
        self._ranks, self._tag, self._pairs = ranks, tag, {}
        self._limit_s = timeout.total_seconds() if timeout else 0.0
        self._queue = queue.SimpleQueue()
        self._thread = None
        # PyTorch's own code holds a work by its C++ half, which does not keep this half alive.
        self._running, self._ended = set(), collections.deque(maxlen=1024)

    @property
    def group_name(self):
        """Which name PyTorch has given to the group: device meshes go by it."""
        return dist.distributed_c10d._world.pg_names[self]

    def getBackendName(self):
        return "overtake"

    def name(self):
        return "overtake"

    def size(self):
        return self._size

    def rank(self):
        return self._rank

    _device_types = _Devices([torch.device("cpu")])
    supports_coalescing = False  # of several as one: what starts at once travels together anyway

    def _get_backend(self, device):
        return self

    def _complete_later(self, work):
        if self._thread is None:
            self._thread = threading.Thread(target=self._complete, daemon=True, name="overtake-futures")
            self._thread.start()
        self._queue.put(work)

    def _complete(self):
        while True:
            work = self._queue.get()
            try:
                work.wait()
                work.future.set_result(work.value)
            except Exception as why:  # whatever it is, who waits for the future must hear of it
                work.future.set_exception(why)

    def _run(self, requests, finish, finishes=None):
        pending = operations.start(requests, finishes or [lambda _: None] * len(requests))
        work = _Done(self, pending, finish, self._limit_s)
        self._running.add(work)
        self._ended.append(work)
        return work

    def _in_place(self, kind, tensors, **options):
        pairs = [operations._same_shape(kind, t, True, None, group=self._group, **options)
                 for t in tensors]
        return self._run([r for r, _ in pairs], lambda: list(tensors), [f for _, f in pairs])

    def allreduce(self, tensors, opts=None):
        op = dist.ReduceOp.SUM if opts is None else getattr(opts, "reduceOp", opts)
        return self._in_place(collective.ALLREDUCE, tensors, reduction=_reduction(op))

    def allreduce_coalesced(self, tensors, opts=None):
        return self.allreduce(tensors, opts)

    def broadcast(self, tensors, opts=None):
        root = opts if isinstance(opts, int) else getattr(opts, "rootRank", 0)
        return self._in_place(collective.BROADCAST, tensors, root=root)

    def reduce(self, tensors, opts):
        """Where other ranks keep what they had: an allreduce into a copy, taken by the root."""
        copies = [t.clone() for t in tensors]
        work = self._in_place(collective.ALLREDUCE, copies, reduction=_reduction(opts.reduceOp))

        def finish():
            if self._rank == opts.rootRank:
                for t, c in zip(tensors, copies):
                    t.copy_(c)
            return list(tensors)

        work.finish = finish
        return work

    def _gather(self, tensor, out):
        return operations.request(collective.ALLGATHER, tensor.reshape(-1), out, group=self._group)

    def _into(self, outputs, request):
        """Requests, by output, into the outputs themselves where they are whole."""
        outs = [o if o.is_contiguous() else torch.empty(o.shape, dtype=o.dtype) for o in outputs]

        def finish():
            for output, out in zip(outputs, outs):
                if out is not output:
                    output.copy_(out)
            return list(outputs)

        return self._run([request(i, out) for i, out in enumerate(outs)], finish)

    def allgather_into_tensor_coalesced(self, outputs, inputs, opts=None):
        return self._into(outputs, lambda i, out: self._gather(inputs[i], out))

    def _allgather_base(self, output, input, opts=None):
        return self.allgather_into_tensor_coalesced([output], [input])

    all_gather_into_tensor = all_gather_single = _allgather_base  # as versions of PyTorch call it
    all_gather_single_coalesced = allgather_into_tensor_coalesced

    def allgather(self, outputs, inputs, opts=None):
        outs = [torch.empty(self._size * t.numel(), dtype=t.dtype) for t in inputs]

        def finish():
            for lists, out in zip(outputs, outs):
                for tensor, part in zip(lists, out.chunk(self._size) if out.numel() else lists):
                    tensor.copy_(part.reshape(tensor.shape))
            return [t for lists in outputs for t in lists]

        return self._run([self._gather(t, o) for t, o in zip(inputs, outs)], finish)

    def gather(self, outputs, inputs, opts):
        lists = outputs if self._rank == opts.rootRank else [
            [torch.empty_like(t) for _ in range(self._size)] for t in inputs]
        return self.allgather(lists, inputs)

    def reduce_scatter_tensor_coalesced(self, outputs, inputs, opts=None):
        op = _reduction(dist.ReduceOp.SUM if opts is None else opts.reduceOp)
        return self._into(outputs, lambda i, out: operations.request(
            collective.REDUCESCATTER, inputs[i].reshape(-1), out, group=self._group, reduction=op))

    def _reduce_scatter_base(self, output, input, opts=None):
        return self.reduce_scatter_tensor_coalesced([output], [input], opts)

    reduce_scatter_tensor = reduce_scatter_single = _reduce_scatter_base
    reduce_scatter_single_coalesced = reduce_scatter_tensor_coalesced

    def reduce_scatter(self, outputs, inputs, opts=None):
        op = dist.ReduceOp.SUM if opts is None else opts.reduceOp
        requests = []
        for output, parts in zip(outputs, inputs):
            whole = torch.cat([p.reshape(-1) for p in parts])
            requests.append(operations.request(
                collective.REDUCESCATTER, whole, output, group=self._group, reduction=_reduction(op),
                splits=[p.numel() for p in parts]))
        return self._run(requests, lambda: list(outputs))

    def alltoall_base(self, output, input, output_splits, input_splits, opts=None):
        rows = list(input_splits) or [input.shape[0] // self._size] * self._size
        return self._run([operations.request(collective.ALLTOALL, input, output, group=self._group,
                                             splits=rows)], lambda: [output])

    all_to_all_single = alltoall_base

    def alltoall(self, outputs, inputs, opts=None):
        whole = torch.cat([t.reshape(-1) for t in inputs])
        out = torch.empty(sum(t.numel() for t in outputs), dtype=whole.dtype)

        def finish():
            for tensor, part in zip(outputs, out.split([t.numel() for t in outputs])):
                tensor.copy_(part.reshape(tensor.shape))
            return list(outputs)

        return self._run([operations.request(collective.ALLTOALL, whole, out, group=self._group,
                                             splits=[t.numel() for t in inputs])], finish)

    def scatter(self, outputs, inputs, opts):
        """The root's parts, by an alltoall in which the others send nothing."""
        output = outputs[0]
        if self._rank == opts.rootRank:
            whole = torch.cat([t.reshape(-1) for t in inputs[0]])
            splits = [t.numel() for t in inputs[0]]
        else:
            whole, splits = torch.empty(0, dtype=output.dtype), [0] * self._size
        return self._run([operations.request(collective.ALLTOALL, whole, output, group=self._group,
                                             splits=splits)], lambda: list(outputs))

    def barrier(self, opts=None):
        return self._run([collective.Request(collective.BARRIER, group=self._group)], list)

    def monitored_barrier(self, timeout=None, wait_all_ranks=False):
        """Raises on every rank and names who is missing."""
        seconds = timeout.total_seconds() if timeout else self._limit_s
        self.barrier().wait(datetime.timedelta(seconds=seconds) if seconds > 0 else None)

    def _pair(self, tensors, source, to, tag):
        """A broadcast in a group of the two, one for each direction and tag: who sends and receives at once may ask in any
        order."""
        key = f"{self._tag}.{source}.{to}.{tag}"
        pair = sorted((source, to))
        if key not in self._pairs:
            self._pairs[key] = collective.group_open(key, [self._ranks[r] for r in pair])
        flat = [operations.host_tensor(t, None).reshape(-1) for t in tensors]

        def finish():
            for tensor, f in zip(tensors, flat):
                if self._rank == to and f.data_ptr() != tensor.data_ptr():
                    tensor.copy_(f.reshape(tensor.shape))
            return list(tensors)

        return self._run([operations.request(collective.BROADCAST, f, f, group=self._pairs[key],
                                             root=pair.index(source)) for f in flat], finish)

    def send(self, tensors, dst, tag=0):
        return self._pair(tensors, self._rank, dst, tag)

    def recv(self, tensors, src, tag=0):
        return self._pair(tensors, src, self._rank, tag)

    def recv_anysource(self, tensors, tag=0):
        raise CollectiveError("recv from any rank is not backed by the process group 'overtake'; give its src", -12)


def _meet(store, rank, size):
    """Where no launcher has said where to meet, rank 0 says it in PyTorch's store."""
    if rank == 0:
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = probe.getsockname()[1]
        host = os.environ.get("MASTER_ADDR") or socket.gethostname()
        store.set("overtake", f"{host}:{port} {secrets.token_hex(32)}")
    address, key = store.get("overtake").decode().split()
    collective.init(rank, size, address, key)


def _create(store, rank, size, timeout):
    """Called by init_process_group and new_group, on the members of the group."""
    if not collective.is_initialized():
        if "OVERTAKE_RENDEZVOUS" in os.environ:
            collective.init()
        else:
            _meet(store, rank, size)
    world = collective.where()
    if (rank, size) == (world.rank, world.size):
        return OvertakeProcessGroup(rank, size, collective.WORLD, timeout, range(size), f"world.{next(_worlds)}")
    store.set(f"overtake.{rank}", str(world.rank))
    ranks = [int(store.get(f"overtake.{r}")) for r in range(size)]
    if rank == 0:
        store.set("overtake.tag", secrets.token_hex(8))
    if ranks != sorted(ranks):
        raise CollectiveError(f"a group of ranks {ranks}: they must ascend", -3)
    tag = store.get("overtake.tag").decode()
    return OvertakeProcessGroup(rank, size, collective.group_open(tag, ranks), timeout, ranks, tag)


if not hasattr(dist.Backend, "OVERTAKE"):
    # PyTorch 2 asks for which devices; 1.13 has no such argument.
    _devices = {"devices": ["cpu"]} if "devices" in inspect.signature(dist.Backend.register_backend).parameters else {}
    dist.Backend.register_backend("overtake", _create, **_devices)
