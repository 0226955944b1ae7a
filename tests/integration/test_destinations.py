"""What must hold of the other destinations and of the rows, with real processes and sockets."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.codec import dumps
from tests.integration.processes import sent, served, written

pytestmark = pytest.mark.integration

NO_LIMIT = ("--rate", "1000000/1s")
"""For what the rate is not the point of."""


def attributes(user: str, **values: Any) -> bytes:
    """One line."""
    return dumps({"attributes": {"external_id": user, **values}})


def event(user: str, n: int, *, ago: timedelta = timedelta(minutes=5), **more: Any) -> bytes:
    """One line with an event of so long ago."""
    time = (datetime.now(UTC) - ago).isoformat(timespec="seconds")
    record = {"external_id": user, "name": "rented_movie", "time": time, **more}
    return dumps({"event": record | {"properties": {"n": n}}})


def purchase(user: str, n: int) -> bytes:
    """One line."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"external_id": user, "product_id": f"p{n}", "currency": "EUR", "price": 9.5}
    return dumps({"purchase": record | {"time": time}})


# --- Appboy ---------------------------------------------------------------------------------------


def test_appboy_gets_fifty_of_a_kind_and_says_what_it_refused(tmp_path: Path) -> None:
    """A tenth queued, a twentieth failing, some refused without a word which: all accounted for."""
    lines = []
    for n in range(4_000):
        user = f"u{n % 900}"
        makes = (attributes(user, n=n), event(user, n), purchase(user, n))
        lines.append(makes[n % 3])
    for n in range(0, 4_000, 400):  # ten that the destination refuses, for a reason of its own
        lines[n] = attributes(f"u{n % 900}", n=n, _sandbox_reject="'gender' is not valid for u77")
    nested = {"external_id": "u1", "name": "e", "time": "2026-11-01T00:00:00Z"}
    cannot = [
        dumps({"attributes": {"user_alias": {"alias_name": "a", "alias_label": "b"}, "n": 1}}),
        dumps({"attributes": {"email": "ann@example.com", "n": 1}}),
        dumps({"event": nested | {"properties": {"nested": {"a": 1}}}}),
        attributes("u1", cars={"$add": [{"id": 1}]}),
    ]
    path = written(tmp_path / "in.ndjson", [*lines, *cannot])
    with served("--faults", "202:10%,503:5%", "--seed", "2", *NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, "--to", "appboy", *NO_LIMIT)
        stats = sandbox.stats()
    assert ended.status == 1, ended.stderr
    assert ended.records == {"read": 4_004, "delivered": 4_000, "invalid": 4}
    assert all(stats["max_objects"][slot] <= 50 for slot in ("attributes", "events", "purchases"))
    assert (stats["distinct_objects"], stats["rejected_objects"], stats["copies"]) == (3_990, 10, 0)
    assert ended.report["of_which"]["queued"] > 0
    assert ended.report["of_which"]["warned"] == 10
    (warned,) = (one for one in ended.report["reasons"] if one["column"] == "warned")
    assert warned["count"] == 10
    assert "gender" in warned["reason"]
    assert "u77" not in warned["reason"]
    assert "gender" in ended.stderr
    assert [letter["source"]["line"] for letter in ended.letters] == [4_001, 4_002, 4_003, 4_004]
    assert stats["same_user_overlaps"] == 0


def test_an_unknown_app_group_halts(tmp_path: Path) -> None:
    """No verdict on anybody: everything stays pending, and the sentence says what to check."""
    path = written(tmp_path / "in.ndjson", [attributes(f"u{n}", n=n) for n in range(500)])
    with served() as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, "--to", "appboy", key="no-such-group")
    assert ended.status == 3
    assert ended.records == {"read": 500, "pending": 500}
    assert "APPBOY_APP_GROUP_ID" in ended.stderr
    assert "no-such-group" not in ended.stderr


# --- Batch CEP ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["by user", "by kind"])
@pytest.mark.alone
def test_users_are_folded_and_the_budget_is_in_updates(tmp_path: Path, order: str) -> None:
    """1,500 users with two records each are 1,500 updates, in as few requests as these take."""
    pairs = [(attributes(f"u{n}", n=n), event(f"u{n}", n)) for n in range(1_500)]
    lines = [line for pair in pairs for line in pair]
    if order == "by kind":
        lines = [one for one, _ in pairs] + [other for _, other in pairs]
    path = written(tmp_path / "in.ndjson", lines)
    with served() as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, "--to", "batch-cep", "--share", "100%")
        stats = sandbox.stats()
        one = sandbox.get("/sandbox/users/u700")
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 3_000, "delivered": 3_000}
    assert stats["updates"] == 1_500
    assert 8 <= stats["requests"] <= 10
    assert stats["by_status"] == {"202": stats["requests"]}
    assert stats["max_updates_per_second"] <= 1_300
    assert one["attributes"]["n"] == 700
    assert len(one["events"]) == 1


