"""The Batch CEP side of the sandbox: paths, key, budgets, answers and profiles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.sandbox.batchcep import BatchCep, change_attributes
from ingest.sandbox.buckets import bucket, sliding
from ingest.sandbox.calls import Admitted, Answer, Call
from ingest.sandbox.faults import FAULTS
from ingest.sandbox.store import Store

UPDATE, MASS = "/2.11/profiles/update", "/2.4/profiles/mass-update"
HEADERS = {
    "Authorization": "Bearer k",
    "X-Batch-Project": "project_x",
    "Content-Type": "application/json",
}
BAD = {"identifiers": {"custom_id": "bad"}, "attributes": {"Plan": 1, "plan": 2}}


def edits(count: int, **members: Any) -> list[dict[str, Any]]:
    return [{"identifiers": {"custom_id": f"u{i}"}, **members} for i in range(count)]


def server() -> BatchCep:
    return BatchCep(
        Store(keep=100, keep_bytes=1 << 20),
        key="k",
        update=bucket("300/1s", 1_000),
        mass_update=sliding("10000/1s"),
    )


def ask(
    to: BatchCep, body: Any = None, path: str = UPDATE, now: float = 0.0, **changes: Any
) -> Answer:
    """Send a body, or raw bytes, and return the answer."""
    raw = body if isinstance(body, bytes) else dumps(edits(1) if body is None else body)
    call = {"method": "POST", "headers": HEADERS} | changes
    admitted = to.admit(Call(path=path, now=now, **call), raw)
    if isinstance(admitted, Answer):
        return admitted
    return to.answer(admitted, raw, 1, apply=True)


def code(answer: Answer) -> str:
    """Return the code of a refusal, which also has a sentence."""
    body = loads(answer.body)
    assert body["error_message"]
    return str(body["error_code"])


def stored(of: BatchCep, custom_id: str) -> dict[str, Any]:
    view = of._store.view(custom_id)
    assert view is not None
    return view


@pytest.mark.parametrize(
    ("path", "own"),
    [
        (UPDATE, True),
        (MASS, True),
        ("/2.0/profiles/update", True),
        ("/10.1/profiles/update", True),
        ("/1.1/profiles/update", False),
        ("/2/profiles/update", False),
        ("/2.11/profiles/export", False),
        ("/users/track", False),
    ],
)
def test_any_version_from_2_on_is_served(path: str, own: bool) -> None:
    """Other paths are somebody else's."""
    assert (server().place(path) == path) == own
    assert server().claims(Call("POST", path, {}, 0.0), None) is own


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"method": "GET"}, 404, "NOT_FOUND"),
        ({"headers": HEADERS | {"Authorization": "Bearer x"}}, 401, "AUTHENTICATION_INVALID"),
        ({"headers": HEADERS | {"Authorization": "k"}}, 401, "AUTHENTICATION_INVALID"),
        ({"headers": HEADERS | {"X-Batch-Project": " "}}, 401, "AUTHENTICATION_INVALID"),
        ({"headers": {"Authorization": "Bearer k"}}, 401, "AUTHENTICATION_INVALID"),
        ({"headers": HEADERS | {"Content-Type": "text/plain"}}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"body": b"[{]"}, 400, "BAD_REQUEST"),
        ({"body": {}}, 400, "BAD_REQUEST"),
        ({"body": []}, 400, "BAD_REQUEST"),
        ({"body": edits(1) * 2}, 400, "BAD_REQUEST"),
    ],
)
def test_a_refusal_is_in_the_form_of_batch(changes: dict[str, Any], status: int, said: str) -> None:
    """A code and a sentence, no headers, and nothing is stored."""
    to = server()
    answer = ask(to, **changes)
    assert (answer.status, code(answer), answer.headers) == (status, said, {})
    assert len(to._store) == 0


@pytest.mark.parametrize(("path", "most"), [(UPDATE, 200), (MASS, 10_000)])
def test_a_request_has_a_most_of_edits(path: str, most: int) -> None:
    """One more, and nothing of it is taken; what was sent is counted all the same."""
    to = server()
    assert ask(to, edits(most + 1), path).status == 400
    assert ask(to, edits(most + 1), path).sizes == (most + 1, 0, 0)
    answer = ask(to, edits(most), path)
    assert (answer.status, loads(answer.body)) == (202, {"code": "SUCCESS"})
    assert (answer.updates, len(answer.users), len(to._store)) == (most, most, most)


