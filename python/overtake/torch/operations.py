"""Collective operations on tensors. The `_` forms work in place; the `async` forms return a handle for
`synchronize`, which returns the result. Names are optional: tensors without one run in the order of
asking, which must be the same on all ranks."""

import io

import torch

from .. import _residuals, collective
from ..adasum import ADASUM
from ..collective import AVERAGE, CollectiveError, Request, SUM, WORLD

_DTYPES = {torch.bool: "bool", torch.uint8: "uint8", torch.int8: "int8", torch.int16: "int16",
           torch.int32: "int32", torch.int64: "int64", torch.float16: "float16",
           torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float64: "float64"}


def _on_host(tensor, name):
    if tensor.device.type != "cpu":
        raise CollectiveError(f"{name or 'tensor'} is on device {tensor.device}; only tensors in the "
                              "memory of the host are taken: call .cpu() first", -12)


def host_tensor(tensor, name):
    """The tensor itself if its memory can be handed over, else a contiguous copy."""
    _on_host(tensor, name)
    if tensor.layout != torch.strided:
        raise CollectiveError(f"{name or 'tensor'} has layout {tensor.layout}: use sparse_allreduce, or "
                              "to_dense() first", -12)
    if tensor.dtype not in _DTYPES:
        raise CollectiveError(f"{name or 'tensor'} has type {tensor.dtype}; accepted: "
                              f"{', '.join(str(d) for d in _DTYPES)}", -12)
    return tensor.detach().contiguous()


class Pending:
    """An operation in flight and what its result becomes."""

    def __init__(self, handle, finish):
        self.handle, self.finish, self.value = handle, finish, None

    def poll(self):
        return self.finish is None or self.handle.done()

    def wait(self, timeout=0.0):
        if self.finish is not None:
            result = self.handle.wait(timeout)
            self.value, self.finish = self.finish(result), None
        return self.value


def request(kind, tensor, out=None, name=None, **options):
    t = host_tensor(tensor, name)
    if out is not None:
        _on_host(out, name)
    return Request(kind, t.shape, _DTYPES[t.dtype], t.data_ptr(),
                   0 if out is None else out.data_ptr(), name=name, keep=(t, out),
                   out_bytes=0 if out is None else out.numel() * out.element_size(), **options)


def start(requests, finishes):
    return [Pending(h, f) for h, f in zip(collective.start(requests), finishes)]


def _same_shape(kind, tensor, in_place, name, **options):
    """Request and finish of an operation whose output has the shape of its input."""
    t = host_tensor(tensor, name)
    direct = in_place and t.data_ptr() == tensor.data_ptr()
    out = t if direct else torch.empty_like(t)

    def finish(_):
        if in_place and not direct:
            with torch.no_grad():
                tensor.copy_(out)
        return tensor if in_place else out

    return request(kind, t, out, name, **options), finish


def _made(tensor):
    dtype, itemsize = tensor.dtype, tensor.element_size()

    def finish(result):
        dims = list(result.dims[:result.ndim])
        view = collective.made(result, itemsize)
        return torch.frombuffer(view, dtype=dtype).reshape(dims) if len(view) else torch.empty(
            dims, dtype=dtype)

    return finish


def allreduce_async(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0,
                    group=WORLD):
    return grouped_allreduce_async([tensor], average, name and [name], op, prescale_factor,
                                   postscale_factor, group)[0]


def allreduce_async_(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0,
                     group=WORLD):
    return grouped_allreduce_async_([tensor], average, name and [name], op, prescale_factor,
                                    postscale_factor, group)[0]


def _grouped(tensors, in_place, average, names, op, prescale, postscale, group):
    names = names or [None] * len(tensors)
    if isinstance(names, str):
        names = [f"{names}.{i}" for i in range(len(tensors))]
    if op == ADASUM:
        from .adasum import Adasum
        return [Adasum(t, n, prescale, postscale, group, in_place) for t, n in zip(tensors, names)]
    made = [_same_shape(collective.ALLREDUCE, t, in_place, n, reduction=collective.reduction_of(average, op),
                        prescale=prescale, postscale=postscale, group=group)
            for t, n in zip(tensors, names)]
    return start(*zip(*made)) if made else []


