"""A linear model, what it must answer, and clients of the replica that serves it as `m`."""

import http.client
import json
import threading

import numpy as np

import replica as r

W = [[1.0, -1.0], [2.0, 0.5], [0.0, 3.0], [-1.0, 1.0]]
ROWS = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [-1, 0, 1, 0]], dtype=np.float32)


def expected(x, w=W):
    return np.asarray(x, np.float32) @ np.asarray(w, np.float32)


def one(**changes):
    t = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4], **changes}
    return {"inputs": [{k: v for k, v in t.items() if v is not None}]}


def raw_request(body, path="/v2/models/m/infer"):
    text = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(text), text)


def read_answers(f, n):
    out = []
    for _ in range(n):
        status = int(f.readline().split()[1])
        length = 0
        while (line := f.readline().strip()):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        out.append((status, json.loads(f.read(length))))
    return out


class Load:
    """Clients that send until told to stop, and keep an exact ledger of what came back."""

    def __init__(self, server, check, clients=8, path="/v2/models/m/infer"):
        self.server, self.check, self.path = server, check, path
        self.sent = self.good = 0
        self.wrong = []
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(k,)) for k in range(clients)]
        for t in self.threads:
            t.start()

    def run(self, k):
        rng = np.random.default_rng(k)
        c = http.client.HTTPConnection(self.server.host, self.server.port, timeout=r.PATIENCE)
        while not self.stop.is_set():
            x = rng.standard_normal((int(rng.integers(1, 4)), 4)).astype(np.float32)
            head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": list(x.shape),
                                           "parameters": {"binary_data_size": x.nbytes}}],
                               "parameters": {"binary_data_output": True}}).encode()
            with self.lock:
                self.sent += 1
            try:
                c.request("POST", self.path, head + x.tobytes(),
                          {"Inference-Header-Content-Length": str(len(head))})
                a = c.getresponse()
                body = a.read()
                problem = None if a.status == 200 else f"{a.status} {body[:200]}"
                if problem is None:
                    n = int(a.headers["Inference-Header-Content-Length"])
                    y = np.frombuffer(body[n:], np.float32).reshape(len(x), -1)
                    problem = self.check(x, y, a.headers)
            except (OSError, http.client.HTTPException) as e:
                problem = repr(e)
                c.close()
            with self.lock:
                if problem is None:
                    self.good += 1
                else:
                    self.wrong.append(problem)

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join()
        assert not self.wrong, (len(self.wrong), self.wrong[:3])
        assert self.good == self.sent > 0
        return self.sent


def check_linear(x, y, headers):
    return None if np.allclose(y, expected(x), rtol=1e-5, atol=1e-5) else f"{x} -> {y}"
