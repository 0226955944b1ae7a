"""The driver on the virtual clock: every record accounted for, whatever the destination says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import DestinationDown, Halted, InputError, LocalFailure
from ingest.forms import Found
from ingest.inflight import Fixed, InFlight
from ingest.outcomes import (
    Delivered,
    Invalid,
    ItemError,
    Outcome,
    Refused,
    Remark,
    Throttled,
    TooLarge,
    TooMany,
    Unanswered,
    Unauthorized,
    Unavailable,
)
from ingest.pipeline import DriverSettings
from ingest.profiles import Caps, CapsLadder
from ingest.records import Batch, Partition
from ingest.schemas import Encoded, TrackSchema
from ingest.serverwords import ServerWord
from ingest.sinks.base import Answer
from ingest.sinks.braze import ENDPOINTS
from ingest.sources.base import Block
from ingest.throttle import Throttle
from tests.driving import OK, Driven, Setup, attributes, drive, event, lines_of
from tests.examples import examples

HOUR = 3600.0
DOWN = Unavailable(503, "503 Service Unavailable")
LOST = Unanswered(None, "the connection was reset")


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Where the dead letters of a run go."""
    return tmp_path / "letters.ndjson"


def holds(batch: Batch, mark: bytes) -> bool:
    """Whether any record of a batch holds these bytes."""
    return any(mark in column.data for column in batch.columns)


def mixed(count: int, users: int) -> list[bytes]:
    """Attributes and events in turn; users in turn."""
    return [(attributes, event)[i % 2](f"u{i % users}", i) for i in range(count)]


# --- law 1 and law 4 under anything a destination may say -----------------------------------------


def any_outcome(dice: random.Random, batch: Batch) -> Outcome | Answer:
    """Draw what is answered: half of the time success, else any of the ways to fail."""
    if dice.random() < 0.5:
        return OK
    slot, index = dice.choice(list(batch.rows()))
    wait = ServerWord(True, dice.random() * 3, None, None, None)
    return dice.choice(
        (
            Delivered(201, (ItemError(slot, index, "bad", "no"),)),
            Delivered(202, queued=True),
            Delivered(201, remarks=(Remark("said-by-destination", "odd"),)),
            Answer(Throttled(429), wait, status=429),
            DOWN,
            Unavailable(None, "refused"),
            LOST,
            Unanswered(504, "504 from a gateway"),
            TooLarge(413),
            TooMany(400),
            Invalid(400, (ItemError(slot, index, "bad", "no"),)),
            Refused(400, "bad request"),
        )
    )


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 600),
    users=st.integers(1, 200),
    hold=st.sampled_from([(), (0, 1, 2)]),
    in_flight=st.sampled_from([None, 1, 40]),
)
def test_conservation_whatever_is_answered(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    count: int,
    users: int,
    hold: tuple[int, ...],
    in_flight: int | None,
) -> None:
    """Every record ends in one column, no user is in two requests, and order is kept."""
    dice = random.Random(seed)
    lines = mixed(count, users)
    for at in dice.sample(range(count + 1), k=min(count + 1, 5)):
        lines.insert(at, b"no json")
    where = tmp_path_factory.mktemp("letters") / "letters.ndjson"
    setup = Setup(
        script=lambda batch, now: any_outcome(dice, batch),
        letters=where,
        hold=hold,
        in_flight=Fixed(in_flight) if in_flight else None,
        seed=seed,
        ladder=CapsLadder(ENDPOINTS["track"].caps),
    )
    driven = drive(lines, setup)
    balance = driven.pipeline.balance
    assert driven.balanced()
    assert balance.count("read") == len(lines)
    assert len(driven.letters) == balance.bad
    assert driven.sink.same_user_overlaps == 0
    assert driven.silent == 0
    if driven.state == "finished":
        assert balance.count("pending") == 0
    assert sum(map(len, driven.sink.delivered)) == balance.count("delivered")
    for arrived in driven.arrivals.values():
        for kind in (0, 1):  # of one request, a user's records keep their order per kind
            of_kind = [number for number in arrived if number % 2 == kind]
            assert of_kind == sorted(of_kind)


