"""Process sets: groups of some of the ranks. Every rank of the job adds and removes them alike."""

from overtake import collective


class ProcessSet:
    """`ranks` of the job, in any order; usable after add_process_set or init(process_sets=...)."""

    def __init__(self, ranks):
        self.ranks, self.process_set_id = sorted(set(ranks)), None

    def _group(self):
        if self.process_set_id is None:
            raise ValueError(f"process set of ranks {self.ranks}: call add_process_set(it), or give it to "
                             "init(process_sets=[...]), before it is used")
        return self.process_set_id

    def _root(self, root_rank):
        """Horovod names the root by its rank in the job."""
        if root_rank not in self.ranks:
            raise ValueError(f"broadcast: root rank {root_rank} is not in {self}")
        return self.ranks.index(root_rank)

    def included(self):
        return collective.rank() in self.ranks

    def rank(self):
        return collective.rank(self._group())

    def size(self):
        self._group()
        return len(self.ranks)

    def __repr__(self):
        return f"ProcessSet(process_set_id={self.process_set_id}, ranks={self.ranks})"


class _Global(ProcessSet):
    def __init__(self):
        super().__init__([])
        self.process_set_id = collective.WORLD

    def _root(self, root_rank):
        return root_rank

    def included(self):
        return True

    def size(self):
        return collective.size()


global_process_set = _Global()
_added = []


def add_process_set(process_set):
    """A ProcessSet or a list of ranks; returns the set."""
    made = process_set if isinstance(process_set, ProcessSet) else ProcessSet(process_set)
    if made.process_set_id is not None or any(p.ranks == made.ranks for p in _added):
        raise ValueError(f"a process set of ranks {made.ranks} is there already")
    made.process_set_id = collective.group_create(made.ranks)
    _added.append(made)
    return made


def remove_process_set(process_set):
    if process_set not in _added:
        return False
    collective.group_free(process_set.process_set_id)
    process_set.process_set_id = None
    _added.remove(process_set)
    return True


def get_process_set_ids_and_ranks():
    ids = {global_process_set.process_set_id: list(range(collective.size()))}
    return {**ids, **{p.process_set_id: p.ranks for p in _added}}


def forget():
    """After shutdown the sets are gone."""
    for p in _added:
        p.process_set_id = None
    _added.clear()
