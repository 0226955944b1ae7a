"""Seeded records to measure with: the same bytes for the same name and count, made quickly.

A corpus is a table whose rows differ in their user and repeat in the rest of their columns, after
a prime number of them; so a line is two joins, and a million of them are made in a second. What
can be told of a destination by that is nothing: it looks at none of them.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.codec import dumps
from ingest.samples import samples

SEED = 6
TAILS = 997
"""Different rows but for their user: a prime, so that they fall differently into the requests."""

FEW_USERS = 1_000
TEXT_CHARS = 250
"""Characters of a long text: the destination cuts what is longer than 255 bytes."""

AT_ONCE = 10_000
"""Lines that are written at once."""

PLANS = ("free", "pro", "team", "enterprise")
COUNTRIES = ("DE", "FR", "US", "GB", "JP", "BR")
FIRST = ("Ann", "Bo", "Carla", "Dmitri", "Élodie", "Fatima", "Grace", "Hiroshi")
WORDS = ("offer", "spring", "visit", "store", "member", "later", "price", "northern", "blue", "ten")

Row = dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """A kind of records: `row` are the columns beside the user of whom `users` are told apart.

    Without `users` every record is of a user of its own.
    """

    says: str
    row: Callable[[random.Random], Row]
    users: int | None = None

    def ids(self, count: int) -> Iterator[int]:
        """Yield the numbers of the users of the records."""
        if self.users is None:
            yield from range(count)
            return
        dice = random.Random(SEED)
        order = dice.choices(range(self.users), k=AT_ONCE)
        for start in range(0, count, AT_ONCE):
            yield from order[: count - start]

    def rows(self) -> list[Row]:
        """Return the rows that repeat, without their users."""
        dice = random.Random(SEED)
        return [self.row(dice) for _ in range(TAILS)]

    def ndjson(self, count: int) -> Iterator[bytes]:
        """Yield lines of {"attributes": {...}}."""
        tails = [b'",' + dumps(row)[1:] + b"}\n" for row in self.rows()]
        for number, user in enumerate(self.ids(count)):
            yield b'{"attributes":{"external_id":"user-%08d%b' % (user, tails[number % TAILS])

    def csv(self, count: int) -> Iterator[bytes]:
        """Yield the lines of a table, its header first."""
        rows = self.rows()
        yield _line(["external_id", *rows[0]])
        tails = [b"," + _line([*row.values()]) for row in rows]
        for number, user in enumerate(self.ids(count)):
            yield b"user-%08d%b" % (user, tails[number % TAILS])


def _line(cells: list[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _text(dice: random.Random, words: int) -> str:
    return " ".join(dice.choices(WORDS, k=words))


def _small(dice: random.Random) -> Row:
    return {"plan": dice.choice(PLANS)}


def _typical(dice: random.Random) -> Row:
    first, number = dice.choice(FIRST), dice.randrange(1_000_000)
    return {
        "first_name": first,
        "last_name": "Example",
        "email": f"person{number}@example.com",
        "country": dice.choice(COUNTRIES),
        "plan": dice.choice(PLANS),
        "visits": dice.randrange(1_000),
        "score": round(dice.random() * 14, 4),
        "newsletter": dice.random() < 0.5,
    }


def _fat(dice: random.Random) -> Row:
    texts = {f"text_{at}": _text(dice, 50)[:TEXT_CHARS] for at in range(10)}
    return _typical(dice) | texts


def _columns(dice: random.Random) -> Row:
    numbers = {f"count_{at}": dice.randrange(10_000) for at in range(40)}
    flags = {f"flag_{at}": dice.random() < 0.5 for at in range(20)}
    words = {f"word_{at}": dice.choice(WORDS) for at in range(31)}
    return _typical(dice) | numbers | flags | words


def _event(dice: random.Random) -> Row:
    properties = {"page": _text(dice, 4), "visits": dice.randrange(1_000), "new": False}
    return {"name": dice.choice(WORDS), "time": _time(dice), "properties": properties}


def _purchase(dice: random.Random) -> Row:
    return {
        "product_id": f"product-{dice.randrange(10_000)}",
        "currency": "EUR",
        "price": round(dice.random() * 100, 2),
        "time": _time(dice),
        "properties": {"shop": _text(dice, 3), "colour": dice.choice(WORDS)},
    }


def _time(dice: random.Random) -> str:
    return f"2024-{dice.randrange(1, 13):02d}-{dice.randrange(1, 29):02d}T12:00:00Z"


CORPORA: Mapping[str, Corpus] = {
    "small": Corpus("a user and one attribute, 60 bytes", _small),
    "typical": Corpus("a user table of nine plain columns, 210 bytes", _typical),
    "fat": Corpus("the same and ten long texts, 2.9 kB", _fat),
    "columns": Corpus("a hundred short columns, 1.8 kB", _columns),
    "few": Corpus(f"as typical, but of {FEW_USERS:,} users in a seeded order", _typical, FEW_USERS),
}


def kinds(count: int) -> Iterator[bytes]:
    """Yield attributes, events and purchases in turn, each of a user of its own, 210 bytes each.

    A request holds 75 of each kind, so only these can be 225 a request.
    """
    dice = random.Random(SEED)
    attributes = [(b"attributes", dumps(_typical(dice))[1:]) for _ in range(TAILS)]
    events = [(b"event", dumps(_event(dice))[1:]) for _ in range(TAILS)]
    purchases = [(b"purchase", dumps(_purchase(dice))[1:]) for _ in range(TAILS)]
    turns = (attributes, events, purchases)
    for number in range(count):
        kind, tail = turns[number % len(turns)][number % TAILS]
        yield b'{"%b":{"external_id":"user-%08d",%b}\n' % (kind, number, tail)


def lines_of(name: str, count: int, form: str = "ndjson") -> Iterator[bytes]:
    """Yield the lines of a corpus, of `kinds`, or of `mixed`: what `ingest sample` prints."""
    if name == "mixed":
        return samples(count)
    if name == "kinds":
        return kinds(count)
    corpus = CORPORA[name]
    return corpus.csv(count) if form == "csv" else corpus.ndjson(count)


def of_users(users: int) -> Corpus:
    """Return typical records of a number of users."""
    return Corpus(f"as typical, of {users:,} users", _typical, users)


def saved(path: Path, lines: Iterator[bytes]) -> Path:
    """Write lines to a file that is not there yet; return its path."""
    if not path.exists():
        with path.open("wb") as file:
            while some := b"".join(islice(lines, AT_ONCE)):
                file.write(some)
    return path


def written(name: str, count: int, folder: Path, form: str = "ndjson") -> Path:
    """Write a corpus to a file, unless that was done before; return its path."""
    return saved(folder / f"{name}-{count}.{form}", lines_of(name, count, form))
