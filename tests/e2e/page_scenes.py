"""What the page may have to show: scenes, each with the control API's answers and an address. The API is played
by a script in the document, so that a scene is the same each time and costs nothing.

    python tests/e2e/page_scenes.py FOLDER [SCENE...]     # pictures: wide and light, narrow and dark
"""

import json
import math
import pathlib
import sys
import time

LONG = "claims-triage-for-the-northern-region-second-line-with-a-name-of-sixty4"
SENTENCE = ("the camera over the third belt was cleaned on Tuesday and since then every second image is brighter than "
            "anything that the model has seen; do not touch until Ines has looked at it, see the ticket")
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

PLAY = """((scene) => {
    let away = false;
    const open = []; // streams
    window.playAway = () => {
        away = true;
        for (const c of open.splice(0)) c.error(new TypeError('network error'));
    };
    const answer = (x, status = 200) => new Response(JSON.stringify(x), { status });
    window.fetch = async (path, init = {}) => {
        const u = new URL(path, location.href), p = u.pathname.slice('/api/v1'.length);
        if (away) throw new TypeError('Failed to fetch');
        if (scene.denied) return answer({ error: scene.denied }, 401);
        if (p === '/events/stream' || (p.endsWith('/log') && scene.running)) {
            return new Response(new ReadableStream({ start(c) {
                open.push(c);
                c.enqueue(new TextEncoder().encode(p.endsWith('/log') ? scene.log : '\\n'));
            } }));
        }
        if (p.endsWith('/log')) return new Response(scene.log);
        if (init.method === 'POST') return answer({ error: scene.refused ?? 'no' }, 409);
        const type = u.searchParams.get('type'), key = type === 'windows.received' ? `${p}?type` : p;
        if (type === 'drift.spread') {
            return answer({ events: scene.answers[p].events.filter((x) => x.type === type).reverse(), head: scene.answers[p].head });
        }
        if (p === '/events' && u.searchParams.get('limit') === '1') {
            const e = scene.answers[p].events.find((x) => x.seq === Number(u.searchParams.get('after')) + 1);
            return answer({ events: e ? [e] : [], head: scene.answers[p].head });
        }
        if (p === '/events' && u.searchParams.get('before')) {
            const rest = scene.answers[p].events.filter((x) => x.seq < Number(u.searchParams.get('before')));
            return answer({ events: rest.slice(0, 1000), head: scene.answers[p].head });
        }
        if (key === '/events') {
            return answer({ events: scene.answers[p].events.slice(0, 1000), head: scene.answers[p].head });
        }
        return key in scene.answers ? answer(scene.answers[key]) : answer({ error: scene.absent ?? `${p} is not here` }, 404);
    };
})"""

S = 1_000_000
NOW = int(time.time()) * S


def event(seq, type, text, object="app/digits", ago=0, **payload):
    return {"seq": seq, "time_us": NOW - ago * S, "actor": "overtake", "role": "", "scope": "digits", "type": type,
            "object": object, "payload": {"text": text, **payload}, "hash": SHA}


STORY = [
    ("app.applied", "app digits applied", "app/digits"),
    ("run.started", "run 1 (train) started", "run/1"),
    ("run.finished", "run 1 (train) succeeded: exit 0 after 12.1s", "run/1"),
    ("gate.passed", "v1 passed the gate: nothing serves yet", "model/digits@1"),
    ("version.promoted", "v1 promoted: no stage to pass", "model/digits@1"),
    ("windows.received", "300 rows of v1 in 1 window", "deployment/digits"),
    ("drift.detected", "pixel_3_4 up 1.9 sigma, pixel_3_5 up 1.7 sigma, pixel_0_1 outside its range up 12 points and 27 more since "
     "08:39 UTC", "deployment/digits"),
    ("drift.spread", "14 inputs by now; also pixel_5_4 up 1.2 sigma, pixel_5_5 up 1.1 sigma since 08:39 UTC", "deployment/digits"),
    ("drift.spread", "29 inputs by now; also pixel_6_0 down 0.9 sigma and 14 more since 08:39 UTC", "deployment/digits"),
    ("quality.degraded", "accuracy 0.51 on 71 labels since 08:39 UTC; the objective is 0.8", "deployment/digits"),
    ("trigger.fired", "retrain: accuracy.degraded and accuracy.estimate < 0.78", "app/digits"),
    ("run.started", "run 4 (train) started", "run/4"),
    ("run.finished", "run 4 (train) failed: exit 1 after 3.1s", "run/4"),
    ("cycle.failed", "the training failed: run 4 ended with exit 1", "app/digits"),
]


