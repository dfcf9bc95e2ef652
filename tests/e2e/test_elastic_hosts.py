"""Jobs whose hosts reach the launcher and not each other: network namespaces on one switch, with links cut."""

import re

import pytest

from replica import wait_for
from test_run import job  # noqa: F401: a fixture
from test_run_elastic import elastic  # noqa: F401: a fixture
from test_run_hosts import hosts, ip, net  # noqa: F401: fixtures
from test_run_ranks import numbered, ranks


@pytest.fixture
def cut(net):
    """cut("b", "c"): the two reach all but each other, until mended()."""
    def isolate(names, how):
        for h in names:
            ip("-n", net["s"], "link", "set", "dev", f"port-{h}", "type", "bridge_slave", "isolated", how)
    done = []

    def cut_them(*names):
        done[:] = names
        isolate(names, "on")
    cut_them.mended = lambda: isolate(done, "off")
    yield cut_them
    cut_them.mended()


def test_a_cut_between_two_of_three_sets_one_host_aside(elastic, hosts, cut):
    """Of b and c, which miss as many ranks, the one of the higher rank goes, and comes back when the cut is mended."""
    within, options = hosts
    e = elastic(*options, "--min-np", 2, within=within)
    e.under_way(1, 3)
    cut("b", "c")
    assert e.under_way(2, 2) == {0: (0, 0, 3), 1: (1, 1, 3)}
    pair = r"rank 1 \(host \S+\) and rank 2 \(host \S+\) can't link, though both reach the launcher"
    e.job.says(rf"{pair}: .*: the host of the latter, \S+, is set aside, as its ranks are the higher ones")
    e.job.says(rf"rank 2 \(host c, process \d+\) is lost: {pair}")
    e.job.says(r"host c is set aside for 1s")
    e.job.says(rf"(?m)^\[2\] no epoch: -9 .*was set aside: {pair}", e.job.out)
    cut.mended()
    e.job.says(r"going on with 3 ranks, 1 of them new")
    assert e.ends_well(3)["ranks_lost"] == 1


def test_two_halves_that_both_reach_the_launcher_and_too_few(elastic, hosts, cut):
    """Two ranks on each side: one side is set aside as a whole, and the verdict names the pair."""
    within, options = hosts
    e = elastic("-H", "b:2,c:2", *options[2:], "--min-np", 3, within=within)
    e.under_way(1, 4)
    cut("b", "c")
    assert e.job.ends() == 1
    r = e.result()
    pair = r"rank 0 \(host \S+\) and rank 2 \(host \S+\) can't link, though both reach the launcher"
    assert re.search(rf"is lost: {pair}: .*; 2 of 4 ranks are left, and --min-np is 3", r["why"]), r
    assert r["host"] == "c" and r["ranks_lost"] == 2
    said = re.findall(r"(?m)^\[(\d)\] no epoch: (-\d+) ", e.job.out.read_text())
    assert sorted(said) == [("0", "-14"), ("1", "-14"), ("2", "-9"), ("3", "-9")]
    e.job.leaves_nothing()


def test_a_cut_in_a_job_that_is_not_elastic_names_the_other_and_ends_it(job, hosts, cut, tmp_path):
    """Nothing but the link between b and c is gone, and nobody's connection to the launcher."""
    within, options = hosts
    j = job(*options, "--settle", "1s", "--grace", "1s", *ranks(f"until={tmp_path / 'enough'}"), within=within)
    j.started(3)
    wait_for("steps", lambda: len(re.findall("under way", j.out.read_text())) == 3)
    cut("b", "c")
    assert j.ends() != 0
    said = numbered(j.out.read_text(), r"(failed: .*)")
    assert sorted(said) == [0, 1, 2]
    assert all(re.search(r"rank [12] \(host \S+\) can't be heard any more: nothing has come back from its host for 8 s", t)
               for t in said.values()), said
    assert re.search(r"the job failed: rank [12] \(host [bc], process \d+\) ", j.err.read_text()), j.err.read_text()
    j.leaves_nothing()
