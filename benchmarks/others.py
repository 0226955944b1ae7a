"""What people use instead: how many times as fast an import of the same table is.

Every start-up is apart: the others time themselves once their libraries are loaded, and the least
that an import of one row takes is taken off ours. They get a part of the rows: they are as slow for
few as for many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.commands import imported, module, null_account, ran, start_up
from benchmarks.corpora import written
from benchmarks.destinations import null_server, serving
from benchmarks.sampling import Plan, Ratio, Round, Sample, Setting

START = "import of one row"
PART = 10
NEAR = 0.04
"""Seconds until an answer of a destination that is near: loopback is nobody's network."""

BY_HAND = "loop by hand"
OTHERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (BY_HAND, "by_hand", ()),
    ("braze-client", "by_braze_client", ()),
    ("segment-analytics", "by_segment", ()),
)
CAREFUL: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("loop with sessions", "by_hand", ("--session",)),
    ("braze-client, 20 threads", "by_braze_client", ("--threads", "20")),
)
"""What somebody does who has read about connections and threads."""


@contextmanager
def plan(setting: Setting) -> Iterator[Plan]:
    """Import a table of nine columns, by us and by the others, to one that answers at once."""
    with serving(setting.null) as null:
        others = OTHERS if setting.quick else OTHERS + CAREFUL
        yield _against(setting, null.url, others, setting.count // PART)


@contextmanager
def near(setting: Setting) -> Iterator[Plan]:
    """Do the same to a destination that answers after 40 ms."""
    with ExitStack() as stack:
        null = stack.enter_context(null_server(NEAR))
        yield _against(setting, null.url, OTHERS + CAREFUL, setting.count // PART)


def _against(
    setting: Setting, url: str, others: tuple[tuple[str, str, tuple[str, ...]], ...], few: int
) -> Plan:
    table = written("typical", setting.count, setting.folder, "csv")
    part = written("typical", few, setting.folder, "csv")
    ours = "import of a table"
    contenders: dict[str, Callable[[], Sample]] = {
        START: partial(start_up, setting.folder, url, "csv"),
        ours: partial(imported, table, setting.count, url),
    }
    if not setting.quick:
        kept = ("--map", str(_saved_map(part, url)))
        contenders[f"{ours} by a map"] = partial(imported, table, setting.count, url, *kept)
    contenders |= {
        name: partial(module, program, str(part), url, *options)
        for name, program, options in others
    }
    ratios = [
        Ratio(
            f"{ours}, times the {name}",
            _times(ours, name),
            must=10 if name == BY_HAND else None,
            aim=15 if name == BY_HAND else None,
        )
        for name, _, _ in others
    ]
    if not setting.quick:
        mapped = _times(f"{ours} by a map", BY_HAND)
        ratios.append(Ratio(f"{ours} by a map, times the {BY_HAND}", mapped))
    return Plan(contenders, tuple(ratios))


def _times(ours: str, theirs: str) -> Callable[[Round], float]:
    return lambda turn: turn[ours].apart(turn[START]).rate / turn[theirs].rate


def _saved_map(path: Path, url: str) -> Path:
    """Decide the columns of a table once, as `ingest plan --save` keeps them; return the map."""
    kept = path.with_suffix(".toml")
    if not kept.exists():
        command = [sys.executable, "-m", "ingest", "plan", str(path), "--kind", "attributes"]
        ran([*command, "--to", "braze", "--save", str(kept)], null_account(url))
    return kept
