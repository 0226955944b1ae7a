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


def table(count: int) -> Iterator[bytes]:
    """Yield the lines of a user table of nine columns as CSV, 100 bytes each, a header first."""
    yield b"external_id,first_name,last_name,email,country,plan,visits,score,newsletter\n"
    for number in range(count):
        person = f"user-{number:08d},Ann,Example,user{number}@example.com,DE,pro"
        yield f"{person},{number % 1_000},{number % 97 / 7:.4f},{number % 3 == 0}\n".encode()


CORPORA = {"flat": flat, "mixed": mixed}


def written(name: str, count: int, folder: Path) -> Path:
    """Write a corpus, or the table, to a file and return its path."""
    lines, form = (table, "csv") if name == "table" else (CORPORA[name], "ndjson")
    path = folder / f"{name}-{count}.{form}"
    with path.open("wb") as file:
        file.writelines(lines(count))
    return path
