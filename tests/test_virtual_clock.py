"""The virtual clock itself: it jumps, keeps order, waits for threads and notices a deadlock."""

from __future__ import annotations

import asyncio

import pytest

from tests.virtual_clock import Stuck, run


def test_an_hour_passes_at_once_and_in_order() -> None:
    """Sleepers wake in the order of their deadlines, at exactly their times."""

    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[str, float]] = []

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, loop.time()))

        await asyncio.gather(sleeper("late", 3600), sleeper("soon", 0.5), sleeper("next", 1))
        return seen

    assert run(main(), start=100.0) == [("soon", 100.5), ("next", 101.0), ("late", 3700.0)]


def test_time_stands_still_while_a_thread_works() -> None:
    """A thread's work costs no virtual time, even beside a timer that could fire."""

    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        timer = asyncio.ensure_future(asyncio.sleep(1))
        answer = await asyncio.to_thread(sum, [1, 2])
        at = loop.time()
        await timer
        return answer, at

    assert run(main()) == (3, 0.0)


def test_time_outs_are_virtual_too() -> None:
    """`asyncio.timeout` fires by the virtual clock."""

    async def main() -> None:
        async with asyncio.timeout(60):
            await asyncio.sleep(61)

    with pytest.raises(TimeoutError):
        run(main())


def test_a_deadlock_is_reported() -> None:
    """Waiting for what nobody will ever set raises instead of hanging."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        run(main())


def test_asking_again_too_early_is_no_busy_loop() -> None:
    """Whoever sleeps for less than the clock can tell apart still gets ahead."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        while loop.time() < 1000.0 + 1e-8:
            woken = asyncio.Event()
            loop.call_at(loop.time() + 1e-17, woken.set)
            await woken.wait()
        return loop.time()

    assert run(main(), start=1000.0) == pytest.approx(1000.0)
