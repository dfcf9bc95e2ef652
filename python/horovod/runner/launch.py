"""horovodrun: its usual flags, turned into those of `overtake run`."""

import argparse
import os
import shutil
import sys


def overtake():
    found = shutil.which("overtake")
    if found is None:
        sys.exit("horovodrun: 'overtake' is not on PATH; install it or add its folder")
    return found


def parser():
    p = argparse.ArgumentParser(prog="horovodrun", description="A program on many ranks, by `overtake run`.")
    p.add_argument("-v", "--version", action="store_true")
    p.add_argument("-cb", "--check-build", action="store_true", help="what is built in")
    p.add_argument("-np", "--num-proc", type=int)
    p.add_argument("-H", "--hosts")
    p.add_argument("-hostfile", "--hostfile")
    p.add_argument("-p", "--ssh-port", type=int)
    p.add_argument("-i", "--ssh-identity-file")
    p.add_argument("--start-timeout", type=int, help="seconds")
    p.add_argument("--output-filename", help="folder for what each rank prints")
    p.add_argument("--network-interfaces", "--network-interface", help="addresses are all tried")
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--disable-cache", action="store_true", help="not needed")
    p.add_argument("--gloo", "--use-gloo", action="store_true", help="not needed")
    p.add_argument("--mpi", "--use-mpi", action="store_true", help="refused")
    p.add_argument("--jsrun", "--use-jsrun", action="store_true", help="refused")
    p.add_argument("--min-np", "--min-num-proc", type=int, help="refused: elastic")
    p.add_argument("--max-np", "--max-num-proc", type=int, help="refused: elastic")
    p.add_argument("--host-discovery-script", help="refused: elastic")
    p.add_argument("--timeline-filename", help="refused")
    for name in ("fusion-threshold-mb", "cycle-time-ms", "cache-capacity", "num-nccl-streams",
                 "log-level", "stall-check-warning-time-seconds", "stall-check-shutdown-time-seconds"):
        p.add_argument(f"--{name}", help="not needed")
    p.add_argument("command", nargs=argparse.REMAINDER)
    return p


REFUSED = {
    "mpi": "start the program with mpirun itself: ranks find each other there, too",
    "jsrun": "start the program with jsrun itself, with OVERTAKE_RENDEZVOUS set",
    "min_np": "elastic membership is not backed yet; give -np",
    "max_np": "elastic membership is not backed yet; give -np",
    "host_discovery_script": "elastic membership is not backed yet; give -H",
    "timeline_filename": "the timeline is not backed yet",
}


def main(argv=None):
    a = parser().parse_args(argv)
    if a.version:
        from horovod import __version__
        print(__version__)
        return 0
    if a.check_build:
        print("Frameworks: [X] PyTorch  [X] TensorFlow  [X] Keras\nControllers: [X] Overtake  [ ] MPI  [ ] Gloo\n"
              "Tensor operations: [X] Overtake  [ ] NCCL  [ ] MPI  [ ] Gloo  [ ] oneCCL")
        return 0
    for name, instead in REFUSED.items():
        if getattr(a, name):
            sys.exit(f"horovodrun: --{name.replace('_', '-')} is not backed; {instead}")
    if not a.command:
        sys.exit("horovodrun: no program to run")
    command = [overtake(), "run"]
    ssh = "ssh -o BatchMode=yes" + (f" -p {a.ssh_port}" if a.ssh_port else "") + (
        f" -i {a.ssh_identity_file}" if a.ssh_identity_file else "")
    for flag, value in (("-np", a.num_proc), ("-H", a.hosts), ("--hostfile", a.hostfile),
                        ("--start-timeout", a.start_timeout and f"{a.start_timeout}s"),
                        ("--output-dir", a.output_filename),
                        ("--ssh", ssh if a.ssh_port or a.ssh_identity_file else None),
                        ("--log-level", "debug" if a.verbose else None)):
        command += [flag, str(value)] if value else []
    program = a.command[1:] if a.command[0] == "--" else a.command
    os.execvp(command[0], command + ["--", *program])


if __name__ == "__main__":
    sys.exit(main())
