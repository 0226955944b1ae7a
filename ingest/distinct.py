"""How many different users there are, in 128 KiB, however many that is.

Decides an estimate: exact up to a thousand, then a HyperLogLog with the estimator of O. Ertl ("New
cardinality estimation algorithms for HyperLogLog sketches", 2017), which needs no table and has no
jump between few and many. The same keys give the same number on every machine and in any order.
Knows no record.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from ingest.records import UserKey

EXACT: Final = 1_024
"""Users that are counted one by one: a person who tries ten lines expects 10."""

PRECISION: Final = 17
"""Bits of a hash that choose its register. 2**17 registers of a byte have a standard error of
1.04 / sqrt(2**17) = 0.29 %: 1 % is three and a half times that."""

HASH_BYTES: Final = 8

_REGISTERS: Final = 1 << PRECISION
_MASK: Final = _REGISTERS - 1
_RANKS: Final = 8 * HASH_BYTES - PRECISION
_SCALE: Final = 1 / (2 * math.log(2))


class Distinct:
    """Counts the different keys among those it is shown."""

    def __init__(self) -> None:
        self._few: set[int] | None = set()
        self._registers = bytearray()

    @property
    def exact(self) -> bool:
        """Whether `count` is no estimate."""
        return self._few is not None

    def add(self, keys: Iterable[UserKey]) -> None:
        """Look at some keys; what was there before changes nothing."""
        hashes = map(_hashed, set(keys))
        if self._few is None:
            self._note(hashes)
            return
        self._few.update(hashes)
        if len(self._few) > EXACT:
            few, self._few = self._few, None
            self._registers = bytearray(_REGISTERS)
            self._note(few)

    def _note(self, hashes: Iterable[int]) -> None:
        registers = self._registers
        for value in hashes:
            # The place of the first 1 in the bits that choose no register.
            rank = _RANKS + 1 - (value >> PRECISION).bit_length()
            if rank > registers[value & _MASK]:
                registers[value & _MASK] = rank

    @property
    def count(self) -> int:
        """The keys seen so far: exact, or within 1 % (see `PRECISION`)."""
        if self._few is not None:
            return len(self._few)
        ranks = [self._registers.count(rank) for rank in range(_RANKS + 2)]
        below = 0.0  # full registers weigh nothing: there are none below 10**14 users
        for rank in range(_RANKS + 1, 0, -1):
            below = (below + ranks[rank]) / 2
        below += _REGISTERS * _sigma(ranks[0] / _REGISTERS)
        return round(_SCALE * _REGISTERS**2 / below)


def _hashed(key: UserKey) -> int:
    """Return 64 bits of a key: not Python's own hash, which differs from process to process."""
    text = key if isinstance(key, str) else repr(key)
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "little")


def _sigma(share: float) -> float:
    """Return what the empty registers, a `share` of all below 1, weigh."""
    weight, total, before = 1.0, share, -1.0
    while total != before:
        share *= share
        before = total
        total += share * weight
        weight += weight
    return total
