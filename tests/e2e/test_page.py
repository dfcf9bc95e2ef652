"""The page in a real Chromium, read and used as a person would: what is written on it, clicks, keys."""

import gzip
import hashlib
import json
import re
import subprocess

import pytest

from browser import open_page
from replica import BUILD, OVERTAKE, ROOT, wait_for
from up import two_classes

def state_of(p, node):
    return p.js(f"document.querySelector('[data-node={node}]')?.dataset.state")


# ---- files


def test_files_need_no_token_and_are_guarded(up):
    api = up().api
    status, headers, body = api.raw("GET", "/")
    assert status == 200 and b"<title>Overtake</title>" in body
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(d.strip().split(" ", 1) for d in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == policy["style-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff" and "Content-Encoding" not in headers
    tag = headers["ETag"]
    assert tag == f'"{hashlib.sha256(body).hexdigest()}"'
    status, headers, packed = api.raw("GET", "/", None, {"Accept-Encoding": "br, gzip"})
    assert headers["Content-Encoding"] == "gzip" and gzip.decompress(packed) == body and headers["ETag"] != tag
    for value in (tag, headers["ETag"], f'W/{tag}, "x"'):
        assert api.raw("GET", "/", None, {"If-None-Match": value})[::2] == (304, b""), value
    assert api.raw("GET", "/", None, {"If-None-Match": '"x"'})[0] == 200
    for accept in ("gzip;q=0", "br", "x-gzip"):
        assert "Content-Encoding" not in api.raw("GET", "/", None, {"Accept-Encoding": accept})[1], accept
    status, headers, body = api.raw("HEAD", "/app.js")
    assert status == 200 and body == b"" and int(headers["Content-Length"]) > 100
    assert api.raw("GET", "/app.js?x=1")[0] == 200


@pytest.mark.parametrize("method, path, change, status", [
    ("GET", "/", {"Host": "evil.example"}, 403), ("GET", "/app.js", {"Origin": "http://evil.example"}, 403),
    ("POST", "/", {}, 405), ("GET", "/index.html", {}, 401), ("GET", "/app.j", {}, 401), ("GET", "/app.js/", {}, 401),
    ("GET", "/app.jsx", {}, 401), ("GET", "//", {}, 401), ("GET", "/vendor", {}, 401), ("GET", "/%61pp.js", {}, 401),
    ("GET", "/app.js%00", {}, 401), ("GET", "/../token", {}, 401)])
def test_what_is_no_file_of_the_page(still, method, path, change, status):
    assert still.api.raw(method, path, None, change)[0] == status


def test_every_module_that_the_first_paint_needs_is_named_in_the_page(still):
    text = still.api.raw("GET", "/")[2].decode()
    named, todo, seen = set(re.findall(r'modulepreload" href="([^"]+)"', text)), ["/app.js"], set()
    while todo:
        path = todo.pop()
        seen.add(path)
        source = still.api.raw("GET", path)[2].decode()
        todo += [m for m in re.findall(r"^import .*?from '([^']+)'", source, re.M | re.S) if m not in seen]
    assert seen - {"/app.js"} == named


# ---- a person at the page


def test_login_and_an_empty_control_plane(still, page):
    page.expected += ["401", "404 (Not Found)"]
    page.goto(f"http://{still.control}/")
    page.wait_text("Token of this control plane")
    page.wait("focus", "document.activeElement.id === 'token'")
    page.type("wrong-token-wrong-token")
    page.key("Enter")
    page.wait_text("not this data directory's", "[role=alert]")
    page.js("document.getElementById('token').select()")
    page.type(still.api.token)
    page.key("Enter")
    page.wait_text("No app yet")
    page.wait_text("overtake apply app.yaml")
    # The token stays in the tab: not in the address, not where other tabs would find it.
    assert still.api.token not in page.js("location.href + document.cookie + JSON.stringify(localStorage)")
    page.call("Page.reload")
    page.wait_text("No app yet")
    page.js("location.hash = '#/apps/absent'")
    page.wait_text("app 'absent' is not here")
    page.click("header button")
    page.wait_text("Token of this control plane")


def test_a_token_in_the_address_is_taken_out_of_it(still, page):
    open_page(page, still)
    assert page.js("location.hash") == "#/" and page.js("history.length") <= 2
    page.wait_text("No app yet")


def test_a_run_is_read_while_it_runs(up, app, page, tmp_path):
    u, a = up(), app()
    go = tmp_path / "go"
    a.program(f"""
        import pathlib, time
        print("begun", flush=True)
        while not pathlib.Path({str(go)!r}).exists():
            time.sleep(0.01)
        print("going on", flush=True)
        raise SystemExit("no model today")
    """)
    a.apply(u.api)
    run = u.api.wait_event("run.started")["object"].split("/")[1]
    open_page(page, u, f"/apps/{a.name}")
    page.wait("training", "document.querySelector('[data-cycle]')?.dataset.cycle === 'training'")
    assert state_of(page, "train") == "active" and state_of(page, "serving") == "todo"
    page.wait_text("nothing serves yet")
    page.wait_text("No traffic in this span")
    page.click(f"a[href='#/runs/{run}']")
    page.wait_text("begun", ".log")
    page.wait_text("follows live")
    go.touch()
    page.wait_text("no model today", ".log")
    page.wait_text("failed", ".badge.bad")
    page.js("history.back()")
    page.wait("the graph", "!!document.querySelector('[data-node=train]')")
    page.wait("the failure", "document.querySelector('[data-node=train]').dataset.state === 'bad'")
    page.wait_text("cycle.failed", ".event.bad")


def test_the_ranks_of_a_training_are_watched(up, app, page, tmp_path):
    u, a = up(), app()
    go = tmp_path / "go"
    a.program(f"""
        import os, pathlib, sys, time
        print("this is", os.environ["OVERTAKE_RANK"], flush=True)
        while not pathlib.Path({str(go)!r}).exists():
            time.sleep(0.01)
        sys.exit("it ends badly" if os.environ["OVERTAKE_RANK"] == "1" else 0)
    """)
    yaml = json.loads(a.yaml())
    yaml["train"].update(np=2, retries=0)
    a.apply(u.api, json.dumps(yaml))
    open_page(page, u, "/runs/1")
    page.wait("the ranks", "document.querySelectorAll('section[aria-labelledby=h-ranks] tbody tr').length === 3")
    page.wait_text("[0] this is 0", ".log")
    page.wait_text("[1] this is 1", ".log")
    page.click_named("button", "rank 1")
    page.wait("its output alone", "document.querySelector('.log').textContent === 'this is 1\\n'")
    go.touch()
    page.wait_text("rank 1 (host ")
    page.wait_text("ended with exit code 1; its last line: it ends badly")
    page.wait_text("it ends badly", ".log")
    page.wait_text("failed", "section[aria-labelledby=h-ranks] .badge.bad")


def test_how_a_training_goes_is_watched(up, app, page, tmp_path):
    """Progress, bytes, the slowest rank and checkpoints while it goes on; then whose failure it was."""
    u, a = up(), app()
    go = tmp_path / "go"
    a.program(f"""
        import os, pathlib, sys, time
        sys.path.insert(0, {str(ROOT / "python")!r})
        os.environ["OVERTAKE_LIB"] = {str((ROOT / BUILD).resolve() / "libovertake.so")!r}
        import numpy as np
        import overtake
        import overtake.collective as ranks
        ranks.init()
        step = 0
        while not pathlib.Path({str(go)!r}).exists() or ranks.rank() == 0:
            if ranks.rank() == 1:
                time.sleep(0.02)
            ranks.allreduce(np.ones(10000, np.float32), name="w")
            ranks.step(32)
            step += 1
            if step % 50 == 0:
                pathlib.Path("state").write_text(str(step))
                overtake.checkpoint("state", step, metrics={{"loss": 0.25}})
        sys.exit("it ends badly")
    """)
    yaml = json.loads(a.yaml())
    yaml["train"].update(np=2, retries=0)
    a.apply(u.api, json.dumps(yaml))
    open_page(page, u, "/runs/1")
    ranks = "section[aria-labelledby=h-ranks] dl"
    said = f"document.querySelector('{ranks}')?.textContent ?? ''"
    page.wait("steps and samples a second", rf"/Steps\d[\d,]* \([\d.]+\/s\)Samples\d[\d,]* \([\d.,k]+\/s\)/.test({said})")
    page.wait("bytes a second", rf"/Sent[\d.]+ [KMG]iB \([\d.]+ [KMG]?i?B\/s\)/.test({said})")
    page.wait("the slowest", rf"/Slowestrank 1 on .*: the others wait for it \d+% of the time/.test({said})")
    page.wait_text("this run", "section[aria-labelledby=h-checkpoints]")
    page.wait_text("loss 0.25", "section[aria-labelledby=h-checkpoints]")
    go.touch()
    page.wait_text("ended with exit code 1; its last line: it ends badly")
    page.wait_text("failed", "section[aria-labelledby=h-ranks] .badge.bad")
    page.wait_text("this run", "section[aria-labelledby=h-checkpoints]")


def test_the_control_plane_goes_and_comes_back(up, page):
    u = up()
    page.expected += ["net::ERR", "Failed to fetch"]
    u.expect_log("the control plane is gone", "control ended with signal 9")
    open_page(page, u)
    last = u.api.head()
    page.js("""window.__same = true; window.__seen = [];
        new MutationObserver(() => window.__seen.push(['[data-link]', '[role=alert]'].map((s) =>
            document.querySelector(s)?.innerText ?? ''))).observe(document, { subtree: true, childList: true, characterData: true })""")
    u.kill_child("control")
    # What is there for a moment only is looked for in what was there.
    page.wait("away", "window.__seen.some(([link]) => link.includes('away'))")
    page.wait("the alert", "window.__seen.some(([, alert]) => alert.includes('What serves goes on serving'))")
    page.wait_text("live", "[data-link]")
    assert not page.js("!!document.querySelector('.away')") and page.js("window.__same")
    page.js("location.hash = '#/events'")
    # What happened meanwhile is there, once.
    wait_for("events after it came back", lambda: u.api.head() > last)
    head = u.api.head()
    page.wait("the newest", f"!!document.querySelector('[data-seq=\"{head}\"]')")
    assert page.js("new Set([...document.querySelectorAll('.event')].map(e => e.dataset.seq)).size"
                   " === document.querySelectorAll('.event').length")


def test_the_keyboard_reaches_everything(up, app, page):
    u, a = up(), app()
    a.apply(u.api)
    u.api.wait_event("version.promoted", f"model/{a.name}@1")
    open_page(page, u, f"/apps/{a.name}")
    page.wait_text("version.promoted", ".timeline")
    page.wait_text("champion", "[data-version]")
    reach = """[...document.querySelectorAll('a, button, select, input, [tabindex="0"]')]
        .filter(e => e.tabIndex >= 0 && !e.disabled && e.offsetParent !== null)"""
    want = page.js(f"{reach}.length")
    page.js("document.activeElement.blur(); window.__reached = new Set()")
    for _ in range(want + 5):
        page.key("Tab")
        seen = page.js("""(() => { const e = document.activeElement; if (e === document.body) return null;
            window.__reached.add(e); const s = getComputedStyle(e);
            return [e.outerHTML.slice(0, 90), s.outlineStyle, parseFloat(s.outlineWidth)]; })()""")
        assert seen is None or (seen[1] == "solid" and seen[2] >= 2), f"no visible focus on {seen}"
    missed = page.js(f"{reach}.filter(e => !window.__reached.has(e)).map(e => e.outerHTML.slice(0, 90))")
    assert not missed, missed
    # Names for who can't see.
    nameless = page.js("""[...document.querySelectorAll('button, a, select, input, textarea, [role=img]')].filter(e =>
        !(e.innerText?.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML.slice(0, 90))""")
    assert not nameless, nameless
    # The timeline by arrows; a dialog by keys, and away with Escape.
    page.js("document.querySelector('.scroll').focus()")
    page.key("ArrowDown")
    page.key("ArrowDown")
    page.key("Enter")
    page.wait("the details", "!!document.querySelector('.details dl')")
    page.key("Escape")
    page.wait("no details", "!document.querySelector('.details')")
    page.js("document.querySelector('[data-verb=freeze]').focus()")
    page.key("Enter")
    page.wait("the dialog", "!!document.querySelector('dialog[open]')")
    page.key("Escape")
    page.wait("no dialog", "!document.querySelector('dialog')")
    assert page.js("document.activeElement.dataset.verb") == "freeze" and u.api.app(a.name)["loop"] == "running"


MANY = """(() => {
    const real = window.fetch, json = (x) => new Response(JSON.stringify(x));
    window.fetch = async (path, init) => {
        const r = await real(path, init), u = new URL(path, location.href).pathname.split('/').slice(3);
        if (u[0] === 'apps' && u.length === 1) {
            const [a] = (await r.json()).apps;
            return json({ apps: Array.from({ length: 10000 }, (_, i) => ({ ...a, app: i ? `a-long-name-of-an-app-${i}` : a.app,
                degraded: i % 50 === 49 })) });
        }
        if (u[0] === 'apps' && u.length === 2) {
            const a = await r.json();
            Object.assign(a.quality.drift, { learning: false, evidence: 9000, threshold: 7200, reason: undefined,
                moved: Array.from({ length: 10000 }, (_, i) => ({ name: `pixel_${i}`, kind: 'location', effect: (i % 2 ? 3 : -3) / (i + 1),
                    unit: 'sigma', since_us: 1, evidence: 1, latched: false, text: '' })) });
            return json({ ...a, drift: true });
        }
        if (u[0] === 'models' && u.length === 2) {
            const m = await r.json();
            return json({ ...m, list: Array.from({ length: 10000 }, (_, i) => ({ ...m.list[0], version: 10000 - i })) });
        }
        return r;
    };
})()"""


def test_ten_thousand_of_everything(up, app, page):
    u, a = up(), app()
    a.apply(u.api)
    u.api.wait_event("version.promoted", f"model/{a.name}@1")
    page.call("Page.addScriptToEvaluateOnNewDocument", source=MANY)
    open_page(page, u)
    page.wait_text("9,800 more")
    first = page.js("document.querySelector('[data-app] .badge').innerText")
    assert "degraded" in first  # what is not well comes first
    page.click("#find")
    page.type("app-4242")
    page.wait("the one", "document.querySelectorAll('[data-app]').length === 1")
    page.js(f"location.hash = '#/apps/{a.name}'")
    page.wait_text("pixel_0", "table")
    page.wait_text("and 9,988 that moved less")
    page.wait("versions", "!!document.querySelector('[data-version=\"10000\"]')")
    page.wait_text("10,000", "[aria-labelledby=h-versions] header")
    nodes = page.js("document.getElementsByTagName('*').length")
    assert nodes < 2500, nodes
    page.look(360, 800, dark=True)
    page.wait("no sideways scrolling", "document.documentElement.scrollWidth <= innerWidth")


def test_what_an_event_holds_is_text(up, app, page):
    """Names and reasons of people go through the page as text, whatever they look like."""
    u, a = up(), app()
    a.apply(u.api)
    u.api.wait_event("version.promoted", f"model/{a.name}@1")
    open_page(page, u, f"/apps/{a.name}")
    bad = "<img src=x onerror=window.__bad=1><script>window.__bad=1</script>"
    u.api.act(a.name, "pause", reason=bad)
    page.wait_text(bad, ".timeline")
    page.wait_text(bad, "[aria-label='The loop']")
    assert page.js("window.__bad === undefined && !document.querySelector('main img')")
    # The name that a person gives is the actor in the log, also outside ASCII.
    page.click("[data-verb=resume]")
    page.click("#ask-who")
    page.type("Zoë")
    page.click("dialog .primary")
    page.wait_text("resumed by Zoë", ".timeline")
    assert u.api.events("loop.resumed")[-1]["actor"] == "Zoë"


def test_overtake_page_prints_the_way_in(up, page):
    u = up()

    def overtake(*args):
        done = subprocess.run([str(OVERTAKE), "page", "--data", str(u.data), *args], capture_output=True, text=True)
        return done.returncode, done.stdout
    code, out = overtake()
    assert code == 0 and out.startswith(f"http://{u.control}/#token=")
    assert json.loads(overtake("--output", "json")[1]) == {"page": out.strip()}
    page.goto(out.strip())
    page.wait_text("No app yet")
    assert u.api.token not in page.js("location.href")
