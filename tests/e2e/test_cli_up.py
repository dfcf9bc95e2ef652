"""The commands against a running control plane: what a person does from a program to a version that
serves, and what they read on the way."""

import json
import re
import signal
import subprocess
import sys

from replica import OVERTAKE, PATIENCE, wait_for


def test_from_a_program_to_a_version_that_serves(cli, app, tmp_path):
    a = app()
    program = a.folder / "train.py"
    out = cli("init", program, "--app", "planes")
    file = a.folder / "app.yaml"
    assert f"wrote {file}" in out and f"overtake apply {file}" in out
    # The program reads $OVERTAKE_DATA, so that its text cannot say which file that is; and it names
    # its model in a variable.
    text = file.read_text()
    assert text.count("FILL IN") >= 2
    text = text.replace("data.npz", "base.npz").replace("out/model.onnx", "out/model")
    file.write_text(text.replace("run: python ", f"run: {sys.executable} "))

    assert cli("check", file).startswith("app planes: fine")
    assert "+ app: planes" in cli("apply", file, "--diff", code=3)
    assert "no apps yet" in cli("status")
    out = cli("apply", file)
    assert "app planes: in force, new here" in out and "its first run has started" in out
    assert "no setting would change" in cli("apply", file, "--diff")

    cli.up.api.wait_event("version.promoted")
    cli.up.wait_replica()
    assert re.search(r"^planes +v1 +\d+s +running +idle", cli("status"), re.M)
    out = cli("status", "planes")
    assert re.search(r"^  champion +v1 since \d{4}-", out, re.M), out
    assert re.search(r"^  loop +running$", out, re.M) and re.search(r"^  drift +inputs: ", out, re.M), out
    assert cli("why", "planes").startswith("v1 serves because v1 promoted")
    assert re.search(r"^  \S+ \S+ +\d+  anna +app planes applied$", cli("why", "planes", "v1"), re.M)
    assert "no version 7" in cli("why", "planes", "not", "v7", code=1)

    runs = cli("runs", "--app", "planes").splitlines()
    assert [line.split()[2:4] for line in runs[1:]][-1] == ["train", "succeeded"]
    number = runs[-1].split()[0]
    assert "training on" in cli("logs", number)
    assert "training on" in cli("logs", number, "--follow")
    assert "planes" in cli("models") and "champion" in cli("models", "planes")
    assert len(cli("replicas").splitlines()) == 2
    assert "no labelled rows" in cli("accuracy", "planes")
    assert cli("events", "verify").startswith("the log is whole")
    for command in (["status"], ["status", "planes"], ["why", "planes"], ["runs"], ["models"],
                    ["models", "planes"], ["replicas"], ["events"], ["events", "verify"],
                    ["accuracy", "planes"]):
        json.loads(cli(*command, "--output", "json"))


def test_the_brake(cli, app):
    a = app()
    (a.folder / "app.yaml").write_text(a.yaml())
    cli("apply", a.folder / "app.yaml")
    cli.up.api.wait_event("version.promoted")
    cli("pause", "planes", "--reason", "nightly")
    out = cli("status", "planes")
    assert "paused by anna: nightly; overtake resume planes" in out
    cli("resume", "planes")
    assert re.search(r"^  loop +running", cli("status", "planes"), re.M)
    assert "needs a reason" in cli("rollback", "planes", code=1)
    cli("pin", "planes", "v1", "--reason", "it is good")
    assert "pinned by anna: it is good" in cli("status", "planes")
    assert "app 'other' is not here" in cli("train", "other", code=1)
    assert "nothing at" in cli("push", "planes", "no/such/model", code=1)
    acts = [e for e in cli.up.api.events(type="loop.")]
    assert [e["type"] for e in acts] == ["loop.paused", "loop.resumed", "loop.pinned"]
    assert {e["actor"] for e in acts} == {"anna"}


def test_following_outlives_a_restart_of_the_control_plane(cli, app):
    a = app()
    (a.folder / "app.yaml").write_text(a.yaml())
    cli("apply", a.folder / "app.yaml")
    cli.up.api.wait_event("version.promoted")
    p = subprocess.Popen([OVERTAKE, "events", "--follow", "--after", "0", "--data", cli.up.data,
                          "--output", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        seen = []
        while not seen or seen[-1]["type"] != "version.promoted":
            seen.append(json.loads(p.stdout.readline()))
        cli.up.expect_log("control")
        cli.up.kill_child("control")
        wait_for("control plane", cli.up.answers)
        cli("pause", "planes")
        while seen[-1]["type"] != "loop.paused":
            seen.append(json.loads(p.stdout.readline()))
        assert [e["seq"] for e in seen] == list(range(1, len(seen) + 1))
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=PATIENCE) == -signal.SIGINT
        assert "the stream broke off; again from event" in p.stderr.read()
    finally:
        p.kill()
        p.wait()
        p.stdout.close()
        p.stderr.close()


def test_labels_from_a_file_join_what_was_answered(cli, app, tmp_path):
    a = app()
    (a.folder / "app.yaml").write_text(a.yaml())
    cli("apply", a.folder / "app.yaml")
    cli.up.api.wait_event("version.promoted")
    rows = [[0.1 * i, 0, 0, 0] for i in range(5)]
    cli.up.wait_serves("planes", 1, rows)
    status, headers, _ = cli.up.infer("planes", rows)
    assert status == 200
    first = headers["overtake-prediction-id"]
    cli.up.api.wait_event("samples.received")
    (tmp_path / "truth.csv").write_text(f"prediction,class\n{first},1\n")
    out = json.loads(cli("labels", "import", "truth.csv", "--deployment", "planes", "--id", "prediction",
                         "--label", "class", "--output", "json"))
    assert (out["rows"], out["accepted"], out["joined"], out["unknown"]) == (1, 1, 1, 0)
    assert "1 joined in all" in cli("status", "planes")
    assert re.match(r"v1: [01] \(95%: ", cli("accuracy", "planes"))