@pytest.mark.alone
def test_mass_update_is_paced_without_bursts(tmp_path: Path) -> None:
    """40,000 users: at most 10,000 updates in any second, and nine tenths of that are used.

    Where a machine stands still between two processes, a request arrives later than it was sent,
    and the next one too close behind it: that costs one refusal, and a burst three in four.
    """
    path = written(tmp_path / "in.ndjson", [attributes(f"u{n}", n=n) for n in range(40_000)])
    with served() as sandbox:
        since = time.monotonic()
        ended = sent(
            *(tmp_path, sandbox.url, "import", path, "--to", "batch-cep"),
            *("--endpoint", "mass-update", "--share", "100%"),
        )
        stats = sandbox.stats()
        seconds = time.monotonic() - since
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 40_000, "delivered": 40_000}
    assert stats["updates"] == 40_000
    assert stats["max_updates_per_second"] <= 10_000
    assert stats["by_status"].pop("429", 0) <= stats["requests"] // 8
    assert stats["by_status"].keys() == {"202"}
    # 10,000 go at once; the other 30,000 take 3 s, and the process has to start and to read.
    assert ended.report["seconds"] <= 3 / 0.9 + 2
    assert seconds < 30


def test_what_batch_cannot_hold_is_named(tmp_path: Path) -> None:
    """Each impossible record is invalid for its own reason; the others arrive."""
    impossible = {
        "alias": dumps({"attributes": {"user_alias": {"alias_name": "a", "alias_label": "b"}}}),
        "inc": attributes("u1", visits={"inc": 1}),
        "push tokens": attributes("u2", push_tokens=[{"app_id": "a", "token": "t"}]),
        "update only": attributes("u3", _update_existing_only=True, n=1),
        "nested": attributes("u4", address={"city": "Paris"}),
        "old": event("u5", 1, ago=timedelta(hours=25)),
        "future": event("u6", 1, ago=timedelta(hours=-2)),
        "long key": attributes("u7", **{"k" * 31: 1}),
        "empty": attributes("u8", bio=""),
        "long text": attributes("u9", bio="x" * 301),
    }
    good = [attributes(f"v{n}", n=n) for n in range(5)]
    path = written(tmp_path / "in.ndjson", [*impossible.values(), *good])
    with served() as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, "--to", "batch-cep")
        dropped = sent(
            *(tmp_path, sandbox.url, "import", path, "--to", "batch-cep"),
            *("--on-bad-field", "drop"),
        )
    assert ended.status == 1, ended.stderr
    assert ended.records == {"read": 15, "delivered": 5, "invalid": 10}
    assert [letter["source"]["line"] for letter in ended.letters] == list(range(1, 11))
    assert len({(letter["code"], letter["field"]) for letter in ended.letters}) >= 9
    assert all(letter["reason"] for letter in ended.letters)
    # Without the field that alone is bad six of them go; four are bad as a whole.
    assert dropped.records == {"read": 15, "delivered": 11, "invalid": 4}
    assert dropped.report["of_which"]["warned"] == 6


def test_a_refused_piece_is_a_letter_of_its_record(tmp_path: Path) -> None:
    """The edit was taken: delivered and warned, nothing is sent again."""
    lines = [attributes(f"u{n}", n=n) for n in range(300)]
    lines[123] = attributes("u123", n=123, sandbox_reject="no")
    path = written(tmp_path / "in.ndjson", lines)
    with served() as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, "--to", "batch-cep")
        stats = sandbox.stats()
        one = sandbox.get("/sandbox/users/u123")
    assert ended.records == {"read": 300, "delivered": 300}
    assert ended.status == 0, ended.stderr
    assert ended.report["of_which"]["warned"] == 1
    (letter,) = ended.letters
    assert (letter["column"], letter["warned"], letter["source"]["line"]) == (
        "delivered",
        True,
        124,
    )
    assert letter["field"] == "sandbox_reject"
    assert letter["record"]["sandbox_reject"] == "no"
    assert one["attributes"] == {"n": 123}
    assert stats["requests"] == 2


# --- the rows -------------------------------------------------------------------------------------