def grouped_allreduce_async(tensors, average=None, name=None, op=None, prescale_factor=1.0,
                            postscale_factor=1.0, group=WORLD):
    return _grouped(tensors, False, average, name, op, prescale_factor, postscale_factor, group)


def grouped_allreduce_async_(tensors, average=None, name=None, op=None, prescale_factor=1.0,
                             postscale_factor=1.0, group=WORLD):
    return _grouped(tensors, True, average, name, op, prescale_factor, postscale_factor, group)


class _Again:
    """A sum in place that comes again and again: what stays the same of its request is made once."""

    def __init__(self, tensor, request):
        self.like, self.request = (tensor.dtype, tensor.shape), request

    def fits(self, tensor):
        return (tensor.dtype, tensor.shape) == self.like and tensor.is_cpu and tensor.is_contiguous()

    def start(self, tensor):
        self.request.raw.input = self.request.raw.output = tensor.data_ptr()
        return Pending(collective.start([self.request])[0], lambda _: tensor)  # which keeps its memory


def again(tensor, name, op, prescale_factor, postscale_factor, group):
    """For tensors like this one; None: each needs a request of its own."""
    if op == ADASUM or not (tensor.is_cpu and tensor.layout == torch.strided and tensor.is_contiguous()):
        return None
    made = request(collective.ALLREDUCE, tensor, tensor, name, reduction=collective.reduction_of(None, op),
                   prescale=prescale_factor, postscale=postscale_factor, group=group)
    made.keep = None
    return _Again(tensor, made)


class _Allreduce(torch.autograd.Function):
    """The gradient of a sum over ranks is the sum of the gradients."""

    @staticmethod
    def forward(ctx, tensor, options):
        ctx.options = options
        return synchronize(allreduce_async(tensor, **options))

    @staticmethod
    def backward(ctx, gradient):
        options = dict(ctx.options)
        options["name"] = options["name"] and options["name"] + ".gradient"
        return synchronize(allreduce_async(gradient, **options)), None


def allreduce(tensor, average=None, name=None, op=None, prescale_factor=1.0, postscale_factor=1.0,
              group=WORLD):
    """The reduction over the ranks (the average unless `op` says otherwise); differentiable."""
    return _Allreduce.apply(tensor, {"average": average, "name": name, "op": op,
                                     "prescale_factor": prescale_factor,
                                     "postscale_factor": postscale_factor, "group": group})


def allreduce_(tensor, *args, **options):
    return synchronize(allreduce_async_(tensor, *args, **options))


def grouped_allreduce(tensors, *args, **options):
    return [synchronize(p) for p in grouped_allreduce_async(tensors, *args, **options)]


def grouped_allreduce_(tensors, *args, **options):
    return [synchronize(p) for p in grouped_allreduce_async_(tensors, *args, **options)]


def broadcast_async(tensor, root_rank, name=None, group=WORLD):
    r, f = _same_shape(collective.BROADCAST, tensor, False, name, root=root_rank, group=group)
    return start([r], [f])[0]


def broadcast_async_(tensor, root_rank, name=None, group=WORLD):
    r, f = _same_shape(collective.BROADCAST, tensor, True, name, root=root_rank, group=group)
    return start([r], [f])[0]


def broadcast(tensor, root_rank, name=None, group=WORLD):
    return synchronize(broadcast_async(tensor, root_rank, name, group))


def broadcast_(tensor, root_rank, name=None, group=WORLD):
    return synchronize(broadcast_async_(tensor, root_rank, name, group))


def allgather_async(tensor, name=None, group=WORLD):
    return start([request(collective.ALLGATHER, tensor, name=name, group=group)], [_made(tensor)])[0]


def allgather(tensor, name=None, group=WORLD):
    """The ranks' rows, one behind the other; how many rows may differ."""
    return synchronize(allgather_async(tensor, name, group))


