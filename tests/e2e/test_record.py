"""`overtake serve --record` and `overtake replay`: what was asked is asked again, and answers are compared."""

import json
import os
import stat
import subprocess

import numpy as np
import pytest

import replica as r

ROWS = np.random.default_rng(7).random((5, 4), dtype=np.float32)


def replay(*args, expect=0):
    done = subprocess.run([str(r.OVERTAKE), "replay", *map(str, args), "--output", "json"], capture_output=True, text=True,
                          timeout=r.PATIENCE)
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout)


@pytest.fixture
def recording(serve, tmp_path):
    """Of 40 requests over two protocols to two models."""
    for name, factor in (("a", 1), ("b", 2)):
        r.write_raw(tmp_path / "models" / name, r.linear(np.eye(4) * factor))
    s = serve(tmp_path / "models", "--workers", 2, "--record", tmp_path / "r.otr")
    for k in range(10):
        assert s.infer("a", ROWS[: 1 + k % 5])[0] == 200
        assert s.infer("b", ROWS)[0] == 200
    s.infer("none", ROWS)
    s.post("/v2/models/a/infer", {})
    subprocess.run([r.OVERTAKE, "bench", s.address, "-m", "a", "-p", "grpc", "-n", "20", "--warm-up", "0s"], check=True,
                   capture_output=True)
    s.stop()
    return tmp_path / "r.otr"


@pytest.mark.parametrize("protocol", ["binary", "rest", "grpc"])
def test_all_that_was_answered_is_answered_again_alike(serve, tmp_path, recording, protocol):
    assert stat.S_IMODE(os.stat(recording).st_mode) == 0o600
    s = serve(tmp_path / "models")
    got = replay(recording, s.address, "-p", protocol, "--speed", 10)
    assert got["requests"] == 40 and got["measured"]["correct"] == got["measured"]["due"] == 40
    assert got["same_version"] == 40 and got["other_version"] == 0
    text = s.request("GET", "/metrics")[2].decode()
    assert 'overtake_requests_total{deployment="b",model="b",version="1",role="champion"} 10\n' in text


def test_requests_go_out_at_their_own_times(serve, tmp_path, recording):
    s = serve(tmp_path / "models")
    got = replay(recording, s.address)
    # The last is sent when it came then; and at twice the speed in half of the time.
    assert got["elapsed_s"] >= got["recorded_s"] > 0
    assert replay(recording, s.address, "-s", 2)["elapsed_s"] >= got["recorded_s"] / 2


def test_answers_that_differ_are_told(serve, tmp_path, recording):
    r.write_raw(tmp_path / "other" / "a", r.linear(np.eye(4)))
    r.write_raw(tmp_path / "other" / "b", r.linear(np.eye(4) * 3))
    s = serve(tmp_path / "other")
    got = replay(recording, s.address, "-s", 10, expect=1)
    assert got["measured"]["wrong"] == 10 and got["measured"]["correct"] == 30
    assert "output 'y': element 0 is" in got["first_fault"]
    got = replay(recording, s.address, "-s", 10, "-m", "a", expect=1)
    assert got["measured"]["wrong"] == 10, "b's answers are not a's"
    got = replay(recording, s.address, "-s", 10, "-m", "none", expect=1)
    assert got["measured"]["client_error"] == 40


def test_a_recording_is_bounded_and_sampled(serve, tmp_path):
    r.write_raw(tmp_path / "models" / "m", r.linear(np.eye(4)))
    s = serve(tmp_path / "models", "--record", tmp_path / "r.otr", "--record-max", "20k")
    for _ in range(200):
        assert s.infer("m", ROWS)[0] == 200
    said = s.stop()
    assert os.path.getsize(tmp_path / "r.otr") <= 20_000 and "is full" in said
    s = serve(tmp_path / "models")
    assert 20 < replay(tmp_path / "r.otr", s.address, "-s", 100)["measured"]["correct"] < 200
    s.stop()
    s = serve(tmp_path / "models", "--record", tmp_path / "s.otr", "--record-sample", "25%")
    for _ in range(400):
        s.infer("m", ROWS[:1])
    s.stop()
    s = serve(tmp_path / "models")
    assert 40 < replay(tmp_path / "s.otr", s.address, "-s", 100)["requests"] < 180


def test_what_is_no_recording(serve, tmp_path, recording):
    s = serve(tmp_path / "models")

    def says(path):
        done = subprocess.run([r.OVERTAKE, "replay", path, s.address], capture_output=True, text=True)
        assert done.returncode == 1
        return done.stderr
    (tmp_path / "none").write_bytes(b"something else")
    assert "this is no recording" in says(tmp_path / "none")
    data = bytearray(recording.read_bytes())
    (tmp_path / "cut").write_bytes(data[:-5])
    assert replay(tmp_path / "cut", s.address, "-s", 10)["requests"] == 39
    data[8] ^= 1
    (tmp_path / "bad").write_bytes(data)
    assert "damaged at byte 8" in says(tmp_path / "bad")
    done = subprocess.run([r.OVERTAKE, "serve", tmp_path / "models", "--listen", "127.0.0.1:0", "--record", recording],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "--record" in done.stderr and str(recording) in done.stderr
