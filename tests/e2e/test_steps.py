"""Steps before a training: in the order of their data, each with what it takes, all of them again when one is needed."""

import json
import sys
import textwrap

import numpy as np

import replica as r
from test_cli import overtake

X = np.zeros((1, 4), np.float32)

PREPARE = '''
    """Rows with a column more; notes what it saw."""
    import os, pathlib, sys
    import numpy as np
    data = pathlib.Path(os.environ["OVERTAKE_DATA"])
    assert sorted(p.name for p in data.iterdir()) == ["base"], list(data.iterdir())
    out = pathlib.Path("out/rows")
    out.mkdir(parents=True)
    x, y = np.load(data / "base/x.npy"), np.load(data / "base/y.npy")
    print("prepares", len(x), "rows in", os.environ["OVERTAKE_STEP"])
    if os.environ.get("BROKEN") or pathlib.Path("../../../broken").exists():
        sys.exit("no such column")
    np.save(out / "x.npy", x - x.mean(0))
    np.save(out / "y.npy", y)
'''
TEACH = '''
    import json, os, pathlib
    import numpy as np
    data = pathlib.Path(os.environ["OVERTAKE_DATA"])
    assert sorted(p.name for p in data.iterdir()) == ["rows"], list(data.iterdir())
    out = pathlib.Path("out/teacher")
    out.mkdir()
    x, y = np.load(data / "rows/x.npy"), np.load(data / "rows/y.npy")
    (out / "w.json").write_text(json.dumps(np.linalg.lstsq(x, np.eye(2)[y], rcond=None)[0].tolist()))
'''
TRAIN = '''
    import json, os, pathlib
    import numpy as np
    data = pathlib.Path(os.environ["OVERTAKE_DATA"])
    assert sorted(p.name for p in data.iterdir()) == ["base", "teacher"], list(data.iterdir())
    w = json.loads((data / "teacher/w.json").read_text())
    print("the student learns of its teacher", len(np.load(data / "base/x.npy")))
    out = pathlib.Path("out/model")
    out.mkdir(parents=True)
    (out / "null.json").write_text(json.dumps({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        "op": "linear", "weights": w, "bias": [0, 0], "softmax": True}))
'''


def stepped(a):
    """The app's folder with three programs, and what its file says of them."""
    for name, text in (("prepare", PREPARE), ("teach", TEACH), ("train", TRAIN)):
        (a.folder / f"{name}.py").write_text(textwrap.dedent(text))
    return {"data": {"base": {"path": "base.npz", "label": "y"}, "rows": {"from": "prepare"},
                     "teacher": {"from": "teach", "kind": "model"}},
            "steps": {"teach": {"run": f"{sys.executable} teach.py", "data": ["rows"], "output": "out/teacher",
                                "makes": "model"},
                      "prepare": {"run": f"{sys.executable} prepare.py", "data": ["base"], "output": "out/rows"}},
            "train": {"run": f"{sys.executable} train.py", "data": ["base", "teacher"], "model": "out/model",
                      "resources": {"time": "2min"}}}


def test_steps_run_before_the_training_in_their_order(up, app):
    u, a = up(), app()
    a.apply(u.api, **stepped(a))
    u.wait_serves("planes", 1, X)
    log = u.api.text("/runs/1/log")
    said = [log.index(x) for x in ("step prepare", "prepares", "in prepare", "step teach", "the student learns")]
    assert said == sorted(said), log
    assert [run["step"] for run in u.api.runs("planes")].count("train") == 1  # one run has them all
    # What they made is made anew with each training, and of the rows for training only.
    held = u.api.wait_event("gate.passed")["payload"]
    assert held is not None
    u.api.act("planes", "train")
    u.wait_serves("planes", 2, X)
    again = next(run["run"] for run in u.api.runs("planes") if run["step"] == "train" and run["run"] > 1)
    assert "step prepare" in u.api.text(f"/runs/{again}/log")


def test_a_step_that_fails_is_named(up, app):
    u, a = up(), app()
    more = stepped(a)
    more["steps"]["prepare"]["run"] = f"BROKEN=1 {sys.executable} prepare.py"
    a.apply(u.api, **more)
    failed = u.api.wait_event("run.finished", unless=())["payload"]
    assert failed["state"] == "failed" and "step prepare ended with code 1" in failed["text"], failed
    assert "no such column" in failed["log_tail"] and "step teach" not in failed["log_tail"]


def test_a_step_that_leaves_nothing_is_named(up, app):
    u, a = up(), app()
    more = stepped(a)
    more["steps"]["prepare"]["run"] = "true"
    a.apply(u.api, **more)
    failed = u.api.wait_event("run.finished", unless=())["payload"]
    assert "step prepare left nothing at out/rows" in failed["text"], failed


def test_check_names_both_sides(app, tmp_path):
    a = app()
    more = stepped(a)
    more["data"]["teacher"]["kind"] = "rows"
    (a.folder / "app.yaml").write_text(a.yaml(**more))
    done = overtake("check", "app.yaml", cwd=a.folder)
    assert done.returncode == 1
    assert "data 'teacher' is rows, and step 'teach' (app.yaml:" in done.stderr, done.stderr