# --- small inputs and waiting ---------------------------------------------------------------------


def test_an_empty_input(letters: Path) -> None:
    """Nothing read, nothing sent, finished at once; no file for letters nobody wrote."""
    driven = drive([], Setup(letters=letters))
    assert (driven.state, driven.columns, driven.sent, driven.seconds) == ("finished", {}, [], 0.0)
    assert not letters.exists()


def test_a_single_record_does_not_linger(letters: Path) -> None:
    """At the end of the source a batch goes that is not full, without waiting for more."""
    driven = drive([event("u", 1)], Setup(letters=letters))
    assert driven.columns == {"read": 1, "delivered": 1}
    assert driven.seconds == pytest.approx(0.05)


def test_linger(letters: Path) -> None:
    """A quiet source's records go after the linger, and a full batch does not wait for it."""

    async def slow() -> AsyncIterator[Block]:
        async for block in lines_of([event("u", 1)]):
            yield block
        await asyncio.sleep(10)
        async for block in lines_of([event(f"v{i}", i) for i in range(75)]):
            yield block
        await asyncio.sleep(10)

    driven = drive(slow, Setup(letters=letters, settings=DriverSettings(linger=2.0), latency=0.0))
    assert [(round(at, 3), records) for at, records in driven.sent] == [(2.0, 1), (10.0, 75)]
    assert driven.silent == 0


def test_a_slow_source_of_many_partitions_does_not_linger_for_each_in_turn(letters: Path) -> None:
    """What waited while another request lingered has waited long enough."""
    sent: list[float] = []

    class Campaigns(TrackSchema):
        """Each record has a request of its own."""

        provable = False

        def encode(self, found: Found, record: dict[str, Any]) -> Encoded:
            """Keep records of different numbers apart."""
            encoded = super().encode(found, record)
            apart = str(record["properties"]["n"])
            return msgspec.structs.replace(encoded, partition=Partition(apart))

    def script(batch: Batch, now: float) -> Outcome:
        sent.append(now)
        return OK

    async def slow() -> AsyncIterator[Block]:
        for i in range(40):
            async for block in lines_of([event(f"v{i}", i)]):
                yield block
            await asyncio.sleep(0.25)

    setup = Setup(
        letters=letters,
        settings=DriverSettings(linger=1.0),
        latency=0.0,
        schema=Campaigns(),
        script=script,
    )
    driven = drive(slow, setup)
    assert driven.columns == {"read": 40, "delivered": 40}
    # Read at 0, 0.25, 0.5 ...; four come in while the first lingers, and each waits 1.25 s at most.
    assert max(at - i * 0.25 for i, at in enumerate(sent)) <= 1.3


def test_the_wait_for_a_slow_budget_is_told(letters: Path) -> None:
    """Law 12: between two permits of a low rate the run says what it waits for."""
    driven = drive(mixed(400, 400), Setup(letters=letters, rate="1/10s"))
    assert driven.columns == {"read": 400, "delivered": 400}
    assert driven.seconds > 40
    assert driven.silent == 0


# --- backpressure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("users", [1, 7, 100_000])
@pytest.mark.parametrize("size", [10, 20_000])
def test_memory_is_bounded(letters: Path, users: int, size: int) -> None:
    """A slow sink, a hot user, or a file sorted by user: the byte budget holds, all arrives."""
    count = 12_000 if size < 100 else 1_500
    rows = sorted(range(count), key=lambda i: i % users) if users == 7 else range(count)
    lines = [event(f"u{i % users}", i, pad="x" * size) for i in rows]
    memory = 3_000_000
    setup = Setup(letters=letters, latency=2.0, settings=DriverSettings(memory=memory))
    driven = drive(lines, setup)
    assert driven.columns == {"read": count, "delivered": count}
    assert driven.sink.same_user_overlaps == 0
    # A quarter for what turns from queue into bodies while the reader waits, and one slice.
    assert driven.most_memory <= 1.25 * memory + 256 * (size + 500)


