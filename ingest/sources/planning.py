"""What the columns of tables become, by the package that decides it.

This module only brings sources and `ingest.columns` together: it counts what was left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from ingest.columns import Encoder, Options, Plan, Survey


class TableColumns:
    """`Columns` for sources: what a person says of tables, the same for every header."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._encoders: list[Encoder] = []

    def survey(self, header: Sequence[str], /, *, guess: bool, typed: bool) -> Survey:
        """Return an empty survey. Raises `ConfigError` and `InputError` for what cannot be."""
        guess = guess and self._options.guess
        return Survey(header, msgspec.structs.replace(self._options, guess=guess, typed=typed))

    def encoder(self, plan: Plan, /) -> Encoder:
        """Return an encoder of its own for each input."""
        self._encoders.append(Encoder(plan))
        return self._encoders[-1]

    @property
    def dropped(self) -> Counter[str]:
        """Column -> its cells left out so far (`on_bad_field`), in all inputs."""
        return sum((Counter(encoder.dropped) for encoder in self._encoders), Counter[str]())
