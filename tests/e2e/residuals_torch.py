"""Training under --wire auto that is saved and goes on.

    residuals_torch.py straight|again|own|back FOLDER"""

import copy
import hashlib
import sys
import warnings

import torch

import overtake.torch as ot

warnings.simplefilter("always")
ot.init()
how, folder = sys.argv[1:]
path = f"{folder}/{{}}.pt"
WHOLE = (5000,)  # without columns: its way is the same before and after the ranks have a plan


def make(*shapes):
    torch.manual_seed(1)
    weights = [torch.nn.Parameter(torch.randn(s)) for s in shapes]
    return weights, ot.DistributedOptimizer(torch.optim.SGD(weights, lr=0.1, momentum=0.9),
                                            named_parameters=[(f"w{s}", w) for s, w in zip(shapes, weights)])


def train(weights, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(step * 10 + ot.rank())
        sum((w * torch.randn(w.shape, generator=generator)).sum() for w in weights).backward()
        optimizer.step()


def digest(weights):
    return hashlib.sha256(b"".join(w.detach().numpy().tobytes() for w in weights)).hexdigest()[:16]


def straight():
    """Ten steps; after five it saves."""
    weights, optimizer = make(WHOLE)
    train(weights, optimizer, range(5))
    torch.save([weights, optimizer.state_dict()], path.format(ot.rank()))
    train(weights, optimizer, range(5, 10))
    print("straight", digest(weights), flush=True)


def going_on(with_what, change=lambda state: state, load=lambda optimizer, state: optimizer.load_state_dict(state)):
    """The last five, from what this rank has saved, or rank 0."""
    weights, optimizer = make(WHOLE)
    saved, state = torch.load(path.format(0 if with_what == "rank0" else ot.rank()))
    for w, s in zip(weights, saved):
        w.data.copy_(s.data)
    print("load", with_what, file=sys.stderr, flush=True)
    load(optimizer, change(state))
    train(weights, optimizer, range(5, 10))
    print(with_what, digest(weights), flush=True)


def broadcast(optimizer, state):
    if ot.rank() == 0:
        optimizer.load_state_dict(state)
    ot.broadcast_optimizer_state(optimizer)


def again():
    going_on("own")
    going_on("without", lambda state: {k: v for k, v in state.items() if k != "overtake_residuals"})
    going_on("rank0")
    going_on("broadcast", load=broadcast)


def back():
    weights, optimizer = make((64, 80), (10,))
    fresh = optimizer.state_dict()
    train(weights, optimizer, range(8))
    values, state = [w.detach().clone() for w in weights], copy.deepcopy(optimizer.state_dict())

    def redo(from_state):
        for w, v in zip(weights, values):
            w.data.copy_(v)
        if from_state is not None:
            optimizer.load_state_dict(from_state)
        train(weights, optimizer, range(8, 12))
        return digest(weights)

    first = redo(None)
    same, other = redo(state) == first, redo({**state, "overtake_residuals": None}) == first
    optimizer.load_state_dict(fresh)
    print("back", same, "other", other, "fresh", "overtake_residuals" not in optimizer.state_dict(), flush=True)
    train(weights, optimizer, range(3))
    optimizer.zero_grad()
    sum(w.square().sum() for w in weights).backward()
    try:
        while True:
            try:
                optimizer.state_dict()
            except ot.CollectiveError:  # still on its way
                continue
    except AssertionError as why:
        print("refused:", why, flush=True)
    optimizer.step()


{"straight": straight, "again": again, "own": lambda: going_on("own"), "back": back}[how]()
ot.shutdown()
