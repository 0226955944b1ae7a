"""What surrounds the package: image, verbs and build, checked by what can be checked."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]

DOCKERFILE = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\s*\\\n\s*", " ", DOCKERFILE).splitlines()
    if line and not line.startswith("#")
]


def arguments(instruction: str) -> list[str]:
    """Return the arguments of every use of an instruction, in order."""
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def test_the_image_has_a_builder_and_a_slim_runtime() -> None:
    """Two stages of one pinned minor version: what is built in the first runs in the second."""
    images = arguments("FROM")
    assert images == ["python:3.11-slim AS build", "python:3.11-slim"]
    runtime = INSTRUCTIONS[INSTRUCTIONS.index(["FROM", images[1]]) :]
    assert not any(name == "RUN" and "pip" in rest for name, rest in runtime)


def test_the_image_does_not_run_as_root() -> None:
    """The user is a number other than 0, so that an orchestrator can tell."""
    [user] = arguments("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_the_image_writes_to_its_state_volume_only() -> None:
    """On a read-only root the run's state has a place that is private to the user."""
    assert arguments("VOLUME") == ["/state"] == arguments("WORKDIR")[-1:]
    [environment] = arguments("ENV")
    assert {"INGEST_STATE=/state", "PYTHONDONTWRITEBYTECODE=1"} <= set(environment.split())
    assert any("-m 0700 -o 10001" in run and run.endswith("/state") for run in arguments("RUN"))


def test_the_image_is_a_command_that_can_be_probed() -> None:
    """Signals reach the process itself (no shell), and a health check is there."""
    assert arguments("ENTRYPOINT") == ['["ingest"]']
    [health] = arguments("HEALTHCHECK")
    assert health.endswith('CMD ["ingest", "--version"]')


def test_the_image_takes_in_what_it_needs_and_no_secret() -> None:
    """No ADD, no build argument, and a context that admits files by name only."""
    assert not arguments("ADD")
    assert not arguments("ARG")
    assert not re.search(r"(KEY|TOKEN|SECRET|PASSWORD)\w*=\S", "".join(arguments("ENV")))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    context = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = " ".join(rest for rest in arguments("COPY") if "--from" not in rest).split()
    assert {name.removeprefix("./") for name in copied} - {""} == set(context)


def test_every_verb_of_the_makefile_says_what_it_does() -> None:
    """`make help` lists them all, and nothing else is called a verb."""
    text = (ROOT / "Makefile").read_text()
    [phony] = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    described = re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE)
    assert sorted(phony.split()) == sorted(described)
    wanted = (
        "demo test coverage check integration kafka bench bench-check lint types format wheel "
        "clean help"
    )
    assert set(wanted.split()) == set(described)


def test_the_build_ends_with_the_tests_of_the_readme() -> None:
    """The last words of `.ci/run` are pytest's summary, by the very command a newcomer types."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"


def test_the_licence_is_there() -> None:
    """The file that the metadata names holds the licence that it names."""
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2026 The ingest")
