"""horovodrun: its usual flags, turned into those of `overtake run`."""

import argparse
import os
import shutil
import sys


def overtake():
    beside = os.path.join(os.path.dirname(sys.executable), "overtake")
    found = shutil.which("overtake") or shutil.which(beside)
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
    p.add_argument("--min-np", "--min-num-proc", type=int, help="elastic: goes on while so many ranks are left")
    p.add_argument("--max-np", "--max-num-proc", type=int, help="elastic: grows to so many")
    p.add_argument("--host-discovery-script", help="elastic: prints 'host:slots' lines")
    p.add_argument("--slots-per-host", "--slots", type=int, help="for hosts that the script prints without slots")
    p.add_argument("--elastic-timeout", type=int, help="seconds in which ranks must meet again")
    p.add_argument("--reset-limit", type=int, help="how often ranks may change before the job fails")
    p.add_argument("--timeline-filename", help="when each rank did what, in one file")
    for name in ("fusion-threshold-mb", "cycle-time-ms", "cache-capacity", "num-nccl-streams",
                 "log-level", "stall-check-warning-time-seconds", "stall-check-shutdown-time-seconds"):
        p.add_argument(f"--{name}", help="not needed")
    p.add_argument("command", nargs=argparse.REMAINDER)
    return p


REFUSED = {
    "mpi": "start the program with mpirun itself: ranks find each other there, too",
    "jsrun": "start the program with jsrun itself, with OVERTAKE_RENDEZVOUS set",
}


def elastic(a):
    """Flags of `overtake run` for an elastic job."""
    script = a.host_discovery_script
    if (a.max_np or script or a.reset_limit is not None) and not a.min_np:
        a.min_np = a.num_proc or 1
    if script and a.slots_per_host:
        script = (f"found=$({script}) || exit; printf '%s\\n' \"$found\" | "
                  f"sed -E 's/^([^:[:space:]]+)[[:space:]]*$/\\1:{a.slots_per_host}/'")
    for flag, value in (("--min-np", a.min_np), ("--max-np", a.max_np), ("--host-discovery-script", script),
                        ("-x", a.elastic_timeout and f"HOROVOD_ELASTIC_TIMEOUT={a.elastic_timeout}"),
                        ("-x", a.reset_limit is not None and f"HOROVOD_RESET_LIMIT={a.reset_limit}")):
        if value:
            yield from (flag, str(value))


def command(a):
    """`overtake run` with what these flags ask for, without the program."""
    made = [overtake(), "run"]
    ssh = "ssh -o BatchMode=yes" + (f" -p {a.ssh_port}" if a.ssh_port else "") + (
        f" -i {a.ssh_identity_file}" if a.ssh_identity_file else "")
    for flag, value in (("-np", a.num_proc), ("-H", a.hosts), ("--hostfile", a.hostfile),
                        ("--start-timeout", a.start_timeout and f"{a.start_timeout}s"),
                        ("--output-dir", a.output_filename), ("--timeline", a.timeline_filename),
                        ("--ssh", ssh if a.ssh_port or a.ssh_identity_file else None),
                        ("--log-level", "debug" if a.verbose else None)):
        made += [flag, str(value)] if value else []
    return made + list(elastic(a))


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
    launch = command(a)
    program = a.command[1:] if a.command[0] == "--" else a.command
    os.execvp(launch[0], launch + ["--", *program])


if __name__ == "__main__":
    sys.exit(main())
