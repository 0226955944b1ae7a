"""Which users are looked at: by lot, each with all of its records, in one reading."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps
from ingest.proof import Doubts, Expected, Sample, Window
from ingest.ranges import Ranges
from ingest.records import ATTRIBUTES, EVENT, Chunk, UserKey, position
from ingest.taken import Refusal, Taken

WINDOW = Window(1e9, 1e9)
KEYS: tuple[UserKey, ...] = (
    *(f"u{number}" for number in range(12)),
    ("email", "u1"),
    ("alias", "l", "u1"),
    ("alias", "lu", "1"),
)


def taken(keys: list[UserKey], *, part: int = 0, first: int = 0, lines: Any = None) -> Taken:
    """One record of each key: the event that is called by its position, and its number."""
    fragments = [
        dumps({"name": f"{part}:{first + row}", "n": first + row}) for row, _ in enumerate(keys)
    ]
    count = len(keys)
    at = position(part, first)
    chunk = Chunk(
        fragments,
        bytes([EVENT] * count),
        keys,
        range(at, at + count),
        lines or range(first + 1, first + 1 + count),
        0,
    )
    return Taken([chunk], {})


def events(user: Expected) -> list[str]:
    """What was added to a user."""
    return list(user.events)


@given(
    st.lists(st.sampled_from(KEYS), max_size=60),
    st.integers(1, 8),
    st.integers(0, 3),
    st.integers(1, 7),
)
def test_whoever_is_chosen_has_all_of_its_records(
    keys: list[UserKey], size: int, seed: int, cut: int
) -> None:
    """In the order of the input, however it is cut; and the choice is that of all users at once."""
    sample = Sample(size, seed, WINDOW)
    whole: dict[UserKey, list[str]] = defaultdict(list)
    for start in range(0, len(keys), cut):
        sample.take(taken(keys[start : start + cut], first=start))
    for at, key in enumerate(keys):
        whole[key].append(f"0:{at}")
    alone = Sample(len(KEYS), seed, WINDOW)
    alone.take(taken(list(dict.fromkeys(keys))))
    best = sorted(whole, key=alone._lot)[:size]
    assert {key: events(user) for key, user in sample.users.items()} == {
        key: whole[key] for key in best
    }
    assert sample.about >= len(sample.users)
    if len(whole) < size:
        assert sample.about == len(whole)


def test_every_user_has_the_same_chance() -> None:
    """However many records it has, and wherever they lie."""
    keys: list[UserKey] = [f"u{number}" for number in range(20)]
    many = [key for key in keys for _ in range(1 + (key == "u3") * 50)]
    chosen: Counter[UserKey] = Counter()
    rounds = 2000
    for seed in range(rounds):
        sample = Sample(5, seed, WINDOW)
        sample.take(taken(many))
        chosen.update(list(sample.users))
    expected = rounds * 5 / len(keys)
    assert set(chosen) == set(keys)
    # Six standard deviations of a binomial: the seeds are fixed, so this is not left to luck.
    spread = 6 * (rounds * 0.25 * 0.75) ** 0.5
    assert all(abs(count - expected) < spread for count in chosen.values())


def test_how_many_users_there_are_is_estimated_well() -> None:
    """Within some percent, from the smallest hashes alone."""
    sample = Sample(400, 1, WINDOW)
    sample.take(taken([f"u{number}" for number in range(20_000)]))
    assert 17_000 < sample.about < 23_000


def test_who_cannot_be_read_back_is_not_chosen() -> None:
    """Its records are counted, if it would have been."""
    sample = Sample(5, 1, WINDOW, readable=lambda key: isinstance(key, str))
    sample.take(taken(["u1", ("push_token", "t"), "u2"]))
    assert set(sample.users) == {"u1", "u2"}
    assert sample.unreadable == 1


def test_a_rejected_record_is_left_out() -> None:
    """Who has no other is not chosen."""
    doubts = Doubts(rejected=[position(1, 2), position(1, 3)])
    sample = Sample(5, 1, WINDOW, doubts)
    sample.take(taken(["u1", "u1", "u2", "u1"], part=1))
    assert {key: events(user) for key, user in sample.users.items()} == {"u1": ["1:0", "1:3"]}


def test_a_record_that_may_have_arrived_is_doubtful() -> None:
    """Its attributes are known no more; who has no other is not chosen."""
    doubts = Doubts(doubtful=[position(0, 2), position(0, 3)])
    sample = Sample(5, 1, WINDOW, doubts)
    whole = taken(["u1", "u1", "u2"])
    (chunk,) = whole.chunks
    chunk.slots = bytes([ATTRIBUTES] * 3)
    sample.take(whole)
    assert list(sample.users) == ["u1"]
    assert sample.users["u1"].attributes["n"].untold


def test_of_several_records_in_a_line_nobody_knows_which_was_refused() -> None:
    """So none of them proves anything, whether the others were good or not."""
    doubts = Doubts(rejected=[position(0, 1), position(0, 2)])
    sample = Sample(5, 1, WINDOW, doubts)
    sample.take(taken(["u1", "u2"], lines=[1, 1]))
    partly = taken(["u3", "u3"], first=2, lines=[2, 3])
    partly.refusals = [Refusal("event", "code", "", "reason", 9, 2)]
    sample.take(partly)
    assert {key: events(user) for key, user in sample.users.items()} == {"u3": ["0:3"]}


def test_of_a_run_that_is_not_over_only_what_was_settled_counts() -> None:
    """What is pending may have arrived, or not."""
    doubts = Doubts(settled=Ranges([(0, 2)]))
    sample = Sample(5, 1, WINDOW, doubts)
    sample.take(taken(["u1", "u2", "u2", "u3"]))
    assert {key: events(user) for key, user in sample.users.items()} == {
        "u1": ["0:0"],
        "u2": ["0:1"],
    }
