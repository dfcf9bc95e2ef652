"""A version goes from one server to another: signed, in pieces, through the receiver's own release; and
every way in which it must not."""

import base64
import ctypes.util
import hashlib
import http.client
import http.server
import io
import json
import os
import shutil
import ssl
import stat
import subprocess
import tarfile
import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from replica import OVERTAKE, PATIENCE
from up import ApiError, App, two_classes

ROWS = two_classes(16, 7)[0]
PIECE = 4 << 20


def cli(*args, env=None, code=0):
    """(stdout, stderr) of a command; stdout as JSON."""
    p = subprocess.run([OVERTAKE, *map(str, args), "--output", "json"], capture_output=True, text=True, timeout=PATIENCE,
                       env={**os.environ, **(env or {})})
    assert p.returncode == code, (args, p.returncode, p.stdout, p.stderr)
    return json.loads(p.stdout) if p.stdout.strip() else None


def key_of(u):
    return u.api.get("/keys")["key"]


@pytest.fixture
def pair(up, app):
    """A server that trained `planes` v1, and one that trusts it and has no app."""
    source, target = up(name="staging"), up(name="prod")
    app().apply(source.api)
    source.api.wait_event("version.promoted")
    target.api.post("/trust", {"name": "staging", "key": key_of(source)})
    return source, target


def promote(source, target, what="planes@1", code=0):
    return cli("promote", what, "--data", source.data, "--to", f"http://{target.control}", "--token-file",
               target.data / "token", code=code)


def sign(source, version=1):
    return source.api.post(f"/models/planes/versions/{version}/sign")


def file_of(source, path, version=1):
    status, _, data = source.api.raw("GET", f"/api/v1/models/planes/versions/{version}/file?path={path}", None,
                                     source.api.headers())
    assert status == 200, data
    return data


def opened(target, envelope, manifest):
    return target.api.post("/incoming", {"envelope": json.dumps(envelope), "manifest": manifest.decode()})


def put(target, bundle, path, data, offset=0):
    return target.api.post(f"/incoming/{bundle}/file?path={path}&offset={offset}", data)


def kept(target):
    """What lies in the folder of versions that come in."""
    incoming = target.data / "incoming"
    return sorted(p.name for p in incoming.iterdir()) if incoming.exists() else []


def answers(u):
    status, _, answer = u.infer("planes", ROWS)
    assert status == 200, answer
    return answer["outputs"][0]["data"]


# ---- the way it goes


def test_a_promoted_version_goes_through_the_release_there(pair, app, tmp_path):
    source, target = pair
    other = App(tmp_path / "app-prod")
    other.program("raise SystemExit(3)")  # what is released there came from here
    other.apply(target.api)
    target.api.wait_event("cycle.failed", unless=())
    said = promote(source, target)
    assert (said["version"], said["existed"], said["released"]) == (1, False, True), said
    target.api.wait_event("version.promoted", object="model/planes@1", after=0, unless=("gate.refused",))
    target.wait_serves("planes", 1, ROWS)
    source.wait_serves("planes", 1, ROWS)
    assert answers(target) == answers(source)
    # The same bundle, the same lineage.
    a, b = (u.api.get("/models/planes/versions/1") for u in (source, target))
    assert a["bundle"] == b["bundle"] and a["lineage"] == b["lineage"] and a["metrics"] == b["metrics"]
    # Where it came from is the reason that it serves.
    why = target.api.get("/apps/planes/why")
    key = source.api.get("/keys")["id"]
    run = a["lineage"]["run"]
    data = a["lineage"]["data"]["base"]
    assert f"v1 came from staging as planes@1, signed with key {key}, trained on base {data[:12]} by run {run}" \
        in why["text"], why["text"]
    # Again: nothing happens, and it says so.
    head = target.api.head()
    again = promote(source, target)
    assert again["existed"] and not again["released"] and "already there as v1 (champion); nothing was sent" in again["text"]
    assert target.api.happened(head) == [] and kept(target) == []


