"""docs/odd-requests.md holds: each request of its tables is sent as it stands there, and answered as its last column says."""

import json
import re
import socket

import pytest

import replica as r
from linear_model import W

INPUTS = '"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]'


def spans(cell):
    return re.findall(r"`([^`]*)`", cell)


def rows():
    for line in (r.ROOT / "docs/odd-requests.md").read_text().splitlines():
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if not line.startswith("|") or set(cells[0]) <= set("-") or cells[0] == "what":
            continue
        assert len(cells) == 7, line
        what, request, body, *_, ours = cells
        (method, path), headers = spans(request)[0].split(), [h.split(":", 1) for h in spans(request)[1:]]
        text = "".join(spans(body))
        data = bytes.fromhex(text[4:]) if text.startswith("hex:") else text.replace("...", INPUTS).encode()
        yield pytest.param(method, path, {k: v.strip() for k, v in headers}, data, int(ours[:3]), spans(ours), id=what)


ROWS = list(rows())


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    r.write_raw(folder / "models" / "m", r.linear(W))
    for name, datatype in (("i", "INT8"), ("h", "FP16")):
        spec = {"datatype": datatype, "shape": [-1, 2]}
        r.write_raw(folder / "models" / name,
                    {"op": "identity", "inputs": [{"name": "x", **spec}], "outputs": [{"name": "y", **spec}]})
    s = r.Replica(folder / "models", log=folder / "serve.log").wait_ready()
    yield s
    s.stop()


def send(s, method, path, headers, body):
    """(status, head, body) as they came, with nothing between us and the wire; the body's length is always said."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{k}: {v}" for k, v in headers.items()]
    with socket.create_connection((s.host, s.port), timeout=r.PATIENCE) as c:
        c.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        f = c.makefile("rb")
        head = []
        while (line := f.readline().strip()):
            head.append(line.decode())
        length = [int(h.split(":")[1]) for h in head if h.lower().startswith("content-length:")]
        return int(head[0].split()[1]), head[1:], f.read(length[0])


def test_the_tables_are_read():
    assert len(ROWS) > 60 and {p.values[0] for p in ROWS} == {"GET", "POST"}


@pytest.mark.parametrize("method,path,headers,body,status,texts", ROWS)
def test_odd_request(odd, method, path, headers, body, status, texts):
    got, head, answer = send(odd, method, path, headers, body)
    text = answer.decode(errors="replace")
    assert got == status, text
    for t in texts:
        assert t in text or t in head, (t, head, text)
    if status >= 400:
        assert list(json.loads(text)) == ["error"] and json.loads(text)["error"]
    assert send(odd, "POST", "/v2/models/m/infer", {}, ("{" + INPUTS + "}").encode())[0] == 200
