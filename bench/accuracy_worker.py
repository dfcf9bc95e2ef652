"""One rank of accuracy_bench.py, started by `overtake run`.

    accuracy_worker.py PLAN  (JSON: see accuracy_bench.py; rank 0 writes the results beside it, as PLAN.out)

Each method trains the same network from the same weights on the same rows. The clock runs only while training does:
it stops for each evaluation, after a barrier that is the same for all methods, so that it holds the last rank's time."""

import json
import os
import pathlib
import sys
import time

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

import overtake.torch as ot

plan = json.loads(pathlib.Path(sys.argv[1]).read_text())
rank, size = int(os.environ["OVERTAKE_RANK"]), int(os.environ["OVERTAKE_SIZE"])
torch.set_num_threads(1)
# Each rank to one core, so that all have the same share of this machine, as hosts of their own would.
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, {cores[rank % len(cores)]})
store = dist.TCPStore(plan["address"], plan["port"], size, rank == 0)
dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
data = {k: torch.from_numpy(np.load(f"{plan['rows']}.{k}.npy")) for k in ("x", "y", "vx", "vy")}


class Block(torch.nn.Module):
    """A square layer and the way around it; the deeper the network, the less each adds."""

    def __init__(self, width, depth):
        super().__init__()
        self.layer, self.depth = torch.nn.Linear(width, width), depth

    def forward(self, x):
        return x + torch.relu(self.layer(x)) / self.depth


def network():
    torch.manual_seed(plan["seed"])
    width, depth = plan["width"], plan["depth"]
    return torch.nn.Sequential(torch.nn.Linear(data["x"].shape[1], width), torch.nn.ReLU(),
                               *(Block(width, depth) for _ in range(depth)), torch.nn.Linear(width, plan["classes"]))


class Alone:
    """No communication: what the computation takes while all ranks compute."""

    def __init__(self, model):
        self.model, self.optimizer = model, optimizer_of(model)

    def close(self):
        pass


class Ddp(Alone):
    def __init__(self, model, hook=None, backend="gloo"):
        self.ours = backend == "overtake"
        group = dist.new_group(backend="overtake") if self.ours else None
        self.model = torch.nn.parallel.DistributedDataParallel(model, process_group=group,
                                                               gradient_as_bucket_view=True)
        if hook == "fp16":
            self.model.register_comm_hook(None, default_hooks.fp16_compress_hook)
        elif hook == "low rank":
            state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=plan["low_rank"],
                                                 start_powerSGD_iter=2)
            self.model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
        self.optimizer = optimizer_of(model)

    def close(self):
        del self.model
        if self.ours:
            ot.shutdown()


class Ours(Alone):
    def __init__(self, model):
        ot.init()
        ot.broadcast_parameters(model.state_dict(), root_rank=0)
        self.model = model
        self.optimizer = ot.DistributedOptimizer(optimizer_of(model), named_parameters=model.named_parameters())

    def close(self):
        ot.shutdown()


def optimizer_of(model):
    return torch.optim.Adam(model.parameters(), lr=plan["rate"])


METHODS = {"compute": Alone, "ddp": Ddp, "ddp fp16": lambda m: Ddp(m, "fp16"),
           "ddp low rank": lambda m: Ddp(m, "low rank"), "ddp overtake": lambda m: Ddp(m, backend="overtake"),
           "overtake": Ours}


def sent():
    return int(pathlib.Path("/sys/class/net/wire/statistics/tx_bytes").read_text())


def accuracy(model):
    """Over all validation rows, each rank a part of them."""
    with torch.no_grad():
        right = (model(data["vx"][rank::size]).argmax(1) == data["vy"][rank::size]).sum()
    dist.all_reduce(right)
    return int(right) / len(data["vy"])


def batches():
    """The same rows at the same step for every method: one permutation of all of them after the other."""
    order, n = np.random.default_rng(plan["seed"]), plan["batch"] * size
    while True:
        rows = order.permutation(len(data["x"]))
        for i in range(0, len(rows) - n + 1, n):
            mine = torch.from_numpy(rows[i:i + n][rank::size])
            yield data["x"][mine], data["y"][mine]


def train(method, steps, target):
    """Ends when the target was reached twice in a row, which counts from the first time, or after `steps`."""
    net = network()
    m = METHODS[method](net)
    got = {"method": method, "curve": [], "step_s": [], "clock_s": 0.0, "cpu_s": 0.0,
           "bytes": 0, "reached": False}
    rows, step, hits = batches(), 0, 0
    while step < steps and hits < 2:
        dist.barrier()
        bytes_before, cpu_before, start = sent(), time.process_time(), time.perf_counter()
        for _ in range(min(plan["every"], steps - step)):
            began = time.perf_counter()
            x, y = next(rows)
            m.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(m.model(x), y).backward()
            m.optimizer.step()
            got["step_s"].append(time.perf_counter() - began)
            step += 1
        dist.barrier()
        got["clock_s"] += time.perf_counter() - start
        got["cpu_s"] += time.process_time() - cpu_before
        got["bytes"] += sent() - bytes_before
        seen = accuracy(net)
        got["curve"].append((step, got["clock_s"], seen))
        hits = hits + 1 if target is not None and seen >= target else 0
    got["reached"] = hits == 2
    got["steps"], got["to_target_s"] = got["curve"][-2 if hits == 2 else -1][:2]
    m.close()
    return got


out = []
for method, steps, target in plan["methods"]:
    out.append(train(method, steps, target))
    if rank == 0:
        pathlib.Path(sys.argv[1] + ".out").write_text(json.dumps(out))
dist.barrier()
