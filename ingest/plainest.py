"""The plainest envelopes: lines of `{"attributes":{...}}` as encoders write them.

Decides which lines look like it, by how they begin and end alone, and cuts the records out of many
of them at once. Whether they are JSON, and hold one thing each, is for who asks to find out.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import accumulate, compress
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from ingest.records import BOUNDS, KINDS, Joined
from ingest.validation import key_once

NEWLINE: Final = b"\n"


class Lines(msgspec.Struct):
    """Some lines, their indices, and all of them as one text, where somebody has it.

    Each of them ends with so many bytes of a newline: with the one, or with none.
    """

    rows: Sequence[int] = ()
    lines: Sequence[bytes] = ()
    text: bytes = b""
    ends: int = 0
    lengths: Sequence[int] = ()

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Lines:
        """Return lines, none of which holds a newline."""
        return cls(range(len(lines)), lines, NEWLINE.join(lines))

    @classmethod
    def of_text(cls, text: bytes) -> Lines:
        """Return the lines of a text; each keeps its newline, the last one gets one."""
        text = text if text.endswith(NEWLINE) else text + NEWLINE
        # What splits a text looks at one byte after the other; what reads lines does not.
        lines = BytesIO(text).readlines()
        return cls(range(len(lines)), lines, text, len(NEWLINE))

    def measured(self) -> Sequence[int]:
        """Return how many bytes each has, with its end."""
        if not self.lengths:
            self.lengths = list(map(len, self.lines))
        return self.lengths

    def whole(self) -> bytes:
        """Return them as a text."""
        if not self.text:
            self.text = (b"" if self.ends else NEWLINE).join(self.lines)
        return self.text

    def without_ends(self) -> Lines:
        """Return the same without newlines."""
        if not self.ends:
            return self
        return Lines(self.rows, list(map(_WITHOUT_END, self.lines)), self.text[:-1])

    def at(self, places: list[int]) -> Lines:
        """Return those at some places, which count up."""
        rows, lines = self.rows, self.lines
        rows = places if rows == range(len(rows)) else [rows[place] for place in places]
        return Lines(rows, [lines[place] for place in places], ends=self.ends)

    def picked(self, chosen: Iterable[object]) -> Lines:
        """Return those at which something true is."""
        marks = list(chosen)
        rows, lines = list(compress(self.rows, marks)), list(compress(self.lines, marks))
        return Lines(rows, lines, ends=self.ends)


class Records(NamedTuple):
    """Records cut out of lines: as a column, and as a text of which each is a line."""

    joined: Joined
    text: bytes


class Plainest(msgspec.Struct, frozen=True):
    """The opening of lines that are an envelope without white space, or almost: as encoders write.

    Such a line ends in two braces, and what is between the first one and the last is the record.
    """

    slot: int
    opening: bytes
    name: bytes

    def cut(self, all: Lines) -> Records | None:
        """Return the records in lines; None if one is no such envelope.

        If each line is JSON, they are the records.
        """
        return _cut(all, self.opening, b"}}")

    def lone(self, whole: bytes, count: int) -> bool:
        """Whether there is one thing in each of them, unless one has a backslash.

        The name of what it holds is a key once in it then.
        """
        return key_once(whole, self.name, count)


_WITHOUT_END: Final = itemgetter(slice(-1))
_PLAINEST: Final = tuple(
    Plainest(slot, b'{"%b":%b{' % (kind.encode(), space), b'"%b"' % kind.encode())
    for slot, kind in enumerate(KINDS)
    for space in (b"", b" ")
)
_BY_OPENING: Final = {one.opening: one for one in _PLAINEST}

_MARK: Final = itemgetter(2)
"""What is at this place of a line tells the kinds of the plainest envelopes from one another."""


def plainest_of(line: bytes) -> Plainest | None:
    return _BY_OPENING.get(line[: line.find(b"{", 1) + 1])


def alike(lines: Sequence[bytes]) -> Plainest | None:
    """Return what all lines may be, by a look at three of them; None if they are not alike."""
    first = plainest_of(lines[0])
    same = first is plainest_of(lines[-1]) and first is plainest_of(lines[len(lines) > 1])
    return first if same else None


def bare_records(all: Lines) -> Records | None:
    """Return lines as they are; None if one is not between braces."""
    return _cut(all, b"{", b"}")


def _cut(all: Lines, opening: bytes, closing: bytes) -> Records | None:
    """Return what is in lines from the last brace of an opening to the first one of a closing.

    None if not each of them begins and ends so: put together again, they are what they were.
    """
    ending = closing + NEWLINE[: all.ends]
    pieces = list(map(itemgetter(slice(len(opening), -len(ending))), all.lines))
    pieces[0] = b"{" + pieces[0]
    pieces[-1] += b"}"
    between = (closing + NEWLINE + opening).join(pieces)
    if not _is_made_of(all.whole(), opening[:-1], between, ending[1:]):
        return None
    shift = len(b"{},") - len(opening) - len(ending)
    bounds = array(BOUNDS, list(accumulate(all.measured(), initial=0)))
    text = b"}\n{".join(pieces) if len(opening) > 1 else between
    return Records(Joined(b"},{".join(pieces), bounds, shift), text)


def _is_made_of(whole: bytes, first: bytes, between: bytes, last: bytes) -> bool:
    """Whether a text is these, one after the other; none is copied."""
    return (
        len(whole) == len(first) + len(between) + len(last)
        and whole.startswith(first)
        and whole.startswith(between, len(first))
        and whole.endswith(last)
    )


def by_mark(all: Lines) -> Iterable[Lines]:
    """Sort lines by a byte in which the plainest envelopes differ; the order within stays."""
    try:
        marks = bytes(map(_MARK, all.lines))
    except IndexError:  # a line of two bytes
        return (all,)
    places: dict[int, list[int]] = {mark: [] for mark in sorted(set(marks))}
    if len(places) < 2:
        return (all,)
    for place, mark in enumerate(marks):
        places[mark].append(place)
    return [all.at(some) for some in places.values()]


def by_opening(all: Lines) -> Iterable[tuple[Plainest | None, Lines]]:
    """Sort lines by how they begin; None for those that are no plain envelope."""
    groups: defaultdict[Plainest | None, tuple[list[int], list[bytes]]]
    groups = defaultdict(lambda: ([], []))
    for row, line in zip(all.rows, all.lines, strict=True):
        some_rows, some_lines = groups[plainest_of(line)]
        some_rows.append(row)
        some_lines.append(line)
    return [(plainest, Lines(*group, ends=all.ends)) for plainest, group in groups.items()]
