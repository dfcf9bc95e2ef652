"""Bundles that are broken in every way that there is, pushed to a server and promoted to it by one that it trusts:
each ends with a text that says what is wrong, nothing of it serves, and what serves goes on."""

import hashlib
import json
import os
import re
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from test_promote import ROWS, answers, envelope_of, kept, key_id, opened, public_text, put, statement_of
from up import ApiError

MODEL = "model/null.json"
GOLDEN = "golden/golden.json"


class Bundle:
    """A copy of a good bundle, to be spoilt."""

    def __init__(self, good, at):
        shutil.copytree(good, at)
        for path in at.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        self.dir = at

    def read(self, path):
        return (self.dir / path).read_bytes()

    def write(self, path, data, manifest=True):
        """Replaces a file, in the manifest too."""
        (self.dir / path).write_bytes(data)
        if manifest:
            self.manifest(lambda m: [f.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
                                     for f in m["files"] if f["path"] == path])

    def manifest(self, change):
        m = json.loads(self.read("manifest.json"))
        change(m)
        (self.dir / "manifest.json").write_text(json.dumps(m))

    def golden(self, change):
        g = json.loads(self.read(GOLDEN))
        change(g)
        self.write(GOLDEN, json.dumps(g).encode())

    def model(self, change):
        m = json.loads(self.read(MODEL))
        change(m)
        self.write(MODEL, json.dumps(m).encode())

    def link(self, path, to):
        (self.dir / path).unlink()
        (self.dir / path).symlink_to(to)

    def rename_in_manifest(self, path):
        self.manifest(lambda m: [f.update(path=path) for f in m["files"] if f["path"] == MODEL])


def first_output(g):
    return g["cases"][0]["outputs"][0]["data"]


# What is done to it, and what is said of that when it is pushed.
SPOILT = {
    "a truncated model": (lambda b: b.write(MODEL, b.read(MODEL)[:20], manifest=False),
                          r"'model/null.json' has 20 bytes; the manifest says \d+"),
    "a truncated manifest": (lambda b: b.write("manifest.json", b.read("manifest.json")[:50], manifest=False),
                             "manifest.json"),
    "another byte": (lambda b: b.write(MODEL, b" " + b.read(MODEL)[1:], manifest=False),
                     "'model/null.json' has SHA-256 .*; the manifest says .*: it was changed or damaged"),
    "a file that is not there": (lambda b: (b.dir / GOLDEN).unlink(), "'golden/golden.json' is in the manifest and not there"),
    "a file too many": (lambda b: b.write("model/more", b"x", manifest=False), "'model/more' is there and not in the manifest"),
    "an unknown format": (lambda b: b.manifest(lambda m: m.update(format="nosuch")), "nosuch"),
    "a model that is none": (lambda b: b.write(MODEL, b"{}"), "null.json"),
    "another format": (lambda b: b.manifest(lambda m: m.update(format="onnx")), "onnx"),
    "NaN in its golden answers": (lambda b: b.golden(lambda g: first_output(g).__setitem__(0, float("nan"))), r"\[0\] is NaN"),
    "infinite golden answers": (lambda b: b.golden(lambda g: first_output(g).__setitem__(0, float("inf"))), "golden"),
    "golden answers of another model": (lambda b: b.golden(lambda g: first_output(g).__setitem__(0, 17.0)), "golden"),
    "weights that give NaN": (lambda b: b.model(lambda m: m.update(bias=[1e999, 0])), "null.json|NaN"),
    "a path that leaves": (lambda b: b.rename_in_manifest("../null.json"), r"'\.\./null.json'"),
    "an absolute path": (lambda b: b.rename_in_manifest("/etc/passwd"), "'/etc/passwd'"),
    "a link to a file": (lambda b: b.link(MODEL, "/etc/passwd"), "symbolic link"),
    "a link as its manifest": (lambda b: b.link("manifest.json", "/etc/passwd"), "not a regular file"),
    "a link to a folder": (lambda b: (b.dir / "model" / "more").symlink_to("/etc"), "symbolic link"),
    "a pipe": (lambda b: os.mkfifo(b.dir / "model" / "pipe"), "special file"),
}


