"""The plainest envelopes: lines of `{"attributes":{...}}` as encoders write them.

Decides which lines look like it, by how they begin and end alone, and cuts the records out of many
of them at once. Whether they are JSON, and hold one thing each, is for who asks to find out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import compress
from operator import itemgetter
from typing import Final

import msgspec

from ingest.records import KINDS, Joined, bounds_of
from ingest.validation import key_once

NEWLINE: Final = b"\n"


class Lines(msgspec.Struct):
    """Some lines, their indices, and all of them joined, if somebody did that."""

    rows: Sequence[int] = ()
    lines: Sequence[bytes] = ()
    whole: bytes = b""


class Plainest(msgspec.Struct, frozen=True):
    """The opening of lines that are an envelope without white space, or almost: as encoders write.

    Such a line ends in two braces, and what is between the first one and the last is the record.
    """

    slot: int
    opening: bytes
    name: bytes

    def cut(self, lines: Sequence[bytes], whole: bytes) -> Joined | None:
        """Return the records in lines, joined as `whole`; None if one is no such envelope.

        If each line is JSON, they are the records: where a line ends and the next one begins is
        replaced by what is between two of them, as often as there is such a place.
        """
        if not (whole.startswith(self.opening) and whole.endswith(b"}}")):
            return None
        ending = _CLOSING + self.opening
        data = whole[len(self.opening) - 1 : -1].replace(ending, b"},{")
        taken_out = len(whole) - len(self.opening) - len(data)
        if taken_out != (len(lines) - 1) * (len(ending) - len(b"},{")):
            return None
        return Joined(data, bounds_of(lines), 1 - len(self.opening))

    def lone(self, whole: bytes, count: int) -> bool:
        """Whether there is one thing in each of them, unless one has a backslash.

        The name of what it holds is a key once in it then.
        """
        return key_once(whole, self.name, count)


_CLOSING: Final = b"}}" + NEWLINE
_PLAINEST: Final = tuple(
    Plainest(slot, b'{"%b":%b{' % (kind.encode(), space), b'"%b"' % kind.encode())
    for slot, kind in enumerate(KINDS)
    for space in (b"", b" ")
)
_BY_OPENING: Final = {one.opening: one for one in _PLAINEST}

_MARK: Final = itemgetter(2)
_MARKED: Final = [bytes(int(value == mark) for value in range(256)) for mark in range(256)]
"""What is at this place of a line tells the kinds of the plainest envelopes from one another, and
which places of a row of such marks are one of them."""


def plainest_of(line: bytes) -> Plainest | None:
    return _BY_OPENING.get(line[: line.find(b"{", 1) + 1])


def alike(lines: Sequence[bytes]) -> Plainest | None:
    """Return what all lines may be, by a look at three of them; None if they are not alike."""
    first = plainest_of(lines[0])
    same = first is plainest_of(lines[-1]) and first is plainest_of(lines[len(lines) > 1])
    return first if same else None


def bare_records(lines: Sequence[bytes], whole: bytes) -> Joined | None:
    """Return lines as they are, joined with commas; None if one is not between braces.

    `whole` is them joined with newlines, of which none is left where each line ends with a brace
    and the next one begins with one.
    """
    if not (whole.startswith(b"{") and whole.endswith(b"}")):
        return None
    data = whole.replace(b"}\n{", b"},{")
    return None if NEWLINE in data else Joined(data, bounds_of(lines))


def by_mark(all: Lines) -> Iterable[Lines]:
    """Sort lines by a byte in which the plainest envelopes differ; the order within stays."""
    try:
        marks = bytes(map(_MARK, all.lines))
    except IndexError:  # a line of two bytes
        return (all,)
    kinds = set(marks)
    if len(kinds) < 2:
        return (all,)
    chosen = (marks.translate(_MARKED[kind]) for kind in sorted(kinds))
    return [
        Lines(list(compress(all.rows, these)), list(compress(all.lines, these))) for these in chosen
    ]


def by_opening(all: Lines) -> Iterable[tuple[Plainest | None, Lines]]:
    """Sort lines by how they begin; None for those that are no plain envelope."""
    groups: defaultdict[Plainest | None, tuple[list[int], list[bytes]]]
    groups = defaultdict(lambda: ([], []))
    for row, line in zip(all.rows, all.lines, strict=True):
        some_rows, some_lines = groups[plainest_of(line)]
        some_rows.append(row)
        some_lines.append(line)
    return [(plainest, Lines(*group)) for plainest, group in groups.items()]
