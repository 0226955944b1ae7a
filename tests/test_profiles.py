"""Laws of the ladder: at most two refused probes, nothing unproven but a probe, downwards only."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.profiles import Caps, CapsLadder
from tests.examples import examples

PER_SLOT = (75, 75, 75)
STEPS = tuple(Caps(PER_SLOT, total, 4_000_000) for total in (225, 75, 50))


class Flight(msgspec.Struct):
    """A batch on its way: its size, its generation, and whether it needed proof when it went."""

    id: int
    total: int
    generation: int
    probe: bool


steps_of = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "answer", "answer", "answer", "lose"]),
        st.integers(0, 60),
        st.integers(1, 225) | st.just(225),
    ),
    max_size=80,
)


@settings(max_examples=examples(500), deadline=None)
@given(st.sampled_from([225, 75, 50]), steps_of)
def test_at_most_two_probes_are_refused(cap: int, done: list[tuple[str, int, int]]) -> None:
    """Whatever the account takes and however answers interleave, two refusals tell it."""
    ladder = CapsLadder(STEPS)
    flying: list[Flight] = []
    ids = iter(range(1_000))
    refused = 0
    for what, which, wanted in [*done, *[("answer", 0, 1)] * 80]:
        if what == "send":
            total = min(wanted, ladder.next().total)
            flight = Flight(next(ids), total, ladder.generation, total > ladder.confirmed)
            assert not (flight.probe and any(other.probe for other in flying))
            ladder.sent(flight.id, total)
            flying.append(flight)
        elif flying:
            flight = flying.pop(which % len(flying))
            ladder.answered(flight.id)
            before = ladder.current.total
            if what == "lose":
                pass
            elif flight.total > cap:
                refused += 1
                assert flight.probe
                stepped = ladder.refused(flight.total, flight.generation)
                assert stepped == (ladder.current.total < before)
                assert ladder.current.total < flight.total
            else:
                ladder.accepted(flight.total)
                assert ladder.confirmed >= flight.total
        assert refused <= 2
        assert ladder.confirmed <= ladder.current.total
        assert cap <= ladder.current.total
        assert ladder.confirmed <= cap
        assert ladder.current == STEPS[ladder.generation]
        assert ladder.sure.total == ladder.confirmed
        assert ladder.next() in (ladder.current, ladder.sure)
        if not any(flight.probe for flight in flying):
            assert ladder.next() == ladder.current
    # What it has learned, two probes at the most complete.
    for _ in range(3):
        total = ladder.next().total
        ladder.sent(-1, total)
        ladder.answered(-1)
        if total > cap:
            refused += 1
            ladder.refused(total, ladder.generation)
        else:
            ladder.accepted(total)
    assert refused <= 2
    assert ladder.confirmed == ladder.current.total == cap


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 300), st.integers(0, 2)), max_size=30),
    st.none() | st.integers(1, 225),
)
def test_no_answer_leads_upwards(answers: list[tuple[bool, int, int]], known: int | None) -> None:
    """Any sequence of answers, mad ones too: steps go down, confirmed stays within them."""
    ladder = CapsLadder(STEPS, confirmed=known)
    for accepted, total, generation in answers:
        before, least = ladder.generation, ladder.least_refused
        if accepted:
            ladder.accepted(total)
            assert ladder.generation == before
        else:
            stepped = ladder.refused(total, generation)
            assert stepped == (ladder.generation > before)
            assert not stepped or ladder.current.total < total
            assert least is None or (ladder.least_refused or 0) <= least
        assert 0 <= before <= ladder.generation < len(STEPS)
        assert ladder.confirmed <= ladder.current.total


def test_a_ladder_needs_a_step() -> None:
    """A profile without caps is an error with a sentence."""
    with pytest.raises(ConfigError, match="at least one step"):
        CapsLadder(())


def test_an_older_batch_steps_down_once() -> None:
    """Two of 225 were out: the second refusal tells nothing that the first had not."""
    ladder = CapsLadder(STEPS)
    assert ladder.refused(225, 0)
    assert not ladder.refused(225, 0)
    assert (ladder.current.total, ladder.least_refused, ladder.learned) == (75, 225, True)


def test_a_piece_of_an_older_batch_teaches_too() -> None:
    """Its generation is old, but it was within the present caps, and they are too large."""
    ladder = CapsLadder(STEPS)
    assert ladder.refused(225, 0)
    assert ladder.refused(75, 0)
    assert (ladder.current.total, ladder.least_refused) == (50, 75)


def test_the_last_step_stays() -> None:
    """Below the smallest caps there is nothing to step to; what was refused is remembered."""
    ladder = CapsLadder(STEPS[2:])
    assert not ladder.refused(50, 0)
    assert not ladder.refused(50, 0)
    assert (ladder.current.total, ladder.least_refused) == (50, 50)


def test_what_the_user_says_is_not_probed() -> None:
    """A confirmed number goes out freely, and is corrected when it is refused."""
    ladder = CapsLadder(STEPS, confirmed=225)
    ladder.sent(1, 225)
    assert ladder.next().total == 225
    assert not ladder.learned
    assert ladder.refused(225, 0)
    assert ladder.confirmed == 75


def test_an_accepted_size_confirms_its_step() -> None:
    """76 in one request are more than 75 in total ever allow; beyond all steps, as many as seen."""
    ladder = CapsLadder(STEPS)
    ladder.accepted(50)
    assert not ladder.learned
    ladder.accepted(76)
    assert (ladder.confirmed, ladder.learned) == (225, True)
    wide = CapsLadder([Caps((300,) * 3, 300, 4_000_000)], confirmed=10)
    wide.accepted(400)
    assert wide.confirmed == 300


def test_caps_are_cut_only_downwards() -> None:
    """`at_most` never raises a cap."""
    assert STEPS[0].at_most(300) is STEPS[0]
    assert STEPS[0].at_most(60) == Caps(PER_SLOT, 60, 4_000_000)


def test_what_an_account_may_take_is_open_until_it_is_known() -> None:
    """The open caps are those not refused and not below what is confirmed, the largest first."""
    most = Caps((75, 75, 75), 225, 1_000)
    steps = (most, most.at_most(75), most.at_most(50))
    assert CapsLadder(steps).open == steps
    assert CapsLadder(steps, confirmed=75).open == steps[:2]
    assert CapsLadder(steps, confirmed=225).open == steps[:1]
    ladder = CapsLadder(steps)
    assert ladder.refused(225, 0)
    assert ladder.open == steps[1:]
