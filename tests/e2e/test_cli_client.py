"""The commands that talk to the control plane, against a server that keeps what they asked and answers
what it is told."""

import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
OVERTAKE = ROOT / os.environ.get("BUILD", "build/release") / "overtake"
TIMEOUT = 60
T0 = 1_764_000_000_000_000  # 2025-11-24 16:00:00 UTC


class Fake:
    def __init__(self):
        self.asked = []    # (method, path, query, headers, body)
        self.answers = {}  # (method, path) -> (status, JSON or bytes), or a list of them
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self):
                url = urllib.parse.urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = urllib.parse.unquote(url.path)
                fake.asked.append((self.command, path, dict(urllib.parse.parse_qsl(url.query)),
                                   self.headers, body))
                status, value = fake.next(self.command, path)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = answer

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, address):
                if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may go away
                    super().handle_error(request, address)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def next(self, method, path):
        value = self.answers.get((method, path), (404, {"error": f"{method} {path}: not here"}))
        if isinstance(value, list):
            value = value.pop(0) if value else (500, {"error": "the fake has no more answers"})
        return value

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fake():
    f = Fake()
    yield f
    f.close()


@pytest.fixture
def run(fake, tmp_path):
    """run(WORD...) is the command against the fake server, in tmp_path."""
    def call(*args, env=(), code=0):
        done = subprocess.run([OVERTAKE, *map(str, args), "--url", fake.url], cwd=tmp_path,
                              capture_output=True, text=True, timeout=TIMEOUT,
                              env={**os.environ, "TZ": "UTC", "USER": "anna", "OVERTAKE_TOKEN": "secret",
                                   **dict(env)})
        assert done.returncode == code, done.stdout + done.stderr
        return done
    return call


def test_requests_carry_token_and_actor(fake, run):
    fake.answers["GET", "/api/v1/apps"] = (200, {"apps": []})
    assert "no apps yet" in run("status").stdout
    headers = fake.asked[-1][3]
    assert headers["Authorization"] == "Bearer secret" and headers["overtake-actor"] == "anna"
    for user, actor in (("a\tb\r\nX: y", "a?b??X:?y"), ("x" + "é" * 80, "x" + "é" * 31)):
        run("status", env={"USER": user}.items())
        # http.server reads headers as Latin-1.
        assert fake.asked[-1][3]["overtake-actor"].encode("latin-1").decode() == actor
    for user in ("", b"\xff"):
        run("status", env={"USER": user}.items())
        assert fake.asked[-1][3]["overtake-actor"] == f"uid-{os.getuid()}"


def test_json_is_what_the_api_said(fake, run):
    said = {"apps": [{"app": "digits", "new": [1, 2.5, None, "ü"]}]}
    fake.answers["GET", "/api/v1/apps"] = (200, said)
    assert json.loads(run("status", "--output", "json").stdout) == said


def test_errors_are_the_servers_words(fake, run):
    fake.answers["GET", "/api/v1/apps/digits"] = (404, {"error": "app 'digits' is not here"})
    done = run("status", "digits", code=1)
    assert done.stderr == "overtake: app 'digits' is not here\n" and done.stdout == ""
    done = run("status", "digits", "--output", "json", code=1)
    assert json.loads(done.stdout) == {"error": "app 'digits' is not here", "code": "not_found"}


