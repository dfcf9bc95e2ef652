"""The command line and its documents, by what a person types and sees."""

import json
import subprocess

from replica import OVERTAKE, PATIENCE, ROOT

LEAST = """schema: overtake/1
app: digits
data: {base: {path: digits.npz}}
train: {run: python train.py, data: [base], model: out/model}
serve: digits
"""


def overtake(*args, **kw):
    return subprocess.run([OVERTAKE, *args], capture_output=True, text=True, timeout=PATIENCE, **kw)


def test_reference_in_docs_is_what_the_tables_say():
    printed = overtake("config", "reference").stdout
    assert len(printed) > 5000
    assert printed in (ROOT / "docs" / "app-yaml.md").read_text(), \
        "docs/app-yaml.md is behind: put the output of `overtake config reference` there"


def test_reference_of_the_site_in_docs_is_what_the_tables_say():
    printed = overtake("config", "reference", "site").stdout
    assert len(printed) > 2000
    assert printed in (ROOT / "docs" / "site-yaml.md").read_text(), \
        "docs/site-yaml.md is behind: put the output of `overtake config reference site` there"


def test_the_site_of_the_docs_is_one(tmp_path):
    text = (ROOT / "docs" / "site-yaml.md").read_text()
    lines = text[text.index("    schema: overtake.site/1"):].split("\n\n")[0].splitlines()
    (tmp_path / "site.yaml").write_text("\n".join(line[4:] for line in lines) + "\n")
    (tmp_path / "digits.npz").write_bytes(b"")
    assert overtake("check", "--site", "site.yaml", cwd=tmp_path).stdout == \
        "site site.yaml: fine (4 release stages, 1 change windows)\n"
    app = LEAST + "release: [gate: {better_on: base}, approval: {}, canary: {}, probation: {}]\n"
    (tmp_path / "app.yaml").write_text(app)
    done = overtake("check", "app.yaml", "--site", "site.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "app.yaml").write_text(app.replace("canary: {}", "canary: {shares: 20%}"))
    done = overtake("check", "app.yaml", "--site", "site.yaml", cwd=tmp_path)
    assert done.returncode == 1 and "more than site.yaml:11:27 allows (10%)" in done.stderr


def test_check_accepts_the_least_app(tmp_path):
    (tmp_path / "app.yaml").write_text(LEAST)
    (tmp_path / "digits.npz").write_bytes(b"")
    done = overtake("check", str(tmp_path / "app.yaml"), "--output", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"app": "digits", "data": 1, "stages": 0, "errors": []}


def test_check_names_the_line_of_what_is_wrong(tmp_path):
    (tmp_path / "app.yaml").write_text(LEAST.replace("model:", "modell:"))
    done = overtake("check", str(tmp_path / "app.yaml"))
    assert done.returncode == 1
    assert "app.yaml:4:45: 'modell' is not known in train; did you mean 'model'?" in done.stderr


def test_check_names_data_that_are_not_there(tmp_path):
    (tmp_path / "app.yaml").write_text(LEAST)
    done = overtake("check", str(tmp_path / "app.yaml"))
    assert done.returncode == 1
    assert "app.yaml:3:8: data 'base': nothing at" in done.stderr


def test_what_config_show_prints_can_be_read_again(tmp_path):
    (tmp_path / "app.yaml").write_text(LEAST)
    first = overtake("config", "show", str(tmp_path / "app.yaml"))
    assert first.returncode == 0, first.stderr
    (tmp_path / "again.yaml").write_text(first.stdout)
    again = overtake("config", "show", str(tmp_path / "again.yaml"))
    assert again.stdout == first.stdout


def test_usage_errors_name_the_way_out(tmp_path):
    done = overtake("chek")
    assert done.returncode == 2
    assert "'check'" in done.stderr
    done = overtake("check")
    assert done.returncode == 2
    assert "file" in done.stderr
    done = overtake("check", "x", "--ouput", "json")
    assert done.returncode == 2
    assert "--output" in done.stderr


def test_every_command_explains_itself():
    listing = overtake("help").stdout
    for name in ("check", "config show", "serve", "plugins", "version"):
        assert f"\n  {name} " in listing, name
        done = overtake(*name.split(), "--help")
        assert done.returncode == 0 and f"Usage: overtake {name}" in done.stdout, name