def test_updates_have_a_burst_and_then_a_rate() -> None:
    """Counted in edits; an answer beyond it has no headers, and what is void costs nothing."""
    to = server()
    for _ in range(5):
        assert ask(to, edits(201)).status == 400
        assert ask(to, edits(200)).status == 202
    refused = ask(to, edits(1))
    assert (refused.status, code(refused), refused.headers) == (429, "TOO_MANY_REQUESTS", {})
    assert [ask(to, edits(151), now=0.5).status, ask(to, edits(150), now=0.5).status] == [429, 202]
    to.reset()
    assert ask(to, edits(200)).status == 202


def test_mass_updates_have_a_most_in_any_second() -> None:
    """Its budget is apart from that of updates."""
    to = server()
    assert ask(to, edits(6_000), MASS, now=0.5).status == 202
    assert [ask(to, edits(n), MASS, now=1.4).status for n in (4_001, 4_000)] == [429, 202]
    assert ask(to, edits(6_000), MASS, now=1.5).status == 202
    assert ask(to, edits(200), now=1.5).status == 202


def test_a_bad_piece_is_named_and_the_rest_is_taken() -> None:
    """The edit is still one update."""
    to = server()
    answer = ask(to, [*edits(1), BAD])
    body = loads(answer.body)
    assert (answer.status, body["code"]) == (202, "SUCCESS_WITH_PARTIAL_ERRORS")
    assert [(error["bulk_index"], error["attribute"]) for error in body["errors"]] == [(1, "Plan")]
    assert (answer.rejected, answer.updates) == (1, 2)
    assert stored(to, "bad")["attributes"] == {"plan": 2}


def test_a_profile_keeps_typed_keys_and_shows_its_events() -> None:
    """Attributes under the keys they came with, events with their time; ids are external ids."""
    to = server()
    event = {"name": "seen", "time": "1970-01-01T00:00:00Z", "attributes": {"a": 1}}
    ask(to, edits(2, attributes={"date(d)": "2020-01-01T00:00:00Z"}, events=[event, event]))
    user = stored(to, "u1")
    assert (user["external_id"], user["attributes"]) == ("u1", {"date(d)": "2020-01-01T00:00:00Z"})
    assert user["events"] == [{"custom_id": "u1", **event}] * 2
    assert user["counts"] == {"attributes": 1, "event": 2, "purchase": 0}
    assert (to._store.objects, to._store.distinct) == ([2, 4, 0], 4)


def test_an_edit_of_nothing_makes_a_profile() -> None:
    """Also one of which every piece was refused."""
    to = server()
    ask(to, edits(1))
    ask(to, [{**BAD, "attributes": {"Plan": 1}}])
    assert [stored(to, name)["attributes"] for name in ("u0", "bad")] == [{}, {}]


def test_arrays_grow_and_shrink_and_null_deletes() -> None:
    """As sets; an operator on what is no array is dropped in silence, and counted."""
    state: dict[str, Any] = {"tags": ["a", "b"], "n": 1, "gone": 1}
    change = {"tags": {"$remove": ["a"], "$add": ["c", "b"]}, "new": {"$add": ["x"]}}
    assert change_attributes(state, {**change, "n": {"$add": ["x"]}, "gone": None}) == [
        "operator_on_wrong_type"
    ]
    assert state == {"tags": ["c", "b"], "new": ["x"], "n": 1}


SPELLINGS = ("born", "date(born)", "url(born)")


@pytest.mark.parametrize("before", SPELLINGS)
@pytest.mark.parametrize("key", SPELLINGS)
def test_the_type_in_a_key_is_no_part_of_the_name(before: str, key: str) -> None:
    """A null under any spelling removes the attribute, and a value moves it to that spelling."""
    state: dict[str, Any] = {before: "x", "borne": 1, "date(bor)": "y"}
    others = {"borne": 1, "date(bor)": "y"}
    assert change_attributes(state, {key: "z"}) == []
    assert state == {key: "z", **others}
    assert change_attributes(state, {before: None}) == []
    assert state == others


