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
    ("exact", None, 0, 1e-6), ("half", "bfloat16", 1e-5, 0.01), ("auto", "int8", 1e-4, 0.02)])
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


@pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")
@pytest.mark.parametrize("wire", ["half", "auto"])
def test_training_gets_as_far(slow, digits, tmp_path, wire):  # noqa: F811
    program = tmp_path / "train.py"
    source = (EXAMPLES / "train.py").read_text()
    program.write_text(source.replace("torch.float64", "torch.float32").replace(".double()", ".float()"))
    done = run("-np", 3, "--links", slow, "--wire", wire, "--", PYTHON, program, digits)
    assert done.returncode == 0, done.stderr
    assert "on the wire: " in done.stderr
    assert float(re.search(r"3 ranks: loss [\d.]+, accuracy ([\d.]+)", done.stdout).group(1)) > 0.9
