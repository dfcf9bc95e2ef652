"""One rank of allreduce_bench.py: Overtake, Gloo and bare sockets in the same process, in turn.

    allreduce_worker.py RANK SIZE ADDRESS,ADDRESS,... DEVICE ROUNDS MIB,MIB,...  (JSON to standard output, rank 0)

RANK is "mpi" under mpirun: then Open MPI as well, and Overtake's engine of that name."""

import ctypes
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import torch
import torch.distributed as dist

import overtake.collective as oc

by_mpi = sys.argv[1] == "mpi"
rank, size = int(os.environ["OMPI_COMM_WORLD_RANK"] if by_mpi else sys.argv[1]), int(sys.argv[2])
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


class OpenMPI:
    """MPI_Allreduce of the library that Overtake's engine is built with."""

    def __init__(self):
        engine = pathlib.Path(os.environ["OVERTAKE_LIB"]).with_name("libovertake_mpi.so")
        path = re.search(r"libmpi\.so\S* => (\S+)", subprocess.run(["ldd", engine], capture_output=True, text=True).stdout)[1]
        self.lib, level = ctypes.CDLL(path, ctypes.RTLD_GLOBAL), ctypes.c_int()
        self.lib.MPI_Init_thread(None, None, 3, ctypes.byref(level))
        self.float, self.sum, self.world = (ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(self.lib, name))) for name in (
            "ompi_mpi_float", "ompi_mpi_op_sum", "ompi_mpi_comm_world"))

    def sum_in_place(self, array):
        assert self.lib.MPI_Allreduce(ctypes.c_void_p(1), ctypes.c_void_p(array.ctypes.data), array.size, self.float, self.sum,
                                      self.world) == 0

    def sum_at_once(self, arrays):
        requests = (ctypes.c_void_p * len(arrays))()
        for i, array in enumerate(arrays):
            at = ctypes.byref(requests, i * ctypes.sizeof(ctypes.c_void_p))
            assert self.lib.MPI_Iallreduce(ctypes.c_void_p(1), ctypes.c_void_p(array.ctypes.data), array.size, self.float,
                                           self.sum, self.world, at) == 0
        assert self.lib.MPI_Waitall(len(arrays), requests, None) == 0


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


def recorded(what, path):
    """The same with a timeline; that it is written afterwards is not in the time."""
    oc.timeline_start(path)
    got = timed(what)
    oc.timeline_stop()
    return got


report, ring, mpi = [], Ring(), OpenMPI() if by_mpi else None
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
        if mpi:
            third = np.ones(n, "float32")
            got["open mpi"] = timed(lambda: mpi.sum_in_place(third))
            assert third[0] == size and third[-1] == size
        assert mine[0] == size and mine[-1] == size and theirs[-1] == size
        for k, v in got.items():
            row.setdefault(k, []).extend([v] if i >= 2 else [])
    row["least_bytes"] = share.nbytes
    report.append(row)

small = {"barrier": [], "overtake": [], "overtake, timeline": [], "gloo one by one": [], "gloo at once": [],
         "gloo in a bucket": []}
folder = tempfile.TemporaryDirectory()
arrays, names = [np.ones(1024, "float32") for _ in range(100)], [f"small.{i}" for i in range(100)]
tensors = [torch.ones(1024) for _ in range(100)]
for i in range(rounds + 3):
    got = {"barrier": timed(oc.barrier), "overtake": timed(lambda: ours(arrays, names)),
           "overtake, timeline": recorded(lambda: ours(arrays, names), f"{folder.name}/{rank}.json"),
           "gloo one by one": timed(lambda: one_by_one(tensors)),
           "gloo at once": timed(lambda: at_once(tensors)),
           "gloo in a bucket": timed(lambda: bucketed(tensors))}
    if mpi:
        got["open mpi at once"] = timed(lambda: mpi.sum_at_once(arrays))
    for k, v in got.items():
        small.setdefault(k, []).extend([v] if i >= 3 else [])
if mpi:  # the other engine, in the same processes; what MPI itself takes stands above
    oc.finalize()
    os.environ["OVERTAKE_ENGINE"] = "mpi"
    oc.init(rank, size, f"{addresses[0]}:29401", "bench")
    for row in report:
        mine, row["overtake over mpi"] = np.ones(int(row["mib"] * 262144), "float32"), []
        for i in range(rounds + 2):
            mine.fill(1)
            got = timed(lambda: ours([mine], ["big"]))
            assert mine[0] == size and mine[-1] == size
            row["overtake over mpi"] += [got] if i >= 2 else []
    small["overtake over mpi"] = [timed(lambda: ours(arrays, names)) for i in range(rounds + 3)][3:]
if rank == 0:
    print(json.dumps({"large": report, "small": small}), flush=True)
dist.barrier()
oc.finalize()
if mpi:
    mpi.lib.MPI_Finalize()