def alltoall_async(tensor, splits=None, name=None, group=WORLD):
    """Rows splits[r] go to rank r. With splits the result is (rows, how many came from each rank)."""
    finish = _made(tensor)

    def with_splits(result):
        received = torch.tensor(result.splits[:collective.size(group)], dtype=torch.int64)
        return finish(result), received

    splits = splits.tolist() if isinstance(splits, torch.Tensor) else splits
    return start([request(collective.ALLTOALL, tensor, name=name, group=group, splits=splits)],
                 [finish if splits is None else with_splits])[0]


def alltoall(tensor, splits=None, name=None, group=WORLD):
    return synchronize(alltoall_async(tensor, splits, name, group))


def reducescatter_async(tensor, name=None, op=AVERAGE, group=WORLD):
    return start([request(collective.REDUCESCATTER, tensor, name=name, group=group, reduction=op)],
                 [_made(tensor)])[0]


def reducescatter(tensor, name=None, op=AVERAGE, group=WORLD):
    return synchronize(reducescatter_async(tensor, name, op, group))


class _SparseSum:
    """Indices and values on their way from all ranks, summed where they meet."""

    def __init__(self, indices, values, shape, divisor):
        self.parts, self.shape, self.divisor = (indices, values), shape, divisor

    def poll(self):
        return all(p.poll() for p in self.parts)

    def wait(self, timeout=0.0):
        indices, values = (p.wait(timeout) for p in self.parts)
        values = values if self.divisor == 1 else values / self.divisor  # a sum of integers stays one
        return torch.sparse_coo_tensor(indices.t(), values, self.shape).coalesce()


def sparse_allreduce_async(tensor, name=None, op=AVERAGE, group=WORLD):
    """A sparse COO tensor, summed or averaged."""
    if op not in (AVERAGE, SUM):
        raise CollectiveError(f"{name or 'tensor'}: a sparse tensor is summed or averaged", -12)
    tensor = tensor.coalesce()
    return _SparseSum(allgather_async(tensor.indices().t().contiguous(), name and name + ".indices", group),
                      allgather_async(tensor.values(), name and name + ".values", group), tensor.shape,
                      collective.size(group) if op == AVERAGE else 1)


def sparse_allreduce(tensor, name=None, op=AVERAGE, group=WORLD):
    return synchronize(sparse_allreduce_async(tensor, name, op, group))


def poll(pending):
    return pending.poll()


def synchronize(pending, timeout=0.0):
    return pending.wait(timeout)


def broadcast_parameters(params, root_rank=0, group=WORLD):
    """In place: a state dict, or (name, tensor) pairs."""
    items = sorted(params.items()) if isinstance(params, dict) else list(params)
    pending = [broadcast_async_(p, root_rank, f"parameters.{n}", group)
               for n, p in items if isinstance(p, torch.Tensor)]
    for p in pending:
        synchronize(p)


def _dump(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _load(tensor):
    return torch.load(io.BytesIO(tensor.numpy().tobytes()))


def broadcast_object(obj, root_rank=0, name="object", group=WORLD):
    """Any object that torch.save takes; the ranks of a job trust each other."""
    data = _dump(obj) if collective.rank(group) == root_rank else torch.empty(0, dtype=torch.uint8)
    length = broadcast(torch.tensor([data.numel()]), root_rank, f"{name}.length", group)
    if collective.rank(group) != root_rank:
        data = torch.empty(int(length), dtype=torch.uint8)
    return _load(broadcast_(data, root_rank, f"{name}.data", group))


def allgather_object(obj, name="object", group=WORLD):
    data = _dump(obj)
    lengths = allgather(torch.tensor([data.numel()]), f"{name}.lengths", group).tolist()
    return [_load(part) for part in allgather(data, f"{name}.parts", group).split(lengths)]


def broadcast_optimizer_state(optimizer, root_rank=0, group=WORLD):
    """The root's state and hyper-parameters for all; but what it has not sent yet (--wire auto) is its own."""
    root = collective.rank(group) == root_rank
    state = optimizer.state_dict() if root else None
    if root and _residuals.KEY in state:
        state[_residuals.KEY]["kept"] = torch.empty(0, dtype=torch.uint8)
    state = broadcast_object(state, root_rank, "optimizer_state", group)
    if not root:
        optimizer.load_state_dict(state)
