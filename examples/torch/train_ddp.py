"""A training program for DistributedDataParallel; the backend is all that names Overtake:

    overtake run -np 4 -- python train_ddp.py digits.npz [OUT.npz] [BACKEND]"""

import sys

import numpy as np
import torch
import torch.distributed as dist

import overtake.torch  # registers the backend

ROWS, STEPS = 240, 60

dist.init_process_group(sys.argv[3] if len(sys.argv) > 3 else "overtake")
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
data = np.load(sys.argv[1])
x, y = torch.from_numpy(data["x"]).double().reshape(len(data["x"]), -1), torch.from_numpy(data["y"])

model = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
ddp = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.2, momentum=0.9)

order = np.random.default_rng(1)
for step in range(STEPS):
    rows = torch.from_numpy(order.choice(len(x), ROWS, replace=False)[rank::size])
    optimizer.zero_grad()
    half = len(rows) // 2
    with ddp.no_sync():  # the gradient of the first half waits for that of the second
        (torch.nn.functional.cross_entropy(ddp(x[rows[:half]]), y[rows[:half]]) / 2).backward()
    loss = torch.nn.functional.cross_entropy(ddp(x[rows[half:]]), y[rows[half:]]) / 2
    loss.backward()
    optimizer.step()

accuracy = float((model(x).argmax(1) == y).double().mean())
if rank == 0:
    print(f"{size} ranks: accuracy {accuracy:.4f}", flush=True)
    if len(sys.argv) > 2:
        np.savez(sys.argv[2], **{n: p.detach().numpy() for n, p in model.named_parameters()})
dist.barrier()
dist.destroy_process_group()
