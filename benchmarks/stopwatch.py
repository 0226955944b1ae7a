"""What the programs that we are compared with print of themselves, so that start-up is apart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What is printed beside the times; `records` is up to whoever counts them."""

    records: int = 0
    more: dict[str, float] = field(default_factory=dict)


@contextmanager
def timed() -> Iterator[Tally]:
    """Print a line of JSON: seconds of the clock and of CPU that the block took, and the tally."""
    tally, since, cpu = Tally(), time.perf_counter(), time.process_time()
    yield tally
    seconds, used = time.perf_counter() - since, time.process_time() - cpu
    told = {"records": tally.records, "seconds": seconds, "cpu": used, "more": tally.more}
    print(json.dumps(told))
