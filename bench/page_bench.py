"""The page in a real Chromium: how fast it paints, and what 36,000 events pushed through it cost.

    BUILD=build/release .deps/venv/bin/python bench/page_bench.py [--paints 15] [--events 36000] [--pan 10]

Paints: a fresh tab of a started browser loads the page from loopback with an empty cache; first contentful paint is
what the browser itself measured, `content` when the list of apps stood. Events: `overtake up` with one app; a
person's pauses and resumes are sent as fast as the control plane takes them, and the page, open on the timeline,
follows them through its stream: heap after a collection, document nodes and the rows of the list are read each
sixth. Frames: the timeline is scrolled by three rows each frame, beside an empty page in the same browser just before. Prints one JSON line for each of the three with median, least and most."""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from browser import Browser, find  # noqa: E402
from up import App, Up  # noqa: E402


def told(values, digits=1):
    return {"median": round(statistics.median(values), digits), "least": round(min(values), digits),
            "most": round(max(values), digits)}


def open_page(b, u, path=""):
    p = b.page()
    p.goto(f"http://{u.control}/#token={u.api.token}")
    p.wait("the page", "!!document.querySelector('[data-app]')")
    if path:
        p.js(f"location.hash = {json.dumps(path)}")
    return p


def paints(b, u, n):
    first, content, bytes_ = [], [], 0
    for _ in range(n):
        p = b.page()  # a context of its own: nothing is cached
        p.goto(f"http://{u.control}/#token={u.api.token}")
        content.append(p.wait("apps", """(async () => document.querySelector('[data-app]') && new Promise(done =>
            requestAnimationFrame(() => done(performance.now()))))()"""))
        first.append(p.js("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        bytes_ = p.js("performance.getEntriesByType('resource').filter(e => !e.name.includes('/api/'))"
                      ".reduce((n, e) => n + e.transferSize, performance.getEntriesByType('navigation')[0].transferSize)")
    print(json.dumps({"bench": "page paint", "n": n, "first_paint_ms": told(first), "content_ms": told(content),
                      "transferred_kB": round(bytes_ / 1000)}))


def push(u, name, n):
    """n events: pauses and resumes, from four clients."""
    def some(k):
        for i in range(k):
            u.api.act(name, "pause" if i % 2 else "resume", reason=f"event {i} of a long day")
    threads = [threading.Thread(target=some, args=(n // 4,)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def events(b, u, name, n):
    p = open_page(b, u, "#/events")
    p.wait("the timeline", "!!document.querySelector('.timeline')")
    steps = []
    for _ in range(6):
        push(u, name, n // 6)
        head = u.api.head()
        p.wait("the newest event", f"!!document.querySelector('[data-seq=\"{head}\"]')")
        steps.append((p.heap(), p.js("document.getElementsByTagName('*').length"),
                      p.js("document.querySelectorAll('.event').length")))
    assert not p.complaints(), p.complaints()
    heaps = [h / 1e6 for h, _, _ in steps]
    print(json.dumps({"bench": "page events", "events": n, "heap_MB": [round(h, 1) for h in heaps],
                      "growth_of_the_last_two_thirds_MB": round(heaps[-1] - heaps[1], 2),
                      "nodes": [k for _, k, _ in steps], "rows_in_document": max(r for _, _, r in steps)}))
    return p


FRAMES = """(async () => {
    const box = document.querySelector('.scroll'), gaps = [];
    let last = await new Promise(requestAnimationFrame);
    const end = last + %d;
    let down = 1;
    while (last < end) {
        box.scrollTop += 90 * down;
        if (box.scrollTop <= 0 || box.scrollTop >= box.scrollHeight - box.clientHeight - 1) down = -down;
        const now = await new Promise(requestAnimationFrame);
        gaps.push(now - last);
        last = now;
    }
    return gaps; })()"""


# What the browser does on this machine, now, with nothing to do but change a colour.
EMPTY = """(async () => {
    let last = await new Promise(requestAnimationFrame), n = 0;
    const begun = last;
    while (last < begun + %d) {
        document.body.style.background = `rgb(${n++ %% 256} 0 0)`;
        last = await new Promise(requestAnimationFrame);
    }
    return 1000 * n / (last - begun); })()"""


def frames(b, p, seconds):
    blank = b.page()
    empty = blank.js(EMPTY % (seconds * 500))
    p.call("Page.bringToFront")
    gaps = sorted(p.js(FRAMES % (seconds * 1000)))
    print(json.dumps({"bench": "page pan", "seconds": seconds, "frames": len(gaps),
                      "frames_per_s": round(len(gaps) / seconds, 1), "gap_ms": told(gaps),
                      "gap_p99_ms": round(gaps[int(len(gaps) * 0.99)], 1),
                      "over_20_ms": sum(g > 20 for g in gaps), "empty_page_frames_per_s": round(empty, 1)}))


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("--paints", type=int, default=15)
    a.add_argument("--events", type=int, default=36000)
    a.add_argument("--pan", type=int, default=10)
    args = a.parse_args()
    if find() is None:
        print("page_bench: skipped: no Chromium here; tools/deps.sh browser", file=sys.stderr)
        return
    os.environ.setdefault("BUILD", "build/release")
    with tempfile.TemporaryDirectory() as t:
        u, app = Up(pathlib.Path(t) / "data"), App(pathlib.Path(t) / "app")
        b = Browser(pathlib.Path(t) / "profile")
        try:
            app.apply(u.api)
            u.api.wait_event("version.promoted")
            paints(b, u, args.paints)
            frames(b, events(b, u, app.name, args.events), args.pan)
        finally:
            b.close()
            u.stop()


if __name__ == "__main__":
    main()
