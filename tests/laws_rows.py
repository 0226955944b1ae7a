"""Every row of the registry, and what a play of one is made of: lines, small caps, habits.

Lines come from the row's own example, so that a new row is played by being in the registry. This
module knows no destination; it knows that a row of all three kinds takes the objects of
users/track, and gives each of those a mark that is found again in a body.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec
from hypothesis import strategies as st

from ingest.codec import dumps
from ingest.forms import Found
from ingest.profiles import Caps
from ingest.records import EMPTY_COLUMN, KINDS, Batch, Column, UserKey
from ingest.schemas import Encoded
from ingest.sinks.base import Choice, Destination, Endpoint, Wire
from ingest.sinks.registry import DESTINATIONS
from ingest.validation import Problem

NOW: Final = 1_800_000_000.0
"""The time of day at which every play begins, in epoch seconds: January 2027."""

JUST_NOW: Final = "2027-01-15T07:50:00Z"
"""Ten minutes before that: a time that no destination finds too old."""

MOST: Final = 12
"""Records in one request under the largest of the small caps: few records, many requests."""

MOST_OF_USERS: Final = 60
"""The same where a request is counted in users, of whom there are three then."""

_USER: Final = re.compile(rb"(?<![a-z0-9])u1(?![a-z0-9])")
MARK: Final = re.compile(rb'"m(\d+)"')

Dislike = Literal["indexed", "invalid", "gone", "pieces", "refused", "broken"]
"""What is said to a request with a poisoned record: a success with an index, a refusal with an
index, an index that a second copy earns as well, a piece refused; 400 and 500 without an index."""


class Row(msgspec.Struct, frozen=True):
    """An endpoint of a destination, as the registry has it."""

    destination: Destination
    endpoint: Endpoint

    def __str__(self) -> str:
        return f"{self.destination.name} {self.endpoint.name}"

    def wire(self) -> Wire:
        """Return its wire, opened as for a sandbox, and without a connection."""
        environ = self.destination.sandboxed("http://127.0.0.1:9", "a-key-of-nobody")
        return self.destination.open(environ, Choice(endpoint=self.endpoint.name)).wire


def rows_of(destinations: Iterable[Destination]) -> list[Row]:
    """Return every row of some destinations, those of `ingest send` too."""
    return [
        Row(destination, endpoint)
        for destination in destinations
        for endpoint in {**destination.endpoints, **destination.sends}.values()
    ]


EVERY_ROW: Final = rows_of(DESTINATIONS.values())


class Habits(msgspec.Struct, frozen=True):
    """What the far end does: shares of its answers, the most records it takes, what it dislikes."""

    throttled: float = 0.0
    unavailable: float = 0.0
    unsent: float = 0.0
    lost: float = 0.0
    takes: int = 1_000
    dislikes: Dislike = "indexed"


class Plan(msgspec.Struct, frozen=True):
    """A play: lines and who may be poisoned among them (1-based line numbers), caps, habits."""

    lines: tuple[bytes, ...]
    caps: tuple[Caps, ...]
    habits: Habits
    poisoned: frozenset[int] = frozenset()
    hold: bool = False
    in_flight: int = 4
    seed: int = 0


class Known(msgspec.Struct, frozen=True):
    """What the row's schema makes of a line by itself."""

    key: UserKey
    encoded: Encoded


# --- lines and caps -----------------------------------------------------------------------------

BROKEN: Final = (b'{"broken', b"[1, 2]", b'{"nothing":{}}', b"{}", b"\xff\xfe", b" ")
"""Lines that hold no record of any row; the last one is blank, and not even a record."""

FORMS: Final[Mapping[str, Sequence[str]]] = {
    "delete": ('{"braze_id": "u1"}', '{"user_alias": {"alias_name": "u1", "alias_label": "crm"}}'),
    "identify": (
        '{"external_id": "u1", "email": "a@example.com", "prioritization": ["unidentified"]}',
        '{"external_id": "u1", "user_alias": {"alias_name": "a1", "alias_label": "crm"}}',
    ),
    "push-remove": ('{"app_id": "app1", "token": "token-of-u1"}',),
    "email-status": ('{"email": "u1@example.com", "subscription_state": "opted_in"}',),
    "trigger-send": (
        '{"campaign_id": "c2", "external_user_id": "u1"}',
        '{"campaign_id": "c1", "email": "u1@example.com", "prioritization": ["identified"]}',
    ),
}
"""More forms of a record than a row's example shows, of rows whose records have several; a row that
is not here is played by its example alone."""


