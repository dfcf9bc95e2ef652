"""Network namespaces whose links are shaped to a rate, and how figures are printed: for the benches between ranks."""

import os
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = ROOT / os.environ.get("BUILD", "build/release")
PYTHON = "/usr/bin/python3"  # has Debian's PyTorch
BURST = 256 << 10


def sh(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")


class Net:
    """A bridge and a namespace a rank; both ends of each link shaped."""

    def __init__(self, n, rate):
        self.tag, self.n = f"otb{os.getpid() % 10000}", n
        self.names = [f"{self.tag}n{i}" for i in range(n)]
        self.addresses = [f"10.77.0.{i + 1}" for i in range(n)]
        try:
            sh("ip", "link", "add", self.tag, "type", "bridge")
            sh("ip", "link", "set", self.tag, "up")
            for i, name in enumerate(self.names):
                outside = f"{self.tag}v{i}"
                sh("ip", "netns", "add", name)
                sh("ip", "link", "add", outside, "type", "veth", "peer", "name", "wire", "netns", name)
                sh("ip", "link", "set", outside, "master", self.tag, "up")
                for command in (["ip", "addr", "add", f"{self.addresses[i]}/24", "dev", "wire"],
                                ["ip", "link", "set", "wire", "up"], ["ip", "link", "set", "lo", "up"],
                                ["tc", "qdisc", "add", "dev", "wire", "root", "tbf", "rate", rate, "burst",
                                 str(BURST), "latency", "50ms"]):
                    sh("ip", "netns", "exec", name, *command)
                sh("tc", "qdisc", "add", "dev", outside, "root", "tbf", "rate", rate, "burst", str(BURST),
                   "latency", "50ms")
        except SystemExit:
            self.close()
            raise

    def close(self):
        for name in self.names:
            sh("ip", "netns", "del", name, check=False)
        sh("ip", "link", "del", self.tag, check=False)


def core_type():
    """For Debian's OpenBLAS: on a processor newer than itself it takes kernels of an old one (15 of 94 GFLOP/s measured)."""
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    known = [{"OPENBLAS_CORETYPE": name} for flag, name in (("avx512bw", "SKYLAKEX"), ("avx2", "HASWELL")) if flag in flags]
    return known[0] if known else {}


def environment():
    return {**core_type(), **os.environ, "PYTHONPATH": str(ROOT / "python"), "OVERTAKE_LIB": str(BUILD / "libovertake.so")}


def load():
    return pathlib.Path("/proc/loadavg").read_text().split()[0]


def spread(values):
    return f"{statistics.median(values):.4g} [{min(values):.4g}, {max(values):.4g}]"
