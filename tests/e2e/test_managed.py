"""Loading and unloading under a control plane: what clients of a replica ask goes there, and who may is decided there."""

import json
import os
import signal
import threading

import grpc
import pytest
import requests

import replica as r
from linear_model import ROWS
from up import two_classes


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def served(cli, app):
    """An app that serves, two keys: of an admin and of somebody else."""
    a = app()
    (a.folder / "app.yaml").write_text(a.yaml())
    cli("apply", a.folder / "app.yaml")
    x, _ = two_classes(4, seed=5)
    cli.up.api.wait_event("version.promoted")
    cli.up.wait_serves("planes", 1, x)
    ops = cli("keys", "add", "ops", "--admin", "--for", "planes").strip()
    shop = cli("keys", "add", "shop").strip()

    def answers(key=shop):
        return cli.up.infer("planes", x, headers=bearer(key))[0]
    r.wait_for("the keys are known", lambda: answers("none") == 401 and answers() == 200 and answers(ops) == 200)
    return cli, ops, shop, answers


def test_a_key_of_an_admin_loads_and_unloads(served):
    """Triton's clients; the log shows who it was."""
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    cli, ops, shop, answers = served
    up = cli.up
    client = http.InferenceServerClient(up.inference)
    for key, status in ((shop, "403"), ("otk_none", "401")):
        with pytest.raises(http.InferenceServerException) as e:
            client.unload_model("planes", headers=bearer(key))
        assert e.value.status() == status
    with pytest.raises(http.InferenceServerException) as e:
        client.unload_model("letters", headers=bearer(ops))
    assert e.value.status() == "403" and "not for model 'letters'" in e.value.message()
    assert answers() == 200
    client.unload_model("planes", headers=bearer(ops))
    assert answers() == 404
    (event,) = up.api.events("app.unloaded")
    assert (event["actor"], event["role"], event["object"]) == ("ops", "client", "app/planes")
    assert "at replica-0 with key" in event["payload"]["text"] and "from 127.0.0.1" in event["payload"]["text"]
    assert up.api.app("planes")["unloaded_by"] == "ops"
    assert "by ops: no replica serves it" in cli("status", "planes")
    assert "was unloaded by ops" in cli("train", "planes", code=1)
    client.load_model("planes", headers=bearer(ops))
    assert answers() == 200
    up.kill_child("control")  # what was asked for is kept
    up.expect_log("control")
    r.wait_for("it is back", up.answers)
    assert up.api.app("planes")["unloaded_by"] is None
    cli("unload", "planes", "--reason", "a test")
    r.wait_for("a person does the same", lambda: answers() == 404)
    grpc_client = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
    with pytest.raises(grpc_client.InferenceServerException) as e:
        grpc_client.InferenceServerClient(up.inference).load_model("planes", headers={"x-api-key": shop})
    assert e.value.status() == "StatusCode.PERMISSION_DENIED"
    grpc_client.InferenceServerClient(up.inference).load_model("planes", headers={"x-api-key": ops})
    assert answers() == 200
    assert [(e["actor"], e["role"]) for e in up.api.events("app.unloaded")] == [("ops", "client"), ("anna", "person")]


def test_reload_config(served):
    """TensorFlow Serving's client: one request for each model that differs."""
    pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")
    from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc
    cli, ops, shop, answers = served
    with grpc.insecure_channel(cli.up.inference) as channel:
        call = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest

        def reload(key, *names, **more):
            q = model_management_pb2.ReloadConfigRequest()
            q.config.model_config_list.SetInParent()
            for name in names:
                q.config.model_config_list.config.add(name=name, **more)
            return call(q, metadata=[("x-api-key", key)], timeout=r.PATIENCE).status.error_code

        def refused(code, why, *args, **more):
            with pytest.raises(grpc.RpcError) as e:
                reload(*args, **more)
            assert e.value.code() == code and why in e.value.details(), e.value
        refused(grpc.StatusCode.PERMISSION_DENIED, "keys add --admin", shop)
        refused(grpc.StatusCode.INVALID_ARGUMENT, "base_path is not taken", ops, "planes", base_path="/models")
        refused(grpc.StatusCode.PERMISSION_DENIED, "model 'letters' could not be loaded", ops, "planes", "letters")
        assert answers() == 200
        assert reload(ops, "planes") == 0 and answers() == 200
        assert reload(ops) == 0 and answers() == 404
        assert reload(ops, "planes") == 0 and answers() == 200
    assert [e["type"] for e in cli.up.api.events("app.") if e["role"] == "client"] == ["app.unloaded", "app.loaded"]


