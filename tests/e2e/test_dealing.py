"""Samples dealt to ranks, and dealt again when ranks come or go: every index counted."""

import collections
import random
import sys

import numpy as np
import pytest

from replica import ROOT

sys.path.insert(0, str(ROOT / "python"))
from overtake import dealing  # noqa: E402


def one_epoch(length, sizes, batch, remainder, seed=0):
    """What all ranks take in an epoch in which the number of ranks changes in the middle: counts by index."""
    chance, counts, state = random.Random(length * 31 + batch), collections.Counter(), {"epoch": 5, "taken": 0}
    for size in sizes:
        ranks = [dealing.Dealing(length, seed, remainder=remainder) for _ in range(size)]
        for d in ranks:
            d.load(state)
        shares = [d.deal(r, size) for r, d in enumerate(ranks)]
        steps = -(-max(map(len, shares)) // batch)
        steps = steps if size == sizes[-1] and state is not None else chance.randint(0, steps)
        for step in range(steps):
            for d, s in zip(ranks, shares):
                counts.update(s[step * batch:(step + 1) * batch].tolist())
                d.record(batch)
        states = [d.state() for d in ranks]
        assert all(s == states[0] for s in states)
        state = states[0]
    return counts


@pytest.mark.parametrize("length", [0, 1, 7, 97, 1000])
@pytest.mark.parametrize("sizes", [(1,), (3,), (4, 3), (5, 2, 3), (2, 4, 1)])
def test_every_sample_of_an_epoch(length, sizes):
    for batch in (1, 4):
        kept = one_epoch(length, sizes, batch, "keep")
        assert kept == {i: 1 for i in range(length)}, (length, sizes, batch)
        dropped = one_epoch(length, sizes, batch, "drop")
        assert max(dropped.values(), default=1) == 1
        assert length - len(dropped) < sizes[-1]
        repeated = one_epoch(length, sizes, batch, "repeat")
        assert len(repeated) == length
        assert sum(repeated.values()) - length < max(sizes)


def test_ranks_have_as_many():
    for remainder in ("repeat", "drop"):
        assert len({len(dealing.share(np.arange(11), r, 4, remainder)) for r in range(4)}) == 1
    assert [len(dealing.share(np.arange(2), r, 4, "repeat")) for r in range(4)] == [1] * 4


def test_the_order_is_of_seed_and_epoch_alone():
    a = dealing.order(1000, 1, 2)
    assert (a == dealing.order(1000, 1, 2)).all() and sorted(a) == list(range(1000))
    assert (a != dealing.order(1000, 1, 3)).any() and (a != dealing.order(1000, 2, 2)).any()
    assert (dealing.order(9, 7, shuffle=False) == np.arange(9)).all()
    # Frozen: a checkpoint of an epoch half done goes on with the same order in another release.
    assert dealing.order(8, 1, 2).tolist() == [2, 4, 1, 5, 6, 3, 0, 7]


def test_what_is_refused():
    with pytest.raises(ValueError, match="remainder='all'"):
        dealing.Dealing(3, remainder="all")
    with pytest.raises(ValueError, match="another data set"):
        dealing.Dealing(3).load({"epoch": 0, "taken": 4})
    with pytest.raises(ValueError, match="rank 3 of 3"):
        dealing.Dealing(3).deal(3, 3)
    with pytest.raises(ValueError, match="record"):
        dealing.Dealing(3).record(-1)
