"""The first pass over a table: what its columns hold, decided over the whole file.

Decides the type of each column that nothing is said of: what every cell of it is, or text. It reads
no file and keeps no cell but three samples of a column, so any number of rows costs the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ingest.columns.glance import ANY, Glances, Known
from ingest.columns.grid import Grid
from ingest.columns.mapping import Rules, Told, kind_of, parsed_rules, type_of
from ingest.columns.names import called
from ingest.columns.plan import UNDECIDED, Plan, planned
from ingest.columns.watch import Seen, Watch
from ingest.errors import ConfigError

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


class Findings(msgspec.Struct, frozen=True):
    """What was seen in some rows of a table: how many there were, and of each column."""

    rows: int
    columns: tuple[Seen, ...]


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
            Watch(i, column, self._base.kind, guess and column.why == UNDECIDED)
            for i, column in enumerate(self._base.columns)
            if column.path
        ]
        self._glances: Final = Glances(self._null)
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
        if isinstance(rows, Grid) and rows.width == width:
            self._glance(rows, numbers)
            return
        if set(map(len, rows)) - {width}:
            numbers = [n for n, row in zip(numbers, rows, strict=True) if len(row) == width]
            rows = [row for row in rows if len(row) == width]
        if rows:
            self._see(list(zip(*rows, strict=True)), numbers, blanks=True)

    def _glance(self, rows: Grid, numbers: Sequence[int]) -> None:
        picked = self._glances.look(rows)
        if picked is None:
            self._see(rows.columns, numbers, blanks=not rows.surely_lacks("", self._null))
            known: list[Known | None] = [ANY] * rows.width
            for watch in self._watches:
                known[watch.index] = watch.known
            self._glances.learn(rows, known)
            return
        for watch in self._watches:
            cells = picked.get(watch.index)
            if cells is None:
                watch.pass_over(len(rows))
            else:
                watch.see(cells, numbers, self._null, blanks=True)

    def _see(self, columns: Sequence[Sequence[str]], rows: Sequence[int], *, blanks: bool) -> None:
        for watch in self._watches:
            watch.see(columns[watch.index], rows, self._null, blanks=blanks)

    def findings(self) -> Findings:
        """Return what was seen so far, for a survey of the same header and options to `join`."""
        return Findings(self.rows, tuple(watch.seen() for watch in self._watches))

    def join(self, later: Findings) -> None:
        """Take what another survey saw for seen here, in rows that follow those so far."""
        for watch, seen in zip(self._watches, later.columns, strict=True):
            watch.join(seen, self.rows)
        self.rows += later.rows

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
