"""What becomes of each record of a batch, given what the destination said.

`decide` splits a batch into what is delivered, what gets a verdict, and what goes again, later or
in pieces. It waits for nothing and knows no clock: the caller tells it what it has seen of the
other requests (`Weather`) and passes the dice (`jitter`). The words are in `ingest.dispositions`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import accumulate, islice
from typing import Final, assert_never

import msgspec

from ingest.dispositions import (
    TAKEN,
    Disposition,
    Piece,
    Repeatable,
    RetryPolicy,
    Row,
    Tries,
    Verdict,
    Weather,
)
from ingest.outcomes import (
    Delivered,
    Invalid,
    ItemError,
    Outcome,
    Refused,
    Throttled,
    TooLarge,
    TooMany,
    Unanswered,
    Unauthorized,
    Unavailable,
)
from ingest.profiles import Caps
from ingest.records import Batch

SERVER_ERROR: Final = 500

ABOUT_DATA: Final = frozenset((400, 422))
"""Refusals that judge the body; 404, 405, 415 and redirects judge where and how it was sent."""


def plainly(outcome: Outcome) -> bool:
    """Whether a batch was taken as it is, and nothing more is to be said of it.

    Then `decide` says `ALL_DELIVERED`, whatever else is known.
    """
    return isinstance(outcome, Delivered) and not (
        outcome.rejected or outcome.pieces or outcome.queued or outcome.remarks
    )


def decide(
    batch: Batch,
    outcome: Outcome,
    tries: Tries,
    weather: Weather,
    policy: RetryPolicy,
    caps: Caps,
    *,
    repeatable: Repeatable,
    jitter: float,
    asked_delay: float = 0.0,
    folded: bool = False,
    doubted: Collection[Row] = (),
) -> Disposition:
    """Return what becomes of each record of `batch`.

    `caps` are the ones in force now; `repeatable(slot, index)` says whether a second copy of a
    record changes nothing; `folded` that the records of a user are one item of a request;
    `doubted` are rows that an earlier process of the run may have sent;
    `asked_delay` is the floor, in seconds, that the destination asked for. `jitter` is in [0, 1).
    """
    sent = msgspec.structs.replace(tries, sends=tries.sends + 1)
    match outcome:
        case Delivered():
            return _delivered(outcome, tries, doubted)
        case Invalid():
            return _settle_invalid(batch, outcome, sent, doubted)
        case Throttled():
            return Disposition(pieces=(Piece(None, sent),), delay=asked_delay)
        case TooMany():
            return _repack(batch, outcome, sent, caps)
        case TooLarge():
            if len(batch) == 1:
                reason = "the destination says that this record alone is larger than it takes"
                return _verdict_for_all(batch, "rejected", "too-large", reason, outcome.status)
            return Disposition(pieces=_halves(batch, _afresh(sent)))
        case Refused():
            return _refused(batch, outcome, sent, weather, policy, jitter, folded=folded)
        case Unavailable():
            return _failed(batch, outcome, sent, weather, policy, jitter, asked_delay)
        case Unanswered():
            return _unanswered(
                batch, outcome, sent, weather, policy, jitter, asked_delay, repeatable
            )
        case Unauthorized():
            # No verdict on the data: the caller halts, and everything stays pending.
            return Disposition(pieces=(Piece(None, sent),))
        case _:
            assert_never(outcome)


def _delivered(outcome: Delivered, tries: Tries, doubted: Collection[Row]) -> Disposition:
    """Split what was taken from what was not, and say of which of that a piece was not."""
    verdicts = _judged(outcome, tries, doubted)
    bad = {(verdict.slot, verdict.index) for verdict in verdicts}
    warned = tuple(
        Verdict(
            error.slot, error.index, TAKEN, error.code, error.reason, outcome.status, error.field
        )
        for error in outcome.pieces
        if (error.slot, error.index) not in bad
    )
    return Disposition(delivered=True, verdicts=verdicts, warned=warned)


def _judged(
    outcome: Delivered | Invalid, tries: Tries, doubted: Collection[Row]
) -> tuple[Verdict, ...]:
    """Return a verdict for each record that is named.

    An error that an earlier copy earns its successor refuses nobody where there may have been one.
    """
    if not (tries.doubted or doubted):
        return _rejections(outcome.rejected, outcome)
    doubts = {
        row: error
        for error in outcome.rejected
        if error.already and ((row := (error.slot, error.index)) in doubted or tries.doubted)
    }
    sure = _rejections(
        (
            error
            for error in outcome.rejected
            if not (error.already and (error.slot, error.index) in doubts)
        ),
        outcome,
    )
    bad = {(verdict.slot, verdict.index) for verdict in sure}
    return sure + tuple(
        Verdict(
            *row,
            TAKEN,
            "perhaps-done-before",
            f"{error.reason}; an earlier request, which got no answer, may have done it",
            outcome.status,
        )
        for row, error in doubts.items()
        if row not in bad
    )


def _rejections(errors: Iterable[ItemError], outcome: Delivered | Invalid) -> tuple[Verdict, ...]:
    """One verdict per record: several errors of one index become one sentence."""
    by_row: dict[Row, list[ItemError]] = {}
    for error in errors:
        by_row.setdefault((error.slot, error.index), []).append(error)
    return tuple(
        Verdict(
            slot,
            index,
            "rejected",
            found[0].code,
            "; ".join(dict.fromkeys(error.reason for error in found)),
            outcome.status,
            found[0].field,
        )
        for (slot, index), found in by_row.items()
    )


def _settle_invalid(
    batch: Batch, outcome: Invalid, sent: Tries, doubted: Collection[Row]
) -> Disposition:
    verdicts = _judged(outcome, sent, doubted)
    bad = {(verdict.slot, verdict.index) for verdict in verdicts}
    rest = tuple(row for row in batch.rows() if row not in bad)
    pieces = (Piece(rest, _afresh(sent)),) if rest else ()
    return Disposition(verdicts=verdicts, pieces=pieces)


def _afresh(sent: Tries) -> Tries:
    """Tries of a piece whose batch did not fail, but held what made it unfit."""
    return Tries(sends=sent.sends, suspect=sent.suspect, doubted=sent.doubted)


def _verdict_for_all(
    batch: Batch, column: str, code: str, reason: str, status: int | None
) -> Disposition:
    return Disposition(
        verdicts=tuple(
            Verdict(slot, index, column, code, reason, status) for slot, index in batch.rows()
        )
    )


def _halves(batch: Batch, tries: Tries, *, by_user: bool = False) -> tuple[Piece, ...]:
    """Two pieces in the order of the source, or without a common user, if there are several.

    In the order of the source one bad record is found the soonest. By user no half waits for the
    other: one that fails for ever cannot keep the other from showing that the destination is up,
    and a bad user whose records are all over the batch does not spoil both.
    """
    rows = in_source_order(batch)
    users = [batch.columns[slot].keys[index] for slot, index in rows]
    records = Counter(users)
    if not by_user or len(records) == 1:
        middle = len(rows) // 2
        return Piece(tuple(rows[:middle]), tries), Piece(tuple(rows[middle:]), tries)
    up_to = list(accumulate(records.values()))
    first = set(islice(records, max(1, bisect_right(up_to, len(rows) // 2))))
    pieces = (
        tuple(row for row, user in zip(rows, users, strict=True) if (user in first) is early)
        for early in (True, False)
    )
    return tuple(Piece(piece, tries) for piece in pieces)


def in_source_order(batch: Batch) -> list[Row]:
    """Return the (slot, index) rows of a batch by position."""
    positions = [column.positions for column in batch.columns]
    return sorted(batch.rows(), key=lambda row: positions[row[0]][row[1]])


def _repack(batch: Batch, outcome: TooMany, sent: Tries, caps: Caps) -> Disposition:
    """Cut a batch that was refused as too many into pieces under the caps now in force."""
    if len(batch) == 1:
        reason = "the destination refuses even one record as too many"
        return _verdict_for_all(batch, "rejected", "too-many", reason, outcome.status)
    fresh = _afresh(sent)
    fitting = len(batch) <= caps.total and all(
        len(column) <= cap for column, cap in zip(batch.columns, caps.per_slot, strict=True)
    )
    if fitting:
        return Disposition(pieces=_halves(batch, fresh))
    return Disposition(pieces=repacked(batch, fresh, caps))


def repacked(batch: Batch, tries: Tries, caps: Caps) -> tuple[Piece, ...]:
    """Cut a batch into as few pieces as fit `caps` by count, in the order of the source."""
    pieces: list[tuple[Row, ...]] = []
    piece: list[Row] = []
    counts = [0] * len(batch.columns)
    for row in in_source_order(batch):
        slot = row[0]
        if len(piece) >= caps.total or counts[slot] >= caps.per_slot[slot]:
            pieces.append(tuple(piece))
            piece, counts = [], [0] * len(batch.columns)
        piece.append(row)
        counts[slot] += 1
    pieces.append(tuple(piece))
    return tuple(Piece(rows, tries) for rows in pieces)


def _refused(
    batch: Batch,
    outcome: Refused,
    sent: Tries,
    weather: Weather,
    policy: RetryPolicy,
    jitter: float,
    *,
    folded: bool,
) -> Disposition:
    if outcome.status not in ABOUT_DATA:
        return _misdirected(batch, outcome, sent, weather, policy, jitter)
    if weather.outage:
        # One that refuses everything is tried again now and then, and that is no verdict (law 7).
        # Where it is about this record after all, the next try, in better weather, says so again.
        return Disposition(pieces=(Piece(None, sent),), delay=policy.refusal_delay * (1 + jitter))
    if len(batch) == 1:
        return _verdict_for_all(batch, "rejected", "refused", outcome.reason, outcome.status)
    if weather.bisected + 2 > policy.bisect_requests:
        return _cap_reached(batch, outcome.reason, outcome.status, policy)
    # Where users are the items of a request, a refusal is about one of them.
    return Disposition(pieces=_halves(batch, _afresh(sent), by_user=folded), bisecting=True)


def _misdirected(
    batch: Batch,
    outcome: Refused,
    sent: Tries,
    weather: Weather,
    policy: RetryPolicy,
    jitter: float,
) -> Disposition:
    """A wrong path or a redirect says nothing about a record; the caller counts and halts.

    While others succeed nothing halts, and it may be a gateway that dislikes these very bytes.
    """
    delay = policy.refusal_delay * (1 + jitter)
    if not weather.others_succeed:
        return Disposition(pieces=(Piece(None, sent),), delay=delay)
    tries = msgspec.structs.replace(sent, strikes=sent.strikes + 1)
    if tries.strikes >= policy.strikes_to_fail:
        return _gave_up(batch, outcome, tries)
    delay = max(delay, backoff(sent.strikes, policy, jitter))
    return Disposition(pieces=(Piece(None, tries),), delay=delay)


def _gave_up(
    batch: Batch, outcome: Refused | Unavailable | Unanswered, tries: Tries
) -> Disposition:
    reason = (
        f"given up after {tries.strikes} failures while other requests succeeded; "
        f"the last one: {outcome.reason}"
    )
    return _verdict_for_all(batch, "failed", "gave-up", reason, outcome.status)


def _cap_reached(batch: Batch, said: str, status: int | None, policy: RetryPolicy) -> Disposition:
    reason = (
        f"sent together with records that the destination refused ({said}), and not told apart "
        f"from them within {policy.bisect_requests} requests; it may be good: replay it"
    )
    return _verdict_for_all(batch, "failed", "bisect-cap", reason, status)


def backoff(failures: int, policy: RetryPolicy, jitter: float) -> float:
    """Full jitter: seconds uniform in [0, min(cap, base * 2**failures))."""
    return jitter * min(policy.cap, policy.base * 2.0 ** min(failures, 32))


def _failed(
    batch: Batch,
    outcome: Unavailable | Unanswered,
    sent: Tries,
    weather: Weather,
    policy: RetryPolicy,
    jitter: float,
    asked_delay: float,
    *,
    bisectable: bool = True,
) -> Disposition:
    """Send again later, in halves after too many strikes, or give up on what never works."""
    strike = not weather.outage and weather.others_succeed
    tries = msgspec.structs.replace(sent, failures=sent.failures + 1, strikes=sent.strikes + strike)
    delay = max(asked_delay, backoff(sent.failures, policy, jitter))
    left = policy.bisect_requests - weather.bisected
    size = len(batch)
    said_5xx = outcome.status is not None and outcome.status >= SERVER_ERROR
    if bisectable and said_5xx and size > 1:
        enough = policy.suspect_strikes_to_bisect if tries.suspect else policy.strikes_to_bisect
        # With nothing else to send, nobody is left to tell an outage from a bad record: halves do,
        # as probes too, for a bad record alone looks like an outage.
        struck = (not weather.outage and tries.strikes >= enough) or (
            weather.alone and not tries.suspect and tries.failures >= policy.strikes_to_bisect
        )
        if struck and left >= 2:
            afresh = Tries(sends=tries.sends, suspect=True, doubted=tries.doubted)
            halves = _halves(batch, afresh, by_user=True)
            return Disposition(pieces=halves, delay=delay, bisecting=True)
    last = policy.suspect_strikes_to_fail if tries.suspect and size == 1 else policy.strikes_to_fail
    if strike and tries.strikes >= last:
        return _gave_up(batch, outcome, tries)
    if strike and tries.suspect and left < 1:
        return _cap_reached(batch, outcome.reason, outcome.status, policy)
    return Disposition(pieces=(Piece(None, tries),), delay=delay)


def _unanswered(
    batch: Batch,
    outcome: Unanswered,
    sent: Tries,
    weather: Weather,
    policy: RetryPolicy,
    jitter: float,
    asked_delay: float,
    repeatable: Repeatable,
) -> Disposition:
    """Resend or hold, by kind: a second copy of a plain attribute changes nothing (law 5)."""
    sent = msgspec.structs.replace(sent, doubted=True)
    held = tuple(
        (slot, index)
        for slot, index in batch.rows()
        if slot in policy.hold_unanswered and not repeatable(slot, index)
    )
    if not held:
        # A gateway's time-out is about load; an error of the service itself may be about a record.
        bisectable = outcome.status == SERVER_ERROR
        again = _failed(
            batch, outcome, sent, weather, policy, jitter, asked_delay, bisectable=bisectable
        )
        return msgspec.structs.replace(
            again, duplicated=sum(_size(batch, piece) for piece in again.pieces)
        )
    reason = f"sent, and not known whether it arrived: {outcome.reason}"
    verdicts = tuple(
        Verdict(slot, index, "held", "unanswered", reason, outcome.status) for slot, index in held
    )
    kept = set(held)
    rest = tuple(row for row in batch.rows() if row not in kept)
    if not rest:
        return Disposition(verdicts=verdicts)
    delay = max(asked_delay, backoff(sent.failures, policy, jitter))
    tries = msgspec.structs.replace(sent, failures=sent.failures + 1)
    return Disposition(
        verdicts=verdicts, pieces=(Piece(rest, tries),), delay=delay, duplicated=len(rest)
    )


def _size(batch: Batch, piece: Piece) -> int:
    return len(batch) if piece.rows is None else len(piece.rows)
