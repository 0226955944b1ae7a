"""Names at Batch CEP: slugs, types in keys, and what becomes of collisions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.sinks.batchcep.names import Names, base_of, is_slug, slug


@given(st.text(max_size=40))
def test_a_slug_is_its_own_slug(name: str) -> None:
    """Whatever the name, letters, digits and underscores are left, and nothing changes twice."""
    short = slug(name)
    assert slug(short) == short
    assert is_slug(short) == (1 <= len(short) <= 30)


def test_slugs_are_lower_case_with_underscores() -> None:
    """Each character that the destination does not take becomes one underscore."""
    assert slug("Order Paid-2.0") == "order_paid_2_0"
    assert slug("plan") == "plan"
    assert slug("Ärger") == "_rger"


@given(st.from_regex(r"[a-z0-9_]{1,30}", fullmatch=True))
def test_a_type_is_no_part_of_a_name(name: str) -> None:
    """The same attribute is found under its key with a type and without one."""
    assert base_of(f"date({name})") == base_of(f"url({name})") == base_of(name) == name


def test_a_native_key_is_its_own_name() -> None:
    """A native attribute has no type in its key."""
    assert base_of("$email_address") == "$email_address"


def test_the_first_name_keeps_a_slug() -> None:
    """First come, first served, in each space by itself."""
    names = Names()
    assert names.claim("attribute", "plan", "Plan")
    assert not names.claim("attribute", "plan", "plan")
    assert names.holder("attribute", "plan") == "Plan"
    assert names.holder("event", "plan") is None


def test_a_full_table_takes_names_as_they_are_only() -> None:
    """Memory is bounded, and a collision still goes unseen by nobody."""
    names = Names(most=1)
    assert names.has_room("a", "A")
    names.claim("attribute", "a", "A")
    assert not names.claim("attribute", "b", "b")
    assert names.holder("attribute", "b") is None
    assert names.has_room("b", "b")
    assert not names.has_room("b", "B")


def test_a_name_that_is_released_is_free() -> None:
    """And there is room for another one."""
    names = Names(most=1)
    names.claim("attribute", "a", "A")
    names.release("attribute", "a")
    assert names.holder("attribute", "a") is None
    assert names.claim("event", "b", "B")
