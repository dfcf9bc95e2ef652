"""Traffic with an exact ledger, and the labels that come later.

`Traffic` sends rows at a fixed rate over a few connections; every row is a fresh distortion of an image
(digits.py). `Labels` is a labelling service: it names the truth of each answered row some seconds
later, by its prediction id.

A request fails if it gets anything but a 200 with a prediction and its id: a reset, a timeout and an
answer of another shape count as much as a 500.

    python traffic.py LEDGER.csv        sums up a ledger by phase and version"""

import collections
import csv
import http.client
import json
import sys
import threading
import time

import numpy as np

import digits

BLOCK = 64  # rows made at a time

Entry = collections.namedtuple("Entry", "n time_us phase image truth id version predicted latency_us fault")


class Ledger:
    """One entry a request, in the order in which they were answered."""

    def __init__(self):
        self.entries = []
        self.lock = threading.Lock()

    def add(self, entry):
        with self.lock:
            self.entries.append(entry)

    def write(self, path):
        with open(path, "w", newline="") as f:
            out = csv.writer(f)
            out.writerow(Entry._fields)
            out.writerows(self.entries)

    def of(self, phase=None, version=None, since_us=0, to_us=1 << 62):
        return [e for e in list(self.entries) if phase in (None, e.phase) and version in (None, e.version)
                and since_us <= e.time_us < to_us]


def failed(entries):
    return [e for e in entries if e.fault]


def accuracy(entries):
    """(share of right answers, answers); NaN without any."""
    answered = [e for e in entries if not e.fault]
    right = sum(e.predicted == e.truth for e in answered)
    return (right / len(answered) if answered else float("nan")), len(answered)


class Source:
    """Rows of the phase that is on. A new phase begins with the next row."""

    def __init__(self, seed):
        self.images, self.labels, self.pools = digits.pools()
        self.rng = np.random.default_rng(seed)
        self.lock = threading.Lock()
        self.n = 0
        self.phase = self.block = None

    def enter(self, phase, pool, corruption):
        with self.lock:
            self.phase, self.pool, self.corruption = phase, self.pools[pool], corruption
            self.block = None
            return self.n

    def take(self):
        """(number, phase, image, truth, row as bytes)."""
        with self.lock:
            if not self.block:
                pick = self.rng.choice(self.pool, BLOCK)
                sights = digits.sight(self.images[pick], self.rng, self.corruption)
                self.block = list(zip(pick, sights))
            image, row = self.block.pop()
            self.n += 1
            return self.n, self.phase, int(image), int(self.labels[image]), row.tobytes()


class Traffic:
    def __init__(self, address, model, source, rate, connections=4, timeout=10):
        self.address, self.model, self.source, self.timeout = address, model, source, timeout
        self.ledger = Ledger()
        self.stopped = threading.Event()
        self.every = connections / rate
        self.input = self.signature()
        self.clients = [threading.Thread(target=self.client, args=(i * self.every / connections,),
                                         daemon=True, name=f"client-{i}") for i in range(connections)]

    def signature(self):
        c = http.client.HTTPConnection(self.address, timeout=self.timeout)
        c.request("GET", f"/v2/models/{self.model}")
        meta = json.loads(c.getresponse().read())
        c.close()
        spec = meta["inputs"][0]
        return {"name": spec["name"], "datatype": spec["datatype"], "shape": [1] + spec["shape"][1:],
                "parameters": {"binary_data_size": 4 * digits.SIZE ** 2}}

    def start(self):
        for c in self.clients:
            c.start()

    def stop(self):
        self.stopped.set()
        for c in self.clients:
            c.join(2 * self.timeout)

    def client(self, begin):
        head = json.dumps({"inputs": [self.input]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        connection = http.client.HTTPConnection(self.address, timeout=self.timeout)
        due = time.monotonic() + begin
        while not self.stopped.wait(max(0, due - time.monotonic())):
            due = max(due + self.every, time.monotonic() - 1)  # what a stall held up is sent, but not all at once
            n, phase, image, truth, row = self.source.take()
            sent_us, clock = time.time_ns() // 1000, time.perf_counter()
            id = fault = ""
            version = predicted = -1
            try:
                connection.request("POST", f"/v2/models/{self.model}/infer", head + row, headers)
                answer = connection.getresponse()
                id, version, predicted = self.read(answer, answer.read())
            except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as e:
                fault = f"{type(e).__name__}: {e}"[:200]
                connection.close()
            latency = int(1e6 * (time.perf_counter() - clock))
            self.ledger.add(Entry(n, sent_us, phase, image, truth, id, version, predicted, latency, fault))
        connection.close()

    @staticmethod
    def read(answer, body):
        """(prediction id, version, class) of a good answer; ValueError says what is wrong with it."""
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}: {body[:120]!r}")
        id = answer.getheader("overtake-prediction-id")
        if not id:
            raise ValueError("an answer without a prediction id")
        reply = json.loads(body)
        scores = next(o["data"] for o in reply["outputs"] if o["shape"] == [1, 10])
        if len(scores) != 10 or not all(0 <= p <= 1.001 for p in scores):
            raise ValueError(f"scores {scores}")
        return id, int(reply["model_version"]), max(range(10), key=scores.__getitem__)


class Labels(threading.Thread):
    """Posts the truth of each answered row `late` seconds after its request. While nobody listens it
    keeps what it has and tries again: a label that is posted twice counts once."""

    def __init__(self, api, deployment, ledger, late, every=0.25):
        super().__init__(daemon=True, name="labels")
        self.api, self.path, self.ledger = api, f"/deployments/{deployment}/labels", ledger
        self.late, self.every = late, every
        self.stopped = threading.Event()
        self.posted = self.joined = self.again = 0
        self.problem = None

    def run(self):
        while not self.stopped.wait(self.every):
            due = time.time_ns() // 1000 - int(self.late * 1e6)
            batch = []
            for e in self.ledger.entries[self.posted:]:
                if e.time_us > due:
                    break
                batch.append(e)
            try:
                self.post([{"id": e.id, "value": e.truth, "source": "reviewers"} for e in batch if not e.fault])
                self.posted += len(batch)
            except OSError:
                self.again += 1
            except Exception as e:  # a refusal is a finding, not a reason to go silent
                self.problem = self.problem or str(e)
                self.posted += len(batch)

    def post(self, labels):
        if labels:
            answer = self.api.post(self.path, {"labels": labels})
            self.joined += answer["joined"] + answer["waiting"]

    def stop(self):
        self.stopped.set()
        self.join(30)


def main():
    with open(sys.argv[1], newline="") as f:
        rows = [Entry(int(r["n"]), int(r["time_us"]), r["phase"], int(r["image"]), int(r["truth"]), r["id"],
                      int(r["version"]), int(r["predicted"]), int(r["latency_us"]), r["fault"])
                for r in csv.DictReader(f)]
    print(f"{'phase':<10} {'version':>7} {'requests':>9} {'failed':>7} {'accuracy':>9} {'p99 ms':>8}")
    for phase, version in sorted({(e.phase, e.version) for e in rows},
                                 key=lambda k: min(e.n for e in rows if (e.phase, e.version) == k)):
        part = [e for e in rows if (e.phase, e.version) == (phase, version)]
        p99 = np.quantile([e.latency_us for e in part], 0.99) / 1000
        print(f"{phase:<10} {version:>7} {len(part):>9} {len(failed(part)):>7} {accuracy(part)[0]:>9.3f} {p99:>8.2f}")
    print(f"{len(rows)} requests, {len(failed(rows))} failed, {len({e.id for e in rows if e.id})} prediction ids")


if __name__ == "__main__":
    main()
