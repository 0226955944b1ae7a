"""Learning a limit that nobody told: few 429s on the way, most of it used in the end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.learning import GRANULES, SLOWEST, Learner
from ingest.limits import Budget, parse_rate
from tests.far_end import Destination, Dialect, Link, Result, simulate

DIALECTS: list[Dialect] = ["classic", "dated", "mau", "silent"]
LINKS = [Link(0.02, 0.004), Link(0.1, 0.02)]


def run(
    amount: int,
    period: float,
    dialect: Dialect,
    link: Link,
    *,
    phase: float = 0.0,
    requests: int | None = None,
    seconds: float = float("inf"),
) -> Result:
    """Run 800/s of work against a destination that takes less; `phase` is a share of its window."""
    return simulate(
        Budget(parse_rate("800/1s")),
        Destination(amount, period, dialect).answer,
        link,
        start=(1000 + phase) * period,
        requests=requests,
        seconds=seconds,
        seed=int(phase * 100),
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("link", LINKS, ids=str)
def test_a_short_run_meets_few_429s(dialect: Dialect, link: Link) -> None:
    """Under 10 % of a run of 300 requests, wherever in the destination's second it starts."""
    for tenth in range(10):
        result = run(120, 1.0, dialect, link, phase=tenth / 10, requests=300)
        assert result.share_throttled < 0.10, tenth


@pytest.mark.simulation
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("link", LINKS, ids=str)
@pytest.mark.parametrize(("amount", "period"), [(120, 1.0), (300, 3.0), (3000, 60.0)])
def test_a_long_run_meets_hardly_any(
    amount: int, period: float, dialect: Dialect, link: Link
) -> None:
    """Under 3 % of 5,000 requests, begun in the middle of a window."""
    result = run(amount, period, dialect, link, phase=0.55, requests=5000)
    assert result.share_throttled < 0.03


@pytest.mark.simulation
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("link", LINKS, ids=str)
@pytest.mark.parametrize(
    ("amount", "period", "seconds"), [(120, 1.0, 100.0), (300, 3.0, 120.0), (3000, 60.0, 300.0)]
)
def test_most_of_an_unknown_limit_is_used(
    amount: int, period: float, seconds: float, dialect: Dialect, link: Link
) -> None:
    """At least 75 % of the true rate in the long run, first discovery included."""
    result = run(amount, period, dialect, link, phase=0.3, seconds=seconds)
    assert result.accepted >= 0.75 * amount / period * seconds


@pytest.mark.simulation
def test_a_window_that_others_used_up_is_forgotten() -> None:
    """A first window with hardly anything left does not slow down what follows it."""
    destination = Destination(3000, 3.0, "mau")
    for _ in range(2980):
        destination.answer(3001.4)
    budget = Budget(parse_rate("1000/1s"))
    result = simulate(budget, destination.answer, Link(0.05, 0.01), start=3001.5, seconds=60)
    assert result.accepted >= 0.75 * 1000 * 58
    assert result.share_throttled < 0.03


# --- step by step -------------------------------------------------------------------------------


def accept(learner: Learner, start: float, rate: float, seconds: float) -> float:
    """Let requests be accepted evenly; return the time after the last."""
    for step in range(round(rate * seconds)):
        learner.accepted(start + step / rate, start + step / rate)
    return start + seconds


def test_the_unknown_is_approached_not_rushed() -> None:
    """A few until one is accepted, some more until hundreds are; then in flight grows with them."""
    learner = Learner()
    assert learner.in_flight() == 8
    accept(learner, 0.0, 300, 1.0)
    assert learner.in_flight() == 16
    accept(learner, 1.0, 300, 1.0)
    assert learner.in_flight() == 16 + 300 // 3


def test_a_limit_that_is_known_is_not_approached_until_a_429() -> None:
    """All that the rate needs may fly at once; what a 429 showed is approached like any other."""
    learner = Learner()
    assert learner.in_flight(known=True) == float("inf")
    now = accept(learner, 0.0, 100, 10.0)
    learner.throttled(now, now + 1, now + 1.1, 60)
    assert learner.in_flight(known=True) == 1
    learner.accepted(now + 1.2, now + 1.15)
    assert learner.in_flight(known=True) == 30


