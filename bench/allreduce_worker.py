"""One rank of allreduce_bench.py: Overtake, Gloo and bare sockets in the same process, in turn.

    allreduce_worker.py RANK SIZE ADDRESS,ADDRESS,... DEVICE ROUNDS MIB,MIB,...  (JSON to standard output, rank 0)"""

import json
import os
import pathlib
import socket
import sys
import threading
import time

import numpy as np
import torch
import torch.distributed as dist

import overtake.collective as oc

rank, size = int(sys.argv[1]), int(sys.argv[2])
addresses, device, rounds = sys.argv[3].split(","), sys.argv[4], int(sys.argv[5])
sizes = [float(m) for m in sys.argv[6].split(",")]
torch.set_num_threads(1)
os.environ["GLOO_SOCKET_IFNAME"] = device
store = dist.TCPStore(addresses[0], 29500, size, rank == 0)
dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
oc.init(rank, size, f"{addresses[0]}:29400", "bench")


def sent():
    """Bytes that left this rank's device, with all heads."""
    return int(pathlib.Path(f"/sys/class/net/{device}/statistics/tx_bytes").read_text())


class Ring:
    """Bare TCP: each rank sends to the next and reads from the one before, both at once."""

    def __init__(self):
        server = socket.create_server((addresses[rank], 29600))
        dist.barrier()
        self.out = socket.create_connection((addresses[(rank + 1) % size], 29600))
        self.inn = server.accept()[0]
        server.close()

    def move(self, array):
        view, space = memoryview(array).cast("B"), bytearray(1 << 20)
        sender = threading.Thread(target=self.out.sendall, args=(view,))
        sender.start()
        left = len(view)
        while left > 0:
            left -= self.inn.recv_into(space, min(left, len(space)))
        sender.join()


def timed(what):
    """Seconds until the last rank had it, and the bytes that this rank sent meanwhile."""
    dist.barrier()
    bytes_before, start = sent(), time.perf_counter()
    what()
    seconds, moved = time.perf_counter() - start, sent() - bytes_before
    t = torch.tensor([seconds, float(moved)], dtype=torch.float64)
    dist.all_reduce(t, dist.ReduceOp.MAX)
    return t.tolist()


def ours(arrays, names):
    for h in oc.start([oc.Request(oc.ALLREDUCE, a.shape, "float32", a.ctypes.data, a.ctypes.data, name=n)
                       for a, n in zip(arrays, names)]):
        h.wait()


def one_by_one(tensors):
    for t in tensors:
        dist.all_reduce(t)


def at_once(tensors):
    for w in [dist.all_reduce(t, async_op=True) for t in tensors]:
        w.wait()


def bucketed(tensors):
    """What DistributedDataParallel does with small gradients: one buffer, one operation."""
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    for t, part in zip(tensors, flat.split([t.numel() for t in tensors])):
        t.copy_(part)


report, ring = [], Ring()
for mib in sizes:
    n = int(mib * 262144)
    mine, theirs = np.ones(n, "float32"), torch.ones(n)
    share = np.zeros(int(2 * (size - 1) / size * n), "float32")  # what each rank must send at least
    row = {"mib": mib, "wire": [], "overtake": [], "gloo": []}
    for i in range(rounds + 2):  # two to learn: Overtake's plan, TCP's windows
        mine.fill(1)
        theirs.fill_(1)
        got = {"wire": timed(lambda: ring.move(share)), "overtake": timed(lambda: ours([mine], ["big"])),
               "gloo": timed(lambda: dist.all_reduce(theirs))}
        assert mine[0] == size and mine[-1] == size and theirs[-1] == size
        for k, v in got.items():
            row[k] += [v] if i >= 2 else []
    row["least_bytes"] = share.nbytes
    report.append(row)

small = {"barrier": [], "overtake": [], "gloo one by one": [], "gloo at once": [], "gloo in a bucket": []}
arrays, names = [np.ones(1024, "float32") for _ in range(100)], [f"small.{i}" for i in range(100)]
tensors = [torch.ones(1024) for _ in range(100)]
for i in range(rounds + 3):
    got = {"barrier": timed(oc.barrier), "overtake": timed(lambda: ours(arrays, names)),
           "gloo one by one": timed(lambda: one_by_one(tensors)),
           "gloo at once": timed(lambda: at_once(tensors)),
           "gloo in a bucket": timed(lambda: bucketed(tensors))}
    for k, v in got.items():
        small[k] += [v] if i >= 3 else []
if rank == 0:
    print(json.dumps({"large": report, "small": small}), flush=True)
dist.barrier()
oc.finalize()
