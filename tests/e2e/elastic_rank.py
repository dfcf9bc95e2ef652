"""One rank of an elastic job: steps that are checked number by number, until FILE is there; after a failure, and when
somebody waits to be admitted or is to leave, it goes on in the next epoch.

    elastic_rank.py until=FILE [aware=no] [limit=SECONDS] [times=FILE] [dies=PROCESS, at its first failure]
        [shut=FILE: nobody is let in while it is there]

While the file that HOLD names is there, it waits before init.
"""

import os
import pathlib
import signal
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))
os.environ.setdefault("OVERTAKE_LIB", str(ROOT / os.environ.get("BUILD", "build/release") / "libovertake.so"))

import numpy as np  # noqa: E402
import overtake.collective as oc  # noqa: E402

args = dict(a.split("=", 1) for a in sys.argv[1:])
state = np.zeros(2)  # steps, and what they have summed up to: the same on all ranks


def say(*words):
    print(*words, flush=True)


def agree():
    """All go on from the state of the one that is ahead; who is new has none."""
    global state
    steps = oc.allgather(state[:1], name="steps")
    state = oc.broadcast(state, root=int(np.argmax(steps)), name="state")


def one_step():
    """Whether to go on, and whether to ask for the next epoch before."""
    m = oc.membership()
    changes = 0 if os.path.exists(args.get("shut", "")) else m.waiting + m.leaving
    mine = np.array([1, m.rank, changes, not os.path.exists(args["until"])], np.float32)
    ones = np.full(10000, m.rank + 1, np.float32)
    told, total = oc.allreduce(mine, oc.SUM, name="told"), oc.allreduce(ones, oc.SUM, name="w")
    want = m.size * (m.size + 1) / 2
    assert told[0] == m.size and told[1] == want - m.size, (told, m.size)
    assert (total == want).all(), (total, want)
    state[:] += 1, want
    return told[3] == m.size, told[2] > 0


def where():
    m = oc.membership()
    return f"epoch {m.epoch} rank {m.rank} of {m.size} was {m.previous_rank} of {m.previous_size}"


def reform():
    try:
        oc.reform(float(args.get("limit", 0)))
    except oc.CollectiveError as e:
        say("no epoch:", e.code, e)
        sys.exit(7)


def main():
    hold = os.environ.get("HOLD", "")
    say("starts", os.getpid())
    if os.path.exists(hold):
        say("held", os.getpid())
    while os.path.exists(hold):
        time.sleep(0.05)
    oc.init()
    say("pid", os.getpid())
    again, going = False, True
    while going:
        try:
            if again:
                reform()
            again = False
            agree()
            going, again = one_step()
            say(where(), "under way")
            if "times" in args:
                with open(args["times"], "a") as f:
                    f.write(f"{oc.membership().epoch} {oc.size()} {time.time()}\n")
            waited = 0
            while going and not again:
                going, again = one_step()
                if oc.membership().waiting != waited:
                    waited = oc.membership().waiting
                    say(waited, "waiting")
                oc.step()
                time.sleep(0.005)
        except oc.CollectiveError as e:
            say("failed:", e)
            if args.get("aware") == "no":
                sys.exit(9)
            if args.get("dies") == os.environ["OVERTAKE_WORKER"]:
                os.kill(os.getpid(), signal.SIGKILL)
            again = True
    say("done at", *state)
    oc.finalize()


main()
