"""Every collective of torch.distributed on one backend, on tensors that a seed makes; the results go to a
file that the test compares between backends.

    torch_collectives.py BACKEND OUT.npz"""

import sys

import numpy as np
import torch
import torch.distributed as dist

backend, out = sys.argv[1:3]
if backend == "overtake":
    import overtake.torch  # noqa: F401: registers the backend

dist.init_process_group(backend)
rank, size = dist.get_rank(), dist.get_world_size()
results = {}


def keep(name, *tensors):
    for i, t in enumerate(tensors):
        results[f"{name}.{i}"] = t.clone().numpy()


def make(count, dtype, salt=0):
    """The same on both backends, different on each rank."""
    g = torch.Generator().manual_seed(1000 * rank + 10 * count + salt)
    return torch.randint(0, 5, (count,), generator=g).to(dtype)


for dtype in (torch.float32, torch.float64, torch.float16, torch.int32, torch.int64, torch.uint8):
    for count in (1, 7, 1000, 70001):
        tag = f"{str(dtype)[6:]}.{count}"
        t = make(count, dtype)
        dist.all_reduce(t)
        keep(f"sum.{tag}", t)
        for op in ("MIN", "MAX", "PRODUCT"):
            t = make(count, dtype, 1)
            dist.all_reduce(t, getattr(dist.ReduceOp, op))
            keep(f"{op}.{tag}", t)
        t = make(count, dtype, 2)
        dist.broadcast(t, size - 1)
        keep(f"broadcast.{tag}", t)
        parts = [torch.empty(count, dtype=dtype) for _ in range(size)]
        dist.all_gather(parts, make(count, dtype, 3))
        keep(f"all_gather.{tag}", *parts)
        t = make(count, dtype, 4)
        dist.reduce(t, 0)
        if rank == 0:
            keep(f"reduce.{tag}", t)
        parts = [torch.empty(count, dtype=dtype) for _ in range(size)] if rank == 1 else None
        dist.gather(make(count, dtype, 5), parts, 1)
        keep(f"gather.{tag}", *(parts or []))
        t = torch.empty(count, dtype=dtype)
        dist.scatter(t, [make(count, dtype, 6 + i) for i in range(size)] if rank == 0 else None, 0)
        keep(f"scatter.{tag}", t)

pending = [make(100 + i, torch.float32, 20) for i in range(50)]
works = [dist.all_reduce(t, async_op=True) for t in pending]
for w in works:
    w.wait()
keep("async", *pending)
rows = [r + 1 for r in range(size)]
t, o = make(sum(rows), torch.float32, 30), torch.empty((rank + 1) * size)
dist.all_to_all_single(o, t, [rank + 1] * size, rows) if backend == "overtake" else None
every = [make(sum(rows), torch.float32, 30) for _ in range(size)]
dist.all_gather(every, t)
starts = np.cumsum([0] + rows)
expected = torch.cat([e[starts[rank]:starts[rank + 1]] for e in every])
keep("all_to_all", o if backend == "overtake" else expected)
objects = [None] * size
dist.all_gather_object(objects, {"rank": rank})
assert objects == [{"rank": r} for r in range(size)]
if backend == "overtake":  # Gloo has not got these, or does not survive nothing at all
    nothing = torch.empty(0)
    dist.all_reduce(nothing)
    dist.broadcast(nothing, 0)
    dist.all_gather([torch.empty(0) for _ in range(size)], nothing)
    whole = torch.empty(4 * size)
    dist.all_gather_into_tensor(whole, torch.full((4,), float(rank)))
    assert whole.tolist() == [float(r) for r in range(size) for _ in range(4)]
    part = torch.empty(3)
    dist.reduce_scatter_tensor(part, torch.arange(3.0 * size))
    assert part.tolist() == [size * (3.0 * rank + i) for i in range(3)]
right, left = (rank + 1) % size, (rank - 1) % size
mine, theirs, wide = make(5000, torch.float32, 50), torch.empty(5000), torch.zeros(2, 3).t()
wide = wide if backend == "overtake" else wide.contiguous()
ops = [dist.P2POp(dist.isend, mine, right), dist.P2POp(dist.irecv, theirs, left)]
for w in dist.batch_isend_irecv(ops[::-1] if rank == 1 else ops):  # who asks in another order doesn't wait for ever
    w.wait()
keep("ring", theirs)
if rank == 0:  # tags in another order than they are taken, and into what isn't contiguous
    works = [dist.isend(make(6, torch.float32, 60 + tag), 2, tag=tag) for tag in (1, 2)]
    for w in works:
        w.wait()
elif rank == 2:
    for tag in (2, 1):
        t = wide if tag == 2 else torch.empty(6)
        dist.recv(t, 0, tag=tag)
        keep(f"tag {tag}", t.contiguous())
first, others = dist.new_group([0, 2]), dist.new_group([1, 2])
for name, ranks, group in (("first", (0, 2), first), ("others", (1, 2), others)):
    if rank in ranks:
        t = make(30, torch.float32, 40)
        dist.all_reduce(t, group=group)
        keep(name, t)
        if rank == 2:
            dist.send(t * 2, ranks[0], group=group)
        else:
            dist.recv(t, 2, group=group)
        keep(f"{name} pair", t)
dist.barrier()
np.savez(f"{out}.{rank}.npz", **results)
dist.destroy_process_group()