def test_a_hot_user_keeps_the_order(letters: Path) -> None:
    """Law 4: under failures a user's records arrive in the order of the source, one at a time."""
    dice = random.Random(4)
    lines = [event("hot" if i % 3 else f"u{i}", i) for i in range(6_000)]

    def script(batch: Batch, now: float) -> Outcome:
        return dice.choice((OK, OK, OK, DOWN, Throttled(429)))

    driven = drive(lines, Setup(script=script, letters=letters))
    assert driven.columns == {"read": 6_000, "delivered": 6_000}
    assert driven.arrivals["hot"] == [i for i in range(6_000) if i % 3]
    assert driven.sink.same_user_overlaps == 0
    assert driven.sink.max_in_flight > 1


# --- law 7: outages and refusals ------------------------------------------------------------------


@pytest.mark.parametrize("outage", [20.0, pytest.param(5 * HOUR, marks=pytest.mark.simulation)])
@pytest.mark.parametrize("reply", [DOWN, Unavailable(None, "refused"), LOST])
def test_an_outage_fails_nothing(letters: Path, outage: float, reply: Outcome) -> None:
    """Nothing is given up, few probes go out, memory stays bounded, and it ends soon after."""

    def script(batch: Batch, now: float) -> Outcome:
        return reply if 2.0 <= now < 2.0 + outage else OK

    memory = 1_000_000
    settings = DriverSettings(memory=memory, give_up_after=12 * HOUR)
    look = 0.05 if outage < HOUR else 1.03
    setup = Setup(script=script, letters=letters, settings=settings, rate="10/1s", look_every=look)
    driven = drive(mixed(9_000, 3_000), setup)
    assert driven.columns == {"read": 9_000, "delivered": 9_000}
    assert driven.most_memory <= 1.5 * memory
    probes = [at for at, _ in driven.sent if 4.0 <= at < 2.0 + outage]
    assert len(probes) <= 10 + outage / 7
    back = min(at for at, _ in driven.sent if at >= 2.0 + outage)
    assert back <= 2.0 + outage + 15.5  # the longest pause between two probes
    assert any("answers again" in notice for notice in driven.notices)
    assert driven.silent == 0


def test_a_short_outage_ends_soon(letters: Path) -> None:
    """What was in flight when it began does not push the probes apart."""

    def script(batch: Batch, now: float) -> Outcome:
        return DOWN if 2.0 <= now < 6.0 else OK

    setup = Setup(script=script, letters=letters, in_flight=Fixed(60), latency=0.5)
    driven = drive(mixed(60_000, 60_000), setup)
    assert driven.columns == {"read": 60_000, "delivered": 60_000}
    back = min(at for at, _ in driven.sent if at >= 6.0)
    assert back < 6.0 + 5.0


@pytest.mark.parametrize(("asked", "longest"), [(None, 130.0), (40.0, 240.0)])
def test_giving_up(letters: Path, asked: float | None, longest: float) -> None:
    """A destination that stays away ends the run in time, with all it owes pending."""
    word = ServerWord(False, asked, None, None, None)

    def script(batch: Batch, now: float) -> Outcome | Answer:
        return OK if now < 1.0 else Answer(DOWN, word, status=503)

    settings = DriverSettings(give_up_after=100.0)
    setup = Setup(script=script, letters=letters, settings=settings, rate="10/1s")
    driven = drive(mixed(3_000, 3_000), setup)
    assert driven.state == "halted"
    assert isinstance(driven.pipeline.error, DestinationDown)
    assert driven.balanced()
    assert set(driven.columns) == {"read", "delivered", "pending"}
    assert 100.0 <= driven.seconds <= longest


