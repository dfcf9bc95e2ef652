"""Ranks that mpirun starts and whose data MPI moves: training, failures, and what is refused."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from replica import OVERTAKE, PATIENCE, ROOT, wait_for
from test_run import job, run  # noqa: F401: job is a fixture
from test_torch import EXAMPLES, PYTHON, digits, has_torch, program, same  # noqa: F401: digits is a fixture

BUILT = OVERTAKE.parent
pytestmark = [
    pytest.mark.skipif(not (BUILT / "libovertake_mpi.so").exists(),
                       reason="the engine mpi is not built: there was no mpicc (Debian: libopenmpi-dev)"),
    pytest.mark.skipif(not shutil.which("mpirun") or "Open MPI" not in subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout,
                       reason="there is no mpirun of Open MPI (Debian: openmpi-bin)")]
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--mca", "btl", "tcp,self", "--mca", "pml", "ob1", "--mca",
          "btl_tcp_if_include", "lo", "--mca", "mpi_yield_when_idle", "1"]
RANK = ROOT / "tests" / "e2e" / "collective_rank.py"


@pytest.fixture
def env(tmp_path):
    (tmp_path / "key").write_text("the key of this test")
    (tmp_path / "key").chmod(0o600)
    return {**os.environ, "OVERTAKE_KEY_FILE": str(tmp_path / "key"), "OVERTAKE_ENGINE": "mpi",
            "PYTHONPATH": str(ROOT / "python"), "OVERTAKE_LIB": str(BUILT / "libovertake.so"),
            "PATH": f"{BUILT.resolve()}:{os.environ['PATH']}"}


def mpirun(env, *args):
    return subprocess.run([*MPIRUN, *map(str, args)], env=env, capture_output=True, text=True, timeout=4 * PATIENCE)


@pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")
def test_training_equals_one_process(digits, env, tmp_path):  # noqa: F811
    one, three = tmp_path / "one.npz", tmp_path / "three.npz"
    alone = subprocess.run([PYTHON, EXAMPLES / "train.py", digits, one], env={**env, "OVERTAKE_ENGINE": "overtake"},
                           capture_output=True, text=True, timeout=4 * PATIENCE)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    r = mpirun(env, "-np", 3, PYTHON, EXAMPLES / "train.py", digits, three)
    assert r.returncode == 0 and "3 ranks: loss" in r.stdout, r.stdout + r.stderr
    same(one, three, 1e-9)


@pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")
def test_a_program_in_horovods_style(digits, env):  # noqa: F811
    r = mpirun(env, "-np", 2, PYTHON, ROOT / "tests" / "e2e" / "horovod_train.py", digits)
    found = re.search(r"accuracy ([\d.]+) on 2 ranks, 2 here", r.stdout)
    assert r.returncode == 0 and found and float(found.group(1)) > 0.9, r.stdout + r.stderr


def test_all_kinds_of_requests_and_a_second_job(env, tmp_path):
    """Groups of some of the ranks go by our own links, beside MPI."""
    r = mpirun(env, "-np", 3, sys.executable, program(tmp_path, """
        import numpy as np, overtake.collective as oc
        for again in range(2):
            oc.init()
            r, n = oc.rank(), oc.size()
            assert oc.allreduce(np.full(5, r, np.float32), oc.SUM, name="a")[0] == 3
            some = oc.group_create([0, 2])
            if r != 1:
                assert oc.allreduce(np.full(5, r, np.float32), oc.SUM, name="b", group=some)[0] == 2
            assert list(oc.allgather(np.full((r, 1), r, np.int32), name="c")[:, 0]) == [1, 2, 2]
            oc.finalize()
        print("well")
    """))
    assert r.returncode == 0 and r.stdout.count("well") == 3, r.stdout + r.stderr


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_is_named_by_every_survivor(env, tmp_path, victim):
    """The ranks send all the time, so that MPI, too, finds out; mpirun is told to let the others live."""
    out = tmp_path / "out"
    work = program(tmp_path, """
        import os, sys, numpy as np, overtake.collective as oc
        oc.init()
        x, i = np.ones(4_000_000, np.float32), 0
        try:
            while True:
                oc.allreduce(x, name="grad")
                i += 1
                if i == 3:
                    os.write(1, f"rank {oc.rank()} is {os.getpid()}\\n".encode())
        except oc.CollectiveError as e:
            os.write(1, f"failed at {oc.rank()}: {e.rank} {e}\\n".encode())
            sys.exit(3)
    """)
    with out.open("wb") as f:
        p = subprocess.Popen([*MPIRUN, "--enable-recovery", "-np", "3", sys.executable, str(work)], env=env, stdout=f,
                             stderr=subprocess.STDOUT)
    try:
        pids = wait_for("steps", lambda: (found := dict(re.findall(r"rank (\d) is (\d+)\n", out.read_text()))) and
                        len(found) == 3 and found)
        os.kill(int(pids[str(victim)]), signal.SIGKILL)
        said = wait_for("a culprit", lambda: len(s := dict(re.findall(r"failed at (\d): (.*)", out.read_text()))) == 2 and s)
        assert sorted(said) == [r for r in "012" if r != str(victim)]
        assert all(t.startswith(f"{victim} ") and f"rank {victim} (host" in t and "'grad'" in t for t in said.values()), said
    finally:
        p.terminate()
        p.wait(PATIENCE)


def test_ranks_with_different_engines_are_told(env):
    r = mpirun(env, "-np", 1, "-x", "OVERTAKE_ENGINE=mpi", sys.executable, RANK, ":",
               "-np", 1, "-x", "OVERTAKE_ENGINE=overtake", sys.executable, RANK)
    said = re.findall(r"failed: rank 1 \(host \S+\) has the engine 'overtake' and rank 0 \(host \S+\) 'mpi Open MPI [\d.]+'", r.stdout)
    assert r.returncode != 0 and len(said) >= 1, r.stdout + r.stderr


def test_without_a_launcher_of_mpi_it_is_refused(env):
    r = subprocess.run([str(OVERTAKE), "run", "-np", "2", "--", sys.executable, str(RANK)], env=env, capture_output=True, text=True,
                       timeout=PATIENCE)
    assert len(re.findall(r"failed: rank 0 .*no launcher of MPI has started this process: .* mpirun", r.stdout)) == 2, r.stdout


def test_a_library_without_its_engine_says_what_to_install(env, tmp_path):
    shutil.copy(BUILT / "libovertake.so", tmp_path)
    r = mpirun({**env, "OVERTAKE_LIB": str(tmp_path / "libovertake.so")}, "-np", 1, sys.executable, "-c",
               "import overtake.collective as oc; oc.init()")
    assert r.returncode != 0 and f"there is no {tmp_path}/libovertake_mpi.so" in r.stderr and "libopenmpi-dev" in r.stderr, r.stderr


@pytest.mark.parametrize("begin,says", [("MPI_Init(None, None)", "without MPI_THREAD_MULTIPLE"),
                                        ("MPI_Init(None, None), mpi.MPI_Finalize()", "has called MPI_Finalize")])
def test_a_program_that_has_begun_mpi_itself_as_it_must_not(env, tmp_path, begin, says):
    library = re.search(r"libmpi\S+ => (\S+)", subprocess.run(["ldd", BUILT / "libovertake_mpi.so"], capture_output=True, text=True).stdout)
    r = mpirun(env, "-np", 1, sys.executable, program(tmp_path, f"""
        import ctypes
        mpi = ctypes.CDLL({library[1]!r}, ctypes.RTLD_GLOBAL)
        mpi.{begin}
        import overtake.collective as oc
        oc.init()
    """))
    assert r.returncode != 0 and says in r.stderr, r.stderr


def test_a_program_that_has_begun_mpi_with_threads(env, tmp_path):
    library = re.search(r"libmpi\S+ => (\S+)", subprocess.run(["ldd", BUILT / "libovertake_mpi.so"], capture_output=True, text=True).stdout)
    r = mpirun(env, "-np", 2, sys.executable, program(tmp_path, f"""
        import ctypes, numpy as np
        mpi = ctypes.CDLL({library[1]!r}, ctypes.RTLD_GLOBAL)
        level = ctypes.c_int()
        mpi.MPI_Init_thread(None, None, 3, ctypes.byref(level))
        import overtake.collective as oc
        oc.init()
        assert oc.allreduce(np.ones(9, np.float32), oc.SUM, name="a")[0] == 2
        oc.finalize()
        assert mpi.MPI_Finalize() == 0
        print("well")
    """))
    assert r.returncode == 0 and r.stdout.count("well") == 2, r.stdout + r.stderr


# --- overtake run --engine mpi ----------------------------------------------------------------------------------


def numbered(text):
    return dict(re.findall(r"^\[(\d)\] (failed: .*)", text, re.M))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the launcher of the job, mpirun and MPI put their files."""
    path = tmp_path / "t"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def empty(folder):
    wait_for("no files left", lambda: not list(folder.iterdir()))


