"""What Batch CEP answers, and which record each piece that it refuses came from.

Decides what an answer means for a batch. 202 is the ordinary success; with another code than
SUCCESS the edits were taken all the same, but for pieces that the answer names by the position of
the edit and the key. An event is one piece: its record is rejected. An attributes record is if none
of the attributes that were sent for it is left. What an error calls an event is not documented, and
several events may have one name: a letter says so where that leaves a doubt. A server error but the
documented 503 does not say that nothing was processed. Pure: sends nothing and knows no time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ingest import codec
from ingest.outcomes import (
    Delivered,
    ItemError,
    Outcome,
    Response,
    Unanswered,
    Unavailable,
    Words,
    classify,
    remarks_of,
)
from ingest.quoting import REASON_CHARS, Body, quote, read_body
from ingest.records import ATTRIBUTES, Batch
from ingest.sinks.batchcep.folding import Edits, Place
from ingest.sinks.batchcep.names import base_of, slug
from ingest.sinks.batchcep.translation import FIELD_OF

GENERIC_CODE: Final = "piece-refused"
"""Code of a refused piece of a sort that is not named, or not like a name."""

MAINTENANCE: Final = 503
"""The one server error of which the documents say that nothing was processed."""

UNTOLD: Final = "which piece of the user's records is meant is not told"

UNTOLD_OF: Final = "which of {} records of the user is meant is not told"
"""Where several have what is named: the first of them gets the letter."""

NOBODYS: Final = "an entry of 'errors' names no user of the request"

_CATEGORY: Final = re.compile(r"[a-z][a-z0-9]{0,20}(?:[ _-][a-z0-9]{1,20}){0,3}")


class _CepAnswer(msgspec.Struct):
    """Just enough of an answer to know that all went well."""

    code: str = ""
    errors: Any = None


_decode: Final = codec.typed(_CepAnswer).decode
_members: Final = codec.typed(dict[str, msgspec.Raw]).decode


def interpret_update(
    batch: Batch,
    response: Response,
    *,
    secrets: Sequence[str],
    hints: Mapping[int, str],
) -> Outcome:
    """Say what an answer means for its batch. Never raises."""
    status = response.status
    if not 200 <= status < 300:
        body = _error_body(response, secrets)
        outcome = classify(response, secrets=secrets, hints=hints, body=body)
        if isinstance(outcome, Unavailable) and status >= 500 and status != MAINTENANCE:
            return Unanswered(status, outcome.reason)
        return outcome
    try:
        said = _decode(response.body)
    except (codec.DecodeError, ValueError, RecursionError):
        pass  # no JSON, not UTF-8, or thousands of open brackets: each raises its own
    else:
        if said.code == "SUCCESS" and not said.errors and not response.truncated:
            return Delivered(status)
    body = read_body(response, secrets)
    errors = body.fields.get("errors")
    listed = errors if isinstance(errors, list) else [errors] if errors else []
    rejected, pieces, unusable = _refused(Edits(batch), listed, secrets) if listed else ((), (), [])
    said_beside = (*_doubts(status, body, listed, response.truncated), *unusable)
    remarks = remarks_of(said_beside, secrets=secrets)
    return Delivered(status, rejected, remarks=remarks, pieces=pieces)


def _error_body(response: Response, secrets: Sequence[str]) -> Body:
    """Read the body of an error, whose code says more than its sentence."""
    body = read_body(response, secrets)
    code = body.fields.get("error_code")
    if not isinstance(code, str) or not code:
        return body
    message = body.fields.get("error_message")
    text = f"{code}: {message}" if isinstance(message, str) and message else code
    return Body(body.value, True, quote(text, secrets))


def _doubts(status: int, body: Body, listed: Sequence[Any], truncated: bool) -> Iterable[Words]:
    """Say what is odd about the answer of a success: it counts all the same."""
    answer, code = f"the answer {status}", body.fields.get("code")
    if truncated:
        cut = f"{answer} was cut short: refusals of single pieces may be missing"
        yield Words(cut, sort="answer-cut-short")
    elif not body.is_json and not body.says:
        yield Words(f"{answer} has an empty body, and no JSON", sort="answer-empty")
    elif not body.is_json:
        yield Words(f"{answer} is no JSON", body.says, "answer-not-json")
    elif not isinstance(code, str):
        yield Words(f"{answer} has no code, not even 'SUCCESS'", sort="answer-without-code")
    elif code != "SUCCESS" and not listed:
        said = code.lower().replace("_", " ")  # a code as words, which are masked like any other
        yield Words(f"{answer} has another code than 'SUCCESS', and no errors", said, "odd-code")


class _Said(NamedTuple):
    """What one error is about: a record, `of` how many that may be meant.

    `whole` says that all of the record was refused, `name` what the piece is called (empty if that
    is not told), `own` that it is an attribute of the profile.
    """

    place: Place
    of: int
    name: str
    whole: bool = False
    own: bool = False


class _Refusals:
    """Reads the errors of one answer, in their order: who is meant may depend on those before."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self._turns: Counter[tuple[Place, ...]] = Counter()
        self._attributes: dict[int, set[str]] = {}  # edit -> attributes that were refused
        self._whole: dict[Place, None] = {}
        self._errors: dict[ItemError, None] = {}  # an ordered set

    def add(self, index: int, name: str, category: str, code: str, reason: str) -> None:
        """Take an error about edit `index`. `name` is what it calls the piece, if anything."""
        edits = self._edits
        said = self._said(index, name, category)
        if said is None:
            error = ItemError(*edits.first(index), code, _told(reason, UNTOLD))
        else:
            if said.of > 1:
                reason = _told(reason, UNTOLD_OF.format(said.of))
            field = _field(edits, said.place, said.name) if said.name else ""
            error = ItemError(*said.place, code, reason, field)
            if said.whole:
                self._whole[said.place] = None
            if said.own:
                self._attributes.setdefault(index, set()).add(base_of(said.name))
        self._errors[error] = None

    def settled(self) -> tuple[tuple[ItemError, ...], tuple[ItemError, ...]]:
        """Return what is said of records that were refused as a whole, and of the others.

        Of an attributes record that is so if none of the attributes that were sent for it is left.
        """
        whole = set(self._whole)
        for index, refused in self._attributes.items():
            winners = self._edits.winners(index)
            left = {row for name, row in winners.items() if name not in refused}
            whole |= {(ATTRIBUTES, winners[name]) for name in refused if winners[name] not in left}
        rejected = tuple(error for error in self._errors if (error.slot, error.index) in whole)
        pieces = tuple(error for error in self._errors if (error.slot, error.index) not in whole)
        return rejected, pieces

    def _said(self, index: int, name: str, category: str) -> _Said | None:
        """Find the record that is meant, and how many may be."""
        happened, winners = self._edits.occurrences(index), self._edits.winners(index)
        of_event, of_attribute = "event" in category, "attribute" in category
        if not name and of_attribute and len(winners) == 1 and not happened:
            (name,) = winners  # there is nothing else
        base = base_of(name)
        own = [(ATTRIBUTES, winners[base])] if name and base in winners else []
        named = [each.place for each in happened if name and each.name == name]
        keyed = [each.place for each in happened if name and base in each.attributes]
        every = [each.place for each in happened]
        ways: tuple[tuple[list[Place], ...], ...]  # the likeliest first
        if of_event:
            ways = ((keyed, named) if of_attribute else (named, keyed), (every,), (own,))
        elif of_attribute:
            ways = ((own, keyed), (named,))
        else:
            ways = ((own, named, keyed),)
        way = next(filter(any, ways), None)
        if way is None:
            return None
        choice = next(filter(None, way))
        of = len({place for places in way for place in places})
        if choice is own:
            return _Said(own[0], of, name, own=True)
        # Of events that are not told apart, each error is about another one while there is one.
        turn = self._turns[tuple(choice)]
        self._turns[tuple(choice)] += 1
        place = choice[min(turn, len(choice) - 1)]
        whole = not of_attribute if of_event else choice is named
        return _Said(place, of, "" if choice is every else name, whole)


