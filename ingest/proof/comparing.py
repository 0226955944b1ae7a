"""How a profile that was read back differs from what the records of a run say.

Decides what counts as the same: a destination writes times, addresses and numbers in its own way,
keeps arrays as sets, and may have had the user before. Only what a run should have left there is
looked at; what else a profile has is nobody's business here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from ingest.proof.expected import STANDARD, Attribute, Expected, Tally
from ingest.proof.moments import moment
from ingest.records import UserKey

Profile = Mapping[str, Any]
"""A user as the destination exports it."""

Is = Literal["there", "missing", "differs", "still there", "untold"]
"""What became of a field; `still there`: it was to be unset. `untold`: nobody can say."""

CLOSE: Final = 1e-5
"""Degrees by which a position may have been rounded: a metre."""

SECOND: Final = 1.0
"""Times are the same to the second: that much is kept everywhere."""

_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d")
_NO_DIGIT: Final = re.compile(r"\D")

TOO_OLD: Final = "older than what an export has"
NOT_CREATED: Final = "a user that the run may not create, and that is not there"


class Difference(msgspec.Struct, frozen=True):
    """A field that is not as it should be; an empty `field` is the user itself.

    `expected` and `found` are values, for eyes that asked for them. `position` and `line` are those
    of the record that the field comes from.
    """

    key: UserKey
    field: str
    what: Is
    position: int = 0
    line: int = 0
    expected: Any = None
    found: Any = None


class Verdict(msgspec.Struct, frozen=True):
    """What was found of one user: `fields` are (name, what became of it, why nobody can say)."""

    key: UserKey
    fields: tuple[tuple[str, Is, str], ...]
    differences: tuple[Difference, ...]

    @property
    def good(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def compared(expected: Expected, profiles: Sequence[Profile]) -> Verdict:
    """Hold a user against what was read back: of several profiles, the one that differs least.

    An e-mail or a phone may be that of several.
    """
    if not profiles:
        return _absent(expected)
    verdicts = [_compared(expected, profile) for profile in profiles]
    return min(verdicts, key=lambda verdict: len(verdict.differences))


def name_of(kind: str, name: str) -> str:
    """Return what an event or purchase is called in an account; an attribute is by its name."""
    return f"{kind} {name}"


def names_of(expected: Expected) -> list[str]:
    """Return the fields of a user: attributes, events, purchases."""
    return [
        *expected.attributes,
        *(name_of("event", name) for name in expected.events),
        *(name_of("purchase", name) for name in expected.purchases),
    ]


def untold(expected: Expected, why: str) -> Verdict:
    """Return the verdict on a user of whom nobody can say anything."""
    return Verdict(expected.key, tuple((name, "untold", why) for name in names_of(expected)), ())


def _absent(expected: Expected) -> Verdict:
    if not expected.certain:
        return untold(expected, NOT_CREATED)
    names = names_of(expected)
    fields: list[tuple[str, Is, str]] = []
    for name, attribute in expected.attributes.items():
        said: Is = "untold" if attribute.untold else "missing"
        if said == "missing" and attribute.value is None:
            continue  # unset, and of a user that is not there nothing is
        fields.append((name, said, attribute.untold))
    fields += ((name, "missing", "") for name in names[len(expected.attributes) :])
    return Verdict(expected.key, tuple(fields), (Difference(expected.key, "", "missing"),))


def _compared(expected: Expected, profile: Profile) -> Verdict:
    fields: list[tuple[str, Is, str]] = []
    differences: list[Difference] = []
    for field, what, why, source, wanted, found in _each(expected, profile):
        fields.append((field, what, why))
        if what not in ("there", "untold"):
            at = (source.position, source.line)
            differences.append(Difference(expected.key, field, what, *at, wanted, found))
    return Verdict(expected.key, tuple(fields), tuple(differences))


_Row = tuple[str, Is, str, Attribute | Tally, Any, Any]


def _each(expected: Expected, profile: Profile) -> Iterator[_Row]:
    for name, attribute in expected.attributes.items():
        found = _value_of(profile, name)
        what = "untold" if attribute.untold else _attribute_is(name, attribute.value, found)
        yield name, what, attribute.untold, attribute, attribute.value, found
    for kind, tallies, booked in (
        ("event", expected.events, profile.get("custom_events")),
        ("purchase", expected.purchases, profile.get("purchases")),
    ):
        rows = _by_name(booked)
        for name, tally in tallies.items():
            row = rows.get(name) or rows.get(name.strip()) or {}
            what = _tally_is(tally, row)
            why = TOO_OLD if what == "untold" else ""
            count = row.get("count", 0)
            yield name_of(kind, name), what, why, tally, tally.total, count


def _value_of(profile: Profile, name: str) -> Any:
    """Return what a profile says of an attribute, None if nothing."""
    if name == "current_location":
        return profile.get("last_coordinates")
    if name in STANDARD:
        return profile.get(name)
    custom = profile.get("custom_attributes")
    return custom.get(name) if isinstance(custom, dict) else None


def _by_name(booked: Any) -> dict[str, Mapping[str, Any]]:
    rows = booked if isinstance(booked, list) else ()
    return {
        row["name"]: row
        for row in rows
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    }


def _tally_is(tally: Tally, row: Mapping[str, Any]) -> Is:
    """Say whether enough is booked: a user with a past has more, and old ones need not be there."""
    count = row.get("count", 0)
    count = count if isinstance(count, int) else 0
    if count < tally.total:
        if count >= tally.recent:
            return "untold"
        return "differs" if count else "missing"
    last = moment(row.get("last"))
    if tally.last is None or last is None or last > tally.last - SECOND:
        return "there"
    return "differs"


def _attribute_is(name: str, wanted: Any, found: Any) -> Is:
    if wanted is None:
        return "there" if found is None else "still there"
    if found is None:
        # What is empty may be left out of an export.
        return "there" if wanted in ("", [], {}) and wanted is not False else "missing"
    same = _SAME.get(name, _same)
    return "there" if same(wanted, found) else "differs"


def _same(wanted: Any, found: Any) -> bool:
    """Tell whether two JSON values are the same, as a destination keeps them."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, str):
        return wanted == found or _same_time(wanted, found)
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return False
        if any(isinstance(each, dict) for each in wanted):
            return len(wanted) == len(found) and all(map(_same, wanted, found))
        return _as_set(wanted) == _as_set(found)
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and wanted.keys() == found.keys()
            and all(_same(value, found[name]) for name, value in wanted.items())
        )
    return bool(wanted == found)


