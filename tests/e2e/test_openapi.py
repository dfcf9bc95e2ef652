"""docs/openapi.yaml against the binary: the document is valid, knows the routes, parameters and limits that the binary
knows and no others, and what a running control plane answers is what its schemas say."""

import json
import re
import subprocess

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from replica import OVERTAKE, ROOT, wait_for
from up import Traffic, two_classes

DOCUMENT = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
METHODS = ("get", "post", "put", "delete")


def resolve(x):
    while "$ref" in x:
        at = DOCUMENT
        for part in x["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        x = at
    return x


def documented():
    """(method, pattern with stars) -> (path, item, operation)"""
    return {(m.upper(), re.sub(r"\{\w+\}", "*", path)): (path, item, item[m])
            for path, item in DOCUMENT["paths"].items() for m in METHODS if m in item}


def routes():
    """(method, pattern) -> row of the binary's table."""
    out = subprocess.run([str(OVERTAKE), "config", "reference", "api"], capture_output=True, text=True, check=True).stdout
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in out.splitlines()[2:]]
    return {(method, path.strip("`")): {"token": token, "query": set(re.findall(r"`(\w+)`", query)), "body": int(body),
                                        "answer": answer} for method, path, token, query, body, answer in rows}


def test_the_document_is_valid():
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    ids = [op["operationId"] for _, _, op in documented().values()]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"#/components/(\w+/\w+)", json.dumps(DOCUMENT)))
    there = {f"{kind}/{name}" for kind, all_ in DOCUMENT["components"].items() for name in all_ if kind != "securitySchemes"}
    assert used == there, used ^ there


def test_every_route_is_documented_and_nothing_else():
    have, known = documented(), routes()
    assert set(have) == set(known), f"only in one of the two: {sorted(set(have) ^ set(known))}"


@pytest.mark.parametrize("method, pattern", sorted(routes()))
def test_a_route_is_as_documented(method, pattern):
    if (method, pattern) not in documented():
        pytest.fail(f"docs/openapi.yaml lacks {method} {pattern}")
    row, (path, item, op) = routes()[method, pattern], documented()[method, pattern]
    assert (op.get("security") == []) == (row["token"] == "no")
    given = [resolve(p) for p in item.get("parameters", []) + op.get("parameters", [])]
    assert {p["name"] for p in given if p["in"] == "query"} == row["query"]
    assert [p["name"] for p in given if p["in"] == "path"] == re.findall(r"\{(\w+)\}", path)
    assert op.get("requestBody", {}).get("x-body-max", 0) == row["body"]
    [kind] = resolve(op["responses"]["200"])["content"]
    assert row["answer"] in (kind, "its own")
    assert resolve(op["responses"]["default"])["content"]["application/json"]


# ---- answers


class Checked:
    """Asks a control plane, and holds each answer to the schema of its route."""

    def __init__(self, api):
        self.api, self.asked = api, set()

    def __call__(self, method, pattern, *names, body=None, **query):
        path, _, op = documented()[method, pattern]
        for n in names:
            path = re.sub(r"\{\w+\}", str(n), path, count=1)
        if body is not None:
            text = body if isinstance(body, str) else json.dumps(body)
            if not isinstance(body, str):
                self.hold(op["requestBody"]["content"]["application/json"]["schema"], body, f"the body of {path}")
        else:
            text = None
        status, headers, data = self.api.raw(method, path, text, self.api.headers(), **query)
        response = resolve(op["responses"][str(status) if str(status) in op["responses"] else "default"])
        kind = next(k for k in response["content"] if k.split(";")[0] == headers["Content-Type"].split(";")[0])
        schema = response["content"][kind]["schema"]
        if kind == "application/json":
            value = json.loads(data)
            self.hold(schema, value, f"{status} of {method} {path}")
        else:
            assert isinstance(value := data.decode(), str) and schema["type"] == "string"
        if status == 200:
            self.asked.add((method, pattern))
        return status, value

    @staticmethod
    def hold(schema, value, what):
        whole = {**schema, "components": DOCUMENT["components"]}
        bad = [f"{what}: {'/'.join(map(str, e.absolute_path))}: {e.message[:300]}"
               for e in Draft202012Validator(whole).iter_errors(value)]
        assert not bad, "\n".join(bad)


# Routes whose answers are asked for where what they do is tested; every other is asked for here.
ELSEWHERE = {("GET", "/api/v1/incoming/*"), ("POST", "/api/v1/incoming/*/file"), ("POST", "/api/v1/incoming/*/finish")}


