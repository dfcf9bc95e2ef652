"""What else happens to the ranks of a job: a full disk, no memory, forks and spawns, an exit without a word, late
ones; and, between hosts in network namespaces, a partition and a link of which only one direction works."""

import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

from replica import OVERTAKE, PATIENCE, ROOT, wait_for
from test_run import job, run  # noqa: F401: a fixture
from test_run_hosts import GONE, hosts, ip, net  # noqa: F401: fixtures
from test_run_ranks import numbered, ranks
from test_torch import PYTHON as TORCH, has_torch

LIB = f"OVERTAKE_LIB={OVERTAKE.parent / 'libovertake.so'}"
SUMS = """
import os, sys, time
sys.path.insert(0, {python!r})
import numpy as np, overtake.collective as oc

def total():
    return int(oc.allreduce(np.ones(1000, np.float32), oc.SUM, name="x")[-1])

def failing():
    try:
        total()
    except oc.CollectiveError as why:
        print("failed:", why, flush=True)
        raise
"""


def summing(tmp_path, body, python=sys.executable):
    """Words of a rank that imports numpy and overtake.collective as oc, and has total(): a sum over all; failing(): the
    same, where it has to fail."""
    path = tmp_path / "program.py"
    path.write_text(SUMS.format(python=str(ROOT / "python")) + textwrap.dedent(body))
    return ["-x", LIB, "--", python, path]


# --- on one host -------------------------------------------------------------------------------------

@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", path], capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_of_a_rank_is_in_what_the_others_say(tmp_path, small_disk):
    r = run("-np", 3, *summing(tmp_path, f"""
        oc.init()
        total()
        if oc.rank() == 1:
            with open({str(small_disk / "checkpoint")!r}, "wb", buffering=0) as f:
                while True:
                    f.write(bytes(10000))
        failing()
        """))
    said = numbered(r.stdout.decode(), r"(failed: .*)")
    assert r.returncode == 1 and sorted(said) == [0, 2], r
    assert all("rank 1 (host" in t and "No space left on device" in t for t in said.values()), said
    assert b"the job failed: rank 1" in r.stderr


def test_logs_on_a_full_disk_end_no_job(tmp_path, small_disk):
    r = run("-np", 2, "--output-dir", small_disk, *summing(tmp_path, """
        oc.init()
        for i in range(2000):
            print("." * 99, flush=i % 100 == 0)
        print("sum", total())
        oc.finalize()
        """))
    assert r.returncode == 0, r.stderr
    assert numbered(r.stdout.decode(), r"sum (\d)") == {0: "2", 1: "2"}
    assert b"No space left on device" in r.stderr


@pytest.fixture
def little_memory():
    """The file of a cgroup that takes a process's number and lets it have 64 MiB."""
    for folder, limits, files in (("/sys/fs/cgroup", ["memory.swap.max", "memory.max"], "cgroup.procs"),
                                  ("/sys/fs/cgroup/memory", ["memory.limit_in_bytes"], "cgroup.procs")):
        path = pathlib.Path(folder) / f"overtake-test-{os.getpid()}"
        try:
            path.mkdir()
            for limit in limits:
                if (path / limit).exists():
                    (path / limit).write_text("0" if "swap" in limit else str(64 << 20))
            if not (path / limits[-1]).exists():
                raise OSError("no memory controller")
        except OSError:
            if path.exists():
                path.rmdir()
            continue
        yield path / files
        wait_for("the cgroup to be empty", lambda: not (path / files).read_text())
        path.rmdir()
        return
    pytest.skip("no cgroup with a limit of memory can be made here")


def test_a_rank_that_the_kernel_kills_for_memory_is_named(tmp_path, little_memory):
    r = run("-np", 3, *summing(tmp_path, f"""
        oc.init()
        total()
        if oc.rank() == 2:
            open({str(little_memory)!r}, "w").write(str(os.getpid()))
            kept = [b"x" * (1 << 20) for _ in range(1000)]
        failing()
        """))
    said = numbered(r.stdout.decode(), r"(failed: .*)")
    assert r.returncode == 137 and sorted(said) == [0, 1], r
    assert all("rank 2 (host" in t and "was killed by signal 9" in t for t in said.values()), said
    assert re.search(rb"the job failed: rank 2 .* was killed by signal 9 \(Killed: somebody, or the system for lack of memory\)",
                     r.stderr), r.stderr