def test_run_starts_the_ranks_among_mpis(folder):
    r = run("--engine", "mpi", "-np", 3, "--", sys.executable, RANK)
    assert r.returncode == 0, r.stderr
    assert re.findall(rb"^\[(\d)\] sum (\S+)", r.stdout, re.M).__len__() == 3 and b"sum 3.0" in r.stdout
    assert r.stderr == b""
    empty(folder)


@pytest.mark.parametrize("victim", [0, 2])
def test_run_names_a_killed_rank(job, folder, tmp_path, victim):  # noqa: F811
    j = job("--engine", "mpi", "-np", 3, "--", sys.executable, RANK, f"until={tmp_path / 'enough'}")
    pids = j.started(3)
    wait_for("steps", lambda: len(re.findall("under way", j.out.read_text())) == 3)
    os.kill(pids[victim], signal.SIGKILL)
    assert j.ends() == 137
    said = numbered(j.out.read_text())
    assert sorted(said) == [r for r in "012" if r != str(victim)]
    assert all(f"rank {victim} " in t and "grad" in t and "killed by signal 9" in t for t in said.values()), said
    j.leaves_nothing()
    empty(folder)


def test_a_killed_launcher_takes_mpirun_with_it(job, folder, tmp_path):  # noqa: F811
    j = job("--engine", "mpi", "-np", 2, "--", sys.executable, RANK, f"until={tmp_path / 'enough'}")
    j.started(2)
    j.process.kill()
    j.leaves_nothing()
    empty(folder)


@pytest.mark.parametrize("options,says", [
    (["-np", 2, "--min-np", 1], b"goes without --min-np"), (["-np", 2, "--max-restarts", 1], b"goes without"),
    (["-H", "elsewhere:2"], b"OVERTAKE_ENGINE=mpi mpirun"), (["-np", 2, "--sbatch"], b"go without --engine")])
def test_run_refuses_what_mpi_can_not(options, says):
    r = run("--engine", "mpi", *options, "--", "true")
    assert r.returncode != 0 and says in r.stderr, r.stderr


def test_run_without_mpirun_says_so(monkeypatch, folder):
    monkeypatch.setenv("PATH", "/nowhere")
    r = run("--engine", "mpi", "-np", 2, "--", sys.executable, RANK)
    assert r.returncode != 0 and b"openmpi-bin" in r.stderr, r.stderr
    empty(folder)
