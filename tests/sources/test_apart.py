"""A source that another process reads: the same blocks, the same errors, and no process left."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingest.columns import Options
from ingest.errors import ConfigError, IngestError, InputError, LocalFailure, MissingExtra
from ingest.intake import Intake, IntakeRules
from ingest.reading import judged
from ingest.records import News
from ingest.sources import apart, early
from ingest.sources.apart import Apart, pays
from ingest.sources.base import Block, Start
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns

HEADER = "external_id,plan,visits\n"
MAPPING = {"columns": {"visits": {"type": "number", "on_bad_field": "drop"}}}


def source_of(*paths: Path, **options: Any) -> tuple[MixedSource, TableColumns]:
    """Open tables of attributes."""
    columns = TableColumns(Options(**{"kind": "attributes", **options}))
    return MixedSource(list(map(str, paths)), columns), columns


def table(path: Path, rows: int, *others: str) -> Path:
    """Write a table of many rows, and some others."""
    good = "".join(f"u{n},pro,{n}\n" for n in range(rows))
    path.write_text(HEADER + good + "".join(f"{row}\n" for row in others))
    return path


def same(blocks: Iterable[Block]) -> list[Block]:
    """Return blocks with columns that can be compared: whether those are tuples is all one."""
    return [
        block
        if block.vouched is None
        else msgspec.structs.replace(
            block,
            vouched=msgspec.structs.replace(
                block.vouched,
                fragments=list(block.vouched.fragments),
                keys=list(block.vouched.keys),
                doubtful=list(block.vouched.doubtful),
                news=None,
            ),
        )
        for block in blocks
    ]


def test_lines_come_proven(tmp_path: Path) -> None:
    """Where something can prove them; a doubtful one comes with its text."""
    path = tmp_path / "a.ndjson"
    lines = [b'{"attributes":{"external_id":"u%d"}}\n' % n for n in range(15_000)]
    lines[14_990] = b'{"attributes":{"external_id":null}}\n'
    path.write_bytes(b"".join(lines))
    source, columns = source_of(path)
    intake = Intake(IntakeRules())
    with Apart(source, columns) as reading:
        reading.prover = intake.prover
        blocks = list(reading.blocks())
    whole = [block.proof is not None and block.proof.whole for block in blocks]
    assert whole == [True, True, True, False]
    assert [bool(block.data) for block in blocks] == [False, False, False, True]
    told = [block.proof and block.proof.news for block in blocks]
    first = len(blocks[0].numbers())
    assert told[:2] == [News(0, 0), News(first, first)]
    assert told[-1] is None
    taken = [taken for block in blocks for taken in judged(intake, block, 0.0)]
    keys = [key for some in taken for chunk in some.chunks for key in chunk.keys]
    assert keys == [f"u{n}" for n in range(15_000) if n != 14_990]
    assert [refusal.line for some in taken for refusal in some.refusals] == [14_991]


def test_blocks_are_those_of_the_source(tmp_path: Path) -> None:
    """Of all inputs in order, with rows that make no record and the cells that were left out."""
    paths = (
        table(tmp_path / "a.csv", 5_000, "u,pro,many", "u,pro,more", "u,pro", 'u,"pro"x,1'),
        tmp_path / "b.ndjson",
        table(tmp_path / "c.csv", 3, "u,pro,few"),
    )
    paths[1].write_text('{"attributes":{"external_id":"u","plan":"new"}}\n')
    here, columns_here = source_of(*paths, mapping=MAPPING)
    there, columns_there = source_of(*paths, mapping=MAPPING)
    expected = same(here.blocks())
    there.plan()
    with Apart(there, columns_there) as reading:
        assert same(reading.blocks()) == expected
    assert columns_there.dropped == columns_here.dropped == Counter(visits=3)


def test_reading_begins_where_it_is_told(tmp_path: Path) -> None:
    """Also if that is said after the process was begun."""
    path = table(tmp_path / "a.csv", 2_000)
    start = Start(len(HEADER) + len("u0,pro,0\n"), 3, 1)
    here, _ = source_of(path)
    here.start_at({0: start})
    there, columns = source_of(path)
    with Apart(there, columns) as reading:
        there.start_at({0: start})
        blocks = same(reading.blocks())
    assert blocks == same(here.blocks())
    assert blocks[0].first_line == 3


def test_an_input_that_breaks_off_is_told_in_the_same_words(tmp_path: Path) -> None:
    """After the blocks before the damage."""
    whole = table(tmp_path / "a.csv", 20_000)
    broken = tmp_path / "b.csv.gz"
    broken.write_bytes(gzip.compress(whole.read_bytes())[:-2_000])
    types = {"plan": "string", "visits": "string"}
    said, blocks = [], []
    for read_apart in (False, True):
        source, columns = source_of(broken, types=types)
        with Apart(source, columns) as reading:
            found: list[Block] = []
            with pytest.raises(InputError) as told:
                found.extend(reading.blocks() if read_apart else source.blocks())
        said.append(str(told.value))
        blocks.append(found)
    assert said[0] == said[1]
    assert same(blocks[0]) == same(blocks[1]) != []


def test_a_process_that_is_gone_is_told(tmp_path: Path) -> None:
    """The run ends by it, and can be gone on with."""
    source, columns = source_of(table(tmp_path / "a.csv", 200_000))
    source.plan()
    with Apart(source, columns) as reading:
        blocks = reading.blocks()
        next(blocks)
        reading._process.kill()
        with pytest.raises(LocalFailure, match=r"reads the input ended \(status -9\)"):
            list(blocks)


def test_a_process_that_is_gone_before_it_began_is_told(tmp_path: Path) -> None:
    """Nothing was read then."""
    source, columns = source_of(table(tmp_path / "a.csv", 1))
    with Apart(source, columns) as reading:
        reading._process.kill()
        reading._process.wait()
        with pytest.raises(LocalFailure, match=r"ended \(status -9\)"):
            list(reading.blocks())


def test_nobody_is_left_behind(tmp_path: Path) -> None:
    """However far it was read: the process is over when the context is."""
    source, columns = source_of(table(tmp_path / "a.csv", 200_000))
    source.plan()
    with Apart(source, columns) as unread:
        pass
    with Apart(source, columns) as begun:
        next(iter(begun.blocks()))
    assert None not in (unread._process.returncode, begun._process.returncode)


def test_a_process_ends_with_the_one_that_asked(tmp_path: Path) -> None:
    """Nobody takes its frames any more, whatever ended who did."""
    source, columns = source_of(table(tmp_path / "a.csv", 200_000))
    source.plan()
    with Apart(source, columns) as reading:
        blocks = reading.blocks()
        next(blocks)
        os.close(reading._out.fileno())  # as the system does it for a process that was killed
        assert reading._process.wait(timeout=30) == 0
        with pytest.raises(OSError, match="Bad file descriptor"):
            next(blocks)


def test_a_machine_without_room_for_a_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a sentence."""

    def refused(*args: object, **options: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    source, columns = source_of(table(tmp_path / "a.csv", 1))
    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(LocalFailure, match="Resource temporarily unavailable"):
        Apart(source, columns)


@pytest.mark.parametrize(
    ("error", "sort"),
    [
        (InputError("a sentence"), InputError),
        (MissingExtra("Parquet", "files"), ConfigError),
        (LocalFailure("a sentence"), LocalFailure),
        (IngestError("a sentence"), IngestError),
    ],
)
def test_errors_come_over_as_what_they_are(error: IngestError, sort: type[IngestError]) -> None:
    """With the sentence, and the exit status that goes with it."""
    there = apart._portable(error)
    assert (type(there), str(there), there.exit_status) == (sort, str(error), error.exit_status)


def test_it_pays_for_large_inputs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which can be read again, on a machine that can do two things at once."""
    path = table(tmp_path / "a.csv", 100)
    size = path.stat().st_size
    source, columns = source_of(path)
    monkeypatch.setattr(early, "cores", lambda: 2)
    assert not pays(source)
    monkeypatch.setattr(early, "PAYS_FROM", size)
    assert pays(source)
    assert not pays(MixedSource([str(path), "-"], columns, stdin=io.BytesIO(b"")))
    monkeypatch.setattr(early, "PAYS_FROM", size + 1)
    assert not pays(source)
    monkeypatch.setattr(early, "PAYS_FROM", size)
    monkeypatch.setattr(early, "cores", lambda: 1)
    assert not pays(source)
