"""How many sockets requests may take."""

from __future__ import annotations

import resource

import pytest

from ingest.sockets import SPARE, WANTED, sockets_left, want_sockets

Limits = tuple[int, int]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[Limits]:
    """Play a system's limits; the last is in force."""
    known: list[Limits] = [(256, 8192)]
    monkeypatch.setattr(resource, "getrlimit", lambda what: known[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda what, both: known.append(both))
    return known


@pytest.mark.parametrize(
    ("soft", "hard", "after"),
    [
        (256, 8192, WANTED),
        (256, 1024, 1024),
        (256, resource.RLIM_INFINITY, WANTED),
        (9000, 9000, 9000),
    ],
)
def test_as_many_as_wanted_are_asked_for(
    limits: list[Limits], soft: int, hard: int, after: int
) -> None:
    """Up to the hard limit; what is enough already stays."""
    limits.append((soft, hard))
    assert sockets_left() == soft - SPARE
    want_sockets()
    assert limits[-1] == (after, hard)
    assert sockets_left() == after - SPARE


def test_without_a_limit_none_is_known(limits: list[Limits]) -> None:
    """Nothing is asked for then; where hardly any are left, one is."""
    limits.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert sockets_left() is None
    want_sockets()
    assert len(limits) == 2
    limits.append((50, 50))
    assert sockets_left() == 1


def test_a_system_that_grants_less_than_it_says_is_borne(
    limits: list[Limits], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then fewer requests fly."""

    def refused(what: int, both: Limits) -> None:
        raise OSError

    monkeypatch.setattr(resource, "setrlimit", refused)
    want_sockets()
    assert sockets_left() == 256 - SPARE
