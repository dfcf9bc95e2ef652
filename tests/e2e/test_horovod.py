"""Horovod's API over Overtake: a program in its style, its launcher, and each of its public names."""

import json
import os
import pathlib
import re
import subprocess
import textwrap

import pytest

from replica import OVERTAKE, PATIENCE, ROOT
from test_torch import PYTHON, digits, has_torch  # noqa: F401: digits is a fixture

pytestmark = pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")
HERE = pathlib.Path(__file__).parent
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "OVERTAKE_LIB": str(OVERTAKE.parent / "libovertake.so"),
       "PATH": f"{OVERTAKE.parent.resolve()}:{os.environ['PATH']}"}

# What programs that use Horovod touch.
TORCH_NAMES = """allreduce allreduce_ allreduce_async allreduce_async_ grouped_allreduce grouped_allreduce_
    grouped_allreduce_async grouped_allreduce_async_ sparse_allreduce_async allgather allgather_async
    grouped_allgather grouped_allgather_async broadcast broadcast_ broadcast_async broadcast_async_ alltoall
    alltoall_async reducescatter reducescatter_async grouped_reducescatter grouped_reducescatter_async join barrier
    poll synchronize allgather_object broadcast_object broadcast_parameters broadcast_optimizer_state
    start_timeline stop_timeline init shutdown is_initialized is_homogeneous rank size local_rank local_size
    cross_rank cross_size add_process_set remove_process_set global_process_set ProcessSet ccl_built cuda_built
    ddl_built gloo_built gloo_enabled mpi_built mpi_enabled mpi_threads_supported nccl_built rocm_built Average Sum
    Adasum Min Max Product HorovodInternalError Compression SyncBatchNorm DistributedOptimizer elastic""".split()

ELASTIC_NAMES = "run ObjectState State HorovodInternalError HostsUpdatedInterrupt".split()


def horovodrun(*args, check=True, python=PYTHON, cwd=None):
    done = subprocess.run([python, "-m", "horovod.runner.launch", *map(str, args)], env=ENV, capture_output=True,
                          text=True, timeout=4 * PATIENCE, cwd=cwd)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize("flags", [[], ["--fp16", "--passes", "2"]], ids=["plain", "fp16-two-passes"])
def test_program(digits, flags):  # noqa: F811
    said = horovodrun("-np", 3, PYTHON, HERE / "horovod_train.py", digits, *flags).stdout
    found = re.search(r"accuracy ([\d.]+) on 3 ranks, 3 here", said)
    assert found and float(found.group(1)) > 0.9, said


def test_run_returns_what_ranks_returned(tmp_path):
    (tmp_path / "work.py").write_text(textwrap.dedent("""
        def work(factor, offset=0):
            import horovod.torch as hvd
            hvd.init()
            return factor * hvd.rank() + offset + hvd.size()
    """))
    said = subprocess.run([PYTHON, "-c", "import horovod, work; print(horovod.run(work.work, (10,), {'offset': 5}, np=2))"],
                          env={**ENV, "PYTHONPATH": f"{tmp_path}:{ENV['PYTHONPATH']}"}, capture_output=True, text=True,
                          timeout=2 * PATIENCE)
    assert "[7, 17]" in said.stdout, said.stdout + said.stderr


def test_run_of_an_elastic_job(tmp_path):
    """Hosts come from a script that prints no slots; a process dies once, and another takes its place."""
    (tmp_path / "work.py").write_text(textwrap.dedent("""
        def work():
            import os, signal
            import numpy
            from horovod.common import basics as hvd
            from horovod.common.elastic import ObjectState, run
            from overtake import collective
            hvd.init()

            @run
            def train(state):
                while state.step < 4 or hvd.size() < 3:
                    if os.environ["OVERTAKE_WORKER"] == "1" and state.step == 2:
                        os.kill(os.getpid(), signal.SIGKILL)
                    collective.allreduce(numpy.ones(1), name="x")
                    state.step += 1
                    state.commit()

            train(ObjectState(step=0))
            return hvd.rank(), os.environ["OVERTAKE_WORKER"]
    """))
    call = ("import horovod, work; print(horovod.run(work.work, min_num_proc=1, max_num_proc=3, slots=3, "
            "host_discovery_script='echo localhost', elastic_timeout=60))")
    said = subprocess.run([PYTHON, "-c", call], env={**ENV, "PYTHONPATH": f"{tmp_path}:{ENV['PYTHONPATH']}"},
                          capture_output=True, text=True, timeout=2 * PATIENCE)
    assert "[(0, '0'), (1, '2'), (2, '3')]" in said.stdout, said.stdout + said.stderr