def test_what_was_accepted_becomes_the_rate() -> None:
    """A 429 after 10 s of 100/s, with 1 s to wait, gives 1,000 requests per 11 s."""
    learner = Learner()
    now = accept(learner, 0.0, 100, 10.0)
    learner.throttled(now, now + 1, now + 1.1, 60)
    assert learner.rate == pytest.approx(1000 / 11)
    assert learner.in_flight() == 1, "a single request asks whether it goes on"
    learner.accepted(now + 1.2, now + 1.15)
    assert learner.in_flight() == 30, "half of what was in flight when the limit was met"


def test_idle_time_is_not_a_limit() -> None:
    """An hour at one request a second before a burst does not become the rate."""
    learner = Learner()
    now = accept(learner, 0.0, 1, 3600)
    now = accept(learner, now, 100, 2.0)
    learner.throttled(now, now + 1, now + 1, 10)
    assert learner.rate == pytest.approx(200 / 3, rel=0.05)


def test_a_burst_of_429s_is_one_event() -> None:
    """All that was sent before the restart counts once, also when its answer comes after it."""
    learner = Learner()
    now = accept(learner, 0.0, 100, 10.0)
    learner.throttled(now, now + 1, now + 1, 40, sent=now - 0.1)
    first = learner.rate
    for late in range(1, 20):
        learner.throttled(now + late / 100, now + 1, now + 1, 40 - late, sent=now - 0.1)
    assert learner.rate == first
    learner.accepted(now + 0.2, sent=now - 0.05)
    assert learner.rate is not None
    assert first is not None
    assert first < learner.rate < first * 1.01, "a success that was overtaken counts too"
    accept(learner, now + 1, 90, 1.0)
    known = learner.rate
    learner.throttled(now + 2, now + 3, now + 3, 0, sent=now - 0.01)
    assert learner.rate == known, "a straggler of the event before"


def test_probes_that_fail_lengthen_the_event() -> None:
    """While nothing is accepted after a 429, the measured time grows and the rate falls."""
    learner = Learner()
    now = accept(learner, 0.0, 100, 10.0)
    rates = []
    for wait in (1.0, 2.0, 4.0):
        learner.throttled(now, now + wait, now + wait, 0, sent=now)
        now += wait
        rates.append(learner.rate)
    assert rates == [pytest.approx(1000 / total) for total in (11, 13, 17)]


def test_nothing_accepted_says_nothing_but_slows_a_known_rate() -> None:
    """A first request that meets a 429 sets no rate; a known rate never falls below the slowest."""
    learner = Learner()
    learner.throttled(0.0, 1800.0, 1800.0, 0)
    assert learner.rate is None
    now = accept(learner, 1801.0, 100, 2.0)
    learner.throttled(now, now + 3600, now + 3600, 0)
    assert learner.rate == SLOWEST


@pytest.mark.parametrize(("accepted", "hold"), [(99, 1.0), (400, 26.0)])
def test_a_window_that_was_open_before_us_says_nothing(accepted: int, hold: float) -> None:
    """A first 429 after little, or with longer to wait than we have run, sets no rate."""
    learner = Learner()
    now = accept(learner, 0.0, 100, accepted / 100)
    learner.throttled(now, now + hold, now + hold, 0)
    assert learner.rate is None


def test_a_clean_ceiling_is_probed_upwards_in_growing_steps() -> None:
    """By 3 %, 6 %, 12 % ..., only while it is what limits; a 429 takes it back and begins anew."""
    learner = Learner()
    now = accept(learner, 0.0, 100, 10.0)
    learner.throttled(now, now, now, 0)
    assert learner.rate == pytest.approx(100.0)
    now = accept(learner, now, 90, 30.0)
    assert learner.rate == pytest.approx(100.0), "it was not what limited"
    for expected in (103.0, 109.18, 122.28):
        learner.press()
        now = accept(learner, now, 90, 10.0)
        assert learner.rate == pytest.approx(expected, rel=1e-3)
    learner.throttled(now, now + 0.5, now + 0.5, 0, sent=now)
    assert learner.rate is not None
    assert learner.rate < 92
    now = accept(learner, now + 0.5, 80, 1.0)
    known = learner.rate
    learner.press()
    accept(learner, now, 80, 10.0)
    assert learner.rate == pytest.approx(known * 1.03)


def test_a_ceiling_that_met_a_429_comes_down() -> None:
    """Whatever was measured, at least 3 % less than before."""
    learner = Learner()
    now = accept(learner, 0.0, 100, 10.0)
    learner.throttled(now, now, now, 0)
    now = accept(learner, now, 110, 10.0)
    learner.throttled(now, now, now, 0, sent=now)
    assert learner.rate == pytest.approx(97.0)


