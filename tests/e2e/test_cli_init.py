"""`overtake init`: the file that it writes for a program."""

import json
import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OVERTAKE = ROOT / os.environ.get("BUILD", "build/release") / "overtake"
PROGRAM = """import numpy as np
d = np.load("rows/digits 1.npz")
x, y = d["x"], d["label"]
more = np.load("more.npz")
model.export("out/model")
"""


@pytest.fixture
def run(tmp_path):
    def call(*args, code=0, cwd=tmp_path):
        done = subprocess.run([OVERTAKE, *map(str, args)], cwd=cwd, capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr
    return call


def app_of(run, file):
    """The lines of the effective configuration."""
    return [line.strip() for line in run("config", "show", file).splitlines()]


def test_what_the_text_tells_stands_in_the_file(run, tmp_path):
    folder = tmp_path / "My Digits"
    (folder / "rows").mkdir(parents=True)
    (folder / "train.py").write_text(PROGRAM)
    out = run("init", "My Digits/train.py")
    file = folder / "app.yaml"
    assert "wrote My Digits/app.yaml for app my-digits\n" in out and "FILL IN" not in file.read_text()
    assert "does not read $OVERTAKE_DATA yet" in out
    assert "nothing at" in run("check", file, code=1)
    (folder / "rows" / "digits 1.npz").write_bytes(b"")
    (folder / "more.npz").write_bytes(b"")
    assert run("check", file) == "app my-digits: fine (2 data sets, 0 release stages)\n"
    shown = app_of(run, file)
    for line in ("app: my-digits", "run: python train.py", "model: out/model", "deployment: my-digits",
                 'digits-1: {path: "rows/digits 1.npz", label: label}',
                 'more: {path: "more.npz", label: label}'):
        assert line in shown, line


def test_it_never_overwrites(run, tmp_path):
    (tmp_path / "train.py").write_text(PROGRAM)
    (tmp_path / "app.yaml").write_text("mine")
    assert "app.yaml is there already" in run("init", "train.py", code=1)
    assert (tmp_path / "app.yaml").read_text() == "mine"
    (tmp_path / "link.yaml").symlink_to("nowhere")
    assert "is there already" in run("init", "train.py", "--out", "link.yaml", code=1)
    run("init", "train.py", "--out", "other.yaml")
    assert (tmp_path / "other.yaml").exists() and not (tmp_path / "nowhere").exists()


def test_what_the_text_does_not_tell_is_asked_for(run, tmp_path):
    (tmp_path / "fit.py").write_text("torch.save(net, 'net.pt')\n")
    said = json.loads(run("init", "fit.py", "--app", "a", "--output", "json"))
    assert said == {"file": "app.yaml", "app": "a", "complete": False}
    text = (tmp_path / "app.yaml").read_text()
    assert text.count("FILL IN") == 3 and "What it saves now, net.pt, is not a format" in text
    (tmp_path / "data.npz").write_bytes(b"")
    run("check", "app.yaml")


def test_the_commented_part_can_be_uncommented(run, tmp_path):
    (tmp_path / "train.py").write_text(PROGRAM)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "digits 1.npz").write_bytes(b"")
    (tmp_path / "more.npz").write_bytes(b"")
    run("init", "train.py", "--app", "a")
    file = tmp_path / "app.yaml"
    text, rest = file.read_text().split("to be uncommented:\n")
    file.write_text(text + "\n" + re.sub(r"^#", "", rest, flags=re.M))
    assert run("check", "app.yaml") == "app a: fine (2 data sets, 4 release stages)\n"
    assert "at_least: 0.9" in app_of(run, "app.yaml")


@pytest.mark.parametrize("program", ["it's.py", "a b.py", "-x.py", "ü.py"])
def test_odd_names_are_quoted_for_the_shell(run, tmp_path, program):
    (tmp_path / program).write_text("print('ran', __file__)")
    run("init", "./" + program, "--app", "a")
    shown = run("config", "show", "app.yaml")
    command = re.search(r"^  run: (.*)$", shown, re.M)[1]
    command = json.loads(command) if command.startswith('"') else command
    done = subprocess.run(command.replace("python", "python3", 1), shell=True, cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "ran" in done.stdout, done.stderr


def test_the_app_file_lies_above_its_program(run, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text(PROGRAM)
    run("init", "src/train.py", "--out", "app.yaml", "--app", "a")
    assert "run: python src/train.py" in app_of(run, "app.yaml")
    (tmp_path / "other").mkdir()
    assert "must lie in the program's folder or above it" in \
        run("init", "src/train.py", "--out", "other/app.yaml", code=1)
    assert not (tmp_path / "other" / "app.yaml").exists()
    run("init", "none.py", code=1)
    assert "is not a name" in run("init", "src/train.py", "--app", "a b", code=1)


def test_completion_knows_a_command_that_is_a_group_too(tmp_path):
    script = subprocess.run([OVERTAKE, "completion", "bash"], capture_output=True, text=True).stdout
    for line, word in (("overtake ev", "events"), ("overtake events v", "verify"),
                       ("overtake events verify --d", "--data"), ("overtake labels i", "import"),
                       ("overtake rollback --r", "--reason")):
        words = line.split(" ")
        done = subprocess.run(["bash", "-c", script + f"""
COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _overtake; echo "${{COMPREPLY[@]}}" """],
                              capture_output=True, text=True, cwd=tmp_path)
        assert word in done.stdout.split(), (line, done.stdout, done.stderr)
