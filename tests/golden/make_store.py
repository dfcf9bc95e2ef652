#!/usr/bin/env python3
"""Databases of a schema as its own program left them: tests/golden/store/schema-N.db.gz, and beside it what is in it.
tests/unit/store/migrate_test.c brings them forward with the program of today.

    python tests/golden/make_store.py --overtake build/previous/build/release/overtake

runs that program over a small loop: two trainings, the second released through shadow and canary, predictions, labels,
acts of a person. Made once for each schema that was released; a file that is in the tree never changes."""

import argparse
import gzip
import os
import pathlib
import sqlite3
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from kill_campaign import PROGRAM  # noqa: E402
from replica import wait_for  # noqa: E402
from up import App, Traffic, Up, two_classes  # noqa: E402


def loop(folder, overtake):
    x = two_classes(4, 7)[0]
    u = Up(folder / "data", exe=overtake)
    a = App(folder / "app", rows=200)
    (a.folder / "train.py").write_text(f"OUT = 'out/model'\nSTARTS = {str(folder / 'starts')!r}\n" + PROGRAM)
    a.apply(u.api, python="python3")
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, x)
    a.apply(u.api, python="python3",
            release=[{"canary": {"shares": ["50%"], "margin": 0.3, "at_most": "5min", "otherwise": "roll_back"}}])
    u.api.act("planes", "train")
    with Traffic(u, "planes", pause=0.05) as t:
        u.api.wait_event("version.promoted", "model/planes@2")
    assert t.problems == []
    u.api.act("planes", "pause")
    u.api.act("planes", "resume")
    wait_for("labels", lambda: u.api.app("planes")["quality"]["labels"]["waiting"] == 0)
    u.expected = [r"^.*"]
    u.stop()
    return folder / "data/store/store.db"


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def content(db):
    """One line a table: rows, bytes of their columns as SQL writes them, and the query that says both."""
    tables = [r[0] for r in db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")]
    for t in tables:
        columns = [r[1] for r in db.execute(f"PRAGMA table_info({quoted(t)})")]
        total = "+".join(f"length(quote({quoted(c)}))" for c in columns)
        sql = f"SELECT count(*), coalesce(sum({total}), 0) FROM {quoted(t)}"
        if t == "kv":  # the migration writes its own
            sql += " WHERE scope <> 'schema'"
        rows, size = db.execute(sql).fetchone()
        yield f"{rows} {size} {sql}"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--overtake", required=True, type=lambda s: pathlib.Path(s).resolve())
    p.add_argument("--out", default=ROOT / "tests/golden/store", type=pathlib.Path)
    args = p.parse_args()
    args.out.mkdir(exist_ok=True)
    os.environ["USER"] = "anna"
    with tempfile.TemporaryDirectory(prefix="overtake-golden-") as folder:
        folder = pathlib.Path(folder)
        path = loop(folder, args.overtake)
        small = folder / "small.db"
        db = sqlite3.connect(path)
        db.execute("VACUUM INTO ?", (str(small),))
        db.close()
        db = sqlite3.connect(small)
        schema = db.execute("PRAGMA user_version").fetchone()[0]
        seq, head = db.execute("SELECT seq, hex(hash) FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        lines = [f"{seq} {head.lower()}", *content(db)]
        db.close()
        (args.out / f"schema-{schema}.txt").write_text("\n".join(lines) + "\n")
        (args.out / f"schema-{schema}.db.gz").write_bytes(gzip.compress(small.read_bytes(), 9, mtime=0))
    print(f"schema {schema}: {seq} events, {len(lines) - 1} tables")


if __name__ == "__main__":
    main()
