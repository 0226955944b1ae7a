"""What a file is, told by its first bytes and its name: a compression, or a reason to refuse it.

This module decides which files are no NDJSON at all and what to tell their owner. A bad line in a
file that is NDJSON is none of its business. It does no I/O, and never quotes the file: a first line
may be somebody's data.
"""

from __future__ import annotations

import re
import shlex
from typing import Final, Literal

UTF8_BOM: Final = b"\xef\xbb\xbf"

ENDINGS: Final = (".ndjson", ".jsonl", ".json")
"""Name endings read from a directory, each also with the ending of a compression."""

LIST_ENDINGS: Final = (*ENDINGS, ".txt", ".csv")
"""The same where a line may be a value alone."""

TABLE_ENDINGS: Final = (".csv", ".tsv", ".parquet")
"""Name endings of tables, read from a directory where tables are taken."""

COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd"}
"""What each ending of a compressed file stands for."""

IDENTITIES: Final = frozenset(
    {"external_id", "user_alias", "alias_name", "braze_id", "email", "phone", "user_id"}
)
"""Column names that show that rows are about users."""

_LOOKED_AT: Final = 8
"""Lines of a head that are looked at: a table shows its nature in two, white space aside."""

_TAR_MARK: Final = slice(257, 262)
"""Where a tar archive says `ustar`."""

_ZSTD: Final = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # a frame; one to skip
_DELIMITERS: Final = (",", ";", "\t", "|")
_HEADER_CELL: Final = re.compile(r'\s*"?[^\W\d][\w .$/-]*"?\s*')

_OBJECTS: Final = "ingest reads NDJSON, one JSON object a line"
_UTF16: Final = "text in UTF-16"
_UTF32: Final = "text in UTF-32"
_NO_USER: Final = (
    " None of its columns is named like a user (external_id, email, ...): is it user data at all? "
    "A catalog, for one, is not."
)

PARQUET: Final = b"PAR1"
"""What a Parquet file begins, and ends, with."""

_MAGIC: Final = (
    (
        PARQUET,
        "a Parquet file",
        "duckdb -c \"COPY (FROM '{raw}') TO '{raw}.ndjson' (FORMAT json)\"",
    ),
    (b"Obj\x01", "an Avro file", "avro-tools tojson {file} > {out}"),
    (b"ORC", "an ORC file", "orc-contents {file} > {out}"),
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unzip -p {file} | ingest import -"),
    (b"BZh", "compressed with bzip2", "bzcat {file} | ingest import -"),
    (b"\xfd7zXZ\x00", "compressed with xz", "xzcat {file} | ingest import -"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "lz4cat {file} | ingest import -"),
    # UTF-32 before UTF-16: their little-endian marks begin alike.
    (b"\xff\xfe\x00\x00", _UTF32, "iconv -f UTF-32 -t UTF-8 {file} > {out}"),
    (b"\x00\x00\xfe\xff", _UTF32, "iconv -f UTF-32 -t UTF-8 {file} > {out}"),
    (b"\xff\xfe", _UTF16, "iconv -f UTF-16 -t UTF-8 {file} > {out}"),
    (b"\xfe\xff", _UTF16, "iconv -f UTF-16 -t UTF-8 {file} > {out}"),
    (b"{\x00", _UTF16, "iconv -f UTF-16LE -t UTF-8 {file} > {out}"),
    (b"\x00{", _UTF16, "iconv -f UTF-16BE -t UTF-8 {file} > {out}"),
)
"""What no NDJSON begins with, what that is, and a command that converts it."""


def compression(head: bytes, name: str) -> str | None:
    """Return "gzip", "zstd" or None for the first raw bytes of a file.

    The bytes decide. A name that promises a compression is believed against them unless the bytes
    begin like JSON: what is cut off or damaged must not pass as plain text.
    """
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if _ZSTD.match(head):
        return "zstd"
    if head.removeprefix(UTF8_BOM).lstrip().startswith(b"{"):
        return None
    return next((kind for end, kind in COMPRESSIONS.items() if name.lower().endswith(end)), None)


def is_ndjson_name(name: str, *, lists: bool = False, tables: bool = False) -> bool:
    """Tell whether a file of a directory is taken for what is read, by its name alone.

    That is NDJSON, or with `lists` a list, or with `tables` a table.
    """
    endings = (LIST_ENDINGS if lists else ENDINGS) + (TABLE_ENDINGS if tables else ())
    return plain_name(name).endswith(endings)


def is_table_name(name: str) -> bool:
    """Tell whether a name promises a text table; what is in the file is more to be believed."""
    return plain_name(name).endswith((".csv", ".tsv", ".tab"))


def looks_like_table(head: bytes, name: str) -> bool:
    """Tell whether the first bytes of a file are those of a text table, not of lines of JSON."""
    text = head.removeprefix(UTF8_BOM).decode("utf-8", "replace")
    lines = [line.rstrip() for line in text.split("\n", maxsplit=_LOOKED_AT) if line.strip()]
    if not lines or lines[0].lstrip()[:1] in ("[", "<"):
        return False
    lines[0] = lines[0].lstrip()
    return bool(_columns(lines, named=is_table_name(name)))


