"""Adasum against its formula, pair by pair, for 1, 2 and 4 ranks; refused for 3."""

import os

import numpy as np
import torch

import horovod.torch as hvd

hvd.init()
rank, size = hvd.rank(), hvd.size()


def pair(a, b):
    """Of the paper; a and b are never zero here."""
    common = float(np.dot(a, b))
    return a * (1 - common / (2 * np.dot(a, a))) + b * (1 - common / (2 * np.dot(b, b)))


def of(vectors):
    half = len(vectors) // 2
    return vectors[0] if half == 0 else pair(of(vectors[:half]), of(vectors[half:]))


if size == 3:
    try:
        hvd.allreduce(torch.ones(2), op=hvd.Adasum)
    except ValueError as why:
        print("refused:", why, flush=True)
    os._exit(0)
for n in (1, 2, 3, 101):
    vectors = [np.random.RandomState(100 * n + r).randn(n) for r in range(size)]
    mine = torch.from_numpy(vectors[rank].copy())
    assert np.allclose(hvd.allreduce(mine, op=hvd.Adasum, name="d").numpy(), of(vectors), rtol=1e-12)
    assert np.allclose(hvd.grouped_allreduce([mine.float(), mine], op=hvd.Adasum, name="g")[0].numpy(), of(vectors),
                       rtol=1e-5, atol=1e-6)
    assert np.allclose(hvd.allreduce_(mine, op=hvd.Adasum, name="in place").numpy(), of(vectors), rtol=1e-12)
    assert np.allclose(mine.numpy(), of(vectors), rtol=1e-12)
same = hvd.allreduce(torch.tensor([3.0, 4.0]), op=hvd.Adasum, name="same")
assert same.tolist() == [3.0, 4.0]  # parallel: the average
apart = torch.zeros(size)
apart[rank] = rank + 1.0
assert hvd.allreduce(apart, op=hvd.Adasum, name="apart").tolist() == [r + 1.0 for r in range(size)]  # orthogonal: the sum
assert hvd.allreduce(torch.zeros(3), op=hvd.Adasum, name="zeros").tolist() == [0.0] * 3

# An optimizer: each rank steps, the steps are put together.
start = np.arange(1.0, 5.0)
w = torch.nn.Parameter(torch.from_numpy(start.copy()))
optimizer = hvd.DistributedOptimizer(torch.optim.SGD([w], lr=0.5), named_parameters=[("w", w)], op=hvd.Adasum)
assert isinstance(optimizer, torch.optim.SGD)
gradients = [np.random.RandomState(r).randn(4) for r in range(size)]
for step in range(2):
    optimizer.zero_grad()
    (w * torch.from_numpy(gradients[rank])).sum().backward()
    optimizer.step()
    start = start + of([-0.5 * g for g in gradients])
    assert np.allclose(w.detach().numpy(), start, rtol=1e-12)
print("adasum", flush=True)
