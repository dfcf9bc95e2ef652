"""Fixtures of the end-to-end tests. The build folder is $BUILD (build/release)."""

import os
import re
import signal
import subprocess
import sys

import pytest

import browser
from linear_model import ROWS, W
from replica import BUILD, OVERTAKE, PATIENCE, ROOT, ControlPlane, Replica, make_bundle, store_bundle, write_raw
from replica import linear as linear_of
from up import App, Up

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would all programs


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The models that tests/golden/make_models.py writes."""
    folder = tmp_path_factory.mktemp("models")
    done = subprocess.run([sys.executable, ROOT / "tests/golden/make_models.py", folder, "onnx", "null"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def serve(tmp_path):
    """serve(DIR, ...) starts a replica; those still running at the end are killed."""
    running = []

    def start(*args, ready=True):
        r = Replica(*args, log=tmp_path / f"serve{len(running)}.log")
        running.append(r)
        return r.wait_ready() if ready else r
    yield start
    for r in running:
        r.kill()
        assert "Sanitizer" not in open(r.log_path, errors="replace").read(), r.log_path


@pytest.fixture
def control(tmp_path):
    """A control plane at tmp_path/agent.sock with a content store at tmp_path/blobs."""
    (tmp_path / "blobs").mkdir()
    planes = []

    def start(acks=True):
        planes.append(ControlPlane(tmp_path / "agent.sock", tmp_path / "blobs", acks))
        return planes[-1]
    yield start
    for p in planes:
        p.close()


@pytest.fixture
def bundles(tmp_path):
    """bundle(number, ...) stores a bundle whose answers are x W + number; returns its digest."""
    def make(number, **more):
        folder = tmp_path / f"bundle{number}-{len(list(tmp_path.iterdir()))}"
        how = {k: more.pop(k) for k in list(more) if k in ("delay_us", "fail_every", "fail_on_nan")}
        digest = make_bundle(folder, linear_of(W, bias=[number, number], **how),
                               **{"golden": ROWS, **more})
        store_bundle(tmp_path / "blobs", folder)
        return digest
    return make


@pytest.fixture
def managed(tmp_path, serve, control):
    """(control plane, start replica)."""
    plane = control()

    def start(*args, id="replica-0", ready=True):
        return serve("--agent", f"unix:{tmp_path}/agent.sock", "--data", tmp_path / f"data-{id}",
                     "--id", id, *args, ready=ready)
    return plane, start


@pytest.fixture
def up(tmp_path):
    """up() starts `overtake up` in tmp_path/data; what still runs at the end is stopped and must have
    ended well, with no warning in its log that the test did not expect."""
    running = []

    def start(*args, name="data", **how):
        running.append(Up(tmp_path / name, *args, **how))
        return running[-1]
    yield start
    try:
        for u in running:
            if u.process.returncode is None:
                u.stop()
    finally:
        for u in running:
            u.kill()


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A control plane for the tests of a module that bring nothing into it."""
    u = Up(tmp_path_factory.mktemp("still") / "data")
    yield u
    try:
        u.stop()
    finally:
        u.kill()


@pytest.fixture
def cli(up, tmp_path):
    """cli(WORD...) is a command in tmp_path that finds the control plane by its data directory."""
    system = up()

    def call(*args, code=0):
        done = subprocess.run([OVERTAKE, *map(str, args)], cwd=tmp_path,
                              capture_output=True, text=True, timeout=PATIENCE,
                              env={**os.environ, "USER": "anna", "TZ": "UTC",
                                   "OVERTAKE_DIR": str(system.data)})
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr or done.stdout
    call.up = system
    return call


@pytest.fixture
def app(tmp_path):
    """app() makes the folder of a small app: two classes, learnt by least squares."""
    def make(name="planes", **how):
        return App(tmp_path / f"app-{name}", name, **how)
    return make


@pytest.fixture
def linear(tmp_path, serve):
    """A replica that serves linear_model's model as `m`."""
    write_raw(tmp_path / "models" / "m", linear_of(W))
    return serve(tmp_path / "models", "--workers", 2)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    if browser.find() is None:
        pytest.skip("no Chromium here; on Debian: make deps-browser")
    b = browser.Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield b
    b.close()


@pytest.fixture
def page(chromium):
    """A tab; what it complained of, or asked another machine for, fails the test."""
    p = chromium.page()
    yield p
    chromium.close_page(p)
    assert not p.complaints(), p.complaints()
    foreign = [u for u in p.requests if not re.match(r"http://127\.0\.0\.1:\d+/|about:", u)]
    assert not foreign, foreign
