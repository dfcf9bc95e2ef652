"""What strangers send, field by field: each answer is a 4xx with an error in JSON, none is a 5xx or silence, and the
next good request is answered. Models that are numbers only in name, and data directories that somebody else has."""

import copy
import http.client
import json
import subprocess

import pytest

from linear_model import one
from replica import OVERTAKE, PATIENCE
from up import TRAIN, two_classes

DEEP = 20000


class Raw(str):
    """Text that goes into the JSON as it is."""


# What may stand where anything else is expected; each is wrong in some fields and harmless in others.
VALUES = [None, True, 0, -1, 1.5, Raw("1e999"), Raw("-0"), Raw("18446744073709551616"), Raw("99999999999999999999999"),
          "", "no", "\0", "\u202e", "a" * 70000, Raw('"\\ud800"'), Raw('"\xff"'), [], {}, [[]], [None], {"a": {"b": []}},
          Raw("[" * DEEP + "]" * DEEP), Raw('{"a":' * DEEP + "1" + "}" * DEEP), Raw("nul"), Raw("01"), Raw("'no'"), Raw("")]


def dump(v):
    """JSON as bytes; Latin-1, so that \\xff is a byte that UTF-8 has not."""
    if isinstance(v, Raw):
        return v.encode("latin-1")
    if isinstance(v, dict):
        return b"{" + b",".join(json.dumps(k).encode() + b":" + dump(x) for k, x in v.items()) + b"}"
    if isinstance(v, list):
        return b"[" + b",".join(map(dump, v)) + b"]"
    return json.dumps(v).encode()


def places(v, at=()):
    """The path of every value inside v, itself too."""
    yield at
    for k, x in v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, list) else ():
        yield from places(x, at + (k,))


def changed(v, at, x):
    """v with x at a place; with that place gone where x is `places`."""
    if not at:
        return x
    v = copy.deepcopy(v)
    inner = v
    for k in at[:-1]:
        inner = inner[k]
    if x is places:
        del inner[at[-1]]
    else:
        inner[at[-1]] = x
    return v


def every_field(body):
    for at in places(body):
        for x in VALUES + ([places] if at else []):
            yield at, x, dump(changed(body, at, x))
        if at and isinstance(at[-1], str):  # the name twice
            outer = dump(inside(body, at[:-1]))
            twice = outer[:-1] + b"," + dump({at[-1]: inside(body, at)})[1:]
            yield at, "twice", dump(changed(body, at[:-1], Raw(twice.decode())))


def inside(v, at):
    for k in at:
        v = v[k]
    return v


class Client:
    """Requests on a connection that stays where the server keeps it."""

    def __init__(self, address, headers=None):
        host, port = address.rsplit(":", 1)
        self.c, self.headers = http.client.HTTPConnection(host, int(port), timeout=PATIENCE), headers or {}

    def post(self, path, body, headers=None):
        self.c.request("POST", path, body, {**self.headers, **(headers or {})})
        a = self.c.getresponse()
        return a.status, a.read()


def expect_refusals(client, path, body, taken, headers=None):
    """Sends every variant; `taken(at, x)` says which may be taken. Returns how many were refused."""
    refused = 0
    for at, x, text in every_field(body):
        status, answer = client.post(path, text, headers)
        where = (at, str(x)[:60], status, answer[:300])
        if status == 200:
            assert taken(at, x), where
            assert answer.startswith(b"{"), where
            continue
        assert 400 <= status < 500, where
        assert len(json.loads(answer)["error"]) > 5, where
        refused += 1
    return refused


# ---- predictions


REQUEST = {"id": "a", "parameters": {"k": 1, "binary_data_output": False},
           "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4], "parameters": {"p": "q"}}],
           "outputs": [{"name": "y", "parameters": {"binary_data": False}}]}


def may_be_taken(at, x):
    """Whether a good client may send this: other numbers, and what is free or may be left out. The tensor's name, type,
    shape and count are what the model says, or the request is refused."""
    if "parameters" in at or at[:1] in (("id",), ("outputs",)):
        return True
    return len(at) == 4 and at[2] == "data" and (isinstance(x, (int, float)) or isinstance(x, Raw)) and x is not True


def test_every_field_of_a_prediction(linear):
    client = Client(linear.address)
    refused = expect_refusals(client, "/v2/models/m/infer", REQUEST, may_be_taken)
    assert refused > 200, refused
    for name in ("id", "outputs"):  # optional, and still of one type
        assert client.post("/v2/models/m/infer", dump({**REQUEST, name: 7}))[0] == 400
    status, answer = client.post("/v2/models/m/infer", dump(REQUEST))
    assert status == 200 and json.loads(answer)["id"] == "a"


def test_every_field_of_a_binary_prediction(linear):
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}],
            "parameters": {"binary_data_output": True}}
    client, rows = Client(linear.address), b"\0\0\x80\x3f" * 4
    refused = 0
    for at, x, text in every_field(body):
        status, answer = client.post("/v2/models/m/infer", text + rows, {"Inference-Header-Content-Length": str(len(text))})
        where = (at, str(x)[:60], status, answer)
        assert status == 200 or 400 <= status < 500 and len(json.loads(answer)["error"]) > 5, where
        refused += status != 200
    assert refused > 150, refused
    text = dump(body)
    for n in range(len(rows)):  # cut short
        status, answer = client.post("/v2/models/m/infer", text + rows[:n], {
            "Inference-Header-Content-Length": str(len(text))})
        assert status == 400 and "x" in json.loads(answer)["error"], (n, answer)
    assert client.post("/v2/models/m/infer", text + rows, {"Inference-Header-Content-Length": str(len(text))})[0] == 200