def test_wrong_credentials(letters: Path) -> None:
    """A 401 halts at once: few requests, no verdict on any record."""
    setup = Setup(script=lambda batch, now: Unauthorized(401, "check the key"), letters=letters)
    driven = drive(mixed(60_000, 60_000), setup)
    assert (driven.state, len(driven.letters)) == ("halted", 0)
    assert isinstance(driven.pipeline.error, Halted)
    assert "check the key" in str(driven.pipeline.error)
    assert len(driven.sent) <= 16
    assert set(driven.columns) == {"read", "pending"}


@pytest.mark.parametrize("status", [400, 404, 422])
def test_what_refuses_everything(letters: Path, status: int) -> None:
    """Ten refusals and nothing delivered halt the run, and nothing is rejected."""
    setup = Setup(script=lambda batch, now: Refused(status, "no"), letters=letters)
    driven = drive(mixed(20_000, 20_000), setup)
    assert isinstance(driven.pipeline.error, Halted)
    assert len(driven.sent) <= 20
    assert set(driven.columns) == {"read", "pending"}


# --- law 6: one bad record ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply", [Refused(400, "no"), Unavailable(500, "500 Internal Server Error")]
)
@pytest.mark.parametrize("at", [0, 1_500, 2_999])
def test_a_poisoned_record_costs_itself_only(letters: Path, reply: Outcome, at: int) -> None:
    """Wherever it is, first, last or between, it is found, and its user's others keep order."""
    lines = [event(f"u{i % 400}", i, poison=i == at) for i in range(3_000)]

    def script(batch: Batch, now: float) -> Outcome:
        return reply if holds(batch, b'"poison":true') else OK

    driven = drive(lines, Setup(script=script, letters=letters))
    column = "rejected" if isinstance(reply, Refused) else "failed"
    assert driven.columns == {"read": 3_000, "delivered": 2_999, column: 1}
    assert [letter["record"]["properties"]["n"] for letter in driven.letters] == [at]
    for arrived in driven.arrivals.values():
        assert arrived == sorted(arrived)
    assert driven.seconds < 120
    assert driven.silent == 0


def test_a_poisoned_record_alone_at_the_end(letters: Path) -> None:
    """With nothing else to send, halves tell a poisoned record from an outage."""
    lines = [event(f"u{i}", i, poison=i == 70) for i in range(75)]

    def script(batch: Batch, now: float) -> Outcome:
        bad = Unavailable(500, "500 Internal Server Error")
        return bad if holds(batch, b'"poison":true') else OK

    driven = drive(lines, Setup(script=script, letters=letters))
    assert driven.columns == {"read": 75, "delivered": 74, "failed": 1}
    assert driven.seconds < 120


# --- law 5: no answer -----------------------------------------------------------------------------


def test_unanswered_is_resent(letters: Path) -> None:
    """By default what got no answer goes again, and every possible copy is counted."""
    lost = iter((LOST, OK))
    driven = drive(mixed(60, 60), Setup(script=lambda batch, now: next(lost), letters=letters))
    assert driven.columns == {"read": 60, "delivered": 60}
    assert driven.pipeline.balance.maybe_duplicated == 60


def test_unanswered_is_held(letters: Path) -> None:
    """Held by choice: events wait for a person; plain attributes may always go again."""
    lost = iter((LOST, OK))
    setup = Setup(script=lambda batch, now: next(lost), letters=letters, hold=(0, 1, 2))
    driven = drive(mixed(60, 60), setup)
    assert driven.columns == {"read": 60, "delivered": 30, "held": 30}
    assert driven.pipeline.balance.maybe_duplicated == 30
    assert {letter["column"] for letter in driven.letters} == {"held"}


