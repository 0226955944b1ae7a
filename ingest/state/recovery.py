"""What is in the redo log, and not in the database: of a process that was killed, or works still.

Decides which groups are news, and puts them together. Whoever only reads lays them over what the
database has; whoever goes on brings them into it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from ingest.state import store
from ingest.state.dead_letters import DeadLetterFile
from ingest.state.groups import CountKey, Gathered, Group, ReasonKey, ReasonRow
from ingest.state.redo import Entry, boot_id, trusted


class News(msgspec.Struct, frozen=True):
    """What the log has of a run beyond the database: groups by their numbers, if there are any.

    `credential` is the hash of the credential that was used, None for the one that is known.
    """

    credential: str | None
    letters_path: str
    entries: list[Entry]

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


def news_in(db: sqlite3.Connection, directory: Path) -> dict[int, News]:
    """Return what the log in a state directory tells of runs, by their ids.

    Only what this boot wrote is trusted. Raises `LocalFailure` for a log that cannot be read.
    """
    found: dict[int, News] = {}
    for heading, entries in trusted(directory, boot_id()):
        row = db.execute(
            "SELECT id, told, letters_path FROM runs WHERE salt=?", (heading.salt,)
        ).fetchone()
        if row is None:  # forgotten
            continue
        run, told, letters_path = row
        news = found.setdefault(run, News(heading.credential, letters_path, []))
        news.entries.extend(entry for entry in entries if entry.number > told)
        news.entries.sort(key=lambda entry: entry.number)
    return found


def bring_in(db: sqlite3.Connection, directory: Path) -> set[int]:
    """Write what the log tells into the database; return the ids of the runs whose log was found.

    Raises `LocalFailure`.
    """
    path = store.path_in(directory)
    with store.told(path):
        found = news_in(db, directory)
    for run, news in found.items():
        if not news.entries:
            continue
        # A length that is durable must be that of letters which are.
        DeadLetterFile(Path(news.letters_path), run="").bring_to_disk()
        group, last = news.group, news.entries[-1]
        with store.told(path), store.transaction(db):
            credential = news.credential if group.delivers else None
            store.write(db, run, group, last.seconds, told=last.number, credential=credential)
    return set(found)
