"""What the documents say is there: links lead somewhere, commands and options exist, tests that are named exist, and
bash completes every command."""

import pathlib
import re
import subprocess

import pytest

from replica import OVERTAKE, ROOT

DOCUMENTS = sorted([p for p in ROOT.glob("*.md")] + [p for p in (ROOT / "docs").glob("*.md")] +
                   [p for folder in ("src", "web", "examples", "plugins", "python") for p in (ROOT / folder).rglob("README.md")])
HELP = subprocess.run([str(OVERTAKE), "help"], capture_output=True, text=True, check=True).stdout
COMMANDS = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", HELP, re.M)
GROUPS = {c.split()[0] for c in COMMANDS if " " in c}


def help_of(command):
    return subprocess.run([str(OVERTAKE), *command.split(), "--help"], capture_output=True, text=True, check=True).stdout


def test_there_is_something_to_hold():
    assert len(DOCUMENTS) > 25 and len(COMMANDS) > 35


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    dead = [t for t in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
            if "://" not in t and not (path.parent / t).exists()]
    assert not dead


def written_commands(path):
    """Command lines of `overtake ...` in code: after two words of a sentence it is prose."""
    text = path.read_text()
    code = re.findall(r"`(overtake [^`]+)`", text) + re.findall(r"^ {4,}(?:\$ |[a-z]+: )?(overtake [^\n]+)$", text, re.M)
    return [re.split(r"\s#|[|;&>]", line)[0].strip() for line in code]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_exist_as_written(path):
    wrong = []
    for line in written_commands(path):
        words = line.split()[1:]
        if not words or not re.fullmatch(r"[a-z]+", words[0]):
            continue  # overtake COMMAND, overtake -h
        two = " ".join(words[:2])
        command = two if two in COMMANDS else words[0]
        if command not in COMMANDS and command not in ("shim", "worker"):
            wrong.append(f"{line}: no such command")
            continue
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", " ".join(words)))
        unknown = [o for o in options if o not in help_of(command)] if options else []
        if unknown:
            wrong.append(f"{line}: no {unknown}")
    assert not wrong


def test_tests_that_the_threat_model_names_exist():
    text = (ROOT / "docs/threat-model.md").read_text()
    named = re.findall(r"`(?:tests/e2e/)?(test_\w+\.py)::(\w+)`", text)
    assert len(named) > 25
    missing = [f"{f}::{t}" for f, t in named if f"def {t}(" not in (ROOT / "tests/e2e" / f).read_text()]
    missing += [p for p in re.findall(r"`(tests/[\w/]+\.[cy]\w*)`", text) if not (ROOT / p).exists()]
    assert not missing


def test_bash_completes_every_command_and_option():
    script = subprocess.run([str(OVERTAKE), "completion", "bash"], capture_output=True, text=True, check=True).stdout
    lines = []
    for c in COMMANDS:
        words = c.split()
        lines.append((["overtake", *words[:-1], words[-1][:-1]], words[-1]))
        lines += [(["overtake", *words, o[:-1]], o) for o in re.findall(r"^ +(?:-\w, )?(?:    )?(--[a-z0-9-]+)", help_of(c), re.M)]
    program = script + "\n".join(
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _overtake; echo \"${{COMPREPLY[@]}}\"" for words, _ in lines)
    got = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) > 150
    missed = [words for (words, want), answer in zip(lines, got, strict=True) if want not in answer.split()]
    assert not missed
