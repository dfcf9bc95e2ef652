"""kill -9 of everything (kill_campaign.py), and what a killed supervisor leaves behind."""

import os
import random
import subprocess

import kill_campaign
from replica import OVERTAKE, wait_for
from up import two_classes

X = two_classes(5, 99)[0]


def test_kills_lose_nothing(tmp_path):
    """KILL_SEED repeats a campaign, KILLS makes it longer."""
    seed = int(os.environ.get("KILL_SEED", 0)) or random.SystemRandom().randrange(1, 1 << 31)
    kills = int(os.environ.get("KILLS", 30))
    report = kill_campaign.Campaign(tmp_path, seed, kills).run()
    # It would prove nothing if little had been going on.
    assert report["labels"] > 10 * kills and report["acts"] >= kills // 5 and report["answers"] > 20 * kills
    assert report["kills"]["run succeeded"] >= kills // 10, report


def test_the_next_up_waits_for_what_a_killed_one_left(up, app):
    u, a = up(), app()
    a.apply(u.api)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    u.expect_log("the control plane is gone")
    children = [u.child("control"), u.child("serve")]
    second = subprocess.run([OVERTAKE, "up", "--data", u.data, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"],
                            capture_output=True, text=True)
    assert second.returncode == 1
    assert f"is in use by another overtake (process {u.process.pid}); stop it or take another" in second.stderr
    head = u.api.get("/events", limit=1, newest=1)["head"]
    u.kill()
    u.start(same_ports=True)  # at once, while the children of the dead one still drain
    assert not any(kill_campaign.alive(pid) for pid in children)
    u.wait_serves("planes", 1, X)
    assert u.api.get("/events", after=head["seq"] - 1, limit=1)["events"][0]["hash"] == head["hash"]
    assert u.api.get("/events/verify")["ok"]


def test_a_restarted_replica_answers_only_when_it_can(up, app):
    """Connections wait in the backlog; nobody is told that the model is not known."""
    u, a = up(), app()
    u.expect_log("serve ended with signal 9", "control ended with signal 9", "the control plane is gone")
    a.apply(u.api)
    u.api.wait_event("version.promoted", "model/planes@1")
    u.wait_serves("planes", 1, X)
    for both in (False, True):
        if both:  # it has only what it kept
            os.kill(u.child("control"), 9)
        u.kill_child("serve")
        status, _, answer = u.infer("planes", X)
        assert status == 200 and answer["model_version"] == "1", answer
    wait_for("the control plane", u.answers)
