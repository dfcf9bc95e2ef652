"""One rank of an elastic job that reads its rows by overtake.data; process 1 is killed in the middle of the first epoch.

    elastic_input.py DATA.npz [torch]
"""

import os
import signal
import sys

import numpy as np
import overtake.collective as oc
import overtake.data as od
from overtake import elastic

oc.init()
reader = od.open(sys.argv[1], global_batch=12, seed=3)
most = {}  # rows of a batch, by the number of ranks
# How often each row has been in a step that all ranks have done.
kept = {"reader": reader, "counts": np.zeros(reader.rows, np.int64), "steps": 0}
if sys.argv[2:] == ["torch"]:
    import torch
    from overtake.elastic.torch import TorchState

    batches = torch.utils.data.DataLoader(reader.torch_dataset(), batch_size=None)
    state = TorchState(torch.nn.Linear(2, 1), **kept)
else:
    batches, state = reader, elastic.ObjectState(**kept)
was = oc.rank() if oc.membership().previous_rank < 0 and oc.membership().epoch == 1 else -1


@elastic.run
def train(state):
    while state.reader.epoch < 2:
        for batch in batches:
            if was == 1 and state.steps == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            most[oc.size()] = max(most.get(oc.size(), 0), len(batch["y"]))
            mine = np.bincount(batch["y"], minlength=len(state.counts))
            state.counts = state.counts + oc.allreduce(mine, oc.SUM, name="counts")
            state.steps += 1
            state.commit()
        state.commit()


train(state)
assert (state.counts == 2).all(), state.counts
print(f"{oc.size()} ranks have read every row twice", state.reader.state(), "rows", most, flush=True)
oc.finalize()
