"""Links that are measured (`overtake tune`), and sums that lose bits on the wire where that pays
(`overtake run --links --wire`)."""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from replica import OVERTAKE, PATIENCE, ROOT
from test_torch import PYTHON, EXAMPLES, digits, has_torch  # noqa: F401 (a fixture)

ENV = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "OVERTAKE_LIB": str(OVERTAKE.parent / "libovertake.so")}


def run(*args):
    return subprocess.run([str(OVERTAKE), "run", *map(str, args)], capture_output=True, text=True,
                          timeout=2 * PATIENCE, env=ENV)


@pytest.fixture
def slow(tmp_path):
    """A wire that is worth nothing: everything pays."""
    path = tmp_path / "links"
    path.write_text("local.bytes_per_us = 0.01\nremote.bytes_per_us = 0.01\n")
    return path


def test_tune_measures_what_run_reads(tmp_path):
    done = run("-np", 2, "--no-prefix", "--", OVERTAKE, "tune")
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^([a-z_.]+) = ([0-9.]+)$", done.stdout, re.M))
    assert set(found) == {"local.latency_us", "local.bytes_per_us", "message_us", "reduce_bytes_per_us",
                          "codec_bytes_per_us"}
    assert all(float(x) > 0 for x in found.values())
    links = tmp_path / "links"
    links.write_text(done.stdout)
    assert run("-np", 2, "--links", links, "--", "true").returncode == 0
    again = run("-np", 3, "--no-prefix", "--", OVERTAKE, "tune", "--output", "json")
    said = json.loads(again.stdout)
    assert set(said) == set(found) | {"ranks"} and said["ranks"] == 3


def test_tune_needs_two_ranks():
    done = subprocess.run([str(OVERTAKE), "tune"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and "job of 1 rank" in done.stderr and "overtake run -H" in done.stderr


def test_links_that_are_none(tmp_path):
    links = tmp_path / "links"
    links.write_text("remote.speed = 3\n")
    done = run("-np", 2, "--links", links, "--", "true")
    assert done.returncode != 0 and f"{links}: line 1: 'remote.speed' is not known" in done.stderr
    assert run("-np", 2, "--wire", "none", "--", "true").returncode == 2
    assert run("-np", 2, "--wire-rank", "65", "--", "true").returncode == 2


SUM = """
    import numpy as np
    from overtake import collective as c
    c.init()
    x = np.sin(np.arange(20000, dtype=np.float32) + c.rank())
    want = (np.sin(np.arange(20000, dtype=np.float32)) + np.sin(np.arange(20000, dtype=np.float32) + 1)) / 2
    print("off", np.abs(c.allreduce(x, name="g") - want).max())
    c.finalize()
"""


@pytest.mark.parametrize("wire, codec, low, high", [
    ("exact", None, 0, 1e-6), ("half", "bfloat16", 1e-5, 0.01), ("fp16", "float16", 1e-6, 0.001),
    ("auto", "int8", 1e-4, 0.02)])
def test_wire_loses_what_it_may(slow, wire, codec, low, high):
    done = run("-np", 2, "--links", slow, "--wire", wire, "--", sys.executable, "-c", textwrap.dedent(SUM))
    assert done.returncode == 0, done.stderr
    off = [float(x) for x in re.findall(r"off ([0-9.e-]+)", done.stdout)]
    assert len(off) == 2 and off[0] == off[1] and low <= off[0] <= high
    assert (f"'g' {codec}: " in done.stderr) == (codec is not None), done.stderr


def test_links_that_nobody_measured_lose_nothing():
    done = run("-np", 2, "--wire", "auto", "--", sys.executable, "-c", textwrap.dedent(SUM))
    assert done.returncode == 0, done.stderr
    assert "the links have not been measured (overtake tune)" in done.stderr
    assert all(float(x) < 1e-6 for x in re.findall(r"off ([0-9.e-]+)", done.stdout))


KEPT = """
    import numpy as np
    from overtake import collective as c
    c.init()
    def step(seed):
        g = np.random.default_rng(seed * 10 + c.rank())
        return [c.allreduce(g.standard_normal(s, dtype=np.float32), name=f"g{s}") for s in ((64, 80), (3000,))]
    for k in range(8):
        step(k)
    for k in range(300):
        c.allreduce(np.ones(200, np.float32), name="small")
        c.residuals()  # who has waited may save: nothing is in flight then
    saved = c.residuals()
    first, other = step(8), step(8)
    c.load_residuals(saved)
    again = step(8)
    print("same", all((a == b).all() for a, b in zip(first, again)), all((a == b).all() for a, b in zip(first, other)),
          flush=True)
    try:
        c.load_residuals(saved[:-1] + b"x")
    except c.CollectiveError as e:
        print("refused", e, flush=True)
    c.finalize()
"""


def test_what_is_kept_goes_into_a_checkpoint(slow):
    done = run("-np", 2, "--links", slow, "--wire", "auto", "--", sys.executable, "-c", textwrap.dedent(KEPT))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("same True False") == 2 and done.stdout.count("its hash is another one") == 2, done.stdout
    assert "low rank: " in done.stderr and "int8: " in done.stderr


def train(digits, program, *options):  # noqa: F811
    """In float32; the accuracy at the end, and what was logged."""
    source = (EXAMPLES / "train.py").read_text()
    program.write_text(source.replace("torch.float64", "torch.float32").replace(".double()", ".float()"))
    done = run("-np", 3, *options, "--", PYTHON, program, digits)
    assert done.returncode == 0, done.stderr
    return float(re.search(r"3 ranks: loss [\d.]+, accuracy ([\d.]+)", done.stdout).group(1)), done.stderr


@pytest.fixture(scope="module")
def exact(digits, tmp_path_factory):  # noqa: F811
    return train(digits, tmp_path_factory.mktemp("exact") / "train.py")[0]


@pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")
@pytest.mark.parametrize("wire, rank, way", [
    ("half", 4, "bfloat16"), ("fp16", 4, "float16"), ("auto", 0, "int8"), ("auto", 4, "low rank")])
def test_training_gets_as_far(slow, digits, exact, tmp_path, wire, rank, way):  # noqa: F811
    """Handwritten digits: within 0.02 of the accuracy that exact sums give, which is above 0.95."""
    accuracy, said = train(digits, tmp_path / "train.py", "--links", slow, "--wire", wire, "--wire-rank", rank)
    assert re.search(rf"on the wire: '.*' {way}: ", said), said
    assert exact > 0.95 and abs(accuracy - exact) < 0.02, (accuracy, exact)
