"""The screen: a proof by bytes that encoded records have no problem at all.

It decides, for a whole chunk in a dozen calls that run in C, whether `check` could find anything.
`True` is a proof; `False` says nothing (look at the records one by one, then with `check`).

The proof rests on what the typed decoder has established for every record: it is JSON in UTF-8, a
head of its kind accepted it (see `heads`), and the head has a key. Then, for n objects joined by
commas or newlines:

- without a backslash, every string is written as it is, so a key stands in the bytes as `"key"`,
  and quotes delimit strings and nothing else;
- if no run of 237 bytes is free of quotes, no string is longer than 236 bytes: that covers 255
  characters, the ids, and both parts of an alias;
- n braces for n objects mean that nothing is nested; where something is, no key that holds a dot,
  a space or a dollar sign means that all nested keys are good ones; an array in a record of at most
  1,000 bytes has at most 500 elements;
- a required key that occurs n times in all, but for values that are the same word, occurs once in
  each record, hence at no other place.

Addresses are looked at beside that, as their heads have them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import repeat
from operator import contains
from typing import Final

from ingest.records import KINDS
from ingest.validation.identity import MAX_ALIAS

LONGEST_WITH_ARRAYS: Final = 1_000
"""Bytes of a record in which no array has over 500 elements: 501 take 501 digits, 500 commas and
2 brackets."""

LONGEST_WITH_PROPERTIES: Final = 8_192
"""Bytes of a record whose properties stay below 51,200 bytes however numbers are written: `1e15`
becomes 18 bytes when encoded anew, no number grows by more (a factor of 4.5, 36,864 bytes)."""

_TOO_LONG: Final = b"x" * (MAX_ALIAS + 1)
_QUOTES: Final = bytes(byte if byte == ord('"') else ord("x") for byte in range(256))
_DIGITS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_LATE: Final = bytes.maketrans(b"12345678", b"00999999")
"""First digits of years up to 2999 become 0, those of 3000 and later 9."""

_EXPONENT: Final = re.compile(rb"0e\+?00+[,\]}\s]")
_LATE_YEAR: Final = re.compile(rb'"9[09]{3}-')
_EMPTY_NAMES: Final = (b'"":', b'"" ', b'""\t', b'""\n', b'""\r')


def _may_be_infinite(digits: bytes) -> bool:
    """Tell whether a number may be beyond a double: the decoder passes over it, `loads` does not.

    It takes an exponent of two digits at least: no number is longer than 236 digits.
    """
    # Hexadecimal ids look like it too, but what comes after theirs is a quote or another letter.
    return _EXPONENT.search(digits) is not None


_ODD_KEY: Final = re.compile(rb'[. ][^"]*"[ \t\r\n]*:')
"""A dot or a space in a string that is followed by a colon, hence in a key."""

_INCREMENT: Final = re.compile(rb'"inc":-?[0-9]+[,}]')


def _may_be_late(joined: bytes, digits: bytes) -> bool:
    """Tell whether a string may be a date later than the year 2999."""
    # MM/dd/yyyy or ddd ... YYYY are rare, and have the year at the wrong end.
    if b' 0000"' in digits or (b"/" in joined and b'/0000"' in digits):
        return True
    if b'"0000-00-' not in digits:
        return False
    return _LATE_YEAR.search(joined.translate(_LATE)) is not None


def _nesting_clean(joined: bytes, longest: int) -> bool:
    """Tell whether nested keys are plain, and operators have the operands that they take."""
    if longest > LONGEST_WITH_PROPERTIES or b"$" in joined or b'"user_alias"' in joined:
        return False
    if _ODD_KEY.search(joined) or joined.count(b'"inc"') != len(_INCREMENT.findall(joined)):
        return False
    return all(joined.count(name) == joined.count(name + b":[") for name in (b'"add"', b'"remove"'))


def _attributes_clean(joined: bytes, digits: bytes, n: int, longest: int, quantities: int) -> bool:
    if joined.count(b"{") != n and not _nesting_clean(joined, longest):
        return False
    if longest > LONGEST_WITH_ARRAYS and b"[" in joined:
        return False
    return not _may_be_late(joined, digits)


def _names_clean(joined: bytes, longest: int) -> bool:
    """Tell whether no property can be nameless, begin with a dollar sign, or make it too big."""
    if longest > LONGEST_WITH_PROPERTIES or b'"$' in joined or b'"event_name"' in joined:
        return False
    return b'""' not in joined or not any(name in joined for name in _EMPTY_NAMES)


def key_once(joined: bytes, name: bytes, n: int) -> bool:
    """Tell whether a key, given in its quotes, stands n times in what has it n times for certain.

    A value may be the same word: what follows that is a comma or a closing bracket.
    """
    found = joined.count(name)
    if found == n:
        return True
    values = sum(joined.count(name + end) for end in (b",", b"}", b"]"))
    return joined.count(name + b":") == n and found == n + values


def _events_clean(joined: bytes, digits: bytes, n: int, longest: int, quantities: int) -> bool:
    return key_once(joined, b'"time"', n) and _names_clean(joined, longest)


def _purchases_clean(joined: bytes, digits: bytes, n: int, longest: int, quantities: int) -> bool:
    return (
        key_once(joined, b'"quantity"', quantities)
        and key_once(joined, b'"product_id"', n)
        and key_once(joined, b'"currency"', n)
        and key_once(joined, b'"price"', n)
        and key_once(joined, b'"time"', n)
        and _names_clean(joined, longest)
    )


_SCREENS: Final[dict[str, Callable[[bytes, bytes, int, int, int], bool]]] = dict(
    zip(KINDS, (_attributes_clean, _events_clean, _purchases_clean), strict=True)
)


def clean_chunk(
    kind: str,
    joined: bytes,
    n: int,
    *,
    longest: int | None = None,
    quantities: int = 0,
    emails: list[str] | None = None,
) -> bool:
    """Tell whether `check` would find nothing in any of n encoded objects of one kind.

    `joined` is their fragments with commas or newlines between; `longest` a bound of the bytes of
    each (by default, of all together); `quantities` how many purchases give a quantity themselves;
    `emails` the addresses that their heads hold. Takes for granted what the module says of the
    typed decoder. May be `False` for good records.
    """
    if longest is None:
        longest = len(joined)
    if b"\\" in joined or b"null" in joined:
        return False
    if longest > MAX_ALIAS and _TOO_LONG in joined.translate(_QUOTES):
        return False
    digits = joined.translate(_DIGITS)
    if _may_be_infinite(digits):
        return False
    return _SCREENS[kind](joined, digits, n, longest, quantities) and _emails_clean(emails or [])


def _emails_clean(emails: list[str]) -> bool:
    """Tell whether all of these are addresses, for the rule that looks at them.

    Stricter than that: each has one `@`, inside, and no white space. None of them is empty.
    """
    joined = "\n".join(emails)
    return (
        joined.count("@") == len(emails)
        and all(map(contains, emails, repeat("@")))
        and joined.split() == emails
        and "\n@" not in joined
        and "@\n" not in joined
        and joined[:1] != "@" != joined[-1:]
    )


def clean(
    kind: str, fragment: bytes, *, quantities: int = 0, emails: list[str] | None = None
) -> bool:
    """Tell whether `check` would find nothing in one encoded object; see `clean_chunk`."""
    return clean_chunk(kind, fragment, 1, quantities=quantities, emails=emails)