def test_without_an_app_it_is_registered_only(pair, app):
    source, target = pair
    said = promote(source, target)
    assert (said["version"], said["app"], said["released"]) == (1, False, False)
    assert "no app planes here" in said["text"] and "overtake release planes 1" in said["text"]
    assert target.api.get("/models/planes")["list"][0]["status"] == "registered"
    assert "(registered); nothing was sent. Nobody has judged it: overtake release planes 1" in promote(source, target)["text"]


def test_a_busy_app_keeps_it_and_releases_it_later(pair, app, tmp_path):
    source, target = pair
    other = App(tmp_path / "app-prod")
    other.program("import sys, time\nprint('on', flush=True)\nwhile True: time.sleep(1)")
    other.apply(target.api)
    target.api.wait_event("run.started")
    said = promote(source, target, code=1)
    assert (said["version"], said["app"], said["released"]) == (1, True, False)
    assert "app planes is training" in said["text"] and "overtake release planes 1" in said["text"]
    target.api.act("planes", "rollback")  # ends what is on
    target.api.wait_event("cycle.failed", unless=())
    cli("release", "planes", "1", "--data", target.data)
    target.expect_log(r"control ended with signal 9", r"agent: the control plane is gone")
    target.kill_child("control")  # a release that has begun goes on
    target.api.wait_event("version.promoted", unless=("gate.refused",))
    target.wait_serves("planes", 1, ROWS)
    with pytest.raises(ApiError, match="v1 of app planes is champion; only a version that nobody has judged"):
        target.api.act("planes", "release", version=1)
    with pytest.raises(ApiError, match="release needs a version"):
        target.api.act("planes", "release")


def test_the_challenger_goes_through_the_gate(pair, tmp_path):
    """What is worse than what serves there does not get past the gate."""
    source, target = pair
    other = App(tmp_path / "app-prod")
    x, y = two_classes(2000, seed=1, turn=1.5)  # the world is another one there
    np.savez(other.folder / "base.npz", x=x, y=y)
    other.apply(target.api, release=[{"gate": {"better_on": "base"}}])
    target.api.wait_event("version.promoted")
    said = promote(source, target)
    assert said["released"] and said["version"] == 2
    refused = target.api.wait_event("gate.refused", unless=())
    assert refused["object"] == "model/planes@2"
    assert target.api.app("planes")["champion"] == 1


def test_only_what_is_lacking_is_sent_and_a_broken_upload_goes_on(pair, tmp_path):
    source, target = pair
    envelope, manifest = sign(source), file_of(source, "manifest.json")
    bundle = hashlib.sha256(manifest).hexdigest()
    said = opened(target, envelope, manifest)
    sizes = {f["path"]: f["size"] for f in json.loads(manifest)["files"]}
    assert {f["path"]: (f["size"], f["have"]) for f in said["files"]} == {p: (n, 0) for p, n in sizes.items()}
    model = file_of(source, "model/null.json")
    assert put(target, bundle, "model/null.json", model[:10]) == {"have": 10}
    with pytest.raises(ApiError, match="10 bytes are here; go on from there, not from 0") as e:
        put(target, bundle, "model/null.json", model)
    assert e.value.status == 409
    with pytest.raises(ApiError, match="send the rest first") as e:
        target.api.post(f"/incoming/{bundle}/finish")
    assert e.value.status == 409
    # Invisible: no version, no blob.
    assert target.api.get("/models")["models"] == []
    digest = hashlib.sha256(model).hexdigest()
    assert not (target.data / "store" / "blobs" / digest[:2] / digest).exists()
    target.expect_log(r"control ended with signal 9", r"agent: the control plane is gone")
    target.kill_child("control")
    assert {f["path"]: f["have"] for f in target.api.get(f"/incoming/{bundle}")["files"]}["model/null.json"] == 10
    assert promote(source, target)["version"] == 1
    assert kept(target) == []
    with pytest.raises(ApiError, match="nothing is coming in as"):
        target.api.get(f"/incoming/{bundle}")
    assert (target.data / "store" / "blobs" / digest[:2] / digest).exists()