@pytest.fixture
def loop(up, app):
    u = up()
    a = app()
    a.apply(u.api)
    u.api.wait_event("version.promoted")
    u.wait_serves("planes", 1, ROWS)
    [good] = (p / "bundle" for p in (u.data / "runs").iterdir() if (p / "bundle").exists())
    return u, good


def champion_is_one(u, before):
    app = u.api.app("planes")
    assert app["champion"] == 1 and app["cycle"]["state"] == "idle"
    assert answers(u) == before
    assert all(v["status"] == "refused" for v in u.api.get("/models/planes")["list"][:-1])


def cause(u, failed):
    """What the run that failed says in its log; the event has its beginning."""
    run = u.api.runs("planes")[0]["run"]
    text = failed["payload"]["text"]
    assert f"overtake logs {run}" in text or "not registered" in text, text
    return u.api.text(f"/runs/{run}/log")


def test_pushed(loop, tmp_path):
    u, good = loop
    before = answers(u)
    for name, (spoil, match) in SPOILT.items():
        b = Bundle(good, tmp_path / name.replace(" ", "-"))
        spoil(b)
        head = u.api.head()
        u.api.act("planes", "push", path=str(b.dir))
        failed = u.api.wait_event("cycle.failed", after=head, unless=("version.promoted", "stage.entered"))
        assert re.search(match, cause(u, failed)), (name, cause(u, failed))
    champion_is_one(u, before)
    assert len(u.api.get("/models/planes")["list"]) == 1


# Here the manifest is signed as it is, by a server that is trusted and broken. What a manifest can't hold is refused
# before anything is kept (status, text); the rest by the receiver's own evaluation. (Bytes that are not those of the
# manifest: test_promote.py.)
PROMOTED = {
    "NaN in its golden answers": (400, r"\[0\] is NaN"),
    "infinite golden answers": (400, r"\[0\] is infinite"),
    "a path that leaves": (400, r"'\.\./null.json'"),
    "an absolute path": (400, "'/etc/passwd'"),
    "an unknown format": (None, "nosuch"),
    "a model that is none": (None, "null.json"),
    "another format": (None, "onnx"),
    "golden answers of another model": (None, "it does not repeat its golden answers"),
    "weights that give NaN": (None, "null.json|NaN"),
}


def test_promoted(loop, tmp_path):
    u, good = loop
    before = answers(u)
    private = Ed25519PrivateKey.generate()
    u.api.post("/trust", {"name": "broken", "key": public_text(private)})
    s = statement_of(u.api.post("/models/planes/versions/1/sign"))
    s["predicate"]["server"]["key"] = key_id(private)
    for name, (status, match) in PROMOTED.items():
        b = Bundle(good, tmp_path / name.replace(" ", "-"))
        SPOILT[name][0](b)
        manifest = b.read("manifest.json")
        s["subject"][0]["digest"]["sha256"] = hashlib.sha256(manifest).hexdigest()

        def send():
            said = opened(u, envelope_of(private, s), manifest)
            for f in said["files"]:
                put(u, said["bundle"], f["path"], b.read(f["path"])[f["have"]:], f["have"])
            return u.api.post(f"/incoming/{said['bundle']}/finish")
        head = u.api.head()
        if status:
            with pytest.raises(ApiError, match=match) as e:
                send()
            assert e.value.status == status, (name, e.value)
        else:
            assert send()["released"], name
            failed = u.api.wait_event("cycle.failed", after=head, unless=("version.promoted", "stage.entered"))
            assert re.search(match, cause(u, failed)), (name, cause(u, failed))
    champion_is_one(u, before)
    assert kept(u) == []
    assert len(u.api.get("/models/planes")["list"]) == 1 + sum(status is None for status, _ in PROMOTED.values())
