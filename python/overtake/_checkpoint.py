"""Checkpoints of a training: bundles of files, named by their content, in the folder that the run was given.

    blobs/AA/SHA256           each file once, however many checkpoints have it
    STEP-DIGEST/manifest.json {"schema": "overtake.checkpoint/2", "single", "files": [{"path", "size", "sha256"}...]}:
                              DIGEST is the beginning of its SHA-256
    STEP-DIGEST/saved.json    {"step", "made_us", "run", "metrics"}
    STEP-DIGEST/files/...     links to the blobs
    went-on-RUN.json          {"run", "step", "checkpoint": SHA-256}: what this try began with, when it asked

A checkpoint appears whole or not at all (written beside it, synced, renamed), and what does not give its
digests any more is passed over. The control plane reads what stands here (src/registry/checkpoint.c).
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import time
import typing

SCHEMA = "overtake.checkpoint/2"
PIECE = 1 << 20
STEP_MAX = 10**15


class Checkpoint(typing.NamedTuple):
    """`path`: the file or folder that was kept; read it, do not write there."""
    path: pathlib.Path
    step: int


def _sync(folder):
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make(folder):
    """The folder and those above it, durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for f in reversed(missing):
        f.mkdir(exist_ok=True)
        _sync(f.parent)


def _digest(path):
    sha = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(PIECE):
            sha.update(piece)
    return sha.hexdigest()


def _blob(root, digest):
    return root / "blobs" / digest[:2] / digest


def _put(root, path):
    """Copies a file into the blobs; (size, digest)."""
    sha, size, temporary = hashlib.sha256(), 0, root / "blobs" / f".{os.getpid()}.tmp"
    _make(temporary.parent)
    try:
        with open(path, "rb") as f, open(temporary, "wb") as out:
            while piece := f.read(PIECE):
                sha.update(piece)
                out.write(piece)
                size += len(piece)
            out.flush()
            os.fsync(out.fileno())
        blob = _blob(root, sha.hexdigest())
        if not blob.exists() or _digest(blob) != blob.name:
            _make(blob.parent)
            temporary.chmod(0o444)
            temporary.replace(blob)
            _sync(blob.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return size, sha.hexdigest()


def _files(path):
    """[(what it is called, where it is)...] of a file or folder."""
    if path.is_file():
        return [(path.name, path)]
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        found += [pathlib.Path(folder) / name for name in sorted(names)]
    return [(f.relative_to(path).as_posix(), f) for f in found if f.is_file()]


def _link(blob, to):
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(blob, to)
    except OSError:  # a file system without links
        shutil.copyfile(blob, to)
        with open(to, "rb") as f:
            os.fsync(f.fileno())


def _write(path, text):
    with open(path, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _publish(root, name, files, manifest, saved):
    temporary = root / f".{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for f in files:
        _link(_blob(root, f["sha256"]), temporary / "files" / f["path"])
    _write(temporary / "manifest.json", manifest)
    _write(temporary / "saved.json", json.dumps(saved))
    for folder, _, _ in os.walk(temporary):
        _sync(folder)
    temporary.rename(root / name)
    _sync(root)


def _name(step, digest):
    return f"{step:015d}-{digest[:16]}"


def _read(folder):
    """The manifest of a checkpoint, its digest, and by whom and when it was made; None: it is not one."""
    try:
        text = (folder / "manifest.json").read_bytes()
        m, saved = json.loads(text), json.loads((folder / "saved.json").read_text())
        m["digest"] = hashlib.sha256(text).hexdigest()
        m["step"], m["made_us"], m["run"] = int(saved["step"]), int(saved["made_us"]), int(saved["run"])
        if m["schema"] != SCHEMA or folder.name != _name(m["step"], m["digest"]):
            return None
        m["files"] = [{"path": str(f["path"]), "size": int(f["size"]), "sha256": str(f["sha256"])} for f in m["files"]]
        return m if m["files"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _all(root):
    """[(manifest, folder)...], the newest last."""
    with contextlib.suppress(OSError):
        found = [(_read(f), f) for f in root.iterdir() if f.is_dir() and f.name[0].isdigit()]
        return sorted(((m, f) for m, f in found if m), key=lambda x: (x[0]["step"], x[0]["made_us"]))
    return []


def _forget(root, keep):
    """All but the newest, then blobs that nobody has; what a killed process left, too."""
    there = _all(root)
    for _, folder in there[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)
    used = {f["sha256"] for m, _ in there[-keep:] for f in m["files"]}
    for blob in (root / "blobs").glob("*/*"):
        if blob.name not in used:
            blob.unlink(missing_ok=True)
    for left in [*root.glob(".*.tmp"), *(root / "blobs").glob(".*.tmp")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def put(root, path, step, keep, metrics):
    root, path = pathlib.Path(root), pathlib.Path(path)
    files = [{"path": name, **dict(zip(("size", "sha256"), _put(root, f)))} for name, f in _files(path)]
    if not files:
        raise FileNotFoundError(f"checkpoint: there is no file at '{path}'")
    manifest = json.dumps({"schema": SCHEMA, "single": path.is_file(), "files": files})
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    name = _name(step, digest)
    if _read(root / name) is None:
        shutil.rmtree(root / name, ignore_errors=True)
        _publish(root, name, files, manifest,
                 {"step": step, "made_us": time.time_ns() // 1000, "run": int(os.environ.get("OVERTAKE_RUN") or 0),
                  "metrics": metrics})
    _forget(root, keep)
    return digest


def _whole(manifest, folder):
    with contextlib.suppress(OSError):
        return all(_digest(folder / "files" / f["path"]) == f["sha256"] for f in manifest["files"])
    return False


def newest(root, tell):
    """`tell`: leave word of which one it was, for the lineage of what comes of this run."""
    root = pathlib.Path(root)
    for manifest, folder in reversed(_all(root)):
        if not _whole(manifest, folder):
            continue
        run = os.environ.get("OVERTAKE_RUN")
        if tell and run:
            word = root / f".{os.getpid()}.tmp"
            _write(word, json.dumps({"run": manifest["run"], "step": manifest["step"], "checkpoint": manifest["digest"]}))
            word.replace(root / f"went-on-{run}.json")
            _sync(root)
        path = folder / "files"
        return Checkpoint(path / manifest["files"][0]["path"] if manifest["single"] else path, manifest["step"])
    return None