def test_answers_are_as_documented(up, app, tmp_path):
    u, a = up(), app()
    ask = Checked(u.api)
    windows = {"window": "500ms", "block": "1s", "blocks_per_day": 8, "baseline": 4, "cycles": "none"}
    file = a.yaml(quality=windows, objectives={"accuracy": {"at_least": 0.5, "over": "1min"}, "availability": {"at_least": 0.9},
                                               "latency_p99": {"at_most": "1s"}},
                  release=[{"approval": {"at_most": "1h", "otherwise": "stop"}}])
    for diff in (1, 0):
        assert ask("POST", "/api/v1/apps", body=file, file="app.yaml", dir=str(a.folder), diff=diff)[0] == 200
    u.api.wait_event("approval.requested")
    assert ask("GET", "/api/v1/apps/*", a.name)[1]["cycle"]["stage"] == "approval"
    ask("POST", "/api/v1/apps/*/act", a.name, body={"verb": "approve"})
    u.api.wait_event("version.promoted")
    u.wait_serves(a.name, 1, two_classes(1, 9)[0])
    with Traffic(u, a.name) as t:
        wait_for("labels", lambda: t.accepted > 200)
        wait_for("windows", lambda: ask("GET", "/api/v1/deployments/*/windows", a.name)[1]["points"])
        ask("GET", "/api/v1/apps/*", a.name)
        _, headers, _ = u.infer(a.name, two_classes(1, 3)[0])
        ask("POST", "/api/v1/deployments/*/labels", a.name, body={"labels": [
            {"id": headers["overtake-prediction-id"], "value": 1, "source": "a test"}, {"id": "nobody's", "value": 0}]})
    wait_for("outcomes", lambda: ask("GET", "/api/v1/deployments/*/outcomes", a.name)[1]["points"])
    rows = wait_for("samples", lambda: ask("GET", "/api/v1/deployments/*/samples", a.name, limit=1)[1]["samples"])
    assert len(rows[0]["inputs"]["x"]) == 4 and rows[0]["role"] == "live"
    older = ask("GET", "/api/v1/deployments/*/samples", a.name, before=rows[-1]["segment"])[1]["samples"]
    assert all(row["segment"] < rows[-1]["segment"] for row in older)
    wait_for("joined labels", lambda: ask("GET", "/api/v1/deployments/*/accuracy", a.name, version=1)[1]["labelled"] > 200)
    assert ask("GET", "/api/v1/deployments/*/accuracy", a.name, version=2)[1]["estimate"] is None
    for pattern, names in (("/api/v1/health", []), ("/api/v1/apps", []), ("/api/v1/apps/*/config", [a.name]),
                           ("/api/v1/apps/*/why", [a.name]), ("/api/v1/events/verify", []), ("/api/v1/runs/*", [1]),
                           ("/api/v1/runs/*/log", [1]), ("/api/v1/runs/*/checkpoints", [1]), ("/api/v1/models", []), ("/api/v1/models/*", [a.name]),
                           ("/api/v1/models/*/versions/*", [a.name, 1]), ("/api/v1/replicas", []), ("/metrics", [])):
        assert ask("GET", pattern, *names)[0] == 200, pattern
    assert ask("GET", "/api/v1/events", limit=1000)[1]["events"] and ask("GET", "/api/v1/runs", app=a.name)[1]["runs"]
    assert ask("POST", "/api/v1/clients", body={"name": "shop", "deployments": [a.name], "rows_per_s": 10})[0] == 200
    assert ask("POST", "/api/v1/clients", body={"name": "shop"})[0] == 409
    assert ask("GET", "/api/v1/clients")[1]["clients"][0]["name"] == "shop"
    assert ask("POST", "/api/v1/clients/*/revoke", "shop")[0] == 200
    assert ask("POST", "/api/v1/clients/*/revoke", "shop")[0] == 404
    assert ask("POST", "/api/v1/clients/off")[0] == 200
    assert ask("POST", "/api/v1/backups", body={"path": str(tmp_path / "backups")})[0] == 200
    between_servers(a, ask)
    (tmp_path / "snapshot").mkdir()
    assert ask("POST", "/api/v1/snapshots", body={"path": str(tmp_path / "snapshot")})[0] == 200
    stream(u.api, ask)
    cancel(u, a, ask)

    # Errors are as documented too.
    assert ask("GET", "/api/v1/apps/*", "absent")[0] == 404
    assert ask("GET", "/api/v1/events", limit=0)[0] == 400
    assert ask("POST", "/api/v1/runs/*/cancel", 1)[0] == 409
    left = set(documented()) - ask.asked - ELSEWHERE
    assert not left, f"asked for nowhere: {sorted(left)}"


def stream(api, ask):
    """The stream's lines are events."""
    import http.client
    c = http.client.HTTPConnection(api.host, api.port, timeout=60)
    c.request("GET", "/api/v1/events/stream?after=0", headers=api.headers())
    r = c.getresponse()
    assert r.headers["Content-Type"] == "application/x-ndjson"
    _, _, op = documented()["GET", "/api/v1/events/stream"]
    schema = op["responses"]["200"]["content"]["application/x-ndjson"]["schema"]
    lines = [line for line in (r.readline().strip() for _ in range(10)) if line]
    assert len(lines) > 3
    for line in lines:
        ask.hold(schema, json.loads(line), "a line of the stream")
    c.close()
    ask.asked.add(("GET", "/api/v1/events/stream"))


