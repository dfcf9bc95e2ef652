"""The state of elastic training against a fake of the collectives, whose ranks are threads: ranks are lost at each
operation of each step, others are admitted, and what has been trained is counted."""

import sys
import threading
import types

import numpy as np
import pytest

from replica import PATIENCE, ROOT

sys.path.insert(0, str(ROOT / "python"))
from overtake import collective, dealing, elastic  # noqa: E402


class Killed(BaseException):
    """This rank is gone: nothing catches it."""


class Job:
    """Ranks by thread; an operation is an exchange of one value each. `kill` is (member, operation): it dies there."""

    MAX, SUM = collective.MAX, collective.SUM

    def __init__(self, kill=None, partly=False):
        self.changed, self.here = threading.Condition(), threading.local()
        self.members, self.waiting, self.values, self.by_epoch = [], [], {}, {}
        self.epoch, self.kill, self.partly = 0, kill, partly

    def rank(self):
        return self.members.index(self.here.member)

    def size(self):
        return len(self.members)

    def membership(self):
        with self.changed:
            return types.SimpleNamespace(elastic=1, rank=self.rank(), size=len(self.members), epoch=self.epoch,
                                         failed=int(self.failed), waiting=len(self.waiting), leaving=0,
                                         previous_size=self.before)

    def exchange(self, value):
        with self.changed:
            member, epoch = self.here.member, self.epoch
            self.here.operations += 1
            dies = self.kill == (member, self.here.operations)
            if dies and not self.partly:
                self._lose(member)
            if self.failed:
                raise collective.CollectiveError("a rank is lost", -14)
            number = self.here.operations - self.here.offset
            got = self.values.setdefault((epoch, number), {})
            got[member] = value
            self.changed.notify_all()
            if dies:  # its part has arrived, what comes back does not
                self._lose(member)
            members = self.by_epoch[epoch]
            assert self.changed.wait_for(lambda: len(got) == len(members) or self.failed or self.epoch != epoch, PATIENCE)
            # Where all parts have come while it fails, some ranks have the result and others never get it.
            if len(got) < len(members) or (self.failed and members.index(member) % 2):
                raise collective.CollectiveError("a rank is lost", -14)
            return [got[m] for m in members]

    def _lose(self, member):
        self.failed = True
        self.gone.add(member)
        self.changed.notify_all()
        raise Killed()

    def form(self, members):
        with self.changed:
            self.before, self.members = len(self.members), members
            self.failed, self.gone, self.reforming = False, set(), set()
            self.epoch += 1
            self.by_epoch[self.epoch] = members
            self.changed.notify_all()

    def reform(self, timeout):
        with self.changed:
            epoch, member = self.epoch, self.here.member
            self.reforming.add(member)
            survivors = [m for m in self.members if m not in self.gone]
            if self.reforming == set(survivors):
                admitted, self.waiting = self.waiting, []
                self.form(survivors + admitted)
            assert self.changed.wait_for(lambda: self.epoch != epoch, PATIENCE)
            self.here.offset = self.here.operations

    def start(self, member):
        self.here.member, self.here.operations, self.here.offset, self.here.kept = member, 0, 0, b""

    def residuals(self):
        return self.here.kept

    def load_residuals(self, saved):
        self.here.kept = saved

    def join(self, member):
        """A new process: comes back when it has been admitted."""
        self.start(member)
        with self.changed:
            self.waiting.append(member)
            assert self.changed.wait_for(lambda: member in self.members, PATIENCE)

    def allreduce(self, array, reduction, name):
        self.here.kept += b"x" if name == "seen" else b""  # what this rank keeps has changed, also if it fails
        values = self.exchange(np.asarray(array))
        return np.max(values, 0) if reduction == collective.MAX else np.sum(values, 0)

    def allgather_object(self, value, name):
        return self.exchange(value)

    def broadcast_object(self, value, root, name):
        return self.exchange(value)[root]


LENGTH, BATCH, EPOCHS = 60, 4, 2


class Samples:
    """What a sampler is to a state."""

    def __init__(self):
        self.dealing = dealing.Dealing(LENGTH, remainder="keep")

    def state_dict(self):
        return self.dealing.state()

    def load_state_dict(self, state):
        self.dealing.load(state)


