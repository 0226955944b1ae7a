"""The first pass over a table: what its columns hold, decided over the whole file.

Decides the type of each column that nothing is said of: what every cell of it is, or text. It reads
no file and keeps no cell but three samples of a column, so any number of rows costs the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ingest.columns.cells import GUESSES
from ingest.columns.grid import Grid
from ingest.columns.mapping import Rules, Told, kind_of, parsed_rules, type_of
from ingest.columns.names import called
from ingest.columns.plan import MOST_SAMPLES, UNDECIDED, Column, Plan, planned
from ingest.columns.times import count_zoneless
from ingest.errors import ConfigError

_NOUNS: Final = {
    "number": "a number",
    "boolean": "true or false",
    "json": "a JSON array or object",
    "date": "a date or a time",
}

_NO_KIND: Final = (
    "a table does not say what its rows are: name it with --kind attributes, event or purchase, "
    "or with kind = of a mapping (--map)"
)


class Options(msgspec.Struct, frozen=True):
    """What a person says of a table. What is said here goes before what the mapping says.

    `types` is by the names of the header. `null_text` "" disables the text that unsets. Without
    `guess` (an input that can be read once only) a column is text unless told. `typed`: rows hold
    values with types of their own, and are for `Encoder.encode_values`. With `elsewhere` columns
    that are not in the table are meant for another one. With `samples` rows are looked at for the
    sake of samples, if for nothing else.
    """

    kind: str | None = None
    types: Mapping[str, str] = {}
    timezone: str | None = None
    null_text: str | None = None
    mapping: Mapping[str, Any] = {}
    guess: bool = True
    samples: bool = False
    typed: bool = False
    elsewhere: bool = False


class Survey:
    """Looks at every row once, and then says how rows become objects.

    Raises `ConfigError` and `InputError` for a header or options that cannot be, at once.
    """

    def __init__(self, header: Sequence[str], options: Options) -> None:
        rules = _ruled(options)
        if rules.kind is None:
            raise ConfigError(_NO_KIND)
        self._base: Final = planned(tuple(header), rules, rules.kind)
        self._null = self._base.null_text
        self.rows = 0
        """Rows seen so far; those of a wrong length count, and decide nothing."""
        guess = options.guess and not options.typed
        self._watches: Final = [
            _Watch(i, column, self._base.kind, guess and column.why == UNDECIDED)
            for i, column in enumerate(self._base.columns)
            if column.path
        ]
        # A saved plan was made by looking: the times without a zone were counted, and shown, then.
        self.needed: Final = options.samples or any(
            watch.guesses or (watch.dated and not rules.saved) for watch in self._watches
        )
        """Whether rows have to be seen: a type is open, or times without a zone to be counted."""

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Look at some rows: lists of cells, as they came, in order. Any number of times."""
        first = self.rows + 1
        self.rows += len(rows)
        width = len(self._base.columns)
        numbers: Sequence[int] = range(first, first + len(rows))
        if isinstance(rows, Grid) and len(rows.columns) == width:
            blanks = not rows.surely_lacks("", self._null)
            self._see(rows.columns, numbers, blanks=blanks)
            return
        if set(map(len, rows)) - {width}:
            numbers = [n for n, row in zip(numbers, rows, strict=True) if len(row) == width]
            rows = [row for row in rows if len(row) == width]
        if rows:
            self._see(list(zip(*rows, strict=True)), numbers, blanks=True)

    def _see(self, columns: Sequence[Sequence[str]], rows: Sequence[int], *, blanks: bool) -> None:
        for watch in self._watches:
            watch.see(columns[watch.index], rows, self._null, blanks=blanks)

    def plan(self) -> Plan:
        """Return what is decided, by all rows so far."""
        columns = list(self._base.columns)
        for watch in self._watches:
            columns[watch.index] = watch.decided()
        return msgspec.structs.replace(self._base, columns=tuple(columns))


def _ruled(options: Options) -> Rules:
    """Return one set of rules of a mapping and of what goes before it."""
    rules = parsed_rules(options.mapping)
    columns = dict(rules.columns)
    for name, given in options.types.items():
        was = columns.get(name, Told())
        if was.drop:
            raise ConfigError(
                f"--types gives the column {called(name)} a type: the mapping drops it"
            )
        kind = type_of(given, f"the type of {called(name)} in --types")
        columns[name] = msgspec.structs.replace(was, type=kind)
    by_types = frozenset(name for name in options.types if name not in rules.columns)
    return msgspec.structs.replace(
        rules,
        kind=rules.kind if options.kind is None else kind_of(options.kind, "--kind"),
        timezone=rules.timezone if options.timezone is None else options.timezone,
        null_text=rules.null_text if options.null_text is None else options.null_text,
        typed=options.typed,
        columns=columns,
        by_types=by_types,
        elsewhere=options.elsewhere,
    )


class _Watch:
    """What is known of one column so far."""

    def __init__(self, index: int, column: Column, kind: str, guess: bool) -> None:
        self.index = index
        self._column = column
        self.guesses = guess
        self.dated = column.type == "date"
        self._open = list(GUESSES) if guess else []
        self._moments = kind != "attributes" and column.path == ("time",)
        self._samples: list[str] = []
        self._cells = 0
        self._zoneless = 0
        self._broken: tuple[str, int] | None = None

    def see(self, cells: Sequence[str], rows: Sequence[int], null: str, *, blanks: bool) -> None:
        """Look at the column's cells in some rows, whose numbers are `rows`.

        `blanks` false says that surely none of them is empty, or the text that unsets.
        """
        blank = 0
        if blanks:
            blank = cells.count("") + (cells.count(null) if null else 0)
        self._cells += len(cells) - blank
        dated = "date" in self._open or self._column.type == "date"
        if not (self._open or dated or len(self._samples) < MOST_SAMPLES):
            return
        kept = [c for c in cells if c and c != null] if blank else cells
        if not kept:
            return
        if len(self._samples) < MOST_SAMPLES:
            new = [c for c in dict.fromkeys(kept) if c not in self._samples]
            self._samples += new[: MOST_SAMPLES - len(self._samples)]
        if self._open:
            self._narrow(kept, cells, rows, null)
        if self._open == ["date"] or self._column.type == "date":
            self._zoneless += count_zoneless(kept, moments=self._moments)

    def _narrow(
        self, kept: Sequence[str], cells: Sequence[str], rows: Sequence[int], null: str
    ) -> None:
        # The first cell alone tells most types off, at the price of one cell.
        if len(self._open) > 1:
            self._open = [name for name in self._open if GUESSES[name](kept[:1])]
        for name in self._open:
            if not GUESSES[name](kept):
                test = GUESSES[name]
                self._broken = next(
                    (name, row)
                    for cell, row in zip(cells, rows, strict=True)
                    if cell and cell != null and not test([cell])
                )
                self._open, self._zoneless = [], 0

    def decided(self) -> Column:
        """Return the column, with its type and the reason of it."""
        kind, why = self._column.type, self._column.why
        if self.guesses:
            kind = self._open[0] if self._open and self._cells else "string"
            if not self._cells:
                why = "no cell has a value"
            elif self._open:
                why = f"every cell is {_NOUNS[kind]}"
            elif self._broken is not None:
                name, row = self._broken
                why = f"the cell of row {row} is not {_NOUNS[name]}, as all before it"
            else:
                why = "text"
        return msgspec.structs.replace(
            self._column,
            type=kind,
            why=why,
            samples=tuple(self._samples),
            cells=self._cells,
            zoneless=self._zoneless,
        )
