"""One rank of a job that sums ten vectors a step, through overtake.collective. Its argument says what it does beside:
compute, slow (rank 1 sleeps), input (all wait for input), lame (rank 1 waits for input), wire (1 MiB a vector), dies."""

import ctypes
import os
import sys
import time

import overtake.collective as oc

what, steps = sys.argv[1], int(sys.argv[2])
oc.init()
rank = oc.rank()
size = (1 << 18) if what == "wire" else 1000
arrays = [(ctypes.c_float * size)(*([1.0] * 4)) for _ in range(10)]


def step():
    requests = [oc.Request(oc.ALLREDUCE, (size,), "float32", ctypes.addressof(a), ctypes.addressof(a), name=f'layer"{i}"/w',
                           reduction=oc.AVERAGE) for i, a in enumerate(arrays)]
    handles = [oc.start([r])[0] for r in requests]
    for h in handles:
        h.wait()




own = sys.argv[3] if len(sys.argv) > 3 else None
longer = float(os.environ.get("LONGER", 1))
if own:
    oc.timeline_start(f"{own}-{rank}.json")
for s in range(steps):
    if what == "compute":
        time.sleep(0.05 * longer)  # of a device elsewhere: the cores here are shared
    if what == "slow":
        time.sleep((0.1 if rank == 1 else 0.01) * longer)
    if what == "input" or what == "lame" and rank == 1:
        time.sleep(0.05 * longer)
        oc.input_wait(0.05 * longer)
    if what == "dies" and rank == 1 and s == steps // 2:
        os._exit(3)
    step()
    oc.step(1)
if own:
    oc.timeline_stop()
oc.finalize()
