"""What a rank has not sent yet of sums that lose bits on the wire (--wire auto), in the states that programs save."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

from replica import OVERTAKE, PATIENCE
from test_torch import PYTHON, has_torch
from test_wire import ENV, slow  # noqa: F401: a fixture

HERE = pathlib.Path(__file__).parent
TORCH = pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")


@pytest.fixture
def auto(slow):  # noqa: F811
    def run(n, python, *args, options=("-np",), check=True):
        done = subprocess.run(
            [str(OVERTAKE), "run", *options, str(n), "--links", slow, "--wire", "auto", "--", python, *map(str, args)],
            capture_output=True, text=True, timeout=4 * PATIENCE, env=ENV)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done
    return run


@TORCH
def test_a_new_job_goes_on_with_the_same_bits(auto, tmp_path):
    """Ten steps, and five, a checkpoint of each rank, and five in a new job; then with less than that."""
    def job(n, how):
        done = auto(n, PYTHON, HERE / "residuals_torch.py", how, tmp_path)
        weights = {}
        for name, digest in re.findall(r"^\[\d\] (\w+) ([0-9a-f]{16})$", done.stdout, re.M):
            assert weights.setdefault(name, digest) == digest, "all ranks have the same bits"
        return weights, done.stderr

    straight, said = job(3, "straight")
    assert "int8: " in said
    again, said = job(3, "again")
    assert again["own"] == straight["straight"]
    assert len(set(again.values())) == 3 and again["rank0"] == again["broadcast"]
    # From whose state: once from rank 0's file, once from its broadcast; with their own nobody says anything.
    for rank in (1, 2):
        assert said.count(f"residuals of rank 0; rank {rank} begins with none") == 2, said
    assert said.count("this state has the residuals of rank 0; ") == 4, said
    assert job(2, "own")[1].count("residuals were saved by 3 ranks, and 2 are here") == 1


@TORCH
def test_going_back_within_a_job(auto, tmp_path):
    """Also where matrices go by low rank; a state that was saved before anything was kept drops what is kept."""
    said = auto(2, PYTHON, HERE / "residuals_torch.py", "back", tmp_path)
    assert "low rank: " in said.stderr
    assert said.stdout.count("back True other False fresh True\n") == 2, said.stdout
    assert said.stdout.count("refused: state_dict() between backward() and step()") == 2, said.stdout


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="no tensorflow")
def test_a_fit_goes_on_with_the_same_bits(auto, tmp_path):
    """The second epoch in a new job; a file of another step is not taken."""
    options = ("--wire-rank", "0", "-np")
    straight = auto(2, sys.executable, HERE / "residuals_keras.py", "straight", tmp_path, options=options)
    assert "int8: " in straight.stderr
    again = auto(2, sys.executable, HERE / "residuals_keras.py", "again", tmp_path, options=options)
    weights = re.findall(r"weights (\S+)", straight.stdout + again.stdout)
    assert len(weights) == 4 and len(set(weights)) == 1
    assert again.stderr.count("is of step 10, and the model of step 3: rank ") == 2, again.stderr
    assert again.stdout.count("refused: ResidualsCallback('residuals.npz')") == 2


ELASTIC = """
    import os, pathlib, signal, sys
    import numpy as np
    from overtake import collective as oc, elastic
    oc.init()
    worker, marker = os.environ["OVERTAKE_WORKER"], pathlib.Path(sys.argv[1])
    state, kept = elastic.ObjectState(step=0), {}

    @elastic.run
    def train(state):
        if oc.membership().epoch > 1:
            assert oc.residuals() == kept[state.step] != b"", "what was kept at the commit"
            print("went on at", state.step, flush=True)
        while state.step < 8:
            g = np.random.default_rng(state.step * 10 + oc.rank()).standard_normal(5000, dtype=np.float32)
            oc.allreduce(g, oc.AVERAGE, "w")
            if worker == "2" and state.step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            oc.allreduce(g, oc.AVERAGE, "v")
            state.step += 1
            kept[state.step] = oc.residuals()
            state.commit()

    train(state)
    print("done", state.step, flush=True)
    oc.finalize()
"""


def test_an_elastic_job_goes_back_to_what_was_kept(auto, tmp_path):
    """A rank dies in the middle of a step; what the lost one had kept is lost, which is said."""
    (tmp_path / "program.py").write_text(textwrap.dedent(ELASTIC))
    done = auto(3, sys.executable, tmp_path / "program.py", tmp_path / "marker",
                options=("--min-np", "2", "--max-restarts", "0", "-np"))
    assert done.stdout.count("went on at 5\n") == 2 and done.stdout.count("done 8\n") == 2, done.stdout + done.stderr
    assert done.stderr.count("1 rank less: what it had kept of 2 tensors for later steps (--wire auto) is lost") == 1, done.stderr
