"""The fast way of the intake: proofs for whole slices of lines that nothing is wrong with them.

Decides which lines are good beyond doubt, by a typed decoder and a few tests of bytes that run over
many records at once. What it cannot prove it calls doubtful, which says nothing: the rules
themselves (`validation.check`) have the last word on those. It never refuses a record.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ingest.codec import DecodeError, typed
from ingest.forms import JSON_SPACE, flagged
from ingest.records import ATTRIBUTES, KINDS, PURCHASE, Fragment, UserKey
from ingest.validation import HEADS, clean_chunk

T = TypeVar("T")

DOUBTFUL: Final = 255
"""Stands for the slot of a line of which nothing is proven."""

PIECES: Final = 8
"""Into how many pieces records that are not clean together are cut, to look at each: with one bad
record in 256, three rounds find it, and the others are looked at three times more."""

SURELY_SHALLOW: Final = 2_000
"""Bytes of an object in which no decoder meets its limit of 1,024 levels: a level takes two."""

FLAG_BYTES: Final = len(flagged(b"{}"))
"""More than what `flagged` adds to a record."""

NEWLINE: Final = b"\n"

_OPENINGS: Final = tuple(b'{"%b"' % kind.encode() for kind in KINDS)
_WRAPPINGS: Final = tuple(len(b'{"%b":}' % kind.encode()) for kind in KINDS)
"""Bytes of an envelope without white space, by slot."""


class _Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The form that the fast way knows; the fields are in the order of KINDS."""

    attributes: Raw | UnsetType = UNSET
    event: Raw | UnsetType = UNSET
    purchase: Raw | UnsetType = UNSET


class Proof(msgspec.Struct):
    """What is proven of some lines: slot, fragment and key of each, `DOUBTFUL` for the others.

    `opened` holds (slot, content) of doubtful lines that are nothing but an envelope around it.
    `time` is that of one event or purchase among the proven, as text; empty if there is none.
    """

    slots: bytearray
    fragments: list[Fragment]
    keys: list[UserKey]
    opened: dict[int, tuple[int, bytes]]
    time: str = ""

    @classmethod
    def of_nothing(cls, count: int) -> Proof:
        """Return the proof that calls all of `count` lines doubtful."""
        return cls(bytearray((DOUBTFUL,)) * count, [b""] * count, [""] * count, {})


class Vouched(msgspec.Struct, frozen=True, gc=False):
    """Flat objects of one kind, as columns, by an encoder that knows what it put into them.

    `keys` are their external ids. Of all rows but those in `doubtful`, which count up, it is
    certain that no rule finds anything, and that nobody else is named in them.
    """

    kind: str
    fragments: Sequence[bytes]
    keys: Sequence[str]
    doubtful: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.fragments)

    def lines(self) -> list[bytes]:
        """Return each object in its envelope."""
        opening = b'{"%b":' % self.kind.encode()
        return [b"%b%b}" % (opening, fragment) for fragment in self.fragments]

    def cut(self, start: int, stop: int) -> Vouched:
        """Return some of the rows."""
        at, to = bisect_left(self.doubtful, start), bisect_left(self.doubtful, stop)
        doubtful = [row - start for row in self.doubtful[at:to]]
        return Vouched(self.kind, self.fragments[start:stop], self.keys[start:stop], doubtful)

    def proof(self, largest: int) -> Proof:
        """Return what is proven of `lines`, if a record may have so many bytes."""
        fragments: list[Fragment] = list(self.fragments)
        slot = KINDS.index(self.kind)
        doubtful = set(self.doubtful)
        if max(map(len, fragments), default=0) > largest:
            doubtful.update(row for row, one in enumerate(fragments) if len(one) > largest)
        slots = bytearray((slot,)) * len(fragments)
        opened = {}
        for row in doubtful:
            slots[row] = DOUBTFUL
            if len(fragments[row]) <= SURELY_SHALLOW:
                opened[row] = slot, fragments[row]
        return Proof(slots, fragments, list(self.keys), opened)


class _Rows(msgspec.Struct):
    """Records of one kind, to be proven together: their lines' indices, and their bytes."""

    rows: list[int] = []
    raws: list[Fragment] = []