def log_of(story, step=20):
    out = []
    for i, (type, text, object) in enumerate(story):
        more = {"step": "train"} if type.startswith("run.") else {}
        if type == "drift.spread":
            more = {"first": next(e["seq"] for e in reversed(out) if e["type"] == "drift.detected"), "named": int(text.split()[0])}
        if type == "run.finished" and "failed" in text:
            more["state"] = "failed"
        out.append(event(i + 1, type, text, object, (len(story) - i) * step, **more))
    return {"events": out[::-1], "head": {"seq": len(out), "hash": SHA}}


def moved(n):
    return [{"name": f"pixel_{i // 8}_{i % 8}", "kind": ("location", "scale", "outside")[i % 3],
             "effect": (2.4 if i % 3 < 2 else 0.31) / (i + 1) * (-1 if i % 4 == 3 else 1),
             "unit": "sigma" if i % 3 < 2 else "share", "since_us": NOW - 600 * S, "evidence": 1e5, "latched": True,
             "text": ""} for i in range(n)]


def app(name="digits", **more):
    drift = more.pop("moved", 0)
    return {"app": name, "owner": "vision-team", "deployment": name, "champion": 3, "champion_since_us": NOW - 7 * 3600 * S,
            "previous": 2, "loop": "running", "site": None, "automation_off": None, "budgets": [], "degraded": False, "drift": drift > 0, "failures": 0,
            "cycle": {"number": 4, "state": "idle", "run": None, "version": None, "because": 5}, "labels_new": 2481,
            "objectives": [
                {"objective": "accuracy", "target": "at least 0.88", "value": 0.937, "holds": True, "lower": 0.921,
                 "upper": 0.951, "labelled": 1873},
                {"objective": "availability", "target": "at least 0.999", "value": 0.99993, "holds": True},
                {"objective": "latency_p99", "target": "at most 5ms in 99% of the windows of a day", "value": 3120.0,
                 "holds": True, "good_windows": 0.997}],
            "quality": {
                "drift": {"learning": False, "blocks_seen": 900, "blocks_needed": 336, "evidence": 81234.0 if drift else 3.1,
                          "threshold": 72000.0, "alarms": 1 if drift else 0, "moved": moved(drift), "version": 3,
                          "late_windows": 0, "promise_suspended": False, "last_block_us": NOW - 60 * S, "reason": None,
                          "outputs": {"learning": False, "blocks_seen": 900, "blocks_needed": 336, "evidence": 12.0,
                                      "threshold": 144000.0, "alarms": 0, "moved": [], "reason": None}},
                "labels": {"joined": 48211, "waiting": 120, "last_us": NOW, "testing": True, "degraded": False,
                           "evidence": 1.9, "threshold": 57600.0, "reason": None},
                "samples": {"segments": 40, "bytes": 1 << 20, "oldest_us": NOW - 86400 * S, "dropped_rows": 0},
                "accuracy": [{"version": 3, "role": "live", "labelled": 18073, "right": 16934, "estimate": 0.937,
                              "lower": 0.933, "upper": 0.94},
                             {"version": 2, "role": "shadow", "labelled": 9000, "right": 6300, "estimate": 0.70,
                              "lower": 0.69, "upper": 0.71}]},
            "plan": {"data": ["base", "recent"], "retrain_when": ["accuracy.degraded and accuracy.estimate < 0.78"],
                     "stages": [{"stage": s, "shares": []} for s in ("gate", "approval", "shadow", "canary", "probation")],
                     "window_us": 500000}, **more}


def new_app():
    return app(champion=None, previous=None, champion_since_us=0, labels_new=0, objectives=[],
               quality={"drift": None, "accuracy": []}, cycle={"number": 0, "state": "idle", "run": None, "version": None,
                                                               "because": 0})


def releasing(stage, **more):
    return {"number": 5, "state": "releasing", "run": None, "version": 4, "because": 9, "stage": stage, "share": more.pop(
        "share", 0.0), "entered_us": NOW - 40 * S, "deadline_us": NOW + 80 * S, "candidate": "serving", "evidence": None, **more}


