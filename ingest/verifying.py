"""The driver that reads users back: group by group, within the budget, until what was sent shows.

Decides what is asked again: a request that got no good answer, a group that is too large for one,
and users that are not yet as they should be. What a profile proves is `ingest.proof`; how it is
asked for, `ingest.sinks.export`. Reading twice changes nothing, so every doubt is a second try.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from ingest.errors import DestinationDown, Halted
from ingest.outcomes import (
    Delivered,
    Outcome,
    Refused,
    Reply,
    Response,
    Throttled,
    TooLarge,
    Unauthorized,
    Unavailable,
    classify,
)
from ingest.proof import Expected, Verdict, compared
from ingest.proof.comparing import untold
from ingest.records import UserKey
from ingest.serverwords import server_word
from ingest.sinks.export import Profile, ReadBack, asking, profiles_of
from ingest.throttle import Throttle

WAITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before a request that failed is repeated: half a minute in all, then nobody is there."""

LOOKS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between looks at what does not show yet, the last one again and again."""

MOST_THROTTLED: Final = 20
"""How often in a row one request may meet a 429 before that is taken for a no."""

BAD_REQUEST: Final = 400
SPOILT: Final = "could not be read back"

Ask = Callable[[bytes], Awaitable[Reply]]
"""Sends a request whose body has these members."""


class Found(msgspec.Struct, frozen=True):
    """What was read: profiles by key, and the keys that no request could be made for."""

    profiles: dict[UserKey, list[Profile]]
    spoilt: frozenset[UserKey] = frozenset()


class Reader:
    """Reads users by their keys. `fields` are those of an export that are of interest."""

    def __init__(
        self,
        ask: Ask,
        reads: ReadBack,
        throttle: Throttle,
        fields: Sequence[str],
        *,
        secrets: Sequence[str] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        told: Callable[[int], None] = lambda _: None,
        noticed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._ask = ask
        self._reads = reads
        self._throttle = throttle
        self._fields = fields
        self._secrets = secrets
        self._sleep = sleep
        self._told = told
        self._noticed = noticed
        self.requests = 0
        self.throttled = 0

    async def read(self, keys: Iterable[UserKey]) -> Found:
        """Read users. Raises `Halted` for a refusal of all, `DestinationDown` if nobody answers."""
        profiles: dict[UserKey, list[Profile]] = {}
        spoilt: list[UserKey] = []
        todo = list(self._reads.groups(keys))[::-1]
        while todo:
            group = todo.pop()
            found = await self._group(group)
            if found is not None:
                profiles |= found
                self._told(len(group))
            elif len(group) > 1:
                half = len(group) // 2
                todo += (group[half:], group[:half])
            else:
                spoilt += group
                self._told(1)
        return Found(profiles, frozenset(spoilt))

    async def _group(self, keys: Sequence[UserKey]) -> dict[UserKey, list[Profile]] | None:
        """Read the users of one request; None if it should be a smaller one."""
        waits, throttled = iter(WAITS), 0
        while True:
            sent = await self._throttle.acquire()
            reply = await self._ask(asking(keys, self._fields))
            self.requests += 1
            outcome = self._outcome(reply, sent)
            match outcome:
                case Delivered() if isinstance(reply, Response):
                    if reply.truncated:
                        return None
                    if (found := profiles_of(keys, reply.body)) is not None:
                        return found
                    reason = "the destination answered, but not with users"
                case Throttled():
                    throttled += 1
                    self.throttled += 1
                    if throttled > MOST_THROTTLED:
                        raise DestinationDown(
                            f"the destination answered 429 to {throttled} requests in a row: its "
                            "limit is used up by others; try later, or with a lower --rate"
                        )
                    continue
                case Unauthorized(reason=reason):
                    raise Halted(reason)
                case TooLarge():
                    return None
                case Refused(status=status, reason=reason):
                    if status == BAD_REQUEST and len(keys) > 1:
                        return None
                    if status == BAD_REQUEST:
                        self._noticed(f"a user {SPOILT}: {reason}")
                        return None
                    raise Halted(reason)
                case _:
                    reason = getattr(outcome, "reason", "the destination did not answer")
            wait = next(waits, None)
            if wait is None:
                raise DestinationDown(f"{reason}; nothing was read for {sum(WAITS):.0f} s")
            self._noticed(f"{reason}; asking again in {wait:g} s")
            await self._sleep(wait)

    def _outcome(self, reply: Reply, sent: float) -> Outcome:
        if not isinstance(reply, Response):
            self._throttle.hear(None, 0, sent=sent)
            return Unavailable(None, reply.reason)
        good = 200 <= reply.status < 300
        self._throttle.hear(server_word(reply), 0, accepted=good, sent=sent)
        return classify(reply, secrets=self._secrets, hints=self._reads.hints)


async def verified(
    users: Mapping[UserKey, Expected],
    reader: Reader,
    *,
    until: float,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    again: Callable[[int, float], None] = lambda _users, _wait: None,
) -> list[Verdict]:
    """Read users, and those that differ again, until they do not or the clock says `until`.

    `again` is told how many users are looked at again, and in how many seconds. Returns the
    verdicts in the order of the users. Raises as `Reader.read` does.
    """
    verdicts: dict[UserKey, Verdict] = {}
    todo, looks, wait = list(users), iter(LOOKS), LOOKS[0]
    while todo:
        found = await reader.read(todo)
        for key in todo:
            if key in found.spoilt:
                verdicts[key] = untold(users[key], SPOILT)
            else:
                verdicts[key] = compared(users[key], found.profiles.get(key, []))
        todo = [key for key in todo if not verdicts[key].good]
        left = until - clock()
        if not todo or left <= 0:
            break
        wait = next(looks, wait)
        again(len(todo), min(wait, left))
        await sleep(min(wait, left))
    return [verdicts[key] for key in users]
