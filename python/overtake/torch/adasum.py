"""Adasum of tensors, and an optimizer that reduces its steps by it."""

import torch

from .. import adasum, collective
from ..collective import CollectiveError, WORLD
from . import operations


class Adasum:
    """One on its way."""

    def __init__(self, tensor, name=None, prescale=1.0, postscale=1.0, group=WORLD, in_place=False):
        if not tensor.dtype.is_floating_point:
            raise CollectiveError(f"{name or 'tensor'} has type {tensor.dtype}; Adasum is of floating types", -12)
        adasum.check(group)
        self.tensor, self.postscale, self.in_place, self.value = tensor, postscale, in_place, None
        flat = operations.host_tensor(tensor, name).reshape(1, -1)
        self.parts = operations.allgather_async(flat if prescale == 1 else flat * prescale, name, group)

    def poll(self):
        return self.parts.poll()

    def wait(self, timeout=0.0):
        if self.value is None:
            wide = self.parts.wait(timeout).to(torch.float64)
            found = adasum.put_together(wide, lambda a, b: (a * b).sum(1, keepdim=True),
                                        lambda a, b: torch.where(a != 0, a, torch.full_like(a, b)))
            found = (found * self.postscale).to(self.tensor.dtype).reshape(self.tensor.shape)
            with torch.no_grad():
                self.value = self.tensor.copy_(found) if self.in_place else found
        return self.value


class _Steps:
    def _overtake_setup(self, named_parameters, group):
        name_of = {p: n for n, p in named_parameters or []}
        parameters = [p for g in self.param_groups for p in g["params"]]
        self._group = group
        self._named = [(name_of.get(p, f"parameter.{i}"), p) for i, p in enumerate(parameters)]

    def synchronize(self):
        """Nothing is on its way before step()."""

    def skip_synchronize(self):
        raise AssertionError("skip_synchronize() with Adasum: steps are what is reduced, so none goes without")

    def step(self, closure=None):
        before = [p.detach().clone() for _, p in self._named]
        loss = super(self.__class__, self).step(closure)
        collective.optimizer_step()
        with torch.no_grad():
            pending = [Adasum(p - b, "step." + n, group=self._group) for (n, p), b in zip(self._named, before)]
            for (_, p), b, delta in zip(self._named, before, pending):
                p.copy_(b + operations.synchronize(delta))
        return loss


def AdasumOptimizer(optimizer, named_parameters=None, group=WORLD):
    """The optimizer: each rank makes its own step, and the Adasum of the steps is what the parameters take. It stays an
    instance of its class."""
    adasum.check(group)
    members = {k: v for k, v in vars(_Steps).items() if k not in ("__dict__", "__weakref__")}
    cls = type(optimizer.__class__.__name__, (optimizer.__class__,), members)
    made = cls.__new__(cls)
    made.__dict__.update(optimizer.__dict__)
    made._overtake_setup(named_parameters, group)
    return made
