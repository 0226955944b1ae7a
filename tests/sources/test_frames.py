"""A block is the same at the other end of a pipe, or it does not come."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import InputError
from ingest.proofs import Alike, Proof, Vouched
from ingest.records import Joined, UserKey
from ingest.sources import frames
from ingest.sources.base import Block

keys_of_users: st.SearchStrategy[UserKey] = st.one_of(
    st.text(max_size=4), st.tuples(st.just("alias"), st.text(max_size=3))
)
rows = st.lists(st.tuples(st.binary(min_size=1, max_size=9), keys_of_users), min_size=1, max_size=9)


def over_a_pipe(*sent: tuple[frames.Told, Block | None]) -> list[frames.Told | Block | None]:
    """Send some, close the pipe, and return all that was received."""
    from_here, to_there = os.pipe()
    found: list[frames.Told | Block | None] = []
    with open(from_here, "rb", buffering=0) as out:

        def send() -> None:
            with open(to_there, "wb", buffering=0) as into:
                for told, block in sent:
                    frames.send(into, told, block)

        thread = threading.Thread(target=send)
        thread.start()
        while (one := frames.receive(out)) is not None:
            found += one
        thread.join()
    return found


def block_of(
    proof: Proof | None = None, vouched: Vouched | None = None, data: bytes = b"{}"
) -> Block:
    """Make a block."""
    return Block(0, data, 1, 0, proof=proof, vouched=vouched)


@given(rows, st.sampled_from(["alike", "proof", "vouched"]))
def test_columns_come_over_as_they_are(some: list[tuple[bytes, UserKey]], how: str) -> None:
    """Objects and keys, of each sort of what is known of a block; texts with line breaks too."""
    fragments = [fragment for fragment, _ in some]
    keys: Sequence[UserKey] = [key for _, key in some]
    names = [str(key) for key in keys]

    def made() -> Block:
        if how == "alike":
            alike = Alike(1, range(len(some)), Joined.of(fragments), keys)
            return block_of(Proof.of_all([alike], "2024-01-01"))
        if how == "proof":
            return block_of(Proof(bytearray(len(some)), fragments, keys, {}))
        return block_of(vouched=Vouched("event", fragments, names))

    told, block = over_a_pipe((Counter(a=1), made()))
    assert told == Counter(a=1)
    assert isinstance(block, Block)
    holder = block.vouched or (block.proof and (block.proof.alike or (block.proof,))[0])
    assert holder
    assert list(holder.fragments) == fragments
    assert list(holder.keys) == (names if how == "vouched" else list(keys))


def test_blocks_larger_than_a_pipe(tmp_path: Path) -> None:
    """They come in pieces, and are whole."""
    fragments = [b"x" * 70_000] * 50
    blocks = [
        block_of(vouched=Vouched("event", fragments, [f"u{n}" for n in range(50)]), data=b"y" * n)
        for n in (1, 200_000)
    ]
    found = over_a_pipe(*((Counter[str](), block) for block in blocks))
    assert [len(block.data) for block in found[1::2] if isinstance(block, Block)] == [1, 200_000]
    for block in found[1::2]:
        assert isinstance(block, Block)
        assert block.vouched
        assert list(block.vouched.fragments) == fragments


def test_an_end_and_an_error_come_without_a_block() -> None:
    """They are told alone."""
    told, none, error, nothing = over_a_pipe((Counter(), None), (InputError("broken"), None))
    assert (told, none, str(error), nothing) == (Counter(), None, "broken", None)


@pytest.mark.parametrize("without", [1, 5, 30])
def test_a_frame_that_breaks_off_is_none(tmp_path: Path, without: int) -> None:
    """Whoever wrote it died: nothing of it is taken for a block."""
    path = tmp_path / "pipe"
    alike = Alike(0, range(2), Joined.of([b"{}", b"{}"]), ["a", "b"])
    with path.open("wb", buffering=0) as into:
        frames.send(into, Counter(), block_of(Proof.of_all([alike])))
    path.write_bytes(path.read_bytes()[:-without])
    with path.open("rb", buffering=0) as out:
        assert frames.receive(out) is None


@given(rows, st.lists(st.integers(0, 400), max_size=6))
def test_a_pipe_that_is_empty_for_a_while(
    some: list[tuple[bytes, UserKey]], cuts: list[int]
) -> None:
    """What takes a block in stops there, and goes on where it was; at the end there is none."""
    fragments, keys = [one for one, _ in some], [key for _, key in some]
    alike = Alike(1, range(len(some)), Joined.of(fragments), keys)
    with tempfile.TemporaryFile("w+b", buffering=0) as file:
        frames.send(file, Counter(a=1), block_of(Proof.of_all([alike])))
        file.seek(0)
        whole = file.read()
    from_here, to_there = os.pipe()
    os.set_blocking(from_here, False)
    with open(from_here, "rb", buffering=0) as out:
        taking = frames.receiving(out)
        with open(to_there, "wb", buffering=0) as into:
            assert next(taking, into) is None
            at = 0
            for cut in sorted({min(cut, len(whole) - 1) for cut in cuts}):
                into.write(whole[at:cut])
                at = cut
                assert next(taking, into) is None
            into.write(whole[at:])
            with pytest.raises(StopIteration) as end:
                next(taking)
            told, block = end.value.value
            assert told == Counter(a=1)
            [there] = block.proof.alike
            assert (list(there.fragments), list(there.keys)) == (fragments, keys)
            with pytest.raises(BlockingIOError):
                frames.receive(out)
        assert frames.receive(out) is None


def test_messages(tmp_path: Path) -> None:
    """One after the other, until there is none; half a length is none."""
    path = tmp_path / "pipe"
    with path.open("wb", buffering=0) as into:
        for data in (b"one", b"", b"two"):
            frames.write(into, data)
        into.write(b"half")
    with path.open("rb", buffering=0) as out:
        assert [frames.read(out) for _ in range(4)] == [b"one", b"", b"two", None]


def test_without_writev(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system cannot write all parts at once, one goes after the other."""
    monkeypatch.delattr(os, "writev", raising=False)
    block = block_of(vouched=Vouched("event", [b"{}"], ["u1"]))
    _, found = over_a_pipe((Counter(), block))
    assert isinstance(found, Block)
    assert found.vouched
    assert list(found.vouched.keys) == ["u1"]