def _told(reason: str, more: str) -> str:
    """Add what is not told, within the length of a reason."""
    return f"{reason[: REASON_CHARS - len(more) - 3]} ({more})"


def _refused(
    edits: Edits, errors: Sequence[Any], secrets: Sequence[str]
) -> tuple[tuple[ItemError, ...], tuple[ItemError, ...], list[Words]]:
    """Return the errors of whole records, those of pieces, and in words those of no edit."""
    refusals = _Refusals(edits)
    unusable: list[Words] = []
    read: dict[str, str] = {}
    for error in errors:
        fields = error if isinstance(error, dict) else {}
        text = fields.get("reason", error)
        text = text if isinstance(text, str) else ""
        if text not in read:
            read[text] = quote(text, secrets) or "no reason given"
        reason = read[text]
        index = fields.get("bulk_index")
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(edits):
            unusable.append(Words(NOBODYS, reason, "unplaced-errors"))
            continue
        name, category = fields.get("attribute"), fields.get("category")
        sort = category.lower() if isinstance(category, str) else ""
        name = name if isinstance(name, str) else ""
        refusals.add(index, name, sort, _code(sort), reason)
    return *refusals.settled(), unusable


def _code(sort: str) -> str:
    """Return the slug of what sort of piece was refused."""
    if not _CATEGORY.fullmatch(sort):
        return GENERIC_CODE
    return re.sub("[ _]", "-", sort) + "-refused"


def _field(edits: Edits, place: tuple[int, int], name: str) -> str:
    """Return what the record calls the piece that its translation calls `name`."""
    if name in FIELD_OF:
        return FIELD_OF[name]
    base, members = base_of(name), _members(edits.record(place))
    if place[0] == ATTRIBUTES:
        return next((field for field in members if slug(field) == base), base)
    properties = members.get("properties")
    try:
        fields = _members(properties) if properties is not None else {}
    except codec.ValidationError:
        fields = {}
    found = next((field for field in fields if slug(field) == base), "")
    if found:
        return f"properties.{found}"
    return next((field for field in (base, "name") if field in members), "")
