"""Reads a file of Chrome's trace event format and fails on whatever its document does not allow ("Trace Event Format",
the JSON object format; the phases that we use). Slices of a row must nest, asynchronous ones by their id."""

import collections
import json
import numbers

REQUIRED = {"X": {"name", "ph", "ts", "dur", "pid", "tid"}, "M": {"name", "ph", "pid", "args"},
            "b": {"name", "ph", "ts", "pid", "tid", "cat", "id"}, "e": {"name", "ph", "ts", "pid", "tid", "cat", "id"},
            "i": {"name", "ph", "ts", "pid", "tid", "s"}}
METADATA = {"process_name": str, "thread_name": str, "process_labels": str, "process_sort_index": int, "thread_sort_index": int}


def check_event(e):
    assert e["ph"] in REQUIRED, e
    assert REQUIRED[e["ph"]] <= set(e) <= REQUIRED[e["ph"]] | {"args", "cat", "tid"}, e
    assert isinstance(e["name"], str) and e["name"], e
    assert all(isinstance(e[k], int) for k in ("pid", "tid") if k in e), e
    assert all(isinstance(e[k], numbers.Real) and e[k] >= 0 for k in ("ts", "dur") if k in e), e
    assert isinstance(e.get("args", {}), dict), e
    assert e["ph"] != "i" or e["s"] in ("g", "p", "t"), e
    if e["ph"] == "M":
        assert e["name"] in METADATA, e
        key = "sort_index" if e["name"].endswith("sort_index") else "labels" if e["name"] == "process_labels" else "name"
        assert isinstance(e["args"][key], METADATA[e["name"]]), e


def check_nesting(events):
    rows, ids = collections.defaultdict(list), collections.defaultdict(list)
    for e in events:
        if e["ph"] == "X":
            rows[e["pid"], e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
        elif e["ph"] in "be":
            ids[e["cat"], e["id"]].append(e)
    for row in rows.values():
        open_until = []
        for begin, end in sorted(row, key=lambda s: (s[0], -s[1])):
            while open_until and open_until[-1] <= begin + 0.001:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + 0.001, ("slices overlap", begin, end)
            open_until.append(end)
    for of_id in ids.values():
        stack, last = [], 0
        for e in of_id:
            assert e["ts"] >= last, e
            last = e["ts"]
            if e["ph"] == "b":
                stack.append(e["name"])
            else:
                assert stack and stack.pop() == e["name"], e
        assert not stack, stack


def read(path):
    """(events, otherData)"""
    def once(pairs):
        assert len({k for k, _ in pairs}) == len(pairs), pairs
        return dict(pairs)
    with open(path, encoding="utf-8") as f:
        whole = json.load(f, object_pairs_hook=once)
    assert set(whole) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert whole["displayTimeUnit"] in ("ms", "ns") and isinstance(whole["otherData"], dict)
    for e in whole["traceEvents"]:
        check_event(e)
    check_nesting(whole["traceEvents"])
    return whole["traceEvents"], whole["otherData"]
