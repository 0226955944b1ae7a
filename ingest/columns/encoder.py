"""From rows to NDJSON lines, by a plan: the hot path of every import of a table.

Decides which row becomes a line and which is unfit; each row is exactly one of the two. Goes by
columns: each is written as a whole, and a row is then a join of its pieces, the identity first.
What a destination thinks of the objects is for the validation, which sees these lines as any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, Final

from msgspec.structs import replace

from ingest.codec import dumps
from ingest.columns.flat import Flat
from ingest.columns.fragments import NOTHING, ROW_LENGTH, Field, Unfit, spelling_of
from ingest.columns.grid import Grid
from ingest.columns.judging import Judge
from ingest.columns.names import ALIAS, FLAGS, IDENTITY, PAYLOAD, PRIMARIES, Path, field_of, path_of
from ingest.columns.plan import Column, Plan
from ingest.columns.times import zone_of
from ingest.columns.values import texts_of, value_fragments
from ingest.proofs import Vouched

Cells = Sequence[Any]
Write = Callable[[Field, Cells, dict[int, Unfit]], list[bytes]]
"""Writes the cells of a column: those of a table of text, or of one with types."""

_NOTHING: Final = Unfit(
    NOTHING, "", "the row has nothing to send: no cell but those that say whose it is has a value"
)


class _Slice:
    """Some rows, by columns, while they are encoded."""

    def __init__(self, columns: Sequence[Cells], size: int, write: Write) -> None:
        self.columns: Final = columns
        self.size: Final = size
        self.write: Final = write
        self.unfit: dict[int, Unfit] = {}


class _Leaf:
    """A member whose value is a cell of one column."""

    def __init__(self, index: int, field: Field) -> None:
        self.place: Final = index
        self.field: Final = field

    def pieces(self, rows: _Slice) -> Iterable[bytes]:
        return rows.write(self.field, rows.columns[self.place], rows.unfit)


class _Constant:
    """A member that is the same in every object."""

    def __init__(self, member: bytes) -> None:
        self._member: Final = member

    def pieces(self, rows: _Slice) -> Iterable[bytes]:
        return [self._member] * rows.size


class _Template:
    """A member whose value is made of several cells; left out where one of them has none."""

    def __init__(self, parts: Sequence[int | str], field: Field, null: str) -> None:
        self._parts: Final = parts
        self._field: Final = field
        self._null: Final = null

    def pieces(self, rows: _Slice) -> Iterable[bytes]:
        null = self._null
        columns = [
            [part] * rows.size
            if isinstance(part, str)
            else ["" if c == null else c for c in texts_of(rows.columns[part])]
            for part in self._parts
        ]
        cells = ["".join(row) if all(row) else "" for row in zip(*columns, strict=True)]
        return self._field.fragments(cells, rows.unfit)


class _Group:
    """An object inside of an object; left out of rows where it has no member."""

    def __init__(self, name: str) -> None:
        self._open: Final = b"," + dumps(name) + b":{"
        self._alias: Final = name == ALIAS
        self.members: dict[str, _Node] = {}

    def pieces(self, rows: _Slice) -> Iterable[bytes]:
        start = self._open
        written = [(node, list(node.pieces(rows))) for node in self.members.values()]
        inner = _rows_of([pieces for _, pieces in written], rows.size)
        if self._alias:
            # A constant label is no alias where the row has no name.
            own = [pieces for node, pieces in written if not isinstance(node, _Constant)]
            if own:
                given = _rows_of(own, rows.size)
                inner = [piece if there else b"" for piece, there in zip(inner, given, strict=True)]
        return [b"%b%b}" % (start, piece[1:]) if piece else b"" for piece in inner]


_Node = _Leaf | _Constant | _Template | _Group


def _rows_of(columns: Sequence[Iterable[bytes]], size: int) -> list[bytes]:
    """Return what some columns of pieces give each row, one after the other."""
    if len(columns) == 1:
        return list(columns[0])
    return list(map(b"".join, zip(*columns, strict=True))) if columns else [b""] * size


def _joined(nodes: Iterable[_Node], rows: _Slice) -> list[bytes]:
    """Return the members that some nodes give each row, one after the other."""
    return _rows_of([node.pieces(rows) for node in nodes], rows.size)


class Encoder:
    """Encodes rows by a plan; keeps nothing of them but `dropped`."""

    def __init__(self, plan: Plan) -> None:
        self.plan: Final = plan
        self._width: Final = len(plan.columns)
        self._zone: Final = None if plan.timezone is None else zone_of(plan.timezone)
        self._fields: Final[list[Field]] = []
        root = _Group("")
        for i, column in enumerate(plan.columns):
            if column.path:
                field = self._field(column)
                self._fields.append(field)
                _put(root, column.path, _Leaf(i, field))
        for name, value in plan.constants.items():
            path = path_of(name, plan.kind)
            _put(root, path, _Constant(_prefix(path) + dumps(value)))
        places = {name: i for i, name in enumerate(plan.header)}
        for path, pieces in plan.pieces():
            parts = [p.text if p.column is None else places[p.column] for p in pieces]
            field = self._field(Column(field_of(path), path, "string"))
            _put(root, path, _Template(parts, field, "" if plan.typed else plan.null_text))
        contacts = IDENTITY[len(PRIMARIES) :]
        self._primaries: Final = _some(root, IDENTITY[: len(PRIMARIES)])
        self._contacts: Final = _some(root, contacts)
        self._flags: Final = _some(root, sorted(FLAGS[plan.kind]))
        apart = {*IDENTITY, *FLAGS[plan.kind]}
        self._content: Final = [m for name, m in root.members.items() if name not in apart]
        envelope = dumps({plan.kind: 0})[:-2]
        self._open: Final = b"{" if plan.cdi else envelope + b"{"
        self._close: Final = b"}" if plan.cdi else b"}}"
        # Beside a primary, an e-mail address of an attributes object is something to send.
        self._says: Final = plan.kind == "attributes" and not plan.cdi
        # Where a row has all of its cells, there is something to send beside its identity.
        self._always_says: Final = bool(self._content or self._contacts)
        self._judge: Final = Judge(plan)
        self._flat: Final = Flat(
            (node.place, node.field)
            for nodes in (self._primaries, self._contacts, self._flags, self._content)
            for node in nodes
            if isinstance(node, _Leaf)
        )

    @property
    def dropped(self) -> Mapping[str, int]:
        """Column -> its cells left out so far, for they were not of its type (`on_bad_field`)."""
        return {field.column: field.dropped for field in self._fields if field.dropped}

    def encode(self, rows: Sequence[Sequence[str]]) -> list[bytes | Unfit]:
        """Return a line without its end, or why there is none, for each row of cells, in order."""
        return self._encode(rows, _write_texts)

    def encode_values(self, rows: Sequence[Sequence[Any]]) -> list[bytes | Unfit]:
        """Do as `encode` for rows of Python values; None, and NaN, are cells without a value."""
        return self._encode(rows, self._write_values)

    def vouch(self, rows: Sequence[Sequence[str]]) -> tuple[Vouched, Mapping[int, Unfit]] | None:
        """Return what `encode` says, as columns: the objects, and row -> why for the others.

        None where the objects of the plan, or of these rows, are not known to be good by columns.
        """
        if not self._judge.vouches or not rows or set(_widths(rows)) != {self._width}:
            return None
        columns = _columns_of(rows)
        blanks = not (isinstance(rows, Grid) and rows.surely_lacks("", self.plan.null_text))
        keys = self._judge.keys(columns)
        if isinstance(rows, Grid) and rows.plain and not blanks and self._always_says:
            fragments = self._flat.objects(columns, len(rows))
            if fragments is not None:
                # Any cell that is judged is written as it is.
                longest = max(map(len, fragments)) - self._flat.frame
                doubtful = self._judge.doubtful(columns, blanks=False, longest=longest)
                return Vouched(self.plan.kind, fragments, keys, doubtful), {}
        doubtful = self._judge.doubtful(columns, blanks=blanks)
        lines = self._lines(columns, len(rows), _write_texts)
        unfit = {at: line for at, line in enumerate(lines) if not isinstance(line, bytes)}
        start = len(self._open) - 1  # its last brace is the object's own
        fragments = [line[start:-1] for line in lines if isinstance(line, bytes)]
        if unfit:
            kept = [at for at in range(len(rows)) if at not in unfit]
            keys = [keys[at] for at in kept]
            doubts = set(doubtful)
            doubtful = [new for new, at in enumerate(kept) if at in doubts]
        return Vouched(self.plan.kind, fragments, keys, doubtful), unfit

    def _write_values(self, field: Field, cells: Cells, unfit: dict[int, Unfit]) -> list[bytes]:
        return value_fragments(field, cells, self._zone, unfit)

    def _encode(self, rows: Sequence[Cells], write: Write) -> list[bytes | Unfit]:
        if not rows:
            return []
        widths = _widths(rows)
        if set(widths) == {self._width}:
            return self._lines(_columns_of(rows), len(rows), write)
        right = [width == self._width for width in widths]
        kept = list(compress(rows, right))
        lines = iter(self._lines(_columns_of(kept), len(kept), write) if kept else ())
        return [
            next(lines) if fits else self._misfit(len(row))
            for row, fits in zip(rows, right, strict=True)
        ]

    def _misfit(self, cells: int) -> Unfit:
        reason = f"the row has {cells} cells, and the header {self._width}"
        return Unfit(ROW_LENGTH, "", reason, "the row has too few or too many cells")

    def _lines(self, columns: Sequence[Cells], size: int, write: Write) -> list[bytes | Unfit]:
        part = _Slice(columns, size, write)
        primary = _joined(self._primaries, part)
        contact = [list(node.pieces(part)) for node in self._contacts]
        flags = _joined(self._flags, part)
        content = _joined(self._content, part)
        start, end = self._open, self._close
        lines: list[bytes | Unfit] = [
            b"%b%b%b" % (start, members[1:], end)
            for members in map(b"".join, zip(primary, *contact, flags, content, strict=True))
        ]
        if not all(content):
            for i in [i for i, piece in enumerate(content) if not piece]:
                given = sum(bool(column[i]) for column in contact)
                alone = 0 if primary[i] else 1
                if not (self._says and given > alone):
                    part.unfit.setdefault(i, _NOTHING)
        for i, why in part.unfit.items():
            who = b"".join((primary[i], *(column[i] for column in contact)))
            known = who and self.plan.kind == "attributes"
            lines[i] = replace(why, who=b"{%b}" % who[1:]) if known else why
        return lines

    def _field(self, column: Column) -> Field:
        path, kind = column.path, self.plan.kind
        moment = kind != "attributes" and path == ("time",)
        spelling = spelling_of(column.type, self._zone, moment=moment)
        null = self.plan.null_text
        field = Field(column.name, field_of(path), column.type, _prefix(path), spelling, null)
        if kind != "attributes" or path[0] in PRIMARIES | FLAGS[kind] or path == (PAYLOAD,):
            # There is nothing to unset.
            field.unset = b""
        field.takes_objects = path == (PAYLOAD,)
        field.drops = column.on_bad_field == "drop"
        return field


def _widths(rows: Sequence[Cells]) -> Sequence[int]:
    return [rows.width] * len(rows) if isinstance(rows, Grid) else list(map(len, rows))


def _columns_of(rows: Sequence[Cells]) -> Sequence[Cells]:
    return rows.columns if isinstance(rows, Grid) else list(zip(*rows, strict=True))


def _write_texts(field: Field, cells: Cells, unfit: dict[int, Unfit]) -> list[bytes]:
    return field.fragments(cells, unfit)


def _prefix(path: Path) -> bytes:
    return b"," + dumps(path[-1]) + b":"


def _put(root: _Group, path: Path, node: _Node) -> None:
    """Put a node at its path; the plan has seen to it that nothing is in the way."""
    group = root
    for step in path[:-1]:
        inner = group.members.setdefault(step, _Group(step))
        assert isinstance(inner, _Group)
        group = inner
    group.members[path[-1]] = node


def _some(root: _Group, names: Iterable[str]) -> list[_Node]:
    return [root.members[name] for name in names if name in root.members]
