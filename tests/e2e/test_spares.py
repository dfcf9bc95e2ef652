"""Spare processes (train.warm): a retraining of `overtake up` starts in one, from the API's request to its end; what
ends one, and that nobody notices but the log's first line. What a script sees in one is held by
tests/unit/launch/spare_test.c."""

import contextlib
import json
import os
import pathlib
import signal
import textwrap

import pytest

from replica import BUILD, ROOT, wait_for
from up import TRAIN, ApiError

COLD = "[overtake: started cold: "
WARM = "[overtake: started in a spare process"


def spare_of(u, state="ready", name="planes"):
    return wait_for(f"a spare that is {state}",
                    lambda: (lambda s: s if s["state"] == state else None)(u.api.app(name)["spare"]))


class Warm:
    """An app whose retrainings are warm, with version 1 serving. `mark` stands in the environment of all its processes:
    tests may run side by side."""

    def __init__(self, u, a, mark, modules, np=0, program=None):
        self.u, self.a, self.mark, self.version, self.modules, self.np = u, a, mark, 1, modules, np
        if program:
            program(a)
        self.apply()
        self.u.api.wait_event("version.promoted", "model/planes@1")

    def apply(self):
        file = json.loads(self.a.yaml())
        file["train"].update(warm=self.modules, np=self.np)
        self.a.apply(self.u.api, json.dumps(file))

    def waiting(self):
        """Processes of a spare of ranks, which is ready, by what they are."""
        shim, launcher = self.processes()
        found, left = {"shim": [shim], "launcher": [launcher], "python": []}, [launcher]
        while left:
            pid = left.pop()
            children = [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            left += children
            found["python"] += [p for p in children if b"overtake_spare" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes()]
        assert len(found["python"]) == self.np
        return found

    def processes(self):
        """(shim, program) of the only spare, which is ready."""
        spare_of(self.u)
        found = []
        for p in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if (b"--spare-fd" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")
                        and self.mark.encode() in pathlib.Path(f"/proc/{p}/environ").read_bytes().split(b"\0")):
                    found.append(int(p))
        (shim,) = found
        (program,) = pathlib.Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
        return shim, int(program)

    def train(self, promoted=True):
        """The log of the next retraining."""
        after = self.u.api.head()
        self.u.api.act("planes", "train", "a test")
        if promoted:
            self.version += 1
            self.u.api.wait_event("version.promoted", f"model/planes@{self.version}", after)
        else:
            self.u.api.wait_event("cycle.failed", after=after, unless=())
        return self.log(max(self.runs()))

    def runs(self):
        return [r["run"] for r in self.u.api.runs("planes") if r["step"] == "train"]

    def log(self, run):
        return self.u.api.text(f"/runs/{run}/log")


@pytest.fixture
def warm(up, app, monkeypatch, tmp_path):
    def make(*args, modules=("numpy",), np=0, program=None, **env):
        mark = f"SPARE_TEST={tmp_path}"
        for name, value in {"SPARE_TEST": str(tmp_path), **env}.items():
            monkeypatch.setenv(name, value)
        return Warm(up(*args), app(), mark, list(modules), np, program)
    return make


def gone(*pids):
    for pid in pids:
        wait_for(f"the end of {pid}", lambda pid=pid: not pathlib.Path(f"/proc/{pid}/exe").exists())


def test_retraining_is_warm(warm):
    w = warm()
    assert w.log(w.runs()[0]).startswith(COLD + "no spare was there yet]\n")
    for _ in range(2):  # one process serves one run; the next one is another
        assert spare_of(w.u)["memory_bytes"] > 1 << 20
        log = w.train()
        assert log.startswith(WARM) and "\ntraining on" in log, log
    pids = w.processes()
    w.a.program("raise ValueError('no rows')\n")
    w.apply()
    gone(*pids)  # what it was started for is not in force any more
    pids = w.processes()
    log = w.train(promoted=False)
    assert log.startswith(WARM) and log.endswith("ValueError: no rows\n") and log.count("File ") == 1, log
    ended = w.u.api.events("run.finished")[-1]["payload"]
    assert ended["state"] == "failed" and ended["text"].count("its last line: ValueError: no rows"), ended
    gone(*pids)
    pids = w.processes()
    w.modules = []
    w.a.program()
    w.apply()
    gone(*pids)
    assert w.u.api.app("planes")["spare"] is None and w.train().startswith("training on")


def test_the_first_training_after_up(up, app):
    """Nothing serves yet: the spare that waits from `up` on is no background work, nor is its training."""
    u, a = up(), app()
    a.program("import os\nprint('idle' if os.sched_getscheduler(0) == os.SCHED_IDLE else 'awake', flush=True)\n"
              "raise SystemExit('no rows yet')\n")
    file = json.loads(a.yaml())
    file["train"]["warm"] = ["numpy"]
    a.apply(u.api, json.dumps(file))
    u.api.wait_event("cycle.failed", unless=())
    u.stop()
    u.start()
    spare_of(u)
    after = u.api.head()
    u.api.act("planes", "train", "a test")
    u.api.wait_event("cycle.failed", after=after, unless=())
    run = max(r["run"] for r in u.api.runs("planes"))
    log = u.api.text(f"/runs/{run}/log")
    assert log.startswith(WARM) and "\nawake\n" in log and "no rows yet" in log, log


def test_killed(warm):
    """kill -9 of the program, of its shim, of the control plane: cold runs, new spares, nothing left."""
    w = warm()
    for which in (0, 1):
        pids = w.processes()
        os.kill(pids[which], signal.SIGKILL)
        gone(*pids)
        log = w.train()
        assert log.startswith(COLD + "the spare has ended: ") or log.startswith(COLD + "it "), log
        assert "\ntraining on" in log, log
    pids = w.processes()
    w.u.expect_log("the control plane is gone", "control ended with signal 9")
    w.u.kill_child("control")
    gone(*pids)
    wait_for("control plane", w.u.answers)
    pids = w.processes()
    assert w.train().startswith(WARM)
    pids = w.processes()
    w.u.stop()
    gone(*pids)


def test_changed_module(warm, tmp_path):
    (tmp_path / "lib").mkdir()
    module = tmp_path / "lib/spare_test_module.py"
    module.write_text("print('imported', 1, flush=True)\n")
    w = warm(modules=["spare_test_module"], PYTHONPATH=str(tmp_path / "lib"))
    w.a.program("import spare_test_module\nOUT = 'out/model'\n" + textwrap.dedent(TRAIN))
    w.apply()
    spare_of(w.u)
    log = w.train()
    assert log.startswith(WARM) and log.count("imported 1\n") == 1, log
    spare_of(w.u)
    module.write_text("print('imported', 2, flush=True)\n")
    log = w.train()
    assert log.startswith(COLD) and "has changed since the spare was started" in log.split("\n")[0], log
    assert "imported 2\n" in log
    spare_of(w.u)
    log = w.train()
    assert log.startswith(WARM) and "imported 2\n" in log, log


def test_memory_of_the_site(warm, tmp_path):
    site, lib = tmp_path / "site.yaml", tmp_path / "lib"
    site.write_text("schema: overtake.site/1\nquotas: {spare_memory: 64MiB}\n")
    lib.mkdir()
    (lib / "spare_test_hungry.py").write_text("x = bytearray(128 << 20)\n")
    w = warm("--site", site, modules=["spare_test_hungry"], PYTHONPATH=str(lib))
    why = wait_for("why there is none", lambda: w.u.api.app("planes")["spare"]["why"])
    assert why.startswith("it took ") and why.endswith(" of memory, 64 MiB is left for it"), why
    log = w.train()
    assert log.startswith(COLD + why + "]\n"), log


RANKS = """
    import os, pathlib, sys, time
    first = time.time()
    sys.path.insert(0, PYTHON)
    os.environ["OVERTAKE_LIB"] = LIB
    print("numpy", "was there" if "numpy" in sys.modules else "was not there", os.environ["OVERTAKE_RANK"], sys.argv,
          pathlib.Path.cwd().name, sorted(os.listdir(os.environ["OVERTAKE_DATA"])), flush=True)
    import numpy as np
    import overtake.collective as ranks
    ranks.init()
    assert ranks.allreduce(np.ones(4), name="x").tolist() == [1] * 4
    print("rank", ranks.rank(), "of", ranks.size(), "pid", os.getpid(), "of", os.getppid(), flush=True)
    if ranks.rank() == 1 and (pathlib.Path(FOLDER) / "fail").exists():
        raise SystemExit("no such column")
    if ranks.rank() == 0:
        out = pathlib.Path("out/model")
        out.mkdir(parents=True)
        (out / "null.json").write_text(MODEL)
    ranks.finalize()
"""


@pytest.fixture
def warm_ranks(warm, monkeypatch):
    """A training of two ranks; `module`: what each has imported."""
    def make(np=2, modules=("numpy",), **env):
        model = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                 "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
                 "op": "linear", "weights": [[1, 0], [0, 1], [0, 0], [0, 0]], "bias": [0, 0], "softmax": True}

        def program(a):
            a.program(f"PYTHON, LIB, FOLDER = {str(ROOT / 'python')!r}, {str((ROOT / BUILD).resolve() / 'libovertake.so')!r}, "
                      f"{str(a.folder)!r}\nMODEL = {json.dumps(model)!r}\n" + textwrap.dedent(RANKS))
        return warm(modules=modules, np=np, program=program, **env)
    return make


