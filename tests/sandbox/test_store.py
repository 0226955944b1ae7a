"""The profiles of the sandbox: whose an object is, what is counted, what is kept."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.records import ATTRIBUTES, EVENT, PURCHASE, UserKey
from ingest.sandbox.objects import canonical, key_of
from ingest.sandbox.rules import Item
from ingest.sandbox.store import KEPT_OVERHEAD_BYTES, NO_CREATION, Store

EVENT_FIELDS = {"name": "seen", "time": "2026-01-02"}
PURCHASE_FIELDS = {"product_id": "p", "currency": "EUR", "price": 2.5, "time": "2026-01-02"}


def store(keep: int = 100, keep_bytes: int = 1 << 20) -> Store:
    return Store(keep=keep, keep_bytes=keep_bytes)


def put(into: Store, *objects: tuple[int, dict[str, Any]], request: int = 1) -> None:
    """Apply (slot, object) pairs as one accepted request."""
    items: tuple[list[Item], ...] = ([], [], [])
    for slot, obj in objects:
        key = key_of(obj)
        assert key is not None
        items[slot].append(Item(key, obj, canonical(obj)))
    into.apply(request, items)


def view(of: Store, key: UserKey) -> dict[str, Any]:
    found = of.view(key)
    assert found is not None
    return found


def test_attributes_come_before_events_before_purchases() -> None:
    """Whatever the order in the body; what arrived is shown in that order, with its request."""
    users = store()
    put(
        users,
        (PURCHASE, {"external_id": "u", **PURCHASE_FIELDS}),
        (EVENT, {"external_id": "u", **EVENT_FIELDS}),
        (ATTRIBUTES, {"external_id": "u", "plan": "pro"}),
        request=7,
    )
    user = view(users, "u")
    assert [(a["kind"], a["request"]) for a in user["arrivals"]] == [
        ("attributes", 7),
        ("event", 7),
        ("purchase", 7),
    ]
    assert user["attributes"] == {"plan": "pro"}
    assert user["events"] == [{"external_id": "u", **EVENT_FIELDS}]
    assert user["purchases"] == [{"external_id": "u", **PURCHASE_FIELDS}]
    assert user["counts"] == {"attributes": 1, "event": 1, "purchase": 1}


def test_an_external_id_creates_unless_told_not_to() -> None:
    """`_update_existing_only` drops what has no profile, in silence."""
    users = store()
    put(users, (ATTRIBUTES, {"external_id": "u", "_update_existing_only": True}))
    assert users.view("u") is None
    assert users.dropped == {NO_CREATION: 1}
    put(users, (EVENT, {"external_id": "u", **EVENT_FIELDS}))
    put(users, (ATTRIBUTES, {"external_id": "u", "_update_existing_only": True, "a": 1}))
    assert view(users, "u")["attributes"] == {"a": 1}
    assert len(users) == 1


def test_an_alias_creates_only_when_told_to() -> None:
    """Without `_update_existing_only: false` nothing comes into being."""
    users = store()
    obj = {"user_alias": {"alias_name": "n", "alias_label": "l"}, "a": 1}
    put(users, (ATTRIBUTES, obj))
    assert (len(users), users.dropped[NO_CREATION]) == (0, 1)
    put(
        users,
        (ATTRIBUTES, {**obj, "_update_existing_only": False}),
        (EVENT, {**obj, **EVENT_FIELDS}),
    )
    user = view(users, ("alias", "l", "n"))
    assert user["user_aliases"] == [{"alias_name": "n", "alias_label": "l"}]
    assert user["external_id"] is None
    assert user["counts"]["event"] == 1


def test_a_braze_id_finds_and_never_creates() -> None:
    """It is given by the destination; one that was not given leads nowhere."""
    users = store()
    put(users, (ATTRIBUTES, {"external_id": "u"}))
    braze_id = view(users, "u")["braze_id"]
    put(users, (ATTRIBUTES, {"braze_id": braze_id, "a": 1}))
    for unknown in ("ffffff", "not hex", "0"):
        put(users, (ATTRIBUTES, {"braze_id": unknown, "a": 2}))
    assert view(users, "u")["attributes"] == {"a": 1}
    assert (len(users), users.dropped[NO_CREATION]) == (1, 3)


def test_an_email_finds_the_profile_with_an_external_id_then_the_latest() -> None:
    """Several profiles may have one address."""
    users = store()
    put(users, (ATTRIBUTES, {"email": "a@b.c"}))
    assert view(users, ("email", "a@b.c"))["external_id"] is None
    put(users, (ATTRIBUTES, {"external_id": "u1", "email": "a@b.c"}))
    put(users, (ATTRIBUTES, {"external_id": "u2", "email": "a@b.c"}))
    assert view(users, ("email", "a@b.c"))["external_id"] == "u2"
    put(users, (ATTRIBUTES, {"external_id": "u1", "x": 1}))
    assert view(users, ("email", "a@b.c"))["external_id"] == "u1"
    assert len(users) == 3


def test_a_profile_is_no_longer_found_by_an_email_it_lost() -> None:
    """A change or a removal of the address moves the profile in the index, blanks or not."""
    users = store()
    put(users, (ATTRIBUTES, {"external_id": "u", "email": "a@b.c", "phone": "+1"}))
    put(users, (ATTRIBUTES, {"external_id": "u", " email": "d@e.f", "phone": None}))
    assert users.view(("email", "a@b.c")) is None
    assert users.view(("phone", "+1")) is None
    assert view(users, ("email", "d@e.f"))["external_id"] == "u"


def test_an_unknown_external_id_with_a_known_email_is_a_second_profile() -> None:
    """As documented: an address beside an external id is a plain field."""
    users = store()
    put(
        users,
        (ATTRIBUTES, {"email": "a@b.c"}),
        (ATTRIBUTES, {"external_id": "u", "email": "a@b.c"}),
    )
    assert len(users) == 2


def test_copies_are_told_from_distinct_objects() -> None:
    """The same object of another kind is no copy; what is dropped counts as applied."""
    users = store()
    obj = {"external_id": "u", **EVENT_FIELDS}
    put(users, (EVENT, obj), (EVENT, dict(obj)), (ATTRIBUTES, obj))
    put(users, (EVENT, obj))
    stats = users.stats()
    assert stats["objects"] == {"attributes": 1, "event": 3, "purchase": 0}
    assert (stats["distinct_objects"], stats["copies"], stats["users"]) == (2, 2, 1)


def test_a_quantity_is_booked_as_so_many_purchases() -> None:
    """Revenue is price times quantity; refunds lower it."""
    users = store()
    purchase = {"external_id": "u", **PURCHASE_FIELDS}
    put(users, (PURCHASE, {**purchase, "quantity": 3}), (PURCHASE, {**purchase, "price": -1}))
    profile = users.find("u")
    assert profile is not None
    assert profile.tallies is not None
    assert profile.tallies[PURCHASE, "p"].count == 4
    assert view(users, "u")["total_revenue"] == 6.5


def test_the_last_objects_of_a_profile_are_kept_and_all_are_counted() -> None:
    """The oldest fall out at `keep`."""
    users = store(keep=2)
    for number in range(5):
        put(users, (EVENT, {"external_id": "u", **EVENT_FIELDS, "properties": {"n": number}}))
    user = view(users, "u")
    assert [event["properties"]["n"] for event in user["events"]] == [3, 4]
    assert (user["counts"]["event"], user["omitted"]) == (5, 3)


def test_kept_objects_have_a_budget_together() -> None:
    """When it is used up, objects are counted and no longer kept; state goes on."""
    obj = {"external_id": "u1", "a": 1}
    users = store(keep_bytes=len(canonical(obj)) + KEPT_OVERHEAD_BYTES)
    put(users, (ATTRIBUTES, obj), (ATTRIBUTES, {"external_id": "u2", "a": 2}))
    assert len(view(users, "u1")["arrivals"]) == 1
    assert (view(users, "u2")["omitted"], view(users, "u2")["attributes"]) == (1, {"a": 2})


def test_keeping_nothing_is_possible() -> None:
    """For long runs where only counts matter."""
    users = store(keep=0)
    put(users, (EVENT, {"external_id": "u", **EVENT_FIELDS}))
    assert view(users, "u")["omitted"] == 1


def test_long_strings_vanish_from_properties() -> None:
    """The arrival shows the object as it came."""
    users = store()
    properties = {"long": "x" * 256, "short": "x"}
    put(users, (EVENT, {"external_id": "u", **EVENT_FIELDS, "properties": properties}))
    user = view(users, "u")
    assert user["events"][0]["properties"] == {"short": "x"}
    assert user["arrivals"][0]["object"]["properties"] == properties


def test_drops_are_counted_by_reason() -> None:
    """The real destination is silent about them; the sandbox is not."""
    users = store()
    put(users, (ATTRIBUTES, {"external_id": "u", "a": "x" * 300, "b": {"c": None}}))
    assert users.stats()["dropped"] == {"string_too_long": 1, "invalid_nested_value": 1}


def test_reset_forgets_everything() -> None:
    """As new."""
    users = store()
    put(users, (ATTRIBUTES, {"external_id": "u", "email": "a@b.c"}))
    users.reset()
    assert users.stats() == store().stats()
    assert users.view(("email", "a@b.c")) is None


OBJECTS = st.tuples(
    st.sampled_from([ATTRIBUTES, EVENT]),
    st.fixed_dictionaries(
        {"name": st.just("n"), "time": st.sampled_from(["2026-01-01", "2026-01-02"])},
        optional={
            "external_id": st.sampled_from(["u1", "u2"]),
            "email": st.sampled_from(["a@b.c", "d@e.f", None]),
            "phone": st.sampled_from(["+1", "+2", None]),
            "a": st.sampled_from([1, None, {"inc": 2}, "x" * 256]),
        },
    ),
).filter(lambda pair: key_of(pair[1]) is not None)


@given(st.lists(st.lists(OBJECTS, max_size=4), max_size=8), st.integers(0, 3))
def test_counts_are_exact_and_the_index_never_lies(
    requests: list[list[tuple[int, dict[str, Any]]]], keep: int
) -> None:
    """Totals equal what was put, profiles share them out, and a found profile has the address."""
    users = store(keep=keep)
    for number, objects in enumerate(requests):
        put(users, *objects, request=number)
    everything = [pair for objects in requests for pair in objects]
    assert sum(users.objects) == len(everything)
    assert users.distinct == len({(slot, canonical(obj)) for slot, obj in everything})
    views = [view(users, ("braze_id", f"{number:024x}")) for number in range(len(users))]
    assert sum(sum(user["counts"].values()) for user in views) == len(everything)
    for user in views:
        assert len(user["arrivals"]) <= keep
        for field in ("email", "phone"):
            address = user["attributes"].get(field)
            if address is not None:
                assert view(users, (field, address))["attributes"][field] == address


def test_what_is_forgotten_makes_room() -> None:
    """For the objects of others; what was counted stays counted."""
    one = {"external_id": "u", "email": "a@b.co"}
    users = store(keep_bytes=len(canonical(one)) + KEPT_OVERHEAD_BYTES)
    put(users, (ATTRIBUTES, one))
    profile = users.find("u")
    assert profile is not None
    users.forget(profile)
    assert (len(users), list(users), users.find(("email", "a@b.co"))) == (0, [], None)
    assert users.find(("braze_id", profile.braze_id)) is None
    put(users, (ATTRIBUTES, one))
    assert len(view(users, "u")["arrivals"]) == 1
    assert (users.objects[ATTRIBUTES], users.distinct) == (2, 1)
