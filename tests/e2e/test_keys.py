"""Who may predict: API keys, their scopes and limits, and the access log."""

import http.client
import json
import os
import pathlib
import re
import subprocess
import threading

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

import replica as r
from linear_model import ROWS, W, one
from up import two_classes


def overtake(*args, code=0):
    done = subprocess.run([r.OVERTAKE, *map(str, args)], capture_output=True, text=True, timeout=r.PATIENCE)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keyed(tmp_path, serve):
    """A replica of `m` and `other` that needs keys; (replica, add(NAME, ...) -> key, the file)."""
    for name in ("m", "other"):
        r.write_raw(tmp_path / "models" / name, r.linear(W))
    file = tmp_path / "keys.json"

    def add(name, *args):
        return overtake("keys", "add", name, "--file", file, *args).strip()
    first = add("first")
    s = serve(tmp_path / "models", "--keys", file, "--workers", 2, "--access-log", tmp_path / "access.log")
    s.first = first
    return s, add, file


def grpc_one():
    q = pb.ModelInferRequest(model_name="m")
    q.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    q.raw_input_contents.append(np.ones(4, np.float32).tobytes())
    return q


def ask(s, key, model="m", rows=1):
    status, head, body = s.infer(model, [[1, 2, 3, 4]] * rows, headers=bearer(key) if key else {})
    return status, head, body.get("error", "")


def test_without_a_key_nothing_but_health_answers(keyed):
    s, _, _ = keyed
    for method, path in (("GET", "/v2"), ("GET", "/metrics"), ("GET", "/v2/models/m"), ("POST", "/v2/repository/index"),
                         ("POST", "/v2/models/m/infer"), ("POST", "/v2/models/nobody/infer"), ("GET", "/v2/models/m/stats"),
                         ("POST", "/v2/repository/models/m/unload"), ("GET", "/nothing"), ("POST", "/v1/models/m:predict"),
                         ("GET", "/v1/models/m"), ("GET", "/v2/%68ealth/../models/m")):
        status, head, body = s.request(method, path, b"{}")
        assert status in (400, 401) and ("health" in path or status == 401), (path, status, body)
        if status == 401:
            assert head["WWW-Authenticate"] == "Bearer" or path.endswith("infer") or ":predict" in path, path
    for path in ("/v2/health/live", "/v2/health/ready"):
        assert s.request("GET", path)[0] == 200
    assert ask(s, s.first)[0] == 200
    assert s.request("GET", "/metrics", headers={"x-api-key": s.first})[0] == 200
    assert s.request("GET", "/v2/models/m", headers={"authorization": f"bearer {s.first}"})[0] == 200


def test_wrong_keys(keyed):
    s, _, _ = keyed
    for wrong in ("", "x", "otk_", s.first[:-1], s.first + "A", s.first[:30] + "A" + s.first[31:],
                  "otk_0123456789abcdef_" + s.first[21:], s.first.upper(), "é"):
        status, _, error = ask(s, wrong.encode().decode("latin-1"))
        assert status == 401 and wrong[20:] not in error or not wrong[20:], (wrong, status, error)
    assert s.request("POST", "/v2/models/m/infer", json.dumps(one()), {"Authorization": "Basic " + s.first})[0] == 401


def test_scope_and_expiry(keyed, tmp_path):
    s, add, _ = keyed
    short = add("short", "--expires", "1s")
    mine = add("mine", "--for", "m")
    r.wait_for("the new keys", lambda: ask(s, mine)[0] == 200)
    status, _, error = ask(s, mine, model="other")
    assert status == 403 and error == "the API key 'mine' is not for model 'other'"
    assert ask(s, s.first, model="other")[0] == 200
    assert s.request("POST", "/v2/repository/models/m/load", headers=bearer(mine))[0] == 403
    assert s.request("POST", "/v2/repository/models/m/load", headers=bearer(s.first))[0] == 200
    ops = add("ops", "--for", "m", "--admin")
    r.wait_for("the admin's key", lambda: ask(s, ops)[0] == 200)
    assert s.request("POST", "/v2/repository/models/m/load", headers=bearer(ops))[0] == 200
    assert s.request("POST", "/v2/repository/models/other/load", headers=bearer(ops))[0] == 403
    r.wait_for("it expires", lambda: ask(s, short)[0] == 401)
    assert "'short' has expired" in ask(s, short)[2]


