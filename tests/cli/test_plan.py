"""`ingest plan`: what it says, what it keeps, and that it needs nothing but the files."""

from __future__ import annotations

import gzip
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingest.cli.main import cli
from ingest.codec import loads

LINES = (
    b'{"attributes": {"external_id": "u1", "plan": "pro", "country": "Nowhere"}}',
    b'{"event": {"external_id": "u1", "name": "saw", "time": "2020-01-31T12:00:00Z"}}',
    b'{"event": {"external_id": "u2", "name": "saw", "time": "2999-01-31T12:00:00Z", '
    b'"properties": {"a": 1, "b": {"c": 2}}}}',
    b'{"purchase": {"external_id": "u3", "product_id": "p", "currency": "EUR", "price": 1, '
    b'"quantity": 3, "time": "2021-01-31"}}',
    b'{"attributes": {"plan": "pro"}}',
    b"nonsense",
)

TABLE = (
    "\ufeffexternal_id,zip,visits,joined,\u00e4.b c\nu1,01234,3,2024-01-01 10:00:00,x\nu2,,4,,\n"
)


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment says where an account is."""
    for name in ("BRAZE_REST_URL", "BRAZE_API_KEY", "BRAZE_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


def said(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    """Run `ingest plan`."""
    return CliRunner().invoke(cli, ["plan", *map(str, arguments)], input=stdin)


def report(*arguments: str | Path, stdin: bytes | None = None, status: int = 0) -> dict[str, Any]:
    """Run `ingest plan`, and return its report."""
    result = said(*arguments, "--report", "-", stdin=stdin)
    assert result.exit_code == status, result.output
    found: dict[str, Any] = loads(result.stdout)
    return found


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Return a file of records of every kind, two of them invalid."""
    path = tmp_path / "in.ndjson"
    path.write_bytes(b"\n".join(LINES) + b"\n")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a small CSV file."""
    path = tmp_path / "users.csv"
    path.write_text(TABLE)
    return path


def test_the_report_has_all_that_is_to_be_decided(records: Path) -> None:
    """Counts, users, problems with places, times, requests, data points and time, as JSON."""
    found = report(records, status=1)
    assert found["sink"] == "braze"
    assert found["records"] == {"read": 6, "would_go": 4, "invalid": 2}
    assert found["of_which"] == {"warned": 1}
    assert found["kinds"]["event"] == {"read": 2, "would_go": 2}
    assert found["kinds"]["unknown"] == {"read": 1, "would_go": 0}
    assert found["users"] == {"distinct": 3, "exact": True}
    problems = {(one["code"], one["column"]): one["examples"] for one in found["problems"]}
    assert problems["missing-identity", "invalid"] == [f"{records}:5"]
    assert problems["unknown-country", "warned"] == [f"{records}:1"]
    assert found["times"] == {
        "earliest": "2020-01-31T12:00:00Z",
        "latest": "2999-01-31T12:00:00Z",
        "older_than_a_day": 2,
        "in_the_future": 1,
        "not_read": 0,
    }
    assert found["requests"]["needed"] == 1
    rungs = found["requests"]["if_the_account_takes"]
    assert [rung["limits"] for rung in rungs] == ["75/75/75", "75 in total", "50 in total"]
    assert [rung["assumed"] for rung in rungs] == [False, True, False]
    points = found["data_points"]
    assert (points["total"], points["attributes"], points["event"]) == (5, 2, 2)
    assert points["only_if_enabled_for_segmentation"]["event_properties"] == 2
    assert points["if_each_unit_is_a_purchase"] == 7
    assert found["rate"]["limits"] == ["2400/3s"]
    assert found["seconds"]["at_least"] >= found["seconds"]["reading"]


def test_people_are_told_the_same(records: Path) -> None:
    """The tables hold the counts, the reasons, the warnings about times, and where nothing went."""
    result = said(records)
    assert result.exit_code == 1
    assert result.stdout == ""
    for part in (
        "No --to: this is the plan for braze",
        "nothing was sent",
        "missing-identity",
        "2 of them are older than a day",
        "1 of them is in the future",
        "if enabled for segmentation",
        "at the rate of 2400/3s",
    ):
        assert part in result.stderr


def test_columns_are_shown_with_samples_that_are_in_no_report(table: Path) -> None:
    """A sample is for the terminal alone; names are shown without control characters."""
    result = said(table, "--kind", "attributes", "--report", "-")
    assert result.exit_code == 0, result.output
    assert "01234" in result.stderr
    assert "Without a zone: 1 time" in result.stderr
    assert "01234" not in result.stdout
    columns = {one["column"]: one for one in loads(result.stdout)["tables"][0]["columns"]}
    assert columns["zip"]["type"] == "string"
    assert columns["visits"]["type"] == "number"
    assert columns["visits"]["cells"] == 2


def test_a_sample_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    """Control characters of cells and of headers are masked."""
    path = tmp_path / "evil.csv"
    path.write_text("external_id,a\x1b[2Jb\nu\x1b[31m1,\x07x\n")
    result = said(path, "--kind", "attributes")
    assert result.exit_code in (0, 2)
    assert "\x1b[2J" not in result.stderr
    assert "\x1b[31m" not in result.stderr
    assert "\x07" not in result.stderr


def test_a_saved_map_imports_the_same_records(table: Path, tmp_path: Path) -> None:
    """It is private, says everything, and what is imported by it is the same to the byte."""
    kept = tmp_path / "kept.toml"
    result = said(table, "--kind", "attributes", "--timezone", "Europe/Paris", "--save", kept)
    assert result.exit_code == 0, result.output
    assert f"--map {kept}" in result.stderr
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    told = tomllib.loads(kept.read_text())
    assert told["columns"]["visits"] == {"to": "visits", "type": "number"}
    assert told["columns"]["\u00e4.b c"]["to"] == "\u00e4.b c"
    bodies: list[bytes] = []
    for options in (["--kind", "attributes", "--timezone", "Europe/Paris"], ["--map", str(kept)]):
        out = tmp_path / f"bodies{len(bodies)}"
        sent = ["import", str(table), *options, "--to", f"file:{out}", "--state", str(tmp_path)]
        assert CliRunner().invoke(cli, sent).exit_code == 0
        bodies.append(out.read_bytes())
    assert bodies[0] == bodies[1] != b""


def test_a_saved_map_is_overwritten_and_nothing_else_is(table: Path, tmp_path: Path) -> None:
    """What somebody wrote stays; a map that was saved is made anew."""
    kept = tmp_path / "kept.toml"
    for _ in range(2):
        assert said(table, "--kind", "attributes", "--save", kept).exit_code == 0
    for text in ('kind = "event"\n', "no toml [\n"):
        kept.write_text(text)
        result = said(table, "--kind", "attributes", "--save", kept)
        assert result.exit_code == 2
        assert "no saved map" in result.stderr
        assert kept.read_text() == text


@pytest.mark.parametrize(
    ("where", "sentence"),
    [(".", "is a directory"), ("nowhere/map.toml", "is no folder"), ("users.csv", "also an input")],
)
def test_a_map_that_cannot_be_kept_is_told_before_reading(
    table: Path, where: str, sentence: str
) -> None:
    """A folder, a missing folder and an input are no places for a map."""
    result = said(table, "--kind", "attributes", "--save", table.parent / where)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Plan for" not in result.stderr


def test_a_map_is_of_one_table(table: Path, records: Path, tmp_path: Path) -> None:
    """Several headers, or none, make no map."""
    other = tmp_path / "other.csv"
    other.write_text("external_id,b\nu1,2\n")
    kept = tmp_path / "kept.toml"
    several = said(table, other, "--kind", "attributes", "--save", kept)
    assert (several.exit_code, "2 different headers" in several.stderr) == (2, True)
    none = said(records, "--save", kept)
    assert (none.exit_code, "no input is one" in none.stderr) == (2, True)
    assert not kept.exists()


def test_streams_and_compressed_files_are_planned(table: Path, tmp_path: Path) -> None:
    """stdin is read once, as text unless told, and its map can be kept; gzip is unpacked."""
    kept = tmp_path / "kept.toml"
    found = report(
        "-", "--kind", "attributes", "--delimiter", ",", "--save", kept, stdin=TABLE.encode()
    )
    assert found["records"]["would_go"] == 2
    assert tomllib.loads(kept.read_text())["columns"]["visits"]["type"] == "string"
    packed = tmp_path / "in.ndjson.gz"
    packed.write_bytes(gzip.compress(LINES[0] + b"\n"))
    assert report(packed)["records"]["read"] == 1


def test_other_destinations_count_in_their_own_way(records: Path) -> None:
    """Batch CEP counts users, and does not bill data points."""
    found = report(records, "--to", "batch-cep", status=1)
    assert found["data_points"] is None
    assert found["rate"]["counts"] == "users"
    assert found["requests"]["limits"] == "200 users"
    records.write_bytes(b'{"attributes": {"external_id": "u1", "plan": "pro"}}')
    assert "does not bill that way" in said(records, "--to", "batch-cep").stderr


@pytest.mark.parametrize(
    ("limits", "requests", "shown"),
    [("per-array", 1, "75/75/75"), ("combined", 3, "75 in total"), ("50", 4, "50 in total")],
)
def test_limits_that_are_given_are_taken_for_granted(
    tmp_path: Path, limits: str, requests: int, shown: str
) -> None:
    """There is one forecast then, for these limits."""
    path = tmp_path / "in.ndjson"
    line = b'{"attributes": {"external_id": "u%d", "a": 1}}\n'
    event = b'{"event": {"external_id": "v%d", "name": "n", "time": "2026-01-01"}}\n'
    path.write_bytes(b"".join([line % at + event % at + event % -at for at in range(1, 67)]))
    found = report(path, "--limits", limits)["requests"]
    assert (found["needed"], found["limits"]) == (requests + (limits == "per-array"), shown)
    assert len(found["if_the_account_takes"]) == 1


def test_the_rate_says_when_it_is_done(tmp_path: Path) -> None:
    """The limit that holds it back is named where there are several."""
    path = tmp_path / "in.ndjson"
    line = b'{"attributes": {"external_id": "u%d", "a": 1}}\n'
    path.write_bytes(b"".join([line % at for at in range(750)]))
    found = report(path, "--limits", "combined", "--rate", "2/1h,100/1s")
    assert found["seconds"]["at_the_rate"] == pytest.approx(4 * 3600, rel=0.01)
    assert found["rate"]["binds"] == "2/1h"
    result = said(path, "--limits", "combined", "--rate", "2/1h,100/1s")
    assert "4h" in result.stderr
    assert "2/1h is what binds" in result.stderr


def test_nothing_to_send_is_said(tmp_path: Path) -> None:
    """An empty input is no failure, and one without a good record says that nothing would go."""
    path = tmp_path / "in.ndjson"
    path.touch()
    assert "Nothing was read" in said(path).stderr
    path.write_bytes(b"nonsense\n")
    result = said(path)
    assert result.exit_code == 1
    assert "Nothing would be sent" in result.stderr


def test_it_writes_no_state(records: Path, tmp_path: Path) -> None:
    """A plan leaves nothing behind but what it is told to write."""
    said(records, "--state", tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_the_command_of_a_saved_map_works_for_cloud_data_ingestion(tmp_path: Path) -> None:
    """The kind of rows with a payload is told beside the map: what is said can be typed."""
    path, kept = tmp_path / "cdi.csv", tmp_path / "kept.toml"
    path.write_text('external_id,payload\nu1,"{""a"": 1}"\n')
    result = said(path, "--kind", "attributes", "--save", kept)
    assert result.exit_code == 0, result.output
    typed = result.stderr.rpartition("ingest import ")[2].replace("--to SINK", "").split()
    out = tmp_path / "bodies"
    sent = ["import", *typed, "--to", f"file:{out}", "--state", str(tmp_path)]
    assert CliRunner().invoke(cli, sent).exit_code == 0
    assert loads(out.read_bytes()) == {"attributes": [{"external_id": "u1", "a": 1}]}