def program(job, ended, join_at=None, joiner=None):
    """Adds up what it has seen, on all ranks alike; each commit is a step."""
    samples, committed, kept = Samples(), 0, {}
    state = elastic.ObjectState(seen=np.zeros((EPOCHS, LENGTH), int), samples=samples, resets=0, sizes=())
    state.register_reset_callbacks([lambda: setattr(state, "resets", state.resets + 1)])
    state.register_size_callbacks([lambda *sizes: setattr(state, "sizes", state.sizes + (sizes,))])

    @elastic.run
    def train(state):
        nonlocal committed
        assert state.seen.sum() >= committed, "what this rank had committed was lost"
        assert job.residuals() == kept.get(committed, b""), "and what it had kept then"
        d = samples.dealing
        while d.epoch < EPOCHS:
            mine = d.deal(job.rank(), len(job.members))
            steps = -(-(LENGTH - d.taken) // (BATCH * len(job.members)))
            for i in range(steps):
                seen = np.zeros(LENGTH, int)
                seen[mine[i * BATCH:(i + 1) * BATCH]] += 1
                state.seen[d.epoch] += job.allreduce(seen, collective.SUM, "seen")
                d.record(BATCH)
                if joiner and job.rank() == 0 and state.seen.sum() > join_at and not joiner.is_alive():
                    joiner.start()
                    with job.changed:
                        assert job.changed.wait_for(lambda: job.waiting, PATIENCE)
                committed = state.seen.sum()
                kept[committed] = job.residuals()
                state.commit()
            d.set_epoch(d.epoch + 1)
        return state

    try:
        ended[job.here.member] = train(state)
    except Killed:
        pass
    except BaseException as why:
        ended[job.here.member] = why
        raise


@pytest.fixture
def run(monkeypatch):
    def run_job(n, joins=None, **how):
        job, ended = Job(**how), {}
        monkeypatch.setattr(elastic, "collective", job)
        joiner = threading.Thread(target=lambda: (job.join("new"), program(job, ended)), daemon=True) if joins else None
        job.form([f"m{i}" for i in range(n)])
        threads = [threading.Thread(target=lambda m=m: (job.start(m), program(job, ended, joins, joiner)), daemon=True)
                   for m in job.members]
        for t in threads:
            t.start()
        for t in threads + [joiner] * bool(joins):
            t.join(PATIENCE)
            assert not t.is_alive()
        return ended
    return run_job


def exactly_once(ended, n):
    assert len(ended) == n, ended
    for state in ended.values():
        assert isinstance(state, elastic.ObjectState), state
        assert (state.seen == 1).all(), state.seen


def test_without_losses(run):
    ended = run(3)
    exactly_once(ended, 3)
    assert all(s.resets == 0 for s in ended.values())


@pytest.mark.parametrize("partly", [False, True], ids=["before-it-asks", "after-it-has-asked"])
def test_a_rank_lost_at_each_operation(run, partly):
    """Operations 1 and 2 are the first sync, then two a step."""
    for member in ("m0", "m2"):
        for operation in (1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13):
            ended = run(3, kill=(member, operation), partly=partly)
            exactly_once(ended, 2)
            assert all(s.resets <= 1 and s.sizes == ((3, 2),) * s.resets for s in ended.values())


def test_a_rank_is_admitted(run):
    ended = run(2, joins=40)
    exactly_once(ended, 3)
    assert ended["m0"].resets == 1
    assert all(s.sizes == ((2, 3),) for s in ended.values())  # also of the new one: it has the others' state


def test_ranks_with_fewer_rows_count_less(monkeypatch):
    job, got = Job(), {}
    monkeypatch.setattr(elastic, "collective", job)
    job.form(["m0", "m1", "m2"])

    def weigh(member, rows):
        job.start(member)
        got[member] = elastic.row_weight(rows)
    threads = [threading.Thread(target=weigh, args=(m, n), daemon=True) for m, n in zip(job.members, (4, 2, 0))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
    assert got == {"m0": 2.0, "m1": 1.0, "m2": 0.0}


def test_what_a_program_does_wrong_is_raised(run, monkeypatch):
    job = Job()
    monkeypatch.setattr(elastic, "collective", job)
    job.form(["m0"])
    job.start("m0")
    state = elastic.ObjectState(step=0, items=[1])

    @elastic.run
    def train(state):
        state.items.append(2)
        raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"):
        train(state)
    assert job.epoch == 1 and state.items == [1, 2]
    state.restore()
    assert state.items == [1]
    state.items.append(3)  # what was kept is a copy
    state.restore()
    assert state.items == [1]
