"""What is shown while a run goes on."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ingest.cli.progress import Look, Notices, Shown, Watch, flowed, line_of, picture
from ingest.inflight import Fixed
from ingest.outcomes import Outcome, Unavailable
from ingest.pipeline import DriverSettings
from ingest.profiles import Caps, CapsLadder
from ingest.records import Batch
from ingest.sources.base import Block
from tests.driving import OK, Driven, Setup, attributes, drive

NOON: Final = 1_790_000_000.0
"""The time of day at which the runs of these tests begin."""

ONE_EACH: Final = Caps((1, 1, 1), 1, 1_000_000)
LINES: Final = [attributes(f"u{n:04}", 1_000 + n) for n in range(1_000)]
SIZE: Final = len(b"\n".join(LINES)) + 1


def test_a_notice_is_shown_as_it_is() -> None:
    """What a destination says may look like markup, and is printed all the same."""
    out = io.StringIO()
    Notices(Console(file=out, width=20)).notice(r"x \[/b] [red]y[/] and what is longer than that")
    assert out.getvalue() == "! x \\[/b] [red]y[/] and what is longer than that\n"


async def blocks() -> AsyncIterator[Block]:
    """Give the lines in blocks of twenty."""
    size = len(LINES[0]) + 1
    pieces = (b"\n".join(LINES[at : at + 20]) + b"\n" for at in range(0, len(LINES), 20))
    for number, data in enumerate(pieces):
        yield Block(0, data, 1 + 20 * number, (20 * number + 20) * size)


def looks(
    setup: Setup, total: int | None = SIZE, begin: Callable[[Driven], None] = lambda _: None
) -> tuple[list[tuple[float, Look]], float]:
    """Run 1,000 lines, and look every second; return (time, look), and how long it took."""
    seen: list[tuple[float, Look]] = []

    async def meanwhile(driven: Driven) -> None:
        clock = asyncio.get_running_loop().time
        since = clock()
        begin(driven)
        watch = Watch(driven.pipeline, total, clock=clock, wall=lambda: NOON + clock() - since)
        while True:
            await asyncio.sleep(1.0)
            seen.append((clock() - since, watch.look()))

    driven = drive(blocks, setup, meanwhile=meanwhile)
    return seen, driven.seconds


def setup(letters: Path, **changes: object) -> Setup:
    """One record in each request, thirty in three seconds and 250 in an hour."""
    usual = dict(
        letters=letters / "letters",
        rate="250/1h,30/3s",
        ladder=CapsLadder((ONE_EACH,), confirmed=1),
        in_flight=Fixed(8),
        look_every=1.0,
    )
    return Setup(**usual | changes)  # type: ignore[arg-type]  # names and values are its own


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[float, Look]], float]:
    """The looks at a run that uses up an hour's budget three times, and how long it took."""
    return looks(setup(tmp_path_factory.mktemp("hours")))


def test_the_time_left_is_that_of_the_windows(
    hours: tuple[list[tuple[float, Look]], float],
) -> None:
    """Waiting for the next hour is part of it: within a tenth of what it then takes, throughout."""
    seen, took = hours
    assert took > 3 * 3600
    for share in (0.1, 0.5, 0.9):
        at, look = next((at, look) for at, look in seen if (look.share or 0) >= share)
        assert look.left == pytest.approx(took - at, rel=0.1)


def test_a_long_wait_is_told_with_its_end(hours: tuple[list[tuple[float, Look]], float]) -> None:
    """What is waited for, until what time of day, and how long that is."""
    _, look = next((at, look) for at, look in hours[0] if at > 600)
    said = line_of(look)
    assert said.startswith("Progress: 25%, about ")
    assert "250 records settled" in said
    assert "waits for the rate limit of 250/1h, until " in said
    assert ", in 50m" in said


def test_a_stream_has_counts_alone(tmp_path: Path) -> None:
    """Without a size there is neither a share nor a time."""
    seen, _ = looks(setup(tmp_path, rate="100/1s"), total=None)
    _, look = seen[4]
    assert look.share is None
    assert look.left is None
    assert look.parts[0].endswith("records settled")
    assert not any("%" in part or "left" in part for part in look.parts)