def test_forks_and_spawns_beside_a_job(tmp_path):
    """Children of both kinds work; one that was forked may not communicate, and what it says harms nobody."""
    r = run("-np", 2, *summing(tmp_path, """
        import multiprocessing

        def square(x):
            return x * x

        def talk(_):
            try:
                total()
            except oc.CollectiveError as why:
                return str(why)

        if __name__ == "__main__":
            oc.init()
            print("first", total(), flush=True)
            with multiprocessing.get_context("fork").Pool(2) as p:
                print("fork", sum(p.map(square, range(10))), flush=True)
                print("told:", p.apply(talk, (0,)), flush=True)
                print("between", total(), flush=True)
            with multiprocessing.get_context("spawn").Pool(1) as p:
                print("spawn", sum(p.map(square, range(10))), flush=True)
            print("last", total(), flush=True)
            oc.finalize()
        """))
    text = r.stdout.decode()
    assert r.returncode == 0, text + r.stderr.decode()
    for line, wanted in (("first", "2"), ("fork", "285"), ("between", "2"), ("spawn", "285"), ("last", "2")):
        assert numbered(text, rf"{line} (\d+)") == {0: wanted, 1: wanted}
    assert all("fork" in t for t in numbered(text, r"told: (.*)").values()) and text.count("told: ") == 2, text


@pytest.mark.skipif(not has_torch(), reason=f"{TORCH} has no torch: install python3-torch")
def test_workers_of_a_data_loader(tmp_path):
    """They are forked after init, come and go each epoch, and inherit nothing that would keep a link open."""
    r = run("-np", 2, *summing(tmp_path, """
        import torch, overtake.torch as ot

        class Rows(torch.utils.data.Dataset):
            def __len__(self):
                return 40
            def __getitem__(self, i):
                return torch.tensor([float(i)])

        ot.init()
        seen = 0
        for epoch in range(2):
            for batch in torch.utils.data.DataLoader(Rows(), batch_size=5, num_workers=2):
                seen += float(ot.allreduce(batch.sum(), name="batch"))
        print("seen", seen, flush=True)
        ot.shutdown()
        """, python=TORCH))
    assert r.returncode == 0, r.stderr
    assert numbered(r.stdout.decode(), r"seen (\S+)") == {0: "1560.0", 1: "1560.0"}


def test_an_exit_without_a_word_is_named(tmp_path):
    r = run("-np", 3, *summing(tmp_path, """
        oc.init()
        total()
        if oc.rank() == 0:
            print("enough", file=sys.stderr, flush=True)
            os._exit(0)
        failing()
        """))
    said = numbered(r.stdout.decode(), r"(failed: .*)")
    assert r.returncode == 1 and sorted(said) == [1, 2], r
    assert all("rank 0 (host" in t and "overtake_finalize" in t and "enough" in t for t in said.values()), said


def test_an_exception_is_in_the_error_file(tmp_path):
    r = run("-np", 2, "--output-dir", tmp_path / "out", *summing(tmp_path, """
        oc.init()
        total()
        if oc.rank() == 1:
            raise ValueError("the loss is nan")
        total()
        """))
    told = json.loads((tmp_path / "out" / "rank-1.error").read_text())["message"]
    assert told["message"] == "ValueError: the loss is nan" and "program.py" in told["extraInfo"]["py_callstack"]
    assert f"its error file: {tmp_path}/out/rank-1.error\n" in r.stderr.decode()


def test_ranks_that_come_late_are_waited_for(tmp_path):
    """LATE_SECONDS: how late (4; `make test-long` takes 130, past the 30 s after which Horovod gives up)."""
    late = float(os.environ.get("LATE_SECONDS", 4))
    r = run("-np", 3, *summing(tmp_path, f"""
        time.sleep({late} * int(os.environ["RANK"]) / 2)
        oc.init()
        print("sum", total(), flush=True)
        oc.finalize()
        """), timeout=late + PATIENCE)
    assert r.returncode == 0, r.stderr
    assert numbered(r.stdout.decode(), r"sum (\d)") == {0: "3", 1: "3", 2: "3"}
    if late > 60:
        assert re.search(rb"waiting for ranks 1, 2 \(2 of 3 have not arrived after 30s\)", r.stderr), r.stderr


