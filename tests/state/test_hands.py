"""What a thread is handed gets done in order, and whoever asked hears how it ended."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ingest.state.hands import Hands

PATIENCE = 20.0
"""Seconds after which something that should have happened is called missing."""


@pytest.mark.asyncio
async def test_work_is_done_in_order_by_one_thread() -> None:
    """In the order in which it was handed over, and not in the thread of the loop."""
    hands = Hands(asyncio.get_running_loop(), "hands")
    seen: list[tuple[int, str]] = []
    for number in range(50):
        hands.do(
            lambda number=number: seen.append((number, threading.current_thread().name)),  # type: ignore[misc]  # bound now
            lambda error: None,
        )
    await hands.done(lambda: None)
    assert seen == [(number, "hands") for number in range(50)]
    hands.stop()


@pytest.mark.asyncio
async def test_the_loop_hears_how_work_ended() -> None:
    """What it raised, whatever that is, or nothing; and the next work is done all the same."""
    hands = Hands(asyncio.get_running_loop(), "hands")
    heard: list[BaseException | None] = []
    error = KeyboardInterrupt("even that")

    def fail() -> None:
        raise error

    hands.do(fail, heard.append)
    hands.do(lambda: None, heard.append)
    with pytest.raises(KeyboardInterrupt, match="even that"):
        await hands.done(fail)
    assert heard == [error, None]
    hands.stop()


@pytest.mark.asyncio
async def test_whoever_stops_waiting_stops_no_work() -> None:
    """It is done, and the thread goes on."""
    hands = Hands(asyncio.get_running_loop(), "hands")
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(PATIENCE)
        done.set()

    waiting = asyncio.create_task(hands.done(work))
    await asyncio.sleep(0)
    waiting.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await hands.done(lambda: None)
    assert done.is_set()
    hands.stop()


def test_a_loop_that_is_gone_is_told_nothing() -> None:
    """Work that outlives its loop is done, and nothing is raised anywhere."""
    loop = asyncio.new_event_loop()
    hands = Hands(loop, "hands")
    go, done = threading.Event(), list[bool]()
    hands.do(lambda: done.append(go.wait(PATIENCE)), lambda error: None)
    loop.close()
    go.set()
    hands.stop()
    assert done == [True]