def test_ranks_are_warm(warm_ranks):
    w = warm_ranks()
    for _ in range(2):
        spare_of(w.u)
        log = w.train()
        assert log.startswith(WARM), log
        for rank in range(2):
            one = w.u.api.text(f"/runs/{max(w.runs())}/log", rank=rank)
            assert one.startswith(f"numpy was there {rank} ['train.py'] work ['base']\nrank {rank} of 2 pid "), one
    (w.a.folder / "fail").touch()
    spare_of(w.u)
    log = w.train(promoted=False)
    assert log.startswith(WARM)
    ended = w.u.api.events("run.finished")[-1]["payload"]
    assert "rank 1 (host " in ended["text"] and "its last line: no such column" in ended["text"], ended


def test_a_rank_in_waiting_is_killed(warm_ranks):
    """The program of one rank, the launcher, the control plane: cold, or another one; nothing is left."""
    w = warm_ranks()
    for which in ("python", "launcher"):
        pids = w.waiting()
        os.kill(pids[which][-1], signal.SIGKILL)
        gone(*[p for of in pids.values() for p in of])
        spare_of(w.u, "none")
        log = w.train()
        assert log.startswith(COLD), log
        assert "numpy was not there" in log and "rank 1 of 2" in log
    pids = w.waiting()
    w.u.expect_log("the control plane is gone", "control ended with signal 9")
    w.u.kill_child("control")
    gone(*[p for of in pids.values() for p in of])
    wait_for("control plane", w.u.answers)
    spare_of(w.u)
    assert w.train().startswith(WARM)


