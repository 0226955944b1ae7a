"""The waiting driver on a virtual clock: order, cancellation, early waking, spacing."""

from __future__ import annotations

import asyncio
import bisect
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.limits import BucketLimit, Budget, PaceLimit, RateLimit, WindowLimit, parse_rate
from ingest.serverwords import ServerWord
from ingest.throttle import Throttle
from tests.virtual_clock import run

HOLD = ServerWord(True, 10.0, None, None, None)
OPEN = ServerWord(False, None, None, None, None)


def throttle(rate: str = "", *, vouched: bool = False) -> Throttle:
    """Return a throttle by the running loop's clock, without luck."""
    budget = Budget(parse_rate(rate) if rate else (), vouched=vouched)
    return Throttle(budget, clock=asyncio.get_running_loop().time, jitter=lambda: 0.0)


@pytest.mark.parametrize("rate", ["118/1s", "1000/1s", "3000/3s", "2/500ms"])
def test_sends_are_even_within_the_budget_and_use_it(rate: str) -> None:
    """No window holds too many, 99 % is used over ten periods, and no clap goes out at once."""

    async def main() -> list[float]:
        waiting = throttle(rate)
        return [await waiting.acquire() for _ in range(10 * limit.amount)]

    (limit,) = parse_rate(rate)
    times = run(main())
    for first, at in enumerate(times):
        assert bisect.bisect_left(times, at + limit.period) - first <= limit.amount
    used = bisect.bisect_left(times, times[0] + 9 * limit.period)
    assert used >= 0.99 * 9 * limit.amount
    assert max(len(list(same)) for _, same in itertools.groupby(times)) <= 12


@pytest.mark.parametrize("rate", ["1000/1s", "3000/3s"])
def test_a_loop_that_stalls_now_and_then_loses_little(rate: str) -> None:
    """After 40 ms in which the loop did something else, the turns it missed are made up for."""

    async def main() -> list[float]:
        waiting = throttle(rate)
        times = []
        for number in range(20_000):
            times.append(await waiting.acquire())
            if not number % 100:
                await asyncio.sleep(0.04)
        return times

    (limit,) = parse_rate(rate)
    times = run(main())
    for first, at in enumerate(times):
        assert bisect.bisect_left(times, at + limit.period) - first <= limit.amount
    assert len(times) / (times[-1] - times[0]) >= 0.95 * 1000


def test_what_is_there_goes_at_once_in_bursts() -> None:
    """At 1,000/s every twelfth send waits for a timer; the others take the turns of its burst."""

    async def main() -> tuple[int, int]:
        waiting, timers = throttle("1000/1s"), 0
        for _ in range(700):
            if await waiting.at_once(1, 0) is None:
                timers += 1
                await waiting.acquire()
        return timers, waiting.grants

    timers, grants = run(main())
    assert grants == 700
    assert timers <= 700 / 10


def test_without_limits_nothing_waits() -> None:
    """No limit, no spacing, no wait."""

    async def main() -> float:
        waiting = throttle()
        assert waiting.rate == float("inf")
        assert waiting.remaining is None
        for _ in range(1000):
            await waiting.acquire()
        return await waiting.acquire()

    assert run(main()) == 0.0


def test_first_come_first_served() -> None:
    """A costly request at the head is not overtaken by cheap ones."""

    async def main() -> list[int]:
        waiting = throttle("10/1s")
        served: list[int] = []

        async def one(cost: int) -> None:
            await waiting.acquire(cost)
            served.append(cost)

        await asyncio.gather(*(one(cost) for cost in (6, 9, 1, 2)))
        return served

    assert run(main()) == [6, 9, 1, 2]