EVIDENCE = {"compared": 300, "candidate_right": 279, "champion_right": 214, "only_candidate_right": 80,
            "only_champion_right": 15, "lower": -0.31, "upper": -0.13, "e_worse": 0.01, "verdict": "undecided",
            "candidate_answered": 300}
DEGRADED = [{"objective": "accuracy", "target": "at least 0.88", "value": 0.704, "holds": False, "lower": 0.671,
             "upper": 0.735, "labelled": 812}] + app()["objectives"][1:]


def windows(n=180, fall=None):
    points = []
    for i in range(n):
        at = NOW - (n - i) * 5 * S
        for version, role, share in ((3, "champion", 0.8), (4, "canary", 0.2), (2, "shadow", 0.0)):
            if role != "champion" and i < n // 2:
                continue
            requests = 0 if role == "shadow" else round(1500 * (share if i >= n // 2 else 1) * (1 + 0.2 * math.sin(i / 9)))
            points.append({"start_us": at, "version": version, "role": role, "covered_us": 5 * S,
                           "requests": requests or 1500, "rows": requests or 1500, "failed": 0,
                           "p50_us": 420.0 + 40 * math.sin(i / 5), "p99_us": 2900.0 + 400 * math.sin(i / 3 + version)})
    return {"from_us": NOW - 900 * S, "to_us": NOW, "bucket_us": 5 * S, "points": points}


def outcomes(n=60, fall=None):
    points = []
    for i in range(n):
        at = NOW - (n - i) * 15 * S
        for version, role, level in ((3, "live", 0.93), (2, "shadow", 0.7)):
            p = level - (0.22 if version == 3 and fall is not None and i > fall else 0) + 0.02 * math.sin(i * version)
            points.append({"start_us": at, "version": version, "role": role, "labelled": 300, "right": round(300 * p),
                           "lower": p - 0.03, "upper": min(1, p + 0.03)})
    return {"from_us": NOW - 900 * S, "to_us": NOW, "bucket_us": 15 * S, "points": points}


def blocks(high=False):
    n = 120
    return {"events": [{**event(1000 + i, "windows.received", ""), "payload": {
        "block_us": NOW - (n - i) * 30 * S, "inputs_before": 10 ** (5.1 * (i / n) ** 3) if high else 1 + i % 7,
        "outputs_before": 1 + i % 3}} for i in range(n)][::-1], "head": {"seq": 2000, "hash": SHA}}


def versions(n, name="digits"):
    status = {0: "canary", 1: "champion", 2: "retired", 3: "refused"}
    return {"name": name, "app": name, "created_us": NOW, "versions": n, "latest": n or None, "champion": 3, "challenger": 4,
            "list": [{"version": n - i, "bundle": SHA, "format": "onnx", "size_bytes": 26654, "status": status.get(i, "retired"),
                      "run": 4, "created_us": NOW - i * 3600 * S, "status_us": NOW - i * 3600 * S,
                      "metrics": {"base": {"accuracy": 0.941, "rows": 386}, "recent": {"accuracy": 0.93}, "loss": 0.21}}
                     for i in range(n)]}


def runs(n, name="digits"):
    states = ("running", "succeeded", "failed", "succeeded", "cancelled", "queued")
    return {"runs": [{"run": n - i, "app": name, "step": ("train", "evaluate", "package")[i % 3],
                      "state": states[i % len(states)], "attempt": 1, "created_us": NOW - (i + 1) * 90 * S,
                      "started_us": NOW - (i + 1) * 90 * S if states[i % 6] != "queued" else None,
                      "ended_us": None if i % 6 in (0, 5) else NOW - (i + 1) * 90 * S + 12_100_000, "parent": None,
                      "trigger_seq": None, "result": None} for i in range(min(n, 12))]}


def plain(a):
    return {k: v for k, v in a.items() if k not in ("objectives", "quality", "plan")}


def of_app(a, log=None, n_versions=4, fall=None, traffic=True, **more):
    name = a["app"]
    empty = {"from_us": 0, "to_us": NOW, "bucket_us": S, "points": []}
    return {"answers": {
        "/apps": {"apps": [plain(a)]}, f"/apps/{name}": a,
        f"/deployments/{name}/windows": windows() if traffic else empty,
        f"/deployments/{name}/outcomes": outcomes(fall=fall) if traffic else empty,
        "/models": {"models": [{"name": name}] if n_versions else []}, f"/models/{name}": versions(n_versions, name),
        f"/models/{name}/versions/{n_versions}": {**versions(n_versions, name)["list"][0], "lineage": {
            "parent": SHA, "run": 4, "code": SHA, "data": {"base": SHA, "recent": SHA},
            "parameters": {"epochs": 5, "rate": 0.01}, "environment": {}}} if n_versions else None,
        f"/apps/{name}/why": {"app": name, "version": n_versions, "serves": False, "chain": [], "text":
                              "v4 is in its canary: it was trained by run 4, because accuracy fell to 0.70 on 812 labels"},
        "/runs": runs(12 if n_versions else 0, name), "/events": log or log_of(STORY[:6]), "/events?type": blocks(fall is not None),
    }, **more}


def many_apps(n):
    return {"answers": {"/apps": {"apps": [plain(app(f"app-{i}" if i else LONG, degraded=i % 50 == 49, loop="paused" if i % 7 == 3
                                                    else "running")) for i in range(n)]}, "/events": log_of(STORY)}}


def many_events(n):
    story = [STORY[i % len(STORY)] for i in range(n)]
    return log_of(story, 1)


RUN = {"run": 4, "app": "digits", "step": "train", "state": "failed", "attempt": 1, "created_us": NOW - 90 * S,
       "started_us": NOW - 90 * S, "ended_us": NOW - 80 * S, "parent": None, "trigger_seq": 9, "result": {"text": "exit 1"}}
JOB = {"state": "running", "updated_us": NOW, "took_us": 80 * S, "restart": 1, "np": 3, "epoch": 2,
       "epochs": [{"epoch": e, "began_us": NOW - 80 * S, "np": 5 - e, "new": 0, "lost": 2 - e} for e in (1, 2)], "steps": 4812, "operations": 9624,
       "samples": 307968, "bytes": 3 << 30, "steps_per_s": 61.2, "operations_per_s": 122.4, "samples_per_s": 3917.0,
       "bytes_per_s": 41 << 20, "slowest": {"rank": 2, "host": "trainer-b.example.org", "waits": 0.31}, "result": None,
       "ranks": [{"rank": i, "host": f"trainer-{'aab'[i]}.example.org", "pid": 4000 + i, "state": "stopped" if i == 1 else "running",
                  "steps": 4812, "samples": 102656, "bytes": 1 << 30, "waits_us": (2 - i) * 9 * S} for i in range(3)]}
FAULT = {"code": 137, "restarts": 1, "why": "was killed by signal 9 (Killed)", "rank": 2, "pid": 4002, "lost": False,
         "host": "trainer-b.example.org", "last_line": "step 4812 loss 0.0312"}
LOG = "".join(f"epoch {i}: loss {1 / (i + 1):.4f} accuracy {1 - 0.4 / (i + 1):.4f} rows 4812 {'.' * (i % 90)}\n" for i in range(60))

MINUTE = 60 * S


def budget(objective="accuracy", remaining=0.4, **more):
    return {"objective": objective, "allowed": 0.12, "over_us": 28 * 86400 * S, "events": 48211.0, "bad": 3471.0,
            "remaining": remaining, "rates": [{"long_us": 60 * MINUTE, "short_us": 5 * MINUTE, "rate": 7.1, "rate_short": 8.0,
                                               "threshold": 6.0, "severity": "page", "holds": more.get("burning") is not None}],
            "burning": None, "spent": False, "off": False, "off_since_us": None, "granted_until_us": None, **more}


SPENT = {"automation_off": "the budget of accuracy was spent at 2026-11-28T03:00:00Z and nobody has resumed it", "degraded": True,
         "objectives": DEGRADED, "budgets": [budget(remaining=-0.02, spent=True, off=True, off_since_us=NOW - 3600 * S),
                                             budget("availability", 0.31, burning="page"), budget("latency_p99", 0.93)]}
FORBIDDEN = {"site": {"file": "/etc/overtake/site.yaml", "forbids": "app.yaml:9:3: retrain.at_most is 20 per day; the site allows "
                      "2 per day (site.yaml:4:5)"}}
EMPTY_LOG = {"events": [], "head": {"seq": 0, "hash": SHA}}
HELD = {"loop": "frozen", "held_by": "ines", "held_reason": SENTENCE}


AWAY = "playAway(); while (!document.querySelector('.away')) await new Promise(r => setTimeout(r, 20));"


def dialog(verb, reason=""):
    return f"""document.querySelector('[data-verb={verb}]').click(); await new Promise(r => setTimeout(r, 100));
        if ({json.dumps(reason)}) {{ const t = document.getElementById('ask-reason'); t.value = {json.dumps(reason)};
            t.dispatchEvent(new Event('input', {{ bubbles: true }})); await new Promise(r => setTimeout(r, 100));
            document.querySelector('dialog .primary').click(); }}"""


# name -> (address, scene, script once it is there)
SCENES = {
    "login": (None, {"answers": {}}, ""),
    "login-denied": (None, {"denied": "the token is not this data directory's; it is in the file token there"},
                     "document.getElementById('token').value = 'x'; document.getElementById('token').dispatchEvent(new Event("
                     "'input', {bubbles: true})); await new Promise(r => setTimeout(r, 50)); document.querySelector('.primary').click()"),
    "apps-0": ("/", many_apps(0), ""),
    "apps-1": ("/", many_apps(1), ""),
    "apps-10000": ("/", many_apps(10000), ""),
    "apps-no-match": ("/", many_apps(9), "const i = document.getElementById('find'); i.value = 'zzz'; i.dispatchEvent("
                      "new Event('input', {bubbles: true}))"),
    "apps-away": ("/", many_apps(3), AWAY),
    "app-new": ("/apps/digits", of_app(new_app(), log=log_of(STORY[:1]), n_versions=0, traffic=False), ""),
    "app-well": ("/apps/digits", of_app(app()), ""),
    "app-degraded": ("/apps/digits", of_app(app(degraded=True, moved=3, objectives=DEGRADED, failures=2), log=log_of(STORY),
                                            fall=40), ""),
    "app-moved-10000": ("/apps/digits", of_app(app(moved=10000), log=many_events(10000), n_versions=10000, fall=40), ""),
    "app-canary": ("/apps/digits", of_app(app(cycle=releasing("canary", share=0.2, evidence=EVIDENCE)),
                                          log=log_of(STORY[:9])), ""),
    "app-approval": ("/apps/digits", of_app(app(cycle=releasing("approval", deadline_us=NOW + 6 * 86400 * S))), ""),
    "app-frozen": ("/apps/digits", of_app(app(**HELD)), ""),
    "app-budget-spent": ("/apps/digits", of_app(app(**SPENT), log=log_of(STORY), fall=40), ""),
    "app-site-forbids": ("/apps/digits", of_app(app(**FORBIDDEN)), ""),
    "app-site-waits": ("/apps/digits", of_app(app(cycle={"number": 5, "state": "training", "run": None, "version": None, "because": 9,
                                                        "waits": "waits for the change window: Monday 08:00 UTC"})), ""),
    "app-long-name": (f"/apps/{LONG}", of_app(app(LONG, owner="somebody-with-a-rather-long-name@a-company-with-a-long-name.example",
                                                  **HELD), log=log_of([(t, x, f"model/{LONG}@4") for t, x, _ in STORY])), ""),
    "app-dialog": ("/apps/digits", of_app(app()), dialog("rollback")),
    "app-dialog-refused": ("/apps/digits", of_app(app(), refused="app digits: v2 is not held any more; " + SENTENCE),
                           dialog("rollback", "the new one is slow")),
    "app-lineage": ("/apps/digits", of_app(app()), "await new Promise(r => setTimeout(r, 200)); "
                    "document.querySelector('[data-version] button').click(); await new Promise(r => setTimeout(r, 200));"
                    "document.getElementById('h-versions').scrollIntoView()"),
    "app-event-open": ("/apps/digits", of_app(app(), log=log_of(STORY)), "document.querySelector('.event button').click();"
                       "await new Promise(r => setTimeout(r, 200)); document.getElementById('h-timeline').scrollIntoView()"),
    "app-alarm-open": ("/apps/digits", of_app(app(moved=29), log=log_of(STORY)), "document.querySelector("
                       "'.event[data-type=\"drift.detected\"] button').click(); await new Promise(r => setTimeout(r, 200));"
                       "document.getElementById('h-timeline').scrollIntoView()"),
    "app-absent": ("/apps/absent", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY)}, "absent": "app 'absent' is not here"}, ""),
    "app-away": ("/apps/digits", of_app(app(degraded=True, objectives=DEGRADED), log=log_of(STORY), fall=40), AWAY),
    "events-0": ("/events", {"answers": {"/apps": {"apps": []}, "/events": EMPTY_LOG}}, ""),
    "events-1": ("/events", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY[:1])}}, ""),
    "events-10000": ("/events", {"answers": {"/apps": {"apps": []}, "/events": many_events(10000)}}, ""),
    "run-running": ("/runs/4", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY), "/runs/4": {
        **RUN, "state": "running", "ended_us": None, "result": None}}, "log": LOG, "running": True}, ""),
    "run-failed": ("/runs/4", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY), "/runs/4": RUN}, "log": LOG +
                               "Traceback (most recent call last):\nValueError: no rows\n"}, ""),
    "run-ranks": ("/runs/4", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY), "/runs/4": {
        **RUN, "state": "running", "ended_us": None, "result": None, "job": JOB}}, "log": LOG, "running": True},
        "await new Promise(r => setTimeout(r, 200)); document.querySelectorAll('tbody button.link')[3].click()"),
    "run-ranks-failed": ("/runs/4", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY), "/runs/4": {
        **RUN, "result": {"text": "run 4 (train) killed: rank 2 (host trainer-b.example.org) was killed by signal 9 (Killed); "
                                  "its last line: step 4812 loss 0.0312", "job": FAULT},
        "job": {**JOB, "state": "ended", "result": FAULT, "slowest": None}}}, "log": LOG}, ""),
    "run-checkpoints": ("/runs/4", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY), "/runs/4": {
        **RUN, "resumed_from": {"run": 3, "step": 4600, "checkpoint": "ab" * 32}, "result": {"text": "run 4 (train) succeeded: exit 0"}},
        "/runs/4/checkpoints": {"run": 4, "training": 3, "checkpoints": [
            {"checkpoint": f"{i:064x}", "run": 4 - i, "step": 4800 - 200 * i, "made_us": NOW - i * 10 * S, "size_bytes": 1 << 30, "files": 3,
             "metrics": {"loss": 0.0312, "accuracy": 0.9812, "a-metric-with-a-rather-long-name": None}} for i in range(2)]}}, "log": LOG}, ""),
    "run-silent": ("/runs/4", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY), "/runs/4": RUN}, "log": ""}, ""),
    "run-absent": ("/runs/9", {"answers": {"/apps": {"apps": []}, "/events": log_of(STORY)}, "absent": "run 9 is not here", "log": ""}, ""),
}


