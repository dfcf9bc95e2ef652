"""The demo's story as a person sees it on the page: by what is written there, by roles and names, by clicks and
keys. One document from the first to the last line of a test: nothing is loaded again."""

import re

import pytest

from browser import open_page
from replica import wait_for
from test_loop_closed import RECENT, TURN, Traffic, closed_app, push_inverted
from up import two_classes

# Blocks of a quarter of a second: the baseline is learnt in eight seconds.
QUICK = {"quality": {"window": "250ms", "block": "250ms", "blocks_per_day": 8, "baseline": 4, "cycles": "none"},
         "objectives": {"accuracy": {"at_least": 0.8, "over": "4s"}, "false_alarms": {"at_most": "1 per hour"}},
         # It trains when most of what was labelled lately is of the new kind: the old plane is right on 64% of that.
         "retrain": {"when": ["accuracy.degraded and accuracy.estimate < 0.69"], "cool_down": "1s",
                     "at_most": "20 per day", "pause_after": "20 failures"}}


def quick(a):
    return {**QUICK, "data": {"base": {"path": "base.npz", "label": "y"},
                              "recent": {"from": f"{a.name}.labelled", "label": "y", "last": "4s"}}}


# It learns in a tenth of a second: what holds it is that the page has not shown it yet.
HELD = """
    import os, pathlib, time
    while "recent" in os.listdir(os.environ["OVERTAKE_DATA"]) and not pathlib.Path({seen!r}).exists():
        time.sleep(0.01)
"""

# Keeps every text that the named parts of the page ever showed, also what stood there for one frame.
RECORDER = """(() => {
    window.__seen = {};
    const look = () => {
        for (const e of document.querySelectorAll('section[aria-label], [role=alert]')) {
            const list = window.__seen[e.getAttribute('aria-label') ?? 'alert'] ??= [], t = e.innerText;
            if (list[list.length - 1] !== t) list.push(t);
        }
    };
    new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
})()"""


class Reader:
    """Who looks at the page and remembers what it said."""

    def __init__(self, page):
        self.p, self.at = page, {}

    def part(self, name):
        return self.p.js(f"document.querySelector('section[aria-label=\"{name}\"]')?.innerText ?? ''")

    def saw(self, part, pattern):
        """Waits until this part shows, after what was seen there before, a text that matches."""
        def find():
            texts = self.p.js(f"(window.__seen[{part!r}] ?? []).slice({self.at.get(part, 0)})")
            for i, t in enumerate(texts):
                if m := re.search(pattern, t):
                    self.at[part] = self.at.get(part, 0) + i
                    return m
            self.last = texts[-8:]
            return None
        try:
            return wait_for("", find)
        except AssertionError:
            raise AssertionError(f"'{part}' never said /{pattern}/ but {self.last}\n{self.p.text()}\n{self.p.said}") from None

    def line(self, *words):
        """Waits for one line of the timeline that holds all words."""
        return self.p.wait(f"a line of the timeline with {words}", f"""
            [...document.querySelectorAll('[aria-label^="Timeline"] li')].map(e => e.innerText.replace(/\\s+/g, ' '))
            .find(t => {list(words)!r}.every(w => t.includes(w)))""")

    def confirm(self, label, reason=None, keys=False):
        """In the dialog that is open: a reason, then its button."""
        self.p.named("dialog", re.compile(f"^{label}: "))
        if reason:
            self.p.tab_to("textbox", re.compile("^Reason")) if keys else self.p.click_named("textbox", re.compile("^Reason"))
            self.p.type(reason)
        if keys:
            self.p.tab_to("button", label)
            self.p.key("Enter")
        else:
            self.p.click_named("button", label)
        self.p.wait("the dialog to close", "!document.querySelector('dialog')")


@pytest.fixture
def reader(page):
    page.call("Page.addScriptToEvaluateOnNewDocument", source=RECORDER)
    r = Reader(page)
    yield r
    assert page.js("performance.getEntriesByType('navigation').length === 1 && window.__mark === 'first'"), "loaded again"


def test_the_whole_story(up, app, reader, tmp_path):
    u, a, p = up(), app(), reader.p
    p.goto(f"http://{u.control}/")
    p.named("textbox", "Token of this control plane")
    p.js("window.__mark = 'first'")
    p.type(u.api.token)
    p.key("Enter")
    p.wait_text("No app yet")

    # An app appears by itself; its first version is trained and serves.
    a.program(HELD.format(seen=str(tmp_path / "training-was-seen")) + RECENT)
    a.apply(u.api, closed_app(a, **quick(a)))
    p.click_named("link", re.compile(a.name))
    reader.saw("What serves", r"nothing serves yet|v1")
    reader.saw("What serves", r"^SERVES\s+v1\n|^Serves\s+v1\n")
    u.wait_serves(a.name, 1, two_classes(1, 99)[0])
    t = Traffic(u, a.name)
    t.start()
    try:
        walk(u, a, p, reader, t, tmp_path)
        assert not t.end(), t.faults
    finally:
        t.end()