def test_process_sets_and_operations(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent("""
        import torch, horovod.torch as hvd
        for comm in ([0, 1], object()):
            try:
                hvd.init(comm)
            except ValueError:
                continue
            raise AssertionError("a part of the ranks was taken for all")
        hvd.init([0, 1, 2])
        r, n = hvd.rank(), hvd.size()
        s = torch.sparse_coo_tensor(torch.tensor([[r, 3]]), torch.ones(2), (4,))
        h = hvd.sparse_allreduce_async(s, name="sparse", op=hvd.Sum)
        while not hvd.poll(h):
            pass
        assert hvd.synchronize(h).to_dense().tolist() == [1.0, 1.0, 1.0, 3.0]
        odd = hvd.add_process_set([1, 2])
        if odd.included():
            assert hvd.allreduce(torch.ones(2) * r, op=hvd.Sum, name="p", process_set=odd).tolist() == [3.0, 3.0]
            assert hvd.broadcast(torch.tensor([r]), root_rank=2, name="pb", process_set=odd).item() == 2
        assert hvd.remove_process_set(odd) and not hvd.remove_process_set(odd)
        hvd.start_timeline("timeline.json")
        h = hvd.allreduce_async(torch.ones(3) * r, name="layer1/w", op=hvd.Max)
        assert hvd.synchronize(h).tolist() == [2.0] * 3
        hvd.stop_timeline()
        g = hvd.grouped_allreduce([torch.ones(1), torch.ones(2) * r], name="g", op=hvd.Average)
        assert g[0].item() == 1 and g[1].tolist() == [1.0, 1.0]
        assert hvd.allgather(torch.full((r + 1,), r), name="ag").tolist() == [0, 1, 1, 2, 2, 2]
        assert hvd.reducescatter(torch.ones(6), name="rs", op=hvd.Sum).tolist() == [3.0, 3.0]
        t, got = hvd.alltoall(torch.arange(3) + 10 * r, splits=torch.tensor([1, 1, 1]), name="aa")
        assert t.tolist() == [r, 10 + r, 20 + r] and got.tolist() == [1, 1, 1]
        x = torch.ones(2, requires_grad=True)
        (hvd.allgather(x * (r + 1), name="grad") * torch.arange(6.0)).sum().backward()
        assert x.grad.tolist() == [3.0 * (r + 1) * (2 * r), 3.0 * (r + 1) * (2 * r + 1)], x.grad
        try:
            hvd.allreduce(torch.ones(2 + (r == 1)), name="bad")
        except hvd.HorovodInternalError as why:
            assert "rank 1" in str(why) and "[3]" in str(why) and "[2]" in str(why), why
        else:
            raise AssertionError("a mismatch went through")
        for k in range(r + 1):
            hvd.allreduce(torch.ones(1), name="uneven")
        print("last", hvd.join())
        hvd.shutdown()
        hvd.init()
        assert hvd.allreduce(torch.ones(1), op=hvd.Sum).item() == n
        print("again")
    """))
    said = horovodrun("-np", 3, "--", PYTHON, path, cwd=tmp_path).stdout
    assert said.count("last 2") == 3 and said.count("again") == 3, said
    assert "layer1/w" in tensors(tmp_path / "timeline.json") and "uneven" not in tensors(tmp_path / "timeline.json")


def tensors(path):
    """What the events of a timeline are about."""
    return {e["name"] for e in json.loads(path.read_text())["traceEvents"] if e.get("cat") == "op"}


def test_timelines(tmp_path):
    path = tmp_path / "program.py"
    path.write_text("import numpy, horovod.common.basics as hvd, overtake.collective as oc\nhvd.init()\n"
                    "oc.allreduce(numpy.ones(1), name='layer1/w')\nhvd.shutdown()\n")
    horovodrun("-np", 2, "--timeline-filename", tmp_path / "all.json", PYTHON, path)
    horovodrun("-np", 2, "--", "env", f"HOROVOD_TIMELINE={tmp_path}/first.json", PYTHON, path)
    horovodrun("-np", 2, "--", "env", "HOROVOD_TIMELINE=DYNAMIC", PYTHON, path, cwd=tmp_path)
    assert not (tmp_path / "DYNAMIC").exists()
    for name in ("all", "first"):
        assert "layer1/w" in tensors(tmp_path / f"{name}.json"), name


@pytest.mark.parametrize("n", [2, 3, 4])
def test_adasum(n):
    said = horovodrun("-np", n, PYTHON, HERE / "horovod_adasum.py").stdout
    assert said.count("] adasum\n" if n != 3 else "] refused: Adasum pairs ranks, and there are 3") == n, said


def public_names(python, names_of):
    """Each is there or is refused with what to do, and docs/horovod.md says the same. names_of: {module: names}."""
    said = subprocess.run([python, "-c", textwrap.dedent(f"""
        import importlib
        from horovod.common.refused import NotBacked
        for module, names in {names_of!r}.items():
            hvd = importlib.import_module(module)
            for name in names:
                try:
                    getattr(hvd, name)
                    print(module, name, "backed")
                except NotBacked as why:
                    print(module, name, "refused", str(why).split(": ", 1)[1])
            try:
                hvd.no_such_name
            except NotBacked:
                print("bad")
            except AttributeError:
                pass
    """)], env=ENV, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert said.returncode == 0 and "bad" not in said.stdout.split(), said.stdout + said.stderr
    found = {}
    for line in said.stdout.splitlines():
        module, name, state = line.split(" ", 2)
        found.setdefault(module, {})[name] = state.replace("refused ", "refused: ", 1)
    text = (ROOT / "docs/horovod.md").read_text()
    for module, names in names_of.items():
        table = text.split(f"| `{module}.` | |\n", 1)[1].split("\n\n", 1)[0]
        rows = dict(re.findall(r"^\| `([A-Za-z_.]+)` \| (backed|refused: .*?) \|$", table, re.M))
        assert set(names) == set(rows) and found[module] == rows, module


def test_public_names():
    public_names(PYTHON, {"horovod.torch": TORCH_NAMES,
                          "horovod.torch.elastic": ["TorchState", "ElasticSampler", *ELASTIC_NAMES]})


def test_launcher_refuses_by_name():
    for flags, why in ((["--mpi"], "mpirun"), (["--jsrun"], "OVERTAKE_RENDEZVOUS")):
        done = horovodrun("-np", 2, *flags, "true", check=False)
        assert done.returncode != 0 and why in done.stderr
    assert "Overtake" in horovodrun("--check-build").stdout
