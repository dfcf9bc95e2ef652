"""Functional collectives by the group's name, tensors of DTensor, tensor-parallel layers, and a pipeline of two stages;
each against one process. On 2 ranks, PyTorch 2.5 or newer."""

import warnings

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import overtake.torch  # noqa: F401: the backend

warnings.simplefilter("ignore")  # newer versions have other names for the same
dist.init_process_group("overtake")
rank, world = dist.get_rank(), dist.group.WORLD
mesh = init_device_mesh("cpu", (2,))


def eq(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


x = torch.arange(4.0) + rank
eq(functional.all_reduce(x, "sum", world) * 1, torch.tensor([1.0, 3, 5, 7]))
eq(functional.all_reduce(x, "avg", world) * 1, torch.tensor([0.5, 1.5, 2.5, 3.5]))
eq(functional.all_gather_tensor(x, 0, world) * 1, torch.tensor([0.0, 1, 2, 3, 1, 2, 3, 4]))
eq(functional.reduce_scatter_tensor(x, "sum", 0, world) * 1, torch.tensor([1.0, 3, 5, 7]).chunk(2)[rank])
eq(functional.all_to_all_single(x, None, None, world) * 1, torch.tensor([0.0, 1, 1, 2] if rank == 0 else [2.0, 3, 3, 4]))
eq(functional.all_to_all_single(x, [1, 2] if rank == 0 else [3, 2], [1, 3] if rank == 0 else [2, 2], world) * 1,
   torch.tensor([0.0, 1, 2] if rank == 0 else [1.0, 2, 3, 3, 4]))
eq(functional.wait_tensor(functional.broadcast(x, 1, world)), torch.arange(4.0) + 1)
pair = [x, 10 * x.reshape(2, 2)]
for one, factor, shape in zip(functional.all_reduce_coalesced(pair, "sum", world), (1, 10), ((4,), (2, 2))):
    eq(one * 1, factor * torch.tensor([1.0, 3, 5, 7]).reshape(shape))
for one, factor in zip(functional.all_gather_into_tensor_coalesced(pair, world), (1, 10)):
    eq(one.reshape(-1) * 1, factor * torch.tensor([0.0, 1, 2, 3, 1, 2, 3, 4]))
for one, factor in zip(functional.reduce_scatter_tensor_coalesced(pair, "sum", [0, 0], world), (1, 10)):
    eq(one.reshape(-1) * 1, factor * torch.tensor([1.0, 3, 5, 7]).chunk(2)[rank])
print("functional", flush=True)

whole = torch.arange(24.0).reshape(4, 6)
rows = distribute_tensor(whole, mesh, [Shard(0)])
eq(rows.to_local(), whole.chunk(2)[rank])
eq(rows.redistribute(placements=[Replicate()]).to_local(), whole)
eq(rows.redistribute(placements=[Shard(1)]).to_local(), whole.chunk(2, 1)[rank])
eq(rows.sum().full_tensor(), whole.sum())
eq((rows @ distribute_tensor(whole.t(), mesh, [Replicate()])).full_tensor(), whole @ whole.t())
print("tensors", flush=True)


def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))


def train(model, steps=4):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(steps):
        optimizer.zero_grad()
        model(batch(step)).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def batch(step):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(step))


one = train(net())
split = parallelize_module(net(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
for p, expected in zip(train(split), one):
    eq(p.full_tensor() if hasattr(p, "full_tensor") else p, expected)
print("parallel", flush=True)

parts = net()
stage = PipelineStage(parts[:2] if rank == 0 else parts[2:], rank, 2, torch.device("cpu"))
optimizer = torch.optim.SGD(stage.submod.parameters(), lr=0.1, momentum=0.9)
schedule = Schedule1F1B(stage, n_microbatches=4, loss_fn=lambda out, _: out.square().mean())
for step in range(4):
    optimizer.zero_grad()
    if rank == 0:
        schedule.step(batch(step))
    else:
        schedule.step(target=torch.zeros(8))
    optimizer.step()
for p, expected in zip(stage.submod.parameters(), one[:2] if rank == 0 else one[2:]):
    eq(p.detach(), expected)
print("pipeline", flush=True)
dist.barrier()
dist.destroy_process_group()
