"""PyTorch on several ranks: hooks and optimizer, the process group under DistributedDataParallel, against
one process and against Gloo. PyTorch is the system's, under /usr/bin/python3, or that of TORCH_PYTHON."""

import functools
import os
import pathlib
import re
import subprocess
import textwrap

import numpy as np
import pytest

from replica import OVERTAKE, PATIENCE, ROOT

PYTHON = os.environ.get("TORCH_PYTHON", "/usr/bin/python3")
EXAMPLES = ROOT / "examples" / "torch"


@functools.cache  # other modules ask as well, and it takes seconds
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


def ranks(n, *args, check=True, options=(), **env):
    done = subprocess.run(
        [str(OVERTAKE), "run", "-np", str(n), *options, "--", PYTHON, *map(str, args)], capture_output=True, text=True,
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


def test_rows_of_overtake_data(digits, tmp_path):
    """The same on any number of ranks, and when it is ended within an epoch and goes on with another number."""
    example = EXAMPLES / "train_data.py"
    ranks(1, example, digits, 40, tmp_path / "one.npz")
    said = ranks(2, example, digits, 40, tmp_path / "two.npz", options=["--explain"])
    assert "2 ranks: epoch 5, 1200 rows of it" in said.stdout and re.search(r"^  input +[\d.]+%", said.stderr, re.M), said
    ranks(3, example, digits, 25, OVERTAKE_CHECKPOINTS=str(tmp_path / "kept"))
    said = ranks(2, example, digits, 40, tmp_path / "again.npz", OVERTAKE_CHECKPOINTS=str(tmp_path / "kept")).stdout
    assert "2 ranks: epoch 5, 1200 rows of it" in said
    same(tmp_path / "one.npz", tmp_path / "two.npz", 1e-9)
    same(tmp_path / "one.npz", tmp_path / "again.npz", 1e-9)


def test_parameters_that_step_as_they_come_equal_a_step_of_all(tmp_path):
    """Also with several groups, a schedule of rates, a parameter without a gradient and one that is not trained; an
    optimizer that counts steps itself is stepped once."""
    said = ranks(2, program(tmp_path, """
        import torch, overtake.torch as ot
        ot.init()

        class Counts(torch.optim.SGD):
            steps = 0

            def step(self, closure=None):
                self.steps += 1
                return super().step(closure)

        def train(make, at_once):
            torch.manual_seed(3)
            net = torch.nn.Sequential(torch.nn.Linear(6, 40), torch.nn.Tanh(), torch.nn.Linear(40, 3))
            extra, still = (torch.nn.Parameter(torch.ones(4), requires_grad=r) for r in (True, False))
            optimizer = make([{"params": net[0].parameters()}, {"params": list(net[2].parameters()) + [extra, still], "lr": 0.02}])
            names = list(net.named_parameters()) + [("extra", extra), ("still", still)]
            optimizer = ot.DistributedOptimizer(optimizer, named_parameters=names)
            rates = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
            for step in range(5):
                optimizer.zero_grad()
                net(torch.arange(12.).reshape(2, 6).sin() * (step + 1 + ot.rank())).square().mean().backward()
                if at_once:
                    optimizer.synchronize()
                    with optimizer.skip_synchronize():
                        optimizer.step()
                else:
                    optimizer.step()
                rates.step()
            assert optimizer.param_groups[1]["lr"] == 0.005 and len(optimizer.param_groups[1]["params"]) == 4
            return [p.detach() for _, p in names], getattr(optimizer, "steps", None)

        O = torch.optim
        kinds = {"sgd": lambda g: O.SGD(g, lr=0.1, momentum=0.9, nesterov=True), "adam": lambda g: O.Adam(g, lr=0.1, amsgrad=True),
                 "adamw": lambda g: O.AdamW(g, lr=0.1), "adagrad": lambda g: O.Adagrad(g, lr=0.1),
                 "rmsprop": lambda g: O.RMSprop(g, lr=0.1, momentum=0.5), "nadam": lambda g: O.NAdam(g, lr=0.1),
                 "radam": lambda g: O.RAdam(g, lr=0.1), "asgd": lambda g: O.ASGD(g, lr=0.1),
                 "counts": lambda g: Counts(g, lr=0.1)}
        for name, make in kinds.items():
            (a, counted), (b, _) = train(make, False), train(make, True)
            assert all(torch.equal(x, y) for x, y in zip(a, b)), name
            assert counted in (None, 5), (name, counted)
        print("equal")
    """)).stdout
    assert said.count("equal") == 2, said


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


def test_sharded_parameters(tmp_path):
    """PyTorch 2's fully_shard: parameters are gathered and gradients scattered by the group. Against one process."""
    at_least_2 = subprocess.run([PYTHON, "-c", "import torch.distributed.fsdp as f; f.fully_shard"], capture_output=True)
    if at_least_2.returncode != 0:
        pytest.skip(f"{PYTHON}: this PyTorch has no fully_shard")
    said = ranks(2, program(tmp_path, """
        import datetime, torch, torch.distributed as dist, overtake.torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        dist.init_process_group("overtake")
        def train(shard):
            torch.manual_seed(1)
            net = torch.nn.Sequential(torch.nn.Linear(8, 15), torch.nn.ReLU(), torch.nn.Linear(15, 3))
            mine = slice(dist.get_rank(), None, 2) if shard else slice(None)
            if shard:
                fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            for i in range(6):
                x = torch.randn(8, 8, generator=torch.Generator().manual_seed(i))
                optimizer.zero_grad()
                net(x[mine]).square().mean().backward()
                optimizer.step()
            return [(p.to_local() if shard else p).detach() for p in net.parameters()]
        for ours, one in zip(train(True), train(False)):
            torch.testing.assert_close(ours, one.chunk(2)[dist.get_rank()], rtol=1e-5, atol=1e-6)
        print("equal")
        dist.monitored_barrier(timeout=datetime.timedelta(seconds=60))
        dist.destroy_process_group()
    """)).stdout
    assert said.count("equal") == 2, said


def test_functional_collectives_and_what_stands_on_them():
    """What DTensor asks for, tensor-parallel layers and a pipeline of two stages, against one process."""
    at_least_2_5 = subprocess.run([PYTHON, "-c", "import torch.distributed.tensor.parallel, torch.distributed.pipelining"],
                                  capture_output=True)
    if at_least_2_5.returncode != 0:
        pytest.skip(f"{PYTHON}: this PyTorch has no DTensor or pipelines (2.5)")
    said = ranks(2, pathlib.Path(__file__).parent / "torch_functional.py").stdout
    for line in ("functional", "tensors", "parallel", "pipeline"):
        assert said.count(f"] {line}\n") == 2, said


def test_a_tensor_on_a_device_is_refused_by_every_entry(tmp_path):
    """Its address is not one of the host: it is named, and never read. Also as what a result goes to."""
    said = ranks(1, program(tmp_path, """
        import torch, torch.distributed as dist, overtake.torch as ot
        dist.init_process_group("overtake")
        there, here, kind = torch.empty(2, device="meta"), torch.zeros(2), torch.device("meta")
        calls = {
            "ot.allreduce": lambda: ot.allreduce(there), "ot.allreduce_": lambda: ot.allreduce_(there),
            "ot.grouped_allreduce_": lambda: ot.grouped_allreduce_([here, there]),
            "ot.allgather": lambda: ot.allgather(there), "ot.broadcast_": lambda: ot.broadcast_(there, 0),
            "ot.alltoall": lambda: ot.alltoall(there), "ot.reducescatter": lambda: ot.reducescatter(there),
            "ot.broadcast_parameters": lambda: ot.broadcast_parameters({"w": there}),
            "all_reduce": lambda: dist.all_reduce(there), "broadcast": lambda: dist.broadcast(there, 0),
            "reduce": lambda: dist.reduce(there, 0), "all_gather": lambda: dist.all_gather([here], there),
            "gather": lambda: dist.gather(there, [here], 0), "scatter": lambda: dist.scatter(there, [here], 0),
            "reduce_scatter": lambda: dist.reduce_scatter(there, [here]),
            "reduce_scatter of": lambda: dist.reduce_scatter(here, [there]),
            "into": lambda: dist.all_gather_into_tensor(there, here),
            "into of": lambda: dist.all_gather_into_tensor(here, there),
            "scatter_tensor": lambda: dist.reduce_scatter_tensor(there, here),
            "single": lambda: dist.all_to_all_single(there, here),
            "single of": lambda: dist.all_to_all_single(here, there)}
        for name, call in calls.items():
            try:
                call()
            except ot.CollectiveError as why:
                assert "is on device meta" in str(why) and "call .cpu()" in str(why), (name, why)
            else:
                raise AssertionError(name + " took it")
        net = torch.nn.Linear(3, 1, device="meta")
        optimizer = ot.DistributedOptimizer(torch.optim.SGD(net.parameters(), lr=0.1), net.named_parameters())
        try:
            net(torch.empty(2, 3, device="meta")).sum().backward()
        except ot.CollectiveError as why:
            print("hook:", why)
    """)).stdout
    assert re.search(r"hook: gradient\.(weight|bias) is on device meta", said), said


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


def test_batch_norm_over_ranks_equals_one_process():
    assert ranks(3, pathlib.Path(__file__).parent / "torch_batch_norm.py").stdout.count("] equal\n") == 3