# ---- the ways it must not go


def public_text(private):
    return base64.b64encode(private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).decode()


def key_id(private):
    return hashlib.sha256(base64.b64decode(public_text(private))).hexdigest()[:16]


def envelope_of(private, statement):
    """An independent implementation of the envelope signs it."""
    key = SSlibKey(key_id(private), "ed25519", "ed25519", {"public": private.public_key().public_bytes_raw().hex()})
    e = Envelope(json.dumps(statement).encode(), "application/vnd.in-toto+json", {})
    e.sign(CryptoSigner(private, key))
    return e.to_dict()


def statement_of(envelope):
    return json.loads(base64.b64decode(envelope["payload"]))


@pytest.fixture
def forge(pair):
    """A trusted key in the hand of the test: forge(change, manifest) -> (envelope, manifest)."""
    source, target = pair
    private = Ed25519PrivateKey.generate()
    target.api.post("/trust", {"name": "forger", "key": public_text(private)})

    def make(change=lambda s: None, manifest=None):
        manifest = manifest or file_of(source, "manifest.json")
        s = statement_of(sign(source))
        s["predicate"]["server"]["key"] = key_id(private)
        s["subject"][0]["digest"]["sha256"] = hashlib.sha256(manifest).hexdigest()
        change(s)
        return envelope_of(private, s), manifest
    return make


def send_all(source, target, envelope, manifest, change=lambda path, data: data):
    said = opened(target, envelope, manifest)
    for f in said["files"]:
        data = change(f["path"], file_of(source, f["path"]))
        for at in range(f["have"], len(data), PIECE):
            put(target, said["bundle"], f["path"], data[at:at + PIECE], offset=at)
    return target.api.post(f"/incoming/{said['bundle']}/finish")


def refused(target, status, match, fn, *args):
    """The call is refused with this, leaves nothing, and the version is not there."""
    before = kept(target)
    with pytest.raises(ApiError, match=match) as e:
        fn(*args)
    assert e.value.status == status, e.value
    assert kept(target) == before
    assert target.api.get("/models")["models"] == []


def test_another_implementation_signs_and_verifies(pair, forge):
    source, target = pair
    key = base64.b64decode(key_of(source))[-32:]
    ours = source.api.get("/keys")["id"]
    theirs = SSlibKey(ours, "ed25519", "ed25519", {"public": key.hex()})
    e = sign(source)
    assert list(Envelope.from_dict(e).verify([theirs], 1)) == [ours]
    s = statement_of(e)
    assert s["_type"] == "https://in-toto.io/Statement/v1"
    assert s["subject"] == [{"name": "planes@1", "digest": {"sha256": source.api.get(
        "/models/planes/versions/1")["bundle"]}}]
    assert s["predicate"]["evaluation"]["verdict"] == "gate.passed" and s["predicate"]["actor"] == "tester"
    # OpenSSL reads the private key file, and the other way round.
    pem = (source.data / "signing.key").read_bytes()
    assert serialization.load_pem_private_key(pem, None).public_key().public_bytes_raw() == key
    assert stat.S_IMODE((source.data / "signing.key").stat().st_mode) == 0o600
    # And what another implementation signed with a trusted key is accepted.
    assert send_all(source, target, *forge())["version"] == 1
    origin = target.api.events(type="version.registered")[0]["payload"]["origin"]
    assert origin["server"] == "forger" and statement_of(origin["envelope"])["predicate"]["version"] == 1
    assert [x["object"] for x in source.api.events(type="version.signed")] == [f"key/{ours}"] * 2


