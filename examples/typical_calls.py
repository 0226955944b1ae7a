"""Calls as a service makes them, for type checkers to read: nothing here runs by itself.

`make types` holds the library to it: what stands here has to stay right for users' own code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ingest import (
    Alias,
    Answered,
    Attributes,
    BrazeSink,
    End,
    Event,
    Halted,
    InvalidRecord,
    MemorySink,
    Observer,
    Pipeline,
    Purchase,
    QueueFull,
    add,
    inc,
    remove,
    unset,
)


class Timed(Observer):
    """Metrics of one's own: what is not overridden is left alone."""

    def __init__(self) -> None:
        self.slowest = 0.0

    def answered(self, found: Answered) -> None:
        self.slowest = max(self.slowest, found.seconds)


def keep(letter: dict[str, Any]) -> None:
    """Take a record that will not be delivered."""
    print(letter["column"], letter["code"])


async def serve() -> Mapping[str, int]:
    """Put records of every kind, in every way."""
    async with Pipeline(
        BrazeSink.from_env(),
        limits="combined",
        share=0.2,
        linger="500ms",
        when_full="spool",
        spool="/var/lib/shop",
        if_unanswered={"event": "hold"},
        on_dead_letter=keep,
        observer=Timed(),
    ) as pipeline:
        await pipeline.put(Event(external_id="u1", name="rented_movie", properties={"title": "M"}))
        await pipeline.put(
            Attributes(
                user_alias=Alias("device-7", "device"),
                values={"visits": inc(1), "tags": add("a"), "cart": remove(7), "trial": unset},
                update_existing_only=False,
            ),
            timeout=0.2,
        )
        await pipeline.put_many(
            Event(external_id=user, name="x", time=datetime.now(UTC)) for user in ("a", "b")
        )
        bought = Purchase(external_id=7, product_id="p", currency="EUR", price=Decimal("9.50"))
        verdict: End = await pipeline.put_and_wait(bought)
        if verdict.column != "delivered":
            print(verdict.code, verdict.reason)
        await pipeline.flush()
    return pipeline.balance.columns()


def try_at_once(pipeline: Pipeline, record: Mapping[str, Any]) -> bool:
    """Put without waiting, and say whether it was taken."""
    try:
        pipeline.put_nowait(record)
    except (InvalidRecord, QueueFull, Halted) as error:
        print(error)
        return False
    return True


async def by_hand() -> None:
    """Start and end where no block fits."""
    pipeline = Pipeline(MemorySink(), drain_timeout=2.5)
    await pipeline.start()
    try_at_once(pipeline, {"event": {"external_id": "u", "name": "x", "time": "2026-11-22"}})
    await pipeline.aclose()


if __name__ == "__main__":
    asyncio.run(by_hand())