def test_deletes_name_the_unknown_by_line(tmp_path: Path) -> None:
    """10,000 ids in a one-column list are 200 requests; who was not there is rejected, by line."""
    users = written(tmp_path / "users.ndjson", [attributes(f"u{n}", n=n) for n in range(10_000)])
    unknown = {17: "nobody", 4_711: "no one", 9_999: "neither"}
    ids = [f"u{n}".encode() for n in range(10_000)]
    for n, name in unknown.items():
        ids[n] = name.encode()
    listed = written(tmp_path / "ids.txt", ids)
    with served(*NO_LIMIT) as sandbox:
        assert sent(tmp_path, sandbox.url, "import", users).status == 0
        before = sandbox.stats()["requests"]
        refused = sent(tmp_path, sandbox.url, "send", "delete", listed)
        assert sandbox.stats()["requests"] == before
        ended = sent(tmp_path, sandbox.url, "send", "delete", listed, "--yes")
        stats = sandbox.stats()
    assert refused.status == 2
    assert "--yes" in refused.stderr
    assert ended.status == 1, ended.stderr
    assert ended.records == {"read": 10_000, "delivered": 9_997, "rejected": 3}
    assert stats["requests"] - before == 200
    assert {letter["source"]["line"]: letter["record"] for letter in ended.letters} == {
        n + 1: {"external_id": name} for n, name in unknown.items()
    }
    assert stats["users"] == 3


def test_a_delete_whose_answer_was_lost_is_not_called_unknown(tmp_path: Path) -> None:
    """The second request finds nobody, because the first one did its work."""
    users = written(tmp_path / "users.ndjson", [attributes(f"u{n}", n=n) for n in range(500)])
    listed = written(
        tmp_path / "ids.txt", [b"external_id", *(f"u{n}".encode() for n in range(500))]
    )
    with served(*NO_LIMIT, "--seed", "4") as sandbox:
        assert sent(tmp_path, sandbox.url, "import", users).status == 0
        sandbox.post("/sandbox/faults", {"faults": "reset-after:30%"})
        ended = sent(tmp_path, sandbox.url, "send", "delete", listed, "--yes")
        stats = sandbox.stats()
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 500, "delivered": 500}
    assert ended.report["of_which"]["warned"] > 0
    assert stats["users"] == 0


def test_a_message_is_never_sent_twice(tmp_path: Path) -> None:
    """What got no answer is held, whatever was chosen."""
    lines = [
        dumps({"campaign_id": "c1", "external_user_id": f"u{n}", "trigger_properties": {"n": n}})
        for n in range(1_000)
    ]
    path = written(tmp_path / "in.ndjson", lines)
    with served("--faults", "reset-after:15%,503:10%", "--seed", "3", *NO_LIMIT) as sandbox:
        ended = sent(
            *(tmp_path, sandbox.url, "send", "trigger-send", path),
            *("--if-unanswered", "resend", *NO_LIMIT),
        )
        stats = sandbox.stats()
    held = ended.records["held"]
    assert held > 0
    assert ended.records == {"read": 1_000, "delivered": 1_000 - held, "held": held}
    assert stats["sends"] == 1_000  # reset after it was done: they went out, and only once
    assert ended.report["of_which"]["maybe_duplicated"] == 0
    assert ended.status == 1


def test_the_state_of_an_address_is_what_was_said_last(tmp_path: Path) -> None:
    """A request has one state; an address that changes its mind keeps the order of the file."""
    lines = []
    for n in range(600):
        first, then = ("opted_in", "unsubscribed") if n % 2 else ("unsubscribed", "opted_in")
        for state in (first, then):
            lines.append(dumps({"email": f"a{n}@example.com", "subscription_state": state}))
    path = written(tmp_path / "in.ndjson", lines)
    users = [attributes(f"u{n}", email=f"a{n}@example.com") for n in range(600)]
    with served("--faults", "503:10%", *NO_LIMIT) as sandbox:
        people = written(tmp_path / "users.ndjson", users)
        assert sent(tmp_path, sandbox.url, "import", people).status == 0
        ended = sent(tmp_path, sandbox.url, "send", "email-status", path, *NO_LIMIT)
        ends = [
            sandbox.get(f"/sandbox/users/u{n}")["attributes"]["email_subscribe"] for n in (10, 11)
        ]
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 1_200, "delivered": 1_200}
    assert ends == ["opted_in", "unsubscribed"]


def test_the_list_of_rows_is_data(tmp_path: Path) -> None:
    """`ingest send --list` prints the table on stdout, and sends nothing."""
    ended = sent(tmp_path, "http://127.0.0.1:9", "send", "--list")
    assert ended.status == 0
    for name in ("delete", "/users/external_ids/rename", "trigger-send", "/email/status"):
        assert name in ended.stdout
