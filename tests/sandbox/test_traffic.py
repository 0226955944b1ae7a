"""What the server counts of requests."""

from __future__ import annotations

from ingest.sandbox.traffic import Traffic


def test_two_requests_in_flight_with_one_user_overlap() -> None:
    """Every user carried twice at once counts, once per later request."""
    traffic = Traffic()
    traffic.arrive("/a")
    traffic.carry({"u1", "u2"})
    traffic.arrive("/a")
    traffic.carry({"u2", "u3"})
    assert traffic.stats()["same_user_overlaps"] == 1
    assert traffic.stats()["max_in_flight"] == 2


def test_a_request_that_is_over_overlaps_nothing() -> None:
    """A user may come again after the answer."""
    traffic = Traffic()
    for _ in range(2):
        traffic.arrive("/a")
        traffic.carry({"u1"})
        traffic.depart({"u1"})
    assert traffic.same_user_overlaps == 0
    assert traffic.max_in_flight == 1


def test_reset_keeps_what_is_in_flight() -> None:
    """A request that began before the reset may end after it."""
    traffic = Traffic()
    traffic.arrive("/a")
    traffic.carry({"u1"})
    traffic.reset()
    assert traffic.stats()["max_in_flight"] == 1
    traffic.depart({"u1"})
    assert traffic.in_flight == 0


def test_the_largest_request_is_known_by_bytes_and_objects() -> None:
    """Each maximum is its own: they need not come from one request."""
    traffic = Traffic()
    traffic.sized(10, (3, 0, 1))
    traffic.sized(7, (0, 3, 2))
    assert traffic.stats()["max_objects"] == {
        "total": 5,
        "attributes": 3,
        "events": 3,
        "purchases": 2,
    }
    assert traffic.stats()["max_body_bytes"] == 10


def test_updates_are_counted_with_their_peak() -> None:
    """The most of any second, wherever it begins; a reset begins anew."""
    traffic = Traffic()
    for count, now in ((5, 0.5), (4, 1.25), (5, 1.5), (1, 9.0)):
        traffic.updated(count, now)
    stats = traffic.stats()
    assert (stats["updates"], stats["max_updates_per_second"]) == (15, 9)
    traffic.reset()
    traffic.updated(1, 2.0)
    assert traffic.stats()["max_updates_per_second"] == 1
