"""One-column lists as inputs of `ingest send`."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.cli.main import cli
from ingest.codec import loads

IDS = b"external_id\nu1\nu2\nu3\n"


@pytest.mark.parametrize("name", ["ids.csv", "ids.txt.gz", "folder"])
def test_a_one_column_list_may_be_called_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A CSV of one column, its header left out; compressed; or a folder of such."""
    monkeypatch.chdir(tmp_path)
    if name == "folder":
        Path(name).mkdir()
        Path(name, "ids.csv").write_bytes(IDS)
    else:
        Path(name).write_bytes(gzip.compress(IDS) if name.endswith(".gz") else IDS)
    said = CliRunner().invoke(cli, ["send", "delete", name, "--to", "file:bodies"])
    assert said.exit_code == 0, said.stderr
    assert loads(Path("bodies").read_bytes()) == {"external_ids": ["u1", "u2", "u3"]}


def test_a_table_of_several_columns_says_how_to_cut_one_out(tmp_path: Path) -> None:
    """Nothing is guessed where something would be deleted."""
    path = tmp_path / "users.csv"
    path.write_bytes(b"external_id,email\nu1,u1@example.com\n")
    said = CliRunner().invoke(cli, ["send", "delete", str(path), "--to", "sandbox", "--yes"])
    assert said.exit_code == 2
    assert "ingest send ROW -" in said.stderr