def test_one_rank_starts_cold(warm_ranks, tmp_path):
    """What was imported has changed for both: the ranks start cold within a job that was in waiting."""
    (tmp_path / "lib").mkdir()
    module = tmp_path / "lib/spare_test_module.py"
    module.write_text("print('imported', flush=True)\n")
    w = warm_ranks(modules=("numpy", "spare_test_module"), PYTHONPATH=str(tmp_path / "lib"))
    spare_of(w.u)
    log = w.train()
    assert log.count("] imported\n") == 2, log
    spare_of(w.u)
    module.write_text("print('imported again', flush=True)\n")
    log = w.train()
    assert log.count("[overtake: started cold: ") == 2 and "has changed since the spare was started" in log, log
    assert log.count("numpy was not there") == 2


def test_refused(up, app):
    u, a = up(), app()
    file = json.loads(a.yaml())
    file["train"]["warm"] = ["numpy; import os"]
    with pytest.raises(ApiError) as e:
        a.apply(u.api, json.dumps(file))
    assert "train.warm: 'numpy; import os' is not the name of a Python module" in e.value.message
    file["train"].update(warm=["numpy"], run=file["train"]["run"] + " | cat")
    a.apply(u.api, json.dumps(file))
    u.api.wait_event("version.promoted", "model/planes@1")
    (run,) = (r["run"] for r in u.api.runs("planes") if r["step"] == "train")
    assert u.api.text(f"/runs/{run}/log").startswith(COLD + "its command needs a shell from '| cat' on]\n")
    assert u.api.app("planes")["spare"] == {"state": "none", "memory_bytes": None,
                                            "why": "its command needs a shell from '| cat' on"}