Form = Literal["ndjson", "table", "parquet"]


def form_of(head: bytes, name: str) -> Form:
    """Return what the first bytes of a file, and then its name, say that it is.

    What is none of them is taken for NDJSON, which is where it is refused.
    """
    if head.startswith(PARQUET):
        return "parquet"
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff")) and is_table_name(name)
    if wide or looks_like_table(head, name):
        return "table"
    # A name that promises a form is believed against what could be anything.
    if plain_name(name).endswith(".parquet") and not conclusive(head):
        return "parquet"
    return "ndjson"


def foreign(head: bytes) -> str | None:
    """Return what a file is, and a command that converts it, if it is neither text nor Parquet."""
    return next(
        (what for magic, what, _ in _MAGIC if head.startswith(magic) and magic != PARQUET), None
    )


def plain_name(name: str) -> str:
    """Return a name in lower case, without the ending of a compression."""
    name = name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return name


def conclusive(head: bytes) -> bool:
    """Tell whether `refusal` can judge by this much: an object on the first line, or some lines.

    A slow pipe is asked for no more than that, and in how many pieces it came makes no difference.
    """
    *lines, _ = head.removeprefix(UTF8_BOM).split(b"\n", maxsplit=_LOOKED_AT)
    first = next((line for line in map(bytes.strip, lines) if line), b"")
    return len(lines) == _LOOKED_AT or (first.startswith(b"{") and first.endswith(b"}"))


def refusal(head: bytes, name: str, *, lists: bool = False) -> str | None:
    """Return a sentence if the file obviously is not NDJSON, else None.

    With `lists` a line may be a value alone, so that a table of one column is fit for reading.
    `head` holds the first decompressed bytes, as many as `conclusive` asks for or there are. The
    sentence says what the file is and what to do; it quotes nothing of the file.
    """
    raw = "FILE" if name == "stdin" else name
    file, out = shlex.quote(raw), shlex.quote(f"{raw}.ndjson")
    for magic, what, command in _MAGIC:
        if head.startswith(magic):
            command = command.format(raw=raw, file=file, out=out)
            return f"{name} is {what}; {_OBJECTS}, in UTF-8. Convert it first:  {command}"
    if head[_TAR_MARK] == b"ustar":
        return f"{name} is a tar archive. Unpack it first:  tar -xOf {file} | ingest import -"
    text = head.removeprefix(UTF8_BOM).decode("utf-8", "replace")
    lines = [line.rstrip() for line in text.split("\n", maxsplit=_LOOKED_AT) if line.strip()]
    if not lines:
        return None
    lines[0] = lines[0].lstrip()
    if lines[0].startswith("<"):
        return (
            f"{name} looks like HTML or XML, perhaps an error page saved as a file; "
            f"{_OBJECTS}. Look into it, and download or export it again."
        )
    if program := _other_json(*lines):
        return (
            f"{name} is JSON, but not one object a line; {_OBJECTS}. "
            f"Convert it first:  jq -c {program} {file} > {out}"
        )
    columns = _columns(lines, named=plain_name(name).endswith((".csv", ".tsv")))
    if lists and columns:
        if not any(delimiter in lines[0] for delimiter in _DELIMITERS):
            return None
        delimiter = max(_DELIMITERS, key=lines[0].count)
        how = "" if delimiter == "\t" else f" -d{shlex.quote(delimiter)}"
        return (
            f"{name} is a CSV table of several columns; ingest send reads one value a line, or one "
            f"JSON object. Cut the column out first:  cut{how} -f1 {file} | ingest send ROW -"
        )
    if columns:
        foreign = "" if columns & IDENTITIES else _NO_USER
        return (
            f"{name} is a CSV table; this version of {_OBJECTS}.{foreign} Convert it first:  "
            f"mlr --icsv --ojsonl cat {file} > {out}  and import that with --kind."
        )
    return None


def _other_json(first: str, *rest: str) -> str | None:
    """Return the jq program for an array that spans the file, or values spread over lines."""
    if first[0] == "[" and not (first[-1] == "]" and any(map(_begins_object, rest))):
        return "'.[]'"
    # A line after an unfinished one is indented, or begins with a name.
    spread = first[0] == "{" and first[-1] in "{[," and rest and rest[0][0] != "{"
    return "." if first == "{" or spread else None


def _columns(lines: list[str], *, named: bool) -> set[str]:
    """Return the column names of a table, in lower case; an empty set if this is none."""
    if any(map(_begins_object, lines)):
        return set()
    first, *rest = lines
    delimiter = max(_DELIMITERS, key=first.count)
    cells = first.split(delimiter)
    names = {cell.strip(' "').lower() for cell in cells}
    header = len(cells) > 1 and all(map(_HEADER_CELL.fullmatch, cells))
    # A line alone may be a sentence with a comma in it, unless it names a user.
    row = delimiter in rest[0] if rest else names & IDENTITIES
    return names if named or (header and row) else set()


def _begins_object(line: str) -> bool:
    return line.lstrip().startswith("{")
