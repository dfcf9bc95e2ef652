"""Which samples of an epoch are this rank's: dealt so that it can be dealt again when ranks come or go.

An epoch is one order of all samples, the same on all ranks. What the job has taken of it is a prefix, so one
number says it: rank r of n has every n-th sample of the rest, and ranks go on side by side. A rank that is
lost takes no knowledge with it; the survivors deal the rest among themselves.

    d = Dealing(len(dataset), seed=1)
    d.set_epoch(3)
    for batch in batches(d.deal(rank, size), 16):     # NumPy's int64 indices
        train(batch)
        d.record(16)                                  # this rank's rows: the others took as many
    d.load(saved)                                     # an earlier d.state(): what was taken by then
    d.deal(new_rank, new_size)                        # the rest, dealt again

Without frameworks and without communication: `state()` is what goes to the others.
"""

REMAINDERS = ("repeat", "drop", "keep")


def order(length, seed=0, epoch=0, shuffle=True):
    """The epoch's order of all samples; of seed, epoch and length alone."""
    import numpy

    if not shuffle:
        return numpy.arange(length)
    # A generator whose stream is fixed for all versions of NumPy.
    return numpy.random.RandomState([seed & 0xFFFFFFFF, epoch & 0xFFFFFFFF]).permutation(length)


def share(rest, rank, size, remainder="repeat"):
    """Rank's samples of `rest`: every size-th. Where it doesn't come out even: "repeat" gives all ranks as many, and up
    to size - 1 samples twice; "drop" leaves as many out; "keep" gives some ranks one more, each sample once (the program
    then joins)."""
    import numpy

    if remainder not in REMAINDERS:
        raise ValueError(f"remainder={remainder!r}: {', '.join(REMAINDERS)} are taken")
    if not 0 <= rank < size:
        raise ValueError(f"rank {rank} of {size}: ranks are 0 to size - 1")
    if remainder == "drop":
        rest = rest[:len(rest) - len(rest) % size]
    elif remainder == "repeat" and len(rest) % size:
        rest = numpy.resize(rest, -(-len(rest) // size) * size)
    return rest[rank::size]


class Dealing:
    """The samples of a data set of fixed length, epoch by epoch. `taken`: how many of this epoch's the job has taken."""

    def __init__(self, length, seed=0, shuffle=True, remainder="repeat"):
        self.length, self.seed, self.shuffle, self.remainder = length, seed, shuffle, remainder
        self.epoch = self.taken = 0
        self._size, self._end = 1, length
        share(range(0), 0, 1, remainder)

    def set_epoch(self, epoch):
        """A new epoch, nothing taken."""
        self.epoch, self.taken, self._end = epoch, 0, self.length

    def rest(self):
        """What nobody has taken, in the epoch's order."""
        return order(self.length, self.seed, self.epoch, self.shuffle)[self.taken:]

    def deal(self, rank, size):
        """This rank's samples of the rest, until the next set_epoch, load or change of ranks."""
        rest = self.rest()
        self._size = size
        self._end = self.length - (len(rest) % size if self.remainder == "drop" else 0)
        return share(rest, rank, size, self.remainder)

    def record(self, samples):
        """This rank has taken so many more of those dealt, and so has each of the others."""
        if samples < 0:
            raise ValueError(f"record({samples}): a number of samples, 0 or more")
        self.taken = min(self.taken + samples * self._size, self._end)

    def state(self):
        return {"epoch": self.epoch, "taken": self.taken}

    def load(self, state):
        taken = state["taken"]
        if not 0 <= taken <= self.length:
            raise ValueError(f"{taken} samples taken of {self.length}: the state is of another data set")
        self.epoch, self.taken, self._end = state["epoch"], taken, self.length
