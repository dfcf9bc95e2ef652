#!/usr/bin/env python3
"""Puts pinned Python packages into a virtual environment, one by one: says which, n of m.

    tools/venv.py VENV REQUIREMENTS

Each line of REQUIREMENTS is `name==version --hash=sha256:...` (pip refuses a file with another hash).
A package that is there already in that version is left alone, so that a run that broke off goes on
from there.
"""

import pathlib
import platform
import re
import subprocess
import sys
import tempfile

PINNED_FOR = "CPython 3.11, x86_64"


def fail(text):
    sys.exit(f"deps: {text}")


def key(name, version):
    """As folders of installed packages spell it, whatever the file writes."""
    return re.sub(r"[-_.]+", "_", name).lower(), version


def pins_of(path):
    """[(name, version, line)] in the order of the file."""
    pins = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        m = re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+)", line)
        if m is None:
            fail(f"{path}:{number}: '{line[:80]}' is not name==version --hash=sha256:...")
        pins.append((m[1], m[2], line))
    return pins


def installed_in(venv):
    """pip writes RECORD last: what has none was broken off."""
    found = set()
    for record in venv.glob("lib/python3*/site-packages/*.dist-info/RECORD"):
        name, _, version = record.parent.name.removesuffix(".dist-info").rpartition("-")
        found.add(key(name, version))
    return found


def check_platform(requirements):
    """The pinned files are those of one platform."""
    have = f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]}, {platform.machine()}"
    if have != PINNED_FOR:
        fail(f"{requirements} pins packages for {PINNED_FOR}; this is {have} ({sys.executable})")


def create(venv):
    if (venv / "bin/python").exists() and (venv / "bin/pip").exists():
        return
    print(f"deps: a Python environment in {venv}", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", "--clear", venv]).returncode != 0:
        fail("python3 -m venv failed; on Debian: apt-get install python3-venv")


def install(venv, name, version, line):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as one:
        one.write(line + "\n")
        one.flush()
        command = [venv / "bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check",
                   "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", one.name]
        if subprocess.run(command).returncode != 0:
            fail(f"{name} {version} could not be installed (why: above). What is there is kept; "
                 "the same command goes on from here")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    venv, requirements = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    pins = pins_of(requirements)
    there = installed_in(venv)
    missing = [p for p in pins if key(p[0], p[1]) not in there]
    if missing:
        check_platform(requirements)
        create(venv)
        print(f"deps: {len(pins)} Python packages in {requirements.name}, "
              f"{len(pins) - len(missing)} there already", flush=True)
    for n, (name, version, line) in enumerate(missing, len(pins) - len(missing) + 1):
        print(f"deps: {n} of {len(pins)}: {name} {version}", flush=True)
        install(venv, name, version, line)


if __name__ == "__main__":
    try:
        main()
    except OSError as why:
        fail(why)
    except KeyboardInterrupt:
        fail("interrupted; what is there is kept, the same command goes on from here")
