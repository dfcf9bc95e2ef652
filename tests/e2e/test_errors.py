"""Errors are part of the design: app files of tests/golden/errors and the text that a person gets for them."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

from replica import OVERTAKE, PATIENCE, ROOT
from up import two_classes

GOLDEN = ROOT / "tests" / "golden" / "errors"


@pytest.fixture
def folder(tmp_path):
    """folder(NAME): a copy of a golden folder with data."""
    def copy(name):
        to = tmp_path / name
        shutil.copytree(GOLDEN / name, to)
        x, y = two_classes(200, 1)
        np.savez(to / "base.npz", x=x, y=y)
        return to
    return copy


def overtake(cwd, *args, **env):
    return subprocess.run([OVERTAKE, *args], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, **env})


@pytest.mark.parametrize("name, args", [
    ("misspelt", []), ("impossible_wait", ["--rate", "3"]), ("over_quota", ["--site", "site.yaml"])])
def test_check(folder, name, args):
    at = folder(name)
    expected = (at / "expected.txt").read_text().rstrip("\n")
    done = overtake(at, "check", "app.yaml", *args)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"overtake: {expected}\n")
    # For a review of changes: the same as a list, by the path that was given.
    done = overtake(at.parent, "check", f"{name}/app.yaml", *[f"{name}/{a}" if a.endswith(".yaml") else a for a in args],
                    "--output", "json")
    said = json.loads(done.stdout)
    (error,) = said["errors"]
    assert done.returncode == 1 and said["error"] == expected and error["file"] == f"{name}/app.yaml"
    assert f"app.yaml:{error['line']}:{error['column']}: {error['message']}" == expected
    # What would be right is right: the file is refused for this and nothing else.
    text = (at / "app.yaml").read_text()
    for wrong, right in (("resorces", "resources"), ("margin:   0.01", "margin:   0.3"), ("16GiB", "8GiB")):
        text = text.replace(wrong, right)
    (at / "app.yaml").write_text(text)
    done = overtake(at, "check", "app.yaml", *args)
    assert done.returncode == 0, done.stderr


def test_a_run_without_its_model_and_labels_that_nobody_knows(folder, up, tmp_path):
    at, system = folder("no_model"), up()
    env = {"OVERTAKE_DIR": str(system.data)}
    assert overtake(at, "apply", "app.yaml", **env).returncode == 0
    event = system.api.wait_event("cycle.failed", unless=("version.promoted",))
    assert event["payload"]["text"] == (at / "expected.txt").read_text().rstrip("\n")
    (at / "labels.csv").write_text("id,y\n" + "".join(f"A-{1001 + i},1\n" for i in range(1204)))
    done = overtake(at, "labels", "import", "labels.csv", "--deployment", "digits", "--id", "id", "--label", "y", **env)
    assert (done.returncode, done.stderr) == (1, "overtake: " + (at / "labels.txt").read_text())
