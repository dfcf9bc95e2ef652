"""A real Chromium for tests of the page, driven over a pipe by the DevTools protocol."""

import base64
import json
import os
import pathlib
import queue
import shutil
import subprocess
import threading
import time

from replica import PATIENCE

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "End": 35, "Home": 36, "ArrowUp": 38, "ArrowDown": 40,
        "PageUp": 33, "PageDown": 34}


def find():
    """The browser's path; None when there is none."""
    return next((p for p in map(shutil.which, NAMES) if p), None)


class Browser:
    def __init__(self, folder):
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        # It reads descriptor 3 and writes 4. Root has no sandbox to start; the page is our own.
        command = [find(), "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--disable-dev-shm-usage", "--enable-precise-memory-info", "--no-first-run", "--disable-extensions",
                   "--disable-background-networking", "--disable-component-update", "--disable-sync",
                   f"--user-data-dir={folder}"]
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}', *command], pass_fds=(from_us, to_us),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(pathlib.Path(folder).with_suffix(".log"), "wb"))
        os.close(from_us)
        os.close(to_us)
        self.out, self.input = to_browser, from_browser
        self.lock, self.next, self.waiting, self.pages = threading.Lock(), 0, {}, {}
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        rest = b""
        while data := os.read(self.input, 1 << 20):
            *whole, rest = (rest + data).split(b"\0")
            for m in map(json.loads, whole):
                if "id" in m:
                    self.waiting.pop(m["id"]).put(m)
                elif page := self.pages.get(m.get("sessionId")):
                    page.happened(m["method"], m["params"])
        for q in list(self.waiting.values()):
            q.put({"error": {"message": "the browser has ended"}})

    def call(self, method, session=None, **params):
        answer = queue.Queue()
        with self.lock:
            self.next += 1
            message = {"id": self.next, "method": method, "params": params}
            if session:
                message["sessionId"] = session
            self.waiting[self.next] = answer
            os.write(self.out, json.dumps(message).encode() + b"\0")
        m = answer.get(timeout=PATIENCE)
        if "error" in m:
            raise RuntimeError(f"{method}: {m['error']['message']}")
        return m["result"]

    def page(self, width=1280, height=900):
        """A tab with a storage of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        p = Page(self, session)
        p.context = context
        self.pages[session] = p
        for domain in ("Page", "Runtime", "Network", "Log", "Performance", "DOM", "Accessibility"):
            p.call(f"{domain}.enable")
        p.look(width, height)
        return p

    def close_page(self, page):
        """A tab that stays goes on asking its server, also when that has ended."""
        self.call("Target.disposeBrowserContext", browserContextId=page.context)
        self.pages.pop(page.session, None)

    def close(self):
        self.call("Browser.close")
        self.process.wait(timeout=PATIENCE)
        self.reader.join(timeout=PATIENCE)
        os.close(self.out)
        os.close(self.input)


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.said = []  # warnings and errors of the console, exceptions, what the browser complains of
        self.requests = []  # URLs
        self.expected = []  # parts of complaints that a test brings about

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def happened(self, method, p):
        if method == "Network.requestWillBeSent":
            self.requests.append(p["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.said.append(p["exceptionDetails"].get("exception", {}).get("description", p["exceptionDetails"]["text"]))
        elif method == "Runtime.consoleAPICalled" and p["type"] in ("warning", "error", "assert"):
            self.said.append(" ".join(str(a.get("value", a.get("description"))) for a in p["args"]))
        elif method == "Log.entryAdded" and p["entry"]["level"] in ("warning", "error"):
            self.said.append(f"{p['entry']['text']} {p['entry'].get('url', '')}")

    def complaints(self):
        return [s for s in self.said if not any(e in s for e in self.expected)]

    def goto(self, url):
        self.call("Page.navigate", url=url)

    def look(self, width, height, dark=False, still=False, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}])

    def js(self, code):
        r = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in r:
            raise AssertionError(r["exceptionDetails"].get("exception", {}).get("description", r))
        return r["result"].get("value")

    def wait(self, what, code, seconds=PATIENCE):
        """The first value of `code` that is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if value := self.js(code):
                    return value
            except (AssertionError, RuntimeError) as e:  # between two documents
                value = e
            time.sleep(0.05)
        raise AssertionError(f"waited {seconds:.0f} s for {what}: {value!r}\n{self.text()[:8000]}\n{self.said}")

    def text(self, selector="body"):
        return self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def wait_text(self, text, selector="body"):
        return self.wait(f"'{text}'", f"(document.querySelector({json.dumps(selector)})?.innerText ?? '')"
                                      f".includes({json.dumps(text)})")

    def click(self, selector):
        box = self.wait(f"{selector} to click", f"""(() => {{
            const e = document.querySelector({json.dumps(selector)});
            if (!e) return null;
            e.scrollIntoView({{block: 'center'}});
            const r = e.getBoundingClientRect();
            return r.width > 0 && [r.x + r.width / 2, r.y + r.height / 2]; }})()""")
        self.click_at(*box)

    def click_at(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    # ---- as assistive technology has it: by role and name

    def named(self, role, name):
        """The node of this role whose accessible name is `name`, or matches it when it is a compiled expression."""
        fits = name.search if hasattr(name, "search") else lambda n: n == name

        def find():
            for n in self.call("Accessibility.getFullAXTree")["nodes"]:
                if not n["ignored"] and n["role"]["value"] == role and fits(n["name"]["value"]):
                    return n
            return None
        end = time.monotonic() + PATIENCE
        while not (n := find()):
            assert time.monotonic() < end, f"no {role} '{name}'\n{self.text()[:8000]}\n{self.said}"
            time.sleep(0.05)
        return n

    def is_off(self, role, name):
        return any(p["name"] == "disabled" and p["value"]["value"] for p in self.named(role, name)["properties"])

    def click_named(self, role, name):
        node = self.named(role, name)["backendDOMNodeId"]
        self.call("DOM.scrollIntoViewIfNeeded", backendNodeId=node)
        box = self.call("DOM.getBoxModel", backendNodeId=node)["model"]["border"]
        self.click_at((box[0] + box[4]) / 2, (box[1] + box[5]) / 2)

    def tab_to(self, role, name, most=200):
        """Presses Tab until this node has the focus."""
        node = self.named(role, name)["backendDOMNodeId"]
        for _ in range(most):
            self.key("Tab")
            at = self.call("Runtime.evaluate", expression="document.activeElement")["result"]["objectId"]
            if self.call("DOM.describeNode", objectId=at)["node"]["backendNodeId"] == node:
                return
        raise AssertionError(f"Tab does not reach {role} '{name}'")

    def key(self, name, shift=False):
        text = {"Enter": "\r", "Space": " "}.get(name)
        known = {"key": " " if name == "Space" else name, "code": name, "windowsVirtualKeyCode": KEYS[name],
                 "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **known,
                  **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def picture(self, path, whole=False):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def heap(self):
        """Bytes of live JavaScript objects, after a collection."""
        self.call("HeapProfiler.collectGarbage")
        return self.call("Runtime.getHeapUsage")["usedSize"]


def open_page(p, u, path="/"):
    p.goto(f"http://{u.control}/#token={u.api.token}")
    p.wait_text("live", "[data-link]")
    if path != "/":
        p.js(f"location.hash = {json.dumps('#' + path)}")
