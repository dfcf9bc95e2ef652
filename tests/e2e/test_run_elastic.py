"""`overtake run --min-np`: ranks are lost, found and drained, and the job goes on."""

import json
import os
import pathlib
import re
import signal
import sys

import pytest

from replica import PATIENCE, ROOT, wait_for
from test_run import job, ssh  # noqa: F401: fixtures

RANK = ROOT / "tests" / "e2e" / "elastic_rank.py"


class Elastic:
    """A job of ranks that go on, and what they have said."""

    def __init__(self, job, tmp_path, *options, program=(), **more):
        self.until = tmp_path / "enough"
        self.job = job("--output", "json", *options, "--", sys.executable, RANK, f"until={self.until}", *program, **more)

    def pids(self):
        return {int(n): int(p) for n, p in re.findall(r"^\[(\d+)\] pid (\d+)$", self.job.out.read_text(), re.M)}

    def under_way(self, epoch, size):
        """rank -> (process, rank before, size before), once all ranks of the epoch do steps."""
        def find():
            got = re.findall(rf"^\[(\d+)\] epoch {epoch} rank (\d+) of {size} was (-?\d+) of (\d+) under way$",
                             self.job.out.read_text(), re.M)
            return {int(r): (int(p), int(b), int(s)) for p, r, b, s in got} if len(got) == size else None
        return wait_for(f"epoch {epoch} of {size} ranks: {self.job.out.read_text()}{self.job.err.read_text()}", find)

    def kill(self, process, signo=signal.SIGKILL):
        os.kill(self.pids()[process], signo)

    def agents(self, host):
        return [p for p in self.job.agents()
                if f"FAKE_HOST={host}".encode() in pathlib.Path(f"/proc/{p}/environ").read_bytes().split(b"\0")]

    def ends_well(self, size):
        """All ranks of the last epoch have done the same steps."""
        self.until.touch()
        assert self.job.ends() == 0, self.job.err.read_text()
        done = re.findall(r"^\[\d+\] (done at .*)$", self.job.out.read_text(), re.M)
        assert len(done) == size and len(set(done)) == 1, done
        self.job.leaves_nothing()
        return self.result()

    def result(self):
        return json.loads(self.job.out.read_text().splitlines()[-1])


@pytest.fixture
def elastic(job, tmp_path):
    return lambda *options, **more: Elastic(job, tmp_path, *options, **more)


@pytest.mark.parametrize("victim", [0, 2])
def test_the_others_go_on_and_the_place_is_filled_again(elastic, victim):
    e = elastic("-np", 3, "--min-np", 2)
    first = e.under_way(1, 3)
    assert first == {r: (r, -1, 0) for r in range(3)}
    e.kill(victim)
    left = [r for r in range(3) if r != victim]
    assert e.under_way(2, 2) == {i: (r, r, 3) for i, r in enumerate(left)}
    assert e.under_way(3, 3) == {0: (left[0], 0, 2), 1: (left[1], 1, 2), 2: (3, -1, 0)}
    e.job.says(rf"rank {victim} \(host \S+, process \d+\) was killed by signal 9")
    e.job.says(r"going on with 2 ranks \(epoch 2\)")
    e.job.says(r"going on with 3 ranks, 1 of them new \(epoch 3\)")
    r = e.ends_well(3)
    assert (r["epochs"], r["admitted"], r["ranks_lost"]) == (3, 1, 1) and f"rank {victim} " in r["who_was_lost"]


def test_too_few_are_left(elastic):
    e = elastic("-np", 3, "--min-np", 3, program=["limit=60"])
    e.under_way(1, 3)
    e.kill(1)
    assert e.job.ends() == 137
    said = re.findall(r"^\[(\d)\] no epoch: (-\d+) .*2 ranks are left, and --min-np is 3", e.job.out.read_text(), re.M)
    assert sorted(said) == [("0", "-14"), ("2", "-14")]
    r = e.result()
    assert r["rank"] == 1 and "2 of 3 ranks are left, and --min-np is 3" in r["why"] and r["ranks_lost"] == 1
    e.job.leaves_nothing()


