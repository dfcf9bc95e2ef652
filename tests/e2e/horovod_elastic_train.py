"""An elastic training program in Horovod's style, written for this tree: nothing in it knows Overtake, but for the rank
that kills itself once in the middle of an epoch.

    horovodrun -np 3 --min-np 2 python horovod_elastic_train.py digits.npz [--kill MARKER]"""

import argparse
import os
import pathlib
import signal

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.data

import horovod.torch as hvd

p = argparse.ArgumentParser()
p.add_argument("data")
p.add_argument("--kill", type=pathlib.Path, help="made by the rank that kills itself; once")
p.add_argument("--wait-for", type=int, default=0, help="goes on with batches until there are so many ranks")
p.add_argument("--epochs", type=int, default=4)
args = p.parse_args()
BATCH, RATE = 16, 0.02

hvd.init()
torch.manual_seed(42)
data = np.load(args.data)
x, y = torch.from_numpy(data["x"]).reshape(-1, 64), torch.from_numpy(data["y"])
dataset = torch.utils.data.TensorDataset(x, y, torch.arange(len(x)))
sampler = hvd.elastic.ElasticSampler(dataset, shuffle=True)
loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, sampler=sampler)
model = torch.nn.Sequential(torch.nn.Linear(64, 50), torch.nn.ReLU(), torch.nn.Linear(50, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=RATE * hvd.size(), momentum=0.9)
optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())


def on_reset():
    for group in optimizer.param_groups:
        group["lr"] = RATE * hvd.size()


def killed_here(state):
    if args.kill and hvd.rank() == 1 and state.epoch == 1 and state.batch == 7 and not args.kill.exists():
        args.kill.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@hvd.elastic.run
def train(state):
    while state.epoch < args.epochs or hvd.size() < args.wait_for:
        for batch, (inputs, targets, indices) in enumerate(loader):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            killed_here(state)
            optimizer.step()
            sampler.record_batch(batch, BATCH)
            if state.epoch < args.epochs:
                state.seen[state.epoch].index_add_(0, hvd.allgather(indices, name="seen"),
                                                   torch.ones(len(indices) * hvd.size(), dtype=torch.int64))
            state.batch += 1
            state.sizes.add(hvd.size())
            state.commit()
        state.epoch, state.batch = state.epoch + 1, 0
        sampler.set_epoch(state.epoch)
        state.commit()


state = hvd.elastic.TorchState(model=model, optimizer=optimizer, sampler=sampler, epoch=0, batch=0, sizes=set(),
                               seen=torch.zeros((args.epochs, len(x)), dtype=torch.int64))
state.register_reset_callbacks([on_reset])
train(state)
model.eval()
with torch.no_grad():
    accuracy = (model(x).argmax(1) == y).float().mean().item()
sums = hvd.allgather_object(sum(float(p.double().sum()) for p in model.parameters()))
assert len(set(sums)) == 1, sums
if hvd.rank() == 0:
    rate = optimizer.param_groups[0]["lr"]
    seen = [(int(s.min()), int(s.sum()) - len(x)) for s in state.seen]
    print(f"accuracy {accuracy:.3f} on {hvd.size()} ranks of {sorted(state.sizes)}, rate {rate:.2f}, seen {seen}", flush=True)
hvd.shutdown()