def line_of(endpoint: Endpoint, form: int, user: str, number: int) -> bytes:
    """Return a line for a user: where a row takes all kinds, one that no other line equals."""
    if not set(KINDS) <= set(endpoint.kinds):
        forms = (endpoint.example, *FORMS.get(endpoint.name, ()))
        return _USER.sub(user.encode(), forms[form % len(forms)].encode())
    mark = {f"m{number}": True}
    if form % 2 == 0:
        operator = ({}, {"visits": {"inc": 1}}, {"tags": {"add": ["a"]}})[form // 2 % 3]
        return dumps({"attributes": {"external_id": user, **mark, **operator}})
    if form % 4 == 1:
        row = {"external_id": user, "name": "opened", "time": JUST_NOW, "properties": mark}
        return dumps({"event": row})
    bought = {"product_id": "a1", "currency": "EUR", "price": 9.5, "time": JUST_NOW}
    return dumps({"purchase": {"external_id": user, **bought, "properties": mark}})


def lines_of(endpoint: Endpoint, count: int, users: int, seed: int) -> tuple[bytes, ...]:
    """Return lines of random forms and users: long names, plain names and broken lines among them.

    A plain name is a record of some rows, and a broken line to the others.
    """
    dice = random.Random(seed)
    lines = []
    for number in range(1, count + 1):
        at = dice.randrange(users)
        user = f"user{at:04d}" + ("x" * 30 if at % 5 == 0 else "")
        luck = dice.random()
        if luck < 0.1:
            lines.append(dice.choice((*BROKEN, user.encode())))
        else:
            lines.append(line_of(endpoint, dice.randrange(12), user, number))
    return tuple(lines)


def small(steps: Sequence[Caps]) -> tuple[Caps, ...]:
    """Scale the caps of an endpoint down so that few records make many requests.

    Where users are what is counted, a request still holds many records of each.
    """
    most = steps[0].total
    scale = MOST if steps[0].users is None else MOST_OF_USERS

    def less(count: int) -> int:
        return max(2, count * scale // most)

    return tuple(
        msgspec.structs.replace(
            step,
            per_slot=tuple(map(less, step.per_slot)),
            total=less(step.total),
            per_user=step.per_user and min(step.per_user, 2),
            users=step.users and 3,
        )
        for step in steps
    )


def tight(
    steps: Sequence[Caps], wire: Wire, lines: Sequence[bytes], share: float
) -> tuple[Caps, ...]:
    """Cut the bytes of a body to what just holds one record, of the given rank in size.

    With `share` 1 that is the largest of them; those above the rank can never fit.
    """
    known = map(wire_knows(wire), lines)
    sizes = sorted(
        len(one.encoded.fragment) + len(one.encoded.partition.members) for one in known if one
    )
    largest = sizes[int(share * (len(sizes) - 1))] if sizes else 100
    most = wire.overhead + 1 + largest
    return tuple(msgspec.structs.replace(step, body_bytes=most) for step in steps)


def wire_knows(wire: Wire) -> Callable[[bytes], Known | None]:
    """Return a function that says what a wire's schema makes of a line; None for no record."""
    schema = wire.schema

    def known(line: bytes) -> Known | None:
        if not line.strip():
            return None
        (found,) = schema.read(line, None)
        if not isinstance(found, Found):
            return None
        key, problems = schema.examine(found.kind, found.record, NOW, validate=True)
        if isinstance(key, Problem) or any(one.grade == "error" for one in problems):
            return None
        return Known(key, schema.encode(found, found.record))

    return known


# --- plays --------------------------------------------------------------------------------------

shares = st.sampled_from([0.0, 0.0, 0.1, 0.3])
dislikes = st.sampled_from(["indexed", "invalid", "gone", "pieces", "refused", "broken"])
habits_of = st.builds(
    Habits,
    throttled=shares,
    unavailable=st.sampled_from([0.0, 0.0, 0.1, 0.2]),
    unsent=st.sampled_from([0.0, 0.0, 0.1]),
    lost=shares,
    dislikes=dislikes,
)


@st.composite
def plans_of(draw: st.DrawFn, wire: Wire) -> Plan:
    """Generate a play of a row: few records for its caps, or many, of few users or of many."""
    seed = draw(st.integers(0, 2**32))
    count = draw(st.sampled_from([3, 12, 40, 80]))
    users = draw(st.sampled_from([3, 12, 100]))
    lines = lines_of(wire.endpoint, count, users, seed)
    caps = small(wire.endpoint.caps)
    share = draw(st.sampled_from([None, None, 1.0, 0.5]))
    if share is not None:
        caps = tight(caps, wire, lines, share)
    habits = draw(habits_of)
    if habits.dislikes == "broken":
        # A 500 tells nothing by itself: what is bad is found out while nothing else goes wrong.
        habits = Habits(dislikes="broken")
    takes = draw(st.sampled_from([step.total for step in caps]))
    poisoned = st.frozensets(st.integers(1, count), max_size=3)
    return Plan(
        lines=lines,
        caps=caps,
        habits=msgspec.structs.replace(habits, takes=takes),
        poisoned=draw(poisoned),
        hold=draw(st.booleans()),
        in_flight=draw(st.integers(1, 6)),
        seed=seed,
    )


def batch_for(wire: Wire) -> Batch:
    """Return a batch of three users by hand, of the row's own example."""
    example = wire.endpoint.example
    known = [wire_knows(wire)(_USER.sub(user, example.encode())) for user in (b"a", b"b", b"c")]
    columns = [EMPTY_COLUMN] * len(wire.endpoint.slots)
    found = [one for one in known if one is not None]
    assert len(found) == len(known)
    columns[found[0].encoded.slot] = Column.of(
        [one.encoded.fragment for one in found],
        [one.key for one in found],
        range(len(found)),
        range(1, len(found) + 1),
    )
    return Batch(1, 1, tuple(columns), partition=found[0].encoded.partition)
