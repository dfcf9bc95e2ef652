"""PyTorch on several ranks: hooks and optimizer, the process group under DistributedDataParallel, against
one process and against Gloo. PyTorch is the system's, under /usr/bin/python3."""

import os
import pathlib
import re
import subprocess
import textwrap

import numpy as np
import pytest

from replica import OVERTAKE, PATIENCE, ROOT

PYTHON = "/usr/bin/python3"
EXAMPLES = ROOT / "examples" / "torch"


def has_torch():
    found = pathlib.Path(PYTHON).exists() and subprocess.run(
        [PYTHON, "-c", "import torch, numpy; print(torch.__version__)"], capture_output=True, text=True)
    return bool(found) and found.returncode == 0


pytestmark = pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    from sklearn.datasets import load_digits
    data = load_digits()
    np.savez(path, x=(data.images / 16.0).astype(np.float32), y=data.target.astype(np.int64))
    return path


def ranks(n, *args, check=True, **env):
    done = subprocess.run(
        [str(OVERTAKE), "run", "-np", str(n), "--", PYTHON, *map(str, args)], capture_output=True, text=True,
        timeout=4 * PATIENCE, env={**os.environ, "PYTHONPATH": str(ROOT / "python"),
                                   "OVERTAKE_LIB": str(OVERTAKE.parent / "libovertake.so"), **env})
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def same(a, b, tolerance):
    a, b = np.load(a), np.load(b)
    assert set(a) == set(b) and len(a) > 0
    for name in a:
        assert np.abs(a[name] - b[name]).max() <= tolerance, name


def test_training_equals_one_process(digits, tmp_path):
    one, three = tmp_path / "one.npz", tmp_path / "three.npz"
    ranks(1, EXAMPLES / "train.py", digits, one)
    said = ranks(3, EXAMPLES / "train.py", digits, three).stdout
    assert float(re.search(r"3 ranks: loss [\d.]+, accuracy ([\d.]+)", said).group(1)) > 0.9
    same(one, three, 1e-9)


def test_ddp_equals_one_process_and_gloo(digits, tmp_path):
    files = {b: tmp_path / f"{b}.npz" for b in ("overtake", "gloo")}
    for backend, path in files.items():
        ranks(3, EXAMPLES / "train_ddp.py", digits, path, backend)
    ranks(1, EXAMPLES / "train_ddp.py", digits, tmp_path / "one.npz")
    same(files["overtake"], files["gloo"], 1e-9)
    same(files["overtake"], tmp_path / "one.npz", 1e-9)


def test_collectives_equal_gloo(tmp_path):
    script = pathlib.Path(__file__).parent / "torch_collectives.py"
    for backend in ("overtake", "gloo"):
        ranks(3, script, backend, tmp_path / backend)
    for rank in range(3):
        ours = np.load(tmp_path / f"overtake.{rank}.npz")
        gloo = np.load(tmp_path / f"gloo.{rank}.npz")
        assert set(ours) == set(gloo) and len(ours) > 200
        for name in gloo:
            np.testing.assert_array_equal(ours[name], gloo[name], name)


def program(tmp_path, text):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(text))
    return path


def test_unused_parameters(tmp_path):
    """Each rank uses another branch: DDP asks for what a rank has not used, too."""
    said = ranks(2, program(tmp_path, """
        import torch, torch.distributed as dist, overtake.torch
        dist.init_process_group("overtake")
        torch.manual_seed(1)
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
            def forward(self, x):
                return (self.a if dist.get_rank() == 0 else self.b)(x)
        net = Net()
        ddp = torch.nn.parallel.DistributedDataParallel(net, find_unused_parameters=True)
        for _ in range(3):
            ddp.zero_grad()
            ddp(torch.ones(3, 4)).sum().backward()
        print([round(float(p.grad.abs().sum()), 3) for p in net.parameters()])
        dist.destroy_process_group()
    """)).stdout
    assert said.count("[12.0, 3.0, 12.0, 3.0]") == 2, said


def test_what_is_not_taken_is_refused_by_name(tmp_path):
    said = ranks(1, program(tmp_path, """
        import torch, overtake.torch as ot
        ot.init()
        for tensor in (torch.empty(2, device="meta"), torch.zeros(2, dtype=torch.complex64),
                       torch.eye(2).to_sparse()):
            try:
                ot.allreduce(tensor, name="layer1/w")
            except ot.CollectiveError as why:
                print(why)
    """)).stdout
    assert "layer1/w is on device meta" in said and "layer1/w has type torch.complex64" in said
    assert "layer1/w has layout torch.sparse_coo" in said


def test_optimizer(tmp_path):
    """Accumulated passes, gradients that no pass computed, a sparse one, and misuse."""
    said = ranks(2, program(tmp_path, """
        import torch, overtake.torch as ot
        ot.init()
        net = torch.nn.ModuleDict({"e": torch.nn.Embedding(5, 2, sparse=True), "l": torch.nn.Linear(2, 1),
                                   "u": torch.nn.Linear(1, 1)})
        for p in net.parameters():
            torch.nn.init.ones_(p)
        o = ot.DistributedOptimizer(torch.optim.SGD(net.parameters(), lr=1.0), net.named_parameters(),
                                    backward_passes_per_step=2)
        def loss():
            return net["l"](net["e"](torch.tensor([ot.rank(), 4]))).sum()
        loss().backward()
        loss().backward()
        try:
            o.zero_grad()
        except AssertionError as why:
            print("refused:", why)
        o.step()
        print([p.detach().reshape(-1).tolist() for p in net.parameters()])
        o.zero_grad()
        try:
            for _ in range(3):
                loss().backward()
        except (AssertionError, RuntimeError) as why:
            print("refused:", why)
        o.synchronize()
        ot.shutdown()
    """)).stdout
    # Embedding rows 0 and 1 were used by one rank each, row 4 by both; two passes are averaged.
    assert said.count("[[0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], [-1.0, -1.0], [-1.0], [1.0], [1.0]]") == 2, said
    assert said.count("refused: zero_grad()") == 2 and said.count("backward_passes_per_step = 2") == 2


def test_a_killed_rank_is_named_by_the_others(tmp_path):
    done = ranks(3, program(tmp_path, """
        import os, signal, torch, overtake.torch as ot
        ot.init()
        try:
            for step in range(10 ** 6):
                if step == 50 and ot.rank() == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                ot.allreduce(torch.ones(1000), name="layer1/w")
        except ot.CollectiveError as why:
            print(f"rank {ot.rank()}: culprit {why.rank}: {why}", flush=True)
    """), check=False)
    assert done.returncode != 0
    for rank in (0, 2):
        assert re.search(rf"rank {rank}: culprit 1: .*rank 1 .*kill", done.stdout, re.I), done.stdout + done.stderr
