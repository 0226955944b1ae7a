"""Files elsewhere are read as those here, and their URLs tell no secret."""

from __future__ import annotations

import gzip
import io
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InputError, MissingExtra
from ingest.sources import remote
from ingest.sources.base import Start
from ingest.sources.files import FileSource
from ingest.sources.tables import TableSource
from tests.sources.tables import Plain, lines_of

TEXT = b"".join(b'{"external_id":"u%d"}\n' % number for number in range(20_000))


@pytest.fixture
def memory() -> Any:
    """The file system in memory, empty; or a visible skip."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec (extra remote) is not installed")
    system = fsspec.filesystem("memory")
    system.store.clear()
    return system


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the secret of the URL is not."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra) as told:
        FileSource(["https://user:hush@host/a.ndjson?sig=hush"])
    assert str(told.value).startswith("Reading https://host/a.ndjson needs a package")
    assert "ingestline[remote]" in str(told.value)
    assert "hush" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/a/b.csv", "s3://bucket/a/b.csv"),
        ("https://user:hush@host:8443/a.csv?X-Amz-Signature=hush#hush", "https://host:8443/a.csv"),
        ("ftp://hush@host/a", "ftp://host/a"),
        ("https://a:hu@sh@host/a", "https://host/a"),
        ("https://[hush", "https://..."),
        ("plain/a.csv?x", "plain/a.csv?x"),
    ],
)
def test_a_url_is_shown_without_what_opens_it(url: str, name: str) -> None:
    """User, password, query and fragment stay out of every sentence."""
    assert remote.shown(url) == name


@given(st.text(min_size=1), st.text(alphabet="hus", min_size=9))
def test_no_password_is_shown(host: str, secret: str) -> None:
    """Whatever the rest looks like."""
    url = f"https://user:{secret}@host/{host.replace('@', '')}?token={secret}"
    assert secret not in remote.shown(url) or secret in host


def test_files_here_are_no_urls() -> None:
    """Names with colons in them, and drive letters, are paths."""
    assert not any(map(remote.is_url, ["a.csv", "C:\\a.csv", "a:b", "./x://y", "1s://x"]))
    assert all(map(remote.is_url, ["s3://b/a", "memory://a", "HTTPS://h/a"]))


def test_ndjson_is_read_by_url_plain_and_compressed(memory: Any) -> None:
    """Compression is told by content, sizes are known, and reading goes on at a start."""
    memory.pipe("/b/a.ndjson", TEXT)
    memory.pipe("/b/b.ndjson.gz", gzip.compress(TEXT))
    source = FileSource(["memory://b/a.ndjson", "memory://b/b.ndjson.gz"])
    blocks = list(source.blocks())
    assert b"".join(block.data for block in blocks) == TEXT * 2
    assert source.total_bytes == len(TEXT) + len(gzip.compress(TEXT))
    assert source.names == ("memory://b/a.ndjson", "memory://b/b.ndjson.gz")
    at = Start(blocks[0].end_offset, blocks[0].following, 0)
    source.start_at({0: at, 1: Start(99, 20_000, 0)})
    again = list(source.blocks())
    assert b"".join(b.data for b in again if b.part == 0) == TEXT[at.offset :]
    assert b"".join(b.data for b in again if b.part == 1) == TEXT.splitlines(True)[-1]


def test_tables_are_read_by_pattern(memory: Any) -> None:
    """A glob of URLs expands sorted; one that matches nothing, and a directory, are errors."""
    memory.pipe("/t/b.csv", b"id,plan\nu2,pro\n")
    memory.pipe("/t/a.csv", b"id,plan\nu1,pro\n")
    source = TableSource(["memory://t/*.csv"], Plain())
    assert source.names == ("memory://t/a.csv", "memory://t/b.csv")
    assert lines_of(list(source.blocks())) == [(2, ["u1", "pro"]), (2, ["u2", "pro"])]
    for url, words in [("memory://t/*.tsv", "matches no file"), ("memory://t", "is a directory")]:
        with pytest.raises(InputError, match=words):
            TableSource([url], Plain())


def test_what_is_not_there_is_said_without_secrets(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do the words of a file system, which may hold the URL, reach the error."""
    with pytest.raises(InputError, match=r"^memory://b/no\.csv does not exist\.$"):
        FileSource(["memory://b/no.csv"])
    with pytest.raises(InputError, match="nosuch:// is a protocol that fsspec does not know"):
        FileSource(["nosuch://hush@b/no.csv"])
    with pytest.raises(InputError, match=r"s3://b/a cannot be opened: s3:// needs .* s3fs"):
        FileSource(["s3://b/a"])
    for raised, words in [
        (PermissionError("hush"), "access is denied"),
        (RuntimeError("https://x?sig=hush"), r"cannot be opened \(RuntimeError\)"),
    ]:

        def fail(*args: object, raised: Exception = raised, **options: object) -> None:
            raise raised

        monkeypatch.setattr(type(memory), "info", fail)
        with pytest.raises(InputError, match=words) as told:
            FileSource(["memory://b/a"])
        assert "hush" not in str(told.value)


def test_a_connection_that_breaks_ends_in_a_sentence(memory: Any) -> None:
    """What came before is read; the words of the client are not quoted."""

    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if data := super().read(size if size and size < 70_000 else 70_000):
                return data
            raise RuntimeError("https://host?sig=hush")

    memory.pipe("/b/a.ndjson", TEXT)
    source = FileSource(["memory://b/a.ndjson"])
    source.open = lambda part: remote._File(Breaking(TEXT))  # type: ignore[assignment, method-assign, return-value]  # broken
    with pytest.raises(InputError, match=r"cannot be read further \(RuntimeError\)") as told:
        list(source.blocks())
    assert "hush" not in str(told.value)
    assert "Its first 20,000 lines were read" in str(told.value)
