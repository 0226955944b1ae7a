"""The Appboy side of the sandbox: the group in the body, 50 an array, errors without an index."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.sandbox.appboy import (
    NESTED_ATTRIBUTE,
    NESTED_PROPERTY,
    NO_EXTERNAL_ID,
    UNKNOWN_OPERATOR,
    Appboy,
    check_object,
)
from ingest.sandbox.calls import Admitted, Answer, Call
from ingest.sandbox.faults import FAULTS
from ingest.sandbox.objects import key_of
from ingest.sandbox.rules import MAX_INPUT_LENGTH, NO_VALID_DATA, judge
from ingest.sandbox.store import Store
from ingest.sandbox.windows import parse_rate

TRACK, DELETE = "/users/track", "/users/delete"
HEADERS = {"Content-Type": "application/json"}
GOOD = {"attributes": [{"external_id": "u", "plan": "pro"}]}
EVENT = {"external_id": "u", "name": "seen", "time": "2016-01-02"}
TOKEN = {"app_id": "a", "token": "t"}


def appboy(rate: str = "50000/1h") -> Appboy:
    return Appboy(Store(keep=10, keep_bytes=10_000), key="g", rate=parse_rate(rate))


def ask(
    to: Appboy,
    body: dict[str, Any] | None = None,
    path: str = TRACK,
    group: Any = "g",
    now: float = 7_230.0,
    **changes: Any,
) -> Answer:
    """Send a body with a group and return the answer."""
    raw = dumps({"app_group_id": group, **(GOOD if body is None else body)})
    call = Call(path=path, now=now, **({"method": "POST", "headers": HEADERS} | changes))
    assert to.claims(call, raw)
    admitted = to.admit(call, raw)
    if isinstance(admitted, Answer):
        return admitted
    return to.answer(admitted, raw, 1, apply=True)


def said(answer: Answer) -> Any:
    return loads(answer.body)


def stored(of: Appboy, external_id: str = "u") -> dict[str, Any]:
    view = of._store.view(external_id)
    assert view is not None
    return view


def test_the_body_tells_whose_a_request_is() -> None:
    """With an `Authorization` header, on other paths or without a group it is not Appboy's."""
    to, bearer = appboy(), {"Authorization": "Bearer k", **HEADERS}
    call = Call("POST", TRACK, HEADERS, 0.0)
    assert to.claims(call, None) is None
    assert to.claims(call, b'{"app_group_id": null}') is True
    for body in (b"{}", b'["app_group_id"]', b'{"app_group_id": ', b'{"x": "app_group_id"}'):
        assert to.claims(call, body) is False
    assert to.claims(Call("POST", TRACK, bearer, 0.0), b'{"app_group_id": "g"}') is False
    assert to.claims(Call("POST", "/users/track/bulk", HEADERS, 0.0), None) is False
    assert (to.place(TRACK), to.place("/users/identify")) == (TRACK, None)


def test_a_success_says_no_more_than_that() -> None:
    """No counters; the headers are the window's, with its end as epoch seconds."""
    answer = ask(appboy())
    assert (answer.status, said(answer)) == (201, {"message": "success"})
    assert answer.headers == {
        "X-RateLimit-Limit": "50000",
        "X-RateLimit-Remaining": "49999",
        "X-RateLimit-Reset": "10800",
    }


@pytest.mark.parametrize(("group", "status"), [("x", 404), ("", 401), (None, 401), (7, 401)])
def test_a_group_that_is_unknown_or_missing_is_refused(group: Any, status: int) -> None:
    """It costs no rate, and its value is not echoed."""
    to = appboy("1/1h")
    answer = ask(to, group=group)
    assert (answer.status, list(said(answer)), answer.headers) == (status, ["message"], {})
    assert ask(to).status == 201


def test_all_paths_share_a_window() -> None:
    """The hour is the clock's."""
    to = appboy("2/1h")
    assert [ask(to).status, ask(to, {"external_ids": ["u"]}, DELETE).status] == [201, 201]
    refused = ask(to)
    assert (refused.status, refused.headers["X-RateLimit-Reset"]) == (429, "10800")
    assert ask(to, now=10_800.0).status == 201
    to.reset()
    assert ask(to).status == 201


def test_wrong_requests_are_refused() -> None:
    """By method, by type, and over 4 MB."""
    assert ask(appboy(), method="PUT").status == 404
    assert ask(appboy(), headers={}).status == 415
    assert ask(appboy(), {"x": "y" * 4_000_000}).status == 413
    assert appboy().too_long().status == 413


