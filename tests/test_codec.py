"""The codec is strict on input, compact on output, and puts ready bytes in as they are."""

from __future__ import annotations

import msgspec
import pytest

from ingest.codec import (
    DecodeError,
    JSONDecodeError,
    ValidationError,
    dumps,
    dumps_pretty,
    is_utf8,
    loads,
    packed,
    typed,
    unpacked,
    verbatim,
)


class Point(msgspec.Struct):
    """Something with a shape."""

    x: int
    y: int = 0


@pytest.mark.parametrize("data", [b'{"a":[1,2.5,null,"\xc3\xa9"]}', '{"a":[1,2.5,null,"é"]}'])
def test_json_is_read(data: bytes | str) -> None:
    """Bytes and text give the same values."""
    assert loads(data) == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize("data", [b"NaN", b'"\xff"', b'"\\ud800"', b"", b"{,}", b"1e999"])
def test_what_is_not_strictly_json_is_refused(data: bytes) -> None:
    """No NaN, no infinity, no lone surrogates, nothing but UTF-8; the error is a ValueError."""
    with pytest.raises(JSONDecodeError):
        loads(data)
    assert issubclass(JSONDecodeError, ValueError)


def test_json_is_written_compactly() -> None:
    """Without white space, as UTF-8, structs as objects; what has no JSON is a TypeError."""
    assert dumps({"a": [1, "é"], "p": Point(1)}) == '{"a":[1,"é"],"p":{"x":1,"y":0}}'.encode()
    assert dumps_pretty({"a": 1}) == b'{\n  "a": 1\n}\n'
    with pytest.raises(TypeError):
        dumps({"a": object()})


def test_ready_bytes_are_put_in_as_they_are() -> None:
    """Numbers keep their digits and texts their escapes."""
    assert dumps({"a": verbatim(b'{"n": 1.50}')}) == b'{"a":{"n": 1.50}}'


def test_what_is_packed_is_unpacked() -> None:
    """Bytes stay bytes, and a tuple is one again."""
    value = (b"\xff", ["a", ("b", "c")])
    assert unpacked(packed(value), tuple[bytes, list[str | tuple[str, ...]]]) == value


def test_utf8_is_told_from_other_bytes() -> None:
    """Half a character, a lone surrogate and Latin letters are none."""
    assert all(map(is_utf8, (b"", b"a", "é€😀".encode())))
    assert not any(map(is_utf8, (b"\xff", b"a\xc3", b"\xed\xa0\x80", "é".encode("latin-1"))))


def test_a_typed_decoder_checks_the_shape() -> None:
    """A wrong shape is told from what is no JSON, and both from a string that is not UTF-8."""
    decoder = typed(Point)
    assert decoder.decode(b'{"x":1}') == Point(1)
    with pytest.raises(ValidationError):
        decoder.decode(b'{"x":"1"}')
    with pytest.raises(DecodeError):
        decoder.decode(b'{"x":')
    with pytest.raises(UnicodeDecodeError):
        typed(str).decode(b'"\xff"')
