"""What is done to whole profiles, also when an earlier change has made it void."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.records import ATTRIBUTES, EVENT, UserKey
from ingest.sandbox import changes
from ingest.sandbox.objects import canonical
from ingest.sandbox.rules import Item
from ingest.sandbox.store import Store, tally

ALIAS: UserKey = ("alias", "l", "n")


def store(*ids: str) -> Store:
    users = Store(keep=10, keep_bytes=1 << 20)
    for external_id in ids:
        users.create(external_id)
    return users


def test_a_change_of_a_profile_that_is_gone_is_none() -> None:
    """Earlier ones of the same request may have removed it."""
    users = store("a")
    changes.rename(users, "x", "y")
    changes.remove_former_id(users, "x")
    changes.identify(users, ALIAS, "b", merge=True)
    changes.remove_former_id(users, "a")
    assert ([profile.external_id for profile in users], len(users)) == (["a"], 1)


def test_an_id_that_is_in_use_is_not_given_again() -> None:
    """Neither by its former name."""
    users = store("a", "b")
    changes.rename(users, "a", "b")
    changes.rename(users, "a", "c")
    changes.rename(users, "b", "a")
    assert [profile.external_id for profile in users] == ["c", "b"]


def test_a_profile_that_had_no_external_id_leaves_none_behind() -> None:
    """Though it is renamed by an alias of its own making."""
    users = store()
    users.bind("a", users.create(ALIAS))
    changes.rename(users, "a", "b")
    profile = users.find("b")
    assert profile is not None
    assert profile.former_ids == ()


def test_messages_of_a_profile_are_shown_up_to_a_number() -> None:
    """All are counted."""
    users = store("a")
    for n in range(changes.SENDS_KEPT + 5):
        changes.send(users, n, "a", "c", None, create=False)
    view = users.view("a")
    assert view is not None
    assert (view["sent"], len(view["sends"])) == (changes.SENDS_KEPT + 5, changes.SENDS_KEPT)
    assert view["sends"][0]["request"] == 5


def test_messages_go_along_with_a_merge() -> None:
    """Those of the unidentified profile come last."""
    users = store("a")
    users.create(ALIAS)
    changes.send(users, 1, "a", "c", None, create=False)
    changes.send(users, 2, ALIAS, "c", None, create=False)
    changes.identify(users, ALIAS, "a", merge=True)
    view = users.view("a")
    assert view is not None
    assert [sent["request"] for sent in view["sends"]] == [1, 2]


def test_events_go_along_to_a_profile_without_any() -> None:
    """And without a merge nothing does."""
    for merge in (True, False):
        users = store("a")
        tally(users.create(ALIAS), EVENT, "seen", "2026-01-01")
        changes.identify(users, ALIAS, "a", merge=merge)
        profile = users.find("a")
        assert profile is not None
        assert (profile.tallies is not None) == merge


def test_a_profile_of_a_push_token_can_be_removed() -> None:
    """The token makes a new one afterwards."""
    users = store()
    obj = {"push_token_import": True, "push_tokens": [{"app_id": "a", "token": "t"}]}
    item = Item(("push_token", "t"), obj, canonical(obj))
    users.apply(1, ([item], [], []))
    [profile] = users
    users.forget(profile)
    assert (len(users), users.find(("push_token", "t"))) == (0, None)
    users.apply(2, ([item], [], []))
    assert [profile.number for profile in users] == [1]


IDS = st.sampled_from("abc")
LABELS = st.sampled_from("lk")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), IDS, st.sampled_from(["x@y.z", "w@y.z", None])),
        st.tuples(st.just("delete"), IDS),
        st.tuples(st.just("alias"), st.none() | IDS, LABELS),
        st.tuples(st.just("identify"), LABELS, IDS),
        st.tuples(st.just("rename"), IDS, IDS),
        st.tuples(st.just("remove"), IDS),
        st.tuples(st.just("state"), st.just("x@y.z")),
    ),
    max_size=25,
)


@given(STEPS)
def test_whatever_is_done_every_way_to_a_profile_leads_to_it(steps: list[Any]) -> None:
    """No identity leads to a profile that is gone, and none that a profile has leads nowhere."""
    users = store()
    for what, *given_ in steps:
        match what, *given_:
            case "put", external_id, email:
                obj = {"external_id": external_id, "email": email}
                items: tuple[list[Item], ...] = ([], [], [])
                items[ATTRIBUTES].append(Item(external_id, obj, canonical(obj)))
                users.apply(1, items)
            case "delete", external_id:
                changes.delete(users, external_id)
            case "alias", external_id, label:
                changes.add_alias(users, external_id, ("alias", label, "n"))
            case "identify", label, external_id:
                changes.identify(users, ("alias", label, "n"), external_id, merge=True)
            case "rename", current, new:
                changes.rename(users, current, new)
            case "remove", external_id:
                changes.remove_former_id(users, external_id)
            case "state", email:
                changes.set_email_state(users, email, "unsubscribed")
    profiles = list(users)
    assert len(profiles) == len(users)
    for profile in profiles:
        own: list[UserKey] = [*profile.former_ids, ("braze_id", profile.braze_id)]
        own += (("alias", *alias) for alias in profile.aliases)
        own += [profile.external_id] if profile.external_id is not None else []
        assert all(users.find(key) is profile for key in own)
        email = profile.attributes.get("email")
        assert email is None or profile in users.all_with("email", email)
        assert len({label for label, _ in profile.aliases}) == len(profile.aliases)
    for key in (*"abc", ("alias", "l", "n"), ("alias", "k", "n"), ("email", "x@y.z")):
        found = users.find(key)
        assert found is None or found in profiles
