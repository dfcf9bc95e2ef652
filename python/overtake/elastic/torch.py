"""Elastic training with PyTorch: its state, and a sampler that deals what a lost rank has not taken.

    sampler = ElasticSampler(dataset)
    loader = torch.utils.data.DataLoader(dataset, batch_size=32, sampler=sampler)
    state = TorchState(model, optimizer, sampler=sampler, epoch=0)

    @run
    def train(state):
        while state.epoch < 10:
            for x, y in loader:
                ...
                sampler.record_batch(0, 32)
                state.commit()
            state.epoch += 1
            sampler.set_epoch(state.epoch)
            state.commit()
"""

import torch

from .. import collective
from ..dealing import Dealing
from . import HostsUpdatedInterrupt, ObjectState, run

__all__ = ["ElasticSampler", "HostsUpdatedInterrupt", "ObjectState", "TorchState", "run"]


class TorchState(ObjectState):
    """A model, an optimizer and whatever else is given by name: models, optimizers, schedulers, samplers, objects."""

    def __init__(self, model=None, optimizer=None, **values):
        given = {"model": model, "optimizer": optimizer}
        super().__init__(**{n: v for n, v in given.items() if v is not None}, **values)

    def restore(self):
        super().restore()
        for value in vars(self).values():
            if isinstance(value, torch.optim.Optimizer):
                value.zero_grad()  # of a step that was not done


class ElasticSampler(torch.utils.data.Sampler):
    """This rank's samples of an epoch, dealt anew when ranks have changed (overtake.dealing); part of a TorchState.
    `record_batch` after each step, `set_epoch` at the end of an epoch. `remainder` says what becomes of samples that
    don't come out even."""

    def __init__(self, dataset, shuffle=True, seed=0, remainder="repeat"):
        self.dataset = dataset
        self._dealing = Dealing(len(dataset), seed, shuffle, remainder)
        self.reset()

    epoch = property(lambda self: self._dealing.epoch)
    processed_num = property(lambda self: self._dealing.taken, doc="how many of this epoch's samples all ranks have taken")

    def reset(self):
        """Deals what is left to the ranks that there are."""
        self.rank, self.num_replicas = collective.rank(), collective.size()
        self.indices = self._dealing.deal(self.rank, self.num_replicas).tolist()

    def set_epoch(self, epoch):
        self._dealing.set_epoch(epoch)
        self.reset()

    def record_batch(self, batch_idx, batch_size):
        """Each rank has gone through a batch of this size."""
        self._dealing.record(batch_size)

    def state_dict(self):
        return {"epoch": self.epoch, "processed_num": self.processed_num}

    def load_state_dict(self, state):
        self._dealing.load({"epoch": state["epoch"], "taken": state["processed_num"]})
        self.reset()

    def __iter__(self):
        return iter(self.indices)

    def __len__(self):
        return len(self.indices)
