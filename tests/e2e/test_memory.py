"""Models beyond the memory that a replica may take: what nobody asks sleeps, and comes back when it is asked."""

import json
import threading

import numpy as np

import replica as r
from linear_model import ROWS, W, Load, expected

KIB = 1 << 10


def padded(folder, bias, kib=900, **how):
    """A model whose file, and so its estimate, is that large; answers x W + bias."""
    text = json.dumps(r.linear(W, bias=[bias, bias], **how))
    folder.mkdir(parents=True)
    (folder / "null.json").write_text(text + " " * (kib * KIB - len(text)))


def answers(s, name, bias, **headers):
    status, head, body = s.infer(name, ROWS, headers=headers)
    if status == 200:
        np.testing.assert_allclose(body["outputs"][0]["data"], (expected(ROWS) + bias).ravel(), rtol=1e-5)
    return status, head, body


def awake(s, names):
    """Which of them have a session: models that sleep take nothing."""
    text = s.request("GET", "/metrics")[2].decode()
    taken = {line.split('deployment="')[1].split('"')[0]: float(line.split()[1])
             for line in text.splitlines() if line.startswith("overtake_model_memory_bytes{")}
    return [n for n in names if taken[n] > 0]


def test_more_models_than_fit_are_all_served(tmp_path, serve):
    names = [f"m{i}" for i in range(6)]
    for i, name in enumerate(names):
        padded(tmp_path / "models" / name, i)
    s = serve(tmp_path / "models", "--workers", 2, "--memory-max", "2MiB")  # room for two
    assert s.get("/v2/models/m0")["name"] == "m0"  # its signature is there although it sleeps
    assert len(awake(s, names)) == 2
    for _ in range(2):
        for i, name in enumerate(names):
            assert answers(s, name, i)[0] == 200
            assert name in awake(s, names) and len(awake(s, names)) <= 2
    assert all(row["state"] == "READY" for row in json.loads(s.request("POST", "/v2/repository/index")[2]))
    log = s.stop()
    assert "are free again" in log and "is awake again" in log


def test_the_least_recently_used_sleeps_and_who_is_used_goes_on(tmp_path, serve):
    for i, name in enumerate(["busy", "old", "new"]):
        padded(tmp_path / "models" / name, i)
    s = serve(tmp_path / "models", "--workers", 2, "--memory-max", "2MiB")
    answers(s, "busy", 0)
    load = Load(s, lambda x, y, _: None if np.allclose(y, expected(x), rtol=1e-4, atol=1e-4) else f"{x} -> {y}",
                clients=3, path="/v2/models/busy/infer")
    for _ in range(3):
        assert answers(s, "old", 1)[0] == 200 and answers(s, "new", 2)[0] == 200
        assert awake(s, ["busy", "old", "new"]) == ["busy", "new"]
    load.end()


def test_many_requests_wake_a_model_once_and_each_is_answered(tmp_path, serve):
    padded(tmp_path / "models" / "a", 0, load_us=300_000)
    padded(tmp_path / "models" / "b", 1, load_us=300_000)
    s = serve(tmp_path / "models", "--workers", 2, "--memory-max", "1MiB")
    for name, bias in [("a", 0), ("b", 1)]:
        got = []
        threads = [threading.Thread(target=lambda: got.append(answers(s, name, bias)[0])) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert got == [200] * 20
    assert s.stop().count("b@1 is awake again") <= 1


def test_a_deadline_before_it_is_back_is_refused_and_brings_it_back(tmp_path, serve):
    padded(tmp_path / "models" / "a", 0, load_us=400_000)
    padded(tmp_path / "models" / "b", 1, load_us=400_000)
    s = serve(tmp_path / "models", "--memory-max", "1MiB")
    asleep = "b" if awake(s, "ab") == ["a"] else "a"
    status, head, body = answers(s, asleep, 0, **{"overtake-deadline-ms": "50"})
    assert status == 503 and int(head["Retry-After"]) >= 1 and "unloaded while idle" in body["error"]
    r.wait_for("it is back", lambda: answers(s, asleep, int(asleep == "b"), **{"overtake-deadline-ms": "300"})[0] == 200)


def test_what_cannot_fit_is_refused_with_figures(tmp_path, serve, managed, bundles):
    padded(tmp_path / "models" / "a", 0, kib=100)
    padded(tmp_path / "models" / "large", 1)
    s = serve(tmp_path / "models", "--memory-max", "600KiB", ready=False)
    state = r.wait_for("its state", lambda: next(
        (x for x in json.loads(s.request("POST", "/v2/repository/index")[2])
         if x["name"] == "large" and x["state"] == "UNAVAILABLE"), None))
    assert "of 600 KiB (--memory-max)" in state["reason"]
    assert answers(s, "a", 0)[0] == 200  # the others are not touched

    plane, start = managed
    plane.want({**r.deployment(r.variant("champion", 1, bundles(1), 1)), "limits": {"memory_bytes": 1000}})
    start(ready=False)
    error = plane.wait_observed(state="failed")["deployments"][0]["variants"][0]["error"]
    assert "serve.memory allows 1000 B" in error
