"""Adasum (Maleki et al. 2021, "Scaling Distributed Training with Adaptive Summation"): a sum that leaves out what
gradients have in common, so that a rate of learning need not follow the number of ranks.

    adasum(a, b) = (1 - a.b / 2 a.a) a + (1 - a.b / 2 b.b) b

taken in pairs: ranks 0 and 1, 2 and 3; then their results; for 1, 2, 4, ... ranks. Parallel gradients are averaged,
orthogonal ones added. The parts are gathered and put together on each rank alike: exact, at the price of (n - 1) times a
tensor's bytes, where a sum takes about two."""

from . import collective

ADASUM = 1000  # beside the reductions of the library, which has none of this kind


def check(group):
    """How many ranks; raises if they can't be paired."""
    size = collective.size(group)
    if size & (size - 1):
        raise ValueError(f"Adasum pairs ranks, and there are {size}: give 1, 2, 4, 8, ... or use op=Average")
    return size


def put_together(parts, dot, choose):
    """parts: (n, values), n a power of two; `dot` sums a.b by rows as (n, 1), `choose(a, b)` is a where a isn't 0, else
    b. The same for arrays of all frameworks."""
    while parts.shape[0] > 1:
        a, b = parts[::2], parts[1::2]
        ab, aa, bb = dot(a, b), dot(a, a), dot(b, b)
        # Where one is all zeros there is nothing in common.
        parts = (1 - ab / (2 * choose(aa, 1))) * a + (1 - ab / (2 * choose(bb, 1))) * b
    return parts[0]