def test_a_stranger_is_refused(pair, app):
    source, target = pair
    manifest = file_of(source, "manifest.json")
    good = sign(source)

    def edited(**change):
        return opened, target, {**good, **change}, manifest
    signature = base64.b64decode(good["signatures"][0]["sig"])
    flipped = base64.b64encode(bytes([signature[0] ^ 1]) + signature[1:]).decode()
    s = statement_of(good)
    s["predicate"]["version"] = 2
    s["subject"][0]["name"] = "planes@2"
    refused(target, 403, "no key that is trusted here signed this", *edited(
        payload=base64.b64encode(json.dumps(s).encode()).decode()))
    refused(target, 403, "no key that is trusted", *edited(signatures=[{"keyid": "x", "sig": flipped}]))
    refused(target, 403, "no key that is trusted", *edited(payloadType="application/json"))
    stranger = Ed25519PrivateKey.generate()
    refused(target, 403, "no key that is trusted", opened, target, envelope_of(stranger, statement_of(good)), manifest)
    refused(target, 400, "'signatures' must be a list of 1 to 8; it has 0", *edited(signatures=[]))
    refused(target, 400, "'payload' must be base64", *edited(payload="*"))
    # Trust that is taken back counts for what is under way too.
    said = opened(target, good, manifest)
    for f in said["files"]:
        put(target, said["bundle"], f["path"], file_of(source, f["path"]))
    target.api.post("/trust/staging/remove")
    with pytest.raises(ApiError, match="no key that is trusted") as e:
        target.api.post(f"/incoming/{said['bundle']}/finish")
    assert e.value.status == 403 and kept(target) == []
    # Without the token nothing is known at all.
    for method, path in (("POST", "/incoming"), ("POST", "/trust"), ("GET", "/keys"),
                         ("POST", "/models/planes/versions/1/sign")):
        assert source.api.raw(method, "/api/v1" + path)[0] == 401


def test_what_is_not_what_it_says_is_refused(pair, forge):
    source, target = pair
    manifest = file_of(source, "manifest.json")
    good = json.loads(manifest)

    def changed(**change):
        return json.dumps({**good, **change}).encode()

    def files(**change):
        return changed(files=[{**f, **(change if f["path"].startswith("model/") else {})} for f in good["files"]])

    def forged(m):
        return opened, target, *forge(manifest=m)

    def said(path, value):
        def change(s):
            p = s
            for k in path[:-1]:
                p = p[k]
            p[path[-1]] = value
        return opened, target, *forge(change)
    # The manifest is another one.
    refused(target, 400, "the statement is about .*: it was changed", opened, target, sign(source), manifest + b" ")
    # Bundles that a trusted server would have to be broken to sign.
    refused(target, 400, r"\.\./x", *forged(files(path="../x")))
    refused(target, 400, "/etc/x", *forged(files(path="/etc/x")))
    refused(target, 429, "larger than the limit of 68719476736 bytes", *forged(files(size=1 << 40)))
    refused(target, 400, "lineage is missing", *forged(changed(
        files=[f for f in good["files"] if f["path"] != "lineage.json"])))
    refused(target, 400, "statement: .*lineage is missing", *said(("predicate", "lineage"), None))
    refused(target, 400, "statement: version 0", *said(("predicate", "version"), 0))
    refused(target, 400, "the subject is 'planes@3'", *said(("subject", 0, "name"), "planes@3"))
    refused(target, 400, "model '../x' is not a name", *said(("predicate", "model"), "../x"))
    refused(target, 400, "names key 0123456789abcdef and is signed with",
            *said(("predicate", "server", "key"), "0123456789abcdef"))
    refused(target, 400, "a statement of type", *said(("predicateType",), "https://slsa.dev/provenance/v1"))
    refused(target, 400, "statement: ", *said(("predicate", "more"), 1))
    # The lineage of the statement is not that of the bundle.
    refused(target, 400, "the statement's lineage is not that of the bundle", send_all, source, target,
            *forge(lambda s: s["predicate"]["lineage"].update(run=99)))


