"""The same run is known again, and an input that changed under it is found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InputError
from ingest.state.identity import END_BYTES, InputFile, RunIdentity, conflict, fingerprint

FILE = InputFile("/data/users.csv", 10, 20, "head", "tail")
OTHER = InputFile("/data/more.csv", 11, 21, "head", "tail")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def identity(**given: Any) -> RunIdentity:
    """An identity like many."""
    parts: dict[str, Any] = {
        "inputs": (FILE,),
        "shape": {"kind": "event", "map": {"a": 1, "b": [1, 2]}},
        "sink": "braze",
        "host": "rest.example.com",
    }
    return RunIdentity(**parts | given)


@given(st.dictionaries(st.text(max_size=3), PLAIN, min_size=2))
def test_the_order_of_keys_makes_no_other_run(shape: dict[str, Any]) -> None:
    """Options that are gathered in another order are the same options."""
    turned = dict(reversed(shape.items()))
    assert identity(shape=shape).digest == identity(shape=turned).digest


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": (OTHER,)},
        {"inputs": (FILE, OTHER)},
        {"inputs": (msgspec.structs.replace(FILE, mtime_ns=21),)},
        {"shape": {"kind": "event", "map": {"a": 1, "b": [2, 1]}}},
        {"shape": {"kind": "purchase", "map": {"a": 1, "b": [1, 2]}}},
        {"sink": "appboy"},
        {"host": "rest.example.org"},
        {"workspace": "second"},
    ],
)
def test_whatever_shapes_or_places_the_bytes_makes_another_run(other: dict[str, Any]) -> None:
    """Inputs and their order, options, and where the records go."""
    assert identity(**other).digest != identity().digest


def test_the_order_of_inputs_is_that_of_their_parts() -> None:
    """Positions hold the number of the input, so another order is another run."""
    two = identity(inputs=(FILE, OTHER))
    assert two.paths == [FILE.path, OTHER.path]
    assert two.digest != identity(inputs=(OTHER, FILE)).digest


def test_a_file_is_known_by_its_ends_its_size_and_its_time(tmp_path: Path) -> None:
    """A change of any of them is seen; a change in the middle is seen by the time."""
    path = tmp_path / "users.ndjson"
    data = bytearray(os.urandom(3 * END_BYTES))
    path.write_bytes(data)
    os.utime(path, ns=(1, 1_000))
    before = fingerprint(path)
    assert (before.size, before.mtime_ns, before.path) == (len(data), 1_000, str(path))
    for at in (0, len(data) - 1):
        data[at] ^= 1
        path.write_bytes(data)
        os.utime(path, ns=(1, 1_000))
        assert fingerprint(path) != before
        data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(1, 1_000))
    assert fingerprint(path) == before
    os.utime(path, ns=(1, 1_001))
    assert fingerprint(path) != before


def test_a_small_file_has_two_ends_that_overlap(tmp_path: Path) -> None:
    """Even an empty one has a fingerprint."""
    path = tmp_path / "users.ndjson"
    path.write_bytes(b"")
    empty = fingerprint(path)
    path.write_bytes(b"x")
    assert empty.head == empty.tail
    assert fingerprint(path).head != empty.head


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The sentence says which, and why."""
    with pytest.raises(InputError, match=r"cannot read .*gone: No such file"):
        fingerprint(tmp_path / "gone")


def test_a_changed_input_under_an_unfinished_run_is_found() -> None:
    """It is told from those that are as they were."""
    now = identity(inputs=(msgspec.structs.replace(FILE, size=9), OTHER), shape={})
    found = conflict("run-1", identity(inputs=(FILE, OTHER)), now)
    assert found is not None
    assert (found.name, found.changed, found.shared) == ("run-1", (FILE.path,), (OTHER.path,))


@pytest.mark.parametrize("other", [{"workspace": "w"}, {"host": "h"}, {"inputs": (OTHER,)}])
def test_runs_that_share_nothing_do_not_mind_each_other(other: dict[str, Any]) -> None:
    """Other inputs, or the same ones to another account."""
    assert conflict("run-1", identity(), identity(**other)) is None
