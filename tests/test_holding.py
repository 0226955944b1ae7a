"""Holding a rate: nearly all of what is allowed is used, at any latency, and few 429s are met."""

from __future__ import annotations

import bisect
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.limits import Budget, parse_rate
from ingest.serverwords import ServerWord
from tests.far_end import Destination, Link, Result, simulate


def word(
    *,
    throttled: bool = False,
    retry_after: float | None = None,
    limit: int | None = None,
    remaining: int | None = None,
    reset_in: float | None = None,
    over_for: float = 0.0,
) -> ServerWord:
    """Return a server's word that says nothing but what is given."""
    return ServerWord(throttled, retry_after, limit, remaining, reset_in, over_for)


def fullest(times: list[float], period: float) -> int:
    """Return the most sends that any half-open window of `period` seconds holds."""
    return max(bisect.bisect_left(times, at + period) - i for i, at in enumerate(times))


def used_after(result: Result, rate: float, since: float, until: float) -> float:
    """Return the share of `rate` that was sent between two times."""
    sent = bisect.bisect_left(result.sends, until) - bisect.bisect_left(result.sends, since)
    return sent / (until - since) / rate


LINKS = [Link(0.02), Link(0.02, 0.01), Link(0.2), Link(0.2, 0.05), Link(1.0), Link(1.0, 0.2)]


