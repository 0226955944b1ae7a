"""What the columns of tables become, by the package that decides it.

This module brings sources and `ingest.columns` together: it counts what was left out, and decides
over several tables which column of a mapping is in none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from ingest.columns import AbsentColumns, Encoder, Options, Plan, Survey
from ingest.columns.names import called
from ingest.errors import ConfigError, IngestError


class TableColumns:
    """`Columns` for sources: what a person says of tables, the same for every header."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._encoders: list[Encoder] = []
        self._headers: set[tuple[str, ...]] = set()
        self._absent: list[AbsentColumns] = []
        self._elsewhere = Counter[str]()

    def survey(self, header: Sequence[str], /, *, guess: bool, typed: bool) -> Survey:
        """Return an empty survey. Raises `ConfigError` and `InputError` for what cannot be.

        A column that the mapping names and the table has not may be in another table: `check` when
        all were seen.
        """
        guess = guess and self._options.guess
        options = msgspec.structs.replace(self._options, guess=guess, typed=typed)
        self._headers.add(tuple(map(str.strip, header)))
        try:
            return Survey(header, options)
        except AbsentColumns as absent:
            self._absent.append(absent)
            try:
                return Survey(header, msgspec.structs.replace(options, elsewhere=True))
            except IngestError:
                raise absent from None  # it may be why, as where a name was misspelt

    def check(self, headers: Iterable[Sequence[str]] = ()) -> None:
        """Raise `ConfigError` for a column that the mapping names and no table has.

        `headers` are those of tables that had a plan before, and were not surveyed.
        """
        there = set[str]().union(*self._headers, *headers)
        for error in self._absent:
            for name, where in error.absent:
                if name in there:
                    continue
                if len(self._headers) == 1:
                    raise error
                raise ConfigError(f"{where} names a column {called(name)} that no table has")

    def encoder(self, plan: Plan, /) -> Encoder:
        """Return an encoder of its own for each input."""
        self._encoders.append(Encoder(plan))
        return self._encoders[-1]

    @property
    def dropped(self) -> Counter[str]:
        """Column -> its cells left out so far (`on_bad_field`), in all inputs."""
        return sum((Counter(encoder.dropped) for encoder in self._encoders), self._elsewhere)

    def note_dropped(self, cells: Counter[str]) -> None:
        """Count cells that were left out by encoders of another process."""
        self._elsewhere = self._elsewhere + cells