def test_a_429_now_and_then_does_not_keep_a_dead_destination_alive(letters: Path) -> None:
    """Nothing is taken, and some answers ask for less: the run gives up all the same."""
    dice = random.Random(5)

    def script(batch: Batch, now: float) -> Outcome:
        return Throttled(429) if dice.random() < 0.2 else Unavailable(500, "it broke")

    setup = Setup(
        script=script,
        letters=letters,
        settings=DriverSettings(give_up_after=1_800.0),
        look_every=60.0,
    )
    driven = drive(mixed(2, 2), setup)
    assert isinstance(driven.pipeline.error, DestinationDown)
    assert driven.columns == {"read": 2, "pending": 2}
    assert 1_800 <= driven.seconds < 6 * HOUR


def test_what_must_not_repeat_never_does(letters: Path) -> None:
    """Whatever was chosen, and whatever the sink thinks of its records: held, and counted so."""
    lost = iter((LOST, DOWN, OK))
    once = msgspec.structs.replace(ENDPOINTS["track"], resendable=False)
    setup = Setup(script=lambda batch, now: next(lost), letters=letters, endpoint=once)
    driven = drive(mixed(150, 150), setup)
    assert driven.columns == {"read": 150, "delivered": 75, "held": 75}
    assert driven.pipeline.balance.maybe_duplicated == 0
    assert [n for _, n in driven.sent] == [75, 75, 75]  # what was not processed goes again