def test_without_a_key_it_is_the_site_that_lets_in(up, app, tmp_path):
    a = app()
    (tmp_path / "site.yaml").write_text("schema: overtake.site/1\n")
    u = up("--site", tmp_path / "site.yaml")
    a.apply(u.api)
    x, _ = two_classes(4, seed=5)
    u.api.wait_event("version.promoted")
    u.wait_serves("planes", 1, x)
    url = f"http://{u.inference}/v2/repository/models/planes"
    assert requests.post(f"{url}/unload").status_code == 403
    (tmp_path / "site.yaml").write_text("schema: overtake.site/1\nmodel_control: anyone\n")
    os.kill(u.child("control"), signal.SIGHUP)
    r.wait_for("the site lets in", lambda: requests.post(f"{url}/unload").status_code == 200)
    assert u.infer("planes", x)[0] == 404
    assert requests.post(f"{url}/load").status_code == 200 and u.infer("planes", x)[0] == 200
    u.api.act("planes", "freeze")
    answer = requests.post(f"{url}/unload")
    assert answer.status_code == 409 and "frozen by tester" in answer.json()["error"]
    assert {e["actor"] for e in u.api.events("app.unloaded")} == {"anyone"}


def test_what_the_control_plane_says_and_does_not_say(managed, bundles, tmp_path):
    plane, start = managed
    plane.more = {"model_control": "anyone"}
    plane.want(r.deployment(r.variant("champion", 1, bundles(1), 1)))
    s = start()
    late = []  # no answer: told after a while
    waiting = threading.Thread(target=lambda: late.append(s.post("/v2/repository/models/slow/load")))
    waiting.start()
    r.wait_for("it is asked", lambda: plane.asks)
    assert plane.asks[0] == {"seq": 1, "verb": "load", "deployment": "slow", "key": None, "from": "127.0.0.1"}
    plane.answer = lambda ask: {"code": 9, "error": "not today"}
    status, _, body = s.post("/v2/repository/models/m/unload")
    assert (status, body) == (400, {"error": "not today"}) or (status, body) == (409, {"error": "not today"})
    assert s.infer("m", ROWS)[0] == 200

    missing = r.make_bundle(tmp_path / "late", r.linear([[9, 9]] * 4), golden=ROWS)

    def follow(ask):  # the desired state comes first, then the answer
        with_it = [r.deployment(r.variant("champion", 2, missing, 1))] if ask["verb"] == "load" else []
        plane.lock.release()
        try:
            return {"revision": plane.want(*with_it)}
        finally:
            plane.lock.acquire()
    plane.answer = follow
    assert s.post("/v2/repository/models/m/unload")[0] == 200 and s.infer("m", ROWS)[0] == 404
    status, _, body = s.post("/v2/repository/models/m/load")
    assert status == 400 and missing[:12] in body["error"], body
    r.store_bundle(plane.blobs, tmp_path / "late")
    assert s.post("/v2/repository/models/m/load")[0] == 200 and s.infer("m", ROWS)[0] == 200
    waiting.join(r.PATIENCE)
    status, _, body = late[0]
    assert status == 504 and "has not answered in 10 s" in body["error"]

    def hang_up(ask):
        plane.agents[-1].close()
    plane.answer = hang_up
    status, _, body = s.post("/v2/repository/models/m/unload")
    assert status == 503 and "went away before it answered" in body["error"], body
    assert json.loads(s.request("POST", "/v2/repository/index")[2])[0]["state"] == "READY"