@pytest.mark.parametrize("name", ["attributes", "events", "purchases"])
def test_an_array_has_fifty_objects(name: str) -> None:
    """Each array for itself; one more, and nothing is taken."""
    objects = [{**EVENT, "product_id": "p", "currency": "EUR", "price": 1}] * 50
    assert ask(appboy(), {name: objects, "attributes": objects}).status == 201
    answer = ask(appboy(), {name: [*objects, objects[0]]})
    assert (answer.status, said(answer)["message"]) == (400, MAX_INPUT_LENGTH)
    assert answer.rejected == 0


def test_errors_are_strings_one_for_each_refused_object() -> None:
    """Though an object may have several; the rest is taken."""
    to = appboy()
    answer = ask(to, {**GOOD, "events": [EVENT, {"external_id": "u"}, {"name": "n"}]})
    errors = said(answer).pop("errors")
    assert (answer.status, answer.rejected) == (201, 2)
    assert errors == ["'name' is required", NO_EXTERNAL_ID]
    assert stored(to)["counts"] == {"attributes": 1, "event": 1, "purchase": 0}


def test_nothing_good_is_a_400() -> None:
    """With the same errors, and nothing is processed."""
    to = appboy()
    answer = ask(to, {"attributes": [{"email": "a@b.co"}]})
    assert (answer.status, said(answer)) == (
        400,
        {"message": NO_VALID_DATA, "errors": [NO_EXTERNAL_ID]},
    )
    assert len(to._store) == 0


@pytest.mark.parametrize(
    ("slot", "obj", "error"),
    [
        (0, 7, "must be an object"),
        (0, {"user_alias": {"alias_name": "n", "alias_label": "l"}}, NO_EXTERNAL_ID),
        (0, {"email": "a@b.co"}, NO_EXTERNAL_ID),
        (0, {"braze_id": "b"}, NO_EXTERNAL_ID),
        (0, {"external_id": ""}, NO_EXTERNAL_ID),
        (1, {**EVENT, "external_id": 7}, NO_EXTERNAL_ID),
        (1, {"push_token_import": True, "push_tokens": [TOKEN], "name": "n"}, NO_EXTERNAL_ID),
        (0, {"external_id": "u", "a": {"$add": [{}]}}, UNKNOWN_OPERATOR),
        (0, {"external_id": "u", "a": {"b": 1}}, NESTED_ATTRIBUTE),
        (0, {"external_id": "u", "a": {"inc": 1, "add": []}}, NESTED_ATTRIBUTE),
        (0, {"external_id": "u", "a": [{"b": 1}]}, NESTED_ATTRIBUTE),
        (1, {**EVENT, "properties": {"a": {"b": 1}}}, NESTED_PROPERTY),
        (1, {**EVENT, "properties": {"a": [1]}}, NESTED_PROPERTY),
        (0, {"push_token_import": True}, "BAD_PUSH_TOKEN_IMPORT"),
        (0, {"push_token_import": True, "external_id": "u"}, "BAD_PUSH_TOKEN_IMPORT"),
    ],
)
def test_what_appboy_could_not_carry_is_refused(slot: int, obj: Any, error: str) -> None:
    """Identities and shapes that came later."""
    key = key_of(obj) if isinstance(obj, dict) else None
    assert error in check_object(slot, obj, key)


@pytest.mark.parametrize(
    "attributes",
    [
        {"a": 1, "b": None, "c": ["x"], "current_location": {"latitude": 1, "longitude": 2}},
        {"n": {"inc": -1}, "s": {"add": ["a"], "remove": ["b"]}, "t": {"remove": []}},
        {"push_tokens": [TOKEN], "_update_existing_only": False},
        {"facebook": {"id": "1"}, "twitter": {"id": 1, "screen_name": "n"}},
        {"facebook": {"id": "1", "likes": [{"name": "x"}], "num_friends": 2}},
        {"foursquare_access_token": "t", "bio": "b", "facebook": None, "twitter": None},
    ],
)
def test_what_appboy_could_carry_is_taken(attributes: dict[str, Any]) -> None:
    """Standard objects, and the operators of then."""
    assert check_object(0, {"external_id": "u", **attributes}, "u") == []


def test_a_social_profile_is_shown_as_it_was_sent() -> None:
    """The last one, whole: it is a field of the profile, which holds no operator."""
    to = appboy()
    for name in ("facebook", "twitter"):
        ask(to, {"attributes": [{"external_id": "u", name: {"id": "1", "a": [1, {"b": None}]}}]})
        answer = ask(to, {"attributes": [{"external_id": "u", name: {"inc": 1}}]})
        assert (answer.status, answer.rejected) == (201, 0)
    assert stored(to)["attributes"] == {"facebook": {"inc": 1}, "twitter": {"inc": 1}}
    assert not to._store.dropped