def test_an_operator_meets_the_attribute_under_any_spelling() -> None:
    """A date is no array, whose operator is dropped; after a null of that edit it is a new one."""
    state: dict[str, Any] = {"date(born)": "x"}
    assert change_attributes(state, {"born": {"$add": ["a"]}}) == ["operator_on_wrong_type"]
    assert state == {"date(born)": "x"}
    assert change_attributes(state, {"date(born)": None, "born": {"$add": ["a"]}}) == []
    assert state == {"born": ["a"]}


def test_spellings_of_two_requests_are_one_attribute() -> None:
    """The profile shows the key as it was sent last."""
    to = server()
    for key, value in (("born", "x"), ("date(born)", "2020-01-01T00:00:00Z"), ("url(born)", "a:b")):
        assert ask(to, edits(1, attributes={key: value, "$region": "FR"})).rejected == 0
        assert stored(to, "u0")["attributes"] == {key: value, "$region": "FR"}
    ask(to, edits(1, attributes={"date(born)": None, "$region": None}))
    assert stored(to, "u0")["attributes"] == {}


VALUES = st.none() | st.integers() | st.lists(st.sampled_from("ab"))
CHANGES = st.dictionaries(
    st.sampled_from([*SPELLINGS, "n", "date(n)", "$region"]),
    VALUES | st.fixed_dictionaries({}, optional={"$add": st.just(["a"]), "$remove": st.just([])}),
)


@given(st.lists(CHANGES, max_size=5))
def test_an_attribute_is_never_there_twice(changes: list[dict[str, Any]]) -> None:
    """Whatever is sent: one spelling of a name at most, and it is not null."""
    state: dict[str, Any] = {}
    for change in changes:
        change_attributes(state, change)
    names = [key.rpartition("(")[2].rstrip(")") for key in state]
    assert len(names) == len(set(names))
    assert None not in state.values()


@pytest.mark.parametrize(("value", "status"), [("400", 400), ("500", 500)])
def test_poison_fails_the_request(value: str, status: int) -> None:
    """Nothing is stored, and the users are known."""
    to = server()
    answer = ask(to, edits(2, attributes={"sandbox_poison": value}))
    assert (answer.status, answer.updates) == (status, 0)
    assert answer.users == {"u0", "u1"}
    assert code(answer)
    assert len(to._store) == 0


def test_all_versions_share_a_budget() -> None:
    """A version is a path and no other project."""
    to = server()
    for version in ("2.0", "2.9", "2.11", "2.13", "3.0"):
        assert ask(to, edits(200), f"/{version}/profiles/update").status == 202
    assert ask(to).status == 429


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("500", 500, "INTERNAL_SERVER_ERROR"),
        ("503", 503, "SERVICE_UNAVAILABLE"),
        ("429", 429, "TOO_MANY_REQUESTS"),
        ("502html", 502, None),
        ("403html", 403, None),
        ("504-after", 504, None),
        ("202", 202, None),
        ("slow", 202, None),
    ],
)
def test_a_fault_is_worded_as_batch_words_it(name: str, status: int, said: str | None) -> None:
    """Pages are a gateway's; 202 is what success always is."""
    to, raw = server(), dumps(edits(1))
    admitted = to.admit(Call("POST", UPDATE, HEADERS, 0.0), raw)
    assert isinstance(admitted, Admitted)
    true = to.answer(admitted, raw, 1, apply=False)
    assert len(to._store) == 0
    answer = to.fault_answer(admitted, FAULTS[name], true)
    assert (answer.status, answer.headers) == (status, {})
    assert answer.html == (status in (502, 403, 504))
    if said is not None:
        assert code(answer) == said
    elif status == 202:
        assert answer.body == true.body


def test_a_body_too_long_to_be_read_is_said_so() -> None:
    """In the form of all refusals."""
    assert (server().too_long().status, code(server().too_long())) == (413, "REQUEST_TOO_LARGE")
