"""The rows about users: what each says to a body, and does to the profiles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.records import ATTRIBUTES, EVENT, PURCHASE
from ingest.sandbox.contacts import contact_rows
from ingest.sandbox.objects import BAD_ALIAS, MISSING_IDENTIFIER, canonical, key_of
from ingest.sandbox.rows import (
    ALIAS_NEW,
    DELETE,
    DELETE_BY,
    IDENTIFY,
    REMOVE,
    RENAME,
    user_rows,
)
from ingest.sandbox.rules import Item, Verdict
from ingest.sandbox.store import Store

ALIAS = {"alias_name": "n", "alias_label": "l"}
FIELD = {
    ALIAS_NEW: "user_aliases",
    DELETE: "external_ids",
    IDENTIFY: "aliases_to_identify",
    RENAME: "external_id_renames",
    REMOVE: "external_ids",
}


class Users:
    """A store, and the rows of it."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.store = Store(keep=10, keep_bytes=1 << 20)
        self.rows = {**user_rows(self.store, DELETE_BY), **contact_rows(self.store)}
        for obj in objects:
            key = key_of(obj)
            assert key is not None
            slot = PURCHASE if "product_id" in obj else EVENT if "name" in obj else ATTRIBUTES
            items: tuple[list[Item], ...] = ([], [], [])
            items[slot].append(Item(key, obj, canonical(obj)))
            self.store.apply(1, items)

    def ask(self, path: str, body: Any, *, aids: bool = True) -> Verdict:
        """Judge a body and apply it."""
        verdict = self.rows[path](body, aids=aids)
        if verdict.effect is not None:
            verdict.effect(7)
        return verdict

    def view(self, key: Any) -> dict[str, Any]:
        """Return a profile that must be there."""
        found = self.store.view(key)
        assert found is not None
        return found


def anonymous(**more: Any) -> dict[str, Any]:
    """An object of an alias that makes its profile."""
    return {"user_alias": ALIAS, "_update_existing_only": False, **more}


def identification(external_id: str = "u", **more: Any) -> dict[str, Any]:
    return {
        "aliases_to_identify": [{"external_id": external_id, "user_alias": ALIAS}],
        **more,
    }


def test_users_are_gone_after_their_deletion() -> None:
    """The unknown ones are listed as they were written; a profile named twice is one."""
    users = Users({"external_id": "a", "email": "a@b.co"}, {"external_id": "b"})
    verdict = users.ask(DELETE, {"external_ids": ["a", "x", "a"]})
    assert (verdict.status, verdict.body) == (
        201,
        {"deleted": 1, "message": "success", "invalid_user_ids": ["x"]},
    )
    assert verdict.users == {"a", "x"}
    assert verdict.rejected == 1
    assert (users.store.view("a"), users.store.stats()["users"]) == (None, 1)
    assert users.store.find(("email", "a@b.co")) is None
    assert users.ask(DELETE, {"external_ids": ["a"]}).body["deleted"] == 0


def test_users_are_deleted_by_any_one_kind_of_id() -> None:
    """Not by two kinds at once."""
    users = Users({"external_id": "a"}, anonymous())
    braze_id = users.view("a")["braze_id"]
    both = {"braze_ids": [braze_id], "user_aliases": [ALIAS]}
    assert users.ask(DELETE, both).status == 400
    assert users.ask(DELETE, {"braze_ids": [braze_id]}).body["deleted"] == 1
    assert users.ask(DELETE, {"braze_ids": [braze_id]}).body["invalid_user_ids"] == [braze_id]
    assert users.ask(DELETE, {"user_aliases": [ALIAS]}).body["deleted"] == 1
    assert len(users.store) == 0


@pytest.mark.parametrize("body", [{"external_ids": [7]}, {"user_aliases": ["n"]}])
def test_what_is_no_id_voids_the_deletion(body: dict[str, Any]) -> None:
    """It cannot be listed among the unknown ones."""
    assert Users().ask(DELETE, body).status == 400