def between_servers(a, ask):
    """A server that trusts itself: its own version is already there."""
    key = ask("GET", "/api/v1/keys")[1]["key"]
    ask("POST", "/api/v1/trust", body={"name": "self", "key": key})
    assert ask("GET", "/api/v1/trust")[1]["keys"][0]["name"] == "self"
    envelope = ask("POST", "/api/v1/models/*/versions/*/sign", a.name, 1)[1]
    # The parameter `path` has the name of an argument of the client.
    ask.asked.add(("GET", "/api/v1/models/*/versions/*/file"))
    status, _, manifest = ask.api.raw("GET", f"/api/v1/models/{a.name}/versions/1/file?path=manifest.json", None,
                                      ask.api.headers())
    assert status == 200
    opened = ask("POST", "/api/v1/incoming", body={"envelope": json.dumps(envelope), "manifest": manifest.decode()})[1]
    assert opened["version"] == 1
    assert ask("POST", "/api/v1/trust/*/remove", "self")[0] == 200
    assert ask("POST", "/api/v1/trust/*/remove", "self")[0] == 404


def cancel(u, a, ask):
    a.program("import time\nwhile True: time.sleep(0.05)\n")
    ask("POST", "/api/v1/apps/*/act", a.name, body={"verb": "train", "reason": "a test"})
    run = wait_for("a run", lambda: next((r["run"] for r in u.api.runs(a.name) if r["state"] == "running"), None))
    assert ask("POST", "/api/v1/runs/*/cancel", run)[0] == 200
    wait_for("its end", lambda: ask("GET", "/api/v1/runs/*", run)[1]["state"] == "cancelled")


# ---- the replica


REPLICA = yaml.safe_load((ROOT / "docs/openapi-replica.yaml").read_text())


def test_the_replicas_document_is_valid():
    OpenAPIV31SpecValidator(REPLICA).validate()


def test_a_replica_answers_as_documented(linear):
    asked = 0
    for path, item in REPLICA["paths"].items():
        for method in METHODS:
            if method not in item or path.endswith("/unload"):
                continue
            target = path.replace("{model}", "m").replace("{version}", "1").replace("{label}", "stable")
            body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [0.5] * 8}]} if "infer" in path else \
                {"instances": [[0.5] * 4] * 2} if ":predict" in path else {} if "repository" in path else {"examples": [{"x": [0.5] * 4}]}
            if path.endswith(":regress"):  # the model has two numbers a row: the error is as documented
                status, _, data = linear.request("POST", target, json.dumps(body))
                assert status == 400 and list(json.loads(data)) == ["error"]
                asked += 1
                continue
            if path.endswith("/completions"):  # the model answers tensors: the error is as documented
                status, _, data = linear.request("POST", target, json.dumps({"model": "m", "prompt": "x"}))
                assert status == 400 and set(json.loads(data)["error"]) == {"message", "type", "code"}
                asked += 1
                continue
            hold_replica(linear, item[method], method, target, body)
            asked += 1
    hold_replica(linear, REPLICA["paths"]["/v2/repository/models/{model}/unload"]["post"], "post", "/v2/repository/models/m/unload", {})
    assert asked + 1 == sum(m in item for item in REPLICA["paths"].values() for m in METHODS)
    # The leaves that its source knows are in the document.
    source = (ROOT / "src/protocol/dispatch.c").read_text()
    for leaf in re.findall(r'\{"(\w+)", LEAF_', source) + ["infer"]:
        assert f"/v2/models/{{model}}/{leaf}" in REPLICA["paths"], leaf
    status, _, data = linear.request("GET", "/v2/models/absent")
    assert status == 404 and json.loads(data)["error"]


def hold_replica(linear, op, method, target, body):
    status, headers, data = linear.request(method.upper(), target, json.dumps(body) if method == "post" else None)
    assert status == 200, (target, data)
    response = op["responses"]["200"]
    [(kind, content)] = response["content"].items()
    assert kind.split(";")[0] == headers["Content-Type"].split(";")[0]
    for name, head in response.get("headers", {}).items():
        assert name in headers or not head.get("required"), (target, name)
        if "pattern" in head["schema"]:
            assert re.search(head["schema"]["pattern"], headers[name]), headers[name]
    if kind == "application/json":
        bad = [e.message[:300] for e in Draft202012Validator({**content["schema"], "components": REPLICA["components"]}).iter_errors(
            json.loads(data))]
        assert not bad, (target, bad)
