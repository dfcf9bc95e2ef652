"""tools/bench.sh goes on after a bench that misses a target, and says at the end which did."""

import os
import re
import subprocess

from replica import PATIENCE, ROOT


def all_benches(tmp_path, failing):
    """With programs in the place of the benches: they fail where their command has one of the words."""
    stub = tmp_path / "stub"
    stub.write_text(f"""#!/bin/sh
        case "$(basename "$0") $*" in {"|".join(f'*"{w}"*' for w in failing)}) exit 3 ;; esac
        """ if failing else "#!/bin/sh\n")
    stub.chmod(0o755)
    script = (ROOT / "tools" / "bench.sh").read_text()
    in_turn = re.search(r"^for \w+ in ([\w ]+); do", script, re.MULTILINE)[1].split()
    names = {f"{n}_bench" for n in in_turn} | set(re.findall(r"(\w+_bench)\b", script))
    for name in [f"bench/{n}" for n in names] + [f"tests/unit/stats/edetect_{t}_test" for t in ("null", "delay")]:
        path = tmp_path / "build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(stub)
    return subprocess.run([str(ROOT / "tools" / "bench.sh")], capture_output=True, text=True, timeout=PATIENCE, env={
        **os.environ, "BUILD": str(tmp_path / "build"), "PYTHON": str(stub), "TORCH_PYTHON": str(stub)})


def test_all_reached(tmp_path):
    done = all_benches(tmp_path, [])
    assert done.returncode == 0 and re.search(r"bench: all \d\d ran", done.stdout), done.stdout + done.stderr


def test_what_was_missed_is_named_at_the_end(tmp_path):
    done = all_benches(tmp_path, ["accuracy_bench.py --rate 1gbit", "codec_bench", "edetect_null"])
    assert done.returncode == 1 and "# up" in done.stdout and "# detector, delay" in done.stdout, done.stdout + done.stderr
    first, *said = done.stderr[done.stderr.index("bench: of "):].splitlines()
    assert "failed or missed a target:" in first
    assert [(line.split()[1].rstrip(":,"), line[-1]) for line in said] == [("codec", "3"), ("time", "3"), ("detector", "1")], said
