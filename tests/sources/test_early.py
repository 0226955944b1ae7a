"""The process that is begun before its work is known: when, by whom it is taken, and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.columns import Options
from ingest.sources import early
from ingest.sources.apart import Apart
from ingest.sources.mixed import MixedSource
from ingest.sources.planning import TableColumns

LINE = b'{"attributes":{"external_id":"u","n":1}}\n'

DIES = """
import os, sys
from ingest.sources import early
early.PAYS_FROM, early.cores = 1, lambda: 2
early.begin(sys.argv[1:])
print(len(early._waiting), flush=True)
os._exit(7)
"""


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a byte be enough, on a machine that can do two things; leave nobody behind."""
    monkeypatch.setattr(early, "PAYS_FROM", 1)
    monkeypatch.setattr(early, "cores", lambda: 2)
    yield
    early.let_go()


def lines(path: Path, count: int = 1) -> str:
    """Write some records."""
    path.write_bytes(LINE * count)
    return str(path)


sizes = st.lists(st.integers(0, 2 * early.PAYS_FROM), max_size=3)


@given(
    verb=st.sampled_from([*early.VERBS, "plan", "status", "--version", ""]),
    sizes=sizes,
    others=st.lists(st.sampled_from(["-", "--to", "braze", "no such file", "x\0", "/"])),
    asks=st.sampled_from(["", *early.HELP]),
    cores=st.integers(1, 3),
    data=st.data(),
)
def test_large_files_that_a_verb_reads_look_large(
    verb: str, sizes: list[int], others: list[str], asks: str, cores: int, data: st.DataObject
) -> None:
    """All of them together, among any words, where there is a core for it and no help is asked."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(early, "PAYS_FROM", 16_000_000)
        patch.setattr(early, "cores", lambda: cores)
        names = [os.path.join(folder, str(at)) for at in range(len(sizes))]
        for name, size in zip(names, sizes, strict=True):
            with open(name, "wb") as file:
                file.truncate(size)
        words = data.draw(st.permutations([*names, *others, *([asks] if asks else [])]))
        expected = verb in early.VERBS and not asks and sum(sizes) >= 16_000_000 and cores > 1
        assert early.looks_large([verb, *words]) is expected


def test_a_command_without_words_reads_nothing() -> None:
    """`ingest` alone shows its help."""
    assert not early.looks_large([])


def test_what_is_no_file_has_no_size(tmp_path: Path) -> None:
    """A pipe is not opened, and not waited for."""
    os.mkfifo(tmp_path / "pipe")
    assert not early.looks_large(["import", str(tmp_path / "pipe"), str(tmp_path)])


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or those that there are, or one, by what the system tells."""
    monkeypatch.undo()
    assert early.cores() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert early.cores() == 5
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert early.cores() == 1


def test_who_reads_apart_takes_the_process_that_waits(tmp_path: Path) -> None:
    """And the next one begins one of its own."""
    path = lines(tmp_path / "a.ndjson", 3)
    early.begin(["import", path])
    (waiting,) = early._waiting
    columns = TableColumns(Options())
    source = MixedSource([path], columns)
    with Apart(source, columns) as reading, Apart(source, columns) as another:
        assert reading._process is waiting
        assert another._process is not waiting
        told = [list(one.blocks()) for one in (reading, another)]
    assert told == [list(source.blocks())] * 2
    assert None not in (waiting.returncode, another._process.returncode)


def test_one_process_is_begun(tmp_path: Path) -> None:
    """However often it is asked for, and none for what looks small."""
    path = lines(tmp_path / "a.ndjson")
    early.begin(["import", path, "--help"])
    assert early._waiting == []
    early.begin(["import", path])
    early.begin(["import", path])
    assert len(early._waiting) == 1


def test_a_process_that_nobody_took_is_let_go(tmp_path: Path) -> None:
    """It is over then, and its pipes are closed."""
    early.begin(["replay", lines(tmp_path / "a.ndjson")])
    (waiting,) = early._waiting
    early.let_go()
    early.let_go()
    assert early._waiting == []
    assert waiting.returncode is not None
    assert waiting.stdin is not None
    assert waiting.stdin.closed
    assert waiting.stdout is not None
    assert waiting.stdout.closed


def test_a_machine_without_room_for_a_process_is_not_told_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have some when the process is needed, and it may not be needed."""

    def refused(*args: object, **options: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    early.begin(["import", lines(tmp_path / "a.ndjson")])
    assert early._waiting == []


def test_a_process_ends_with_the_one_that_began_it(tmp_path: Path) -> None:
    """Whatever ended that: its pipe is closed by the system. It has its stderr till it ends."""
    command = (sys.executable, "-c", DIES, "import", lines(tmp_path / "a.ndjson"))
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, b"1\n", b"")
