"""Programs in Horovod's elastic style: a rank is killed in the middle of an epoch, training goes on, another joins."""

import importlib.util
import pathlib
import re
import sys

import pytest

from test_horovod import horovodrun
from test_torch import PYTHON, digits, has_torch  # noqa: F401: digits is a fixture

HERE = pathlib.Path(__file__).parent
needs_torch = pytest.mark.skipif(not has_torch(), reason=f"{PYTHON} has no torch: install python3-torch")
needs_tensorflow = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None,
                                      reason=f"{sys.executable} has no tensorflow")


def torch_run(*args):
    done = horovodrun("-np", 3, "--min-np", 2, PYTHON, HERE / "horovod_elastic_train.py", *args)
    found = re.search(r"accuracy ([\d.]+) on (\d) ranks of (\[[\d, ]*\]), rate ([\d.]+), seen (\[.*\])", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1]), int(found[2]), eval(found[3]), float(found[4]), eval(found[5]), done.stderr


@needs_torch
def test_a_rank_killed_and_replaced_in_torch(digits, tmp_path):  # noqa: F811
    whole, size, sizes, rate, seen, _ = torch_run(digits)
    assert (size, sizes, rate) == (3, [3], 0.06) and whole > 0.93
    assert all(least == 1 and more == 0 for least, more in seen), seen  # 1,797 samples come out even

    after, size, sizes, rate, seen, said = torch_run(digits, "--kill", tmp_path / "killed", "--wait-for", 3)
    assert (tmp_path / "killed").exists() and "2 ranks go on, 3 before" in said and "3 ranks go on, 2 before" in said
    assert (size, sizes, rate) == (3, [2, 3], 0.06)  # the callback has set the rate of learning again
    assert after > whole - 0.03  # it may have trained longer: until the new rank was there
    # Nothing is missed; what comes twice is what makes the ranks' shares even, once for each dealing.
    assert len(seen) == 4 and all(least == 1 and more <= 4 for least, more in seen), seen


@needs_tensorflow
def test_a_rank_killed_and_replaced_in_keras(digits, tmp_path):  # noqa: F811
    done = horovodrun("-np", 3, "--min-np", 2, sys.executable, HERE / "horovod_elastic_keras.py", digits,
                      tmp_path / "killed", python=sys.executable)
    found = re.search(r"accuracy ([\d.]+) on (\d) ranks, begun (\[.*?\]), steps (\[.*?\]), rate ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) > 0.9
    begun = eval(found[3])
    assert begun[0] == (0, 0) and begun[1] == (1, 9), begun  # from the last commit: the batch before the kill
    # The epoch in which it happened has as many steps as two ranks need, those that were done included.
    steps = eval(found[4])
    assert steps[0] == 30 and 30 <= steps[1] <= 45, steps  # fewer where another rank has been admitted meanwhile
    # The one that was admitted trains in the fit of the others: there are three again, with their rate and their share.
    assert found[2] == "3" and found[5] == "0.06" and steps[3] == 30, done.stdout
    admitted = re.search(r"^\[\d\] admitted at \[\((\d), (\d+)\)\]$", done.stdout, re.M)
    assert admitted and begun[-1] == (int(admitted[1]), int(admitted[2])), done.stdout


@needs_torch
def test_a_limit_of_changes(digits, tmp_path):  # noqa: F811
    done = horovodrun("-np", 3, "--min-np", 2, "--reset-limit", 0, PYTHON, HERE / "horovod_elastic_train.py", digits,
                      "--kill", tmp_path / "killed", check=False)
    assert done.returncode != 0 and "ranks have changed 1 times, and 0 is the limit" in done.stdout + done.stderr
