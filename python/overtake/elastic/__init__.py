"""Training that goes on when ranks go or come (`overtake run --min-np N`; docs/training.md).

    import overtake.collective as oc
    from overtake import elastic

    oc.init()
    state = elastic.ObjectState(weights=weights, step=0)      # or TorchState, TensorFlowState, KerasState

    @elastic.run
    def train(state):
        while state.step < 1000:
            ...                                               # a step: collectives
            state.step += 1
            state.commit()

    train(state)

A rank that is lost ends the step of all others. They go back to their last commit, meet again without it, take
the state of whoever was furthest (survivors differ by a commit at most), and call the function again. A rank that is
admitted begins there, too: between init() and the function it asks for nothing.
"""

import copy
import functools
import sys

from .. import collective

__all__ = ["HostsUpdatedInterrupt", "ObjectState", "batch_size", "row_weight", "run"]


class HostsUpdatedInterrupt(RuntimeError):
    """Raised by commit() and check_host_updates() on all ranks at once, for `run`: ranks wait to be admitted, or are to
    leave. Nothing is lost: training goes on from where it is."""

    def __init__(self, skip_sync=False):
        super().__init__("ranks wait to be admitted, or are to leave")
        self.skip_sync = skip_sync


def batch_size(rows):
    """A rank's rows of a step that takes `rows` on all ranks that the job begins with. `overtake run --elastic-batch
    shrink` (the default): the same with any number of ranks, so a step takes fewer with fewer ranks. `keep`: the step
    keeps its rows, divided by the ranks that there are, rounded up; ask again after each change."""
    return -(-rows // collective.membership().batch_ranks)


def row_weight(rows):
    """What a rank with so many rows in this step multiplies its loss by, where ranks differ (the last batch of an epoch):
    then an average over ranks is the average over rows. Asked by all ranks; 0 rows are fine."""
    import numpy

    total = collective.allreduce(numpy.array([rows], numpy.float64), collective.SUM, "elastic.rows")[0]
    return float(rows * collective.size() / total) if total else 0.0


def _keeps_state(value):
    return hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


class ObjectState:
    """What training needs to go on: its attributes, given by name. Those with state_dict() and load_state_dict() (models,
    optimizers, samplers) stay the same objects, others are copied. All must go through pickle. What this rank has not
    sent yet (collective.residuals) is kept with it, and goes to no other."""

    def __init__(self, **values):
        self._names, self._saved, self._residuals = list(values), None, b""
        self._commits = -1  # never synchronized
        self._reset_callbacks, self._size_callbacks = [], []
        self.__dict__.update(values)

    def _packed(self):
        values = {name: getattr(self, name) for name in self._names}
        return {name: getattr(value, "shared_state_dict", value.state_dict)() if _keeps_state(value) else value
                for name, value in values.items()}

    def _load(self, packed, residuals):
        for name in self._names:
            value, there = copy.deepcopy(packed[name]), getattr(self, name)
            if _keeps_state(there):
                there.load_state_dict(value)
            else:
                setattr(self, name, value)
        collective.load_residuals(residuals)  # after the states, which may do without

    def save(self):
        """Keeps a copy in memory, without asking other ranks."""
        self._saved, self._residuals = copy.deepcopy(self._packed()), collective.residuals()

    def restore(self):
        """What was there at the last commit (or at the beginning)."""
        if self._saved is not None:
            self._load(self._saved, self._residuals)

    def commit(self):
        """The end of a step, on all ranks: keeps a copy to go back to, and lets ranks come and go."""
        self._commits += 1
        self.save()
        self.check_host_updates()

    def check_host_updates(self):
        """On all ranks: raises HostsUpdatedInterrupt if one of them knows of ranks that wait or are to leave."""
        import numpy

        here = collective.membership()
        if not here.elastic:
            return
        asked = numpy.array([here.waiting > 0 or here.leaving > 0], numpy.int32)
        if collective.allreduce(asked, collective.MAX, "elastic.updates")[0]:
            raise HostsUpdatedInterrupt()

    def sync(self):
        """The state of the most advanced rank for all; of equals the lowest. The first that a new rank asks for."""
        commits = collective.allgather_object(self._commits, "elastic.commits")
        root = commits.index(max(commits))
        packed = collective.broadcast_object(self._packed() if collective.rank() == root else None, root,
                                             "elastic.state")
        self._load(packed, collective.residuals())
        self._commits = max(commits[root], 0)
        self.save()

    def register_reset_callbacks(self, callbacks):
        """Functions without arguments, called after ranks have changed: e.g. one that sets the learning rate by size()."""
        self._reset_callbacks.extend(callbacks)

    def register_size_callbacks(self, callbacks):
        """Functions of (ranks before, ranks now), called on survivors when that has changed: e.g. one that scales the
        learning rate with the rows of a step (--elastic-batch shrink). What they change of this state goes to all."""
        self._size_callbacks.extend(callbacks)

    def on_reset(self):
        for callback in self._reset_callbacks:
            callback()
        here = collective.membership()
        if here.previous_size not in (0, here.size):
            for callback in self._size_callbacks:
                callback(here.previous_size, here.size)


def _reform(timeout, changes_max):
    collective.reform(timeout)
    here = collective.membership()
    if here.rank == 0:
        print(f"overtake: {here.size} ranks go on, {here.previous_size} before (membership {here.epoch})",
              file=sys.stderr, flush=True)
    if changes_max is not None and here.epoch - 1 > changes_max:
        raise collective.CollectiveError(f"ranks have changed {here.epoch - 1} times, and {changes_max} is the limit", -9)


def run(function, after_reform=None, timeout=0.0, changes_max=None):
    """function(state, ...), called again with the state of the last commit when ranks have changed. What it raises
    while all ranks are there is raised. In a job that isn't elastic, everything is. `timeout`: for ranks to meet again;
    `changes_max`: how often they may change before the job has failed."""
    @functools.wraps(function)
    def going_on(state, *args, **options):
        while True:
            lost = False
            try:
                state.sync()
                return function(state, *args, **options)
            except HostsUpdatedInterrupt:
                pass
            except Exception:
                here = collective.membership()  # frameworks wrap what failed: that ranks are lost is what counts
                if not (here.elastic and here.failed):
                    raise
                lost = True
            _reform(timeout, changes_max)
            if lost:  # not before: until then what was in flight may still be written to
                state.restore()
            if after_reform is not None:
                after_reform()
            state.on_reset()

    return going_on
