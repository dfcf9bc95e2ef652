"""Blue-green as a stage of a release: loaded beside the champion, all traffic at once, and back at once."""

import numpy as np

import replica as r
from up import Traffic

X = np.zeros((1, 4), np.float32)


def brought(tmp_path, name, scale):
    """A model that somebody made elsewhere: as right as the trained one."""
    return r.write_raw(tmp_path / name, r.linear([[-scale, scale], [0, 0], [0, 0], [0, 0]], bias=[0, 0], softmax=True))


def test_there_and_back_under_load(up, app, tmp_path):
    u, a = up(), app()
    a.apply(u.api, release=[{"blue_green": {"keep": "1h", "at_most": "5min", "roll_back_if": "never"}}])
    u.wait_serves("planes", 1, X)
    assert u.api.events("stage.entered") == []  # a first version has nothing to stand beside
    with Traffic(u, "planes") as t:
        r.wait_for("v1 answers", lambda: t.by_version.get(1, 0) > 20)
        u.api.act("planes", "push", path=str(brought(tmp_path, "green", 2)))
        entered = u.api.wait_event("stage.entered")
        assert entered["payload"]["stage"] == "blue_green" and entered["payload"]["share"] == 0
        promoted = u.api.wait_event("version.promoted", object="model/planes@2")
        assert "every replica serves it" in promoted["payload"]["text"]
        r.wait_for("v2 answers", lambda: t.by_version.get(2, 0) > 20)
        state = u.api.app("planes")["cycle"]
        assert state["stage"] == "probation" and state["share"] == 1
        before = dict(t.by_version)
        u.api.act("planes", "rollback")
        r.wait_for("v1 answers again", lambda: t.by_version[1] > before[1] + 20)
    assert t.problems == [] and t.answered == t.sent, t.problems[:3]
    assert set(t.by_version) == {1, 2}
    assert u.api.app("planes")["champion"] == 1
    back = u.api.wait_event("version.rolled_back", unless=())
    assert back["payload"]["serving"] == 1
