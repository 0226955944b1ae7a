"""Laws of the breaker and of the halt: one probe at a time, no verdict on data, law 7's numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.breaker import (
    FAILURES_TO_OPEN,
    FIRST_PROBE,
    LONG_ASK,
    PROBE_CAP,
    REFUSALS_TO_HALT,
    Breaker,
    Refusals,
)
from tests.examples import examples

NO_SPREAD = math.nextafter(1.0, 0.0)  # the dice that give the whole wait
jitters = st.floats(0, 1, exclude_max=True)


def opened(now: float = 0.0, jitter: float = NO_SPREAD) -> Breaker:
    """Return a breaker that opened at `now`."""
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(now, jitter)
    assert breaker.open
    return breaker


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "fail", "fail", "fail", "alive", "succeed"]),
            st.integers(0, 9),
            st.floats(0, 5),
            jitters,
        ),
        max_size=120,
    )
)
def test_one_probe_at_a_time(done: list[tuple[str, int, float, float]]) -> None:
    """In an outage one request is let go and no other until it is back; success closes."""
    breaker, now, ids = Breaker(), 0.0, iter(range(1_000))
    flying: list[int] = []
    probe: int | None = None
    in_a_row, first_failed = 0, 0.0
    down_for: float | None = None  # of an outage that was interrupted by an answer, and not ended
    for what, which, passed, jitter in done:
        now += passed
        if what == "send":
            if breaker.delay(now) > 0:
                continue
            flying.append(next(ids))
            if breaker.open:
                assert probe not in flying
                probe = flying[-1]
            breaker.sent(flying[-1])
        elif flying:
            answered = flying.pop(which % len(flying))
            breaker.answered(answered)
            if what == "fail":
                in_a_row += 1
                first_failed = now if in_a_row == 1 else first_failed
                was_open = breaker.open
                begins = breaker.failed(now, jitter)
                assert begins == (breaker.open and not was_open and down_for is None)
                if not was_open and breaker.open:
                    assert breaker.down_since == pytest.approx(first_failed - (down_for or 0.0))
            else:
                in_a_row = 0
                if what == "alive":
                    if breaker.open:
                        down_for = now - breaker.down_since
                    breaker.alive(now)
                else:
                    breaker.succeeded(now)
                    down_for = None
                    assert breaker.last_success == now
        needed = FAILURES_TO_OPEN if down_for is None else 1
        assert breaker.open == (in_a_row >= needed)
        delay = breaker.delay(now)
        if not breaker.open:
            assert delay == 0.0
        elif probe in flying:
            assert math.isinf(delay)
        else:
            assert 0.0 <= delay <= PROBE_CAP


def test_failures_in_a_row_open_it() -> None:
    """Five without a success; one success between starts the count again."""
    breaker = Breaker()
    said = [breaker.failed(1.0, 0.5) for _ in range(FAILURES_TO_OPEN - 1)]
    breaker.succeeded(1.0)
    said += [breaker.failed(2.0, 0.5) for _ in range(FAILURES_TO_OPEN)]
    assert said == [False] * (2 * FAILURES_TO_OPEN - 2) + [True]
    assert breaker.down_since == 2.0


def test_an_answer_interrupts_an_outage_and_a_success_ends_it() -> None:
    """With a 429 now and then among failures the outage goes on, and its time adds up."""
    breaker = opened(0.0)
    for minute in range(1, 11):
        breaker.alive(60.0 * minute)
        assert not breaker.open
        assert not breaker.failed(60.0 * minute + 30, 0.5)  # the same outage: nothing to announce
        assert breaker.open
    # Ten times a minute of failing, the first, and half of the nine that followed.
    assert 630.0 - breaker.down_since == pytest.approx(60.0 + 9 * 30.0)
    breaker.succeeded(700.0)
    assert not breaker.failed(701.0, 0.5)
    assert not breaker.open


def test_probes_that_fail_double_the_wait() -> None:
    """Half a second, one, two, up to a quarter of a minute."""
    breaker, now, waits = opened(), 0.0, []
    for probe in range(7):
        waits.append(breaker.delay(now))
        now += waits[-1]
        assert breaker.delay(now) == 0.0
        breaker.sent(probe)
        assert math.isinf(breaker.delay(now))
        breaker.answered(probe)
        breaker.failed(now, NO_SPREAD)
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 15, 15])


def test_what_was_in_flight_when_it_opened_does_not_delay_the_first_probe() -> None:
    """Hundreds of requests fail with the destination: they say nothing that is not known yet."""
    breaker = opened()
    for straggler in range(500):
        breaker.answered(straggler)
        assert not breaker.failed(0.0, NO_SPREAD)
    assert breaker.delay(0.0) == pytest.approx(FIRST_PROBE)


def test_a_wait_that_was_asked_for_is_the_floor_until_it_is_back() -> None:
    """Retry-After holds the probe, from a straggler too, and is over with the outage."""
    breaker = opened()
    breaker.answered(3)
    breaker.failed(0.0, 0.0, asked_delay=600.0)
    assert breaker.delay(0.0) == 600.0
    breaker.succeeded(1.0)
    assert breaker.delay(1.0) == 0.0
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(2.0, NO_SPREAD)
    assert breaker.delay(2.0) == pytest.approx(FIRST_PROBE)


def test_a_probe_of_an_outage_that_is_over_bars_nobody() -> None:
    """A straggler's success closes it while the probe is out."""
    breaker = opened()
    breaker.sent(7)
    breaker.answered(3)
    breaker.succeeded(1.0)
    assert breaker.delay(1.0) == 0.0


