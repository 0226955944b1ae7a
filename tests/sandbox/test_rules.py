"""What `/users/track` says to a decoded body."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.sandbox.objects import MISSING_IDENTIFIER, SANDBOX_REJECT
from ingest.sandbox.rules import (
    BAD_SYNTAX,
    BULK_CAPS,
    MAX_INPUT_LENGTH,
    NO_VALID_DATA,
    SERVER_ERROR,
    TOO_LARGE,
    TOO_MANY_OF_A_USER,
    Caps,
    judge,
    judge_size,
    parse_limits,
)

NO_CAPS = Caps()
COMBINED = parse_limits("combined")
PER_ARRAY = parse_limits("per-array")


def attributes(count: int, user: str | None = None) -> list[dict[str, Any]]:
    return [{"external_id": user or f"u{i}", "plan": "pro"} for i in range(count)]


def events(count: int) -> list[dict[str, Any]]:
    return [{"external_id": f"u{i}", "name": "n", "time": "2026-01-02"} for i in range(count)]


def test_limits_are_read() -> None:
    """The three forms of the command line."""
    assert Caps(total=75) == COMBINED
    assert Caps(per_slot=75) == PER_ARRAY
    assert parse_limits(50) == parse_limits("50") == Caps(total=50)


@pytest.mark.parametrize("limits", ["", "0", 0, "-1", "all"])
def test_unknown_limits_are_refused(limits: str | int) -> None:
    """The error names the choices."""
    with pytest.raises(ConfigError, match="per-array, combined"):
        parse_limits(limits)


def test_a_success_counts_only_the_arrays_sent() -> None:
    """No counter for an array that was absent or empty."""
    verdict = judge({"attributes": attributes(2), "events": []}, COMBINED)
    assert verdict.status == 201
    assert verdict.body == {"message": "success", "attributes_processed": 2}


@pytest.mark.parametrize(
    ("caps", "body", "status"),
    [
        (COMBINED, {"attributes": attributes(75)}, 201),
        (COMBINED, {"attributes": attributes(75), "events": events(1)}, 400),
        (PER_ARRAY, {"attributes": attributes(75), "events": events(75)}, 201),
        (PER_ARRAY, {"attributes": attributes(76)}, 400),
        (Caps(total=50), {"events": events(51)}, 400),
        (BULK_CAPS, {"attributes": attributes(1000)}, 201),
        (BULK_CAPS, {"attributes": attributes(1000), "events": events(1)}, 400),
    ],
)
def test_too_many_objects_refuse_the_whole_request(
    caps: Caps, body: dict[str, Any], status: int
) -> None:
    """The sentence is the documented one, and nothing is accepted."""
    verdict = judge(body, caps)
    assert verdict.status == status
    assert any(verdict.items) == (status == 201)
    assert (verdict.body["message"] == MAX_INPUT_LENGTH) == (status == 400)


def test_bulk_takes_a_hundred_objects_of_one_user() -> None:
    """One more refuses the request, however they are spread over the arrays."""
    assert judge({"attributes": attributes(100, "u0")}, BULK_CAPS).status == 201
    verdict = judge({"attributes": attributes(100, "u0"), "events": events(1)}, BULK_CAPS)
    assert (verdict.status, verdict.body["message"]) == (400, TOO_MANY_OF_A_USER)


def test_bodies_have_a_size() -> None:
    """4 MB is answered 413, the 2 MB of bulk 400."""
    assert judge_size(4_000_000, COMBINED) is None
    large, bulk = judge_size(4_000_001, COMBINED), judge_size(2_000_001, BULK_CAPS)
    assert large is not None
    assert bulk is not None
    assert (large.status, large.body["message"]) == (413, TOO_LARGE)
    assert (bulk.status, bulk.body["message"]) == (400, TOO_LARGE)


def test_a_bad_object_costs_itself_only() -> None:
    """It is listed with its array and index; the others are processed."""
    body = {
        "attributes": attributes(1),
        "events": [*events(1), {"name": "n", "time": "2026-01-02"}],
    }
    verdict = judge(body, COMBINED)
    assert verdict.status == 201
    assert verdict.body == {
        "message": "success",
        "attributes_processed": 1,
        "events_processed": 1,
        "errors": [{"type": MISSING_IDENTIFIER, "input_array": "events", "index": 1}],
    }
    assert verdict.rejected == 1


def test_a_request_of_bad_objects_only_is_a_400_with_the_same_list() -> None:
    """So the same object gets a 400 alone and a 201 in company."""
    verdict = judge({"attributes": [{"plan": "pro"}]}, COMBINED)
    assert verdict.status == 400
    assert verdict.body == {
        "message": NO_VALID_DATA,
        "errors": [{"type": MISSING_IDENTIFIER, "input_array": "attributes", "index": 0}],
    }


@pytest.mark.parametrize("body", [{}, {"attributes": []}, [], None, 5, "x"])
def test_a_body_without_objects_is_a_400_without_a_list(body: Any) -> None:
    """There is nothing to list."""
    assert judge(body, COMBINED).body == {"message": NO_VALID_DATA}
    assert judge(body, COMBINED).status == 400


def test_an_array_that_is_none_refuses_the_request() -> None:
    """The sentence names the array."""
    verdict = judge({"events": {}}, COMBINED)
    assert (verdict.status, "'events'" in verdict.body["message"]) == (400, True)


@pytest.mark.parametrize(("status", "message"), [("400", BAD_SYNTAX), ("500", SERVER_ERROR)])
def test_a_poisoned_object_fails_its_request_without_an_index(status: str, message: str) -> None:
    """Which object it was is not said, wherever the mark is."""
    for mark in ({"_sandbox_poison": status}, {"properties": {"_sandbox_poison": status}}):
        verdict = judge({"events": [*events(3), {**events(1)[0], **mark}]}, COMBINED)
        assert (verdict.status, verdict.body) == (int(status), {"message": message})
        assert not any(verdict.items)
        assert len(verdict.users) == 3


def test_an_object_can_ask_to_be_refused() -> None:
    """The test aid words the error, if it is a string."""
    marks = ["no such plan", True]
    body = {"attributes": [{"external_id": "u", "_sandbox_reject": mark} for mark in marks]}
    types = [error["type"] for error in judge(body, COMBINED).body["errors"]]
    assert types == ["no such plan", SANDBOX_REJECT]


def test_oversize_properties_are_an_error_of_the_object() -> None:
    """100 KB for events, 50 KB for purchases; what surrounds them does not count."""
    limits = {"events": 102_400, "purchases": 51_200}
    for name, limit in limits.items():
        obj = {**events(1)[0], "product_id": "p", "currency": "EUR", "price": 1}
        fits = {**obj, "properties": {"x": "y" * (limit - len('{"x":""}'))}}
        assert judge({name: [fits]}, COMBINED).status == 201
        over = {**obj, "properties": {"x": "y" * (limit - len('{"x":""}') + 1)}}
        assert judge({name: [over]}, COMBINED).body["errors"][0]["index"] == 0


def test_an_object_nested_too_deeply_is_an_error() -> None:
    """It cannot be written down again, so it is refused, not a failure of the sandbox."""
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    verdict = judge({"attributes": [{"external_id": "u", "x": deep}]}, COMBINED)
    assert "nested" in verdict.body["errors"][0]["type"]


def test_users_are_known_whatever_becomes_of_their_objects() -> None:
    """Refused objects carry their user as well."""
    verdict = judge({"events": [{"external_id": "u1"}, *events(1)]}, COMBINED)
    assert verdict.users == {"u0", "u1"}


@given(
    st.lists(st.sampled_from(["good", "bad"]), max_size=12),
    st.lists(st.sampled_from(["good", "bad"]), max_size=12),
)
def test_every_object_is_accepted_or_listed(first: list[str], second: list[str]) -> None:
    """Accepted objects and distinct listed indices add up to what was sent."""
    good, bad = (
        {"external_id": "u", "name": "n", "time": "2026-01-02"},
        {"external_id": "u", "name": 1},
    )
    arrays = {
        "attributes": [{"external_id": "u"} if say == "good" else {} for say in first],
        "events": [good if say == "good" else bad for say in second],
    }
    verdict = judge(arrays, NO_CAPS)
    listed = {(e["input_array"], e["index"]) for e in verdict.body.get("errors", [])}
    wanted = {("attributes", i) for i, say in enumerate(first) if say == "bad"}
    wanted |= {("events", i) for i, say in enumerate(second) if say == "bad"}
    assert listed == wanted
    assert verdict.rejected == len(wanted)
    assert sum(map(len, verdict.items)) + len(wanted) == len(first) + len(second)
    assert (verdict.status == 201) == any(verdict.items)
