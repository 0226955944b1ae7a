"""Caps: how much one request may hold, per slot, in total, in bytes and per user.

Decides which caps the next batch is packed under while the account's true cap is not known: a
ladder of caps, the smallest of which is taken for granted, and one probe at a time for anything
larger. Knows no destination's answer and no record.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ingest.errors import ConfigError


class Caps(msgspec.Struct, frozen=True):
    """What one request may hold.

    `per_slot` is records per array, `total` records over all arrays, `body_bytes` bytes of the
    encoded body with its wrapping, `per_user` records of one user and `users` distinct users
    (None: no such cap).
    """

    per_slot: tuple[int, ...]
    total: int
    body_bytes: int
    per_user: int | None = None
    users: int | None = None

    @property
    def fill(self) -> int:
        """Records that fill a request when each of them is of another user."""
        return self.total if self.users is None else min(self.total, self.users)

    def at_most(self, total: int) -> Caps:
        """Return these caps with no more than `total` records."""
        return self if total >= self.total else msgspec.structs.replace(self, total=total)


class CapsLadder:
    """The caps to pack under, learned downwards from refusals and upwards from one probe.

    `steps` run from the largest caps to the smallest. Up to `confirmed` records in total are sent
    freely; a request above that goes alone, as a probe, and its answer confirms or steps down.
    `generation` counts the steps taken, so that an older batch does not step down twice.
    `learned` says whether any answer told something new; `least_refused` is the smallest total
    that was refused.
    """

    def __init__(self, steps: Sequence[Caps], *, confirmed: int | None = None) -> None:
        if not steps:
            raise ConfigError("no caps to pack under: a profile needs at least one step")
        self._steps = tuple(steps)
        self._confirmed = self._steps[-1].total if confirmed is None else confirmed
        self._probe: int | None = None
        self.generation = 0
        self.least_refused: int | None = None
        self.learned = False

    @property
    def current(self) -> Caps:
        """The largest caps not yet refused."""
        return self._steps[self.generation]

    @property
    def open(self) -> tuple[Caps, ...]:
        """The caps that the account may turn out to have, the largest first."""
        left = self._steps[self.generation :]
        return tuple(caps for caps in left if caps.total >= self.confirmed) or left[:1]

    @property
    def confirmed(self) -> int:
        """Records in total that the account is known, or taken for granted, to accept."""
        return min(self._confirmed, self.current.total)

    @property
    def sure(self) -> Caps:
        """The caps that need no probe: what was refused as too many is cut to fit these."""
        return self.current.at_most(self.confirmed)

    @property
    def probing(self) -> bool:
        """Whether a probe is out: what goes meanwhile is smaller than it need be."""
        return self._probe is not None

    def next(self) -> Caps:
        """Return the caps of the next batch: the sure ones while a probe is out."""
        return self.current if self._probe is None else self.sure

    def sent(self, batch_id: int, total: int) -> None:
        """Note a batch on its way; one above the confirmed total is the probe."""
        if self._probe is None and total > self.confirmed:
            self._probe = batch_id

    def answered(self, batch_id: int) -> None:
        """Note that a batch came back, with whatever answer: a probe is no longer out."""
        if self._probe == batch_id:
            self._probe = None

    def accepted(self, total: int) -> None:
        """Note that a request of `total` records was within the account's count cap."""
        if total > self._confirmed:
            fits = [step.total for step in self._steps if step.total >= total]
            self._confirmed = min(fits, default=total)
            self.learned = True

    def refused(self, total: int, generation: int) -> bool:
        """Step down below `total`; return whether it did.

        A batch of an older generation tells nothing new while it is above the present caps; a
        piece of it may be within them, and then it does.
        """
        if generation != self.generation and total > self.current.total:
            return False
        if self.least_refused is None or total < self.least_refused:
            self.least_refused, self.learned = total, True
        for lower in range(self.generation + 1, len(self._steps)):
            if self._steps[lower].total < total:
                self.generation = lower
                self._confirmed = min(self._confirmed, self._steps[lower].total)
                return True
        return False
