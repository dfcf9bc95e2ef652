"""A training program on many ranks, in the style of Horovod:

    overtake run -np 4 -- python train.py digits.npz [OUT.npz]

Each rank takes every n-th row of each batch; gradients are averaged over the ranks while the backward
pass goes on. Run alone, it trains the same model on the whole batches."""

import sys

import numpy as np
import torch

import overtake.torch as ot

ROWS, STEPS = 240, 60  # divisible by 1 to 6 ranks

ot.init()
torch.manual_seed(7)
torch.set_default_dtype(torch.float64)  # equal to one process up to the order of sums
data = np.load(sys.argv[1])
x, y = torch.from_numpy(data["x"]).double().reshape(len(data["x"]), -1), torch.from_numpy(data["y"])

model = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
ot.broadcast_parameters(model.state_dict(), root_rank=0)
optimizer = ot.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
ot.broadcast_optimizer_state(optimizer, root_rank=0)

order = np.random.default_rng(1)
for step in range(STEPS):
    rows = torch.from_numpy(order.choice(len(x), ROWS, replace=False)[ot.rank()::ot.size()])
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
    loss.backward()
    optimizer.step()

accuracy = float((model(x).argmax(1) == y).double().mean())
mean_loss = float(ot.allreduce(loss.detach(), name="loss"))
if ot.rank() == 0:
    print(f"{ot.size()} ranks: loss {mean_loss:.4f}, accuracy {accuracy:.4f}", flush=True)
    if len(sys.argv) > 2:
        np.savez(sys.argv[2], **{n: p.detach().numpy() for n, p in model.named_parameters()})
ot.shutdown()
