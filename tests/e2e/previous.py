"""The binary of the landing before, built from the commit in tests/e2e/previous_landing into build/previous: what
tests of neighbouring versions run beside today's."""

import fcntl
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from replica import ROOT

COMMIT = (ROOT / "tests/e2e/previous_landing").read_text().strip()
FOLDER = ROOT / "build/previous"
LIMIT_S = int(os.environ.get("OT_PREVIOUS_LIMIT_S", 60))  # what `make test` may spend on it; 0: as long as it takes


def unpack():
    """The sources of the commit; a folder of another one goes."""
    mark = FOLDER / "commit"
    if mark.exists() and mark.read_text() == COMMIT:
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True)
    if archive.returncode != 0:
        pytest.skip(f"no git history with {COMMIT[:12]} here: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "-x", "-C", FOLDER], input=archive.stdout, check=True)
    if (ROOT / "build/page").exists():  # the page's libraries, as they were fetched
        shutil.copytree(ROOT / "build/page", FOLDER / "build/page", symlinks=True)
    mark.write_text(COMMIT)


def binary():
    """Its path; skips the test where it can't be had. What was built stays for the next run."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with open(FOLDER.with_suffix(".lock"), "w") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build()


def build():
    unpack()
    path = FOLDER / "build/release/overtake"
    env = {k: v for k, v in os.environ.items() if k not in ("V", "BUILD", "MAKEFLAGS", "MAKELEVEL", "WERROR")}
    with open(FOLDER / "build.log", "wb") as log:
        make = subprocess.Popen(["make", "-j2", "build/release/overtake", "build/release/plugins/overtake_null.so"],
                                cwd=FOLDER, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            code = make.wait(LIMIT_S or None)
        except subprocess.TimeoutExpired:
            os.killpg(make.pid, signal.SIGKILL)
            make.wait()
            pytest.skip(f"the landing before is not built after {LIMIT_S} s; what is built stays for the next run")
    assert code == 0, pathlib.Path(log.name).read_text()[-2000:]
    return path
