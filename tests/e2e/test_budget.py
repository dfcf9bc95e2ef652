"""A short error budget is burnt, the automation stops, a person resumes it."""

import http.server
import json
import subprocess
import threading

import pytest

from browser import open_page
from replica import OVERTAKE, PATIENCE, wait_for
from up import TRAIN, ApiError, two_classes

# A model that needs 20 ms a run, and callers who give it 5: what a slow model does to its callers.
SLOW = TRAIN.replace('"softmax": True', '"softmax": True, "late": True, "delay_us": 20000')
WINDOWS = {"window": "500ms", "block": "1s", "blocks_per_day": 8, "baseline": 4, "cycles": "none"}


@pytest.fixture
def hook():
    """(URL, the alerts that came)"""
    got = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", got
    server.shutdown()
    server.server_close()


def budget(api, objective="availability"):
    (b,) = [b for b in api.app("planes")["budgets"] if b["objective"] == objective]
    return b


def label(u, n, seed):
    """Predictions and their labels; returns how many were accepted."""
    x, y = two_classes(n, seed)
    _, headers, _ = u.infer("planes", x)
    incarnation, seq, version, sampled = headers["overtake-prediction-id"].split("-")
    return u.api.post("/deployments/planes/labels", {"labels": [
        {"id": f"{incarnation}-{int(seq, 16) + i:x}-{version}-{sampled}", "value": int(v)}
        for i, v in enumerate(y)]})["accepted"]


def slow_app(u, app, **more):
    """v1 of an app whose callers may fail one time in a hundred serves; and a row for it."""
    a = app()
    a.program(SLOW)
    a.apply(u.api, quality=WINDOWS, objectives={"availability": {"at_least": 0.99, "over": "2min"}}, **more)
    u.api.wait_event("version.promoted", "model/planes@1")
    x, _ = two_classes(1, 3)
    u.wait_serves("planes", 1, x)
    return x


def burn(u, x):
    """The callers' deadline is shorter than the model's run: requests fail until nothing is left."""
    def fail():
        assert u.infer("planes", x, headers={"overtake-deadline-ms": "5"})[0] == 504
        return u.api.events("budget.spent")
    (spent,) = wait_for("a spent budget", fail)
    return spent


def test_a_spent_budget_stops_the_automation_until_a_person_resumes_it(up, app, hook):
    url, alerts = hook
    u = up()
    x = slow_app(u, app, alerts={"webhook": url}, retrain={"when": ["labels.new >= 8"], "cool_down": "1s"})
    assert budget(u.api)["remaining"] == 1 and u.api.app("planes")["automation_off"] is None

    spent = burn(u, x)
    assert spent["object"] == "app/planes" and "overtake resume planes --reason TEXT" in spent["payload"]["text"]
    assert spent["payload"]["remaining"] <= 0 and spent["payload"]["bad"] >= 2
    b = budget(u.api)
    assert b["spent"] and b["off"] and b["remaining"] <= 0
    assert "budget of availability" in u.api.app("planes")["automation_off"]
    assert u.version_that_answers("planes", x) == 1  # the champion serves on

    # What would start a run is held back, also by the process that comes after this one.
    assert label(u, 20, 5) == 20
    held = u.api.wait_event("trigger.held")
    assert spent["seq"] in held["payload"]["because"]
    wait_for("both alerts", lambda: {"budget.spent", "trigger.held"} <= {x["type"] for x in alerts})
    u.expect_log("the control plane is gone", "control ended with signal 9")
    u.kill_child("control")
    wait_for("control plane", u.answers)
    assert budget(u.api)["off"] and len(u.api.events("budget.spent")) == 1
    assert len(u.api.events("trigger.fired")) == 0
    _, _, metrics = u.api.raw("GET", "/metrics", None, u.api.headers())
    lines = metrics.decode().splitlines()
    (left,) = [x for x in lines if x.startswith('overtake_error_budget_remaining_ratio{app="planes",objective="availability"} ')]
    assert float(left.split()[1]) <= 0
    assert 'overtake_error_budget_automation_off{app="planes",objective="availability"} 1' in lines
    rates = [x.rsplit(" ", 1)[0] for x in lines if x.startswith("overtake_error_budget_burn_rate{")]
    assert len(rates) == len(set(rates)) == 4, rates

    # A person reads why, and resumes.
    def cli(*words, code=0):
        done = subprocess.run([OVERTAKE, *words, "--data", str(u.data)], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr
    out = cli("status", "planes")
    assert "AUTOMATION OFF" in out and "SPENT   availability" in out
    assert "automation  off: the budget of availability was spent" in out
    assert "needs a reason" in cli("resume", "planes", code=1)
    for wrong in (0, -1, "1h", 1.5):
        with pytest.raises(ApiError, match="'for_us' must be microseconds from 1 on"):
            u.api.act("planes", "resume", for_us=wrong)
    cli("resume", "planes", "--reason", "the callers wait longer now", "--for", "1h")
    assert u.api.app("planes")["automation_off"] is None
    granted = budget(u.api)
    assert not granted["off"] and (granted["granted_until_us"] or not granted["spent"])
    resumed = u.api.events("loop.resumed")[0]["payload"]
    assert "the callers wait longer now" in resumed["text"] and resumed["because"] == [spent["seq"]]
    u.api.wait_event("trigger.fired", after=spent["seq"])
    u.api.wait_event("version.promoted", "model/planes@2")


def test_the_page_says_so_and_resumes(up, app, page):
    u = up()
    x = slow_app(u, app)
    open_page(page, u, "/apps/planes")
    page.wait_text("100.0% left", "[data-budget=availability]")
    page.wait_text("holds", "[data-budget=availability]")
    burn(u, x)
    page.wait_text("spent", "[data-budget=availability]")
    page.wait_text("Nothing is done by itself: the budget of availability was spent", ".troubles")
    page.click("[data-verb=resume]")
    page.click("#ask-reason")
    page.type("the callers wait longer now")
    page.click("dialog .primary")
    page.wait_text("the callers wait longer now", ".timeline")
    wait_for("the automation", lambda: u.api.app("planes")["automation_off"] is None)
    page.wait("no word of it", "!document.body.innerText.includes('Nothing is done by itself')")
