"""Jobs over a real ssh: its client, and a server of our own with keys of its own, on a port that the kernel chose."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from replica import OVERTAKE, PATIENCE, ROOT, wait_for
from test_bench_cluster import bench, check
from test_run import job, run  # noqa: F401: fixtures
from test_run_ranks import numbered, ranks

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:{ROOT}/.deps/sshd/usr/sbin")
UNPACKED = ROOT / ".deps" / "sshd" / "usr" / "lib"

SERVER = """\
HostKey {d}/host
AuthorizedKeysFile {d}/keys/user.pub
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PidFile none
"""

CLIENT = """\
Host *
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {d}/keys/user
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {d}/known
  HostKeyAlias here
  StrictHostKeyChecking yes
"""

# What sshd needs of the system when it runs as root: a user of its own and a folder. In a mount namespace they are there.
AROUND = "mount --bind {d}/passwd /etc/passwd && mount -t tmpfs none /run && mkdir /run/sshd && exec \"$@\""


class Server:
    """A listener that hands each connection to a new `sshd -i`."""

    def __init__(self, d):
        self.d, self.sessions = d, []
        libraries = ":".join(str(p.parent) for p in UNPACKED.glob("*/libwrap.so.0"))
        self.env = {**os.environ, "LD_LIBRARY_PATH": libraries} if "/.deps/" in SSHD else None
        self.words = [SSHD, "-i", "-f", str(d / "config")]
        if os.getuid() == 0:
            (d / "passwd").write_text(open("/etc/passwd").read() + "sshd:x:65530:65534::/run/sshd:/usr/sbin/nologin\n")
            self.words = ["unshare", "--mount", "sh", "-c", AROUND.format(d=d), "sh", *self.words]
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.sessions.append(subprocess.Popen(self.words, stdin=connection, stdout=connection,
                                                      stderr=open(self.d / "log", "ab"), env=self.env))

    def idle(self):
        wait_for("the end of all sessions", lambda: all(s.poll() is not None for s in self.sessions))

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()
        for s in self.sessions:
            s.kill()
            s.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if SSHD is None or not shutil.which("ssh"):
        pytest.skip("no ssh or sshd here (tools/deps.sh sshd)")
    d = tmp_path_factory.mktemp("ssh")
    (d / "keys").mkdir()
    for name in ("host", "keys/user", "keys/stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d / name], check=True)
    (d / "config").write_text(SERVER.format(d=d))
    (d / "known").write_text("here " + (d / "host.pub").read_text())
    s = Server(d)
    user = pwd.getpwuid(os.getuid()).pw_name
    (d / "client").write_text(CLIENT.format(d=d, port=s.socket.getsockname()[1], user=user))
    try:
        got = subprocess.run(["ssh", "-F", d / "client", "-o", "BatchMode=yes", "x", "echo here"], capture_output=True,
                             text=True, timeout=PATIENCE)
        if got.stdout != "here\n":
            pytest.skip(f"no login through sshd here: {got.stderr[-300:]} {(d / 'log').read_text()[-300:]}")
        yield s
    finally:
        s.close()


@pytest.fixture
def ssh(server):
    """Options of `overtake run`; every name is a host there."""
    yield ["--ssh", f"ssh -F {server.d / 'client'} -o BatchMode=yes"]
    server.idle()


def test_ranks_of_three_hosts_meet(ssh, tmp_path):
    r = run("-H", "localhost:1,b:2,c:1", *ssh, "-x", "GIVEN=a b", "--output-dir", tmp_path, *ranks())
    assert r.returncode == 0, r.stderr
    assert numbered(r.stdout.decode(), r"sum (\S+)") == {i: "4.0" for i in range(4)}
    assert "sum 4.0" in (tmp_path / "rank-3.log").read_text()
    r = run("-H", "b:1,c:1", *ssh, "-x", "GIVEN=a 'b", "--", "sh", "-c", 'echo "$GIVEN $OVERTAKE_RANK"; pwd')
    assert sorted(r.stdout.decode().splitlines()) == sorted(
        line for i in range(2) for line in (f"[{i}] a 'b {i}", f"[{i}] {os.getcwd()}")), r.stderr


def test_a_rank_that_is_killed_there_is_named(ssh, job, tmp_path):  # noqa: F811
    j = job("-H", "b:1,c:1", *ssh, *ranks(f"until={tmp_path / 'enough'}"))
    pids = j.started(2)
    j.says("under way", where=j.out)
    os.kill(pids[1], signal.SIGKILL)
    assert j.ends() == 137
    j.says(r"rank 1 \(host c, process \d+\) was killed by signal 9")
    assert re.search(r"\[0\] failed: .*rank 1 \(host c\) was killed by signal 9", j.out.read_text())


def test_nothing_is_left_there_of_a_killed_launcher(ssh, job, tmp_path):  # noqa: F811
    j = job("-H", "b:2", *ssh, *ranks(f"until={tmp_path / 'enough'}"))
    pids = j.started(2)
    j.process.kill()
    j.process.wait()
    wait_for("the end of the ranks", lambda: not any(os.path.exists(f"/proc/{p}") for p in pids.values()))


@pytest.mark.parametrize("has, other, why", [("keys/user", "keys/stranger", "Permission denied"),
                                             ("Alias here", "Alias unknown", "Host key verification failed")])
def test_who_is_not_let_in_is_told_why(server, tmp_path, has, other, why):
    config = (server.d / "client").read_text()
    assert has in config
    (tmp_path / "client").write_text(config.replace(has, other))
    r = run("-H", "localhost:1,b:1", "--ssh", f"ssh -F {tmp_path / 'client'} -o BatchMode=yes", "--settle", "0s",
            "--", "sleep", "1000")
    assert r.returncode != 0 and why in r.stderr.decode() and "host b" in r.stderr.decode(), r.stderr


def test_a_cluster_is_measured(ssh):
    report = json.loads(bench("-H", "localhost:1,b:1", *ssh, "--max-bytes", "64KiB", "--output", "json").stdout)
    assert report["ranks"] == 2
    check(report, [4096, 65536])
