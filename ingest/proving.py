"""The fast way of the intake: proofs for whole slices of lines that nothing is wrong with them.

Decides which lines are good beyond doubt, by a typed decoder and a few tests of bytes that run over
many records at once. What it cannot prove it calls doubtful, which says nothing: the rules
themselves (`validation.check`) have the last word on those. It never refuses a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import compress
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ingest.codec import DecodeError, is_utf8, typed
from ingest.forms import JSON_SPACE, flagged
from ingest.plainest import NEWLINE, Lines, Plainest, alike, bare_records, by_mark, by_opening
from ingest.proofs import DOUBTFUL, SURELY_SHALLOW, Alike, Proof
from ingest.records import (
    ATTRIBUTES,
    KINDS,
    Fragment,
    Joined,
    UserKey,
)
from ingest.validation import HEADS, Shapes, clean_chunk

T = TypeVar("T")

PIECES: Final = 8
"""Into how many pieces records that are not clean together are cut, to look at each: with one bad
record in 256, three rounds find it, and the others are looked at three times more."""

FLAG_BYTES: Final = len(flagged(b"{}"))
"""More than what `flagged` adds to a record."""

_OPENINGS: Final = tuple(b'{"%b"' % kind.encode() for kind in KINDS)
_NAMES: Final = tuple(b'"%b"' % kind.encode() for kind in KINDS)
_WRAPPINGS: Final = tuple(len(b'{"%b":}' % kind.encode()) for kind in KINDS)
"""Bytes of an envelope without white space, by slot."""


def _opened_in(kind: str) -> type[Any]:
    """Return the shape of an envelope that holds a head of one kind, and nothing else."""
    fields = [("head", HEADS[kind], msgspec.field(name=kind))]
    return msgspec.defstruct("_Opened", fields, gc=False, forbid_unknown_fields=True)


_PAYLOAD: Final = "payload"
"""A member of a CDI row, which is no record itself."""

_HEAD: Final = attrgetter("head")
_EXTERNAL_ID: Final = attrgetter("external_id")
_USER_ALIAS: Final = attrgetter("user_alias")
_BRAZE_ID: Final = attrgetter("braze_id")
_EMAIL: Final = attrgetter("email")


class _Envelope(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The form that the fast way knows; the fields are in the order of KINDS."""

    attributes: Raw | UnsetType = UNSET
    event: Raw | UnsetType = UNSET
    purchase: Raw | UnsetType = UNSET


class _Rows(msgspec.Struct):
    """Records of one slot, to be proven together: their lines' indices, and their bytes."""

    slot: int
    rows: Sequence[int] = []
    raws: Sequence[Fragment] = []

    def add(self, row: int, raw: Fragment) -> None:
        """Append one."""
        assert isinstance(self.rows, list)
        assert isinstance(self.raws, list)
        self.rows.append(row)
        self.raws.append(raw)


class _SoFar(msgspec.Struct):
    """What is proven so far, by slot, with one time among it, and what was opened of lines."""

    proven: list[Alike] = []
    opened: list[_Rows] = []
    time: str = ""

    def proof(self, count: int) -> Proof:
        """Return what is proven of so many lines."""
        proven = self.proven
        if sum(map(len, proven)) == count and self._apart():
            return Proof.of_all(proven, self.time)
        slots = bytearray((DOUBTFUL,)) * count
        fragments: list[Fragment] = [b""] * count
        keys: list[UserKey] = [""] * count
        for some in proven:
            for row, fragment, key in zip(some.rows, some.fragments, some.keys, strict=True):
                slots[row], fragments[row], keys[row] = some.slot, fragment, key
        return Proof(slots, fragments, keys, {}, self.time)

    def _apart(self) -> bool:
        """Whether nothing but its slot says where a record goes: no user is in two of them."""
        proven = self.proven
        if len(proven) < 2:
            return True
        if len({some.slot for some in proven}) < len(proven):
            return False
        *fewer, most = sorted((some.keys for some in proven), key=len)
        users: set[UserKey] = set()
        for keys in fewer:
            if not users.isdisjoint(keys):
                return False
            users.update(keys)
        return users.isdisjoint(most)