@pytest.mark.parametrize("path", list(FIELD))
def test_a_row_takes_fifty_items(path: str) -> None:
    """Beyond it, without any, or in a wrong shape the request is refused."""
    users = Users()
    item: dict[str, Any] | str = "x" if path in (DELETE, REMOVE) else {}
    wrong: list[Any] = [7, {}, {FIELD[path]: []}, {FIELD[path]: 7}, {FIELD[path]: [item] * 51}]
    assert {users.ask(path, body).status for body in wrong} == {400}
    said = users.ask(path, {FIELD[path]: [item] * 51}).body["message"]
    assert "per request was exceeded" in said
    # A full request is judged item by item.
    assert "exceeded" not in str(users.ask(path, {FIELD[path]: [item] * 50}).body.get("message"))


@pytest.mark.parametrize("path", [ALIAS_NEW, IDENTIFY, RENAME])
def test_poison_fails_a_row(path: str) -> None:
    """As it fails a request to track; without its bytes nothing is looked for."""
    for value, status in (("400", 400), ("500", 500)):
        poison = {FIELD[path]: [{"_sandbox_poison": value}]}
        verdict = Users().ask(path, poison)
        assert (verdict.status, "errors" in verdict.body) == (status, False)
        assert Users().ask(path, poison, aids=False).status != 500


def test_an_alias_is_added_to_a_user_or_makes_one() -> None:
    """Both lead to their profiles from then on."""
    users = Users({"external_id": "a"})
    second = {"alias_name": "m", "alias_label": "other"}
    verdict = users.ask(ALIAS_NEW, {"user_aliases": [{"external_id": "a", **ALIAS}, second]})
    assert (verdict.status, verdict.body) == (201, {"message": "success", "aliases_processed": 2})
    assert verdict.users == {"a", ("alias", "other", "m")}
    assert users.view(("alias", "l", "n"))["external_id"] == "a"
    assert users.view(("alias", "other", "m"))["external_id"] is None
    assert users.view("a")["user_aliases"] == [ALIAS]


def test_an_alias_that_cannot_be_added_is_dropped_in_silence() -> None:
    """No such user, an alias that is taken, or a label that is."""
    users = Users({"external_id": "a"})
    for item in (
        {"external_id": "a", **ALIAS},
        {"external_id": "a", **ALIAS},
        {"external_id": "a", **ALIAS, "alias_name": "m"},
        {"external_id": "x", **ALIAS, "alias_name": "o"},
    ):
        assert users.ask(ALIAS_NEW, {"user_aliases": [item]}).status == 201
    assert users.store.dropped == {"alias_taken": 2, "alias_without_user": 1}
    assert (len(users.store), users.view("a")["user_aliases"]) == (1, [ALIAS])


def test_a_bad_alias_has_an_error_at_its_index() -> None:
    """The others are added; alone it is a 400."""
    users = Users()
    bad = [{"alias_name": "n"}, 7, {**ALIAS, "external_id": 7}, {**ALIAS, "_sandbox_reject": "no"}]
    verdict = users.ask(ALIAS_NEW, {"user_aliases": [*bad, ALIAS]})
    assert (verdict.status, verdict.rejected) == (201, 4)
    assert [(error["index"], error["input_array"]) for error in verdict.body["errors"]] == [
        (index, "user_aliases") for index in range(4)
    ]
    assert verdict.body["errors"][0]["type"] == BAD_ALIAS
    alone = users.ask(ALIAS_NEW, {"user_aliases": bad})
    assert (alone.status, len(alone.body["errors"]), alone.effect) == (400, 4, None)


def test_an_unidentified_profile_gets_an_external_id() -> None:
    """When nobody has the id yet, the profile stays what it is."""
    users = Users(anonymous(plan="pro"))
    verdict = users.ask(IDENTIFY, identification())
    assert (verdict.status, verdict.body) == (201, {"aliases_processed": 1, "message": "success"})
    assert verdict.users == {"u", ("alias", "l", "n")}
    assert users.view("u")["attributes"] == {"plan": "pro"}
    assert users.view("u")["user_aliases"] == [ALIAS]
    assert len(users.store) == 1


