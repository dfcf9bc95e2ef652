"""An optimizer that averages gradients over the ranks while the backward pass is still computing."""

import contextlib
import warnings

import torch

from .. import _residuals, collective
from . import operations


def _on_gradient(parameter, call):
    """Calls call() when the gradient of a leaf is complete; returns what must be kept alive."""
    if hasattr(parameter, "register_post_accumulate_grad_hook"):
        return parameter.register_post_accumulate_grad_hook(lambda _: call())
    node = parameter.expand_as(parameter).grad_fn.next_functions[0][0]
    node.register_hook(lambda *_: call())
    return node


# These keep no state but each parameter's own: they may step one parameter at a time.
_BY_PARAMETER = tuple(getattr(torch.optim, n) for n in (
    "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")
    if hasattr(torch.optim, n))


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
        self._name_of, self._pending, self._delay, self._again = name_of, {}, {}, {}
        self._synchronized = self._skip = False
        self._torn = ""  # why a step has ended in its middle
        self._by_parameter = self.__class__.__mro__[1] in _BY_PARAMETER
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
        again = self._again.get(p)
        if again is not None and again.fits(sent):
            return again.start(sent), context
        options = {"op": self._op, "group": self._group, "prescale_factor": self._prescale / self._passes,
                   "postscale_factor": self._postscale}
        pending = operations.allreduce_async_(sent, name=name, **options)
        self._again[p] = operations.again(sent, name, **options)
        return pending, context

    def _gradient(self, p):
        if self._delay[p] <= 0:
            raise AssertionError(
                f"the gradient of '{self._name_of[p]}' was computed more than backward_passes_per_step = "
                f"{self._passes} times before step(); raise it or call step() in between")
        self._delay[p] -= 1
        if self._delay[p] == 0:
            self._pending[p] = self._start(p)

    def _start_rest(self):
        """What is in flight, in the order in which it started: also the gradients that this backward pass did
        not compute, which count as zeros."""
        for p in self._delay:
            if p not in self._pending:
                self._pending[p] = self._start(p)
        pending, self._pending = self._pending, {}
        return pending

    def _finish(self, p, handle):
        if handle is None:
            factor = self._prescale * self._postscale / self._passes
            p.grad = operations.sparse_allreduce(p.grad * factor, "gradient." + self._name_of[p],
                                                 self._op, self._group)
        else:
            summed = operations.synchronize(handle[0])
            if self._compression is not None:
                p.grad.copy_(self._compression.decompress(summed, handle[1]))
        self._delay[p] = self._passes

    def _check_whole(self):
        if self._torn:
            raise collective.CollectiveError(
                f"a step has failed ({self._torn}); some parameters may have been updated and others not: load the "
                "states of the model and of the optimizer from before it, with load_state_dict()", -9)

    def synchronize(self):
        """Waits for all gradients; those that this backward pass did not compute count as zeros."""
        self._check_whole()
        for p, handle in self._start_rest().items():
            self._finish(p, handle)
        self._synchronized = True

    def shared_state_dict(self):
        """What is the same on all ranks."""
        return super(self.__class__, self).state_dict()

    def state_dict(self):
        """With what this rank has not sent yet (--wire auto), if there is any: that is its own."""
        state, kept = self.shared_state_dict(), _residuals.state()
        if kept is not None:
            if self._pending:
                raise AssertionError("state_dict() between backward() and step(): what gradients on their way leave is "
                                     "not known yet; call it after step()")
            kept["kept"] = torch.frombuffer(bytearray(kept["kept"]), dtype=torch.uint8)
            state[_residuals.KEY] = kept
        return state

    def load_state_dict(self, state_dict):
        """Gradients on their way belong to the state before: they are dropped."""
        pending, self._pending = self._pending, {}
        for handle in filter(None, pending.values()):
            with contextlib.suppress(collective.CollectiveError):
                operations.synchronize(handle[0])
        self._delay.update(dict.fromkeys(self._delay, self._passes))
        self._synchronized, self._torn = False, ""
        kept = state_dict.get(_residuals.KEY)
        _residuals.load(kept and {**kept, "kept": kept["kept"].numpy()})
        return super(self.__class__, self).load_state_dict(
            {k: v for k, v in state_dict.items() if k != _residuals.KEY})

    def _may_step_by_parameter(self):
        hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")  # called once a step
        return self._by_parameter and not any(getattr(self, h, None) for h in hooks)

    def _step_as_they_come(self):
        """Steps the parameters whose gradients are here while those of others are still on their way."""
        groups, pending = self.param_groups, list(self._start_rest().items())
        group_of = {p: {**g, "params": [p]} for g in groups for p in g["params"]}
        here = [p for p in group_of if p not in self._delay]
        try:
            for i, (p, handle) in enumerate(pending):
                self._finish(p, handle)
                here.append(p)
                follows = pending[i + 1][1] if i + 1 < len(pending) else None
                if follows is None or not follows[0].poll():
                    self.param_groups = [group_of[p] for p in here]
                    super(self.__class__, self).step()
                    here = []
        except BaseException as e:
            self._torn = f"{type(e).__name__}: {e}"
            self._pending = dict(pending)  # until load_state_dict()
            raise
        finally:
            self.param_groups = groups

    @contextlib.contextmanager
    def skip_synchronize(self):
        """step() inside does not synchronize: the program has called synchronize() itself."""
        self._skip = True
        try:
            yield
        finally:
            self._skip = False

    def step(self, closure=None):
        self._check_whole()
        if not self._skip:
            if self._synchronized:
                warnings.warn("step() synchronizes again after synchronize(); use skip_synchronize()")
            elif closure is None and self._may_step_by_parameter():
                collective.optimizer_step()
                return self._step_as_they_come()
            self.synchronize()
        self._synchronized = False
        collective.optimizer_step()
        return super(self.__class__, self).step(closure)

    def zero_grad(self, *args, **options):
        self._check_whole()
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
