"""Set-up: what tools/deps.sh says and does on other people's machines, and tools/venv.py over local wheels."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEEDED = ["sh", "dirname", "grep", "id"]


@pytest.fixture
def machine(tmp_path):
    """machine(name=script, ...) makes a folder of programs that is the whole PATH; returns how to run deps.sh."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(**programs):
        for name in NEEDED:
            if name not in programs:
                (folder / name).symlink_to(shutil.which(name))
        for name, script in programs.items():
            path = folder / name.replace("_", "-")
            path.write_text("#!/bin/sh\n" + script + "\n")
            path.chmod(0o755)

        def deps(part):
            return subprocess.run([ROOT / "tools/deps.sh", part], capture_output=True, text=True,
                                  env={"PATH": str(folder), "CALLS": str(tmp_path / "calls")})
        return deps
    return make


ALL_BUT_YAML = 'case "$4" in libyaml-dev|zlib1g-dev) exit 1;; esac; echo "install ok installed"'


def test_not_root_gets_the_one_command(machine):
    done = machine(dpkg_query=ALL_BUT_YAML, apt_get="echo called >>$CALLS", id="echo 1000")("debian")
    assert done.returncode != 0
    assert ("sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends libyaml-dev zlib1g-dev'"
            in done.stderr)


def test_root_installs_what_is_missing_and_shows_progress(machine, tmp_path):
    apt = 'echo "$@" >>$CALLS; case "$1" in install) echo "0 upgraded, 2 newly installed, 0 to remove"; ' \
          'echo "Unpacking x"; echo "Setting up libyaml-dev (1)"; echo "Setting up zlib1g-dev (2)";; esac'
    done = machine(dpkg_query=ALL_BUT_YAML, apt_get=apt, id="echo 0")("debian")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["deps: Debian packages: libyaml-dev zlib1g-dev",
                                        "deps: 1 of 2: libyaml-dev", "deps: 2 of 2: zlib1g-dev"]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["update -qq", "install -y --no-install-recommends libyaml-dev zlib1g-dev"]


def test_apt_that_fails_is_shown_and_fails(machine):
    apt = 'case "$1" in install) echo "E: no space left"; exit 100;; esac'
    done = machine(dpkg_query=ALL_BUT_YAML, apt_get=apt, id="echo 0")("debian")
    assert done.returncode != 0
    assert "E: no space left" in done.stderr


def test_nothing_missing_is_silent(machine):
    done = machine(dpkg_query='echo "install ok installed"', apt_get="echo called; exit 1")("debian")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_elsewhere_names_what_is_lacking(machine):
    present = {name: "true" for name in ("gcc", "make", "ar", "strip", "python3")}
    done = machine(**present, pkg_config='[ "$2" != jansson ]')("debian")
    assert done.returncode != 0
    assert "not found: g++ jansson(headers)" in done.stderr
    assert "libjansson-dev" in done.stderr


def test_elsewhere_with_everything_goes_on(machine):
    names = ("gcc", "make", "ar", "strip", "python3", "g++")
    done = machine(**{name: "true" for name in names}, pkg_config="true")("debian")
    assert (done.returncode, done.stderr) == (0, "")


def test_unknown_runtime_is_refused():
    done = subprocess.run([ROOT / "tools/deps.sh", "python"], capture_output=True, text=True,
                          env={**os.environ, "RUNTIME": "torch"})
    assert done.returncode == 2
    assert "RUNTIME=torch" in done.stderr and "onnx" in done.stderr


def test_the_small_path_is_part_of_the_whole_one():
    def pins(name):
        return {line for line in (ROOT / "deps" / name).read_text().splitlines() if "==" in line}
    small = pins("requirements-onnx.txt")
    assert small < pins("requirements.txt")
    assert not any("tensorflow" in line for line in small)


# --- tools/venv.py

def wheel(folder, name, version):
    """A wheel with one module; returns its line in a requirements file."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr(f"{name}.py", f"version = '{version}'\n")
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def fill(venv, requirements, wheels):
    return subprocess.run(["/usr/bin/python3", ROOT / "tools/venv.py", venv, requirements], capture_output=True,
                          text=True, env={**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)})


def test_packages_one_by_one_and_on_from_where_it_broke_off(tmp_path):
    wheels, later = tmp_path / "wheels", tmp_path / "later"
    wheels.mkdir(), later.mkdir()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# pinned\n" + wheel(wheels, "ot_first", "1.0") + wheel(later, "ot_second", "2.1"))
    venv = tmp_path / "venv"
    broke = fill(venv, requirements, wheels)
    assert broke.returncode != 0
    assert "1 of 2: ot_first 1.0" in broke.stdout and "2 of 2: ot_second 2.1" in broke.stdout
    assert "ot_second 2.1 could not be installed" in broke.stderr

    for path in later.iterdir():
        shutil.move(path, wheels)
    went_on = fill(venv, requirements, wheels)
    assert went_on.returncode == 0, went_on.stderr
    assert went_on.stdout.splitlines() == ["deps: 2 Python packages in requirements.txt, 1 there already",
                                           "deps: 2 of 2: ot_second 2.1"]
    seen = subprocess.run([venv / "bin/python", "-c", "import ot_first, ot_second; print(ot_second.version)"],
                          capture_output=True, text=True)
    assert seen.stdout == "2.1\n", seen.stderr
    assert fill(venv, requirements, wheels).stdout == ""

    # Another file under the same name and version is not what was pinned.
    shutil.rmtree(next(venv.glob("lib/python3*/site-packages/ot_second-2.1.dist-info")))
    digest = hashlib.sha256(b"another").hexdigest()
    requirements.write_text(f"ot_second==2.1 --hash=sha256:{digest}\n")
    assert fill(venv, requirements, wheels).returncode != 0


@pytest.mark.parametrize("line", ["numpy", "numpy==1.0", "numpy==1.0 --hash=sha256:zz", "-r other.txt"])
def test_what_is_not_pinned_is_refused(tmp_path, line):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(line + "\n")
    done = fill(tmp_path / "venv", requirements, tmp_path)
    assert done.returncode != 0
    assert f"{requirements}:1: '{line}'" in done.stderr
    assert not (tmp_path / "venv").exists()