# --- refusals -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from("drrrrrr"), st.integers(0, 20), st.booleans())))
def test_it_halts_at_ten_refusals_and_not_before(done: list[tuple[str, int, bool]]) -> None:
    """Before any delivery each counts; after one, a family's refusals of data are one."""
    refusals = Refusals()
    delivered = False
    families: set[int] = set()
    others = 0
    for what, family, about_data in done:
        if what == "d":
            refusals.delivered()
            delivered, families, others = True, set(), 0
            continue
        if delivered and about_data:
            families.add(family)
        else:
            others += 1
        halts = refusals.refused(family, about_data=about_data)
        assert halts == (len(families) + others >= REFUSALS_TO_HALT)


def test_ten_refusals_with_nothing_delivered_halt() -> None:
    """Law 7, whatever they are about and of however many batches."""
    refusals = Refusals()
    said = [refusals.refused(1, about_data=bool(i % 2)) for i in range(REFUSALS_TO_HALT)]
    assert said == [False] * (REFUSALS_TO_HALT - 1) + [True]


def test_bisecting_one_bad_batch_halts_nothing() -> None:
    """Thirty refusals of one family, after a delivery, and then a wrong path: two, not 31."""
    refusals = Refusals()
    refusals.delivered()
    assert not any(refusals.refused(1, about_data=True) for _ in range(30))
    assert not refusals.refused(2, about_data=False)


def test_ten_families_refused_since_the_last_delivery_halt() -> None:
    """The account turned to refuse everything in the middle of a run."""
    refusals = Refusals()
    refusals.delivered()
    said = [refusals.refused(family, about_data=True) for family in range(REFUSALS_TO_HALT)]
    assert said == [False] * (REFUSALS_TO_HALT - 1) + [True]


def test_a_long_ask_is_an_outage_by_the_destination_s_own_word() -> None:
    """A failure that says to come back in an hour opens at once, so that patience is counted."""
    breaker = Breaker()
    assert breaker.failed(5.0, 0.5, asked_delay=LONG_ASK)
    assert breaker.open
    assert breaker.down_since == 5.0
    assert breaker.delay(5.0) >= LONG_ASK
