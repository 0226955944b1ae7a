"""The fast way of the intake: proofs for whole slices of lines that nothing is wrong with them.

Decides which lines are good beyond doubt, by a typed decoder and a few tests of bytes that run over
many records at once. What it cannot prove it calls doubtful, which says nothing: the rules
themselves (`validation.check`) have the last word on those. It never refuses a record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import compress
from operator import attrgetter
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ingest.codec import DecodeError, typed
from ingest.forms import JSON_SPACE, flagged
from ingest.proofs import DOUBTFUL, SURELY_SHALLOW, Proof
from ingest.records import ATTRIBUTES, KINDS, PURCHASE, Fragment, UserKey
from ingest.validation import HEADS, clean_chunk, key_once

T = TypeVar("T")

PIECES: Final = 8
"""Into how many pieces records that are not clean together are cut, to look at each: with one bad
record in 256, three rounds find it, and the others are looked at three times more."""

FLAG_BYTES: Final = len(flagged(b"{}"))
"""More than what `flagged` adds to a record."""

NEWLINE: Final = b"\n"

_OPENINGS: Final = tuple(b'{"%b"' % kind.encode() for kind in KINDS)
_WRAPPINGS: Final = tuple(len(b'{"%b":}' % kind.encode()) for kind in KINDS)
"""Bytes of an envelope without white space, by slot."""


class _Plainest(msgspec.Struct, frozen=True):
    """The opening of lines that are an envelope without white space, or almost: as encoders write.

    Such a line ends in two braces, and what is between the first one and the last is the record.
    """

    slot: int
    opening: bytes
    name: bytes

    def fit(self, whole: bytes, count: int) -> bool:
        """Whether each of `count` joined lines is such an envelope, if it is JSON."""
        return (
            whole.count(_CLOSING + self.opening) == count - 1
            and whole.startswith(self.opening)
            and whole.endswith(b"}}")
        )

    def lone(self, whole: bytes, count: int) -> bool:
        """Whether there is one thing in each of them, unless one has a backslash.

        The name of what it holds is a key once in it then.
        """
        return key_once(whole, self.name, count)


_CLOSING: Final = b"}}" + NEWLINE
_PLAINEST: Final = tuple(
    _Plainest(slot, b'{"%b":%b{' % (kind.encode(), space), b'"%b"' % kind.encode())
    for slot, kind in enumerate(KINDS)
    for space in (b"", b" ")
)
_BY_OPENING: Final = {one.opening: one for one in _PLAINEST}


def _opened_in(kind: str) -> type[Any]:
    """Return the shape of an envelope that holds a head of one kind, and nothing else."""
    fields = [("head", HEADS[kind], msgspec.field(name=kind))]
    return msgspec.defstruct("_Opened", fields, gc=False, forbid_unknown_fields=True)


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


class _Lines(msgspec.Struct):
    """Some lines, their indices, and all of them joined, if somebody did that."""

    rows: Sequence[int] = ()
    lines: Sequence[bytes] = ()
    whole: bytes = b""


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
        self._envelopes = typed(_Envelope)
        self._heads = [typed(HEADS[kind]) for kind in KINDS]
        self._plain = [typed(_opened_in(kind)) for kind in KINDS]

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be handed to another process, which makes its own decoders."""
        return self._told, ()

    def prove(self, lines: Sequence[bytes]) -> Proof:
        """Return what is proven of lines; no line may hold a newline."""
        proof = Proof.of_nothing(len(lines))
        rows: Sequence[int] = range(len(lines))
        some, whole = lines, NEWLINE.join(lines)
        longest = max(map(len, lines), default=0)
        if not (all(lines) and _is_utf8(whole) and longest <= self._largest):
            rows = [row for row, line in enumerate(lines) if line and self._may_be(line)]
            some = [lines[row] for row in rows]
            whole = NEWLINE.join(some)
        found: list[_Rows] = []
        odd = self._prove_plainest(proof, rows, some, whole, longest, found)
        if odd.rows:
            self._prove_odd(proof, odd, found)
        if DOUBTFUL in proof.slots:
            _keep_opened(proof, lines, found)
        return proof

    def _prove_plainest(
        self,
        proof: Proof,
        rows: Sequence[int],
        lines: Sequence[bytes],
        whole: bytes,
        longest: int,
        found: list[_Rows],
    ) -> _Lines:
        """Prove lines that are the plainest envelopes, of one kind each time; return the others.

        `whole` is the lines joined, `longest` a bound of the bytes of each; `found` gets what was
        opened.
        """
        left: list[tuple[int, bytes]] = []
        if not lines:
            return _Lines()
        plainest, together = _plainest_of(lines[0]), _Lines(rows, lines, whole)
        if plainest is not None and self._prove_alike(proof, plainest, together, longest, found):
            return _Lines()
        for plainest, group in _by_opening(rows, lines):
            alone = len(group.lines) == len(lines)
            if (
                plainest is None
                or alone
                or not self._prove_alike(proof, plainest, group, longest, found)
            ):
                left += zip(group.rows, group.lines, strict=True)
        # In the order of the file again, for what is proven together is noted as columns.
        left.sort()
        return _Lines([row for row, _ in left], [line for _, line in left])

    def _prove_alike(
        self, proof: Proof, plainest: _Plainest, group: _Lines, longest: int, found: list[_Rows]
    ) -> bool:
        """Prove lines that begin alike; return whether that could be done for all together."""
        rows, lines, slot = group.rows, group.lines, plainest.slot
        whole = group.whole or NEWLINE.join(lines)
        if not plainest.fit(whole, len(lines)):
            return False
        try:
            opened = self._plain[slot].decode_lines(whole)
        except (DecodeError, RecursionError):
            return False
        if len(opened) != len(lines):
            return False
        start = len(plainest.opening) - 1
        raws: list[Fragment] = [line[start:-1] for line in lines]
        joined = NEWLINE.join(raws)
        heads = list(map(_HEAD, opened))
        # A second thing in an envelope is an object, and opens a brace: in flat ones there is none.
        flat = slot == ATTRIBUTES and joined.count(b"{") == len(lines)
        if not flat and not plainest.lone(whole, len(lines)):
            return False
        found.append(_Rows(slot, rows, raws))
        if flat or slot != ATTRIBUTES:
            self._screen(proof, slot, rows, raws, heads, joined, longest)
        else:
            self._screen_nested(proof, rows, raws, heads)
        return True

    def _prove_odd(self, proof: Proof, odd: _Lines, found: list[_Rows]) -> None:
        """Prove lines in any other form; blank ones stay doubtful, and hold nothing.

        With one of them among the others, as many values as lines would not mean one in each.
        """
        if not all(line.strip(JSON_SPACE) for line in odd.lines):
            blank = [not line.strip(JSON_SPACE) for line in odd.lines]
            odd.rows = [row for row, is_blank in zip(odd.rows, blank, strict=True) if not is_blank]
            odd.lines = [
                one for one, is_blank in zip(odd.lines, blank, strict=True) if not is_blank
            ]
        enveloped, bare = self._sorted(NEWLINE.join(odd.lines), odd.rows, odd.lines)
        found += enveloped
        for some in enveloped:
            self._prove_rows(proof, some)
        if bare is not None:
            self._prove_rows(proof, bare)

    def _may_be(self, line: bytes) -> bool:
        return len(line) <= self._largest and _is_utf8(line)

    def _sorted(
        self, whole: bytes, rows: Sequence[int], lines: Sequence[bytes]
    ) -> tuple[list[_Rows], _Rows | None]:
        """Sort lines into envelopes by slot, opened, and what may be bare, if anything may."""
        enveloped = [_Rows(slot) for slot in range(len(KINDS))]
        bare = None if self._bare is None else _Rows(self._bare)
        envelopes = self._open(whole, lines)
        # White space around a bare object is no part of the record. It may be a CDI row if it has a
        # payload; in any other form an object has no identity of its own, and so gets no key.
        if bare is not None and not any(envelopes) and b'"payload"' not in whole:
            bare.rows, bare.raws = rows, [line.strip(JSON_SPACE) for line in lines]
            return enveloped, bare
        for row, line, envelope in zip(rows, lines, envelopes, strict=True):
            if envelope is not None:
                slot, raw = _content(envelope)
                if slot != DOUBTFUL:
                    enveloped[slot].add(row, raw)
            elif bare is not None and b'"payload"' not in line:
                bare.add(row, line.strip(JSON_SPACE))
        return enveloped, bare

    def _open(self, whole: bytes, lines: Sequence[bytes]) -> Sequence[_Envelope | None]:
        """Open the envelopes among lines; None for a line that is none."""
        try:
            envelopes = self._envelopes.decode_lines(whole)
        except (DecodeError, RecursionError):
            pass
        else:
            # A line without a value is none of these: as many values as lines means one in each.
            if len(envelopes) == len(lines):
                return envelopes
        return [
            _decoded(self._envelopes.decode, line)
            if self._bare is None or line.startswith(_OPENINGS)
            else None
            for line in lines
        ]

    def _prove_rows(self, proof: Proof, found: _Rows) -> None:
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
            self._screen_nested(proof, rows, raws, heads)
        else:
            self._screen(proof, found.slot, rows, raws, heads)

    def _screen_nested(
        self, proof: Proof, rows: Sequence[int], raws: Sequence[Fragment], heads: Sequence[Any]
    ) -> None:
        """Prove attributes of which some are nested: one would cast its doubt on all flat ones."""
        texts = list(map(bytes, raws))
        nested = [
            text.count(b"{") > 1 and b"$" not in text and b'"user_alias"' not in text
            for text in texts
        ]
        self._screen(proof, ATTRIBUTES, *_chosen(nested, rows, raws, heads))
        flat = [text.count(b"{") == 1 for text in texts]
        self._screen(proof, ATTRIBUTES, *_chosen(flat, rows, raws, heads))

    def _screen(
        self,
        proof: Proof,
        slot: int,
        rows: Sequence[int],
        raws: Sequence[Fragment],
        heads: Sequence[Any],
        joined: bytes | None = None,
        longest: int | None = None,
    ) -> None:
        """Prove what heads were read of; where all together are not clean, piece by piece."""
        count = len(rows)
        if not count:
            return
        quantities = 0
        if slot == PURCHASE:
            quantities = sum(head.quantity is not None for head in heads)
        if clean_chunk(
            KINDS[slot],
            NEWLINE.join(raws) if joined is None else joined,
            count,
            longest=longest or max(map(len, raws)),
            quantities=quantities,
            emails=list(filter(None, map(_EMAIL, heads))),
        ):
            self._accept(proof, slot, rows, raws, heads)
        elif count > 1:
            step = max(1, count // PIECES)
            for start in range(0, count, step):
                piece = slice(start, start + step)
                self._screen(proof, slot, rows[piece], raws[piece], heads[piece])

    def _accept(
        self,
        proof: Proof,
        slot: int,
        rows: Sequence[int],
        raws: Sequence[Fragment],
        heads: Sequence[Any],
    ) -> None:
        """Note clean records that have a key."""
        keys: list[UserKey | None] = list(map(_EXTERNAL_ID, heads))
        # No identity is empty: so any of another sort is seen.
        if None in keys or any(map(_USER_ALIAS, heads)) or any(map(_BRAZE_ID, heads)):
            keys = [head.key() for head in heads]
        if self._flag:
            raws = [
                flagged(bytes(raw)) if head.update_existing_only is None else raw
                for raw, head in zip(raws, heads, strict=True)
            ]
        count = len(rows)
        if count == len(proof.slots) and None not in keys:
            proof.slots[:] = bytes((slot,)) * count
            proof.fragments, proof.keys = list(raws), cast(list[UserKey], keys)
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


def _plainest_of(line: bytes) -> _Plainest | None:
    return _BY_OPENING.get(line[: line.find(b"{", 1) + 1])


def _by_opening(
    rows: Sequence[int], lines: Sequence[bytes]
) -> Iterable[tuple[_Plainest | None, _Lines]]:
    """Sort lines by how they begin; None for those that are no plain envelope."""
    groups: defaultdict[_Plainest | None, tuple[list[int], list[bytes]]]
    groups = defaultdict(lambda: ([], []))
    for row, line in zip(rows, lines, strict=True):
        some_rows, some_lines = groups[_plainest_of(line)]
        some_rows.append(row)
        some_lines.append(line)
    return [(plainest, _Lines(*group)) for plainest, group in groups.items()]


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