def show(p, address, name):
    """Opens the page at `address` and plays the scene."""
    path, scene, then = SCENES[name]
    if getattr(p, "playing", None):
        p.call("Page.removeScriptToEvaluateOnNewDocument", identifier=p.playing)
    script = f"{PLAY}({json.dumps(scene)})"
    p.playing = p.call("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]
    p.call("Page.navigate", url="about:blank")
    p.goto(f"http://{address}/" + ("" if path is None else "#token=played"))
    if path is None:
        p.js("sessionStorage.clear()")
        p.goto(f"http://{address}/?{name}")
        p.wait("the login", "!!document.getElementById('token')")
    else:
        p.wait("the page", "!!document.querySelector('main h1')")
        p.js(f"location.hash = {json.dumps('#' + path)}")
        p.wait("the view", "!!document.querySelector('main h1') && !document.querySelector('main').innerText.includes('asking')"
                           " && document.querySelector('main').innerText.trim() !== '…'")
        if path.startswith("/apps/") and "absent" not in path:
            p.wait("the charts", "!!document.querySelector('[aria-labelledby=h-accuracy] :is(canvas, .empty)')")
    p.js(f"(async () => {{ {then} }})()")
    p.js("new Promise(r => setTimeout(r, 150))")


def main(folder):
    import browser
    from up import Up
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    u = Up(folder / "data")
    b = browser.Browser(folder / "profile")
    try:
        p = b.page()
        for name in SCENES if len(sys.argv) < 3 else sys.argv[2:]:
            for width, dark in ((1440, False), (360, True)):
                p.look(width, 900, dark=dark, still=True)
                show(p, u.control, name)
                p.picture(folder / f"{name}-{width}{'-dark' if dark else ''}.png", whole=True)
        print("\n".join(p.said))
    finally:
        b.close()
        u.stop()


if __name__ == "__main__":
    main(sys.argv[1])
