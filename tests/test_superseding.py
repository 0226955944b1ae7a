"""A letter is superseded by what is delivered after it, of its own user, and by nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.records import UserKey
from ingest.superseding import Superseding

USERS = st.sampled_from(("a", "b", ("alias", "label", "a"), ("email", "a@x.de")))
PLACES = st.integers(0, 12) | st.integers((1 << 64) - 3, (1 << 64) - 1)
STEPS = st.lists(st.tuples(st.booleans(), USERS, PLACES), max_size=60)


@given(STEPS)
def test_what_a_delivery_overtakes_is_told_once(steps: list[tuple[bool, UserKey, int]]) -> None:
    """It is all letters of the user from before the place of the delivery, and no others."""
    memory, left = Superseding(), list[tuple[UserKey, int, int]]()
    for flag, (written, key, place) in enumerate(steps):
        if written:
            memory.remember(key, place, flag)
            left.append((key, place, flag))
        else:
            older = {row for row in left if row[0] == key and row[1] < place}
            users = {row[0] for row in left}
            keys = ["z", key, "z", "a"]
            assert memory.rows_of(keys) == [i for i, each in enumerate(keys) if each in users]
            found = memory.overtaken(key, place)
            assert (len(found), set(found)) == (len(older), {row[2] for row in older})
            left = [row for row in left if row not in older]
        assert len(memory) == len(left)


def test_the_largest_numbers_fit() -> None:
    """A position has 64 bits, and the flag of a letter as many."""
    memory, most = Superseding(), (1 << 64) - 1
    memory.remember("u", most - 1, most)
    assert memory.rows_of(["v", "u"]) == [1]
    assert memory.overtaken("u", most - 1) == []
    assert memory.overtaken("u", most) == [most]
