"""What goes wrong on purpose: the fault a request meets, drawn from a seed.

This module decides which fault, if any, befalls the next request, and says in a table what each
fault does (whether the objects are applied, what is answered). It knows no HTTP server: the driver
does what the table says.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from ingest.errors import ConfigError

Ending = Literal["answer", "success", "reset", "silence"]
"""How the request ends: by the fault's own answer, as it would have, by a reset, or not at all."""


class Fault(msgspec.Struct, frozen=True):
    """One way to fail. `status` and `html` describe the answer when `ending` is `answer`.

    `applied`: the objects are stored as if nothing were wrong. `dawdles`: the answer comes late.
    """

    name: str
    ending: Ending
    applied: bool
    status: int = 0
    html: bool = False
    dawdles: bool = False


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("500", "answer", applied=False, status=500),
        Fault("503", "answer", applied=False, status=503),
        Fault("502html", "answer", applied=False, status=502, html=True),
        Fault("403html", "answer", applied=False, status=403, html=True),
        Fault("429", "answer", applied=False, status=429),
        Fault("202", "success", applied=True, status=202),
        Fault("reset-before", "reset", applied=False),
        Fault("reset-after", "reset", applied=True),
        Fault("504-after", "answer", applied=True, status=504, html=True),
        Fault("timeout", "silence", applied=True),
        Fault("slow", "success", applied=True, dawdles=True),
    )
}
"""Every fault by its name in `--faults`."""

ROUNDING: Final = 1e-9
"""By how much shares may exceed 1 in sum: ten times 0.1 is not 1.0 in binary."""


class Share(msgspec.Struct, frozen=True):
    """A fault befalls this share (0 to 1) of the requests."""

    fault: Fault
    share: float


def parse_faults(spec: str) -> tuple[Share, ...]:
    """Read a comma list of `NAME:SHARE`, a share being `0.1` or `10%`; empty means no faults.

    Raises `ConfigError` for an unknown name, a share outside of 0 to 1, or shares above 1 in sum.
    """
    shares = []
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, _, amount = part.partition(":")
        fault = FAULTS.get(name.strip())
        if fault is None:
            raise ConfigError(f"the fault {name.strip()!r} is unknown: use {', '.join(FAULTS)}")
        shares.append(Share(fault, _share(amount.strip(), part)))
    total = sum(share.share for share in shares)
    if total > 1 + ROUNDING:
        raise ConfigError(f"the shares of faults add up to {total:g}: they must not exceed 1")
    return tuple(shares)


def _share(text: str, part: str) -> float:
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigError(
            f"the fault {part!r} needs a share between 0 and 1, such as 503:0.05 or 503:5%"
        )
    return share


class Faults:
    """The faults in force, and the dice. One draw per request, so a seed repeats a run.

    `scheduled` faults replace the standing ones until their end, then those return.
    """

    def __init__(self, standing: Sequence[Share] = (), *, seed: int = 0) -> None:
        self._standing = tuple(standing)
        self._scheduled: tuple[Share, ...] = ()
        self._scheduled_until = -float("inf")
        self._seed = seed
        self._dice = random.Random(seed)

    def replace(self, shares: Sequence[Share]) -> None:
        """Put these faults in force for good, and end what was scheduled."""
        self._standing = tuple(shares)
        self._scheduled_until = -float("inf")

    def schedule(self, shares: Sequence[Share], *, until: float) -> None:
        """Put these faults in force until this moment (epoch seconds)."""
        self._scheduled = tuple(shares)
        self._scheduled_until = until

    def in_force(self, now: float) -> tuple[Share, ...]:
        """Return the shares that hold at `now`."""
        return self._scheduled if now < self._scheduled_until else self._standing

    def draw(self, now: float) -> Fault | None:
        """Draw what befalls the request that arrives at `now`."""
        point = self._dice.random()
        for share in self.in_force(now):
            if point < share.share:
                return share.fault
            point -= share.share
        return None

    def reset(self) -> None:
        """Start the dice again from the seed; the faults in force stay."""
        self._dice = random.Random(self._seed)