def test_answers_are_heard_in_the_unit_of_the_budget(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is learned of the rate is in users, and what is in flight is worked out per request."""
    costs: list[float] = []
    hear = Throttle.hear

    def heard(throttle: Throttle, *told: Any, **more: Any) -> None:
        costs.append(more["cost"])
        hear(throttle, *told, **more)

    monkeypatch.setattr(Throttle, "hear", heard)
    by_user = msgspec.structs.replace(ENDPOINTS["track"], counts="users")
    in_flight = InFlight(1.0)
    setup = Setup(letters=letters, endpoint=by_user, rate="150/1s", in_flight=in_flight)
    assert drive(mixed(150, 150), setup).columns == {"read": 150, "delivered": 150}
    assert costs == [75, 75]
    assert in_flight.rate == pytest.approx(2.0)


def test_a_budget_in_users_counts_users(letters: Path) -> None:
    """Two records of one user in a request cost one; 75 users a request, 150 a second."""
    by_user = msgspec.structs.replace(ENDPOINTS["track"], counts="users")
    lines = [line for n in range(150) for line in (attributes(f"u{n}", n), event(f"u{n}", n))]
    caps = Caps((75, 75, 75), 150, 4_000_000, users=75)
    setup = Setup(
        letters=letters, endpoint=by_user, rate="75/1s", ladder=CapsLadder((caps,)), latency=0.01
    )
    driven = drive(lines, setup)
    assert driven.columns == {"read": 300, "delivered": 300}
    assert [n for _, n in driven.sent] == [150, 150]
    assert driven.sent[1][0] - driven.sent[0][0] >= 1.0


# --- ends that are not the end of the source ------------------------------------------------------


def test_an_interrupt_drains(letters: Path) -> None:
    """Nothing new goes out; what is in flight is answered and counted, the rest is pending."""

    async def later(driven: Driven) -> None:
        await asyncio.sleep(7.5)
        driven.pipeline.interrupt()
        driven.pipeline.interrupt()

    setup = Setup(letters=letters, latency=1.0, in_flight=Fixed(4))
    driven = drive(mixed(9_000, 9_000), setup, meanwhile=later)
    assert driven.state == "interrupted"
    assert driven.seconds == pytest.approx(8.0)
    assert driven.pipeline.balance.count("delivered") == 8 * 4 * 75
    assert driven.balanced()
    assert driven.sink.in_flight == 0


def test_cancelling_stops_at_once(letters: Path) -> None:
    """A second signal cancels: no answer is waited for, what was in flight is pending."""

    async def later(driven: Driven) -> None:
        await asyncio.sleep(7.5)
        assert driven.task is not None
        seen.append(driven)
        driven.task.cancel()

    seen: list[Driven] = []
    setup = Setup(letters=letters, latency=1.0, in_flight=Fixed(4))
    with pytest.raises(asyncio.CancelledError):
        drive(mixed(9_000, 9_000), setup, meanwhile=later)
    [driven] = seen
    assert driven.pipeline.balance.count("delivered") == 7 * 4 * 75
    assert driven.balanced()
    assert driven.sink.in_flight == 0


def test_cancelling_is_no_fault_of_the_destination(letters: Path) -> None:
    """No outage is announced, no copy counted; what must not repeat is held, and has a letter."""

    async def later(driven: Driven) -> None:
        await asyncio.sleep(0.5)
        assert driven.task is not None
        seen.append(driven)
        driven.task.cancel()

    seen: list[Driven] = []
    once = msgspec.structs.replace(ENDPOINTS["track"], resendable=False)
    setup = Setup(letters=letters, latency=1.0, in_flight=Fixed(8), endpoint=once)
    with pytest.raises(asyncio.CancelledError):
        drive(mixed(600, 600), setup, meanwhile=later)
    [driven] = seen
    assert driven.columns == {"read": 600, "held": 600}
    assert driven.pipeline.balance.maybe_duplicated == 0
    assert driven.notices == []
    assert len(letters.read_bytes().splitlines()) == 600


def test_letters_that_cannot_be_written(tmp_path: Path) -> None:
    """Law 11: a local failure stops sending, and settles nothing it could not note."""
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    lines = mixed(20_000, 20_000)

    def script(batch: Batch, now: float) -> Outcome:
        return Delivered(201, (ItemError(0, 0, "bad", "no"),)) if now > 3.0 else OK

    setup = Setup(script=script, letters=in_the_way / "letters", rate="10/1s")
    driven = drive(lines, setup)
    assert driven.state == "halted"
    assert isinstance(driven.pipeline.error, LocalFailure)
    assert driven.pipeline.balance.count("rejected") == 0
    assert driven.balanced()
    assert max(at for at, _ in driven.sent) < 3.5


def test_a_bug_in_a_sink_is_raised(letters: Path) -> None:
    """What a sink must not raise is not swallowed: the run ends with it."""

    def script(batch: Batch, now: float) -> Outcome:
        if now > 1.0:
            raise ZeroDivisionError("a bug")
        return OK

    with pytest.raises(ZeroDivisionError, match="a bug"):
        drive(mixed(20_000, 20_000), Setup(script=script, letters=letters, rate="20/1s"))


def test_a_bug_in_a_source_is_raised(letters: Path) -> None:
    """The same for a source."""

    async def buggy() -> AsyncIterator[Block]:
        async for block in lines_of(mixed(100, 100)):
            yield block
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        drive(buggy, Setup(letters=letters))


def test_an_input_that_breaks_off(letters: Path) -> None:
    """What was read before is delivered, and the run ends with the sentence."""
    driven = drive(lambda: lines_of(mixed(1_000, 100), broken=True), Setup(letters=letters))
    assert driven.columns == {"read": 1_000, "delivered": 1_000}
    assert driven.state == "halted"
    assert isinstance(driven.pipeline.error, InputError)
    assert any("truncated" in notice for notice in driven.notices)


def test_a_halt_after_an_input_that_breaks_off_is_told(letters: Path) -> None:
    """The later and graver reason is the one that the run ends with."""
    driven = drive(
        lambda: lines_of(mixed(1_000, 100), broken=True),
        Setup(script=lambda batch, now: Unauthorized(401, "check the key"), letters=letters),
    )
    assert isinstance(driven.pipeline.error, Halted)
    assert "check the key" in str(driven.pipeline.error)


def test_old_events_bring_one_notice(letters: Path) -> None:
    """Whoever imports history is told once that live campaigns may fire on it."""
    setup = Setup(letters=letters, settings=DriverSettings(old_before="2026-11-02"))
    driven = drive(mixed(2_000, 100), setup)
    assert len([notice for notice in driven.notices if "campaigns" in notice]) == 1