def test_a_program_that_knows_nothing_of_it_ends_with_the_first(elastic):
    e = elastic("-np", 3, "--min-np", 1, program=["aware=no"])
    e.under_way(1, 3)
    e.kill(1)
    assert e.job.ends() == 137
    r = e.result()
    assert r["rank"] == 1 and "killed by signal 9" in r["why"] and r["ranks_lost"] == 3
    e.job.leaves_nothing()


def test_two_at_once_are_left_behind(elastic):
    e = elastic("-np", 4, "--min-np", 2)
    e.under_way(1, 4)
    pids = e.pids()
    for victim in (0, 3):
        os.kill(pids[victim], signal.SIGKILL)
    # Who dies second may do so in the epoch that has begun without the first.
    e.job.says(r"going on with 2 ranks \(epoch \d\)")
    e.job.says(r"going on with 4 ranks, \d of them new \(epoch \d\)")
    r = e.ends_well(4)
    assert r["ranks_lost"] == 2 and r["admitted"] == 2


def test_one_that_is_stopped_for_ever_is_set_aside(elastic):
    e = elastic("-np", 3, "--min-np", 2, "--stopped-after", "1s")
    e.under_way(1, 3)
    e.kill(1, signal.SIGSTOP)
    e.job.says(r"rank 1 \(host \S+, process \d+\) has been stopped for 1s")
    e.under_way(2, 2)
    e.under_way(3, 3)
    assert e.ends_well(3)["ranks_lost"] == 1


def test_a_lost_host_is_left_behind_and_tried_again(elastic, ssh):
    e = elastic("-H", "localhost:2,b:2", "--min-np", 2, "--address", "127.0.0.1", "--ssh", ssh)
    e.under_way(1, 4)
    os.kill(e.agents("b")[-1], signal.SIGKILL)
    assert e.under_way(2, 2) == {0: (0, 0, 4), 1: (1, 1, 4)}
    e.job.says(r"host b is set aside for 1s")
    e.job.says(r"going on with \d ranks, \d of them new \(epoch 3\)")
    e.job.says(r"going on with 4 ranks")
    assert e.ends_well(4)["ranks_lost"] == 2