def test_nobody_there_names_address_and_data_directory(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % s.getsockname()[1]
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "control.addr").write_text(address)
        for command in (["status"], ["why", "a"], ["events", "--follow"], ["train", "a"], ["logs", "1"]):
            done = subprocess.run([OVERTAKE, *command, "--data", "d"], cwd=tmp_path, capture_output=True,
                                  text=True, timeout=TIMEOUT)
            assert done.returncode == 1
            assert done.stderr == (f"overtake: no control plane at {address}; start one with "
                                   "`overtake up` (data directory d)\n")
    done = subprocess.run([OVERTAKE, "status", "--data", "e"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=TIMEOUT)
    assert done.returncode == 1 and "`overtake up --data e`" in done.stderr


# ---- apply

APP = """schema: overtake/1
app: digits
data: {base: {path: digits.npz}}
train: {run: python train.py, data: [base], model: out/model}
serve: digits
"""


def test_apply_sends_the_file_and_where_it_lies(fake, run, tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "app.yaml").write_text(APP)
    (folder / "digits.npz").write_bytes(b"")
    fake.answers["POST", "/api/v1/apps"] = (200, {"app": "digits", "changed": ["+ app: digits", "- x: 1"],
                                                  "started": True})
    out = run("apply", "a b/app.yaml").stdout
    method, path, query, headers, body = fake.asked[-1]
    assert query == {"file": "app.yaml", "dir": str(folder)}
    assert body.decode() == APP and headers["Content-Type"] == "application/yaml"
    assert out.startswith("+ app: digits\n- x: 1\napp digits: in force\n")
    assert "overtake events --follow" in out
    fake.answers["POST", "/api/v1/apps"] = (200, {"app": "digits", "changed": ["+ schema: overtake/1"],
                                                  "started": False})
    assert run("apply", "a b/app.yaml").stdout == "app digits: in force, new here\n"


def test_apply_diff_tells_by_its_exit_code(fake, run, tmp_path):
    (tmp_path / "app.yaml").write_text(APP)
    (tmp_path / "digits.npz").write_bytes(b"")
    fake.answers["POST", "/api/v1/apps"] = (200, {"app": "digits", "changed": ["+ owner: anna"],
                                                  "started": False})
    assert run("apply", "app.yaml", "--diff", code=3).stdout == "+ owner: anna\n"
    assert fake.asked[-1][2] == {"file": "app.yaml", "dir": str(tmp_path), "diff": "1"}
    assert run("apply", "app.yaml").returncode == 0
    fake.answers["POST", "/api/v1/apps"] = (200, {"app": "digits", "changed": [], "started": False})
    assert "app digits: no setting would change\n" == run("apply", "./app.yaml", "--diff").stdout
    assert fake.asked[-1][2]["dir"] == str(tmp_path)


def test_apply_checks_before_it_sends(fake, run, tmp_path):
    (tmp_path / "app.yaml").write_text(APP)
    checked = subprocess.run([OVERTAKE, "check", "app.yaml"], cwd=tmp_path, capture_output=True,
                             text=True, timeout=TIMEOUT)
    done = run("apply", "app.yaml", code=1)
    assert "app.yaml:3:8: data 'base': nothing at" in done.stderr
    assert done.stderr == checked.stderr and fake.asked == []


# ---- acts

@pytest.mark.parametrize("verb", ["train", "pause", "resume", "freeze", "approve", "reject", "rollback"])
def test_acts(fake, run, verb):
    fake.answers["POST", "/api/v1/apps/digits/act"] = (200, {"app": "digits", "verb": verb, "event": 12})
    assert run(verb, "digits").stdout == f"{verb} digits: done (event 12)\n"
    assert json.loads(fake.asked[-1][4]) == {"verb": verb}
    run(verb, "digits", "--reason", "because \"x\"")
    assert json.loads(fake.asked[-1][4]) == {"verb": verb, "reason": "because \"x\""}


def test_pin_and_push(fake, run, tmp_path):
    fake.answers["POST", "/api/v1/apps/digits/act"] = (200, {"app": "digits", "verb": "pin", "event": 1})
    for text in ("4", "v4"):
        run("pin", "digits", text)
        assert json.loads(fake.asked[-1][4]) == {"verb": "pin", "version": 4}
    n = len(fake.asked)
    for text in ("0", "v", "v-1", "four"):
        assert "not a version" in run("pin", "digits", text, code=2).stderr
    assert len(fake.asked) == n
    for text, path in (("m.onnx", tmp_path / "m.onnx"), ("./out/", tmp_path / "out"), ("/x/y", "/x/y")):
        run("push", "digits", text)
        assert json.loads(fake.asked[-1][4]) == {"verb": "push", "path": str(path)}
    run("push", "digits", "m", "--reason", "why")
    assert json.loads(fake.asked[-1][4])["reason"] == "why"


def test_a_refused_act_is_a_failure(fake, run):
    fake.answers["POST", "/api/v1/apps/digits/act"] = (409, {"error": "nothing waits for an approval"})
    assert run("approve", "digits", code=1).stderr == "overtake: nothing waits for an approval\n"


# ---- why, runs, logs, models, accuracy, replicas

CHAIN = [{"seq": 9, "time_us": T0, "type": "version.promoted", "object": "model/digits/2",
          "actor": "overtake", "text": "v2 promoted"},
         {"seq": 3, "time_us": T0 - 60_000_000, "type": "trigger.fired", "object": "app/digits",
          "actor": "anna", "text": "retrain"}]


def test_why(fake, run):
    fake.answers["GET", "/api/v1/apps/digits/why"] = (200, {
        "app": "digits", "version": 2, "serves": True, "text": "v2 serves because v2 promoted <- retrain",
        "chain": CHAIN})
    assert run("why", "digits").stdout == (
        "v2 serves because v2 promoted\n\n"
        "  2025-11-24 16:00:00  9  overtake  v2 promoted\n"
        "  2025-11-24 15:59:00  3  anna      retrain\n")
    assert fake.asked[-1][2] == {}
    for words in (["v4"], ["not", "v4"], ["not", "4"]):
        run("why", "digits", *words)
        assert fake.asked[-1][2] == {"version": "4"}
    for words in (["not"], ["what"], ["v1", "v2"], ["not", "v1", "v2"]):
        run("why", "digits", *words, code=2)


def test_runs_logs_cancel(fake, run):
    fake.answers["GET", "/api/v1/runs"] = (200, {"runs": [
        {"run": 12, "app": "digits", "step": "train", "state": "failed", "attempt": 1, "created_us": T0,
         "started_us": T0, "ended_us": T0 + 75_000_000, "parent": None, "trigger_seq": 4,
         "result": {"text": "run 12 (train) failed: exit 1"}},
        {"run": 11, "app": "digits", "step": "train", "state": "queued", "attempt": 1, "created_us": T0,
         "started_us": None, "ended_us": None, "parent": None, "trigger_seq": 4, "result": None}]})
    assert run("runs", "--app", "digits").stdout == (
        "RUN  APP     STEP   STATE   STARTED              TOOK      RESULT\n"
        " 12  digits  train  failed  2025-11-24 16:00:00  1min 15s  exit 1\n"
        " 11  digits  train  queued  -                    -         -\n")
    assert fake.asked[-1][2] == {"app": "digits", "limit": "20"}
    fake.answers["GET", "/api/v1/runs/12/log"] = (200, b"epoch 1\n\x1b[1mbold\xff")
    done = subprocess.run([OVERTAKE, "logs", "12", "--url", fake.url], capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0 and done.stdout == b"epoch 1\n\x1b[1mbold\xff"
    assert fake.asked[-1][2] == {}
    run("logs", "13", "--follow", code=1)
    assert fake.asked[-1][2] == {"follow": "1"}
    fake.answers["GET", "/api/v1/runs/12/checkpoints"] = (200, {"run": 12, "training": 11, "checkpoints": [
        {"checkpoint": "ab", "run": 11, "step": 200, "made_us": T0, "size_bytes": 2048, "files": 2, "metrics": {"loss": 0.5}}]})
    assert run("checkpoints", "12").stdout == (
        "STEP  RUN  MADE                  SIZE  FILES  CHECKPOINT  METRICS\n"
        " 200   11  2025-11-24 16:00:00  2 KiB      2  ab          {\"loss\":0.5}\n")
    fake.answers["POST", "/api/v1/runs/12/cancel"] = (200, {"run": 12})
    assert run("cancel", "12").stdout == "run 12 is asked to stop\n"
    for word in ("x", "0", "1/../2"):
        run("logs", word, code=2)
        run("checkpoints", word, code=2)


def test_models(fake, run):
    fake.answers["GET", "/api/v1/models"] = (200, {"models": [
        {"name": "digits", "app": None, "created_us": T0, "versions": 2, "latest": 2, "champion": 1,
         "challenger": None}]})
    assert run("models").stdout == (
        "MODEL   APP  VERSIONS  LATEST  CHAMPION  CHALLENGER  CREATED\n"
        "digits  -           2       2         1           -  2025-11-24 16:00:00\n")
    fake.answers["GET", "/api/v1/models/digits"] = (200, {"name": "digits", "list": [
        {"version": 1, "bundle": "ab", "format": "onnx", "size_bytes": 2048, "status": "champion",
         "run": 3, "created_us": T0, "status_us": T0, "metrics": {"accuracy": 0.5}}]})
    assert run("models", "digits").stdout == (
        "VERSION  STATUS    SINCE                FORMAT   SIZE  RUN  CREATED              METRICS\n"
        "      1  champion  2025-11-24 16:00:00  onnx    2 KiB    3  2025-11-24 16:00:00  "
        "{\"accuracy\":0.5}\n")


def test_accuracy(fake, run):
    fake.answers["GET", "/api/v1/apps"] = (200, {"apps": [{"app": "a", "deployment": "d", "champion": 7}]})
    fake.answers["GET", "/api/v1/deployments/d/accuracy"] = (200, {
        "version": 7, "labelled": 200, "right": 190, "estimate": 0.95, "lower": 0.9, "upper": 0.98})
    assert run("accuracy", "d").stdout == \
        "v7: 0.95 (95%: 0.9 to 0.98, valid at any time); 190 of 200 labelled rows right\n"
    assert fake.asked[-1][2] == {"version": "7"}
    run("accuracy", "d", "--version", "v3", "--from", "2025-11-24T16:00:00Z", "--to", "2025-11-24 17:00")
    assert fake.asked[-1][2] == {"version": "3", "from_us": str(T0), "to_us": str(T0 + 3_600_000_000)}
    run("accuracy", "d", "--version", "v3", "--from", "soon", code=2)
    assert "no version serves" in run("accuracy", "other", code=1).stderr


def test_samples(fake, run):
    rows = [{"id": "00-7-1-1", "segment": 5, "inputs": {"x": [1, 2]}}, {"id": "00-8-1-1", "segment": 5, "inputs": {}}]
    fake.answers["GET", "/api/v1/deployments/d/samples"] = (200, {"samples": rows, "next": 5})
    done = run("samples", "d", "--limit", "2")
    assert [json.loads(line) for line in done.stdout.splitlines()] == rows and "--before 5" in done.stderr
    assert fake.asked[-1][2] == {"limit": "2"}
    run("samples", "d", "--before", "5")
    assert fake.asked[-1][2] == {"limit": "100", "before": "5"}


def test_replicas(fake, run):
    fake.answers["GET", "/api/v1/replicas"] = (200, {"replicas": [
        {"id": "r1", "kind": "serve", "incarnation": "00", "version": "0.1.0", "pid": 7,
         "observed": None}]})
    assert run("replicas").stdout == ("REPLICA  KIND   VERSION  PID  SERVES\n"
                                      "r1       serve  0.1.0      7  -\n")


# ---- events

def event(seq, type="run.started", object="run/1", text="x"):
    return {"seq": seq, "time_us": T0 + seq * 1_000_000, "actor": "overtake", "role": "system",
            "scope": "digits", "type": type, "object": object, "payload": {"text": text}, "hash": "00"}


def page(events):
    return 200, {"events": events, "head": {"seq": 9, "hash": "ff"}}


def seqs(out):
    return [int(line.split()[2]) for line in out.splitlines()]


def test_events_pages(fake, run):
    fake.answers["GET", "/api/v1/events"] = page([event(3), event(2)])
    out = run("events").stdout
    assert seqs(out) == [2, 3] and fake.asked[-1][2] == {"limit": "1000", "newest": "1"}
    assert seqs(run("events", "--newest", "--all", "--limit", "2").stdout) == [3, 2]
    assert fake.asked[-1][2] == {"limit": "2", "newest": "1"}
    run("events", "--limit", "2", "--output", "json")
    assert fake.asked[-1][2] == {"limit": "2", "newest": "1"}
    run("events", "--after", "0", "--type", "drift.", "--object", "model/d*")
    assert fake.asked[-1][2] == {"after": "0", "limit": "50", "type": "drift.", "object": "model/d*"}
    assert "\x1b" not in out


def test_what_replicas_hand_in_is_hidden_from_people(fake, run):
    fake.answers["GET", "/api/v1/events"] = page(
        [event(9), event(8, "windows.received"), event(7, "samples.received"), event(6), event(5)])
    assert seqs(run("events", "--limit", "2").stdout) == [6, 9]
    assert seqs(run("events", "--limit", "5", "--all").stdout) == [5, 6, 7, 8, 9]
    assert seqs(run("events", "--limit", "5", "--type", "w").stdout) == [5, 6, 7, 8, 9]
    assert len(json.loads(run("events", "--output", "json").stdout)["events"]) == 5
    line = json.dumps(event(10, "windows.received")).encode() + b"\n"
    for flags, want in (([], [6, 9]), (["--all"], [7, 8, 9, 10])):
        fake.answers["GET", "/api/v1/events/stream"] = [(200, line), (503, {"error": "x"})]
        n = str(len(want) - len(flags))
        if flags:
            fake.answers["GET", "/api/v1/events"] = page([event(9), event(8, "windows.received"),
                                                          event(7, "samples.received")])
        assert seqs(run("events", "--follow", "--limit", n, *flags, code=1).stdout) == want


def test_events_follow_filters_and_goes_on_after_a_break(fake, run):
    fake.answers["GET", "/api/v1/events"] = page([event(9), event(8)])
    first = [event(10), event(11, "drift.detected"), event(12, object="run/2")]
    fake.answers["GET", "/api/v1/events/stream"] = [
        (200, b"\n" + b"".join(json.dumps(e).encode() + b"\n" for e in first) + b"\n"),
        (200, json.dumps(event(13)).encode() + b"\n"),
        (503, {"error": "going away"})]
    done = run("events", "--follow", code=1)
    assert seqs(done.stdout) == [8, 9, 10, 11, 12, 13]
    asked = [a[2] for a in fake.asked if a[1].endswith("stream")]
    assert asked == [{"after": "9"}, {"after": "12"}, {"after": "13"}]
    assert "the stream broke off; again from event 12 on" in done.stderr and "going away" in done.stderr
    fake.answers["GET", "/api/v1/events/stream"] = [
        (200, b"".join(json.dumps(e).encode() + b"\n" for e in first)), (503, {"error": "x"})]
    done = run("events", "--follow", "--after", "4", "--object", "run/1", "--type", "run.", "--output",
               "json", code=1)
    assert [json.loads(line) for line in done.stdout.splitlines()[:1]] == [first[0]]
    run("events", "--follow", "--newest", code=2)


def test_events_follow_ends_quietly_when_nobody_reads(fake):
    many = b"".join(json.dumps(event(i, text="x" * 1000)).encode() + b"\n" for i in range(1, 2000))
    fake.answers["GET", "/api/v1/events/stream"] = [(200, many)]
    p = subprocess.Popen([OVERTAKE, "events", "--follow", "--after", "0", "--url", fake.url],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stdout.readline()
    p.stdout.close()
    assert p.stderr.read() == ""
    p.stderr.close()
    assert p.wait(timeout=TIMEOUT) != 0


def test_events_verify(fake, run):
    fake.answers["GET", "/api/v1/events/verify"] = (200, {
        "ok": True, "rows": 9, "erased": 1, "bad_seq": 0, "what": "", "head": {"seq": 9, "hash": "ff"}})
    assert run("events", "verify").stdout == (
        "the log is whole: 9 events, each chained to the one before; the payload of 1 was erased\n"
        "head 9 ff\n")
    fake.answers["GET", "/api/v1/events/verify"] = (200, {
        "ok": False, "rows": 3, "erased": 0, "bad_seq": 4, "what": "its hash is another", "head": {}})
    assert "NOT whole: event 4: its hash is another" in run("events", "verify", code=1).stdout


# ---- labels

REPORT = {"accepted": 2, "joined": 1, "waiting": 1, "repeated": 0, "corrected": 0, "unknown": 1,
          "first_unknown": "A-1"}


def sent(fake):
    return [json.loads(a[4])["labels"] for a in fake.asked]


def test_labels_import_csv(fake, run, tmp_path):
    (tmp_path / "t.csv").write_bytes(
        b"\xef\xbb\xbfwhen,\"the, id\",digit\r\n2025-11-24T16:00:00Z,\"a\"\"\nb\",3\r\n\r\n1764000001.5,c,-1.5\r\n,d,0")
    fake.answers["POST", "/api/v1/deployments/d/labels"] = (200, REPORT)
    out = run("labels", "import", "t.csv", "--deployment", "d", "--id", "the, id", "--label", "digit",
              "--time", "when", "--source", "clerk").stdout
    assert sent(fake) == [[{"id": "a\"\nb", "value": 3, "source": "clerk", "time_us": T0},
                           {"id": "c", "value": -1.5, "source": "clerk", "time_us": T0 + 1_500_000},
                           {"id": "d", "value": 0, "source": "clerk"}]]
    assert out == ("3 rows: 2 accepted, 1 joined, 1 waiting, 0 repeated, 0 corrected, 1 unknown "
                   "(first: 'A-1')\n")


def test_labels_import_in_batches(fake, run, tmp_path):
    n = 45_000
    (tmp_path / "t.jsonl").write_text(
        "".join(json.dumps({"id": f"p{i}", "y": i % 10, "other": None}) + "\n" for i in range(n)))
    fake.answers["POST", "/api/v1/deployments/d/labels"] = (200, REPORT)
    done = run("labels", "import", "t.jsonl", "--deployment", "d", "--id", "id", "--label", "y",
               "--output", "json")
    assert json.loads(done.stdout) == {"rows": n, **{k: 3 * v for k, v in REPORT.items() if k != "first_unknown"},
                                       "first_unknown": "A-1"}
    batches = sent(fake)
    assert [len(b) for b in batches] == [20_000, 20_000, 5_000]
    assert [x["id"] for b in batches for x in b] == [f"p{i}" for i in range(n)]
    assert done.stderr == "", "progress is for terminals"


@pytest.mark.parametrize("name, text, message", [
    ("t.csv", "", "t.csv: empty"),
    ("t.csv", "id,label\n", None),
    ("t.csv", "id;label\n", "t.csv:1: --id: no column 'id'; the header has 'id;label'"),
    ("t.csv", "id,y\n", "t.csv:1: --label: no column 'label'; the header has 'id', 'y'"),
    ("t.csv", "id,label\na,1\nb,cat\n", "t.csv:3: label 'cat' is not a number"),
    ("t.csv", "id,label\na,nan\n", "t.csv:2: label 'nan' is not a number"),
    ("t.csv", "id,label\na\n", "t.csv:2: 1 fields; the header has 2"),
    ("t.csv", "id,label\n,1\n", "t.csv:2: no id"),
    ("t.csv", "id,label\n\"a\nb,1\n", "t.csv:2: a quote that is never closed"),
    ("t.csv", "id,label\n" + "x" * 257 + ",1\n", "t.csv:2: an id of more than 256 bytes"),
    ("t.csv", b"id,label\n\xff,1\n", "t.csv:2: an id that is not UTF-8"),
    ("t.ndjson", "\n{\"id\": 7, \"label\": 1}\n[]\n", "t.ndjson:3: not a JSON object"),
    ("t.jsonl", "{\"id\": \"a\", \"label\": \"1\"}\n", "t.jsonl:1: 'label' must be a number"),
    ("t.jsonl", "{\"label\": 1}\n", "t.jsonl:1: no id"),
    ("t.jsonl", "{\"id\": \"a\", \"label\": 1", "t.jsonl:1: not a JSON object: "),
])
def test_labels_errors_name_file_and_line(fake, run, tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run("labels", "import", name, "--deployment", "d", "--id", "id", "--label", "label",
               code=1 if message else 0)
    assert fake.asked == []
    if message:
        assert done.stderr.startswith("overtake: " + message), done.stderr
    else:
        assert done.stdout.startswith("0 rows: 0 accepted")


def test_labels_refused_by_the_server(fake, run, tmp_path):
    (tmp_path / "t.csv").write_text("id,label\n" + "".join(f"{i},1\n" for i in range(20_001)))
    fake.answers["POST", "/api/v1/deployments/d/labels"] = [
        (200, REPORT), (400, {"error": "labels: 1 of 1 ids unknown (first: '20000')"})]
    done = run("labels", "import", "t.csv", "--deployment", "d", "--id", "id", "--label", "label", code=1)
    assert done.stderr == ("overtake: 20000 rows were taken, then: labels: 1 of 1 ids unknown "
                           "(first: '20000')\n")
    assert run("labels", "import", "none.csv", "--deployment", "d", "--id", "id", "--label", "label",
               code=1).stderr.startswith("overtake: none.csv")
    run("labels", "import", "t.csv", "--deployment", "d", "--id", "id", code=2)
