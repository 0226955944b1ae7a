"""The driver that reads users back: what it asks again, what it splits, and when it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from ingest.codec import dumps, loads
from ingest.errors import DestinationDown, Halted
from ingest.limits import Budget
from ingest.outcomes import Lost, Reply, Response, Unsent
from ingest.proof import Expected, Window
from ingest.records import ATTRIBUTES, UserKey
from ingest.sinks.braze import READS
from ingest.throttle import Throttle
from ingest.verifying import LOOKS, MOST_THROTTLED, SPOILT, WAITS, Reader, verified
from tests.virtual_clock import run

Profiles = dict[str, dict[str, Any]]
KEY = "the-key"


def answer(status: int, body: Any, *, truncated: bool = False) -> Response:
    """An answer of the destination."""
    return Response(status, {}, dumps(body), 0.0, truncated)


def users_of(profiles: Profiles, asked: list[str]) -> Response:
    """The answer of a destination that knows these users."""
    return answer(201, {"users": [profiles[key] for key in asked if key in profiles]})


class Far:
    """A destination: `replies` come first, one for each request, then what `profiles` say."""

    def __init__(self, profiles: Profiles, replies: Iterable[Reply] = ()) -> None:
        self.profiles = profiles
        self.replies = list(replies)
        self.asked: list[list[str]] = []
        self.slept: list[float] = []
        self.noticed: list[str] = []
        self.done = 0

    async def ask(self, members: bytes) -> Reply:
        """Answer a request."""
        self.asked.append(loads(b"{" + members + b"}")["external_ids"])
        return self.replies.pop(0) if self.replies else users_of(self.profiles, self.asked[-1])

    async def sleep(self, seconds: float) -> None:
        """Let no time pass."""
        self.slept.append(seconds)

    def count(self, users: int) -> None:
        """Count what is said to be done."""
        self.done += users

    def reader(self, ask: Callable[[bytes], Any] | None = None) -> Reader:
        """A reader of this destination."""
        return Reader(
            ask or self.ask,
            READS,
            Throttle(Budget(()), clock=asyncio.get_running_loop().time, jitter=lambda: 0.0),
            ["plan"],
            secrets=(KEY,),
            sleep=self.sleep,
            told=self.count,
            noticed=self.noticed.append,
        )


def known(*keys: str) -> Profiles:
    """Profiles of these users."""
    return {key: {"external_id": key, "custom_attributes": {"plan": key}} for key in keys}


def expected(*keys: str) -> dict[UserKey, Expected]:
    """Users whose plan is their name."""
    users: dict[UserKey, Expected] = {key: Expected(key) for key in keys}
    for key, user in users.items():
        user.add(ATTRIBUTES, {"plan": key}, Window(0.0, 0.0))
    return users


@pytest.mark.asyncio
async def test_users_are_read_in_groups() -> None:
    """As many as share a request, in their order."""
    keys = [f"u{number}" for number in range(120)]
    far = Far(known(*keys))
    found = await far.reader().read(keys)
    assert [len(asked) for asked in far.asked] == [50, 50, 20]
    assert found.profiles == {key: [far.profiles[key]] for key in keys}
    assert far.done == 120


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply",
    [
        Unsent("no connection"),
        Lost("no answer"),
        answer(503, {}),
        answer(504, {}),
        answer(202, {"message": "queued"}),
    ],
)
async def test_what_brought_nothing_is_asked_again(reply: Reply) -> None:
    """Reading twice changes nothing; each time the wait is longer, and is said."""
    far = Far(known("u"), [reply, reply])
    assert (await far.reader().read(["u"])).profiles
    assert far.slept == list(WAITS[:2])
    assert len(far.noticed) == 2


@pytest.mark.asyncio
async def test_nobody_there_ends_it() -> None:
    """With the exit status of a destination that is down."""
    far = Far({}, [Unsent("nowhere cannot be reached")] * (len(WAITS) + 1))
    with pytest.raises(DestinationDown, match="nowhere cannot be reached; nothing was read"):
        await far.reader().read(["u"])
    assert far.slept == list(WAITS)


def test_a_429_is_waited_out() -> None:
    """The budget holds what comes next; nothing is lost."""

    async def play() -> None:
        reader = Far(known("u"), [answer(429, {})]).reader()
        assert (await reader.read(["u"])).profiles
        assert (reader.requests, reader.throttled) == (2, 1)

    run(play())


def test_a_limit_that_others_use_up_ends_it() -> None:
    """Not at once, and not never."""

    async def play() -> None:
        await Far(known("u"), [answer(429, {})] * (MOST_THROTTLED + 1)).reader().read(["u"])

    with pytest.raises(DestinationDown, match="lower --rate"):
        run(play())


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_of_all_halts(status: int) -> None:
    """At once, with a hint, and without the key."""
    far = Far({}, [answer(status, {"message": f"no, {KEY}"})])
    with pytest.raises(Halted) as raised:
        await far.reader().read(["u"])
    assert KEY not in str(raised.value)
    assert len(far.asked) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply",
    [answer(413, {}), answer(400, {"message": "bad"}), answer(201, {"users": []}, truncated=True)],
)
async def test_a_group_that_is_too_much_is_split(reply: Reply) -> None:
    """In order, until it fits."""
    far = Far(known("u", "v", "w"), [reply])
    found = await far.reader().read(["u", "v", "w"])
    assert far.asked == [["u", "v", "w"], ["u"], ["v", "w"]]
    assert found.profiles.keys() == {"u", "v", "w"}


@pytest.mark.asyncio
async def test_a_user_who_cannot_be_read_is_told_apart() -> None:
    """The others of the group are read, and nothing is said of that one."""
    far = Far(known("u", "bad"))

    async def ask(members: bytes) -> Reply:
        reply = await far.ask(members)
        return answer(400, {"message": "bad"}) if "bad" in far.asked[-1] else reply

    verdicts = await verified(expected("u", "bad"), far.reader(ask), until=0.0, clock=lambda: 1.0)
    assert [verdict.fields for verdict in verdicts] == [
        (("plan", "there", ""),),
        (("plan", "untold", SPOILT),),
    ]
    assert far.noticed == ["a user could not be read back: the destination answered 400: bad"]


@pytest.mark.asyncio
async def test_what_does_not_show_yet_is_looked_at_again() -> None:
    """Those users alone, later and later, until they are as they should be."""
    far = Far(known("u"))
    now = [0.0]
    again: list[tuple[int, float]] = []

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] >= LOOKS[0] + LOOKS[1]:
            far.profiles |= known("v")

    verdicts = await verified(
        expected("u", "v"),
        far.reader(),
        until=31.0,
        clock=lambda: now[0],
        sleep=sleep,
        again=lambda users, wait: again.append((users, wait)),
    )
    assert all(verdict.good for verdict in verdicts)
    assert far.asked == [["u", "v"], ["v"], ["v"]]
    assert again == [(1, LOOKS[0]), (1, LOOKS[1])]


@pytest.mark.asyncio
async def test_patience_has_an_end() -> None:
    """The last look is when it is over, and not later."""
    far = Far({})
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    (verdict,) = await verified(
        expected("u"), far.reader(), until=40.0, clock=lambda: now[0], sleep=sleep
    )
    assert not verdict.good
    assert now[0] == 40.0
    assert len(far.asked) == 7
