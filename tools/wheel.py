#!/usr/bin/env python3
"""Writes the Python wheels: the program and its plug-ins, libovertake and its bindings; and beside it, of Python
alone, the package `horovod` with the command horovodrun, which nobody gets who has not asked for it. Standard
library only, and the same bytes from the same files.

Where pip puts them: bin/overtake, lib/overtake/plugins (beside the program, where it looks),
include/overtake, and the package `overtake` with libovertake.so and what that needs. The tag says the
machine and the oldest glibc whose symbols are used, so that pip refuses what would not start.
"""

import argparse
import base64
import hashlib
import pathlib
import re
import struct
import subprocess
import sys
import zipfile

MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine
SYSTEM = re.compile(r"(libc|libm|libdl|libpthread|librt)\.so\.\d+|ld-linux-.*\.so\.\d+")
# In the process before libovertake_tf.so is: the package and TensorFlow itself bring them.
LOADED = {"libovertake.so.1", "libtensorflow_framework.so.2"}


def fail(text):
    sys.exit(f"wheel: {text}")


def machine_of(path):
    head = path.read_bytes()[:20]
    number = struct.unpack_from("<H", head, 18)[0] if head[:4] == b"\x7fELF" else None
    if number not in MACHINES:
        fail(f"{path}: not a program or library for {' or '.join(MACHINES.values())}")
    return MACHINES[number]


def objdump(objdump_program, flag, path):
    done = subprocess.run([objdump_program, flag, path], capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"{objdump_program} {flag} {path}: {done.stderr.strip()}")
    return done.stdout


def tag_of(files, objdump_program):
    machines = {machine_of(f) for f in files}
    if len(machines) != 1:
        fail(f"files of several machines: {', '.join(sorted(machines))}")
    names = {f.name for f in files}
    glibc = (2, 17)
    for f in files:
        for needed in re.findall(r"NEEDED\s+(\S+)", objdump(objdump_program, "-p", f)):
            if not SYSTEM.fullmatch(needed) and needed not in names | LOADED:
                fail(f"{f} needs {needed}, which is neither glibc's nor in the wheel")
        for found in re.findall(r"GLIBC_(\d+)\.(\d+)", objdump(objdump_program, "-T", f)):
            glibc = max(glibc, tuple(map(int, found)))
    return f"py3-none-manylinux_{glibc[0]}_{glibc[1]}_{machines.pop()}"


class Wheel:
    def __init__(self, path, info):
        self.zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self.info = info
        self.record = []

    def add(self, name, data, mode=0o644):
        if isinstance(data, str):
            data = data.encode()
        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o100000 | mode) << 16
        self.zip.writestr(entry, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self.record.append(f"{name},sha256={digest},{len(data)}")

    def close(self):
        name = f"{self.info}/RECORD"
        self.add(name, "\n".join(self.record + [f"{name},,"]) + "\n")
        self.zip.close()


def metadata(name, version, summary, expression, licences, readme, requires=()):
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", f"Summary: {summary}",
             f"License-Expression: {expression}"]
    lines += [f"License-File: {name}" for name in licences]
    lines += [f"Requires-Dist: {what}" for what in requires]
    lines += ["Requires-Python: >=3.8", "Description-Content-Type: text/markdown", "", readme]
    return "\n".join(lines)


def end(wheel, tag, pure, described, licences):
    info = wheel.info
    wheel.add(f"{info}/METADATA", described)
    wheel.add(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: overtake\nRoot-Is-Purelib: {str(pure).lower()}\n"
              f"Tag: {tag}\n")
    for licence, text in licences.items():
        wheel.add(f"{info}/licenses/{licence}", text)
    wheel.close()


def package(wheel, root, name):
    for source in sorted((root / "python" / name).rglob("*.py")):
        wheel.add(str(source.relative_to(root / "python")), source.read_bytes())


def horovod(root, out, version):
    name, tag = f"overtake_horovod-{version}", "py3-none-any"
    path = out / f"{name}-{tag}.whl"
    w = Wheel(path, f"{name}.dist-info")
    package(w, root, "horovod")
    w.add(f"{w.info}/entry_points.txt", "[console_scripts]\nhorovodrun = horovod.runner.launch:main\n")
    licences = {"LICENSE": (root / "LICENSE").read_text()}
    end(w, tag, True, metadata("overtake-horovod", version, "Horovod's API over Overtake's collectives", "Apache-2.0",
                               licences, (root / "docs/horovod.md").read_text(), [f"overtake=={version}"]), licences)
    return path


def licence_files(root, libraries, docs):
    """{name in the wheel: text}: ours, the list of third parties, and Debian's file of each library."""
    found = {name: (root / name).read_text() for name in ("LICENSE", "THIRD_PARTY.md")}
    for package in libraries:
        path = docs / package / "copyright"
        if not path.exists():
            fail(f"{path} is missing: the licence of a library in the wheel goes with it")
        found[f"{package}.copyright"] = path.read_text()
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--version", required=True)
    p.add_argument("--program", type=pathlib.Path, required=True)
    p.add_argument("--library", type=pathlib.Path, nargs="+", required=True,
                   help="libovertake.so, then what lies beside it")
    p.add_argument("--plugin", type=pathlib.Path, nargs="*", default=[])
    p.add_argument("--licences", nargs="*", default=[], help="Debian packages whose code is inside")
    p.add_argument("--docs", type=pathlib.Path, default=pathlib.Path("/usr/share/doc"))
    p.add_argument("--objdump", default="objdump")
    p.add_argument("--out", type=pathlib.Path, required=True, help="folder of the wheel")
    a = p.parse_args()
    root = pathlib.Path(__file__).resolve().parents[1]

    tag = tag_of([a.program, *a.library, *a.plugin], a.objdump)
    name = f"overtake-{a.version}"
    info, data = f"{name}.dist-info", f"{name}.data"
    licences = licence_files(root, a.licences, a.docs)
    a.out.mkdir(parents=True, exist_ok=True)
    path = a.out / f"{name}-{tag}.whl"
    w = Wheel(path, info)
    package(w, root, "overtake")
    for library in a.library:
        w.add(f"overtake/{library.name}", library.read_bytes(), 0o755)
    w.add(f"{data}/scripts/overtake", a.program.read_bytes(), 0o755)
    for plugin in sorted(a.plugin):
        w.add(f"{data}/data/lib/overtake/plugins/{plugin.name}", plugin.read_bytes(), 0o755)
    for header in sorted((root / "include/overtake").glob("*.h")):
        w.add(f"{data}/data/include/overtake/{header.name}", header.read_bytes())
    end(w, tag, False, metadata(
        "overtake", a.version, "DevOps for deep learning in one program: train, evaluate, serve, watch, retrain",
        "Apache-2.0 AND ISC AND MIT AND Zlib AND blessing", licences, (root / "README.md").read_text()), licences)
    print(path)
    print(horovod(root, a.out, a.version))


if __name__ == "__main__":
    try:
        main()
    except OSError as why:
        fail(why)
