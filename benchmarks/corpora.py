"""Seeded records to measure with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ingest.codec import dumps
from ingest.samples import samples


def flat(count: int) -> Iterator[bytes]:
    """Yield attributes lines as a user table exports them: eight plain columns, 200 bytes."""
    for number in range(count):
        record = {
            "external_id": f"user-{number:08d}",
            "first_name": "Ann",
            "last_name": "Example",
            "email": f"user{number}@example.com",
            "country": "DE",
            "plan": "pro",
            "visits": number % 1_000,
            "score": number % 97 / 7,
        }
        yield dumps({"attributes": record}) + b"\n"


def mixed(count: int) -> Iterator[bytes]:
    """Yield the lines of `ingest sample`: a third of each kind, some nested, some unicode."""
    yield from samples(count)


CORPORA = {"flat": flat, "mixed": mixed}


def written(name: str, count: int, folder: Path) -> Path:
    """Write a corpus to a file and return its path."""
    path = folder / f"{name}.ndjson"
    with path.open("wb") as file:
        file.writelines(CORPORA[name](count))
    return path
