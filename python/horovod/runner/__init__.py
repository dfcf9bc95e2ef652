"""horovod.run(): a function on many ranks; horovodrun: a program on many ranks. Both by `overtake run`."""

import os
import pathlib
import pickle
import subprocess
import sys
import tempfile

from .launch import overtake


def run(func, args=(), kwargs=None, num_proc=None, np=1, hosts=None, hostfile=None, start_timeout=None,
        ssh_port=None, output_filename=None, verbose=None, env=None, **refused):
    """What func(*args, **kwargs) returned, by rank. The folder of temporary files must be one for all hosts."""
    if refused:
        raise NotImplementedError(f"horovod.run: {', '.join(sorted(refused))} not backed; see docs/horovod.md")
    try:
        import cloudpickle as pickler
    except ImportError:
        pickler = pickle
    with tempfile.TemporaryDirectory(prefix="horovod-run-") as folder:
        folder = pathlib.Path(folder)
        (folder / "call").write_bytes(pickler.dumps((func, tuple(args), kwargs or {})))
        command = [overtake(), "run", "-np", str(num_proc or np)]
        for flag, value in (("-H", hosts), ("--hostfile", hostfile), ("--output-dir", output_filename),
                            ("--start-timeout", start_timeout and f"{start_timeout}s"),
                            ("--ssh", ssh_port and f"ssh -o BatchMode=yes -p {ssh_port}")):
            command += [flag, str(value)] if value else []
        command += ["--", sys.executable, "-m", "horovod.runner.task", str(folder)]
        done = subprocess.run(command, env={**os.environ, **(env or {}),
                                            "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        results = [folder / f"result.{rank}" for rank in range(num_proc or np)]
        if done.returncode != 0 or not all(r.exists() for r in results):
            raise RuntimeError(f"horovod.run: the job ended with exit code {done.returncode}; what it said "
                               "stands above")
        return [pickle.loads(r.read_bytes()) for r in results]
