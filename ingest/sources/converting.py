"""Lines of a block made into other lines, by the mapping or the function of a user.

Decides nothing: each line keeps its number, and one that becomes no record is an unfit row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from ingest.messages import Unreadable
from ingest.sources.base import Block, Unfit

AT_ONCE: Final = 100
"""Lines made before others get their turn: some milliseconds, with a function of the user's."""


async def converted(block: Block, line: Callable[[bytes], bytes]) -> Block:
    """Return a block of what `line` makes of each; blank ones, and marks, stay as they are."""
    made: list[bytes] = []
    unfit: list[Unfit] = []
    for number, text in zip(block.numbers(), block.lines(), strict=True):
        if len(made) % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        if not text or text.isspace():
            made.append(b"")
            continue
        try:
            made.append(line(text))
        except Unreadable as bad:
            made.append(b"")  # a blank line is nothing, and keeps the numbers of the others right
            unfit.append(Unfit(number, bad.code, bad.field, str(bad), text, bad.summary))
    if not made:
        return block
    data = b"".join(one + b"\n" for one in made)
    rows = sorted((*block.unfit, *unfit), key=lambda row: row.line)
    return msgspec.structs.replace(block, data=data, unfit=tuple(rows), next_line=block.following)
