"""The operators' file at work: what an app may not ask for, who may approve, a file that changes under it."""

import json
import os
import signal
import subprocess

import pytest

from replica import OVERTAKE, PATIENCE, wait_for
from up import ApiError, two_classes

SITE = """schema: overtake.site/1
contact: ops@example.org
quotas: {runs_at_once: 1, memory: 1GiB, time: 5min}
release:
  - approval: {by: [tester]}
"""
X = two_classes(5, 99)[0]


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def overtake(system, cwd, *args):
    return subprocess.run([OVERTAKE, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=PATIENCE,
                          env={**os.environ, "OVERTAKE_DIR": str(system.data), "USER": "tester"})


def test_a_site(up, app, site, tmp_path):
    u, a = up("--site", site), app()
    file = a.folder / "app.yaml"

    def apply(yaml, *args):
        file.write_text(yaml)
        return overtake(u, tmp_path, "apply", file, "--output", "json", *args)

    # Refused with the places of both files, as a list for reviews; nothing is in force.
    asked = [{"approval": {}}]
    done = apply(a.yaml(release=asked, train={
        "run": "sh t.sh", "data": ["base"], "model": "out/model", "resources": {"memory": "2GiB"}}), "--diff")
    (error,) = json.loads(done.stdout)["errors"]
    assert done.returncode == 1 and error["file"] == str(file) and error["line"] > 1 and error["column"] > 1
    assert error["message"] == ("train.resources.memory 2GiB is more than site.yaml:3:35 allows (1GiB); lower it or ask "
                                "ops@example.org")
    done = apply(a.yaml(train={"run": "sh t.sh", "data": ["base"], "model": "out/model", "resources": {"memory": "2GiB"}}))
    assert [e["file"] for e in json.loads(done.stdout)["errors"]] == [str(file)] * 2 and done.stderr.count("\n") == 2
    done = apply(a.yaml())
    assert done.returncode == 1 and "release has no approval, and site.yaml:5:5 demands one" in done.stderr
    assert u.api.get("/apps") == {"apps": []}
    assert apply(a.yaml(release=asked), "--dif").returncode == 2

    # Within it: what would change, that it changed, that nothing would.
    done = apply(a.yaml(release=asked), "--diff")
    diff = {d["key"]: (d["from"], d["to"]) for d in json.loads(done.stdout)["diff"]}
    assert done.returncode == 3 and diff["train.resources.memory"] == (None, "1GiB")  # the default was over it
    assert diff["release.approval.by"] == (None, "[tester]")
    assert apply(a.yaml(release=asked)).returncode == 0
    done = apply(a.yaml(release=asked), "--diff")
    assert done.returncode == 0 and json.loads(done.stdout)["diff"] == []

    # Who may approve.
    u.api.wait_event("approval.requested")
    u.api.actor = "somebody"
    with pytest.raises(ApiError) as e:
        u.api.act("planes", "approve")
    assert e.value.status == 403 and "may be approved by tester, not by somebody" in e.value.message
    u.api.actor = "tester"
    assert overtake(u, tmp_path, "approve", "planes", "--reason", "fine").returncode == 0
    u.wait_serves("planes", 1, X)

    # Tighter, and read again: it serves on, but trains no more, and says why where people look.
    u.expect_log("the control plane is gone")
    head = u.api.head()
    site.write_text(SITE.replace("time: 5min", "time: 1min"))
    u.process.send_signal(signal.SIGHUP)
    forbids = wait_for("the app to be forbidden", lambda: [
        e for e in wait_up(u) if e["type"] == "site.forbids" and e["seq"] > head])
    assert "train.resources.time 2min is more than site.yaml:3:47 allows (60s)" in forbids[0]["payload"]["text"], forbids
    u.wait_serves("planes", 1, X)
    done = overtake(u, tmp_path, "train", "planes")
    assert done.returncode == 1 and "app planes is not allowed here: app.yaml:" in done.stderr
    assert "FORBIDS it: no run starts, no release moves: app.yaml:" in overtake(u, tmp_path, "status", "planes").stdout

    # The control plane alone reads it again on SIGHUP; a file with an error changes nothing.
    u.expect_log("the site file is refused")
    site.write_text("schema: overtake.site/1\nqoutas: {}\n")
    os.kill(u.child("control"), signal.SIGHUP)
    refused = u.api.wait_event("site.refused", after=head)
    assert "site.yaml:2:1: 'qoutas' is not known in the site; did you mean 'quotas'?" in refused["payload"]["text"]
    assert u.api.app("planes")["site"]["forbids"]
    site.write_text(SITE)
    os.kill(u.child("control"), signal.SIGHUP)
    u.api.wait_event("site.allows", "app/planes", after=refused["seq"])
    assert u.api.app("planes")["site"] == {"file": "site.yaml", "forbids": None}
    assert overtake(u, tmp_path, "train", "planes").returncode == 0


def wait_up(u):
    """The events of a control plane that may just be starting."""
    try:
        return u.api.events()
    except OSError:
        return []


def test_a_site_alone(tmp_path):
    def check():
        return subprocess.run([OVERTAKE, "check", "--site", "site.yaml", "--output", "json"], cwd=tmp_path,
                              capture_output=True, text=True, timeout=PATIENCE)
    (tmp_path / "site.yaml").write_text(SITE)
    done = check()
    assert done.returncode == 0 and json.loads(done.stdout) == {"stages": 1, "change_windows": 0, "errors": []}
    (tmp_path / "site.yaml").write_text(SITE.replace("memory", "memroy"))
    done = check()
    assert done.returncode == 1 and json.loads(done.stdout)["errors"] == [{
        "file": "site.yaml", "line": 3, "column": 27,
        "message": "'memroy' is not known in quotas; did you mean 'memory'?"}]


def test_up_does_not_start_with_a_bad_site(tmp_path):
    (tmp_path / "site.yaml").write_text("schema: overtake.site/1\nquotas: {cpu: all}\n")
    done = subprocess.run([OVERTAKE, "up", "--site", "site.yaml", "--data", "data", "--listen", "127.0.0.1:0",
                           "--control", "127.0.0.1:0"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1 and "site.yaml:2:15: cpu: " in done.stderr
    assert not (tmp_path / "data").exists()