def test_a_cancelled_wait_spends_nothing_and_lets_the_next_go() -> None:
    """Of three that wait for a full window the first is cancelled; the others go when it opens."""

    async def main() -> list[float]:
        waiting = throttle("2/1s")
        await waiting.acquire(2)
        tasks = [asyncio.create_task(waiting.acquire()) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert waiting.waiting_until is not None
        assert waiting.waits_for() == "the rate limit of 2/1s"
        tasks[0].cancel()
        times = await asyncio.gather(*tasks[1:])
        assert tasks[0].cancelled()
        assert waiting.waiting_until is None
        assert waiting.waits_for() == ""
        return times

    first, second = run(main())
    assert first == pytest.approx(1.0, abs=0.001)
    assert second < 1.99, "the cancelled one took no part of the window"


def test_the_spacing_is_a_wait_that_is_named() -> None:
    """At slow rates the space between two sends is long enough to be asked about."""

    async def main() -> float:
        waiting = throttle("6/6s")
        await waiting.acquire()
        task = asyncio.create_task(waiting.acquire())
        await asyncio.sleep(0.1)
        assert waiting.waits_for() == "its turn, for sends are spaced"
        assert waiting.waiting_until == pytest.approx(0.8)
        return await task

    assert run(main()) == pytest.approx(0.8)


def test_a_hold_stops_those_who_wait_already() -> None:
    """What is heard while somebody waits counts for them too."""

    async def main() -> tuple[float, float | None]:
        waiting = throttle("1/1s")
        sent = await waiting.acquire()
        task = asyncio.create_task(waiting.acquire())
        await asyncio.sleep(0.1)
        waiting.hear(HOLD, 0, sent=sent)
        await asyncio.sleep(0.1)
        assert waiting.waits_for() == "the destination, which asked for 10s"
        return await task, waiting.waiting_until

    granted, waiting_until = run(main())
    assert granted == pytest.approx(10.1, abs=0.001)
    assert waiting_until is None


def test_an_answer_wakes_whoever_waits_for_it() -> None:
    """With one left and one in flight nobody goes; the moment it is answered, the next does."""

    async def main() -> float:
        waiting = throttle()
        flying = 2
        last = ServerWord(False, None, 100, 2, 60.0)
        waiting.hear(last, flying)
        task = asyncio.create_task(waiting.acquire(in_flight=lambda: flying))
        await asyncio.sleep(0.3)
        assert "only 2 more" in waiting.waits_for()
        assert waiting.remaining == 2
        flying = 1
        waiting.hear(None, flying)  # lost: nothing was said
        waiting.hear(OPEN, flying, accepted=True)  # heard twice before anybody woke
        return await task

    assert run(main()) == 0.3


def test_after_a_429_one_request_asks_first() -> None:
    """When the hold ends a single request goes; its success lets the others follow."""

    async def main() -> list[float]:
        waiting = throttle()
        sent = await waiting.acquire()
        waiting.hear(HOLD, 0, sent=sent)
        flying = 0
        times: list[float] = []

        async def one() -> None:
            nonlocal flying
            times.append(at := await waiting.acquire(in_flight=lambda: flying))
            flying += 1
            await asyncio.sleep(0.2)
            flying -= 1
            waiting.hear(OPEN, flying, accepted=True, sent=at)

        await asyncio.gather(*(one() for _ in range(4)))
        return times

    assert run(main()) == pytest.approx([10.0, 10.2, 10.2, 10.2], abs=0.001)


def test_a_cost_that_never_fits_is_an_error() -> None:
    """Waiting for ever would be silent; the limit that is too small is named."""

    async def main() -> None:
        await Throttle(Budget((WindowLimit(5, 1.0),))).acquire(6)

    with pytest.raises(ConfigError, match="costs 6, more than the rate limit of 5/1s ever grants"):
        run(main())


# --- requests that cost the users in them -------------------------------------------------------


def counting_users(*limits: RateLimit, slack: float = 0.0) -> Throttle:
    """Return a throttle whose budget counts users, by the running loop's clock."""
    budget = Budget(limits, counts="users", arrival_slack=slack)
    return Throttle(budget, clock=asyncio.get_running_loop().time, jitter=lambda: 0.0)


async def granted(waiting: Throttle, costs: list[int]) -> list[float]:
    """Ask for all at once; return when each was granted, checking that none is overtaken."""
    order: list[int] = []

    async def one(place: int, cost: int) -> float:
        at = await waiting.acquire(cost)
        order.append(place)
        return at

    times = await asyncio.gather(*(one(place, cost) for place, cost in enumerate(costs)))
    assert order == sorted(order)
    return times


def test_a_bucket_lets_its_burst_go_and_then_its_rate() -> None:
    """Of 300/s with bursts of 1,000, five requests of 200 go at once, then one each 0.667 s."""

    async def main() -> list[float]:
        return await granted(counting_users(BucketLimit(300, 1000)), [200] * 8)

    expected = [0.0] * 5 + [step * 200 / 300 for step in (1, 2, 3)]
    assert run(main()) == pytest.approx(expected, abs=0.003)


def test_the_slack_delays_the_end_of_a_burst() -> None:
    """The 300 users that flow in within 20 x 50 ms are kept back: a fourth waits for some."""

    async def main() -> list[float]:
        return await granted(counting_users(BucketLimit(300, 1000), slack=0.05), [200] * 6)

    assert run(main()) == pytest.approx([0.0] * 3 + [1 / 3, 1.0, 1.0 + 2 / 3], abs=0.003)


def test_a_pace_has_no_burst() -> None:
    """40,000 users in four requests take three times 1.03 s, in eight seven times 0.515 s."""

    async def main(parts: int) -> list[float]:
        waiting = counting_users(PaceLimit(10_000), slack=0.03)
        return await granted(waiting, [40_000 // parts] * parts)

    assert run(main(4)) == pytest.approx([0.0, 1.03, 2.06, 3.09], abs=0.002)
    assert run(main(8))[-1] == pytest.approx(7 * 0.515, abs=0.003)


def test_a_costly_request_is_not_overtaken() -> None:
    """Small ones that would fit wait behind the large one that came first."""

    async def main() -> list[float]:
        return await granted(counting_users(WindowLimit(300, 1.0)), [200, 150, 1, 100, 250])

    assert run(main()) == pytest.approx([0.0, 1.0, 1.0, 1.0, 2.0], abs=0.001)


def test_a_budget_in_users_is_not_spaced() -> None:
    """Small requests are not held up as if each filled its place; only the limits count."""

    async def main() -> list[float]:
        waiting = counting_users(WindowLimit(100, 1.0))
        assert waiting.rate == 100.0
        return await granted(waiting, [10] * 10)

    assert run(main()) == [0.0] * 10


def test_a_success_teaches_what_it_cost() -> None:
    """A limit met by requests of 100 users is kept in users by requests of any size."""

    async def main() -> tuple[float, float]:
        waiting = counting_users(BucketLimit(3000, 1000))
        clock = asyncio.get_running_loop().time
        for _ in range(200):
            sent = await waiting.acquire(100)
            waiting.hear(OPEN, 0, accepted=True, sent=sent, cost=100)
            await asyncio.sleep(0.05)
        waiting.hear(ServerWord(True, None, None, None, None), 0, sent=clock())
        sent = await waiting.acquire(100)
        waiting.hear(OPEN, 0, accepted=True, sent=sent, cost=100)
        times = await granted(waiting, [400, 100, 400, 100])
        return waiting.rate, times[3] - times[1]

    rate, took = run(main())
    assert rate == pytest.approx(20_000 / 10.5, rel=0.01)
    assert took == pytest.approx(500 / rate, rel=0.01)


@pytest.mark.parametrize(
    ("limit", "cost", "named"),
    [
        (BucketLimit(80, 100), 101, "80/s with bursts of 100"),
        (PaceLimit(5000), 10_000, "5000/s without bursts"),
        (WindowLimit(5, 1.0), 6, "5/1s"),
    ],
)
def test_too_many_users_for_the_limit_are_an_error_in_users(
    limit: RateLimit, cost: int, named: str
) -> None:
    """The sentence counts users, names the limit and says what helps; nobody else is held up."""

    async def main() -> tuple[str, float]:
        waiting = counting_users(limit)
        with pytest.raises(ConfigError) as told:
            await waiting.acquire(cost)
        return str(told.value), await waiting.acquire(1)

    text, at = run(main())
    assert at == 0.0
    assert text == (
        f"a request holds {cost:g} users, more than the rate limit of {named} (in users) ever "
        "grants: raise the rate, or put fewer users into a request"
    )


def test_what_was_waited_for_grants_is_added_up() -> None:
    """What a worker tells of how much the budget slows it."""

    async def main() -> float:
        waiting = throttle("10/1s")
        for _ in range(20):
            await waiting.acquire()
        return waiting.waited - asyncio.get_running_loop().time()

    assert abs(run(main())) < 1e-6


@given(
    rate=st.sampled_from(["", "7/1s", "118/1s", "1000/1s", "3000/3s", "20/1m"]),
    steps=st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 20), st.floats(0, 0.2)), max_size=40
    ),
)
def test_several_are_granted_as_they_were_promised(
    rate: str, steps: list[tuple[int, int, float]]
) -> None:
    """What may go at once goes, and the limit holds whatever is asked for together."""

    async def main() -> list[float]:
        waiting, times = throttle(rate, vouched=True), list[float]()
        for most, flying, seconds in steps:
            count = waiting.several(most, flying)
            assert 0 <= count <= most
            if count:
                before = waiting.grants
                granted = await waiting.at_once(1, flying, count)
                assert granted is not None
                assert waiting.grants - before == waiting.granted - before == count
                times += [granted] * count
            await asyncio.sleep(seconds)
        return times

    times = run(main())
    for limit in parse_rate(rate) if rate else ():
        assert isinstance(limit, WindowLimit)
        for first, at in enumerate(times):
            assert bisect.bisect_left(times, at + limit.period) - first <= limit.amount
    if not rate:
        assert len(times) == sum(most for most, _, _ in steps)


def test_several_are_asked_for_one_by_one_where_each_counts() -> None:
    """What costs its users, while somebody waits, before a turn, at a pace, and after a 429."""

    async def main() -> None:
        assert counting_users(WindowLimit(100, 1.0)).several(3, 0) == 0
        waiting = throttle("2/1s")
        tasks = [asyncio.create_task(waiting.acquire()) for _ in range(2)]
        await asyncio.sleep(0)
        assert waiting.several(3, 0) == 0
        await asyncio.gather(*tasks)
        assert throttle("1000/1s").several(50, 0) == 0  # it is approached step by step
        even = throttle("1000/1s", vouched=True)
        burst = even.several(50, 0)
        assert 1 < burst < 50
        assert await even.at_once(1, 0, burst) is not None
        assert even.several(50, 0) == 0
        paced = Throttle(Budget((PaceLimit(10.0),)), clock=asyncio.get_running_loop().time)
        assert paced.several(3, 0) <= 1
        held = throttle()
        held.hear(HOLD, 0, sent=await held.acquire())
        assert held.several(3, 0) == 0

    run(main())
