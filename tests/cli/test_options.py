"""What the options say together: settings, and what one destination takes and another does not."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from ingest.cli.main import cli
from ingest.cli.options import ARGV, collected, typed_command
from ingest.errors import ConfigError
from ingest.sinks.registry import DESTINATIONS

LINE = b'{"attributes": {"external_id": "u1", "plan": "pro"}}\n'
HAVING = [name for name, row in DESTINATIONS.items() if row.settings]
OTHERS = [name for name in DESTINATIONS if name != "braze"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one input."""
    monkeypatch.chdir(tmp_path)
    Path("in.ndjson").write_bytes(LINE)
    return tmp_path


def invoke(*options: str) -> Result:
    """Import the input of `folder` with these options."""
    return CliRunner().invoke(cli, ["import", "in.ndjson", *options])


@pytest.mark.parametrize("name", DESTINATIONS)
def test_every_destination_can_be_tried_in_a_sandbox(folder: Path, name: str) -> None:
    """One record arrives at each, by the first endpoint it has, with nothing in the environment."""
    said = invoke("--to", f"sandbox:{name}", "--report", "-")
    assert said.exit_code == 0, said.stderr
    endpoint = next(iter(DESTINATIONS[name].endpoints))
    assert f'"sink": "sandbox:{name}"' in said.stdout
    assert f'"endpoint": "{endpoint}"' in said.stdout


@pytest.mark.parametrize(
    ("destination", "endpoint"),
    [(name, endpoint) for name, row in DESTINATIONS.items() for endpoint in row.endpoints],
)
def test_every_endpoint_can_be_named(folder: Path, destination: str, endpoint: str) -> None:
    """And takes the record as the first one does."""
    said = invoke("--to", f"sandbox:{destination}", "--endpoint", endpoint)
    assert said.exit_code == 0, said.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--to", "sandbox", "--strict", "--no-validate"), "contradict each other"),
        (("--to", "file:bodies", "--faults", "503:1%"), "--faults is for --to sandbox"),
        (("--to", "sandbox", "--set", "plain"), "it is --set NAME=VALUE"),
        (("--to", "sandbox", "--set", "=1"), "it is --set NAME=VALUE"),
        (("--to", "sandbox", "--set", "mars=1"), "braze has no such setting; it has none"),
        (("--to", "sandbox", "--limits", "many"), "it is auto, per-array, combined, or a number"),
        (("--to", "sandbox", "--limits", "0"), "it is auto, per-array, combined, or a number"),
        (("--to", "sandbox:batch-cep", "--limits", "x"), "it is auto, or a number"),
        (("--to", "sandbox:batch-cep", "--limits", "combined"), "a number of users"),
        (("--to", "sandbox:batch-cep", "--limits", "per-array"), "a number of users"),
        (("--to", "sandbox:batch-cep", "--update-existing-only"), "always creates"),
        (("--to", "sandbox", "--endpoint", "delete"), "ingest send delete PATH"),
        (("--to", "sandbox:appboy", "--endpoint", "update"), "none of appboy"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    folder: Path, options: tuple[str, ...], sentence: str
) -> None:
    """With exit status 2, before anything is opened."""
    said = invoke(*options)
    assert said.exit_code == 2
    assert sentence in said.stderr
    assert not (folder / ".ingest").exists()
    assert not (folder / "bodies").exists()


@pytest.mark.parametrize("name", OTHERS)
def test_the_key_in_the_body_is_for_one_destination(folder: Path, name: str) -> None:
    """The others have one way to send their key, and say so."""
    said = invoke("--to", f"sandbox:{name}", "--auth", "body")
    assert said.exit_code == 2
    assert f"--auth body is not for {name}" in said.stderr
    assert invoke("--to", "sandbox", "--auth", "body").exit_code == 0


@pytest.mark.parametrize("name", HAVING)
def test_an_unknown_setting_names_those_there_are(folder: Path, name: str) -> None:
    """And a setting given twice is no setting."""
    known = list(DESTINATIONS[name].settings)
    said = invoke("--to", f"sandbox:{name}", "--set", "mars=1")
    assert said.exit_code == 2
    assert ", ".join(known) in said.stderr
    twice = (f"{known[0]}=1", f"{known[0]}=2")
    said = invoke("--to", f"sandbox:{name}", "--set", twice[0], "--set", twice[1])
    assert f"--set {known[0]} is there twice" in said.stderr


def test_a_setting_reaches_its_destination(folder: Path) -> None:
    """Two users and one edit a request make two requests."""
    Path("in.ndjson").write_bytes(LINE + LINE.replace(b"u1", b"u2"))
    said = invoke("--to", "sandbox:batch-cep", "--set", "edits=1", "--report", "-")
    assert said.exit_code == 0, said.stderr
    assert '"sent": 2' in said.stdout


@given(st.lists(st.text(max_size=20), max_size=3))
def test_any_settings_are_read_or_refused(texts: list[str]) -> None:
    """A destination without settings takes none, whatever they look like."""
    values = {"to": "sandbox", "settings": tuple(texts), "endpoint": None}
    if texts:
        with pytest.raises(ConfigError, match="--set"):
            collected(values)


@pytest.mark.parametrize("verb", ["import", "send", "replay"])
def test_help_names_what_the_registry_has(verb: str) -> None:
    """Every destination, and every environment variable that leads to one, is in the help."""
    said = CliRunner().invoke(cli, [verb, "--help"]).stdout
    for name, row in DESTINATIONS.items():
        assert name in said.replace("-\n", "-").replace(" ", "").replace("\n", "")
        assert all(variable in said for variable in row.sandboxed("", ""))


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["--limit", "5"], []),
        (["--limit=5", "--fresh", "--rate", "1/1s"], ["--rate", "1/1s"]),
        (["--dead-letters", "my letters"], ["--dead-letters", "'my letters'"]),
        (["--", "--fresh"], ["--", "--fresh"]),
    ],
)
def test_the_command_is_kept_but_for_what_would_not_go_on(
    typed: list[str], kept: list[str]
) -> None:
    """A limit would stop it again, and `--fresh` begin anew; an input may be called anything."""
    found: list[str] = []

    @click.command()
    def told() -> None:
        found.append(typed_command())

    with told.make_context("x", []) as context:
        context.meta[ARGV] = ("import", "in", *typed)
        told.invoke(context)
    assert found == [" ".join(["ingest", "import", "in", *kept])]


def test_without_a_command_line_there_is_no_command() -> None:
    """Options are also put together by tests."""
    assert typed_command() == ""


@pytest.mark.parametrize("wrong", ["0", "x", "-3", "100%"])
def test_a_tolerance_that_makes_no_sense_is_a_sentence(folder: Path, wrong: str) -> None:
    """Before anything is read."""
    said = invoke("--to", "sandbox", "--max-bad", wrong)
    assert said.exit_code == 2
    assert "--max-bad" in said.stderr
