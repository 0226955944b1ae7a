"""What must hold of a run that dies: real kills, real sockets, and the same command again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ingest.codec import dumps
from ingest.samples import samples
from tests.integration.processes import KEY, Ended, Sending, Served, eventually, served, written

pytestmark = pytest.mark.integration

IN_FLIGHT = 8
NO_LIMIT = ("--rate", "1000000/1s")
RECORDS = 40_000


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """40,000 records of 10,000 users."""
    return written(tmp_path / "in.ndjson", list(samples(RECORDS, users=10_000)))


def going(where: Path, sandbox: Served, path: Path, *more: str, key: str = KEY) -> Sending:
    """Run the import of a file; the state is the same for all of a test."""
    options = ("--in-flight", str(IN_FLIGHT), "--limits", "combined", *NO_LIMIT)
    state = ("--state", str(where / "state"))
    return Sending(where, sandbox.url, "import", str(path), *options, *state, *more, key=key)


def sent_some(sandbox: Served, more: int) -> None:
    """Wait until so many requests more have arrived."""
    before = sandbox.requests
    eventually(lambda: sandbox.requests >= before + more, f"{more} more requests")


def test_a_signal_doubles_nothing(tmp_path: Path, records: Path) -> None:
    """SIGTERM drains: what was sent was answered, and the next run goes on behind it."""
    with served("--latency", "40ms", *NO_LIMIT) as sandbox:
        for _ in range(3):
            run = going(tmp_path, sandbox, records)
            sent_some(sandbox, 40)
            run.signal(signal.SIGTERM)
            stopped = run.end()
            assert stopped.status == 143, stopped.stderr
            assert "to go on" in stopped.stderr
        ended = going(tmp_path, sandbox, records).end()
        stats = sandbox.stats()
    assert ended.records == {"read": RECORDS, "delivered": RECORDS}
    assert (stats["distinct_objects"], stats["copies"]) == (RECORDS, 0)
    assert ended.report["of_which"]["maybe_duplicated"] == 0


def test_what_was_in_flight_is_held_if_asked(tmp_path: Path) -> None:
    """With hold nothing is sent twice after a crash: who knows whether it arrived decides."""
    lines = list(samples(20_000, kinds=("event", "purchase")))
    path = written(tmp_path / "events.ndjson", lines)
    hold = ("--if-unanswered", "hold")
    with served("--latency", "40ms", *NO_LIMIT) as sandbox:
        run = going(tmp_path, sandbox, path, *hold)
        sent_some(sandbox, 60)
        run.process.kill()
        run.process.wait()
        ended = going(tmp_path, sandbox, path, *hold).end()
        stats = sandbox.stats()
    held = ended.records["held"]
    assert 0 < held <= IN_FLIGHT * 75
    assert ended.records == {"read": 20_000, "delivered": 20_000 - held, "held": held}
    assert stats["copies"] == 0
    assert {letter["column"] for letter in ended.letters} == {"held"}
    assert len(ended.letters) == held


def test_bad_records_keep_their_one_letter(tmp_path: Path) -> None:
    """Letters and counts go on together: each bad line has one letter, in whichever process."""
    lines = list(samples(30_000))
    bad = dumps({"event": {"external_id": "u", "name": "e"}})
    for at in range(0, 30_000, 300):
        lines.insert(at, bad)
    path = written(tmp_path / "in.ndjson", lines)
    letters = ("--dead-letters", str(tmp_path / "letters.ndjson"))
    with served("--latency", "20ms", *NO_LIMIT) as sandbox:
        for _ in range(3):
            run = going(tmp_path, sandbox, path, *letters)
            sent_some(sandbox, 40)
            run.process.kill()
            run.process.wait()
        ended = going(tmp_path, sandbox, path, *letters).end()
    assert ended.records == {"read": 30_100, "delivered": 30_000, "invalid": 100}
    written_letters = (tmp_path / "letters.ndjson").read_bytes().splitlines()
    assert len(written_letters) == 100


def stopped(where: Path, sandbox: Served, path: Path) -> Ended:
    """Stop an import after some requests."""
    run = going(where, sandbox, path)
    sent_some(sandbox, 30)
    run.signal(signal.SIGINT)
    return run.end()


def test_what_must_not_be_gone_on_with(tmp_path: Path, records: Path) -> None:
    """A file that changed, and another key: a sentence, and nothing is sent."""
    with served("--latency", "40ms", *NO_LIMIT) as sandbox:
        assert stopped(tmp_path, sandbox, records).status == 130
        before = sandbox.requests
        other = going(tmp_path, sandbox, records, key="another-key").end()
        assert (other.status, sandbox.requests) == (2, before)
        assert "--same-account" in other.stderr
        with records.open("ab") as file:
            file.write(b"\n")
        changed = going(tmp_path, sandbox, records).end()
        assert (changed.status, sandbox.requests) == (2, before)
        assert "was changed" in changed.stderr
        fresh = going(tmp_path, sandbox, records, "--fresh").end()
    assert fresh.status == 0, fresh.stderr
    assert fresh.records == {"read": RECORDS, "delivered": RECORDS}


def test_two_signals_double_only_what_is_told(tmp_path: Path, records: Path) -> None:
    """Stopped at once, what was in flight may have arrived: the next run counts its copies."""
    with served("--latency", "300ms", *NO_LIMIT) as sandbox:
        for _ in range(3):
            run = going(tmp_path, sandbox, records)
            sent_some(sandbox, 20)
            run.signal(signal.SIGINT)
            run.signal(signal.SIGINT)
            assert run.end().status == 130
        sandbox.post("/sandbox/faults", {"faults": ""})
        ended = going(tmp_path, sandbox, records, "--in-flight", "200").end()
        stats = sandbox.stats()
    assert ended.records == {"read": RECORDS, "delivered": RECORDS}
    assert stats["distinct_objects"] == RECORDS
    assert stats["copies"] <= ended.report["of_which"]["maybe_duplicated"]


def test_a_finished_run_is_not_the_other_accounts(tmp_path: Path) -> None:
    """Another key gets a sentence, and not the report of a run that sent nothing there."""
    path = written(tmp_path / "few.ndjson", list(samples(200)))
    with served(*NO_LIMIT) as sandbox:
        assert going(tmp_path, sandbox, path).end().status == 0
        other = going(tmp_path, sandbox, path, key="another-account").end()
    assert other.status == 2
    assert "--fresh" in other.stderr


def test_deletions_before_a_crash_are_not_called_unknown(tmp_path: Path) -> None:
    """Those in flight were done by the first process: delivered, with a doubt that is told."""
    names = [f"u{n}" for n in range(2_000)]
    users = [dumps({"attributes": {"external_id": name, "n": 1}}) for name in names]
    ids = written(tmp_path / "ids.txt", [name.encode() for name in names])
    state = ("--state", str(tmp_path / "state"), "--in-flight", "4", "--yes", *NO_LIMIT)
    with served("--latency", "200ms", *NO_LIMIT) as sandbox:
        assert going(tmp_path, sandbox, written(tmp_path / "u.ndjson", users)).end().status == 0
        run = Sending(tmp_path, sandbox.url, "send", "delete", str(ids), *state)
        sent_some(sandbox, 10)
        run.process.kill()
        run.process.wait()
        ended = Sending(tmp_path, sandbox.url, "send", "delete", str(ids), *state).end()
        left = sandbox.stats()["users"]
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 2_000, "delivered": 2_000}
    assert 0 < ended.report["of_which"]["warned"] <= 4 * 50
    assert left == 0


def test_messages_are_not_sent_again_by_another_command(tmp_path: Path) -> None:
    """One more file, or another option, is another run: it must not message anybody twice."""
    one, two = tmp_path / "one.ndjson", tmp_path / "two.ndjson"
    for path, first in ((one, 0), (two, 500)):
        written(
            path,
            [
                dumps({"campaign_id": "c", "external_user_id": f"u{n}"})
                for n in range(first, first + 500)
            ],
        )
    state = ("--state", str(tmp_path / "state"))
    with served(*NO_LIMIT) as sandbox:
        done = Sending(
            tmp_path, sandbox.url, "send", "trigger-send", str(one), *state, *NO_LIMIT
        ).end()
        both = Sending(
            tmp_path, sandbox.url, "send", "trigger-send", str(one), str(two), *state, *NO_LIMIT
        ).end()
        stats = sandbox.stats()
    assert done.status == 0, done.stderr
    assert (both.status, stats["sends"]) == (2, 500)
    assert "must not go out twice" in both.stderr


def test_two_at_once_do_not_share_a_state(tmp_path: Path, records: Path) -> None:
    """The second one ends with a sentence, and the first one goes on."""
    with served("--latency", "40ms", *NO_LIMIT) as sandbox:
        first = going(tmp_path, sandbox, records)
        sent_some(sandbox, 10)
        second = going(tmp_path, sandbox, records).end()
        assert first.end().status == 0
    assert second.status == 4
    assert "another ingest" in second.stderr
