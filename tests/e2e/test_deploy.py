"""What lies in deploy/ works as far as it can be tried here: the unit is one, each step of the container file can be
done, the manifest has the fields that KServe documents; and the commands in them start."""

import configparser
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess

import numpy as np
import pytest
import yaml

import replica as r

DEPLOY = r.ROOT / "deploy"


def options_of(command):
    return subprocess.run([r.OVERTAKE, *command.split(), "--help"], capture_output=True, text=True, check=True).stdout


# ---- systemd


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "overtake.service")
    return parser


def test_the_unit_starts_what_there_is():
    service = unit()["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0] == "/usr/local/bin/overtake" and words[1] == "up"
    for word in words[2:]:
        assert not word.startswith("--") or word in options_of("up"), word
    assert service["KillMode"] == "mixed" and "HUP" in service["ExecReload"]
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictSUIDSGID"):
        assert service[name] == "yes", name
    assert service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == ""


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / "overtake.service").read_text()
    text = text.replace("/usr/local/bin/overtake", str(r.OVERTAKE.resolve()))
    text = re.sub(r"^(User|Group)=.*\n", "", text, flags=re.M)  # this machine has no such user

    def verify(content):
        (tmp_path / "overtake.service").write_text(content)
        return subprocess.run(["systemd-analyze", "verify", "--man=no", tmp_path / "overtake.service"], capture_output=True, text=True,
                              env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"})
    bad = verify(text.replace("KillMode=mixed", "KillMode=gently"))
    if "gently" not in bad.stderr:
        pytest.skip(f"systemd-analyze does not look at units here: {bad.stderr[:200]}")
    done = verify(text)
    about = [line for line in done.stderr.splitlines() if "overtake.service" in line]
    assert about == [], done.stderr


# ---- container


def stages():
    """[(words of FROM, [instructions])] with continued lines joined."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Containerfile").read_text())
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            word, rest = line.split(None, 1)
            if word == "FROM":
                found.append((rest.split(), []))
            else:
                found[-1][1].append((word, rest))
    return found


def packages(instructions):
    run = next(rest for word, rest in instructions if word == "RUN" and "apt-get install" in rest)
    return {w for w in run.split("--no-install-recommends")[1].split("&&")[0].split()}


def test_the_first_stage_has_what_the_build_needs():
    needed = re.search(r'^debian_packages="([^"]*)"', (r.ROOT / "tools/deps.sh").read_text(), re.M)[1].replace("\\\n", " ").split()
    _, build = stages()[0]
    assert set(needed) <= packages(build)
    copied = [rest.split()[0] for word, rest in build if word == "COPY"]
    assert [p for p in copied if not (r.ROOT / p).exists()] == []
    # Nothing that the build reads is left outside.
    text = (r.ROOT / "Makefile").read_text()
    for folder in ("src", "include", "plugins", "tools", "web"):
        assert folder in copied and f"{folder}/" in text
    made = next(rest for word, rest in build if word == "RUN" and "make" in rest and "apt-get" not in rest)
    targets = re.findall(r"make (?:-\S+ )?(\w+)", made)
    assert targets == ["all", "install"] and all(re.search(rf"^{t}:", text, re.M) for t in targets)


def test_the_second_stage_has_what_the_program_needs(tmp_path):
    kind = [f"V={r.BUILD.name}"] if r.BUILD.name in ("asan", "tsan") else []
    done = subprocess.run(["make", "install", f"DESTDIR={tmp_path}", "PREFIX=/usr/local", f"BUILD={r.BUILD}", *kind], cwd=r.ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (words, build), (_, run) = stages()
    assert words[1:] == ["AS", "build"]
    out = next(re.search(r"DESTDIR=(\S+)", rest)[1] for word, rest in build if "DESTDIR" in rest)
    for word, rest in run:
        if word == "COPY":
            source, source_path, _ = rest.split()
            assert source == "--from=build" and source_path.startswith(out)
            assert (tmp_path / source_path.removeprefix(out).lstrip("/")).exists(), source_path
    program = tmp_path / "usr/local/bin/overtake"
    assert subprocess.run([program, "version"], capture_output=True).returncode == 0
    if shutil.which("dpkg") is None or "Sanitizer" in str(r.BUILD):
        pytest.skip("not Debian: which packages hold the libraries can't be told")
    have = packages(run) | {"libc6", "libgcc-s1"}
    for path in re.findall(r"=> (/\S+)", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout):
        owner = subprocess.run(["dpkg", "-S", str(pathlib.Path(path).resolve())], capture_output=True, text=True).stdout
        owner = owner or subprocess.run(["dpkg", "-S", path], capture_output=True, text=True).stdout
        name = owner.split(":")[0]
        assert not name or name in have or "asan" in name or "tsan" in name or "ubsan" in name, (path, name)


def test_the_containers_commands_work(tmp_path):
    _, run = stages()[1]
    by_word = dict(run)
    assert json.loads(by_word["ENTRYPOINT"]) == ["overtake"] and by_word["STOPSIGNAL"] == "SIGTERM"
    r.write_raw(tmp_path / "models" / "m", r.linear(np.eye(4)))
    command = json.loads(by_word["CMD"])
    assert command[:2] == ["serve", "/models"]
    given = [str(tmp_path / "models") if w == "/models" else w.replace("0.0.0.0:8000", "127.0.0.1:0") for w in command]
    p = subprocess.Popen([r.OVERTAKE, *given, "--output", "json"], stdout=subprocess.PIPE, text=True)
    try:
        address = json.loads(p.stdout.readline())["listening"]
        check = json.loads(by_word["HEALTHCHECK"].split("CMD", 1)[1])
        assert check[0] == "overtake"
        healthy = [w.replace("127.0.0.1:8000", address) for w in check[1:]]
        assert subprocess.run([r.OVERTAKE, *healthy], capture_output=True).returncode == 0
    finally:
        p.send_signal(signal.SIGTERM)
        assert p.wait(r.PATIENCE) == 0
    assert subprocess.run([r.OVERTAKE, *healthy], capture_output=True).returncode == 1


# ---- KServe: https://kserve.github.io/website, "ServingRuntimeSpec", and Kubernetes' Container

SPEC = {"supportedModelFormats": list, "multiModel": bool, "disabled": bool, "protocolVersions": list, "workerSpec": dict,
        "containers": list, "volumes": list, "nodeSelector": dict, "affinity": dict, "tolerations": list, "labels": dict,
        "annotations": dict, "imagePullSecrets": list, "hostIPC": bool, "grpcEndpoint": str, "grpcDataEndpoint": str,
        "httpDataEndpoint": str, "replicas": int, "storageHelper": dict, "builtInAdapter": dict}
FORMAT = {"name": str, "version": str, "autoSelect": bool, "priority": int}
CONTAINER = {"name": str, "image": str, "command": list, "args": list, "workingDir": str, "ports": list, "envFrom": list, "env": list,
             "resources": dict, "volumeMounts": list, "livenessProbe": dict, "readinessProbe": dict, "startupProbe": dict,
             "lifecycle": dict, "imagePullPolicy": str, "securityContext": dict}


def has_only(value, fields):
    for name, x in value.items():
        assert name in fields and isinstance(x, fields[name]) and (fields[name] is not int or not isinstance(x, bool)), name


def test_the_manifest_has_kserves_fields():
    m = yaml.safe_load((DEPLOY / "kserve-runtime.yaml").read_text())
    assert m["apiVersion"] == "serving.kserve.io/v1alpha1" and m["kind"] == "ServingRuntime" and m["metadata"]["name"]
    spec = m["spec"]
    has_only(spec, SPEC)
    for f in spec["supportedModelFormats"]:
        has_only(f, FORMAT)
    assert set(spec["protocolVersions"]) <= {"v1", "v2", "grpc-v1", "grpc-v2"}
    assert all(isinstance(v, str) for v in spec["annotations"].values())
    (c,) = spec["containers"]
    has_only(c, CONTAINER)
    assert c["name"] == "kserve-container"
    assert all(isinstance(e["value"], str) for e in c["env"]) and isinstance(c["ports"][0]["containerPort"], int)
    for probe in ("readinessProbe", "livenessProbe"):
        assert c[probe]["httpGet"]["port"] == c["ports"][0]["containerPort"]


def test_the_manifests_command_serves_the_model_by_its_name(tmp_path):
    m = yaml.safe_load((DEPLOY / "kserve-runtime.yaml").read_text())
    (c,) = m["spec"]["containers"]
    r.write_raw(tmp_path / "mnt" / "models", r.linear(np.eye(4)))
    script = c["args"][0].replace("/mnt/models", str(tmp_path / "mnt/models")).replace("/tmp/models", str(tmp_path / "served"))
    script = script.replace("0.0.0.0:8080", "127.0.0.1:0") + " --output json"
    p = subprocess.Popen([*c["command"], script], stdout=subprocess.PIPE, text=True,
                         env={**os.environ, "MODEL_NAME": "digits", "PATH": f"{r.BUILD.resolve()}:{os.environ['PATH']}"})
    try:
        address = json.loads(p.stdout.readline())["listening"]
        s = r.Replica.__new__(r.Replica)
        s.host, port = address.rsplit(":", 1)
        s.port = int(port)
        r.wait_for("ready", lambda: s.request("GET", c["readinessProbe"]["httpGet"]["path"])[0] == 200)
        assert s.request("GET", c["livenessProbe"]["httpGet"]["path"])[0] == 200
        assert s.infer("digits", np.zeros((1, 4)))[0] == 200
    finally:
        p.send_signal(signal.SIGTERM)
        assert p.wait(r.PATIENCE) == 0