def test_bytes_that_are_not_those_are_refused(pair, forge):
    source, target = pair
    envelope, manifest = sign(source), file_of(source, "manifest.json")

    def with_change(fn):
        return send_all, source, target, envelope, manifest, fn
    model = "model/null.json"
    refused(target, 400, "'model/null.json' has SHA-256 .* the manifest says", *with_change(
        lambda p, d: b"x" * len(d) if p == model else d))
    refused(target, 400, "'lineage.json' is not what the manifest says", *with_change(
        lambda p, d: d.replace(b":", b";") if p == "lineage.json" else d))
    said = opened(target, envelope, manifest)
    size = next(f["size"] for f in said["files"] if f["path"] == model)
    for data, path, offset, status, match in (
            (b"x" * (size + 1), model, 0, 400, "a piece of"),
            (b"", model, 0, 400, "a piece of 0 bytes"),
            (b"x" * (PIECE + 1), model, 0, 413, "larger than the limit"),
            (b"x", "../../token", 0, 400, "is not a file of this bundle"),
            (b"x", "manifest.json", 0, 400, "is not a file of this bundle"),
            (b"x", model, 1, 409, "0 bytes are here")):
        with pytest.raises(ApiError, match=match) as e:
            put(target, said["bundle"], path, data, offset)
        assert e.value.status == status
    for bundle, status in (("0" * 64, 404), ("x", 400), ("..", 404)):
        with pytest.raises(ApiError) as e:
            put(target, bundle, model, b"x")
        assert e.value.status == status
    # Golden answers that no model gives.
    golden = json.loads(file_of(source, "golden/golden.json"))
    golden["cases"][0]["outputs"][0]["data"][0] = 1e999
    nan = json.dumps(golden).replace("Infinity", "NaN").encode()
    broken = json.loads(manifest)
    for f in broken["files"]:
        if f["path"] == "golden/golden.json":
            f.update(size=len(nan), sha256=hashlib.sha256(nan).hexdigest())
    refused(target, 400, "golden", send_all, source, target, *forge(manifest=json.dumps(broken).encode()),
            lambda p, d: nan if p == "golden/golden.json" else d)


def test_no_more_than_so_many_at_a_time(pair, forge):
    source, target = pair
    good = json.loads(file_of(source, "manifest.json"))
    for i in range(9):
        m = json.dumps({**good, "files": [{**f, "size": 100 + i} if f["path"].startswith("model/") else f
                                          for f in good["files"]]}).encode()
        if i < 8:
            opened(target, *forge(manifest=m))
        else:
            refused(target, 429, "8 versions are coming in, which is the limit", opened, target, *forge(manifest=m))


# ---- keys, trust, servers


