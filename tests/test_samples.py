"""Samples are valid, varied, each its own, and the same for the same arguments."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.records import KINDS
from ingest.samples import RECORDS_PER_USER, samples
from ingest.validation import check

MANY = 20_000


def read(lines: list[bytes]) -> list[tuple[str, dict[str, Any]]]:
    """Read enveloped lines as (kind, object)."""
    read: list[tuple[str, dict[str, Any]]] = []
    for line in lines:
        [(kind, record)] = json.loads(line).items()
        read.append((kind, record))
    return read


def who(record: dict[str, Any]) -> str:
    """Say by what a record's user is known."""
    return next(name for name in ("external_id", "user_alias", "email") if name in record)


def number(kind: str, record: dict[str, Any]) -> int:
    """Return the number that a sample carries."""
    found: int = (record if kind == "attributes" else record["properties"])["sample"]
    return found


RECORDS = read(list(samples(MANY)))


def test_every_sample_is_taken_without_a_warning() -> None:
    """The documented rules find nothing in them."""
    assert [problem for kind, record in RECORDS for problem in check(kind, record)] == []


def test_every_sample_carries_its_number() -> None:
    """Copies can be counted: the numbers run from zero, each once, in order."""
    assert [number(kind, record) for kind, record in RECORDS] == list(range(MANY))


def test_kinds_are_about_even() -> None:
    """A third each, within a twentieth."""
    counts = Counter(kind for kind, _ in RECORDS)
    assert set(counts) == set(KINDS)
    assert all(abs(count - MANY / 3) < MANY / 60 for count in counts.values())


def test_some_users_are_known_otherwise() -> None:
    """About 3 % by an alias, created if need be, and 1 % by their e-mail alone."""
    shares = Counter(who(record) for _, record in RECORDS)
    assert 0.02 < shares["user_alias"] / MANY < 0.04
    assert 0.005 < shares["email"] / MANY < 0.015
    assert all(
        record["_update_existing_only"] is False
        for _, record in RECORDS
        if who(record) == "user_alias"
    )


def test_samples_are_varied() -> None:
    """Operators, nesting, merging, arrays, several scripts, currencies and days all occur."""
    text = "".join(json.dumps(record, ensure_ascii=False) for _, record in RECORDS)
    wanted = ['"inc"', '"add"', '"remove"', '"_merge_objects"', '"$time"', "true", "Ż", "さ", "ف"]
    assert all(word in text for word in wanted)
    purchases = [record for kind, record in RECORDS if kind == "purchase"]
    assert len({record["currency"] for record in purchases}) > 5
    assert len({record["time"][:10] for record in purchases}) == 30
    assert len({record["name"] for kind, record in RECORDS if kind == "event"}) > 5


@given(st.integers(0, 60), st.integers(1, 50), st.integers(-9, 2**70))
def test_the_same_arguments_give_the_same_samples(n: int, users: int, seed: int) -> None:
    """Byte for byte; and a longer run begins like a shorter one."""
    once = list(samples(n, users=users, seed=seed))
    assert len(once) == n
    assert list(samples(n + 5, users=users, seed=seed))[:n] == once


def test_seeds_differ() -> None:
    """Another seed gives other records, not the same ones shifted."""
    lines = [set(samples(200, users=50, seed=seed)) for seed in range(20)]
    assert sum(map(len, lines)) == len(set().union(*lines)) == 4000


def test_users_are_as_many_as_asked_for() -> None:
    """Given or by default, all of them appear when there is room."""

    def users(lines: list[bytes]) -> int:
        return len({json.dumps(record[who(record)]) for _, record in read(lines)})

    assert users(list(samples(2_000, users=10))) == 10
    assert users(list(samples(1))) == 1
    assert 0.9 < users(list(samples(MANY))) * RECORDS_PER_USER / MANY <= 1


def test_bare_samples_are_the_objects_alone() -> None:
    """One kind, without the envelope: what `--kind` is for."""
    [enveloped] = samples(1, kinds=["purchase"])
    [bare] = samples(1, kinds=["purchase"], bare=True)
    assert {"purchase": json.loads(bare)} == json.loads(enveloped)
    assert bare.endswith(b"}\n")


def test_what_makes_no_sense_is_refused_before_the_first_line() -> None:
    """In a sentence, at the call."""
    with pytest.raises(ConfigError, match="number of samples is -1"):
        samples(-1)
    with pytest.raises(ConfigError, match="number of users is 0"):
        samples(1, users=0)
    with pytest.raises(ConfigError, match="Samples of session cannot be made"):
        samples(1, kinds=["event", "session"])
    with pytest.raises(ConfigError, match="no kind at all"):
        samples(1, kinds=[])
