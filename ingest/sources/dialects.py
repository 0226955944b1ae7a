"""What a text table is written in: its delimiter, told by its first lines, and its encoding.

This module decides by the text alone, and does no I/O. What the columns mean is none of its
business; it quotes nothing of a file but the delimiter.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ingest.errors import ConfigError
from ingest.sources.base import Piece

DELIMITERS: Final = (",", ";", "\t")
"""What is looked for, the likeliest first; any other has to be told."""

UTF8: Final = "utf-8"

SNIFFED_ROWS: Final = 50
"""Rows that a delimiter is judged by: enough for a comma in some text to give itself away."""

UNDECODABLE: Final = "\udcff"
"""What stands for bytes that an encoding has no character for: no text holds it otherwise."""

_MARK: Final = "ingest.mark"


class TableOptions(msgspec.Struct, frozen=True):
    """What the user says of text tables: `delimiter` None is told by the first lines."""

    delimiter: str | None = None
    encoding: str = UTF8

    def checked(self) -> TableOptions:
        """Return the same, in one spelling. Raises `ConfigError` for what cannot be."""
        return TableOptions(_delimiter(self.delimiter), _encoding(self.encoding))


def _delimiter(told: str | None) -> str | None:
    if told is None:
        return None
    found = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(told.lower(), told)
    if len(found) != 1 or found in '"\r\n\0':
        raise ConfigError(
            f"The delimiter {told!r} cannot be: give one character such as , or ; or the word tab."
        )
    return found


def _encoding(told: str) -> str:
    try:
        found = codecs.lookup(told)
        "".encode(found.name)  # refuses base64 and the like, which are no text
    except LookupError:
        raise ConfigError(
            f"The encoding {told!r} is not known: give one such as utf-8, cp1252, latin-1, "
            "utf-16 or shift_jis."
        ) from None
    return UTF8 if found.name in (UTF8, "utf-8-sig", "ascii") else found.name


def sniffed(head: str, *, tabbed: bool = False) -> str:
    """Return the delimiter of a table that begins like this; a comma where there is none.

    It is the one by which most rows have as many cells as the first, and more than one. `tabbed`
    prefers a tab where two are as good (a file by the name of .tsv). A last line that may be cut
    off does not count, unless it is the only one.
    """
    whole = head[: head.rfind("\n") + 1] or head
    order = ("\t", ",", ";") if tabbed else DELIMITERS
    return max(order, key=lambda delimiter: _fitness(whole, delimiter))


def _fitness(text: str, delimiter: str) -> tuple[float, int]:
    """Return (the share of rows as wide as the first, that width); nothing for a width of 1."""
    widths: list[int] = []
    try:
        for row in csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter):
            widths += [len(row)] if row else []
            if len(widths) > SNIFFED_ROWS:
                break
    except csv.Error:
        pass
    if not widths or widths[0] == 1:
        return (0.0, 0)
    return (widths.count(widths[0]) / len(widths), widths[0])


def transcoded(pieces: Iterable[Piece], encoding: str) -> Iterator[bytes]:
    """Yield text of any encoding as UTF-8; what cannot be decoded becomes `UNDECODABLE`.

    That mark is not valid UTF-8 itself, so that a row which holds one is found as such rows of a
    UTF-8 file are.
    """
    decoder = codecs.getincrementaldecoder(encoding)(_MARK)
    for piece in pieces:
        if text := decoder.decode(bytes(piece)):
            yield text.encode(UTF8, "surrogatepass")
    if text := decoder.decode(b"", True):
        yield text.encode(UTF8, "surrogatepass")


def _marked(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNDECODABLE, error.end


codecs.register_error(_MARK, _marked)