BOUGHT = {"product_id": "p", "time": "2026-01-01", "currency": "EUR", "price": 2.0}
SEEN = {"name": "seen", "time": "2026-01-01"}


def test_an_unidentified_profile_ends_in_the_one_with_the_id() -> None:
    """What the other has, it keeps; events and purchases add up."""
    users = Users(
        {"external_id": "u", "plan": "pro"},
        {"external_id": "u", **SEEN},
        anonymous(plan="free", city="Paris", email="a@b.co"),
        anonymous(**{**SEEN, "time": "2025-01-01"}),
        anonymous(**BOUGHT),
    )
    assert users.ask(IDENTIFY, identification()).status == 201
    user = users.view("u")
    assert user["attributes"] == {"plan": "pro", "city": "Paris", "email": "a@b.co"}
    assert user["counts"] == {"attributes": 2, "event": 2, "purchase": 1}
    assert (user["total_revenue"], user["user_aliases"], len(users.store)) == (2.0, [ALIAS], 1)
    assert users.view(("alias", "l", "n"))["external_id"] == "u"
    assert users.view(("email", "a@b.co"))["external_id"] == "u"
    profile = users.store.find("u")
    assert profile is not None
    assert profile.tallies is not None
    seen = profile.tallies[EVENT, "seen"]
    assert (seen.count, seen.first, seen.last) == (2, "2025-01-01", "2026-01-01")


def test_profiles_need_not_be_merged() -> None:
    """Then only the alias goes along."""
    users = Users({"external_id": "u"}, anonymous(city="Paris"))
    users.ask(IDENTIFY, identification(merge_behavior="none"))
    assert (users.view("u")["attributes"], users.view("u")["user_aliases"]) == ({}, [ALIAS])
    assert len(users.store) == 1
    assert users.ask(IDENTIFY, identification(merge_behavior="x")).status == 400


def test_a_label_that_is_taken_stays() -> None:
    """The alias of the profile that ends leads nowhere then."""
    users = Users({"external_id": "u"}, anonymous())
    users.ask(ALIAS_NEW, {"user_aliases": [{**ALIAS, "alias_name": "own", "external_id": "u"}]})
    users.ask(IDENTIFY, identification())
    assert [alias["alias_name"] for alias in users.view("u")["user_aliases"]] == ["own"]
    assert users.store.find(("alias", "l", "n")) is None


def test_profiles_are_identified_by_email_and_phone() -> None:
    """Each array has its count; identified profiles of the address are not meant."""
    users = Users({"email": "a@b.co"}, {"phone": "1"}, {"external_id": "x", "email": "a@b.co"})
    body = {
        "emails_to_identify": [{"external_id": "u", "email": "a@b.co"}],
        "phone_numbers_to_identify": [{"external_id": "v", "phone": "1"}],
    }
    assert users.ask(IDENTIFY, body).body == {
        "emails_processed": 1,
        "phone_numbers_processed": 1,
        "message": "success",
    }
    assert users.view("u")["attributes"] == {"email": "a@b.co"}
    assert users.view("v")["attributes"] == {"phone": "1"}
    again = users.ask(IDENTIFY, body)
    assert again.status == 400
    assert [error["input_array"] for error in again.body["errors"]] == list(body)


def test_a_bad_identification_has_an_error_at_its_index() -> None:
    """In the array it came in."""
    users = Users({"email": "a@b.co"})
    body = {
        "aliases_to_identify": [7, {"external_id": "u"}, {"user_alias": ALIAS}],
        "emails_to_identify": [
            {"external_id": "u", "email": "a@b.co"},
            {"external_id": "u"},
            {"external_id": "u", "email": "x@b.co"},
        ],
    }
    verdict = users.ask(IDENTIFY, body)
    assert (verdict.status, verdict.body["aliases_processed"], verdict.rejected) == (201, 0, 5)
    places = [(error["input_array"], error["index"]) for error in verdict.body["errors"]]
    assert places == [
        ("aliases_to_identify", 0),
        ("aliases_to_identify", 1),
        ("aliases_to_identify", 2),
        ("emails_to_identify", 1),
        ("emails_to_identify", 2),
    ]
    assert verdict.body["errors"][2]["type"] == MISSING_IDENTIFIER


