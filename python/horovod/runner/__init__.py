"""horovod.run(): a function on many ranks; horovodrun: a program on many ranks. Both by `overtake run`."""

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile

from . import launch


def run(func, args=(), kwargs=None, num_proc=None, np=None, min_num_proc=None, min_np=None, max_num_proc=None, max_np=None,
        slots=None, reset_limit=None, elastic_timeout=None, hosts=None, hostfile=None, host_discovery_script=None,
        start_timeout=None, ssh_port=None, ssh_identity_file=None, output_filename=None, verbose=None, env=None, **refused):
    """What func(*args, **kwargs) returned, by rank; of an elastic job (min_num_proc, max_num_proc, host_discovery_script) by
    the ranks that were there at the end. The folder of temporary files must be one for all hosts."""
    if refused:
        raise NotImplementedError(f"horovod.run: {', '.join(sorted(refused))} not backed; see docs/horovod.md")
    try:
        import cloudpickle as pickler
    except ImportError:
        pickler = pickle
    flags = launch.parser().parse_args([])
    vars(flags).update(
        num_proc=num_proc or np or (None if host_discovery_script else 1), min_np=min_num_proc or min_np,
        max_np=max_num_proc or max_np, slots_per_host=slots, reset_limit=reset_limit, elastic_timeout=elastic_timeout,
        hosts=hosts, hostfile=hostfile, host_discovery_script=host_discovery_script, start_timeout=start_timeout,
        ssh_port=ssh_port, ssh_identity_file=ssh_identity_file, output_filename=output_filename, verbose=verbose)
    command = launch.command(flags)
    with tempfile.TemporaryDirectory(prefix="horovod-run-") as folder:
        folder = pathlib.Path(folder)
        (folder / "call").write_bytes(pickler.dumps((func, tuple(args), kwargs or {})))
        done = subprocess.run([*command, "--", sys.executable, "-m", "horovod.runner.task", str(folder)],
                              env={**os.environ, **(env or {}), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        results = sorted(folder.glob("result.*[0-9]"), key=lambda path: int(path.suffix[1:]))
        if done.returncode != 0 or len(results) < (flags.min_np or flags.num_proc):
            raise RuntimeError(f"horovod.run: the job ended with exit code {done.returncode}; what it said stands above")
        return [pickle.loads(r.read_bytes()) for r in results]