@pytest.mark.parametrize("path", ["/v2/models/%ff/infer", "/v2/models/%00/infer", "/v2/models/m%2f..%2fm/infer",
                                  "/v2/models/" + "m" * 4000 + "/infer", "/v2//models/m/infer",
                                  "/v2/models/m/versions/%31%30/infer", "/v2/models/m/versions/99999999999999999999/infer",
                                  "/v2/models/m/versions/-1/infer", "/v2/models/m/versions/x/infer"])
def test_paths_that_name_nothing(linear, path):
    client = Client(linear.address)
    status, answer = client.post(path, dump(one()))
    assert status in (400, 404, 414) and json.loads(answer)["error"], answer
    assert linear.infer("m", [[1, 2, 3, 4]])[0] == 200


# ---- the control API


@pytest.fixture
def loop(up, app):
    u, a = up(), app()
    a.apply(u.api)
    u.api.wait_event("version.promoted", "model/planes@1")
    return u, a


def test_every_field_of_what_people_send(loop):
    """Nothing that is refused changes anything."""
    u, _ = loop
    x = two_classes(5, 99)[0]
    u.wait_serves("planes", 1, x)
    incarnation, seq, version, sampled = u.infer("planes", x)[1]["overtake-prediction-id"].split("-")
    label = {"id": f"{incarnation}-{seq}-{version}-{sampled}", "value": 1, "source": "test", "time_us": 1700000000000000}
    client, before = Client(u.control, u.api.headers()), u.api.head()
    odd = {"value", "source", "time_us"}
    refused = expect_refusals(client, "/api/v1/deployments/planes/labels", {"labels": [label]},
                              lambda at, v: at[-1:] and at[-1] in odd)
    assert refused > 60, refused
    refused = expect_refusals(client, "/api/v1/apps/planes/act", {"verb": "pause", "reason": "a test"},
                              lambda at, v: at == ("reason",))
    assert refused > 40, refused
    refused = expect_refusals(client, "/api/v1/apps/planes/act", {"verb": "pin", "version": 7, "reason": "a test"},
                              lambda at, v: at == ("verb",) and v == places)
    assert refused > 60, refused
    changed = {e["type"] for e in u.api.events(after=before)}
    assert changed <= {"labels.received", "loop.paused", "samples.received", "windows.received"}, changed
    assert u.api.act("planes", "resume")


def test_app_files_that_are_none(loop):
    """YAML that is deep, wide, endless by its anchors, of other bytes, or not YAML: refused with file and line."""
    u, a = loop
    good, before = a.yaml().encode(), u.api.head()
    texts = [b"[" * DEEP, b"{a: " * DEEP, b"- " * DEEP, b"a: &a [*a, *a]\n", b"a: &x [1]\nb: *x\n", b"\xff\xfe\x00", b"\0",
             b"schema: \xff\n", b"%YAML 9.9\n---\n", b"--- a\n--- b\n", b"? [a]\n: b\n", b"!!python/object:os.system x\n",
             b"a: |\n" + b" x\n" * 100000, b"\t\ta: b\n", b"x" * 1000000, good[:len(good) // 2], good + b"}",
             good.replace(b'"planes"', b'"pl\\u0000anes"'), good.replace(b'"planes"', b'"../planes"'),
             good.replace(b"overtake/1", b"overtake/99")]
    for text in texts:
        status, headers, answer = u.api.raw("POST", "/api/v1/apps", text, u.api.headers(), file="app.yaml",
                                            dir=str(a.folder))
        assert status == 400, (text[:60], status, answer[:200])
        assert json.loads(answer)["error"].startswith("app.yaml:"), (text[:60], answer[:200])
    assert u.api.happened(before) == [] and u.api.app("planes")["champion"] == 1


# ---- models that are none


@pytest.mark.parametrize("number, words", [
    ("NaN", "expected a number"),
    ("1e39", "output 'y' has a NaN for held-out row 0, whose inputs are all finite")])
def test_a_model_of_nan(up, app, number, words):
    """Its answers are no numbers: no version comes of it."""
    u, a = up(), app()
    a.program(TRAIN.replace('"bias": w[-1].tolist()', '"bias": [float("nan"), 0]')
              .replace("(out.parent", f"t = (out / 'null.json').read_text().replace('NaN', {number!r})\n"
                       "    (out / 'null.json').write_text(t)\n    (out.parent"))
    a.apply(u.api)
    failed = u.api.wait_event("cycle.failed", "app/planes", unless=("version.registered", "version.promoted"))
    assert words in failed["payload"]["text"], failed
    assert u.api.app("planes")["champion"] is None


# ---- data directories and addresses


def test_two_in_one_directory(up):
    u = up()
    before = u.api.head()
    for _ in range(2):
        p = subprocess.run([OVERTAKE, "up", "--data", u.data, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"],
                           capture_output=True, text=True)
        assert p.returncode == 1 and "is in use by another overtake" in p.stderr and str(u.data) in p.stderr, p.stderr
    assert u.api.happened(before) == [] and u.child("control") and u.child("serve")


@pytest.mark.parametrize("words", [["up", "--listen", "127.0.0.1:0", "--control"], ["control", "--listen"]])
def test_control_on_another_address_needs_tls(tmp_path, words):
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0"):
        p = subprocess.run([OVERTAKE, *words, address, "--data", tmp_path], capture_output=True, text=True)
        assert p.returncode in (1, 2) and "TLS" in p.stderr, (address, p.stderr)
        assert address.rsplit(":", 1)[0].strip("[]") in p.stderr, p.stderr