def test_a_long_time_is_remembered_in_little_memory() -> None:
    """A day of acceptance keeps at most a few hundred granules, and still gives the rate."""
    learner = Learner()
    now = accept(learner, 0.0, 2, 86_400)
    assert len(learner._granules) <= GRANULES
    learner.throttled(now, now + 1, now + 1, 0)
    assert learner.rate == pytest.approx(2.0, rel=0.02)


def test_429s_that_no_ceiling_helps_against_are_not_about_a_limit() -> None:
    """Met at once three times in a row, the ceiling goes, and for a minute nothing is learned."""
    learner = Learner()
    now = accept(learner, 0.0, 100, 10.0)
    learner.throttled(now, now + 1, now + 1, 0, sent=now)
    for _ in range(3):
        assert learner.rate is not None
        now = accept(learner, now + 1, 20, 1.0)
        learner.throttled(now, now + 1, now + 1, 0, sent=now)
    assert learner.rate is None
    now = accept(learner, now + 1, 100, 5.0)
    learner.throttled(now, now + 1, now + 1, 0, sent=now)
    assert learner.rate is None
    now = accept(learner, now + 1, 100, 60.0)
    learner.throttled(now, now + 1, now + 1, 0, sent=now)
    assert learner.rate == pytest.approx(6000 / 61)


# --- requests of many users ---------------------------------------------------------------------


class InHundreds(Budget):
    """A budget in users for requests of a hundred each; its `rate` is still requests a second."""

    def __init__(self) -> None:
        super().__init__(parse_rate("80000/1s"), counts="users")

    @property
    def rate(self) -> float:
        """Return requests of a hundred users a second."""
        return super().rate / 100

    def delay(self, now: float, cost: float = 100, *, in_flight: int = 0) -> float:
        """Ask for a hundred users."""
        return super().delay(now, cost, in_flight=in_flight)

    def spend(self, now: float, cost: float = 100) -> None:
        """Spend a hundred users."""
        super().spend(now, cost)

    def accepted(self, now: float, sent: float | None = None, cost: float = 100) -> None:
        """Take in that a hundred users were accepted."""
        super().accepted(now, sent, cost)


@pytest.mark.simulation
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("link", LINKS, ids=str)
def test_a_limit_is_learned_in_what_requests_cost(dialect: Dialect, link: Link) -> None:
    """12,000 users a second are found by requests of 100 as 120 requests a second are."""
    destination = Destination(120, 1.0, dialect)
    result = simulate(InHundreds(), destination.answer, link, start=1000.3, seconds=60, spacing=())
    assert result.accepted >= 0.75 * 120 * 60
    assert result.share_throttled < 0.03


STEPS = st.lists(
    st.tuples(st.sampled_from(["ok", "ok", "ok", "429", "press"]), st.integers(1, 200)),
    max_size=30,
)


def test_the_slowest_is_a_request_of_the_usual_size() -> None:
    """Requests of 200 users never come less often than those of one: one per five seconds."""
    learner = Learner()
    learner.throttled(0.0, 1800.0, 1800.0, 0)
    for step in range(200):
        learner.accepted(1801.0 + step / 100, None, 200)
    learner.throttled(1803.0, 5403.0, 5403.0, 0)
    assert learner.rate == 200 * SLOWEST


@settings(deadline=None)
@given(STEPS, st.sampled_from([2, 64, 1024]))
def test_a_rate_is_in_the_unit_of_the_costs(steps: list[tuple[str, int]], cost: int) -> None:
    """Whatever happens, requests of n users teach n times the rate of requests of one."""
    now, ones, many = 0.0, Learner(), Learner()
    for step, times in steps:
        for _ in range(times if step == "ok" else 1):
            now += 0.01 if step == "ok" else times / 50
            for learner, each in ((ones, 1), (many, cost)):
                if step == "ok":
                    learner.accepted(now, now, each)
                elif step == "429":
                    learner.throttled(now, now + 0.5, now + 0.5, 3, sent=now)
                else:
                    learner.press()
        assert many.in_flight() == ones.in_flight()
        assert (many.rate is None) == (ones.rate is None)
        assert (many.rate or 0.0) == pytest.approx(cost * (ones.rate or 0.0))
