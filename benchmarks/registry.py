"""All measurements, in the order in which they are told."""

from __future__ import annotations

from benchmarks import core, growth, holding, memory, others, putting, wire
from benchmarks.sampling import Measurement

MEASUREMENTS = (
    Measurement("wire", "the limit, and ours over HTTP as shares of it", wire.plan),
    Measurement("others", "what people use, to one that answers at once", others.plan, (2, 5)),
    Measurement("near", "the same, to one that answers after 40 ms", others.near, (1, 3), False),
    Measurement("core", "validation, packing and balance without a loop", core.plan, (3, 5)),
    Measurement("holding", "1,000 requests/s at several latencies", holding.plan, (1, 3)),
    Measurement("light", "the same with 10 records a request", holding.light, (1, 3), False),
    Measurement("putting", "from put to its request, by load", putting.plan, (1, 3)),
    Measurement("memory", "the peak of memory by the size of the input", memory.plan, (1, 3)),
    Measurement("growth", "time per record, from few to many", growth.plan, (2, 3)),
    Measurement("sizes", "records a request, beside the limit at each", wire.sizes, (1, 3), False),
    Measurement("users", "few users beside many", wire.users, (1, 3), False),
    Measurement("corpora", "small, fat, wide records beside typical", wire.corpora, (1, 3), False),
)

NAMES = tuple(one.name for one in MEASUREMENTS)


def wanted(only: list[str] | None, *, quick: bool) -> tuple[Measurement, ...]:
    """Return those that were asked for; else those of a quick run, or all."""
    if only:
        return tuple(one for one in MEASUREMENTS if one.name in only)
    return tuple(one for one in MEASUREMENTS if one.quick or not quick)
