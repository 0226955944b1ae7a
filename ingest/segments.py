"""The rules of a spool: what lies in a segment, when one ends, how much may be kept, what may go.

A segment is whole lines. Lines that were appended together may have a note before them, a line
that begins with a byte which no JSON has; such an append is in a segment wholly or not at all,
whatever a crash left. Pure: bytes in, decisions out; knows no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from ingest.errors import ConfigError, IngestError

SPOOL_BYTES: Final = 1_000_000_000
"""Bytes that a spool keeps at most, if nothing else is said: an hour of 500 records of 500 bytes a
second while the destination is down."""

SEGMENT_BYTES: Final = 16_000_000
"""Bytes after which a segment ends: what is settled is given back in pieces of that size, and a
start reads one of them to find its end, some 10 ms."""

SEGMENTS: Final = 4
"""Segments that a spool has room for at the least: what is settled of the newest one is not given
back yet, and that must never be all there is."""

MARK: Final = b"\x1e"
"""First byte of a note: a control character, which no JSON text begins with."""

_NEWLINE: Final = b"\n"
_NOTE: Final = re.compile(rb"\x1e([0-9]{1,15}) ([^\n]*)\n")
_NOTES: Final = re.compile(rb"^\x1e[^\n]*", re.MULTILINE)
_NAME: Final = re.compile(r"([0-9]{8,16})\.ndjson")


class SpoolFull(IngestError):
    """There is no room in the spool now; nothing of what was offered is kept."""


class Note(msgspec.Struct, frozen=True):
    """A note in a segment, and where what was appended with it ends, in bytes."""

    text: bytes
    end: int


class Scanned(msgspec.Struct, frozen=True):
    """What of a segment is whole: its first `end` bytes, with `lines` lines and these notes."""

    end: int
    lines: int
    notes: tuple[Note, ...]


def segment_name(number: int) -> str:
    """Return the name of the file of a segment; names sort like their numbers."""
    return f"{number:08d}.ndjson"


def segment_number(name: str) -> int | None:
    """Return the number of a segment by the name of its file; None for another file."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and segment_name(int(match[1])) == name else None


def framed(lines: Iterable[bytes], note: bytes = b"") -> bytes:
    """Return lines (without their ends) as they are appended, after their note if there is one.

    Raises `ValueError` for a line, or a note, that would not be read again as it is.
    """
    lines = list(lines)
    data = b"".join(line + _NEWLINE for line in lines)
    if data.count(_NEWLINE) != len(lines) or (MARK in data and any(map(_is_mark, lines))):
        raise ValueError("a line of a spool has no line break and does not begin with a mark")
    if not note:
        return data
    if _NEWLINE in note:
        raise ValueError("a note has no line break")
    return b"%b%d %b\n%b" % (MARK, len(data), note, data)


def _is_mark(line: bytes) -> bool:
    return line.startswith(MARK)


def scanned(data: bytes) -> Scanned:
    """Find what is whole in a segment that may have been cut off anywhere.

    A line without its end is not, nor is anything of an append with a note of which a part lacks.
    """
    notes: list[Note] = []
    at = 0  # all before is whole
    while (mark := _next_mark(data, at)) >= 0:
        match = _NOTE.match(data, mark)
        if match is None and _NEWLINE in data[mark:]:  # no note of ours: a line like any other
            at = data.index(_NEWLINE, mark) + 1
            continue
        if match is None or (end := match.end() + int(match[1])) > len(data):
            return Scanned(mark, data.count(_NEWLINE, 0, mark), tuple(notes))
        notes.append(Note(match[2], end))
        at = end
    end = max(at, data.rfind(_NEWLINE) + 1)
    return Scanned(end, data.count(_NEWLINE, 0, end), tuple(notes))


def _next_mark(data: bytes, start: int) -> int:
    """Return where the first line from `start` on begins that is a note; -1 if there is none."""
    if data.startswith(MARK, start):
        return start
    found = data.find(_NEWLINE + MARK, start)
    return found + 1 if found >= 0 else -1


def without_notes(data: bytes) -> bytes:
    """Return whole lines with every note made a blank line, so that all keep their numbers."""
    return _NOTES.sub(b"", data) if MARK in data else data


class SpoolRules(msgspec.Struct, frozen=True):
    """How much a spool keeps, in bytes. Raises `ConfigError` for what could not work."""

    spool_bytes: int = SPOOL_BYTES
    segment_bytes: int = SEGMENT_BYTES

    def __post_init__(self) -> None:
        if self.spool_bytes < SEGMENTS or self.segment_bytes < 1:
            raise ConfigError(
                f"a spool of {self.spool_bytes:,} bytes can keep nothing: raise spool_bytes"
            )

    @property
    def largest(self) -> int:
        """Bytes that one append may have: there is room for it once all before it is settled."""
        return self.spool_bytes // SEGMENTS

    def rolls(self, size: int, nbytes: int) -> bool:
        """Whether a segment of `size` bytes ends before `nbytes` more; it is never empty then."""
        return bool(size) and size + nbytes > min(self.segment_bytes, self.largest)

    def fits(self, used: int, nbytes: int) -> bool:
        """Whether there is room for `nbytes` more beside `used`."""
        return nbytes <= self.largest and used + nbytes <= self.spool_bytes


def settled_segments(sizes: Mapping[int, int], settled: Mapping[int, int]) -> list[int]:
    """Return which segments hold nothing but what is settled, by their numbers, from the oldest.

    `sizes` are in bytes, `settled` the bytes before which all is settled, both by number. The
    newest is not among them: its number says which is the next.
    """
    newest = max(sizes, default=0)
    return [
        number
        for number, size in sorted(sizes.items())
        if number != newest and settled.get(number, 0) >= size
    ]