class Prover:
    """Proves lines that are enveloped, or bare where `bare` names their kind.

    A record may have `largest` bytes; with `update_existing_only`, records that do not say
    themselves whether they may create a user get the flag that they may not.
    """

    def __init__(self, bare: str | None, *, largest: int, update_existing_only: bool) -> None:
        self._bare = None if bare is None else KINDS.index(bare)
        self._largest = largest - FLAG_BYTES if update_existing_only else largest
        self._flag = update_existing_only
        self._envelopes = typed(_Envelope)
        self._heads = [typed(HEADS[kind]) for kind in KINDS]

    def prove(self, lines: Sequence[bytes]) -> Proof:
        """Return what is proven of lines; no line may hold a newline."""
        proof = Proof.of_nothing(len(lines))
        rows: Sequence[int] = range(len(lines))
        some, whole = lines, NEWLINE.join(lines)
        if not (
            all(lines) and _is_utf8(whole) and max(map(len, lines), default=0) <= self._largest
        ):
            rows = [row for row, line in enumerate(lines) if line and self._may_be(line)]
            some = [lines[row] for row in rows]
            whole = NEWLINE.join(some)
        enveloped, bare = self._sorted(whole, rows, some)
        for slot, found in enumerate(enveloped):
            self._prove_slot(proof, slot, found)
        if self._bare is not None:
            self._prove_slot(proof, self._bare, bare)
        if DOUBTFUL in proof.slots:
            _keep_opened(proof, lines, enveloped)
        return proof

    def _may_be(self, line: bytes) -> bool:
        return len(line) <= self._largest and _is_utf8(line)

    def _sorted(
        self, whole: bytes, rows: Sequence[int], lines: Sequence[bytes]
    ) -> tuple[list[_Rows], _Rows]:
        """Sort lines into envelopes by slot, opened, and what may be bare."""
        enveloped, bare = [_Rows() for _ in KINDS], _Rows()
        envelopes = self._open(whole, lines)
        # White space around a bare object is no part of the record. It may be a CDI row if it has a
        # payload; in any other form an object has no identity of its own, and so gets no key.
        if not any(envelopes) and b'"payload"' not in whole:
            return enveloped, _Rows(list(rows), [line.strip(JSON_SPACE) for line in lines])
        for row, line, envelope in zip(rows, lines, envelopes, strict=True):
            if envelope is not None:
                slot, raw = _content(envelope)
                if slot != DOUBTFUL:
                    enveloped[slot].rows.append(row)
                    enveloped[slot].raws.append(raw)
            elif b'"payload"' not in line:
                bare.rows.append(row)
                bare.raws.append(line.strip(JSON_SPACE))
        return enveloped, bare

    def _open(self, whole: bytes, lines: Sequence[bytes]) -> Sequence[_Envelope | None]:
        """Open the envelopes among lines; None for a line that is none."""
        try:
            envelopes = self._envelopes.decode_lines(whole)
        except (DecodeError, RecursionError):
            pass
        else:
            # No line can hold two values: as many values as lines means one in each.
            if len(envelopes) == len(lines):
                return envelopes
        return [
            _decoded(self._envelopes.decode, line)
            if self._bare is None or line.startswith(_OPENINGS)
            else None
            for line in lines
        ]

    def _prove_slot(self, proof: Proof, slot: int, found: _Rows) -> None:
        """Prove records of one kind: all at once, else what can be of them."""
        rows, raws, decoder = found.rows, found.raws, self._heads[slot]
        if not rows:
            return
        heads: Sequence[Any]
        joined = NEWLINE.join(raws)
        try:
            heads = decoder.decode_lines(joined)
        except (DecodeError, RecursionError):
            heads = ()
        if len(heads) != len(rows):
            heads = [_decoded(decoder.decode, raw) for raw in raws]
            rows, raws, heads = _chosen([head is not None for head in heads], rows, raws, heads)
            joined = NEWLINE.join(raws)
        if slot == ATTRIBUTES and joined.count(b"{") != len(rows):
            # Two groups, for one nested record would cast its doubt on all flat ones beside it.
            texts = list(map(bytes, raws))
            nested = [
                text.count(b"{") > 1 and b"$" not in text and b'"user_alias"' not in text
                for text in texts
            ]
            self._screen(proof, slot, *_chosen(nested, rows, raws, heads))
            flat = [text.count(b"{") == 1 for text in texts]
            rows, raws, heads = _chosen(flat, rows, raws, heads)
        self._screen(proof, slot, rows, raws, heads)

    def _screen(
        self,
        proof: Proof,
        slot: int,
        rows: list[int],
        raws: list[Fragment],
        heads: Sequence[Any],
    ) -> None:
        """Prove what heads were read of; where all together are not clean, piece by piece."""
        count = len(rows)
        if not count:
            return
        joined = NEWLINE.join(raws)
        quantities = 0
        if slot == PURCHASE:
            quantities = sum(head.quantity is not None for head in heads)
        longest = max(map(len, raws))
        if clean_chunk(KINDS[slot], joined, count, longest=longest, quantities=quantities):
            self._accept(proof, slot, rows, raws, heads, joined)
        elif count > 1:
            step = max(1, count // PIECES)
            for start in range(0, count, step):
                piece = slice(start, start + step)
                self._screen(proof, slot, rows[piece], raws[piece], heads[piece])

    def _accept(
        self,
        proof: Proof,
        slot: int,
        rows: list[int],
        raws: list[Fragment],
        heads: Sequence[Any],
        joined: bytes,
    ) -> None:
        """Note clean records that have a key."""
        keys: list[UserKey | None]
        if b'"user_alias"' in joined or b'"braze_id"' in joined:
            keys = [head.key() for head in heads]
        else:
            keys = [head.external_id for head in heads]
            if None in keys:
                keys = [head.key() for head in heads]
        if self._flag:
            raws = [
                flagged(bytes(raw)) if head.update_existing_only is None else raw
                for raw, head in zip(raws, heads, strict=True)
            ]
        count = len(rows)
        if count == len(proof.slots) and None not in keys:
            proof.slots[:] = bytes((slot,)) * count
            proof.fragments, proof.keys = raws, cast(list[UserKey], keys)
        else:
            for row, raw, key in zip(rows, raws, keys, strict=True):
                if key is not None:
                    proof.slots[row], proof.fragments[row], proof.keys[row] = slot, raw, key
        if slot != ATTRIBUTES:
            proof.time = heads[0].time.isoformat()


def _decoded(decode: Callable[[Fragment], T], data: Fragment) -> T | None:
    try:
        return decode(data)
    except (DecodeError, RecursionError):
        return None


def _chosen(
    chosen: Sequence[bool], rows: list[int], raws: list[Fragment], heads: Sequence[Any]
) -> tuple[list[int], list[Fragment], Sequence[Any]]:
    return (
        list(compress(rows, chosen)),
        list(compress(raws, chosen)),
        list(compress(heads, chosen)),
    )


def _keep_opened(proof: Proof, lines: Sequence[bytes], enveloped: Sequence[_Rows]) -> None:
    """Spare the rules the opening of doubtful envelopes that have one content for certain.

    A line as long as its content and the plainest envelope holds nothing else: no second content
    under the same key, and no white space.
    """
    for slot, found in enumerate(enveloped):
        for row, raw in zip(found.rows, found.raws, strict=True):
            size = len(raw)
            if (
                proof.slots[row] == DOUBTFUL
                and size + _WRAPPINGS[slot] == len(lines[row])
                and size <= SURELY_SHALLOW
            ):
                proof.opened[row] = slot, bytes(raw)


def _content(envelope: _Envelope) -> tuple[int, Fragment]:
    """Return the slot and the content of an envelope that holds exactly one thing."""
    attributes, event, purchase = envelope.attributes, envelope.event, envelope.purchase
    if event is not UNSET:
        if attributes is UNSET and purchase is UNSET:
            return 1, event
    elif attributes is not UNSET:
        if purchase is UNSET:
            return 0, attributes
    elif purchase is not UNSET:
        return 2, purchase
    return DOUBTFUL, b""


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