def walk(u, a, p, reader, t, tmp_path):
    p.wait_text("Inputs: learning this version’s own traffic")
    p.wait("what was learnt", "/Inputs\\s+[\\d.]+ of [\\d,.]+/.test(document.body.innerText)")
    p.wait("what holds", "/holds\\s+Accuracy 9\\d\\.\\d% \\(\\d\\d\\.\\d% to \\d+\\.\\d%, [\\d,]+ labels\\)/.test(document.body.innerText)")

    # An input moves: it is named, and nothing else is claimed.
    t.shift = 2.0
    reader.line("drift.detected", "x_2")
    p.wait("its row", "[...document.querySelectorAll('tr')].some(r => /^x_2\\b/.test(r.innerText))")
    p.wait("the word", "document.querySelector('h1').parentElement.innerText.includes('drift')")

    # The world turns: accuracy falls, with its interval; then everything goes by itself.
    t.turn = TURN
    reader.line("quality.degraded", "accuracy")
    m = reader.saw("Objectives", r"missed\s+Accuracy (\d\d\.\d)% \((\d\d\.\d)% to (\d\d\.\d)%, [\d,]+ labels\)")
    estimate, lower, upper = map(float, m.groups())
    assert lower < estimate < 80 and upper > estimate
    p.wait("the word", "document.querySelector('h1').parentElement.innerText.includes('degraded')")
    reader.line("trigger.fired")
    reader.saw("What is under way", r"training")
    (tmp_path / "training-was-seen").touch()
    version = int(reader.saw("What is under way", r"releasing v(\d+): shadow").group(1))
    reader.saw("What is under way", rf"releasing v{version}: canary at 20%")
    reader.saw("What is under way", rf"releasing v{version}: probation")
    reader.saw("What serves", rf"v{version}\n")
    reader.line("version.promoted", f"@{version}")
    reader.line("probation.passed")
    reader.saw("What is under way", r"\bidle\b")
    reader.saw("Objectives", r"holds\s+Accuracy [89]\d\.\d%")
    p.wait("all well", "document.querySelector('h1').parentElement.innerText.includes('well')")
    serves = u.api.app(a.name)["champion"]

    # Somebody pushes a bad version: the canary finds it, and it goes back.
    push_inverted(u, a, tmp_path, **quick(a))
    reader.saw("What is under way", r"canary at 20%")
    reader.line("version.rolled_back", "worse as canary")
    p.wait("its row", f"""[...document.querySelectorAll('tr')].some(r => /^v{serves + 1}\\s+▲ refused/.test(r.innerText))""")
    reader.saw("What is under way", r"\bidle\b")
    assert f"v{serves}\n" in reader.part("What serves")

    # The brake, by hand.
    p.click_named("button", "Pause")
    reader.confirm("Pause", "looking at something")
    reader.saw("The loop", r"paused[\s\S]*looking at something")
    p.click_named("button", "Resume")
    reader.confirm("Resume")
    reader.saw("The loop", r"running")

    # The control plane dies: the page says so, and comes back by itself.
    p.expected += ["net::ERR", "Failed to fetch"]
    u.expect_log("the control plane is gone", "control ended with signal 9")
    t.label = False
    u.kill_child("control")
    reader.saw("alert", r"The control plane does not answer[\s\S]*What serves goes on serving")
    p.wait("no banner", "!document.querySelector('[role=alert]')")
    p.wait_text("live", "header")
    t.faults[:] = [f for f in t.faults if not f.startswith("labels:")]  # were under way when it died

    # Back to the version before: not without a reason.
    p.click_named("button", "Roll back")
    p.named("dialog", re.compile("^Roll back: "))
    assert p.is_off("button", "Roll back") and "serves again instead of" in p.text("dialog")
    reader.confirm("Roll back", "rather the old one")
    reader.line("version.rolled_back", "rather the old one")
    p.wait("another version", f"!document.querySelector('[aria-label=\"What serves\"]').innerText.includes('v{serves}\\n')")


def test_approvals_by_keys_and_by_mouse(up, app, reader):
    u, a, p = up(), app(), reader.p
    a.apply(u.api, release=[{"approval": {"at_most": "1h", "otherwise": "stop"}}])
    open_page(p, u)
    p.js("window.__mark = 'first'")
    p.wait_text("waits for approval")
    p.tab_to("link", re.compile(a.name))
    p.key("Enter")
    reader.saw("What is under way", "v1: approval[\\s\\S]*waits for you")
    p.tab_to("button", "Approve")
    p.key("Enter")
    reader.confirm("Approve", keys=True)
    reader.saw("What serves", r"v1\n")
    reader.line("approval.given")

    p.click_named("button", "Train now")
    reader.confirm("Train now")
    reader.saw("What is under way", "v2: approval[\\s\\S]*waits for you")
    p.click_named("button", "Reject")
    p.named("dialog", re.compile("^Reject: "))
    assert p.is_off("button", "Reject")
    reader.confirm("Reject", "not today")
    reader.line("approval.refused", "not today")
    reader.saw("What is under way", r"\bidle\b")
    assert "v1\n" in reader.part("What serves")
    assert u.api.app(a.name)["champion"] == 1
