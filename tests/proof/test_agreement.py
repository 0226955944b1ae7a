"""What is expected of a user against what the sandbox, an opinion of its own, makes of it.

The sandbox shares no rule with the expectation: it is what documents say a destination does.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.codec import dumps, loads
from ingest.proof import Expected, Window, compared
from ingest.proof.moments import moment
from ingest.records import ATTRIBUTES, EVENT, PURCHASE, UserKey
from ingest.sandbox.export import judge_export
from ingest.sandbox.rules import Caps, judge
from ingest.sandbox.store import Store
from ingest.sinks.export import asking, profiles_of
from tests.examples import examples

NOW = moment("2026-11-01T00:00:00Z") or 0.0
WINDOW = Window(NOW, NOW)
ARRAYS = ("attributes", "events", "purchases")
FIELDS = (
    *("custom_attributes", "custom_events", "purchases", "first_name", "country", "dob", "gender"),
    "last_coordinates",
)

SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "b", "x" * 300])
)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c d", "$e"]), inner, max_size=3)
    ),
    max_leaves=6,
)
OPERATORS = st.sampled_from(
    [
        {"inc": 1},
        {"add": ["a"]},
        {"remove": ["a"]},
        {"$add": [{"a": 1}]},
        {"$time": "2026-01-01"},
        {"a": {"$time": "2026-01-01"}},
    ]
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "plan": ANY | OPERATORS,
        " tags": ANY | OPERATORS,
        "seen": st.sampled_from(["2026-01-01", "2026-01-01T01:00:00+01:00"]),
        "first_name": st.sampled_from(["Ann", "Zoë"]) | st.none(),
        "country": st.sampled_from(["DE", "FR"]),
        "current_location": st.just({"latitude": 1.5, "longitude": -2}) | st.none(),
        "image_url": st.just("https://example.org"),
        "_merge_objects": st.booleans(),
    },
)
TIMES = st.integers(1, 28).map(lambda day: f"2026-10-{day:02}T10:00:00Z")
RECORDS = st.one_of(
    st.tuples(st.just(ATTRIBUTES), VALUES),
    st.tuples(
        st.just(EVENT),
        st.fixed_dictionaries({"name": st.sampled_from(["e", "f"]), "time": TIMES}),
    ),
    st.tuples(
        st.just(PURCHASE),
        st.fixed_dictionaries(
            {
                "product_id": st.sampled_from(["p", "q"]),
                "time": TIMES,
                "currency": st.just("EUR"),
                "price": st.just(2),
            },
            optional={"quantity": st.integers(1, 9)},
        ),
    ),
)
WHO: dict[UserKey, dict[str, Any]] = {
    "u": {"external_id": "u"},
    ("alias", "l", "n"): {"user_alias": {"alias_name": "n", "alias_label": "l"}},
    ("email", "a@b.c"): {"email": "a@b.c"},
}


def read(store: Store, key: UserKey) -> list[Any]:
    """Ask the sandbox for a user as a reader would."""
    body = loads(b"{" + asking([key], FIELDS) + b"}")
    found = profiles_of([key], dumps(judge_export(body, store).body))
    assert found is not None
    return list(found.get(key, []))


def sent(
    store: Store, user: Expected, records: list[tuple[int, dict[str, Any], bool | None]]
) -> None:
    """Send each record alone, and expect what was taken."""
    for slot, values, only_existing in records:
        record = {**WHO[user.key], **values}
        if only_existing is not None:
            record["_update_existing_only"] = only_existing
        verdict = judge({ARRAYS[slot]: [record]}, Caps())
        if verdict.status == 201:
            store.apply(1, verdict.items)
            user.add(slot, record, WINDOW)


SENT = st.lists(st.tuples(*(RECORDS,), st.none() | st.booleans()), max_size=12).map(
    lambda rows: [(slot, values, flag) for (slot, values), flag in rows]
)


@settings(max_examples=examples(400))
@given(st.sampled_from(list(WHO)), SENT, SENT)
def test_what_is_expected_is_there(
    key: UserKey,
    before: list[tuple[int, dict[str, Any], bool | None]],
    during: list[tuple[int, dict[str, Any], bool | None]],
) -> None:
    """Whatever a user was before, and whatever is sent: what is compared is as it should be."""
    store = Store(keep=0, keep_bytes=0)
    sent(store, Expected(key), before)
    user = Expected(key)
    sent(store, user, during)
    verdict = compared(user, read(store, key))
    assert verdict.good, verdict.differences


@given(SENT, st.data())
def test_what_is_changed_afterwards_differs(
    records: list[tuple[int, dict[str, Any], bool | None]], data: st.DataObject
) -> None:
    """That field, and no other."""
    store, user = Store(keep=0, keep_bytes=0), Expected("u")
    sent(store, user, [(ATTRIBUTES, {"sure": 1}, None), *records])
    known = [
        name
        for name, each in user.attributes.items()
        if not each.untold and name not in ("current_location", "country")
    ]
    name = data.draw(st.sampled_from(known))
    changed = {"external_id": "u", name: "a value that nobody sent"}
    store.apply(2, judge({"attributes": [changed]}, Caps()).items)
    (difference,) = compared(user, read(store, "u")).differences
    assert difference.field == name
    assert difference.found == "a value that nobody sent"
