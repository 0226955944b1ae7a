"""The destination as a whole: outages begin and end, refusals halt, caps step down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.breaker import FAILURES_TO_OPEN, REFUSALS_TO_HALT
from ingest.health import Health, Heard
from ingest.outcomes import (
    Delivered,
    Invalid,
    ItemError,
    Outcome,
    Refused,
    Throttled,
    TooLarge,
    TooMany,
    Unanswered,
    Unauthorized,
    Unavailable,
)
from ingest.profiles import Caps, CapsLadder
from tests.batches import batch_of

STEPS = tuple(Caps((75, 75, 75), total, 4_000_000) for total in (225, 75, 50))
DOWN = Unavailable(503, "no capacity")


def health(*steps: Caps) -> Health:
    """Return the health of a destination nothing is known of."""
    return Health("rest.example.com", CapsLadder(steps or STEPS))


def hear(
    told: Health, outcome: Outcome, now: float = 1.0, size: int = 3, since: float | None = None
) -> Heard:
    """Let a batch of `size` records come back with an outcome."""
    batch = batch_of([(0, f"u{i}") for i in range(size)])
    told.sent(batch)
    told.answered(batch)
    return told.hear(batch, outcome, now, asked_delay=0.0, cut_alone_since=since, jitter=0.5)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Delivered(201), "ok"),
        (Invalid(400, (ItemError(0, 0, "c", "r"),)), "ok"),
        (Throttled(429), "throttled"),
        (DOWN, "unavailable"),
        (Unanswered(504, "no answer"), "unanswered"),
        (TooLarge(413), "ok"),
        (TooMany(400), "ok"),
        (Refused(400, "no"), "throttled"),
        (Unauthorized(401, "the key is wrong"), "ok"),
    ],
)
def test_what_each_outcome_says_of_concurrency(outcome: Outcome, said: str) -> None:
    """Only a 429 and failures speak for fewer requests, and refusals before anything was taken."""
    assert hear(health(), outcome).said == said


def test_a_refusal_after_a_success_says_nothing_of_concurrency() -> None:
    """One bad batch among good ones does not slow the run down."""
    told = health()
    hear(told, Delivered(201))
    assert hear(told, Refused(400, "no")).said == "ok"


def test_an_outage_is_told_at_its_beginning_and_at_its_end() -> None:
    """The failure that opens the breaker brings a sentence, and so does the first success."""
    told = health()
    notices = [hear(told, DOWN, 10.0).notice for _ in range(FAILURES_TO_OPEN + 2)]
    assert [bool(notice) for notice in notices] == [False] * (FAILURES_TO_OPEN - 1) + [
        True,
        False,
        False,
    ]
    assert "rest.example.com is down (no capacity)" in notices[FAILURES_TO_OPEN - 1]
    assert hear(told, Delivered(201), 22.0).notice == "rest.example.com answers again, after 12 s"
    assert not told.breaker.open


def test_a_destination_is_gone_when_it_was_down_for_too_long() -> None:
    """Not before the time allowed, and not while it answers."""
    told = health()
    assert told.gone(1e9, 30.0) is None
    for _ in range(FAILURES_TO_OPEN):
        hear(told, DOWN, 10.0)
    assert told.gone(39.9, 30.0) is None
    gone = told.gone(40.0, 30.0)
    assert gone is not None
    assert "down for 30 s (the last try: no capacity)" in str(gone)


def test_a_piece_whose_family_was_taken_is_no_sign_of_an_outage() -> None:
    """It fails by its own fault, however often."""
    told = health()
    hear(told, Delivered(201), 6.0)
    for _ in range(2 * FAILURES_TO_OPEN):
        assert not hear(told, DOWN, 7.0, since=5.0).notice
    assert not told.breaker.open


def test_a_wrong_key_halts_at_once() -> None:
    """The reason to halt says that no data was judged."""
    halt = hear(health(), Unauthorized(401, "the key is wrong")).halt
    assert str(halt) == "the key is wrong. No record was given up for it"


def test_refusing_everything_halts() -> None:
    """After as many refusals as the law allows, with what to check."""
    told = health()
    halts = [hear(told, Refused(400, "no")).halt for _ in range(REFUSALS_TO_HALT)]
    assert halts[:-1] == [None] * (REFUSALS_TO_HALT - 1)
    assert "refuses every request" in str(halts[-1])


def test_too_many_steps_down_and_says_so_once() -> None:
    """The step is a notice; a refusal of what was larger anyway is none."""
    told = health()
    assert "at most 75" in hear(told, TooMany(400), size=225).notice
    assert hear(told, TooMany(400), size=225) == Heard()


def test_too_many_without_smaller_caps_halts_in_the_end() -> None:
    """Where nothing smaller is left to try, the count of refusals decides."""
    told = health(Caps((50, 50, 50), 50, 4_000_000))
    halts = [hear(told, TooMany(400), size=40).halt for _ in range(REFUSALS_TO_HALT)]
    assert not any(halts[:-1])
    assert "give the account's number with --limits" in str(halts[-1])


def test_a_destination_that_finds_everything_too_large_halts() -> None:
    """A proxy with a smaller limit is no verdict on data: the run ends before all is rejected."""
    told = health()
    halts = [hear(told, TooLarge(413)).halt for _ in range(REFUSALS_TO_HALT)]
    assert not any(halts[:-1])
    assert "refuses every request as too large" in str(halts[-1])


@given(
    before=st.lists(st.sampled_from([DOWN, Delivered(201), Throttled(429)]), max_size=8),
    sizes=st.lists(st.integers(1, 225), min_size=1, max_size=5),
)
def test_several_that_were_taken_tell_what_each_of_them_tells(
    before: list[Outcome], sizes: list[int]
) -> None:
    """One notice, the same breaker, and the same caps, a probe among them or none."""
    together, each = health(), health()
    batches = [
        batch_of([(0, f"u{i}") for i in range(size)], id=100 + at) for at, size in enumerate(sizes)
    ]
    for told in (together, each):
        for outcome in before:
            hear(told, outcome)
        for batch in batches:
            told.sent(batch)
    notice = together.took(batches, 2.0)
    notices = []
    for batch in batches:
        each.answered(batch)
        heard = each.hear(
            batch, Delivered(201), 2.0, asked_delay=0.0, cut_alone_since=None, jitter=0.5
        )
        assert (heard.said, heard.halt) == ("ok", None)
        notices.append(heard.notice)
    assert [notice, *[""] * (len(sizes) - 1)] == notices
    for one, other in ((together.breaker, each.breaker), (together.ladder, each.ladder)):
        apart = {"_probe_answered"}  # of the last one: each is told of before it fails
        assert {name: value for name, value in vars(one).items() if name not in apart} == {
            name: value for name, value in vars(other).items() if name not in apart
        }
