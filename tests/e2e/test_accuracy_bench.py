"""What bench/accuracy_bench.py computes from its runs: the target, ratios and verdicts; and the rows that it makes."""

import sys

import numpy as np
import pytest

from replica import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import accuracy_bench as b  # noqa: E402


def run(name, seed, seconds, reached=True, step_s=1.0):
    return {"name": name, "seed": seed, "to_target_s": seconds, "reached": reached, "steps": 4, "bytes": 400, "cpu_s": 2.0,
            "step_s": [9.0] * 3 + [step_s]}


def test_one_lucky_evaluation_does_not_set_the_target():
    steady = [(s, 0, 0.5 + s / 100) for s in range(21)]
    assert b.target_of(steady) == 0.68  # 90% of the way
    assert b.target_of([c if c[0] != 18 else (18, 0, 0.99) for c in steady]) == pytest.approx(0.69)
    assert b.target_of([(0, 0, 0.3), (1, 0, 0.4), (2, 0, 0.5)]) == 0.4


def test_the_best_of_the_others_is_what_counts_seed_by_seed():
    f = b.figures([run(b.DDP, 1, 30), run("ddp fp16/exact", 1, 20), run("overtake/auto", 1, 5),
                   run(b.DDP, 2, 30), run("ddp fp16/exact", 2, 90, reached=False), run("overtake/auto", 2, 15)])
    assert b.ratios(f["overtake/auto"], [f[b.DDP], f["ddp fp16/exact"]]) == [4.0, 2.0]
    assert f[b.DDP]["step_s"] == [1.0, 1.0] and f[b.DDP]["bytes"] == [100, 100]  # without the steps that learn


def test_who_does_not_get_there_has_no_ratio():
    f = b.figures([run(b.DDP, 1, 30), run("overtake/auto", 1, 5, reached=False),
                   run(b.DDP, 2, 30, reached=False), run("overtake/auto", 2, 5)])
    assert b.ratios(f["overtake/auto"], [f[b.DDP]]) == [0.0]


def test_verdicts():
    runs = [run(b.DDP, 1, 30), run("ddp fp16/exact", 1, 27), run(b.EXACT, 1, 25), run("overtake/auto", 1, 10)]
    judged = {what: (measured, reached) for what, measured, _, reached in b.verdicts(b.figures(runs), [0.25])}
    assert judged == {"computation, of a step of DDP": (0.25, True),
                      "exact, of DDP, time to accuracy": (1.2, True),
                      "auto, of the best of DDP and its hooks, time to accuracy": (2.7, False)}
    assert b.verdicts(b.figures([run("overtake/auto", 1, 11)]), []) == []


def test_rows_are_the_same_for_a_seed_and_not_linear():
    x, y = b.rows(3, 3000)
    again, _ = b.rows(3, 3000)
    assert x.shape == (3000, b.FEATURES) and np.array_equal(x, again) and set(y) == set(range(b.CLASSES))
    assert 0.2 < b.linear_accuracy(x[:2000], y[:2000], x[2000:], y[2000:]) < 0.85
    assert not np.array_equal(x, b.rows(4, 3000)[0])