def _as_set(scalars: Sequence[Any]) -> set[tuple[bool, Any]]:
    """Return the values of an array; in Python `True == 1`, in JSON it is not."""
    return {(isinstance(each, bool), each) for each in scalars if not isinstance(each, dict | list)}


def _same_time(wanted: str, found: Any) -> bool:
    """Tell whether two texts are one moment; a text that merely begins with a number is none."""
    if not _DATED.match(wanted):
        return False
    one, other = moment(wanted), moment(found)
    return one is not None and other is not None and abs(one - other) < SECOND


def _folded(wanted: Any, found: Any) -> bool:
    return str(wanted).strip().casefold() == str(found).strip().casefold()


def _same_phone(wanted: Any, found: Any) -> bool:
    digits = [_NO_DIGIT.sub("", str(each)).lstrip("0") for each in (wanted, found)]
    return digits[0] == digits[1]


def _same_day(wanted: Any, found: Any) -> bool:
    return str(wanted)[:10] == str(found)[:10]


def _same_gender(wanted: Any, found: Any) -> bool:
    return str(wanted)[:1].casefold() == str(found)[:1].casefold()


def _same_place(wanted: Any, found: Any) -> bool:
    """Compare a latitude and longitude with `[longitude, latitude]`."""
    if not (isinstance(found, list) and len(found) == 2):
        return False
    pairs = zip((wanted["longitude"], wanted["latitude"]), found, strict=True)
    return all(isinstance(b, int | float) and abs(a - b) < CLOSE for a, b in pairs)


_SAME: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "email": _folded,
    "country": _folded,
    "language": _folded,
    "phone": _same_phone,
    "dob": _same_day,
    "gender": _same_gender,
    "current_location": _same_place,
}
"""Standard attributes that come back in another spelling; all others as they are."""