@pytest.mark.simulation
@pytest.mark.parametrize("link", LINKS, ids=str)
@pytest.mark.parametrize(
    ("rate", "vouched", "dialect"),
    [
        ("2400/3s", False, "classic"),
        ("2400/3s", True, "mau"),
        ("2400/3s", True, "silent"),
        ("800/1s", False, "classic"),
    ],
)
def test_what_is_allowed_is_used_after_three_round_trips(
    rate: str, vouched: bool, dialect: str, link: Link
) -> None:
    """99 % at any latency, where the answers tell of the window or somebody vouches; few 429s."""
    (limit,) = parse_rate(rate)
    destination = Destination(limit.amount * 5 // 4, limit.period, dialect)  # type: ignore[arg-type]  # a parameter
    budget = Budget((limit,), vouched=vouched)
    result = simulate(budget, destination.answer, link, start=7.3, seconds=70.0)
    # A window that is used up early is silent at its end, so whole ones are looked at.
    since = 7.3 + 3 * (link.rtt + 2 * link.jitter) + 3.0
    assert used_after(result, budget.rate, since, since + 57.0) >= 0.99
    assert result.share_throttled < 0.01
    assert fullest(result.sends, limit.period) <= limit.amount


@pytest.mark.simulation
@pytest.mark.parametrize("link", LINKS[:4], ids=str)
def test_the_whole_of_a_window_that_is_told_can_be_used(link: Link) -> None:
    """1,000/s of 1,000 in aligned seconds: what strays over an edge is under 1 % of 429s."""
    destination = Destination(1000, 1.0, "classic")
    result = simulate(
        Budget(parse_rate("1000/1s")), destination.answer, link, start=7.3, seconds=40
    )
    assert used_after(result, 1000, 10.0, 40.0) >= 0.96
    assert result.share_throttled < 0.01


@pytest.mark.simulation
@pytest.mark.parametrize("link", [*LINKS, Link(1.4, 0.1)], ids=str)
@pytest.mark.parametrize("start", [7.0, 7.7])
def test_a_window_told_by_the_clock_is_used_at_any_latency(link: Link, start: float) -> None:
    """99 % of 1,000 in aligned seconds, under 1 % of 429s, where windows end before the answers."""
    destination = Destination(1000, 1.0, "classic")
    budget = Budget(parse_rate("1000/1s"), vouched=True)
    result = simulate(
        budget, destination.answer, link, start=start, seconds=24.0, by_the_clock=True
    )
    since = math.ceil(start + 3 * (link.rtt + 2 * link.jitter))
    assert used_after(result, 1000, since, start + 24.0) >= 0.99
    assert result.share_throttled < 0.01
    assert fullest(result.sends, 1.0) <= 1000


MOMENTS = st.integers(0, 5 << 10).map(lambda number: number / 1024)


@given(MOMENTS, MOMENTS)
def test_a_429_holds_unless_its_window_ended_on_its_way(took: float, over_for: float) -> None:
    """A moment before it was sent is that of a wrong clock, and one to come is waited for."""
    budget = Budget(parse_rate("1000/1s"))
    budget.spend(49.0625, 1000)
    said = word(throttled=True, limit=1000, remaining=0, reset_in=0.0, over_for=over_for)
    budget.hear(said, 50.0, 0.0, 0, sent=50.0 - took)
    ended_on_its_way = 50.0 - took < 50.0 - over_for < 50.0
    assert budget.delay(50.25) == (0.0 if ended_on_its_way else 0.75)


@pytest.mark.simulation
@pytest.mark.parametrize("taken", [0.1, 0.5])
@pytest.mark.parametrize("link", [Link(0.05), Link(0.2, 0.02), Link(1.0)], ids=str)
def test_others_who_use_a_window_told_by_the_clock_are_noticed(taken: float, link: Link) -> None:
    """Words of 1 s ago tell too little of what they leave: 429s stay few, not all of it is used."""
    destination = Destination(1000, 1.0, "classic")
    budget, owed, before = Budget(parse_rate("800/1s")), 0.0, 7.3

    def answer(now: float) -> ServerWord:
        nonlocal owed, before
        owed, before = owed + (now - before) * taken * 1000, now
        while owed >= 1:
            destination.answer(now)
            owed -= 1
        return destination.answer(now)

    result = simulate(budget, answer, link, start=7.3, seconds=40, by_the_clock=True)
    assert result.share_throttled < (0.01 if taken < 0.2 else 0.08)
    assert result.accepted / 40 >= 0.7 * min(800, 1000 * (1 - taken))


@pytest.mark.parametrize("skew", [0.1, 0.6])
def test_too_many_429s_of_windows_that_are_over_hold_all_the_same(skew: float) -> None:
    """More than 10 % of a window, and its end is not believed: a clock may be a little wrong."""
    budget = Budget(parse_rate("1000/1s"))
    budget.spend(49.125, 1000)
    said = word(throttled=True, limit=1000, remaining=0, reset_in=0.0, over_for=skew)
    for _ in range(100):
        budget.hear(said, 50.0, 0.0, 0, sent=49.0)
    assert budget.delay(50.25) == 0.0
    assert budget.delay(50.25, in_flight=1000) > 0.0, "somebody else may use it"
    budget.hear(said, 50.0, 0.0, 0, sent=49.0)
    assert budget.delay(50.25) == 0.75


def test_strays_of_one_window_are_not_those_of_the_next() -> None:
    """A few at each edge stay a few, however long it goes on and however late they come."""
    budget = Budget(parse_rate("1000/1s"))
    for second in range(100):
        now = 50.0 + second
        for left in (900, 500, 0):
            said = word(limit=1000, remaining=left, reset_in=0.0, over_for=0.5)
            budget.spend(now, 333)
            budget.hear(said, now, 0.0, 0, sent=now - 1.5)
        for _ in range(5):
            said = word(throttled=True, limit=1000, remaining=0, reset_in=0.0, over_for=0.5)
            budget.hear(said, now, 0.0, 0, sent=now - 1.5)
        assert budget.remaining == 0
        assert budget.delay(now + 0.9) == 0.0


@pytest.mark.parametrize(("windows", "most"), [(1, 10), (2, 20), (5, 50), (50, 50)])
def test_what_did_not_stray_may_stray_later(windows: int, most: int) -> None:
    """1 % of each window on average: that of up to five may come at once, where a sender stood."""
    budget = Budget(parse_rate("1000/1s"))
    for second in range(windows):
        now = 50.0 + second
        budget.spend(now, 1000)
        budget.hear(word(limit=1000, remaining=0, reset_in=0.0, over_for=0.5), now, 0.0, 0)
    said = word(throttled=True, limit=1000, remaining=0, reset_in=0.0, over_for=0.5)
    for _ in range(most):
        budget.hear(said, now, 0.0, 0, sent=now - 1.0)
    assert budget.delay(now + 1.0, in_flight=1000) == 0.0
    for _ in range(2):
        budget.hear(said, now, 0.0, 0, sent=now - 1.0)
    assert budget.delay(now + 1.0, in_flight=1000) > 0.0


def test_of_windows_that_are_over_the_latest_counts() -> None:
    """Answers overtake each other: one of an older window takes nothing back."""
    budget = Budget(parse_rate("1000/1s"))
    for over_for, left, expected in [(0.5, 700, 700), (1.5, 3, 700), (0.4, 600, 600)]:
        budget.hear(word(limit=1000, remaining=left, reset_in=0.0, over_for=over_for), 9.0, 0.0, 0)
        assert budget.remaining == expected
    budget.hear(word(limit=1000, reset_in=0.0, over_for=0.1), 9.9, 0.0, 0)
    assert budget.remaining == 600, "nothing was said"


@pytest.mark.simulation
@pytest.mark.parametrize("taken", [0.1, 0.5])
@pytest.mark.parametrize("link", [Link(0.05), Link(0.2, 0.02)], ids=str)
def test_others_who_use_the_window_are_noticed(taken: float, link: Link) -> None:
    """What they leave is used; how much that is, is known only a round trip late."""
    destination = Destination(1000, 1.0, "classic")
    budget, owed, before = Budget(parse_rate("800/1s")), 0.0, 7.3

    def answer(now: float) -> ServerWord:
        nonlocal owed, before
        owed, before = owed + (now - before) * taken * 1000, now
        while owed >= 1:
            destination.answer(now)
            owed -= 1
        return destination.answer(now)

    result = simulate(budget, answer, link, start=7.3, seconds=40)
    assert result.share_throttled < (0.01 if taken < 0.2 else 0.05)
    assert result.accepted / 40 >= 0.95 * min(800, 1000 * (1 - taken))


def test_a_429_of_a_window_that_is_over_holds_nobody() -> None:
    """It came from before the reset; without a window that is told, it would be a bare 429."""
    budget = Budget(parse_rate("1000/1s"))
    budget.spend(4.45, 1000)
    budget.hear(word(limit=1000, remaining=400, reset_in=0.4), 5.0, 0.0, 0)
    budget.hear(word(throttled=True, limit=1000, remaining=0, reset_in=0.0), 5.5, 0.0, 0)
    assert budget.delay(5.5) == 0.0
    bare = Budget(parse_rate("1000/1s"))
    bare.hear(word(throttled=True), 5.5, 0.0, 0)
    assert bare.delay(5.5) == 1.0


@pytest.mark.parametrize(
    ("told", "used", "link"),
    [
        ("250000/1h", 240_000, Link(0.2, 0.02)),
        ("20000/1m", 15_000, Link(1.0, 0.1)),
        ("1000/1m", 500, Link(0.5, 0.1)),
    ],
)
def test_what_others_used_before_is_left_to_them(told: str, used: int, link: Link) -> None:
    """A window that an earlier run, or anybody else, used a part of: its count is kept at once."""
    (limit,) = parse_rate(told)
    destination = Destination(limit.amount, limit.period, "classic")
    for _ in range(used):
        destination.answer(5.0)
    result = simulate(Budget((limit,)), destination.answer, link, start=5.0, seconds=40)
    assert result.throttled == 0
    assert result.accepted == limit.amount - used


@pytest.mark.parametrize("good", [0.0, 0.5])
def test_a_429_that_names_no_time_is_heeded(good: float) -> None:
    """Its reset may be told as 0 by clocks that differ: no window of ours was over by that."""

    def answer(now: float) -> ServerWord:
        throttled = now > 27
        return word(
            throttled=throttled,
            limit=1000,
            remaining=0 if throttled else 500,
            reset_in=0.0 if throttled else good,
        )

    budget = Budget(parse_rate("800/1s"))
    result = simulate(budget, answer, Link(0.1, 0.02), start=7.3, seconds=60)
    assert result.share_throttled < 0.05
    assert budget.waits_for(67.3) == "the destination, which asked for 30s"


def test_too_many_strays_show_that_a_window_is_shared() -> None:
    """A few 429s at the edge are nobody's; more than 1 % of a window, and its count is kept."""
    budget = Budget(parse_rate("100/1s"))
    budget.spend(4.5, 95)
    budget.hear(word(limit=100, remaining=5, reset_in=1.0), 5.0, 0.0, 0)
    assert budget.delay(5.0, in_flight=7) == 0.0, "all of it can be ours"
    for _ in range(2):
        budget.hear(word(throttled=True, limit=100, remaining=5, reset_in=1.0), 5.0, 0.0, 0)
    assert budget.delay(5.0, in_flight=7) > 0.0
    budget.hear(word(limit=100, remaining=5, reset_in=1.0), 7.5, 0.0, 0)
    assert budget.delay(7.5, in_flight=7) == pytest.approx(1.0), "for a minute"


def test_answers_shorten_no_wait_for_our_own_limits() -> None:
    """Whoever waits for a window need not ask again after each answer; after a hold he must."""
    budget = Budget(parse_rate("5/1s"))
    for _ in range(5):
        budget.spend(0.0)
    assert budget.delay(0.5) == 0.5
    assert not budget.answers_matter
    budget.hear(word(retry_after=9.0), 0.6, 0.0, 0)
    assert budget.delay(0.6) == 9.0
    assert budget.answers_matter
