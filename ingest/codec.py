"""JSON: the one module that knows orjson and msgspec's decoders.

Strict on input (no NaN, no lone surrogate, UTF-8 only), compact on output. Beside it, MessagePack,
for what one process of ours tells another.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec
import orjson

T = TypeVar("T")

Decoder = msgspec.json.Decoder
"""What `typed` returns."""

JSONDecodeError: Final = orjson.JSONDecodeError
"""Raised by `loads`; a `ValueError` with a message that names line and column."""


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Decode one JSON value. Raises `JSONDecodeError` (a `ValueError`)."""
    return orjson.loads(data)


def is_utf8(data: bytes) -> bool:
    """Tell whether bytes are UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def dumps(value: Any) -> bytes:
    """Encode a value, or a Struct, compactly as UTF-8. Raises `TypeError` for anything else."""
    return orjson.dumps(value, default=msgspec.to_builtins)


def dumps_pretty(value: Any) -> bytes:
    """Encode a value with two spaces of indentation and a final newline."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def verbatim(encoded: bytes) -> Any:
    """Mark bytes that are JSON already, so that `dumps` puts them in as they are."""
    return orjson.Fragment(encoded)


def typed(shape: type[T]) -> Decoder[T]:
    """Return a decoder that reads JSON straight into `shape` and checks its constraints in C.

    Its errors are `DecodeError` (not JSON), `ValidationError` (a wrong shape), and
    `UnicodeDecodeError` for a string that is not UTF-8. Bytes inside of a `Raw` are checked to be
    JSON, not to be UTF-8.
    """
    return Decoder(shape)


def packed(value: Any) -> bytes:
    """Encode a value for another process of ours."""
    return msgspec.msgpack.encode(value)


def unpacked(data: bytes | bytearray | memoryview, shape: type[T]) -> T:
    """Decode what `packed` made of a value of a shape."""
    return msgspec.msgpack.decode(data, type=shape)


DecodeError: Final = msgspec.DecodeError
ValidationError: Final = msgspec.ValidationError
