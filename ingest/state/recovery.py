"""What is in the redo log, and not in the database: of a process that was killed, or works still.

Decides which groups are news, and puts them together. Whoever only reads lays them over what the
database has; whoever goes on brings them into it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

import msgspec

from ingest.state import store
from ingest.state.dead_letters import DeadLetterFile
from ingest.state.groups import CountKey, Gathered, Group, ReasonKey, ReasonRow
from ingest.state.redo import Entry, Logged, boot_id, trusted


class News(msgspec.Struct, frozen=True):
    """What the log has of a run beyond the database: groups by their numbers, if there are any.

    `credential` is the hash of the credential that was used, None for the one that is known; `told`
    the number of the last group that is in the database. It is not `whole` if there is more that
    does not count.
    """

    credential: str | None
    letters_path: str
    told: int
    entries: list[Entry]
    whole: bool = True

    def in_order(self) -> News:
        """Return the same with the entries in their order, up to the first that does not count.

        That is one before which one is missing, or that is not safe.
        """
        ordered = sorted(self.entries, key=lambda entry: entry.number)
        numbered = enumerate(ordered, self.told + 1)
        good = [e for _, e in takewhile(lambda at: at[0] == at[1].number and at[1].safe, numbered)]
        return msgspec.structs.replace(self, entries=good, whole=len(good) == len(ordered))

    @property
    def group(self) -> Group:
        """All of it as one group; there has to be something."""
        return Gathered(entry.group for entry in self.entries).group()

    @property
    def counts(self) -> dict[CountKey, int]:
        """The counts that changed."""
        return self.group.counts if self.entries else {}

    @property
    def reasons(self) -> dict[ReasonKey, ReasonRow]:
        """The reasons that changed."""
        return self.group.reasons if self.entries else {}


def logged_in(directory: Path) -> list[Logged]:
    """Return what the log in a state directory holds; only what this boot wrote is trusted.

    Whoever reads beside a run asks for this before he looks into the database: what was committed
    in between is no news then, and nothing is missing. Raises `LocalFailure`.
    """
    return list(trusted(directory, boot_id()))


def news_in(db: sqlite3.Connection, logged: Iterable[Logged]) -> dict[int, News]:
    """Return what the log tells of runs, by their ids."""
    found: dict[int, News] = {}
    for heading, entries in logged:
        row = db.execute(
            "SELECT id, told, letters_path, boot FROM runs WHERE salt=?", (heading.salt,)
        ).fetchone()
        # Forgotten, or killed before it said that it goes on.
        if row is None or row[3] != heading.boot:
            continue
        run, told, letters_path, _ = row
        news = found.setdefault(run, News(heading.credential, letters_path, told, []))
        news.entries.extend(entry for entry in entries if entry.number > told)
    return {run: news.in_order() for run, news in found.items()}


def bring_in(db: sqlite3.Connection, directory: Path) -> None:
    """Write what the log tells into the database.

    Where it is whole nothing was read beyond that: `ahead` is 0 then. Raises `LocalFailure`.
    """
    path = store.path_in(directory)
    logged = logged_in(directory)
    with store.told(path):
        found = news_in(db, logged)
    for run, news in found.items():
        if not news.entries:
            if news.whole:
                with store.told(path):
                    db.execute("UPDATE runs SET ahead=0 WHERE id=?", (run,))
            continue
        # A length that is durable must be that of letters which are.
        DeadLetterFile(Path(news.letters_path), run="").bring_to_disk()
        group, last = news.group, news.entries[-1]
        with store.told(path), store.transaction(db):
            credential = news.credential if group.delivers else None
            store.write(
                *(db, run, group, last.seconds),
                told=last.number,
                ahead=0 if news.whole else store.recorded(db, run).ahead,
                credential=credential,
            )
