"""What users, scripts and tests touch is called what the interface says."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

import ingest
from ingest.balance import COLUMNS, Balance
from ingest.cli.main import cli

SENDING = {
    "--to",
    "--kind",
    "--endpoint",
    "--limits",
    "--rate",
    "--share",
    "--in-flight",
    "--memory",
    "--state",
    "--auth",
    "--update-existing-only",
    "--if-unanswered",
    "--on-bad-field",
    "--strict",
    "--no-validate",
    "--give-up-after",
    "--report",
    "--dead-letters",
    "--progress",
    "--allow-http",
}
VERBS = {
    "import": SENDING,
    "replay": SENDING,
    "sandbox": {"--port", "--limits", "--rate", "--dialect", "--latency", "--faults", "--seed"},
    "sample": {"--kind", "--format", "--users", "--seed"},
}


def test_the_library_exports_what_it_lists() -> None:
    """`__all__` is sorted, whole and true."""
    assert list(ingest.__all__) == sorted(ingest.__all__)
    assert all(hasattr(ingest, name) for name in ingest.__all__)
    assert {"Pipeline", "BrazeSink", "MemorySink", "Halted"} <= set(ingest.__all__)


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_its_options(verb: str) -> None:
    """An option of the interface may be joined by others, and does not lose its name."""
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    named = {
        name
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
    }
    assert named >= VERBS[verb]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_teaches_by_example(verb: str) -> None:
    """`--help` works and shows a command that can be pasted."""
    said = CliRunner().invoke(cli, [verb, "--help"])
    assert said.exit_code == 0
    assert f"ingest {verb}" in said.output.split("Options:")[0].split("Usage:", 1)[1]


def test_the_columns_of_the_balance() -> None:
    """The report's columns, in the order of the interface."""
    assert COLUMNS == (
        "delivered",
        "rejected",
        "invalid",
        "failed",
        "held",
        "unchanged",
        "merged",
        "pending",
    )
    assert list(Balance().columns()) == ["read", *COLUMNS]
