"""A source in a thread: in order, a bounded way ahead, and never a reason to hang."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from ingest.errors import InputError
from ingest.sources.base import Block
from ingest.sources.threaded import AHEAD, threaded

LIMIT = 10.0
"""Seconds after which a test that hangs fails; none should take a tenth of one."""


def block(number: int) -> Block:
    """A block that can be told from others."""
    return Block(0, b"x\n", number, number)


class Watched:
    """A source of `count` blocks that then raises `error`, and tells how far it was read."""

    total_bytes: int | None = None

    def __init__(self, count: int, error: BaseException | None = None) -> None:
        self._count = count
        self._error = error
        self.asked = 0
        self.reached: dict[int, threading.Event] = {}
        self.thread: threading.Thread | None = None
        self.ended = threading.Event()

    def name(self, part: int) -> str:
        """It has none."""
        return ""

    def at(self, number: int) -> threading.Event:
        """Return what is set when block `number` is asked for."""
        return self.reached.setdefault(number, threading.Event())

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks."""
        self.thread = threading.current_thread()
        try:
            for number in range(self._count):
                self.asked = number + 1
                self.at(number + 1).set()
                yield block(number)
            if self._error is not None:
                raise self._error
        finally:
            self.ended.set()


def gone(source: Watched) -> bool:
    """Wait for the thread of a source, and tell whether it ended."""
    assert source.thread is not None
    source.thread.join(LIMIT)
    return not source.thread.is_alive()


def test_all_blocks_arrive_in_order() -> None:
    """Many more than are read ahead, from a thread that keeps no process alive."""

    async def main() -> None:
        source = Watched(20 * AHEAD)
        async with asyncio.timeout(LIMIT):
            assert [b async for b in threaded(source)] == [block(n) for n in range(20 * AHEAD)]
        assert source.thread is not None
        assert source.thread.daemon
        assert source.thread is not threading.main_thread()
        assert gone(source)

    asyncio.run(main())


@pytest.mark.parametrize("error", [InputError("gone"), ValueError("odd"), KeyboardInterrupt()])
def test_an_error_comes_after_the_blocks_before_it(error: BaseException) -> None:
    """Whatever it is, the reader of the blocks gets it, and what came before is good."""

    async def main() -> None:
        source = Watched(AHEAD + 2, error)
        blocks = threaded(source)
        for number in range(AHEAD + 2):
            assert await anext(blocks) == block(number)
        with pytest.raises(type(error)) as caught:
            await anext(blocks)
        assert caught.value is error
        assert gone(source)

    asyncio.run(main())


@pytest.mark.parametrize("ahead", [1, 3])
def test_the_thread_reads_a_bounded_way_ahead(ahead: int) -> None:
    """At most `ahead` blocks wait, and one more is in its hands."""

    async def main() -> None:
        source = Watched(100)
        blocks = threaded(source, ahead=ahead)
        assert await anext(blocks) == block(0)
        # One block was handed on: its place is free, and one is read before a place is needed.
        assert await asyncio.to_thread(source.at(ahead + 2).wait, LIMIT)
        for _ in range(10):
            await asyncio.sleep(0)
        assert source.asked == ahead + 2
        await blocks.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert gone(source)

    asyncio.run(main())


def test_closing_early_stops_the_thread() -> None:
    """The source is closed too, also where the thread waited for room."""

    async def main() -> None:
        source = Watched(1_000)
        blocks = threaded(source)
        await anext(blocks)
        await asyncio.to_thread(source.at(AHEAD + 2).wait, LIMIT)
        await blocks.aclose()  # type: ignore[attr-defined]  # it is a generator
        assert gone(source)
        assert source.ended.is_set()
        assert source.asked < 2 * AHEAD + 2

    asyncio.run(main())


def test_cancelling_the_reader_stops_the_thread() -> None:
    """A reader that waits for a block that does not come can be cancelled."""
    let_go = threading.Event()

    class Stuck(Watched):
        def blocks(self) -> Iterator[Block]:
            self.thread = threading.current_thread()
            self.at(1).set()
            let_go.wait(LIMIT)
            yield block(0)

    async def main() -> None:
        source = Stuck(0)

        async def read() -> None:
            async for _ in threaded(source):
                raise AssertionError("no block was to come")

        task = asyncio.create_task(read())
        await asyncio.to_thread(source.at(1).wait, LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        let_go.set()
        assert gone(source)

    asyncio.run(main())


def test_a_loop_that_is_gone_stops_the_thread() -> None:
    """Nobody asks any more: the next block finds no loop, and the thread ends."""
    let_go = threading.Event()

    class Slow(Watched):
        def blocks(self) -> Iterator[Block]:
            for b in super().blocks():
                yield b
                assert let_go.wait(LIMIT)

    source = Slow(1_000)
    loop = asyncio.new_event_loop()
    blocks = threaded(source, ahead=1)
    assert loop.run_until_complete(_next(blocks)) == block(0)
    loop.close()
    let_go.set()
    assert gone(source)
    assert source.asked <= 3
    with contextlib.suppress(StopIteration):
        blocks.aclose().send(None)  # type: ignore[attr-defined]  # by hand: it has no loop


async def _next(blocks: AsyncIterator[Block]) -> Block:
    return await anext(blocks)