def test_a_revoked_key_and_a_damaged_file(keyed):
    s, add, file = keyed
    other = add("other")
    r.wait_for("the other key", lambda: ask(s, other)[0] == 200)
    overtake("keys", "revoke", "other", "--file", file)
    r.wait_for("it is let in no more", lambda: ask(s, other)[0] == 401)
    assert ask(s, s.first)[0] == 200
    assert "has a key" in overtake("keys", "add", "first", "--file", file, code=1)
    assert "no key" in overtake("keys", "revoke", "nobody", "--file", file, code=1)
    file.write_text("{")  # the keys from before stay in force, and no door opens
    r.wait_for("it is told", lambda: "the keys from before stay in force" in open(s.log_path).read())
    assert ask(s, s.first)[0] == 200 and ask(s, None)[0] == 401
    file.unlink()
    r.wait_for("that it is gone, too", lambda: open(s.log_path).read().count("the keys from before") == 2)
    assert ask(s, s.first)[0] == 200 and ask(s, None)[0] == 401


def test_the_file_holds_no_key_and_others_cannot_read_it(keyed):
    s, _, file = keyed
    assert s.first not in file.read_text() and s.first[21:] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    (row,) = json.loads(overtake("keys", "list", "--file", file, "--output", "json"))["keys"]
    assert row["name"] == "first" and "hash" not in row


def test_a_file_that_is_no_good_is_told_at_the_start(tmp_path):
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    (tmp_path / "keys.json").write_text('{"keys": [{"name": "a", "id": "0"}]}')
    for file, word in ((tmp_path / "keys.json", "key 'a': id '0'"), (tmp_path / "none.json", "none.json")):
        done = subprocess.run([r.OVERTAKE, "serve", tmp_path / "models", "--listen", "127.0.0.1:0", "--keys", file],
                              capture_output=True, text=True, timeout=r.PATIENCE)
        assert done.returncode == 1 and word in done.stderr, done.stderr


