"""Samples and shadow copies of completions."""

import concurrent.futures
import hashlib
import json
import re

import pytest

import replica as r
from test_external import LARGE, Llm, ask, events


@pytest.fixture
def llms():
    pair = Llm(), Llm()
    yield pair
    for x in pair:
        x.close()


def bundle_of(tmp_path, llm, model, timeout_ms=5000):
    """A bundle of a server of language models; there are no golden answers to texts. Returns its digest."""
    tensor = {"datatype": "BYTES", "shape": [1]}
    text = json.dumps({"url": f"http://{llm.address}", "protocol": "openai", "model": model,
                       "timeout_ms": timeout_ms}).encode()
    manifest = json.dumps({"schema": "overtake.bundle/1", "format": "external",
                           "inputs": [{"name": "request", **tensor}], "outputs": [{"name": "response", **tensor}],
                           "files": [{"path": "model/external.json", "size": len(text),
                                      "sha256": hashlib.sha256(text).hexdigest()}]}).encode()
    folder = tmp_path / f"bundle-{model}"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "external.json").write_bytes(text)
    (folder / "manifest.json").write_bytes(manifest)
    r.store_bundle(tmp_path / "blobs", folder)
    return hashlib.sha256(manifest).hexdigest()


@pytest.fixture
def compared(tmp_path, managed, llms):
    """compared(...) starts a replica whose deployment `chat` has the first server as champion, the second as shadow."""
    plane, start = managed

    def make(**timeouts):
        a, b = bundle_of(tmp_path, llms[0], "a"), bundle_of(tmp_path, llms[1], "b", **timeouts)
        plane.want(r.deployment(r.variant("champion", 1, a, 1, model="chat"), r.variant("shadow", 2, b, 0, model="chat"),
                                name="chat", compare=True))
        s = start("--workers", 2)
        plane.wait_observed()
        for x in llms:
            x.asked.clear()
        return plane, s
    return make


def metric(s, name):
    return int(re.search(rf"^{name} (\d+)$", s.request("GET", "/metrics")[2].decode(), re.M)[1])


def rows(plane, role, version):
    """{seq: (request, response)} of the samples; shadow copies have no requests."""
    out = {}
    for value, binary in plane.taken("sample", role=role, version=version):
        x = r.decode_sample(value, binary)
        for i, seq in enumerate(x["seq"]):
            out[int(seq)] = (json.loads(x["request"][i][0]) if "request" in x else None,
                             json.loads(x["response"][i][0]), x.get("keys", [None] * len(x["seq"]))[i])
    return out


def test_completions_are_sampled_and_asked_of_the_shadow(compared, llms):
    plane, s = compared()
    seqs = []
    for i in range(6):
        stream = i % 2 == 1
        _, a = ask(s, stream=stream, headers={"overtake-key": f"k{i}"})
        assert a.status == 200
        events(a) if stream else a.read()
        _, seq, version, sampled, _ = r.prediction_id({**a.headers, "overtake-rows": "1"})
        assert version == 1 and sampled
        seqs.append(seq)
    r.wait_for("copies are answered", lambda: metric(s, "overtake_shadow_rows_total") == 6)
    assert all(not body.get("stream") and body["model"] == "b" for _, _, body in llms[1].asked)
    s.stop()
    live, copies = rows(plane, "live", 1), rows(plane, "shadow", 2)
    assert set(live) == set(copies) == set(seqs)
    for i, seq in enumerate(seqs):
        request, response, key = live[seq]
        assert request["model"] == "chat" and request["messages"][0]["content"] == "hello you" and key == f"k{i}"
        message = response["choices"][0]["message"]
        assert message == {"role": "assistant", "content": "w0 w1 w2 w3 w4 " if i % 2 else "HELLO YOU"}
        assert response["usage"]["completion_tokens"] == (20 if i % 2 else 4)
        assert copies[seq][1]["model"] == "b" and copies[seq][1]["choices"][0]["message"]["content"] == "HELLO YOU"