def test_fifty_are_identified_in_all_arrays_together() -> None:
    """One array more does not make it more; an array is an array."""
    item = {"external_id": "u"}
    body = {"aliases_to_identify": [item] * 26, "emails_to_identify": [item] * 25}
    assert "exceeded" in Users().ask(IDENTIFY, body).body["message"]
    assert Users().ask(IDENTIFY, {**body, "emails_to_identify": {}}).status == 400


def renames(*pairs: tuple[Any, Any]) -> dict[str, Any]:
    return {
        "external_id_renames": [
            {"current_external_id": current, "new_external_id": new} for current, new in pairs
        ]
    }


def test_a_renamed_user_is_found_by_both_ids_until_the_old_one_is_removed() -> None:
    """Only an id that a renaming left behind can be removed."""
    users = Users({"external_id": "a", "plan": "pro"})
    assert users.ask(RENAME, renames(("a", "b"))).body == {
        "message": "success",
        "external_ids": ["b"],
    }
    assert users.view("a") == users.view("b")
    assert (users.view("b")["external_id"], users.view("b")["former_external_ids"]) == ("b", ["a"])
    verdict = users.ask(REMOVE, {"external_ids": ["b", "a", "x", 7]})
    assert verdict.body["removed_ids"] == ["a"]
    assert [index for index, _ in verdict.body["removal_errors"]] == [0, 2, 3]
    assert (verdict.status, verdict.rejected) == (201, 3)
    assert users.store.view("a") is None
    assert len(users.store) == 1


def test_a_renaming_that_cannot_be_has_a_pair_of_index_and_sentence() -> None:
    """And the answer is a 201 even if there are only such."""
    users = Users({"external_id": "a"}, {"external_id": "c"})
    verdict = users.ask(
        RENAME, renames(("x", "y"), ("a", "b"), ("a", "z"), ("c", "b"), ("c", "a"), ("c", 7))
    )
    assert verdict.body["external_ids"] == ["b"]
    assert [index for index, _ in verdict.body["rename_errors"]] == [0, 2, 3, 4, 5]
    assert all(isinstance(sentence, str) for _, sentence in verdict.body["rename_errors"])
    assert users.ask(RENAME, renames(("x", "y"))).status == 201


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from("ab"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *FIELD.values(),
                    *("external_id", "user_alias", "alias_name", "alias_label", "email"),
                    *("current_external_id", "new_external_id", "emails_to_identify"),
                    *("push_tokens", "app_id", "token", "recipients", "campaign_id"),
                    *("external_user_id", "subscription_state", "trigger_properties"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.data())
def test_whatever_is_sent_is_answered(data: st.DataObject) -> None:
    """By success or by a sentence; what a row does cannot fail either."""
    users = Users({"external_id": "a", "email": "a"}, {"external_id": "b"}, anonymous())
    path = data.draw(st.sampled_from(list(users.rows)))
    body: Any = data.draw(JSON | st.dictionaries(st.sampled_from([*FIELD.values()]), JSON))
    verdict = users.ask(path, body)
    assert verdict.status in (201, 400)
    assert isinstance(verdict.body["message"], str)


ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "external_id": st.sampled_from("abc"),
        "alias_name": st.sampled_from("nm"),
        "alias_label": st.sampled_from("lk"),
    },
)


@given(st.lists(ITEMS, min_size=1, max_size=9))
def test_every_item_is_processed_or_has_an_error(items: list[dict[str, str]]) -> None:
    """As many come out as went in."""
    users = Users({"external_id": "a"}, {"external_id": "b"})
    verdict = users.ask(ALIAS_NEW, {"user_aliases": items})
    named = {error["index"] for error in verdict.body.get("errors", [])}
    assert verdict.body.get("aliases_processed", 0) + len(named) == len(items)
    assert verdict.rejected == len(named)
