"""The waiting driver on a virtual clock: order, cancellation, early waking, spacing."""

from __future__ import annotations

import asyncio
import bisect
import itertools

import pytest

from ingest.errors import ConfigError
from ingest.limits import Budget, WindowLimit, parse_rate
from ingest.outcomes import ServerWord
from ingest.throttle import Throttle
from tests.virtual_clock import run

HOLD = ServerWord(True, 10.0, None, None, None)
OPEN = ServerWord(False, None, None, None, None)


def throttle(rate: str = "") -> Throttle:
    """Return a throttle by the running loop's clock, without luck."""
    budget = Budget(parse_rate(rate) if rate else ())
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
        assert waiting.waits_for() == "the destination, which asked for 10 s"
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