def test_trust_is_kept_with_events(pair):
    source, target = pair
    key = key_of(source)
    shown = cli("trust", "list", "--data", target.data)["keys"]
    assert [(k["name"], k["key"], k["id"]) for k in shown] == [("staging", key, source.api.get("/keys")["id"])]
    for name, text, status, match in (
            ("staging", public_text(Ed25519PrivateKey.generate()), 409, "'staging' is trusted already"),
            ("other", key, 409, "trusted already, as 'staging'"),
            ("a/b", key, 400, "no name for a key"),
            ("other", "AAAA", 400, "not an Ed25519 public key"),
            ("other", key[:-2], 400, "not an Ed25519 public key")):
        with pytest.raises(ApiError, match=match) as e:
            target.api.post("/trust", {"name": name, "key": text})
        assert e.value.status == status
    cli("trust", "remove", "staging", "--data", target.data)
    assert target.api.get("/trust")["keys"] == []
    with pytest.raises(ApiError, match="no key is trusted under the name 'staging'"):
        target.api.post("/trust/staging/remove")
    pem = target.data / "staging.pem"
    pem.write_text(f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n")
    cli("trust", "add", "staging", pem, "--data", target.data)
    assert [e["type"] for e in target.api.events(type="trust.")] == ["trust.added", "trust.removed", "trust.added"]
    assert target.api.events(type="trust.")[0]["payload"]["key"] == key
    # It is the store that knows: a restart changes nothing, the server's own key neither.
    mine = key_of(target)
    target.stop()
    target.start()
    assert key_of(target) == mine and target.api.get("/trust")["keys"][0]["key"] == key
    target.stop()
    (target.data / "signing.key").chmod(0o644)
    with pytest.raises(RuntimeError, match="signing.key can be read by others"):
        target.start()
    (target.data / "signing.key").chmod(0o600)
    target.start()


def test_servers_have_names(pair, tmp_path):
    source, target = pair
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    url = f"http://{target.control}"
    token = target.data / "token"

    def fails(match, *args, code=1):
        assert match in cli(*args, env=env, code=code)["error"]
    fails("no server 'prod'; none has a name yet", "promote", "planes@1", "--data", source.data, "--to", "prod")
    fails("another machine", "servers", "add", "prod", "http://10.1.2.3:9000", "--token-file", token)
    fails("the token is not this data directory's", "servers", "add", "prod", url, "--token-file", source.data / "token")
    cli("servers", "add", "prod", url, "--token-file", token, env=env)
    config = tmp_path / "config" / "overtake" / "servers.json"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600 and token.read_text().strip() not in config.read_text()
    assert cli("servers", "list", env=env) == {"prod": {"url": url, "token_file": str(token)}}
    fails("no server 'prdo'; there are: prod", "promote", "planes@1", "--data", source.data, "--to", "prdo")
    fails("needs --token-file", "promote", "planes@1", "--data", source.data, "--to", url)
    fails("MODEL@VERSION is expected", "promote", "planes", "--data", source.data, "--to", "prod")
    fails("'x' is not a version", "promote", "planes@x", "--data", source.data, "--to", "prod")
    fails("version 9", "promote", "planes@9", "--data", source.data, "--to", "prod")
    said = cli("promote", "planes@champion", "--data", source.data, "--to", "prod", env=env)
    assert said["version"] == 1
    cli("servers", "remove", "prod", env=env)
    assert cli("servers", "list", env=env) == {}


# ---- over a gap in the network


def test_a_version_travels_as_a_file(pair, tmp_path):
    source, target = pair
    file = tmp_path / "planes-1.otb"
    assert cli("export", "planes@1", file, "--data", source.data) is None
    assert "is there already" in cli("export", "planes@1", file, "--data", source.data, code=1)["error"]
    # Any tar reads it.
    with tarfile.open(file) as t:
        names = t.getnames()
        assert names[:2] == ["envelope.json", "bundle/manifest.json"] and len(set(names)) == len(names)
        manifest = t.extractfile("bundle/manifest.json").read()
        assert manifest == file_of(source, "manifest.json")
        members = {m.name: t.extractfile(m).read() for m in t.getmembers()}

    def packed(entries, cut=None):
        path = tmp_path / "changed.otb"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as t:
            for name, data in entries:
                info = tarfile.TarInfo(name)
                if isinstance(data, str):
                    info.type, info.linkname = tarfile.SYMTYPE, data
                    t.addfile(info)
                else:
                    info.size = len(data)
                    t.addfile(info, io.BytesIO(data))
        if cut:
            path.write_bytes(path.read_bytes()[:cut])
        return path

    def fails(match, entries, cut=None):
        said = cli("import", packed(entries, cut), "--data", target.data, code=1)["error"]
        assert match in said, said
        assert kept(target) == [] and target.api.get("/models")["models"] == []
    whole = list(members.items())
    fails("is a link", [*whole, ("bundle/model/x", "/etc/passwd")])
    fails("is no name of a version's archive", [*whole, ("bundle/../../x", b"x")])
    fails("is in it twice", [*whole, whole[1]])
    fails("cut short", whole, cut=3000)
    fails("'envelope.json' is not in the archive", whole[1:])
    fails("it was changed", [(n, d + b" " if n == "bundle/manifest.json" else d) for n, d in whole])
    cli("import", packed([(n, d[:-1] if n == "bundle/model/null.json" else d) for n, d in whole]), "--data", target.data,
        code=1)
    cli("import", packed([(n, d[:-1] + b"x" if n == "bundle/model/null.json" else d) for n, d in whole]),
        "--data", target.data, code=1)  # goes on, with the last byte wrong
    assert kept(target) == [] and target.api.get("/models")["models"] == []
    said = cli("import", file, "--data", target.data)
    assert (said["version"], said["existed"]) == (1, False)
    assert target.api.get("/models/planes/versions/1")["bundle"] == hashlib.sha256(manifest).hexdigest()
    assert "already there as v1" in cli("import", file, "--data", target.data)["text"]


# ---- another machine


class Proxy:
    """What stands before a control plane that others reach: the name that the control plane goes by, and TLS where there is
    a certificate. It notes the bytes of each piece, and goes away instead of passing one on when `pieces_max` came."""

    def __init__(self, target, cert=None, key=None, pieces_max=None):
        pieces = self.pieces = []

        class Forward(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if "/file?" in self.path:
                    if len(pieces) == pieces_max:
                        self.close_connection = True
                        return
                    pieces.append(len(body))
                c = http.client.HTTPConnection(target, timeout=PATIENCE)
                c.request(self.command, self.path, body or None, {
                    k: v for k, v in self.headers.items() if k.lower() in ("authorization", "overtake-actor", "content-type")})
                r = c.getresponse()
                data = r.read()
                c.close()
                self.send_response(r.status)
                self.send_header("Content-Type", r.headers["Content-Type"])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            do_POST = do_GET

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forward)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        if cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
            self.server.handle_error = lambda *_: None  # a client that does not trust us goes away
            self.url = f"https://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not here")