# --- between hosts -----------------------------------------------------------------------------------

def under_way(j, n):
    j.started(n)
    wait_for("steps", lambda: len(re.findall("under way", j.out.read_text())) == n)


def test_a_partition_leaves_no_side_waiting(hosts, net, job, tmp_path):
    """Two ranks on each side. The launcher's names those that it can't reach, the other names that it is cut off."""
    within, options = hosts
    options = ["-H", "localhost:2,b:1,c:1", *options[2:]]
    j = job(*options, "--settle", "1s", "--grace", "1s", *ranks(f"until={tmp_path / 'enough'}"), within=within)
    under_way(j, 4)
    for h in "bc":  # b and c keep each other: they get a switch of their own
        ip("-n", net["s"], "link", "add", "name", "switch1", "type", "bridge", check=False)
        ip("-n", net["s"], "link", "set", "dev", "switch1", "up")
        ip("-n", net["s"], "link", "set", "dev", f"port-{h}", "master", "switch1")
    try:
        assert j.ends() != 0
    finally:
        for h in "bc":
            ip("-n", net["s"], "link", "set", "dev", f"port-{h}", "master", "switch0")
        ip("-n", net["s"], "link", "del", "switch1")
    said = numbered(j.out.read_text(), r"(failed: .*)")
    assert {0, 1} <= set(said) and all(re.search(r"rank [23] \(host", said[r]) for r in (0, 1)), said
    assert all("the meeting point" in said[r] for r in (2, 3) if r in said), said
    assert re.search(r"the job failed: rank [23] \(host [bc], process \d+\) " + GONE, j.err.read_text())
    j.leaves_nothing()


def test_a_link_of_one_direction_names_who_cant_be_heard(hosts, net, job, tmp_path):
    """What b sends to a gets lost, what a sends arrives. c hears both."""
    within, options = hosts
    j = job(*options, "--settle", "1s", "--grace", "1s", *ranks(f"until={tmp_path / 'enough'}"), within=within)
    under_way(j, 3)
    ip("-n", net["b"], "route", "add", "blackhole", "10.99.0.1/32")
    try:
        assert j.ends() != 0
    finally:
        ip("-n", net["b"], "route", "del", "blackhole", "10.99.0.1/32")
    said = numbered(j.out.read_text(), r"(failed: .*)")
    assert {0, 2} <= set(said) and all("rank 1 (host" in said[r] for r in (0, 2)), said
    assert re.search(r"the job failed: rank 1 \(host b, process \d+\) " + GONE, j.err.read_text())
    j.leaves_nothing()


def test_two_ranks_that_only_the_launcher_hears_are_lost_not_at_fault(hosts, net, job, tmp_path):
    """b and c lose each other, a hears both: what is known comes from them alone."""
    within, options = hosts
    state = tmp_path / "state"
    j = job(*options, "--settle", "1s", "--grace", "1s", "--state-file", state,
            *ranks(f"until={tmp_path / 'enough'}"), within=within)
    under_way(j, 3)
    for h, other in (("b", 3), ("c", 2)):
        ip("-n", net[h], "route", "add", "blackhole", f"10.99.0.{other}/32")
    try:
        assert j.ends() != 0
    finally:
        for h, other in (("b", 3), ("c", 2)):
            ip("-n", net[h], "route", "del", "blackhole", f"10.99.0.{other}/32")
    said = numbered(j.out.read_text(), r"(failed: .*)")
    assert all(re.search(r"rank [12] \(host \S+\) can't be heard", said[r]) for r in said) and 0 in said, said
    assert re.search(r"the job failed: rank [12] \(host [bc], process \d+\) " + GONE, j.err.read_text())
    assert json.loads(state.read_text())["result"]["lost"] is True  # its app starts it again
    j.leaves_nothing()
