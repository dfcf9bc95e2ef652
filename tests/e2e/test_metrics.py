"""What a replica tells Prometheus: read by Prometheus' own parser and linter, and added up."""

import shutil
import subprocess

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import replica as r

LABELS = {"deployment": "m", "model": "m", "version": "1", "role": "champion"}
PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=r.ROOT / ".deps/promtool/usr/bin")


def text_of(s):
    status, head, body = s.request("GET", "/metrics")
    assert status == 200 and head["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return body.decode()


def families(text):
    return {f.name: f for f in text_string_to_metric_families(text)}


def value(family, name, **labels):
    found = [x.value for x in family.samples if x.name == name and
             all(x.labels.get(k) == v for k, v in labels.items())]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_stages_add_up(linear):
    for k in range(7):
        linear.infer("m", np.zeros((k + 1, 4)))
    linear.post("/v2/models/m/infer", {})  # refused before any stage
    f = families(text_of(linear))
    total = value(f["overtake_request_seconds"], "overtake_request_seconds_sum", **LABELS)
    spent = {}
    for stage in ("queue", "batch", "run", "encode"):
        one = dict(LABELS, stage=stage)
        assert value(f["overtake_stage_seconds"], "overtake_stage_seconds_count", **one) == 7, stage
        steps = [x.value for x in f["overtake_stage_seconds"].samples
                 if x.name.endswith("_bucket") and x.labels["stage"] == stage]
        assert steps == sorted(steps) and steps[-1] == 7 and len(steps) == 22
        spent[stage] = value(f["overtake_stage_seconds"], "overtake_stage_seconds_sum", **one)
    assert all(x > 0 for x in spent.values()), spent
    # The request's time ends where its result is there, and the encoding goes on a little longer.
    assert spent["queue"] + spent["batch"] + spent["run"] <= total <= sum(spent.values()), (spent, total)


def test_stages_of_the_pool(serve, tmp_path):
    """What waits for the pool waits in `queue`; what was refused before a run is in no stage."""
    r.write_raw(tmp_path / "m", r.linear(np.eye(4), delay_us=2000))
    s = serve(tmp_path, "--inline", "0s", "--workers", 1)
    for _ in range(3):
        assert s.infer("m", np.zeros((1, 4)))[0] == 200
    assert s.infer("m", np.zeros((1, 4)), headers={"overtake-deadline-ms": "0"})[0] == 504
    f = families(text_of(s))
    assert value(f["overtake_requests"], "overtake_requests_total", **LABELS) == 4
    for stage in ("queue", "batch", "run", "encode"):
        assert value(f["overtake_stage_seconds"], "overtake_stage_seconds_count", stage=stage, **LABELS) == 3
    assert value(f["overtake_stage_seconds"], "overtake_stage_seconds_sum", stage="run", **LABELS) >= 3 * 0.002


def test_promtool_finds_nothing_wrong(serve, tmp_path):
    if PROMTOOL is None:
        pytest.skip("promtool is not installed (tools/deps.sh promtool)")
    r.write_raw(tmp_path / "models" / "m", r.linear(np.eye(4)))
    s = serve(tmp_path / "models", "--record", tmp_path / "r.otr", "--otlp", "http://127.0.0.1:9", "--trace-sample", "100%")
    s.infer("m", np.zeros((1, 4)))
    text = text_of(s)
    assert "overtake_traced_requests_total" in text and "overtake_recorded_requests_total" in text
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert subprocess.run([PROMTOOL, "check", "metrics"], input="x{ 1\n", capture_output=True, text=True).returncode != 0
