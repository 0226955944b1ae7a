"""The account of a sample."""

from __future__ import annotations

from ingest.codec import dumps
from ingest.proof import Account, Difference, Verdict
from ingest.proof.accounts import MOST_FIELDS, OTHER
from ingest.proof.comparing import Is

SECRET = "value-of-a-person"


def verdict(key: str, **fields: Is) -> Verdict:
    """A verdict; what is not there and not untold differs."""
    rows = tuple((name, what, "why" if what == "untold" else "") for name, what in fields.items())
    wrong = tuple(
        Difference(key, name, what, 0, 7, SECRET, SECRET)
        for name, what in fields.items()
        if what not in ("there", "untold")
    )
    return Verdict(key, rows, wrong)


def test_fields_add_up() -> None:
    """By field and in total; what cannot be compared is counted apart."""
    account = Account(
        [verdict("u", a="there", b="differs", c="untold"), verdict("v", a="there", b="there")]
    )
    assert (account.users, account.missing, account.good) == (2, 0, False)
    assert (account.total.checked, account.total.there, account.total.untold) == (4, 3, 1)
    assert [name for name, _ in account.ordered()] == ["b", "a", "c"]
    assert account.untold == {"why": 1}
    report = account.report(lambda difference: f"x.csv:{difference.line}")
    assert report["share"] == 0.75
    assert report["fields"][0] == {
        "field": "b",
        "checked": 2,
        "there": 1,
        "share": 0.5,
        "not_compared": 0,
        "differences": {"differs": 1},
        "example": "x.csv:7",
    }
    assert report["not_compared"] == {"fields": 1, "because": {"why": 1}}


def test_a_report_holds_no_value_and_no_user() -> None:
    """Neither what was sent nor what is there."""
    account = Account([verdict("user-of-mine", a="differs")])
    told = dumps(account.report(lambda _: "x:1")).decode()
    assert SECRET not in told
    assert "user-of-mine" not in told


def test_a_missing_user_is_counted_once() -> None:
    """Its fields are missing each."""
    gone = Verdict("u", (("a", "missing", ""),), (Difference("u", "", "missing"),))
    report = Account([gone]).report(lambda _: "x:1")
    assert report["users"] == {"checked": 1, "missing": 1}
    assert (report["checked"], report["there"]) == (1, 0)


def test_nothing_compared_is_no_proof() -> None:
    """Though nothing differs."""
    account = Account([verdict("u", a="untold")])
    assert not account.good
    assert account.total.share == 1.0
    assert Account([verdict("u", a="there")]).good


def test_a_share_is_rounded_to_all_only_if_it_is_all() -> None:
    """One in ten million is a difference."""
    account = Account([verdict("u", a="there")])
    account.total.checked, account.total.there = 10_000_000, 9_999_999
    assert account.report(lambda _: "")["share"] == 0.999999


def test_more_fields_than_a_report_names_are_one() -> None:
    """Those with differences are named."""
    names: dict[str, Is] = {f"f{number:05}": "there" for number in range(MOST_FIELDS + 5)}
    report = Account([verdict("u", **names | {"f00999": "differs"})]).report(lambda _: "x:1")
    assert len(report["fields"]) == MOST_FIELDS + 1
    assert report["fields"][0]["field"] == "f00999"
    assert (report["fields"][-1]["field"], report["fields"][-1]["checked"]) == (OTHER, 5)
