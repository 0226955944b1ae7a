"""Runs of the verbs that send, from the options to the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.cli.main import cli
from ingest.codec import loads
from ingest.errors import LocalFailure
from ingest.sandbox.server import Sandbox
from ingest.sinks.braze import BrazeSink

LINE = b'{"attributes": {"external_id": "u1", "plan": "pro"}}\n'


def test_a_sink_that_closes_badly_does_not_cost_the_balance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Balance and report are there, the sandbox is closed, and the error ends the process."""
    close_sink, close_sandbox = BrazeSink.aclose, Sandbox.aclose
    closed: list[Sandbox] = []

    async def fails(sink: BrazeSink) -> None:
        await close_sink(sink)
        raise LocalFailure("the disk is gone")

    async def counts(sandbox: Sandbox) -> None:
        closed.append(sandbox)
        await close_sandbox(sandbox)

    monkeypatch.setattr(BrazeSink, "aclose", fails)
    monkeypatch.setattr(Sandbox, "aclose", counts)
    source, report = tmp_path / "in.ndjson", tmp_path / "report.json"
    source.write_bytes(LINE)
    options = ["--to", "sandbox", "--state", str(tmp_path), "--report", str(report)]
    said = CliRunner().invoke(cli, ["import", str(source), *options])
    assert said.exit_code == 4, said.output
    assert "Balance of run" in said.stderr
    assert said.stderr.endswith("ingest: the disk is gone\n")
    assert loads(report.read_bytes())["records"]["delivered"] == 1
    assert len(closed) == 1


def test_an_empty_input_says_so(tmp_path: Path) -> None:
    """Nothing to send is no failure, and is not passed over in silence."""
    source = tmp_path / "in.ndjson"
    source.touch()
    options = ["--to", f"file:{tmp_path / 'bodies'}", "--state", str(tmp_path)]
    said = CliRunner().invoke(cli, ["import", str(source), *options])
    assert said.exit_code == 0, said.output
    assert said.stderr.endswith("Nothing was read: the input holds no record\n")


LINES = b"".join(b'{"attributes": {"external_id": "u%d", "n": 1}}\n' % n for n in range(5))


def test_a_canary_without_a_journal_says_that_the_rest_begins_anew(tmp_path: Path) -> None:
    """A sandbox or a file has none; all that were read were delivered, so the status is 0."""
    source = tmp_path / "in.ndjson"
    source.write_bytes(LINES)
    options = ["--to", f"file:{tmp_path / 'bodies'}", "--state", str(tmp_path), "--limit", "2"]
    said = CliRunner().invoke(cli, ["import", str(source), *options])
    assert said.exit_code == 0, said.output
    assert "Stopped at --limit 2: 2 records were read, 2 of them delivered" in said.stderr
    assert "begins anew" in said.stderr


def test_a_canary_of_what_must_not_repeat_says_what_to_take_out(tmp_path: Path) -> None:
    """Without a journal the same command would message the first ones again."""
    source = tmp_path / "in.ndjson"
    source.write_bytes(
        b"".join(b'{"campaign_id": "c", "external_user_id": "u%d"}\n' % n for n in range(5))
    )
    options = ["--to", f"file:{tmp_path / 'bodies'}", "--state", str(tmp_path), "--limit", "2"]
    said = CliRunner().invoke(cli, ["send", "trigger-send", str(source), *options])
    assert said.exit_code == 0, said.output
    assert "Take them out before you send the rest" in said.stderr
