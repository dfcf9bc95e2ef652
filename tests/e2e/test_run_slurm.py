"""`overtake run` in an allocation of Slurm: a controller and two nodes of its own on this machine."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from replica import OVERTAKE, PATIENCE, ROOT, wait_for

RANK = ROOT / "tests" / "e2e" / "collective_rank.py"
ELASTIC = ROOT / "tests" / "e2e" / "elastic_rank.py"
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={dir}/munge.sock
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool-%n
SlurmctldPidFile={dir}/ctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
MpiDefault=none
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4
PartitionName=p Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(n):
    held = [socket.socket() for _ in range(n)]
    try:
        for s in held:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    lacking = [p for p in ("munged", "slurmctld", "slurmd", "salloc", "srun") if not shutil.which(p)]
    if lacking or os.geteuid() != 0:
        pytest.skip(f"a Slurm of its own needs root and {lacking or 'nothing else'}")
    d = tmp_path_factory.mktemp("slurm")
    (d / "state").mkdir()
    (d / "slurm.conf").write_text(CONF.format(dir=d, host=socket.gethostname().split(".")[0], ports=free_ports(3)))
    (d / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    (d / "key").write_bytes(os.urandom(1024))
    (d / "key").chmod(0o400)
    env = {**os.environ, "SLURM_CONF": str(d / "slurm.conf")}
    daemons = [subprocess.Popen(words, env=env, stdout=open(d / f"{i}.out", "wb"), stderr=subprocess.STDOUT, start_new_session=True)
               for i, words in enumerate((
                   ["munged", "-F", "--force", f"--key-file={d}/key", f"--socket={d}/munge.sock", f"--pid-file={d}/munge.pid",
                    f"--log-file={d}/munge.log", f"--seed-file={d}/munge.seed"],
                   ["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]))]

    def idle():
        try:
            r = subprocess.run(["sinfo", "-h", "-o", "%t %D"], env=env, capture_output=True, timeout=10)
            return r.stdout.strip() == b"idle 2"
        except subprocess.TimeoutExpired:
            return False
    try:
        try:
            wait_for("Slurm's nodes", idle)
        except AssertionError:
            pytest.skip("Slurm does not start here: " + " | ".join((d / f"{i}.out").read_text()[-200:] for i in range(4)))
        yield env
    finally:
        for p in reversed(daemons):
            p.terminate()
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


def allocated(env, *words, tasks=2):
    r = subprocess.run(["salloc", "-Q", "-N2", f"--ntasks-per-node={tasks}", str(OVERTAKE), "run", *map(str, words)],
                       env=env, capture_output=True, timeout=PATIENCE)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def test_ranks_run_on_the_nodes_of_the_allocation(slurm):
    code, out, err = allocated(slurm, "--", "sh", "-c", "echo $RANK $WORLD_SIZE $LOCAL_RANK $SLURMD_NODENAME")
    assert code == 0, err
    assert sorted(out.splitlines()) == ["[0] 0 4 0 n1", "[1] 1 4 1 n1", "[2] 2 4 0 n2", "[3] 3 4 1 n2"]


def test_they_meet_and_sum(slurm):
    code, out, err = allocated(slurm, "--", sys.executable, RANK, tasks=1)
    assert code == 0, err
    assert re.findall(r"^\[\d\] sum (\S+)$", out, re.M) == ["2.0", "2.0"]


def test_a_failure_on_a_node_is_named_and_ends_the_job(slurm):
    code, _, err = allocated(slurm, "--settle", "0s", "--", "sh", "-c", "[ $RANK = 1 ] && exit 5; exec sleep 1000", tasks=1)
    assert code == 5
    assert re.search(r"the job failed: rank 1 \(host n2, process \d+\) ended with exit code 5", err), err


def test_an_elastic_job_goes_on_and_fills_the_place_again(slurm, tmp_path):
    """A rank is killed on the second node: the step there goes on, and starts another."""
    out, until = tmp_path / "out", tmp_path / "enough"
    with open(out, "wb") as f:
        p = subprocess.Popen(["salloc", "-Q", "-N2", "--ntasks-per-node=1", str(OVERTAKE), "run", "--min-np", "1", "--",
                              sys.executable, str(ELASTIC), f"until={until}"], env=slurm, stdout=f, stderr=subprocess.STDOUT)

    def says(what):
        return wait_for(f"{what} in {out.read_text()}", lambda: re.search(what, out.read_text(), re.M))
    try:
        says(r"^\[1\] epoch 1 rank 1 of 2 .* under way$")
        os.kill(int(says(r"^\[1\] pid (\d+)$")[1]), signal.SIGKILL)
        says(r"rank 1 \(host n2, process \d+\) was killed by signal 9")
        says(r"^\[0\] epoch 2 rank 0 of 1 .* under way$")
        says(r"^\[2\] epoch 3 rank 1 of 2 was -1 of 0 under way$")
        until.touch()
        assert p.wait(PATIENCE) == 0, out.read_text()
    finally:
        p.kill()
        p.wait()
    assert len(set(re.findall(r"done at (.*)$", out.read_text(), re.M))) == 1


def test_a_killed_launcher_leaves_nothing_on_the_nodes(slurm, tmp_path):
    p = subprocess.Popen(["salloc", "-Q", "-N2", "--ntasks-per-node=1", "sh", "-c",
                          f"echo $$ >{tmp_path}/launcher; exec {OVERTAKE} run -- sh -c 'echo $$ >{tmp_path}/$RANK; exec sleep 1000'"],
                         env=slurm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids = [int(wait_for(f"rank {i}", lambda: (tmp_path / str(i)).exists() and (tmp_path / str(i)).read_text())) for i in (0, 1)]
    os.kill(int((tmp_path / "launcher").read_text()), signal.SIGKILL)
    for pid in pids:
        wait_for(f"the end of {pid}", lambda: not os.path.exists(f"/proc/{pid}"))
    p.wait(PATIENCE)


def test_ranks_started_by_srun_find_each_other(slurm, tmp_path):
    """By Slurm's own variables; the names of these nodes are known to nobody, so where is said."""
    where = f"127.0.0.1:{free_ports(1)[0]}"
    r = subprocess.run(["srun", "-Q", "-N2", "-n3", sys.executable, str(RANK), f"out={tmp_path}"], capture_output=True, timeout=PATIENCE,
                       env={**slurm, "HOME": str(tmp_path), "OVERTAKE_RENDEZVOUS": where})
    assert r.returncode == 0, r.stdout + r.stderr
    assert [(tmp_path / f"rank-{i}").read_text() for i in range(3)] == [f"3.0 of {i} 3 {i} 3 0 1" for i in range(3)]


def test_a_script_for_sbatch_runs_when_it_is_submitted(slurm, tmp_path):
    script = tmp_path / "job.sh"
    made = subprocess.run([str(OVERTAKE), "run", "-np", "2", "--sbatch", "--", sys.executable, str(RANK)],
                          capture_output=True, check=True, timeout=PATIENCE)
    script.write_bytes(made.stdout)
    out = tmp_path / "out"
    r = subprocess.run(["sbatch", "--parsable", "-N2", "--wait", "-o", out, "-e", out, script],
                       env={**slurm, "PATH": f"{OVERTAKE.parent}:{os.environ['PATH']}"}, capture_output=True,
                       timeout=PATIENCE)
    text = out.read_text() if out.exists() else ""
    assert r.returncode == 0, r.stderr.decode() + text
    assert re.findall(r"^\[\d\] sum (\S+)$", text, re.M) == ["2.0", "2.0"], text