def test_hosts_are_found_and_drained(elastic, ssh, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost:2\n")
    e = elastic("--min-np", 1, "--max-np", 3, "--host-discovery-script", f"cat {hosts}", "--address", "127.0.0.1", "--ssh", ssh)
    e.under_way(1, 2)
    hosts.write_text("localhost:2\nb:1\n")
    assert e.under_way(2, 3) == {0: (0, 0, 2), 1: (1, 1, 2), 2: (2, -1, 0)}
    hosts.write_text("b:1\n")
    assert e.under_way(3, 1) == {0: (2, 2, 3)}
    e.job.says(r"host \S+ is no longer among the job's")
    for process in (0, 1):
        e.job.says(rf"(?m)^\[{process}\] no epoch: -9 .*is to leave", e.job.out)
    r = e.ends_well(1)
    assert r["ranks_lost"] == 0 and r["admitted"] == 1


def test_one_that_dies_while_it_waits_harms_nobody(elastic, tmp_path):
    """It is stopped before it reaches init, which others do not wait for, and killed there."""
    e = elastic("-np", 2, "--min-np", 1, "-x", f"HOLD={tmp_path / 'hold'}")
    e.under_way(1, 2)
    (tmp_path / "hold").touch()
    e.kill(1)
    e.under_way(2, 1)
    held = e.job.says(r"held (\d+)", e.job.out)
    os.kill(int(held[1]), signal.SIGKILL)
    e.job.says(r"waited to be admitted and was killed by signal 9")
    (tmp_path / "hold").unlink()
    e.under_way(3, 2)
    assert e.ends_well(2)["ranks_lost"] == 1


def test_one_that_is_killed_between_its_arrival_and_its_admission_harms_nobody(elastic, tmp_path):
    """The survivors let nobody in meanwhile, and hear of each that waits and waits no more."""
    shut = tmp_path / "shut"
    e = elastic("-np", 2, "--min-np", 1, program=[f"shut={shut}"])
    e.under_way(1, 2)
    shut.touch()
    e.kill(1)
    e.under_way(2, 1)
    e.job.says(r"(?m)^\[0\] 1 waiting$", e.job.out)
    joiner = e.job.says(r"(?m)^\[2\] starts (\d+)$", e.job.out)
    os.kill(int(joiner[1]), signal.SIGKILL)
    e.job.says(r"a new process \(\[2\], host \S+, process \d+\) waited to be admitted and was killed by signal 9")
    e.job.says(r"(?m)^\[0\] 0 waiting$", e.job.out)
    shut.unlink()
    assert e.under_way(3, 2) == {0: (0, 0, 1), 1: (3, -1, 0)}
    r = e.ends_well(2)
    assert (r["ranks_lost"], r["admitted"]) == (1, 1)


def test_a_fenced_rank_that_comes_back_reaches_nobody_and_says_so(elastic, ssh):
    """Stopped for too long together with its agent, which therefore can't end it; then the rank goes on."""
    e = elastic("-H", "localhost:2,b:1", "--min-np", 2, "--address", "127.0.0.1", "--ssh", ssh, "--stopped-after", "1s")
    e.under_way(1, 3)
    fenced, agent = e.pids()[2], e.agents("b")[-1]
    os.kill(fenced, signal.SIGSTOP)
    e.job.says(r"rank 2 \(host b, process \d+\) is stopped")
    os.kill(agent, signal.SIGSTOP)
    try:
        e.job.says(r"rank 2 \(host b, process \d+\) has been stopped for 1s")
        assert e.under_way(2, 2) == {0: (0, 0, 3), 1: (1, 1, 3)}
        os.kill(fenced, signal.SIGCONT)
        wait_for("the fenced rank to end by itself",
                 lambda: pathlib.Path(f"/proc/{fenced}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z")
    finally:
        os.kill(agent, signal.SIGCONT)
    e.job.says(r"(?m)^\[2\] no epoch: -9 .* was set aside: it was taken for lost, and the job goes on without it", e.job.out)
    e.job.says(r"going on with 3 ranks, 1 of them new \(epoch 3\)")
    assert e.ends_well(3)["ranks_lost"] == 1


def test_timeline_explanation_and_state_of_a_job_that_has_changed(elastic, tmp_path):
    e = elastic("-np", 3, "--min-np", 2, "--explain", "--timeline", tmp_path / "line.json", "--state-file", tmp_path / "state.json")
    e.under_way(1, 3)
    e.kill(0)
    e.under_way(3, 3)
    r = e.ends_well(3)
    state = json.loads((tmp_path / "state.json").read_text())
    assert [(x["epoch"], x["np"], x["new"], x["lost"]) for x in state["epochs"]] == [(1, 3, 0, 1), (2, 2, 0, 0), (3, 3, 1, 0)]
    assert state["epoch"] == 3 and [x["rank"] for x in state["ranks"]] == [0, 1, 2]
    done = float(re.search(r"done at (\S+) ", e.job.out.read_text())[1])
    assert state["steps"] >= done - 3, "steps of all epochs, but for those that a failure took"
    assert r["explain"]["ranks"] == 3
    line = json.loads((tmp_path / "line.json").read_text())
    assert len(line["otherData"]["ranks"]) == 3
    begun = [x["ts"] for x in line["traceEvents"] if x["ph"] != "M"]
    assert begun and {x["pid"] for x in line["traceEvents"]} == {0, 1, 2}


def test_nothing_is_left_of_it_when_the_launcher_is_killed(elastic):
    e = elastic("-np", 3, "--min-np", 2)
    e.under_way(1, 3)
    e.kill(1)
    e.under_way(2, 2)
    e.job.process.kill()
    e.job.leaves_nothing()


def test_one_killed_while_the_next_epoch_is_formed(elastic):
    """The first to die ends the epoch; another dies as soon as it has heard of that."""
    e = elastic("-np", 4, "--min-np", 2, program=["dies=2"])
    e.under_way(1, 4)
    e.kill(1)
    e.job.says(r"rank 2 \(host \S+, process \d+\) was killed by signal 9")
    e.job.says(r"going on with 4 ranks, \d of them new")
    assert e.ends_well(4)["ranks_lost"] == 2
