"""`overtake top`: what it shows of replicas, to scripts and on a terminal."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import numpy as np
import pytest

import replica as r


def top(*args, expect=0):
    done = subprocess.run([str(r.OVERTAKE), "top", *map(str, args)], capture_output=True, text=True, timeout=r.PATIENCE)
    assert done.returncode == expect, done
    return done.stdout


def test_figures_of_a_replica(linear):
    for k in range(20):
        linear.infer("m", np.zeros((2, 4)))
    p = subprocess.Popen([str(r.OVERTAKE), "bench", linear.address, "--rate", "200", "-d", "60s", "--output", "json"],
                         stdout=subprocess.DEVNULL)
    try:
        r.wait_for("load", lambda: linear.get("/v2/models/m/stats")["model_stats"][0]["inference_count"] > 60)
        got = json.loads(top(linear.address, "--once", "--output", "json", "-i", "500ms"))["replicas"][0]
    finally:
        p.kill()
        p.wait()
    assert got["answers"] and got["ready"] and got["memory_bytes"] > 1e6
    v = got["variants"][0]
    assert (v["deployment"], v["version"], v["role"], v["share"]) == ("m", "1", "champion", 1)
    assert v["requests_total"] > 40 and v["requests_per_s"] > 0 and v["failed_per_s"] == 0
    assert got["answers_2xx_per_s"] >= v["requests_per_s"]
    assert 0 < v["p50_s"] <= v["p99_s"]


def test_lines_without_a_terminal(linear):
    text = top(linear.address, "127.0.0.1:1", "--once", "-i", "100ms")
    assert re.search(rf"^{linear.address}  ready  revision \d+  ", text, re.M)
    assert re.search(r"^  m +1 champion +", text, re.M)
    assert "127.0.0.1:1  does not answer: " in text and "\x1b" not in text
    assert "does not answer" in top("127.0.0.1:1", "--once", "-i", "100ms", expect=1)


def test_a_terminal_that_changes_its_size(linear):
    try:
        main, other = pty.openpty()
    except OSError as why:
        pytest.skip(f"no pseudo-terminal: {why}")
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    p = subprocess.Popen([str(r.OVERTAKE), "top", linear.address, "-i", "200ms"], stdout=other, stdin=other)
    os.close(other)
    seen = b""

    def read():
        nonlocal seen
        with contextlib.suppress(OSError):  # its end has gone
            if select.select([main], [], [], 0.1)[0]:
                seen += os.read(main, 65536)

    def screens():
        read()
        return [x.decode().splitlines() for x in seen.split(b"\x1b[H\x1b[2J")[1:-1]]
    try:
        narrow = r.wait_for("two screens", lambda: len(screens()) > 1 and screens())
        assert max(len(line) for line in narrow[-1]) == 40, narrow[-1]
        fcntl.ioctl(main, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
        p.send_signal(signal.SIGWINCH)
        r.wait_for("a wider screen", lambda: screens() and max(len(line) for line in screens()[-1]) == 70)
    finally:
        p.send_signal(signal.SIGINT)
        end = time.monotonic() + r.PATIENCE
        while p.poll() is None and time.monotonic() < end:
            read()
        os.close(main)
    assert p.returncode == 0