def test_a_shadow_that_hangs_costs_only_its_copies(compared, llms):
    plane, s = compared(timeout_ms=600_000)
    llms[1].how = "hang"
    sent = 300

    def one(_):
        _, a = ask(s)
        a.read()
        return a.status == 200 and a.headers["overtake-version"] == "1"
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        assert all(clients.map(one, range(sent)))
    r.wait_for("what finds no room is dropped", lambda: metric(s, "overtake_shadow_dropped_total") == sent - 256 - 8)
    assert metric(s, "overtake_sampled_rows_total") == sent
    s.stop()  # waits for no copy, which have ten minutes
    assert len(rows(plane, "live", 1)) == sent


def test_a_copy_that_fails_is_counted(compared, llms):
    plane, s = compared()
    for how in ("busy", "garbage"):
        llms[1].how = how
        assert ask(s)[1].status == 200
    r.wait_for("they are counted", lambda: metric(s, "overtake_shadow_failed_total") == 2)
    assert metric(s, "overtake_shadow_rows_total") == 0


def test_a_stream_that_is_too_long_to_keep_is_dropped_and_passes(compared, llms):
    plane, s = compared()
    llms[0].how = "large"
    _, a = ask(s, stream=True)
    got = events(a)
    assert got[-1] == "[DONE]" and len(got) == LARGE + 2
    r.wait_for("the row is counted as lost", lambda: metric(s, "overtake_sample_dropped_rows_total") == 1)
    assert metric(s, "overtake_sampled_rows_total") == 0
    llms[0].how = "die"  # a stream that was cut is no answer
    events(ask(s, stream=True)[1])
    llms[0].how = "well"
    assert ask(s)[1].status == 200
    r.wait_for("the next is kept", lambda: metric(s, "overtake_sampled_rows_total") == 1)


def test_servers_of_an_app_are_released_and_sampled_like_models(up, app, llms):
    """Under a control plane: the program of the app writes which server it is; nothing judges texts but people."""
    u, a = up(), app()
    a.program(f"""
        import json, pathlib
        out = pathlib.Path(OUT)
        out.mkdir(parents=True)
        url = "http://" + pathlib.Path({str(a.folder / "which")!r}).read_text()
        (out / "external.json").write_text(json.dumps({{"url": url, "protocol": "openai", "model": "llama"}}))
    """)
    (a.folder / "which").write_text(llms[0].address)
    a.apply(u.api, release=[{"blue_green": {"keep": "1h"}}])

    class Serving:
        host, port = u.inference.rsplit(":", 1)

    def version():
        _, answer = ask(Serving, model="planes")
        answer.read()
        return int(answer.headers["overtake-version"]) if answer.status == 200 else None
    r.wait_for("the first server answers", lambda: version() == 1)
    (a.folder / "which").write_text(llms[1].address)
    u.api.act("planes", "train")
    r.wait_for("the second answers", lambda: version() == 2)
    r.wait_for("the first answers copies", lambda: any("llama" == b["model"] for _, _, b in llms[0].asked))
    samples = r.wait_for("samples come in", lambda: u.api.events("samples.received"))
    assert samples[0]["payload"]["rows"] >= 1
    listed = r.wait_for("a copy is listed", lambda: (lambda rows: rows if {x["role"] for x in rows} == {"live", "shadow"} else None)(
        u.api.get("/deployments/planes/samples")["samples"]))
    live = {x["id"].split("-")[1]: x for x in listed if x["role"] == "live"}
    copy = next(x for x in listed if x["role"] == "shadow")
    asked = json.loads(live[copy["id"].split("-")[1]]["inputs"]["request"][0])
    assert asked["messages"][0]["content"] == "hello you" and copy["inputs"] == {}
    for x in (copy, live[copy["id"].split("-")[1]]):
        assert json.loads(x["outputs"]["response"][0])["choices"][0]["message"]["content"] == "HELLO YOU"
    u.api.act("planes", "rollback")
    r.wait_for("the first answers again", lambda: version() == 1)
