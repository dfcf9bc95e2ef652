"""A training program that reads its rows by overtake.data and goes on from its checkpoint:

    overtake run -np 2 --explain -- python train_data.py digits.npz [STEPS [OUT.npz]]

A batch is the same rows whatever the number of ranks, of which each reads its part, ahead of the program. Where the
readers are goes into the checkpoint (in the folder OVERTAKE_CHECKPOINTS, if it is set), so that a run that was ended in
the middle of an epoch goes on there, also with another number of ranks."""

import os
import sys
import tempfile

import numpy as np
import torch

import overtake
import overtake.data
import overtake.torch as ot

ROWS = 240  # of all ranks; divisible by 1 to 6
steps = int(sys.argv[2]) if len(sys.argv) > 2 else 60

ot.init()
torch.manual_seed(7)
torch.set_default_dtype(torch.float64)  # equal to one process up to the order of sums
reader = overtake.data.open(sys.argv[1], batch_size=ROWS // ot.size(), seed=1, remainder="drop")
loader = torch.utils.data.DataLoader(reader.torch_dataset(), batch_size=None)

model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
optimizer = ot.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())


def keep(step):
    if ot.rank() == 0 and "OVERTAKE_CHECKPOINTS" in os.environ:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "reader": reader.state()}
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, f"{folder}/state.pt")
            overtake.checkpoint(f"{folder}/state.pt", step)


step = 0
if saved := overtake.latest_checkpoint():
    state = torch.load(saved.path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    reader.load(state["reader"])
    step = saved.step
ot.broadcast_parameters(model.state_dict(), root_rank=0)
ot.broadcast_optimizer_state(optimizer, root_rank=0)

while step < steps:
    for batch in loader:  # what is left of the epoch
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(batch["x"].double()), batch["y"])
        loss.backward()
        optimizer.step()
        step += 1
        if step % 20 == 0 or step == steps:
            keep(step)
        if step == steps:
            break

mean_loss = float(ot.allreduce(loss.detach(), name="loss"))
if ot.rank() == 0:
    print(f"{ot.size()} ranks: epoch {reader.epoch}, {reader.taken} rows of it; loss {mean_loss:.4f}", flush=True)
    if len(sys.argv) > 3:
        np.savez(sys.argv[3], **{n: p.detach().numpy() for n, p in model.named_parameters()})
reader.close()
ot.shutdown()