class Prover:
    """Proves lines that are enveloped, or bare where `bare` names their kind.

    A record may have `largest` bytes; with `update_existing_only`, records that do not say
    themselves whether they may create a user get the flag that they may not.
    """

    def __init__(self, bare: str | None, *, largest: int, update_existing_only: bool) -> None:
        self._told = partial(
            Prover, bare, largest=largest, update_existing_only=update_existing_only
        )
        self._bare = None if bare is None else KINDS.index(bare)
        self._largest = largest - FLAG_BYTES if update_existing_only else largest
        self._flag = update_existing_only
        self._value = typed(Raw)
        self._values = typed(list[Raw])
        self._envelopes = typed(_Envelope)
        self._heads = [typed(HEADS[kind]) for kind in KINDS]
        self._plain = [typed(_opened_in(kind)) for kind in KINDS]
        self._shapes = [Shapes(kind) for kind in KINDS]

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be handed to another process, which makes its own decoders."""
        return self._told, ()

    def prove(self, lines: Sequence[bytes]) -> Proof:
        """Return what is proven of lines; no line may hold a newline."""
        return self._prove(Lines.of(lines))

    def prove_text(self, text: bytes) -> Proof:
        """Return what is proven of the lines of a text, the last newline of which is optional."""
        return self._prove(Lines.of_text(text))

    def _prove(self, all: Lines) -> Proof:
        so_far = _SoFar()
        longest = max(all.measured(), default=0)
        fit = longest - all.ends <= self._largest
        if not (fit and self._prove_together(so_far, all, longest)):
            self._prove_apart(so_far, all, longest)
        proof = so_far.proof(len(all.lines))
        if not proof.whole:
            _keep_opened(proof, all.without_ends().lines, so_far.opened)
        return proof

    def _prove_together(self, so_far: _SoFar, all: Lines, longest: int) -> bool:
        """Prove lines that are of one kind and one form; return whether that could be done.

        `longest` is a bound of the bytes of each, here and elsewhere.
        """
        if not all.lines:
            return True
        plainest = alike(all.lines)
        if plainest is not None:
            return self._prove_alike(so_far, plainest, all, longest)
        return self._prove_bare(so_far, all, longest)

    def _prove_bare(self, so_far: _SoFar, all: Lines, longest: int) -> bool:
        """Prove lines that are records themselves; return whether all of them are, and look alike.

        A shape has an external id, so none is an envelope; with a payload it may be a CDI row.
        """
        slot = self._bare
        if slot is None or (records := bare_records(all)) is None:
            return False
        shapes = self._shapes[slot]
        shaped = None
        if not shapes.knows(_PAYLOAD):
            shaped = shapes.proven(records.text, len(all.lines), longest)
        if shaped is None or shapes.knows(_PAYLOAD):
            return False
        self._accept(so_far, slot, all.rows, records.joined, shaped.heads, shaped.keys)
        return True

    def _prove_apart(self, so_far: _SoFar, all: Lines, longest: int) -> None:
        """Prove what can be of lines that are not all alike, or not all right."""
        if self._may_all_be(all, longest) and (alike(all.lines) is None or is_utf8(all.whole())):
            # What a shape takes is in UTF-8: who looks at what is left looks at little.
            all = self._prove_plainest(so_far, all, longest)
            if is_utf8(all.whole()):
                self._prove_odd(so_far, all)
                return
        all = all.without_ends()
        some = all.picked(line and self._may_be(line) for line in all.lines)
        if not self._prove_together(so_far, some, longest):
            self._prove_odd(so_far, self._prove_plainest(so_far, some, longest))

    def _prove_plainest(self, so_far: _SoFar, all: Lines, longest: int) -> Lines:
        """Prove lines that are the plainest envelopes, of one kind each time; return the others."""
        left: list[tuple[int, bytes]] = []
        for marked in by_mark(all):
            plainest = alike(marked.lines)
            if plainest is not None and self._prove_alike(so_far, plainest, marked, longest):
                continue
            for plainest, group in by_opening(marked):
                if (
                    plainest is None
                    or len(group.lines) == len(marked.lines)
                    or not self._prove_alike(so_far, plainest, group, longest)
                ):
                    left += zip(group.rows, group.lines, strict=True)
        # In the order of the file again, for what is proven together is noted as columns.
        left.sort()
        return Lines([row for row, _ in left], [line for _, line in left], ends=all.ends)

    def _prove_alike(self, so_far: _SoFar, plainest: Plainest, group: Lines, longest: int) -> bool:
        """Prove lines that begin alike; return whether that could be done for all together."""
        rows, lines, slot = group.rows, group.lines, plainest.slot
        records = plainest.cut(group)
        if records is None:
            return False
        joined = records.joined
        shaped = self._shapes[slot].proven(records.text, len(lines), longest)
        if shaped is not None:
            self._accept(so_far, slot, rows, joined, shaped.heads, shaped.keys)
            return True
        whole = group.whole()
        if not is_utf8(whole):
            return False
        try:
            opened = self._plain[slot].decode_lines(whole)
        except (DecodeError, RecursionError):
            return False
        if len(opened) != len(lines):
            return False
        heads = list(map(_HEAD, opened))
        # A second thing in an envelope is an object, and opens a brace: in flat ones there is none.
        flat = slot == ATTRIBUTES and joined.data.count(b"{") == len(lines)
        if not flat and not plainest.lone(whole, len(lines)):
            return False
        so_far.opened.append(_Rows(slot, rows, joined))
        if flat or slot != ATTRIBUTES:
            self._screen(so_far, slot, rows, joined, heads, longest)
        else:
            self._screen_nested(so_far, rows, joined, heads)
        return True

    def _prove_odd(self, so_far: _SoFar, odd: Lines) -> None:
        """Prove lines in any other form; what is not one value is left alone, blank lines too.

        White space around a value is no part of it.
        """
        if not odd.rows:
            return
        rows, texts = odd.rows, [line.strip(JSON_SPACE) for line in odd.lines]
        if not self._are_values(texts):
            ones = [_decoded(self._value.decode, text) is not None for text in texts]
            rows, texts = list(compress(rows, ones)), list(compress(texts, ones))
        enveloped, bare = self._sorted(NEWLINE.join(texts), rows, texts)
        so_far.opened += enveloped
        for some in enveloped:
            self._prove_rows(so_far, some)
        if bare is not None:
            self._prove_rows(so_far, bare)

    def _are_values(self, texts: Sequence[bytes]) -> bool:
        """Whether each text is one value of JSON.

        As many values as texts would not mean that: one may begin in one and end in the next, and
        another one hold two. As many of the same lengths, which leave nothing out, do.
        """
        values = _decoded(self._values.decode, b"[%b]" % b",".join(texts))
        return values is not None and list(map(len, values)) == list(map(len, texts))

    def _may_all_be(self, all: Lines, longest: int) -> bool:
        """Whether no line is blank, and none too long."""
        return longest - all.ends <= self._largest and min(all.measured()) > all.ends

    def _may_be(self, line: bytes) -> bool:
        return len(line) <= self._largest and is_utf8(line)

    def _sorted(
        self, whole: bytes, rows: Sequence[int], lines: Sequence[bytes]
    ) -> tuple[list[_Rows], _Rows | None]:
        """Sort lines into envelopes by slot, opened, and what may be bare, if anything may.

        Each of them is one value, without white space around it; `whole` is them joined.
        """
        enveloped = [_Rows(slot) for slot in range(len(KINDS))]
        bare = None if self._bare is None else _Rows(self._bare)
        envelopes = self._open(whole, lines)
        # A bare object may be a CDI row if it has a payload; in any other form an object has no
        # identity of its own, and so gets no key.
        if bare is not None and not any(envelopes) and b'"payload"' not in whole:
            bare.rows, bare.raws = rows, lines
            return enveloped, bare
        for row, line, envelope in zip(rows, lines, envelopes, strict=True):
            if envelope is not None:
                slot, raw = _content(envelope)
                if slot != DOUBTFUL and _holds_one(line, slot, raw):
                    enveloped[slot].add(row, raw)
            elif bare is not None and b'"payload"' not in line:
                bare.add(row, line)
        return enveloped, bare

    def _open(self, whole: bytes, lines: Sequence[bytes]) -> Sequence[_Envelope | None]:
        """Open the envelopes among lines; None for a line that is none."""
        with suppress(DecodeError, RecursionError):
            return self._envelopes.decode_lines(whole)
        return [
            _decoded(self._envelopes.decode, line)
            if self._bare is None or line.startswith(_OPENINGS)
            else None
            for line in lines
        ]

    def _prove_rows(self, so_far: _SoFar, found: _Rows) -> None:
        """Prove records of one kind: all at once, else what can be of them."""
        rows, raws, decoder = found.rows, found.raws, self._heads[found.slot]
        if not rows:
            return
        heads: Sequence[Any]
        try:
            heads = decoder.decode_lines(NEWLINE.join(raws))
        except (DecodeError, RecursionError):
            heads = ()
        if len(heads) != len(rows):
            heads = [_decoded(decoder.decode, raw) for raw in raws]
            rows, raws, heads = _chosen([head is not None for head in heads], rows, raws, heads)
        if found.slot == ATTRIBUTES and NEWLINE.join(raws).count(b"{") != len(rows):
            self._screen_nested(so_far, rows, raws, heads)
        else:
            self._screen(so_far, found.slot, rows, raws, heads)

    def _screen_nested(
        self, so_far: _SoFar, rows: Sequence[int], raws: Sequence[Fragment], heads: Sequence[Any]
    ) -> None:
        """Prove attributes of which some are nested: one would cast its doubt on all flat ones."""
        texts = list(map(bytes, raws))
        nested = [
            text.count(b"{") > 1 and b"$" not in text and b'"user_alias"' not in text
            for text in texts
        ]
        self._screen(so_far, ATTRIBUTES, *_chosen(nested, rows, raws, heads))
        flat = [text.count(b"{") == 1 for text in texts]
        self._screen(so_far, ATTRIBUTES, *_chosen(flat, rows, raws, heads))

    def _screen(
        self,
        so_far: _SoFar,
        slot: int,
        rows: Sequence[int],
        raws: Sequence[Fragment],
        heads: Sequence[Any],
        longest: int | None = None,
    ) -> None:
        """Prove what heads were read of; where all together are not clean, piece by piece."""
        count = len(rows)
        if not count:
            return
        if clean_chunk(
            KINDS[slot],
            raws.data if isinstance(raws, Joined) else NEWLINE.join(raws),
            count,
            longest=longest or max(map(len, raws)),
            emails=list(filter(None, map(_EMAIL, heads))),
        ):
            self._accept(so_far, slot, rows, raws, heads)
        elif count > 1:
            step = max(1, count // PIECES)
            for start in range(0, count, step):
                piece = slice(start, start + step)
                self._screen(so_far, slot, rows[piece], raws[piece], heads[piece])

    def _accept(
        self,
        so_far: _SoFar,
        slot: int,
        rows: Sequence[int],
        raws: Sequence[Fragment],
        heads: Sequence[Any],
        known: Sequence[UserKey] = (),
    ) -> None:
        """Note clean records that have a key, which is known perhaps."""
        keys: Sequence[UserKey | None] = known or _keys(heads)
        if self._flag:
            raws = [
                flagged(bytes(raw)) if head.update_existing_only is None else raw
                for raw, head in zip(raws, heads, strict=True)
            ]
        if not known and None in keys:
            keyed = [key is not None for key in keys]
            rows, raws, _ = _chosen(keyed, rows, raws, heads)
            keys = list(filter(None, keys))
        so_far.proven.append(
            Alike(slot, _as_range(rows), Joined.of(raws), cast(list[UserKey], keys))
        )
        if slot != ATTRIBUTES:
            so_far.time = heads[0].time.isoformat()


def _keys(heads: Sequence[Any]) -> list[UserKey | None]:
    """Return the key of each, None where there is none."""
    keys: list[UserKey | None] = list(map(_EXTERNAL_ID, heads))
    # No identity is empty: so any of another sort is seen.
    if None in keys or any(map(_USER_ALIAS, heads)) or any(map(_BRAZE_ID, heads)):
        keys = [head.key() for head in heads]
    return keys


def _decoded(decode: Callable[[Fragment], T], data: Fragment) -> T | None:
    try:
        return decode(data)
    except (DecodeError, RecursionError):
        return None


def _as_range(rows: Sequence[int]) -> Sequence[int]:
    """Return rows that count up as a range where they are one."""
    if isinstance(rows, range) or len(rows) < 2:
        return rows
    found = range(rows[0], rows[-1] + 1, rows[1] - rows[0])
    return found if len(found) == len(rows) and list(found) == rows else rows


def _chosen(
    chosen: Sequence[bool],
    rows: Sequence[int],
    raws: Sequence[Fragment],
    heads: Sequence[Any],
) -> tuple[list[int], list[Fragment], Sequence[Any]]:
    return (
        list(compress(rows, chosen)),
        list(compress(raws, chosen)),
        list(compress(heads, chosen)),
    )


def _keep_opened(proof: Proof, lines: Sequence[bytes], opened: Iterable[_Rows]) -> None:
    """Spare the rules the opening of doubtful envelopes that have one content for certain.

    A line as long as its content and the plainest envelope holds nothing else: no second content
    under the same key, and no white space.
    """
    for found in opened:
        for row, raw in zip(found.rows, found.raws, strict=True):
            size = len(raw)
            if (
                proof.slots[row] == DOUBTFUL
                and size + _WRAPPINGS[found.slot] == len(lines[row])
                and size <= SURELY_SHALLOW
            ):
                proof.opened[row] = found.slot, bytes(raw)


def _holds_one(line: bytes, slot: int, content: Fragment) -> bool:
    """Whether surely nothing was passed over in an envelope: a second content under the same key.

    A key that is written with escapes would not be found.
    """
    if len(line) == len(content) + _WRAPPINGS[slot]:
        return True
    return b"\\" not in line and sum(map(line.count, _NAMES)) == 1


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
