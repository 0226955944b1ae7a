"""What names make of columns."""

from __future__ import annotations

import pytest

from ingest.columns.names import (
    called,
    fault_of,
    field_of,
    fixed_type,
    is_kept_by_cdi,
    is_note,
    path_of,
    stays_text,
)
from ingest.records import KINDS


@pytest.mark.parametrize(
    "name",
    [
        *("id", "user_id", "userId", "OrderID", "order.id", "uuid", "userid", "CUSTOMERIDS"),
        *("phone", "Phone Number", "mobile", "phoneNumber", "phoneno", "fax", "tel_2"),
        *(
            "zip",
            "zipCode",
            "zip_code",
            "ZIPCODE",
            "postal_code",
            "Postcode",
            "plz",
            "address.zip5",
        ),
    ],
)
def test_ids_phones_and_postal_codes_are_known_by_name(name: str) -> None:
    """In any spelling, and as the last of dotted names."""
    assert stays_text(path_of(name, "attributes"))


@pytest.mark.parametrize("name", ["paid", "valid", "bid", "age", "zipped", "hotel", "telling", "é"])
def test_other_names_are_left_to_their_cells(name: str) -> None:
    """A word that only ends like one of them is none."""
    assert not stays_text((name,))


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("plan", "attributes", ("plan",)),
        ("address.city", "attributes", ("address", "city")),
        ("alias_name", "event", ("user_alias", "alias_name")),
        ("user_alias_label", "attributes", ("user_alias", "alias_label")),
        ("external_id", "purchase", ("external_id",)),
        ("name", "event", ("name",)),
        ("name", "purchase", ("properties", "name")),
        ("genre", "event", ("properties", "genre")),
        ("properties.genre", "event", ("properties", "genre")),
        ("address.city", "event", ("properties", "address", "city")),
        ("price", "purchase", ("price",)),
        ("price", "event", ("properties", "price")),
        ("payload", "event", ("payload",)),
        ("_update_existing_only", "event", ("_update_existing_only",)),
    ],
)
def test_a_name_has_its_place(name: str, kind: str, path: tuple[str, ...]) -> None:
    """Dots nest; what an event or a purchase has no field for is a property of it."""
    assert path_of(name, kind) == path
    assert path_of(".".join(path), kind) == path


def test_notes_are_told_from_switches() -> None:
    """What begins with an underscore is a note, but for the switches of the destination."""
    assert [is_note(n, "attributes") for n in ("_reason", "_line", "_", "a_b")] == [1, 1, 1, 0]
    assert not is_note("_merge_objects", "attributes")
    assert is_note("_merge_objects", "event")
    assert not any(is_note("_update_existing_only", kind) for kind in KINDS)


def test_the_column_that_every_cdi_table_has_is_known() -> None:
    """In any case."""
    assert is_kept_by_cdi("UPDATED_AT")
    assert not is_kept_by_cdi("updated")


@pytest.mark.parametrize(
    "name", ["", "a..b", ".a", "a.", "a" + ".a" * 32, "external_id.x", "\ud800"]
)
def test_some_names_cannot_be(name: str) -> None:
    """Each has an end of a sentence."""
    assert fault_of(name, "attributes")


@pytest.mark.parametrize("name", ["a.b", "user_alias.alias_name", "user_alias", "email"])
def test_other_names_can_be(name: str) -> None:
    """Whatever the kind."""
    assert [fault_of(name, kind) for kind in KINDS] == [None] * len(KINDS)


def test_documented_fields_have_their_types() -> None:
    """By kind; a table with types of its own is not guessed at by name."""
    assert fixed_type(("price",), "purchase", typed=False) == ("number", "a documented field")
    assert fixed_type(("price",), "attributes", typed=False) is None
    assert fixed_type(("_merge_objects",), "attributes", typed=True) is not None
    assert fixed_type(("zip",), "attributes", typed=True) is None
    assert fixed_type(("user_alias",), "event", typed=False) is not None


def test_names_are_fit_to_be_shown() -> None:
    """Clipped and printable: a header is data of the sender too."""
    assert called("a\n" + "b" * 100) == f"'a?{'b' * 61}…'"
    assert field_of(("a", "b")) == "a.b"
