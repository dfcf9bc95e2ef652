"""`overtake run` over hosts that share nothing but a wire: network namespaces on one switch, entered in the place of ssh."""

import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest

from replica import OVERTAKE, PATIENCE, ROOT, wait_for
from test_run import job  # noqa: F401: a fixture
from test_run_ranks import RANK, numbered, ranks

HOSTS = "abc"
# Who is first to see that somebody can't be heard: the launcher, another rank, or the rank itself, whose agent tells of its
# end by a way that is no wire here.
GONE = "(is lost: its connection|is lost: rank .* can't be heard|ended with exit code 3)"


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def net():
    """Namespaces a, b, c with addresses 10.99.0.1 to .3, each with a cable to a switch in a namespace of its own."""
    ns = {h: f"otrun{os.getpid()}{h}" for h in HOSTS + "s"}
    try:
        for name in ns.values():
            ip("netns", "add", name)
        ip("-n", ns["s"], "link", "add", "name", "switch0", "type", "bridge")
        ip("-n", ns["s"], "link", "set", "dev", "switch0", "up")
        for i, h in enumerate(HOSTS, 1):
            ip("-n", ns[h], "link", "add", "name", "eth0", "type", "veth", "peer", "name", f"port-{h}", "netns", ns["s"])
            ip("-n", ns["s"], "link", "set", "dev", f"port-{h}", "master", "switch0", "up")
            ip("-n", ns[h], "addr", "add", f"10.99.0.{i}/24", "dev", "eth0")
            ip("-n", ns[h], "link", "set", "eth0", "up")
            ip("-n", ns[h], "link", "set", "lo", "up")
        yield ns
    except (subprocess.CalledProcessError, FileNotFoundError) as e:
        pytest.skip(f"no network namespaces here: {getattr(e, 'stderr', e)}")
    finally:
        for name in ns.values():
            ip("netns", "del", name, check=False)


@pytest.fixture
def hosts(net, tmp_path):
    """What runs a job from host a: words before `overtake run`'s, and its options."""
    ssh = tmp_path / "ssh"
    ssh.write_text(textwrap.dedent(f"""\
        #!/bin/sh
        host=$1; shift
        exec ip netns exec otrun{os.getpid()}$host sh -c "exec $*"
        """))
    ssh.chmod(0o755)
    return ["ip", "netns", "exec", net["a"]], ["-H", "localhost:1,b:1,c:1", "--ssh", str(ssh)]


def test_ranks_meet_over_the_wire(hosts):
    within, options = hosts
    r = subprocess.run([*within, str(OVERTAKE), "run", *options, *map(str, ranks())], capture_output=True, timeout=PATIENCE)
    assert r.returncode == 0, r.stderr
    text = r.stdout.decode()
    assert numbered(text, r"sum (\S+)") == {i: "3.0" for i in range(3)}
    assert numbered(text, r"place (.*)") == {i: f"{i} 3 0 1 {i} 3" for i in range(3)}


def test_a_rank_that_is_killed_on_another_host_is_named_by_all(hosts, job, tmp_path):
    within, options = hosts
    j = job(*options, *ranks(f"until={tmp_path / 'enough'}"), within=within)
    pids = j.started(3)
    wait_for("steps", lambda: len(re.findall("under way", j.out.read_text())) == 3)
    os.kill(pids[1], signal.SIGKILL)
    assert j.ends() == 137
    said = numbered(j.out.read_text(), r"(failed: .*)")
    assert sorted(said) == [0, 2]
    assert all("rank 1 (host b) was killed by signal 9" in t for t in said.values()), said
    j.leaves_nothing()


def test_a_cable_that_is_pulled_names_the_host_behind_it(hosts, net, job, tmp_path):
    """The agent there lives on, and so does its rank: only the wire is gone."""
    within, options = hosts
    j = job(*options, "--settle", "1s", "--grace", "1s", *ranks(f"until={tmp_path / 'enough'}"), within=within)
    j.started(3)
    wait_for("steps", lambda: len(re.findall("under way", j.out.read_text())) == 3)
    ip("-n", net["s"], "link", "set", "dev", "port-c", "down")
    try:
        assert j.ends() != 0
    finally:
        ip("-n", net["s"], "link", "set", "dev", "port-c", "up")
    said = numbered(j.out.read_text(), r"(failed: .*)")
    assert all("rank 2 (host" in said[r] for r in (0, 1)), said
    assert re.search(r"the job failed: rank 2 \(host c, process \d+\) " + GONE, j.err.read_text())
    j.leaves_nothing()