def test_a_push_token_is_imported_without_an_id() -> None:
    """As the one kind of object that has none."""
    to = appboy()
    answer = ask(to, {"attributes": [{"push_token_import": True, "push_tokens": [TOKEN]}]})
    assert (answer.status, len(to._store)) == (201, 1)


def test_an_array_is_cut_off_at_25() -> None:
    """Also one that grows; the drop is counted."""
    to = appboy()
    ask(to, {"attributes": [{"external_id": "u", "a": [*range(30)], "b": [*range(25)]}]})
    ask(to, {"attributes": [{"external_id": "u", "b": {"add": [99]}}]})
    assert stored(to)["attributes"] == {"a": [*range(25)], "b": [*range(25)]}
    assert to._store.dropped == {"array_truncated_to_25": 2}


def test_users_are_deleted_by_external_or_vendor_ids() -> None:
    """Which are the hexadecimal ids that are shown of a profile."""
    to = appboy()
    ask(to)
    vendor_id = stored(to)["braze_id"]
    answer = ask(to, {"appboy_ids": [vendor_id, "ff"]}, DELETE)
    assert said(answer) == {"deleted": 1, "message": "success", "invalid_user_ids": ["ff"]}
    assert len(to._store) == 0
    assert ask(to, {"braze_ids": ["ff"]}, DELETE).status == 400
    assert ask(to, {"appboy_ids": ["ff"], "external_ids": ["u"]}, DELETE).status == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/push_notification/remove", {"push_tokens": [TOKEN, {}]}),
        ("/email/status", {"email": ["a@b.co", "x"], "subscription_state": "unsubscribed"}),
        ("/email/bounce/remove", {"email": ["a@b.co", "x"]}),
        ("/email/spam/remove", {"email": ["a@b.co", "x"]}),
        ("/campaigns/trigger/send", {"campaign_id": "c", "recipients": [{}, {"user_alias": 1}]}),
        ("/users/export/ids", {"external_ids": ["u"]}),
    ],
)
def test_its_other_paths_answer_with_strings(path: str, body: dict[str, Any]) -> None:
    """Where they have errors at all."""
    errors = said(ask(appboy(), body, path)).get("errors", [])
    assert all(isinstance(error, str) for error in errors)
    assert bool(errors) == ("export" not in path)


def fault(name: str, body: dict[str, Any]) -> Answer:
    to, raw = appboy("9/1h"), dumps({"app_group_id": "g", **body})
    admitted = to.admit(Call("POST", TRACK, HEADERS, 1.0), raw)
    assert isinstance(admitted, Admitted)
    answer = to.answer(admitted, raw, 1, apply=False)
    assert len(to._store) == 0
    return to.fault_answer(admitted, FAULTS[name], answer)


def test_maintenance_queues() -> None:
    """The errors stay; a refusal stays what it is."""
    assert (fault("202", GOOD).status, said(fault("202", GOOD))) == (202, {"message": "queued"})
    mixed = {"attributes": [*GOOD["attributes"], {}]}
    assert said(fault("202", mixed)) == {"message": "queued", "errors": [NO_EXTERNAL_ID]}
    assert fault("202", {}).status == 400


@pytest.mark.parametrize("name", ["500", "503", "429", "502html", "403html", "504-after"])
def test_a_fault_answers_in_json_or_as_a_gateway_does(name: str) -> None:
    """With rate-limit headers unless it is a page."""
    answer = fault(name, GOOD)
    assert answer.status == FAULTS[name].status
    assert answer.html == FAULTS[name].html
    assert ("X-RateLimit-Reset" in answer.headers) == (not answer.html)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["inc", "add", "$add", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)
OBJECTS = st.dictionaries(
    st.sampled_from(
        ["external_id", "user_alias", "email", "name", "time", "properties", "push_token_import"]
    ),
    VALUES | st.just("2016-01-02") | st.just(True),
)


@given(st.lists(OBJECTS | VALUES, max_size=5), st.lists(OBJECTS | VALUES, max_size=5))
def test_what_appboy_takes_is_taken_today_too(attributes: list[Any], events: list[Any]) -> None:
    """Its rules only ever refuse more; and every object is taken or has its string."""
    body = {"attributes": attributes, "events": events}
    to = appboy()
    answer = ask(to, body)
    errors = said(answer).get("errors", [])
    assert len(errors) == answer.rejected
    assert sum(to._store.objects) + len(errors) == len(attributes) + len(events)
    today = judge(body, caps=to.routes[TRACK].caps)
    assert today.rejected <= answer.rejected
