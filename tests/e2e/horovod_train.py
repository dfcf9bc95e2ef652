"""A training program in Horovod's style, written for this tree: nothing in it knows Overtake.

    horovodrun -np 3 python horovod_train.py digits.npz [--fp16] [--passes N]"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.data

import horovod.torch as hvd

p = argparse.ArgumentParser()
p.add_argument("data")
p.add_argument("--fp16", action="store_true")
p.add_argument("--passes", type=int, default=1)
p.add_argument("--epochs", type=int, default=4)
args = p.parse_args()

hvd.init()
torch.manual_seed(42)
data = np.load(args.data)
dataset = torch.utils.data.TensorDataset(torch.from_numpy(data["x"]).reshape(-1, 64), torch.from_numpy(data["y"]))
sampler = torch.utils.data.distributed.DistributedSampler(dataset, num_replicas=hvd.size(), rank=hvd.rank())
loader = torch.utils.data.DataLoader(dataset, batch_size=16, sampler=sampler, num_workers=1)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3)
        self.fc1, self.fc2 = torch.nn.Linear(8 * 6 * 6, 50), torch.nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(self.conv(x.reshape(-1, 1, 8, 8))).flatten(1)
        return F.log_softmax(self.fc2(F.dropout(F.relu(self.fc1(x)), 0.1, self.training)), 1)


def metric_average(value, name):
    return hvd.allreduce(torch.tensor(value), name=name).item()


model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02 * hvd.size(), momentum=0.9)
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
hvd.broadcast_optimizer_state(optimizer, root_rank=0)
compression = hvd.Compression.fp16 if args.fp16 else hvd.Compression.none
optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters(), compression=compression,
                                     backward_passes_per_step=args.passes, op=hvd.Average)
for epoch in range(args.epochs):
    model.train()
    sampler.set_epoch(epoch)
    for batch, (x, y) in enumerate(loader):
        if batch % args.passes == 0:
            optimizer.zero_grad()
        F.nll_loss(model(x), y).backward()
        if batch % args.passes == args.passes - 1:
            optimizer.synchronize()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            with optimizer.skip_synchronize():
                optimizer.step()
    if args.passes > 1 and (batch + 1) % args.passes != 0:
        optimizer.step()
model.eval()
with torch.no_grad():
    x, y = dataset.tensors
    share = slice(hvd.rank(), None, hvd.size())
    accuracy = metric_average((model(x[share]).argmax(1) == y[share]).float().mean().item(), "accuracy")
states = hvd.allgather_object(sum(float(p.double().sum()) for p in model.parameters()))
assert len(set(states)) == 1, states
if hvd.rank() == 0:
    print(f"accuracy {accuracy:.3f} on {hvd.size()} ranks, {hvd.local_size()} here", flush=True)
