"""Five ranks that sum beside eight busy loops and a program that fills and drops memory: nobody is accused.

BUSY_SECONDS: how long (15; `make test-long` takes 600)."""

import os
import re
import subprocess
import sys
import textwrap

from replica import OVERTAKE, PATIENCE, ROOT

SECONDS = float(os.environ.get("BUSY_SECONDS", 15))
RANK = textwrap.dedent("""
    import sys, time
    import numpy as np
    import overtake.collective as oc

    oc.init()
    x, n, end = np.ones(50000, "float32"), 0, time.monotonic() + float(sys.argv[1])
    more = np.ones(1, "int32")
    while oc.allreduce(more, oc.MIN, name="more")[0]:
        assert oc.allreduce(x, oc.SUM, name="x")[-1] == oc.size()
        n += 1
        more[0] = time.monotonic() < end
    print("sums", n, flush=True)
    oc.finalize()
""")
LOAD = "while True: pass"
MEMORY = textwrap.dedent("""
    while True:
        kept = [bytearray(b"x" * (16 << 20)) for _ in range(64)]
        del kept
""")


def test_nobody_is_accused_on_a_busy_machine():
    others = [subprocess.Popen([sys.executable, "-c", text]) for text in [LOAD] * 8 + [MEMORY]]
    try:
        done = subprocess.run(
            [str(OVERTAKE), "run", "-np", "5", "--", sys.executable, "-c", RANK, str(SECONDS)],
            capture_output=True, text=True, timeout=SECONDS + 4 * PATIENCE,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python"),
                 "OVERTAKE_LIB": str(OVERTAKE.parent / "libovertake.so")})
    finally:
        for p in others:
            p.kill()
            p.wait()
    sums = re.findall(r"^\[\d\] sums (\d+)$", done.stdout, re.M)
    assert done.returncode == 0 and len(sums) == 5 and len(set(sums)) == 1, done.stdout + done.stderr
    assert done.stderr == "", done.stderr
    print(f"{sums[0]} steps of 5 ranks in {SECONDS:.0f} s beside 9 busy processes: nobody accused")
