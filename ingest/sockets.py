"""How many sockets this process may have open: what is in flight needs one each.

Decides how many are left for requests, and asks the system for more, up to what it grants anybody.
Where the system tells no limit (it is not POSIX) there is none that is known.
"""

from __future__ import annotations

from typing import Final

try:
    import resource
except ImportError:  # not on Windows, where handles have no such limit
    resource = None  # type: ignore[assignment]  # a system without it

SPARE: Final = 100
"""Files and sockets for all else: inputs, journal, brokers, the operator's requests."""

WANTED: Final = 4096
"""Soft limits are 256 or 1,024 on usual systems, the hard ones a multiple: this is plenty."""


def sockets_left() -> int | None:
    """Return how many sockets requests may take; None where no limit is known."""
    if resource is None:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, soft - SPARE)


def want_sockets() -> None:
    """Raise the soft limit of this process to what is wanted, as far as the hard one allows."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return  # some systems grant less than they say: then fewer requests fly
