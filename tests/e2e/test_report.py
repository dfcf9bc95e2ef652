"""`overtake report`: what it holds, and what must never be in it."""

import json
import os
import subprocess
import sys
import tarfile

from replica import OVERTAKE, wait_for
from up import TRAIN, Traffic

SECRETS = {
    "environment": "env-5e0f7d1c-value",
    "user": "hookuser-8c1f",
    "password": "hookpass-0b7e",
    "query": "hookquery-77aa",
    "path": "T0HOOKPATH55",
    "argument": "argument-1d2c3b",
    "bearer": "bearer-9f8e7d6c5b",
    "header": "header-a1b2c3d4",
    "cookie": "cookie-c00c1e5",
    "aws": "AKIAQWERTYUIOPASDFGH",
    "github": "ghp_abcdefghij0123456789ABCDEFGHIJ",
    "pem": "MIIEpemBodyThatIsSecret",
    "json": "jsonsecret-44bb",
    "reason": "reason-token-98ff",
}
ROW = 31337.578125


def report(path, data, *args, **how):
    """(what the command said, {name: bytes}) of a bundle."""
    done = subprocess.run([OVERTAKE, "report", path, "--data", data, "--output", "json", "--no-app", *map(str, args)],
                          capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stderr
    with tarfile.open(path) as t:
        files = {m.name.split("/", 1)[1]: t.extractfile(m).read() for m in t}
    assert os.stat(path).st_mode & 0o077 == 0
    return json.loads(done.stdout), files


def manifest_of(files):
    m = json.loads(files["manifest.json"])
    assert {e["name"]: e["bytes"] for e in m["entries"]} == {
        n: len(b) for n, b in files.items() if n != "manifest.json"}
    return m


def leaks(files, *more):
    return [(what, name) for what, secret in [*SECRETS.items(), *((m, m) for m in more)]
            for name, text in files.items() if secret.encode() in text]


def test_no_secret_and_no_data_gets_out(up, app, tmp_path, monkeypatch):
    s = SECRETS
    monkeypatch.setenv("MY_SERVICE_TOKEN", s["environment"])
    monkeypatch.setenv("HOME", str(tmp_path))
    u, a = up(), app()
    u.expect_log("alert", "webhook")
    says = "\n".join([
        f"my token is {s['environment']}", f"curl -H 'Authorization: Bearer {s['bearer']}'",
        f"X-Api-Key: {s['header']}", f"Cookie: id={s['cookie']}", f"aws {s['aws']} gh {s['github']}",
        "-----BEGIN PRIVATE KEY-----", s["pem"], "-----END PRIVATE KEY-----",
        json.dumps({"client_secret": s["json"]}), json.dumps(json.dumps({"client_secret": s["json"]})),
        f"token file: {(u.data / 'token').read_text().strip()}"])
    a.program(TRAIN + f"\n    print({says!r})\n")
    hook = f"http://{s['user']}:{s['password']}@127.0.0.1:1/{s['path']}/x?key={s['query']}"
    a.apply(u.api, run=f"{sys.executable} train.py --password={s['argument']}", alerts={"webhook": hook})
    u.api.act("planes", "pause", reason=f"secret: {s['reason']}")
    u.api.act("planes", "resume")
    u.api.wait_event("version.promoted", "model/planes@1")
    with Traffic(u, "planes") as traffic:
        wait_for("labels", lambda: traffic.accepted > 20)
    u.infer("planes", [[ROW] * 4])
    said, files = report(tmp_path / "r.tar.gz", u.data)
    m = manifest_of(files)
    token = (u.data / "token").read_text().strip()
    ids = [i for i, _ in traffic.ids[:5]]
    assert not leaks(files, token, str(ROW), str(tmp_path), *ids)
    assert m["redacted"] == said["redacted"] > 10
    assert {"versions.json", "environment.txt", "doctor.json", "health.json", "apps.json", "app-planes.json",
            "config-planes.yaml", "why-planes.json", "windows-planes.json", "events.json", "verify.json",
            "runs.json", "models.json", "metrics.txt", "runs/1-log", "runs/1-exit.json"} <= set(files)
    assert b"training on" in files["runs/1-log"] and b"[redacted]" in files["runs/1-log"]
    assert b"MY_SERVICE_TOKEN" in files["environment.txt"]
    assert any("never taken" in x["why"] for x in m["left_out"])
    for name, text in files.items():
        if name.endswith(".json"):
            json.loads(text)


def test_the_limit_and_a_control_plane_that_is_gone(up, tmp_path):
    u = up()
    token = u.api.token
    runs = u.data / "runs"
    for i in range(1, 31):
        (runs / str(i)).mkdir(parents=True)
        (runs / str(i) / "log").write_text(f"run {i} says\n" + "x" * 99 + "\n" * 5000 + f"the end of {i}\n")
    u.wait_replica()
    u.stop()
    said, files = report(tmp_path / "a.tar.gz", u.data)
    m = manifest_of(files)
    assert "replica.connected" in files["events.json"].decode()
    assert token.encode() not in b"".join(files.values())
    assert "runs/30-log" in files and "runs/11-log" in files and "runs/10-log" not in files
    assert any("control plane" in x["what"] for x in m["left_out"])
    said, files = report(tmp_path / "b.tar.gz", u.data, "--max", "64KiB")
    m = manifest_of(files)
    assert sum(e["bytes"] for e in m["entries"]) <= 64 << 10
    assert any("limit" in x["why"] and x["what"].startswith("runs/") for x in m["left_out"])
    _, files = report(tmp_path / "c.tar.gz", u.data, "--no-logs")
    assert not [n for n in files if n.startswith("runs/")]
    done = subprocess.run([OVERTAKE, "report", tmp_path / "c.tar.gz", "--data", u.data], capture_output=True, text=True)
    assert done.returncode == 1 and "already" in done.stderr
