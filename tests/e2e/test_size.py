"""`overtake size`: what it measures adds up to what it answers."""

import json
import math
import subprocess

import numpy as np
import pytest

import replica as r


def size(*args):
    return subprocess.run([str(r.OVERTAKE), "size", *map(str, args)], capture_output=True, text=True, timeout=r.PATIENCE)


@pytest.fixture
def model(tmp_path):
    """A run takes 1 ms: no answer comes sooner."""
    r.write_raw(tmp_path / "m", r.linear(np.eye(4), delay_us=1000))
    return tmp_path / "m"


def test_figures_add_up(model):
    done = size(model, "--p99", "20s", "--rate", 5000, "--step", "200ms", "--replica-cores", 2, "--output", "json")
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    holding = [t["rate"] for t in got["tries"] if t["holds"]]
    assert holding and got["core_rate"] == max(holding) <= got["closed_rate"]
    assert all(t["p50_us"] <= t["p99_us"] for t in got["tries"])
    # Figures are printed with one digit.
    exact = 5000 / (got["core_rate"] * 0.75)
    assert got["cores"] in (math.ceil(exact * 0.999), math.ceil(exact * 1.001))
    assert got["replicas"] == math.ceil(got["cores"] / 2) and got["memory_bytes"] > 1e6


def test_a_target_that_nothing_holds_is_refused_with_figures(model):
    done = size(model, "--p99", "100us", "--rate", 10, "--step", "200ms")
    assert done.returncode == 1
    assert "does not hold" in done.stdout and "answers a second" in done.stdout
    assert "a p99 of 100us can't be held here at any rate" in done.stderr and "p50 is " in done.stderr


def test_what_is_no_model(tmp_path):
    r.write_raw(tmp_path / "models" / "m", r.linear(np.eye(4), nonsense=1))
    done = size(tmp_path / "models" / "m", "--p99", "5ms", "--rate", 10)
    assert done.returncode == 1 and "an unknown key" in done.stderr and "can't be loaded" in done.stderr
    done = size(tmp_path, "--p99", "5ms", "--rate", 10)
    assert done.returncode == 1 and "is no model and has none" in done.stderr
    done = size(tmp_path, "--rate", 10)
    assert done.returncode == 2 and "p99" in done.stderr