@pytest.mark.skipif(ctypes.util.find_library("curl") is None, reason="libcurl is not here")
def test_over_tls(pair, tmp_path):
    source, target = pair
    cert, key, other = (str(tmp_path / n) for n in ("cert.pem", "key.pem", "other.pem"))
    for out in (cert, other):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-keyout", key if out == cert else key + "2",
                        "-out", out], check=True, capture_output=True)
    proxy = Proxy(target.control, cert, key)
    send = ["promote", "planes@1", "--data", source.data, "--to", proxy.url, "--token-file", target.data / "token"]
    said = cli(*send, env={"SSL_CERT_FILE": other}, code=1)
    assert "certificate" in said["error"] and proxy.url in said["error"], said
    assert kept(target) == [] and target.api.get("/models")["models"] == []
    said = cli(*send, env={"SSL_CERT_FILE": cert})
    assert said["version"] == 1
    said = cli("models", "--url", proxy.url + "/", "--data", target.data, env={"SSL_CERT_FILE": cert})
    assert said["models"][0]["name"] == "planes"
    said = cli("models", "nosuch", "--url", proxy.url, "--data", target.data, env={"SSL_CERT_FILE": cert}, code=1)
    assert "nosuch" in said["error"]
    proxy.close()


def test_the_command_goes_on_where_it_broke_off(pair):
    source, target = pair
    sizes = [f["size"] for f in json.loads(file_of(source, "manifest.json"))["files"]]

    def send(pieces_max=None, code=0):
        proxy = Proxy(target.control, pieces_max=pieces_max)
        said = cli("promote", "planes@1", "--data", source.data, "--to", proxy.url, "--token-file", target.data / "token",
                   code=code)
        proxy.close()
        return said, proxy.pieces
    said, first = send(pieces_max=2, code=1)
    assert "the same command again goes on from there" in said["error"] and first == sizes[:2]
    said, rest = send()
    assert said["version"] == 1 and first + rest == sizes
    said, none = send()
    assert said["existed"] and none == []