def test_rates_are_shared_by_all_workers(keyed):
    s, add, _ = keyed
    slow = add("slow", "--requests", 5)
    rows = add("rows", "--rows", 64)
    r.wait_for("the new keys", lambda: ask(s, rows)[0] == 200)
    answers = []

    def client():
        for _ in range(10):
            answers.append(ask(s, slow))
    threads = [threading.Thread(target=client) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    codes = [status for status, _, _ in answers]
    assert set(codes) == {200, 429} and codes.count(200) >= 5
    refused = next(a for a in answers if a[0] == 429)
    assert int(refused[1]["Retry-After"]) >= 1 and refused[2] == "the API key 'slow' may ask 5 requests a second"
    # 200 rows at once cost more than a second's worth: they pass a full bucket, and then nothing does.
    status = r.wait_for("a full bucket", lambda: ask(s, rows, rows=200)[0] == 200)
    status, _, error = ask(s, rows)
    assert status == 429 and "64 rows a second" in error
    assert ask(s, s.first, rows=200)[0] == 200  # who has no limit has none
    text = s.request("GET", "/metrics", headers=bearer(s.first))[2].decode()
    assert f'overtake_client_limited_total{{client="slow"}} {codes.count(429)}\n' in text
    assert f'overtake_client_admitted_total{{client="slow"}} {codes.count(200)}\n' in text


def test_keys_over_grpc(keyed):
    """The same keys as metadata, on every service of that listener; refusals in gRPC's own codes."""
    s, add, _ = keyed
    slow = add("slow", "--requests", 1)
    mine = add("mine", "--for", "other")
    q = grpc_one()
    with grpc.insecure_channel(s.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def code(method, request, *metadata):
            try:
                method(request, metadata=metadata, timeout=r.PATIENCE)
                return grpc.StatusCode.OK
            except grpc.RpcError as e:
                return e.code()
        ok, bearer_of = ("x-api-key", s.first), lambda key: ("authorization", f"Bearer {key}")
        r.wait_for("the new keys", lambda: code(stub.ModelInfer, q, bearer_of(mine)) == grpc.StatusCode.PERMISSION_DENIED)
        for method, request in ((stub.ModelInfer, q), (stub.ServerMetadata, pb.ServerMetadataRequest()),
                                (stub.ModelMetadata, pb.ModelMetadataRequest(name="m")),
                                (stub.RepositoryIndex, pb.RepositoryIndexRequest())):
            assert code(method, request) == grpc.StatusCode.UNAUTHENTICATED
            assert code(method, request, ("x-api-key", s.first[:-1] + "_")) == grpc.StatusCode.UNAUTHENTICATED
            assert code(method, request, ok) == grpc.StatusCode.OK == code(method, request, bearer_of(s.first))
        load = pb.RepositoryModelLoadRequest(model_name="other")
        assert code(stub.RepositoryModelLoad, load, bearer_of(mine)) == grpc.StatusCode.PERMISSION_DENIED
        codes = [code(stub.ModelInfer, q, bearer_of(slow)) for _ in range(5)]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes and codes[0] == grpc.StatusCode.OK
        stream = stub.ModelStreamInfer(iter([q]), metadata=(bearer_of(s.first),), timeout=r.PATIENCE)
        assert [a.error_message for a in stream] == [""]
        with pytest.raises(grpc.RpcError) as e:
            list(stub.ModelStreamInfer(iter([q]), timeout=r.PATIENCE))
        assert e.value.code() == grpc.StatusCode.UNAUTHENTICATED
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=r.PATIENCE) == b"\x08\x01"  # serving, without a key


# ---- the access log


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_access_log(keyed, tmp_path):
    s, _, _ = keyed
    log = tmp_path / "access.log"
    _, head, _ = s.infer("m", [[1, 2, 3, 4]] * 3, headers=bearer(s.first))
    assert ask(s, "otk_" + "x" * 60, model="other")[0] == 401
    assert s.request("GET", "/nothing?token=secret", headers=bearer(s.first))[0] == 404
    s.stop()
    lines = lines_of(log)
    (answer,) = [x for x in lines if "deployment" in x]
    (denied,) = [x for x in lines if x["path"] == "/v2/models/other/infer"]
    (missing,) = [x for x in lines if x["path"] == "/nothing"]
    assert answer["status"] == 200 and answer["method"] == "POST" and answer["path"] == "/v2/models/m/infer"
    assert answer["client"] == "first" and answer["deployment"] == "m" and (answer["version"], answer["rows"]) == (1, 3)
    assert answer["prediction"] == head["overtake-prediction-id"] and answer["http"] == "1.1"
    assert answer["in"] > 0 and answer["out"] == int(head["Content-Length"]) and answer["took_us"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", answer["time"])
    assert denied["status"] == 401 and "client" not in denied
    assert missing["status"] == 404 and missing["path"] == "/nothing" and missing["client"] == "first"
    text = log.read_text()
    assert s.first not in text and "secret" not in text and "xxx" not in text
    assert log.stat().st_mode & 0o777 == 0o600


def test_access_log_keeps_every_failure_and_stays_below_its_size(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    log = tmp_path / "access.log"
    s = serve(tmp_path / "models", "--access-log", log, "--access-sample", "10%", "--access-max", "64k")
    for _ in range(400):
        assert s.infer("m", [[1, 2, 3, 4]])[0] == 200
    s.stop()
    sampled = [x for x in lines_of(log) if x.get("deployment") == "m"]
    assert 10 <= len(sampled) <= 85  # 40 expected, sd 6
    s = serve(tmp_path / "models", "--access-log", log, "--access-sample", "0%", "--access-max", "64k")
    for _ in range(900):
        assert s.request("POST", "/v2/models/" + "n" * 60 + "/infer", b"{}")[0] == 404
    def metric(name):
        return int(re.search(rf"^overtake_access_log_{name}_total (\d+)$", s.request("GET", "/metrics")[2].decode(), re.M)[1])
    r.wait_for("all are written", lambda: metric("lines") >= 900)
    assert metric("lost") == 0
    s.stop()
    files = sorted(tmp_path.glob("access.log*"))
    assert [f.name for f in files] == ["access.log", "access.log.1", "access.log.2", "access.log.3"]
    assert sum(f.stat().st_size for f in files) <= 64 << 10
    last = [x["status"] for f in files for x in lines_of(f)]
    assert 404 in last and 200 not in last and len(last) > 100


def test_a_log_that_cannot_be_written_holds_nothing_up(tmp_path, serve):
    if os.geteuid() == 0 and not pathlib.Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    (tmp_path / "full.log").symlink_to("/dev/full")
    s = serve(tmp_path / "models", "--access-log", tmp_path / "full.log")
    for _ in range(50):
        assert s.infer("m", [[1, 2, 3, 4]])[0] == 200
    r.wait_for("the loss is counted", lambda: re.search(r"overtake_access_log_lost_total [1-9]", s.request("GET", "/metrics")[2].decode()))
    assert open(s.log_path).read().count("access log:") == 1


def test_callers_without_a_key(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    s = serve(tmp_path / "models", "--workers", 2, "--keyless-requests", 1)
    answers = [s.infer("m", [[1, 2, 3, 4]]) for _ in range(60)]
    assert {a[0] for a in answers} == {200, 429}
    head, body = next((h, b) for status, h, b in answers if status == 429)
    assert int(head["Retry-After"]) >= 1 and body == {"error": "without an API key one address may ask 1 requests a second"}
    host, port = s.address.rsplit(":", 1)
    other = http.client.HTTPConnection(host, int(port), timeout=r.PATIENCE, source_address=("127.0.0.2", 0))
    other.request("POST", "/v2/models/m/infer", json.dumps(one()))
    assert other.getresponse().status == 200, "another address has its own"
    other.close()
    with grpc.insecure_channel(s.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        codes = set()
        for _ in range(60):
            try:
                stub.ModelInfer(grpc_one(), timeout=r.PATIENCE)
            except grpc.RpcError as e:
                codes.add(e.code())
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    loads = [s.request("POST", "/v2/repository/models/m/load") for _ in range(60)]
    assert 429 in {a[0] for a in loads} <= {200, 429}
    assert all(int(head["Retry-After"]) >= 1 for status, head, _ in loads if status == 429)
    assert s.request("GET", "/v2/models/m")[0] == 200, "what is no prediction is not counted"
    text = s.request("GET", "/metrics")[2].decode()
    assert int(re.search(r'^overtake_keyless_limited_total\{limit="address"\} (\d+)$', text, re.M)[1]) >= 60


def test_all_callers_without_a_key_together(tmp_path, serve):
    r.write_raw(tmp_path / "models" / "m", r.linear(W))
    s = serve(tmp_path / "models", "--keyless-total", 1)
    answers = [s.infer("m", [[1, 2, 3, 4]]) for _ in range(60)]
    assert {a[0] for a in answers} == {200, 429}
    assert "all callers together may ask 1 requests" in next(b for status, _, b in answers if status == 429)["error"]


# ---- by the control plane


def test_keys_of_the_control_plane(cli, app):
    a = app()
    (a.folder / "app.yaml").write_text(a.yaml())
    cli("apply", a.folder / "app.yaml")
    up = cli.up
    up.api.wait_event("version.promoted")
    x, _ = two_classes(4, seed=5)
    up.wait_serves("planes", 1, x)
    assert "no key is needed" in cli("keys", "list")
    key = cli("keys", "add", "shop", "--for", "planes", "--requests", "1000").strip()
    r.wait_for("requests need a key", lambda: up.infer("planes", x)[0] == 401)
    assert up.infer("planes", x, headers=bearer(key))[0] == 200
    other = json.loads(cli("keys", "add", "other", "--for", "letters", "--output", "json"))
    r.wait_for("the other key is known", lambda: up.infer("planes", x, headers=bearer(other["key"]))[0] == 403)
    out = cli("keys", "list")
    assert re.search(r"^shop +[0-9a-f]{16} +planes +1000 +- +never$", out, re.M), out
    assert "has a key already" in cli("keys", "add", "shop", code=1)
    # What the replica keeps, and the control plane, are digests.
    up.stop()
    kept = b"".join(p.read_bytes() for p in up.data.rglob("*") if p.is_file())
    assert key.encode() not in kept and key[21:].encode() not in kept


def test_revoking_the_last_key_opens_no_door(cli, app):
    a = app()
    (a.folder / "app.yaml").write_text(a.yaml())
    cli("apply", a.folder / "app.yaml")
    up = cli.up
    up.api.wait_event("version.promoted")
    x, _ = two_classes(4, seed=5)
    up.wait_serves("planes", 1, x)
    key = cli("keys", "add", "shop").strip()
    r.wait_for("the key is known", lambda: up.infer("planes", x, headers=bearer(key))[0] == 200 and up.infer("planes", x)[0] == 401)
    cli("keys", "revoke", "shop")
    r.wait_for("it is revoked", lambda: up.infer("planes", x, headers=bearer(key))[0] == 401)
    up.expect_log("serve")
    up.kill_child("serve")  # a replica that starts again knows it from what it kept
    r.wait_for("it is back", lambda: up.infer("planes", x)[0] == 401)
    cli("keys", "off")
    r.wait_for("the door is opened by a person", lambda: up.infer("planes", x)[0] == 200)
    assert "nothing to turn off" in cli("keys", "off", code=1)
    assert [e["type"] for e in up.api.events() if e["type"].startswith("key")] == ["key.added", "key.revoked", "keys.off"]
    assert {e["actor"] for e in up.api.events() if e["type"].startswith("key")} == {"anna"}
