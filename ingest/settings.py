"""Values that people write, read strictly: sizes, spans of time, shares, and secrets by name.

This module decides what such a text may say and which sentence answers it when it says something
else. It knows no option and no default. A secret is read from the environment handed in, or from
the file that it names, and is never part of a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn

from ingest.errors import ConfigError

ADAPTIVE: Final = "adaptive"

MAX_IN_FLIGHT: Final = 1_000
"""Requests in flight at most: each is a connection, and processes commonly get 1,024 files."""

MAX_SECRET_BYTES: Final = 64 * 1024
"""Bytes read of a secret's file: a key has some dozens; more is a wrong file, /dev/zero for one."""

_FILE: Final = "_FILE"

_ROUNDS_UP: Final = 999.5
"""Three digits of what is above would say 1000: the next unit says 1."""

_NEARLY_ONE: Final = 0.9995
"""Seconds from which milliseconds would round to 1000."""

_NEARLY_TEN: Final = 9.95
"""Seconds from which a tenth would round to 10.0."""

_BYTE_UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_NUMBER: Final = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_SIZE: Final = re.compile(rf"({_NUMBER})\s*([a-z]*)")
_SPAN: Final = re.compile(rf"({_NUMBER})\s*(ms|[smhd])\s*")
_SPANS: Final = re.compile(rf"(?:{_SPAN.pattern})+")
_PLAIN: Final = re.compile(_NUMBER)
_SHARE: Final = re.compile(rf"({_NUMBER})\s*(%?)")


def secret(environ: Mapping[str, str], name: str) -> str:
    """Return the secret in the variable `name`, or in the file that `name`_FILE names.

    Raises `ConfigError` if neither or both are set, if it is empty, cannot be read, or cannot be
    sent (control characters). No message holds the value, nor the name of the file: a key may have
    been put there by mistake.
    """
    found = optional(environ, name)
    if found is None:
        raise ConfigError(
            f"{name} is not set: export it, or write it to a file and name that in {name}{_FILE}."
        )
    return found


def optional(environ: Mapping[str, str], name: str) -> str | None:
    """Return what `secret` returns, or None if neither variable is set. Raises `ConfigError`."""
    in_file = name + _FILE
    if name in environ and in_file in environ:
        raise ConfigError(f"{name} and {in_file} are both set: unset one, so that it is clear.")
    if in_file in environ:
        where, value = f"the file named by {in_file}", _read(environ[in_file], in_file)
    elif name in environ:
        where, value = name, environ[name]
    else:
        return None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value.strip():
        raise ConfigError(f"{name} is empty: set {where} to the value, or unset it.")
    if not value.isprintable():
        raise ConfigError(
            f"{name} holds a line break or another control character, which no key has: "
            f"look at {where}."
        )
    return value


def parse_bytes(value: str | int, *, what: str = "A size") -> int:
    """Return bytes: "96MB" (powers of ten), "64KiB" (of two), "1000". Raises `ConfigError`."""
    match = _SIZE.fullmatch(_text(value).lower())
    if match and match[2] in _BYTE_UNITS:
        size = round(float(match[1]) * _BYTE_UNITS[match[2]])
        if size > 0:
            return size
    _refuse(what, value, "a size above zero in B, KB, MB, GB, TB, or KiB, MiB, GiB, TiB", "96MB")


def parse_duration(value: str | float, *, what: str = "A duration") -> float:
    """Return seconds: "30m", "1.5s", "2h 30m", "250ms", "1d", "90". Raises `ConfigError`."""
    text = _text(value).lower()
    if _PLAIN.fullmatch(text):
        return float(text)
    if _SPANS.fullmatch(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in _SPAN.findall(text))
    _refuse(what, value, "seconds, or a time in ms, s, m, h or d", "30m")


def parse_share(value: str | float, *, what: str = "A share") -> float:
    """Return a share above 0, up to 1: "80%", 0.8, "0.8". Raises `ConfigError`."""
    if match := _SHARE.fullmatch(_text(value)):
        share = float(match[1]) / (100 if match[2] else 1)
        if 0 < share <= 1:
            return share
    _refuse(what, value, "above 0% and at most 100%, or above 0 and at most 1", "80%")


def parse_in_flight(value: str | int, *, what: str = "In flight") -> int | None:
    """Return requests in flight, None for "adaptive". Raises `ConfigError`."""
    text = _text(value).lower()
    if text == ADAPTIVE:
        return None
    if text.isdecimal() and 1 <= int(text) <= MAX_IN_FLIGHT:
        return int(text)
    _refuse(what, value, f"{ADAPTIVE}, or a number from 1 to {MAX_IN_FLIGHT:,}", "20")


def format_bytes(size: int) -> str:
    """Return a size in powers of ten with three digits, such as "96 MB"; `parse_bytes` reads it."""
    if size < 1000:
        return f"{size} B"
    scaled, units = size / 1000, iter(("KB", "MB", "GB"))
    unit = next(units)
    while scaled >= _ROUNDS_UP and unit != "TB":
        scaled, unit = scaled / 1000, next(units, "TB")
    digits = 0 if scaled >= 99.95 else 1 if scaled >= 9.995 else 2
    number = f"{scaled:.{digits}f}"
    return f"{number.rstrip('0').rstrip('.') if digits else number} {unit}"


def format_duration(seconds: float) -> str:
    """Return a time as its two largest units, such as "1h 5m"; `parse_duration` reads it."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds < _NEARLY_ONE else "1s"
    if seconds < _NEARLY_TEN:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    for large, small, size, part in (("d", "h", 86400, 3600), ("h", "m", 3600, 60)):
        # Round to the smaller unit first: 59m 59s above an hour would show as 60m.
        parts = (whole + part // 2) // part
        if parts * part >= size:
            number, rest = divmod(parts, size // part)
            return f"{number}{large} {rest}{small}" if rest else f"{number}{large}"
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{rest}s"
    return f"{minutes}m {rest}s" if rest else f"{minutes}m"


def _read(path: str, variable: str) -> str:
    """Return the text of a secret's file. Raises `ConfigError`, without the path."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
        if len(data) <= MAX_SECRET_BYTES:
            return data.decode("utf-8-sig")
        problem = f"it has more than {format_bytes(MAX_SECRET_BYTES)}"
    except UnicodeDecodeError:
        problem = "it is not text"
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "the name is not a path"
    raise ConfigError(f"The file that {variable} names cannot be read: {problem}.")


def _text(value: str | float) -> str:
    """Return what was written; a number of a configuration file as it would be written."""
    return "" if isinstance(value, bool) else str(value).strip()


def _refuse(what: str, value: object, allowed: str, example: str) -> NoReturn:
    raise ConfigError(f"{what} is {value!r}, and must be {allowed}; such as {example}.")
