"""An optimizer that averages gradients over the ranks while the backward pass is still computing."""

import contextlib
import warnings

import torch

from .. import collective
from . import operations


def _on_gradient(parameter, call):
    """Calls call() when the gradient of a leaf is complete; returns what must be kept alive."""
    if hasattr(parameter, "register_post_accumulate_grad_hook"):
        return parameter.register_post_accumulate_grad_hook(lambda _: call())
    node = parameter.expand_as(parameter).grad_fn.next_functions[0][0]
    node.register_hook(lambda *_: call())
    return node


class _Distributed:
    def _overtake_setup(self, named_parameters, op, passes, prescale, postscale, sparse_as_dense, group,
                        compression):
        parameters = [p for g in self.param_groups for p in g["params"]]
        named = list(named_parameters) if named_parameters is not None else [
            (f"parameter.{i}", p) for i, p in enumerate(parameters)]
        names = [n for n, _ in named]
        if len(set(names)) != len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(f"named_parameters has names twice: {', '.join(twice[:5])}")
        name_of = {p: n for n, p in named}
        unnamed = sum(p not in name_of for p in parameters)
        if unnamed:
            raise ValueError(f"{unnamed} of {len(parameters)} parameters of the optimizer are not in "
                             "named_parameters; give model.named_parameters()")
        self._op, self._passes, self._group = op, passes, group
        self._prescale, self._postscale = prescale, postscale
        self._sparse_as_dense, self._compression = sparse_as_dense, compression
        self._name_of, self._pending, self._delay = name_of, {}, {}
        self._synchronized = self._skip = False
        self._kept = []
        for p in parameters:
            if p.requires_grad:
                self._delay[p] = passes
                self._kept.append(_on_gradient(p, lambda p=p: self._gradient(p)))

    def _start(self, p):
        name = "gradient." + self._name_of[p]
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        if p.grad.is_sparse:
            if not self._sparse_as_dense:
                return None  # gathered in synchronize(): its size is not known before
            p.grad = p.grad.to_dense()
        sent, context = (p.grad, None) if self._compression is None else self._compression.compress(p.grad)
        pending = operations.allreduce_async_(sent, name=name, op=self._op, group=self._group,
                                              prescale_factor=self._prescale / self._passes,
                                              postscale_factor=self._postscale)
        return pending, context

    def _gradient(self, p):
        if self._delay[p] <= 0:
            raise AssertionError(
                f"the gradient of '{self._name_of[p]}' was computed more than backward_passes_per_step = "
                f"{self._passes} times before step(); raise it or call step() in between")
        self._delay[p] -= 1
        if self._delay[p] == 0:
            self._pending[p] = self._start(p)

    def synchronize(self):
        """Waits for all gradients; those that this backward pass did not compute count as zeros."""
        for p in self._delay:
            if p not in self._pending:
                self._pending[p] = self._start(p)
        pending, self._pending = self._pending, {}
        for p, handle in pending.items():
            if handle is None:
                factor = self._prescale * self._postscale / self._passes
                p.grad = operations.sparse_allreduce(p.grad * factor, "gradient." + self._name_of[p],
                                                     self._op, self._group)
            else:
                summed = operations.synchronize(handle[0])
                if self._compression is not None:
                    p.grad.copy_(self._compression.decompress(summed, handle[1]))
            self._delay[p] = self._passes
        self._synchronized = True

    @contextlib.contextmanager
    def skip_synchronize(self):
        """step() inside does not synchronize: the program has called synchronize() itself."""
        self._skip = True
        try:
            yield
        finally:
            self._skip = False

    def step(self, closure=None):
        if not self._skip:
            if self._synchronized:
                warnings.warn("step() synchronizes again after synchronize(); use skip_synchronize()")
            self.synchronize()
        self._synchronized = False
        collective.optimizer_step()
        return super(self.__class__, self).step(closure)

    def zero_grad(self, *args, **options):
        if self._pending:
            raise AssertionError("zero_grad() between backward() and step() would drop gradients that "
                                 "are on their way; call step() or synchronize() first")
        return super(self.__class__, self).zero_grad(*args, **options)


def DistributedOptimizer(optimizer, named_parameters=None, op=collective.AVERAGE,
                         backward_passes_per_step=1, prescale_factor=1.0, postscale_factor=1.0,
                         sparse_as_dense=False, group=collective.WORLD, compression=None):
    """The optimizer, with gradients reduced over the ranks of the group before each step. It keeps its
    state and stays an instance of its class. `compression` has compress(tensor) -> (tensor, context) and
    decompress(tensor, context)."""
    members = {k: v for k, v in vars(_Distributed).items() if k not in ("__dict__", "__weakref__")}
    cls = type(optimizer.__class__.__name__, (optimizer.__class__,), members)
    made = cls.__new__(cls)
    made.__dict__.update(optimizer.__dict__)
    made._overtake_setup(named_parameters, op, backward_passes_per_step, prescale_factor,
                         postscale_factor, sparse_as_dense, group, compression)
    return made
