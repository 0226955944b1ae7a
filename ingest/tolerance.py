"""How many bad records a run bears before it halts: a number, or a share of those read.

Decides when it is enough, and what is said then. Bad are records that are invalid (refused here) or
rejected (by the destination): what a mistake in the input or in a mapping makes of all of them.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

import msgspec

from ingest.balance import Balance
from ingest.errors import ConfigError, Halted

BAD: Final = ("invalid", "rejected")
"""Columns of the balance that count."""

SHARE_FROM: Final = 1_000
"""Records from which on a share is looked at before the end: of the first ten, one is 10 %."""

_FORM: Final = re.compile(r"(\d{1,18})(?:(\.\d{1,6})?\s*(%))?")


class TooManyBad(Halted):
    """More records are bad than the run bears."""


class Tolerance(msgspec.Struct, frozen=True):
    """`limit` is a number of records, or with `percent` a share of those read, in percent."""

    text: str
    limit: Fraction
    percent: bool

    def exceeded(self, bad: int, read: int, *, ended: bool) -> bool:
        """Whether it is enough: the number is reached, or the share exceeded.

        `ended` says that nothing more will be read.
        """
        if not self.percent:
            return bad >= self.limit
        return (ended or read >= SHARE_FROM) and bad * 100 > self.limit * read

    def verdict(
        self, balance: Balance, letters: str, *, ended: bool, resumable: bool
    ) -> str | None:
        """Return why a run halts, as a sentence; None while it goes on.

        `letters` is where its dead letters are, `resumable` whether the same command goes on.
        """
        bad, read = sum(map(balance.count, BAD)), balance.count("read")
        if not self.exceeded(bad, read, ended=ended):
            return None
        worst = next((one.code for one in balance.reasons() if one.column in BAD), "unknown")
        again = "goes on" if resumable else "begins anew"
        return (
            f"{bad:,} of {read:,} records read {'is' if bad == 1 else 'are'} invalid or rejected, "
            f"and --max-bad is {self.text}. The most frequent reason is '{worst}'. Look into the "
            f"dead letters, {letters}; the same command with a higher --max-bad, or without it, "
            f"{again}"
        )


def parse_tolerance(text: str) -> Tolerance:
    """Read `N` or `P%`. Raises `ConfigError` with a sentence that says what is allowed."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--max-bad {text!r} makes no sense: it is a number, or a share like 2%")
    whole, part, percent = found.groups()
    limit = Fraction(whole + (part or ""))
    if not limit:
        raise ConfigError(
            f"--max-bad {text.strip()} would halt before the first bad record: 1 halts at the first"
        )
    if percent and limit >= 100:
        raise ConfigError(
            f"--max-bad {text.strip()} never halts, for no more than all can be bad: leave it out"
        )
    return Tolerance(text.strip(), limit, percent is not None)