def test_an_outage_has_an_end_and_no_estimate(tmp_path: Path) -> None:
    """Since when it is down, and when it is given up; how long the rest takes nobody knows."""

    def down(batch: Batch, now: float) -> Outcome:
        return OK if now < 10 else Unavailable(503, "503 Service Unavailable")

    settings = DriverSettings(give_up_after=300.0)
    seen, _ = looks(setup(tmp_path, rate="20/1s", script=down, settings=settings))
    _, look = next((at, look) for at, look in seen if at > 60)
    assert look.left is None
    assert look.share is not None
    said = line_of(look)
    assert "the destination is down since " in said
    assert "given up at " in said
    assert ", in 4m" in said


def test_what_was_settled_before_is_done_and_no_pace(tmp_path: Path) -> None:
    """A run that goes on begins with a share, with the bytes read, and with a rate of its own."""

    def begin(driven: Driven) -> None:
        driven.pipeline.balance.read("attributes", 9_000)
        driven.pipeline.balance.settle("attributes", "delivered", 9_000)
        driven.pipeline.begin_at({1: 9_000}, {1: 9 * SIZE})

    seen, took = looks(setup(tmp_path, rate="20/1s"), total=10 * SIZE, begin=begin)
    at, look = seen[4]
    assert look.share is not None
    assert 0.9 < look.share < 0.92
    assert look.left == pytest.approx(took - at, rel=0.1)
    rates = [part for part in look.parts if part.endswith("records/s")]
    assert int(rates[0].split()[0]) <= 25


@given(st.lists(st.text("abc ,", min_size=1).filter(str.strip), min_size=1), st.integers(5, 80))
def test_no_word_is_left_out(parts: list[str], width: int) -> None:
    """However narrow the terminal is; and no line is wider, but for a word that is."""
    lines = flowed(parts, width)
    told = " ".join(lines).replace("·", " ").split()
    assert told == " ".join(parts).split()
    assert all(len(line) <= width or " " not in line for line in lines)


@pytest.mark.parametrize("width", [12, 24, 60, 200])
def test_a_picture_fits_its_terminal(width: int) -> None:
    """The bar gives way first; of the words none is cut."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    look = Look(0.5, 60.0, ("50%", "about 1m left", "1,204 records settled", "3 x 429"))
    console.print(picture(look, console, 3))
    said = out.getvalue().split()
    assert [word for word in said if word.isalnum()] == [
        *("about", "1m", "left", "records", "settled", "3", "x", "429")
    ]
    assert max(map(len, out.getvalue().splitlines())) <= max(width, len("  settled"))


@pytest.mark.parametrize(("style", "lines"), [("plain", 3), ("none", 0)])
def test_a_line_comes_every_ten_seconds(tmp_path: Path, style: str, lines: int) -> None:
    """The first one after ten; where none are wanted, there are none."""
    out = io.StringIO()

    async def meanwhile(driven: Driven) -> None:
        console = Console(file=out, width=400)
        await Shown(driven.pipeline, console, style=style, total=SIZE).run()

    drive(LINES, setup(tmp_path, rate="30/1s"), meanwhile=meanwhile)
    said = out.getvalue().splitlines()
    assert len(said) == lines
    assert all(line.startswith("Progress: ") for line in said)


def test_a_bar_is_drawn_and_gone_at_the_end(tmp_path: Path) -> None:
    """On a terminal; what it said is not left behind in lines of a log."""
    out = io.StringIO()

    async def meanwhile(driven: Driven) -> None:
        console = Console(file=out, width=60, force_terminal=True)
        await Shown(driven.pipeline, console, style="bar", total=SIZE).run()

    drive(LINES, setup(tmp_path, rate="30/1s"), meanwhile=meanwhile)
    assert "records/s" in out.getvalue()
    assert "Progress:" not in out.getvalue()
