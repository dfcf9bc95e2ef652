"""`overtake bench cluster`: what it measures, here and between hosts that are network namespaces."""

import json
import subprocess

from replica import OVERTAKE, PATIENCE
from test_run_hosts import hosts, net  # noqa: F401: fixtures


def bench(*args, within=(), code=0):
    r = subprocess.run([*within, str(OVERTAKE), "bench", "cluster", *map(str, args)], capture_output=True, text=True,
                       timeout=PATIENCE)
    assert r.returncode == code, r.stderr
    return r


def check(report, sums):
    figures = {(f["what"], f["bytes"]): f for f in report["figures"]}
    for f in figures.values():
        assert 0 < f["low_quartile_us"] <= f["median_us"] <= f["high_quartile_us"] and f["n"] >= 5, f
    assert sorted(b for w, b in figures if w == "allreduce") == sums
    for size in sums:
        f = figures["allreduce", size]
        assert f["algorithm"] and abs(f["share_of_bound"] - f["bound_us"] / f["median_us"]) < 0.001, f
        assert f["bound_us"] > figures["barrier", 0]["median_us"], f
    assert figures["small", 4096]["tensors"] == 100
    return figures


def test_on_one_host(tmp_path):
    report = json.loads(bench("-np", 3, "--max-bytes", "1MiB", "--output", "json").stdout)
    assert (report["ranks"], report["hosts"]) == (3, 1)
    figures = check(report, [4096, 65536, 1 << 20])
    assert not any(w in ("tcp", "round_trip") for w, _ in figures)
    # What was measured of the links is what the next run takes.
    links = tmp_path / "links"
    links.write_text(report["links"])
    text = bench("-np", 2, "--max-bytes", "4KiB", "--links", links).stdout
    assert text.startswith("2 ranks on 1 host\n") and "allreduce of 4 KiB" in text and "local.latency_us" in text


def test_between_hosts(hosts):  # noqa: F811
    within, options = hosts
    report = json.loads(bench(*options, "--max-bytes", "64KiB", "--output", "json", within=within).stdout)
    assert (report["ranks"], report["hosts"]) == (3, 3)
    figures = check(report, [4096, 65536])
    tcp = next(f for (w, _), f in figures.items() if w == "tcp")
    trip = figures["round_trip", 1]
    # 2(h-1)/h of the bytes over TCP as it was measured, and a barrier.
    wire = 4 / 3 * 65536 * tcp["median_us"] / tcp["bytes"]
    f = figures["allreduce", 65536]
    assert abs(f["bound_us"] - wire - figures["barrier", 0]["median_us"]) < 0.01 * f["bound_us"], f
    assert abs(figures["barrier", 0]["bound_us"] - trip["median_us"]) < 0.01, trip
    assert "remote.bytes_per_us" in report["links"]


def test_refusals(tmp_path):
    assert "two or more" in bench("-H", "localhost:1", code=1).stderr
    assert "No such file" in bench("-np", 2, "--links", tmp_path / "none", code=1).stderr
    assert "np" in bench("-np", 1, code=2).stderr
    r = subprocess.run([str(OVERTAKE), "bench", "cluster", "--as-rank="], capture_output=True, text=True, timeout=PATIENCE)
    assert r.returncode == 1 and "two or more" in r.stderr
