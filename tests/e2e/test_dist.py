"""The wheel: built, installed into a fresh environment and used from there."""

import base64
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import urllib.request
import zipfile

import pytest

from replica import BUILD, PATIENCE, ROOT

pytestmark = pytest.mark.skipif(BUILD.name != "release", reason="a wheel is made of the release build only")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(["make", "-C", ROOT, "--no-print-directory", "-s", "wheel", f"BUILD={BUILD}", f"DIST={out}"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("overtake-*.whl")
    return path


@pytest.fixture(scope="module")
def horovod_wheel(wheel):
    (path,) = wheel.parent.glob("overtake_horovod-*-py3-none-any.whl")
    return path


@pytest.fixture(scope="module")
def venv(wheel, horovod_wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", folder], check=True)
    done = subprocess.run([folder / "bin/pip", "install", "-q", "--no-index", wheel, horovod_wheel],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(venv, tmp_path):
    """run(program, ...) of the environment, with nothing of this checkout in sight."""
    env = {"PATH": f"{venv}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}

    def start(*command, cls=subprocess.run, **how):
        command = [str(venv / "bin" / command[0]), *map(str, command[1:])]
        return cls(command, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
    return start


def test_the_program_needs_glibc_only_and_the_tag_says_which(wheel, venv):
    major, minor, machine = re.search(r"manylinux_(\d+)_(\d+)_(\w+)\.whl$", wheel.name).groups()
    used = set()
    for file in [venv / "bin/overtake", *venv.glob("lib/overtake/plugins/*.so")]:
        text = subprocess.run(["objdump", "-pT", file], capture_output=True, text=True, check=True).stdout
        assert set(re.findall(r"NEEDED\s+(\S+)", text)) <= {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}
        used |= {tuple(map(int, v)) for v in re.findall(r"GLIBC_(\d+)\.(\d+)", text)}
    assert max(used) <= (int(major), int(minor))
    assert machine == os.uname().machine


def test_what_is_linked_in_stays_hidden(venv):
    """A framework that brings its own SQLite or zlib must not get ours."""
    symbols = subprocess.run(["nm", "-D", "--defined-only", venv / "bin/overtake"],
                             capture_output=True, text=True, check=True).stdout
    assert not re.search(r" (sqlite3_|sodium_|json_|yaml_|deflate|inflate)", symbols), symbols


def test_licences_of_what_is_inside(wheel):
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        texts = {pathlib.Path(n).name: z.read(n).decode() for n in names if "/licenses/" in n}
        metadata = z.read(next(n for n in names if n.endswith("/METADATA"))).decode()
    assert "Apache License" in texts["LICENSE"]
    assert "Frank Denis" in texts["libsodium-dev.copyright"]
    assert "Petri Lehtinen" in texts["libjansson-dev.copyright"]
    assert "Kirill Simonov" in texts["libyaml-dev.copyright"]
    assert "Mark Adler" in texts["zlib1g-dev.copyright"]
    assert "public domain" in texts["libsqlite3-dev.copyright"]
    assert sorted(re.findall(r"^License-File: (.*)$", metadata, re.M)) == sorted(texts)


@pytest.mark.parametrize("which", ["wheel", "horovod_wheel"])
def test_record_matches_every_file(which, request):
    with zipfile.ZipFile(request.getfixturevalue(which)) as z:
        (record,) = (n for n in z.namelist() if n.endswith("/RECORD"))
        rows = [line.split(",") for line in z.read(record).decode().splitlines()]
        assert sorted(r[0] for r in rows) == sorted(z.namelist())
        for name, digest, size in rows:
            if name != record:
                data = z.read(name)
                want = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, size) == ("sha256=" + want, str(len(data))), name


def test_horovodrun_of_the_second_wheel(wheel, horovod_wheel, venv, run, tmp_path):
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(horovod_wheel) as two:
        assert not any(n.startswith("horovod/") for n in one.namelist())  # only who asks for it gets the name
        metadata = two.read(next(n for n in two.namelist() if n.endswith("/METADATA"))).decode()
    assert f"Requires-Dist: overtake=={wheel.name.split('-')[1]}\n" in metadata
    program = tmp_path / "program.py"
    program.write_text("import os, horovod, overtake.collective as oc\noc.init()\n"
                       "print(horovod.__file__, oc.rank(), os.environ['HOROVOD_SIZE'])\n")
    done = run("horovodrun", "-np", 2, venv / "bin/python", program)
    assert done.returncode == 0, done.stderr
    assert sorted(line.split(" ", 1)[1] for line in done.stdout.splitlines()) == [
        f"{next(venv.glob('lib/*/site-packages/horovod'))}/__init__.py {rank} 2" for rank in (0, 1)]


def test_version(wheel, run):
    done = run("overtake", "version", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == wheel.name.split("-")[1]


def test_plugins_are_found_beside_the_program(venv, run):
    done = run("overtake", "plugins", "--output", "json")
    assert done.returncode == 0, done.stderr
    found = {p["name"]: p for p in json.loads(done.stdout)}
    assert {"null", "onnxruntime", "tensorflow"} <= set(found)
    assert found["null"]["file"].startswith(str(venv.resolve()))


def test_bindings_load_their_library(venv, run):
    done = run("python", "-c", "import overtake; print(overtake.__file__)\n"
               "try: overtake.verify('nothing-here')\n"
               "except overtake.OvertakeError as e: print(e)\n"
               "print(open('/proc/self/maps').read())")
    assert done.returncode == 0, done.stderr
    file, message, *maps = done.stdout.splitlines()
    assert file.startswith(str(venv)) and "nothing-here" in message
    for library in ("libovertake.so", "libjansson.so.4"):
        assert any(str(venv.resolve()) in line and line.endswith(library) for line in maps), library


def test_up_starts_answers_and_stops(run, tmp_path):
    with run("overtake", "up", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0",
             "--output", "json", cls=subprocess.Popen) as p:
        try:
            said = json.loads(p.stdout.readline())
            for url in (f"http://{said['inference']}/v2/health/live", f"http://{said['control']}/api/v1/health"):
                with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                    assert answer.status == 200
            p.send_signal(signal.SIGTERM)
            assert p.wait(timeout=PATIENCE) == 0, p.stderr.read()
        finally:
            p.kill()
