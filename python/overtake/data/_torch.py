"""A reader as a torch IterableDataset."""

import torch

from .._library import OvertakeError
from . import Ragged


class Batches(torch.utils.data.IterableDataset):
    """In a DataLoader's worker processes each opens a reader of its own and reads every so many-th batch: the loader
    puts them back in order, so that what comes does not depend on how many workers there are. Their parent does not see
    how far they are: set_epoch says which epoch they begin."""

    def __init__(self, reader):
        super().__init__()
        self.reader = reader
        self.mine = None  # a worker's

    def __getstate__(self):
        """What goes to a worker that is spawned; a forked one takes the same from the parent's memory."""
        return {"plan": self._plan(), "reader": None, "mine": None}

    def _plan(self):
        r = self.reader
        return self.plan if r is None else ({**r.options, "of_all": 0}, (r.rank, r.size), r.state())

    def set_epoch(self, epoch):
        self.reader.set_epoch(epoch)

    def __len__(self):
        return len(self.reader)

    def _worker_reader(self, info):
        from . import Reader

        if self.mine is None:
            options, place, state = self._plan()
            self.mine = Reader(options, place, info.id, info.num_workers)
            self.mine.load(state)
        return self.mine

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        reader = self.reader if info is None else self._worker_reader(info)
        while (batch := reader._next()) is not None:
            yield {name: self._value(reader, name, a) for name, a in batch.items()}

    @classmethod
    def _value(cls, reader, name, a):
        if isinstance(a, Ragged):
            return list(torch.split(cls._tensor(name, a.values), a.lengths.tolist()))
        if name in reader._halves or a.dtype.name == "bfloat16":
            return torch.from_numpy(a.view("i2")).view(torch.bfloat16)
        return cls._tensor(name, a)

    @staticmethod
    def _tensor(name, array):
        try:
            return torch.from_numpy(array)
        except TypeError as why:
            raise OvertakeError(f"column '{name}' is {array.dtype}, which PyTorch does not have; choose others with "
                                "columns=") from why
