"""Which rows of a table may break a rule, told by their columns: the others surely break none.

Decides by the very rules (`ingest.validation`), asked once for each different cell, or by a test of
a whole column that is stricter than they are. So doubt is cheap, and no verdict: a doubtful row is
judged as an object, like any line. It judges what `Encoder` writes of flat attributes objects that
are known by an external id, and says of which plans rows are always those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

from ingest.columns.plan import Column, Plan
from ingest.validation.identity import MAX_EXTERNAL_ID
from ingest.validation.problems import MAX_TEXT, Findings
from ingest.validation.profile import PROFILE, check_text
from ingest.validation.rules import check_attributes
from ingest.validation.screen import emails_clean

Cells = Sequence[str]

IDENTIFIER: Final = "external_id"

LONGEST_NAME: Final = MAX_TEXT

_SURELY_SHORT: Final = MAX_EXTERNAL_ID // 4
"""Characters of an id that has not too many bytes: a character has four at most."""

_MAYBE_LATE: Final = re.compile(
    r"^(?:[3-9]\d{3}-|\d\d/|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )", re.ASCII | re.MULTILINE
)
"""What a date of a year that is not kept begins with; many other texts do too."""

_IN_DATES: Final = "-/ "
"""Each text of which `_MAYBE_LATE` finds the beginning has one of these in it."""

_VALUES: Final = {"number": 1, "integer": 1, "boolean": True}
"""Any value of a type: no rule for a field that takes the type minds which one."""


class Judge:
    """Judges the columns of a plan of which `vouches` is true."""

    def __init__(self, plan: Plan) -> None:
        self._null: Final = plan.null_text
        self._identifier: Final = next(
            (i for i, column in enumerate(plan.columns) if column.path == (IDENTIFIER,)), None
        )
        self._texts: Final = [
            (i, _test_of(column.path[0]))
            for i, column in enumerate(plan.columns)
            if column.path and i != self._identifier and column.type not in _VALUES
        ]
        self.vouches: Final = (
            plan.kind == "attributes"
            and not (plan.typed or plan.cdi or plan.constants or plan.templates)
            and self._identifier is not None
            and all(_is_known(column, plan) for column in plan.columns if column.path)
        )
        """Whether anything can be told by columns."""

    def keys(self, columns: Sequence[Cells]) -> Cells:
        """Return whose rows they are; of a doubtful row it may be another one, or nobody."""
        assert self._identifier is not None
        return columns[self._identifier]

    def doubtful(
        self, columns: Sequence[Cells], *, blanks: bool, longest: float = inf
    ) -> list[int]:
        """Return the rows that may break a rule, in order.

        `blanks` false says that surely no cell is empty, or the text that unsets; `longest` bounds
        the characters of each cell.
        """
        null, found = self._null, set[int]()
        ids = self.keys(columns)
        long = longest > _SURELY_SHORT and max(map(len, ids)) > _SURELY_SHORT
        if long or (blanks and ("" in ids or null in ids)):
            found.update(
                row for row, cell in enumerate(ids) if cell in ("", null) or _is_long_id(cell)
            )
        for at, test in self._texts:
            cells = columns[at]
            kept = cells
            if blanks and ("" in cells or null in cells):
                kept = [cell for cell in cells if cell not in ("", null)]
            if bad := set(test(kept, longest)):
                found.update(row for row, cell in enumerate(cells) if cell in bad)
        return sorted(found)


def _is_known(column: Column, plan: Plan) -> bool:
    """Tell whether it is known what rules there are for what the encoder makes of a column."""
    name, kind = column.path[0], column.type
    if len(column.path) > 1 or len(name) > LONGEST_NAME:
        return False
    if name in ("user_alias", "braze_id", "push_token_import") or kind == "json":
        return False
    if kind in _VALUES:
        return _is_clean(name, _VALUES[kind])
    return kind == "string" or (kind == "date" and plan.timezone is None)


def _is_clean(name: str, value: object) -> bool:
    found = Findings()
    check_attributes(found, {name: value})
    return not found.all()


def _is_long_id(cell: str) -> bool:
    return len(cell) > _SURELY_SHORT and len(cell.encode(errors="surrogatepass")) > MAX_EXTERNAL_ID


def _test_of(name: str) -> Callable[[Cells, float], Iterable[str]]:
    """Return what says which cells of a column of texts break a rule; see `Judge.doubtful`."""

    def broken(cells: Cells) -> Iterable[str]:
        return [cell for cell in set(cells) if not _is_clean(name, cell)]

    def surely_good(cells: Cells, longest: float) -> bool:
        if longest > MAX_TEXT and max(map(len, cells)) > MAX_TEXT:
            return False
        if name == "email":
            return emails_clean(cells)
        if name in PROFILE:
            return PROFILE[name] is check_text
        text = "\n".join(cells)
        return not (any(map(text.__contains__, _IN_DATES)) and _MAYBE_LATE.search(text))

    return lambda cells, longest: () if not cells or surely_good(cells, longest) else broken(cells)
