"""The screen: a proof by bytes that encoded records have no problem at all.

It decides, for a whole chunk in a dozen calls that run in C, whether `check` could find anything.
`True` is a proof; `False` says nothing (look at the records one by one, then with `check`).

The proof rests on what the typed decoder has established for every record: it is JSON in UTF-8, a
head of its kind accepted it (see `heads`), and the head has a key. What is left is about bytes that
no head looks at: for n objects joined by commas or newlines,

- without a backslash, every string is written as it is, so a key stands in the bytes as `"key"`,
  and quotes delimit strings and nothing else;
- if no run of 237 bytes is free of quotes, no string is longer than 236 bytes: that covers 255
  characters, the ids, and both parts of an alias;
- n braces for n objects mean that nothing is nested; where something is, no key that holds a dot,
  a space or a dollar sign means that all nested keys are good ones, and no null that none is inside
  of an attribute; an array in a record of at most 1,000 bytes has at most 500 elements;
- no quote before a dollar sign means that no property begins with one.

Addresses are looked at beside that, as their heads have them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from ingest.records import KINDS
from ingest.tallies import occurrences
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

_EXPONENT: Final = re.compile(rb"0e\+?00+[,\]}\s]")

_DASH: Final = b"-"

_LATE: Final = {
    _DASH: re.compile(rb'-(?<="[3-9]\d{3}-)'),
    b"/": re.compile(rb'/[3-9]\d{3}"'),
    b" ": re.compile(rb' [3-9]\d{3}"'),
}
"""How a string begins, or ends, that is a date of the year 3000 or later, by a byte that is in it.

Each begins with that byte, and looks back if it has to: so most of a text is passed over quickly.
"""

_SPACES: Final = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""All that is white space, one by one: a table tells it faster than a look at each character."""

_IN_ADDRESSES: Final = bytes(set(range(0x21, 0x7F)) - set(b"@"))
"""What plain addresses are made of, but for the at sign."""

_NO_ADDRESS: Final = re.compile(rf"\n(?![^@{_SPACES}]+@[^@{_SPACES}])")
"""A line that does not begin as an address does: something, an at sign, and something more."""


def _may_be_infinite(joined: bytes) -> bool:
    """Tell whether a number may be beyond a double: the decoder passes over it, `loads` does not.

    It takes an exponent of two digits at least: no number is longer than 236 digits.
    """
    # Hexadecimal ids look like it too, but what comes after theirs is a quote or another letter.
    return _EXPONENT.search(joined.translate(_DIGITS)) is not None


_ODD_KEY: Final = re.compile(rb'[. ][^"]*"[ \t\r\n]*:')
"""A dot or a space in a string that is followed by a colon, hence in a key."""

_INCREMENT: Final = re.compile(rb'"inc":-?[0-9]+[,}]')


def may_be_late(joined: bytes, ids: Sequence[str] = ()) -> bool:
    """Tell whether a string may be a date later than the year 2999. There is no backslash.

    `ids` are strings in it that no rule takes for a date.
    """
    return any(
        byte in joined
        and not (byte == _DASH and ids and _dashes_are_of(ids, joined))
        and late.search(joined) is not None
        for byte, late in _LATE.items()
    )


def _dashes_are_of(ids: Sequence[str], joined: bytes) -> bool:
    """Tell whether all dashes are in ids: so it is in most records that have no date at all.

    Without a backslash, an id stands in the bytes as it is, dashes and all.
    """
    first = joined[: joined.find(b"}")]  # where that has more of them, others have too
    if first.count(_DASH) != ids[0].count("-"):
        return False
    return occurrences(joined, _DASH) == occurrences("".join(ids).encode(), _DASH)


def _nesting_clean(joined: bytes, longest: int) -> bool:
    """Tell whether nested keys are plain, and operators have the operands that they take."""
    if longest > LONGEST_WITH_PROPERTIES or b"$" in joined or b'"user_alias"' in joined:
        return False
    if b"null" in joined:
        return False
    if _ODD_KEY.search(joined) or joined.count(b'"inc"') != len(_INCREMENT.findall(joined)):
        return False
    return all(joined.count(name) == joined.count(name + b":[") for name in (b'"add"', b'"remove"'))


def _attributes_clean(joined: bytes, n: int, longest: int, braces: int | None) -> bool:
    if braces is None:
        braces = joined.count(b"{")
    if braces != n and not _nesting_clean(joined, longest):
        return False
    if b"[" in joined and (longest > LONGEST_WITH_ARRAYS or b"null" in joined):
        return False
    return not may_be_late(joined)


def key_once(joined: bytes, name: bytes, n: int) -> bool:
    """Tell whether a key, given in its quotes, stands n times in what has it n times for certain.

    A value may be the same word: what follows that is a comma or a closing bracket.
    """
    found = joined.count(name)
    if found == n:
        return True
    values = sum(joined.count(name + end) for end in (b",", b"}", b"]"))
    return joined.count(name + b":") == n and found == n + values


def _properties_clean(joined: bytes, n: int, longest: int, braces: int | None) -> bool:
    """Tell whether no property begins with a dollar sign, or makes the others too big."""
    return longest <= LONGEST_WITH_PROPERTIES and (b"$" not in joined or b'"$' not in joined)


_SCREENS: Final[dict[str, Callable[[bytes, int, int, int | None], bool]]] = dict(
    zip(KINDS, (_attributes_clean, _properties_clean, _properties_clean), strict=True)
)


def clean_chunk(
    kind: str,
    joined: bytes,
    n: int,
    *,
    longest: int | None = None,
    braces: int | None = None,
    emails: list[str] | None = None,
) -> bool:
    """Tell whether `check` would find nothing in any of n encoded objects of one kind.

    `joined` is their fragments with commas or newlines between; `longest` a bound of the bytes of
    each (by default, of all together); `braces` how many opening ones are in them, if known;
    `emails` the addresses that their heads hold. Takes for granted what the module says of the
    typed decoder. May be `False` for good records.
    """
    if longest is None:
        longest = len(joined)
    if b"\\" in joined:
        return False
    if longest > MAX_ALIAS and _TOO_LONG in joined.translate(_QUOTES):
        return False
    if _may_be_infinite(joined):
        return False
    return _SCREENS[kind](joined, n, longest, braces) and emails_clean(emails or [])


def emails_clean(emails: Sequence[str]) -> bool:
    """Tell whether all of these are addresses, for the rule that looks at them.

    Stricter than that: no white space is before the first at sign.
    """
    if not emails:
        return True
    text = "\n".join(emails)
    return _are_plain_addresses(text) or _NO_ADDRESS.search("\n" + text) is None


def _are_plain_addresses(lines: str) -> bool:
    """Tell whether each line has one at sign within, and nothing that is rare in an address."""
    if not lines.isascii():
        return False
    marks = lines.encode().translate(None, _IN_ADDRESSES)
    return (
        marks == b"@\n" * (len(marks) // 2) + b"@"
        and lines[0] != "@" != lines[-1]
        and "\n@" not in lines
        and "@\n" not in lines
    )


def clean(kind: str, fragment: bytes, *, emails: list[str] | None = None) -> bool:
    """Tell whether `check` would find nothing in one encoded object; see `clean_chunk`."""
    return clean_chunk(kind, fragment, 1, emails=emails)
