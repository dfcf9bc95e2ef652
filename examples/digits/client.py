"""A small client of Overtake's control API (docs/api.md): requests, and the log as it is written."""

import contextlib
import http.client
import json
import pathlib
import threading
import time
import urllib.parse

PATIENCE = 600  # seconds that one step may take on a machine that is busy with other things


class ApiError(Exception):
    pass


class Api:
    def __init__(self, data):
        data = pathlib.Path(data)
        self.address = (data / "control.addr").read_text().strip()
        self.token = (data / "token").read_text().strip()

    def open(self, method, path, body=None, timeout=30):
        """(connection, answer); the caller closes the connection."""
        c = http.client.HTTPConnection(self.address, timeout=timeout)
        try:
            c.request(method, "/api/v1" + path, body,
                      {"Authorization": f"Bearer {self.token}", "overtake-actor": "demo"})
            return c, c.getresponse()
        except Exception:
            c.close()
            raise

    def call(self, method, path, body=None, **query):
        """The JSON of a good answer. ApiError says what the answer said; OSError when there is none."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        if isinstance(body, dict):
            body = json.dumps(body)
        try:
            c, answer = self.open(method, path, body)
            with contextlib.closing(c):
                text = answer.read()
        except http.client.HTTPException as e:
            raise ConnectionError(str(e)) from e
        value = json.loads(text)
        if answer.status != 200:
            raise ApiError(f"{method} {path}: {answer.status}: {value.get('error')}")
        return value

    def get(self, path, **query):
        return self.call("GET", path, **query)

    def post(self, path, body, **query):
        return self.call("POST", path, body, **query)


class Log(threading.Thread):
    """Follows the event log from its beginning, over restarts of the control plane."""

    def __init__(self, api, show):
        super().__init__(daemon=True, name="log")
        self.api, self.show = api, show
        self.events = []
        self.changed = threading.Condition()
        self.stopped = False

    def run(self):
        while not self.stopped:
            try:
                c, answer = self.api.open("GET", f"/events/stream?after={self.last()}")
                with_lines(c, answer, self.take)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.05)  # nobody is there: ask again

    def last(self):
        return self.events[-1]["seq"] if self.events else 0

    def take(self, line):
        if not line.strip() or self.stopped:
            return
        e = json.loads(line)
        e["text"] = (e.get("payload") or {}).get("text") or ""
        self.show(e)
        with self.changed:
            self.events.append(e)
            self.changed.notify_all()

    def find(self, types, after=0):
        """The first event after seq `after` whose type is one of `types`, or None."""
        types = (types,) if isinstance(types, str) else types
        return next((e for e in list(self.events) if e["seq"] > after and e["type"] in types), None)

    def wait(self, types, after=0, unless=()):
        """Waits for such an event. One of a type in `unless` that comes first ends it: TimeoutError
        says so, and so it does when the time is up."""
        end = time.monotonic() + PATIENCE
        with self.changed:
            while True:
                e, bad = self.find(types, after), self.find(unless, after)
                if e and (not bad or e["seq"] < bad["seq"]):
                    return e
                if bad:
                    raise TimeoutError(f"waited for {types}, but {bad['type']}: {bad['text']}")
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"waited {PATIENCE} s for {types}; the last event was "
                                       f"{self.events[-1]['type'] if self.events else 'none'}")
                self.changed.wait(left)


def with_lines(connection, answer, take):
    """Every line of an answer that goes on and on."""
    try:
        if answer.status != 200:
            raise ValueError(answer.read()[:200])
        while line := answer.readline():
            take(line)
    finally:
        connection.close()
