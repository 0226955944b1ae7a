"""What a command line names is found, in a fixed order, or refused in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest.errors import InputError
from ingest.sources.paths import MAX_PARTS, expand, raw_size


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, with some files."""
    for name in ("b.ndjson", "a.json", "c.jsonl.gz", "notes.txt", ".hidden.json", "[x].ndjson"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "d.ndjson").write_text("{}\n")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_keep_their_order_and_spelling(here: Path) -> None:
    """Several paths are read as they are named, and called what they were called."""
    assert expand(["b.ndjson", "-", Path("./a.json")]) == (("b.ndjson", "-", "a.json"), ())


def test_a_directory_gives_its_files_sorted_and_tells_what_it_left_out(here: Path) -> None:
    """NDJSON by name, right in the directory; folders are told by a slash, hidden ones are not."""
    (here / ".git").mkdir()
    (here / "folder.ndjson").mkdir()
    files, ignored = expand(["."])
    assert files == ("./[x].ndjson", "./a.json", "./b.ndjson", "./c.jsonl.gz")
    assert ignored == ("./below/", "./empty/", "./folder.ndjson/", "./notes.txt")


def test_a_glob_is_sorted(here: Path) -> None:
    """What a shell would do to a pattern is done to a quoted one."""
    assert expand(["*.j*"]) == (("a.json", "c.jsonl.gz"), ())
    assert expand(["**/*.ndjson"])[0] == ("[x].ndjson", "b.ndjson", "below/d.ndjson")


def test_a_glob_means_files_and_directories_only_where_it_matches_nothing_else(here: Path) -> None:
    """Directories among files are passed over; a pattern of directories means their files."""
    assert "below/d.ndjson" not in expand(["*"])[0]
    assert expand(["bel*"])[0] == ("below/d.ndjson",)


def test_a_name_that_looks_like_a_glob_is_a_name_where_it_exists(here: Path) -> None:
    """Brackets are common in the names of downloads."""
    assert expand(["[x].ndjson"])[0] == ("[x].ndjson",)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([], "No input"),
        (["missing.ndjson"], "missing.ndjson does not exist"),
        (["*.parquet"], r"\*\.parquet matches no file"),
        (["empty"], "empty is a directory without NDJSON"),
        (["a.json", "./a.json"], "named twice"),
        (["a.json", "*.json"], "named twice"),
        (["-", "-"], r"stdin \(-\) is named twice"),
        (["s3://b/a.json", "s3://b/a.json"], "s3://b/a.json is named twice"),
        (["a.json/b"], "a.json/b cannot be opened"),
        (["nul\0"], "cannot be opened"),
    ],
)
def test_what_cannot_be_meant_is_refused(here: Path, paths: list[str], words: str) -> None:
    """The sentence names what was given and what is wrong with it."""
    with pytest.raises(InputError, match=words):
        expand(paths)


def test_more_files_than_positions_have_room_for_are_refused(here: Path) -> None:
    """The limit is one of the journal, and is said before it is hit."""
    with pytest.raises(InputError, match="several runs"):
        expand(["a.json"] * (MAX_PARTS + 1))


def test_a_dangling_link_is_not_passed_over(here: Path) -> None:
    """A link in a directory that leads nowhere is a lost file, not an ignored one."""
    (here / "below" / "e.ndjson").symlink_to("gone")
    files, _ = expand(["below"])
    with pytest.raises(InputError, match=r"below/e.ndjson cannot be opened: No such file"):
        list(map(raw_size, files))


def test_sizes(here: Path) -> None:
    """A regular file has a size; stdin and a pipe have none."""
    os.mkfifo("pipe")
    assert [raw_size(name) for name in ("a.json", "-", "pipe")] == [3, None, None]


def test_a_directory_of_lists(tmp_path: Path) -> None:
    """With lists, text and CSV count as well; the sentence about none names all endings."""
    for name in ("a.txt", "b.csv.gz", "c.ndjson", "d.pdf"):
        (tmp_path / name).touch()
    found, ignored = expand([tmp_path], lists=True)
    assert [os.path.basename(name) for name in found] == ["a.txt", "b.csv.gz", "c.ndjson"]
    assert [os.path.basename(name) for name in ignored] == ["d.pdf"]
    for name in found:
        os.remove(name)
    with pytest.raises(InputError, match=r"without files to send .*\.txt or \.csv"):
        expand([tmp_path], lists=True)
