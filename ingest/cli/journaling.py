"""The journal of a run of the command: which run it is, and whether it is gone on with.

Decides when there is a journal (inputs that can be read again, to an account), what makes a run the
same one, and what is said when it must not be gone on with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.text import Text

from ingest.cli.assembly import account_sink
from ingest.cli.columns import frozen_plans
from ingest.cli.options import SendOptions
from ingest.errors import ConfigError
from ingest.ledger import Ledger
from ingest.records import ATTRIBUTES, KINDS, UserKey
from ingest.sinks.base import HttpSink, Sink
from ingest.sources.base import Start
from ingest.sources.files import FileSource
from ingest.sources.mixed import MixedSource
from ingest.sources.remote import is_url
from ingest.state.dead_letters import DeadLetterFile, Letters
from ingest.state.identity import Conflict, RunIdentity, conflict, fingerprint
from ingest.state.journal import Journal, Run
from ingest.state.settling import Settling
from ingest.validation import Problem

Source = FileSource | MixedSource

PLANS: Final = "plans"
"""Where the plans of tables are in what is frozen of a run."""


class Journaled(msgspec.Struct, frozen=True):
    """A run with its journal: `run` None is one that begins."""

    journal: Journal
    identity: RunIdentity
    run: Run | None


@contextmanager
def journaled(source: Source, options: SendOptions, console: Console) -> Iterator[Journaled | None]:
    """Open the journal and find the run, None where there is no journal, which is said.

    Raises `ConfigError` for an account that is not set up and if the run must not be gone on with,
    `LocalFailure` for a directory that is in use or cannot be written.
    """
    if options.target.where != "account":
        yield None
        return
    sink = account_sink(options)
    if (once := _read_once(source)) is not None:
        _say_unkept(once, console, resendable=sink.endpoint.resendable)
        yield None
        return
    identity = _identity(source, sink, options)
    with Journal(options.state) as journal:
        others = [
            (run, found)
            for run in journal.runs()
            if run.identity.digest != identity.digest
            and (found := conflict(run.name, run.identity, identity)) is not None
        ]
        if options.fresh:
            again = journal.find(identity)
            for run in (*([again] if again else ()), *(run for run, _ in others)):
                journal.forget(run)
        elif journal.find(identity) is None:
            _mind(others, console, resendable=sink.endpoint.resendable)
        run = journal.find(identity)
        if (
            run is not None
            and run.delivered
            and not options.same_account
            and run.credential_changed(sink.credential_hash)
        ):
            raise ConfigError(
                f"run {run.name} delivered {run.delivered:,} records with another credential: if "
                "it is another one of the same account, say --same-account; if another account is "
                "meant, --fresh begins anew"
            )
        yield Journaled(journal, identity, run)


def _mind(others: list[tuple[Run, Conflict]], console: Console, *, resendable: bool) -> None:
    """Say, or refuse, what would send records of another run again unawares."""
    for run, other in others:
        if other.changed and run.state != "finished":
            raise ConfigError(
                f"{other.changed[0]} was changed since run {run.name} of it was stopped: what it "
                "sent cannot be told from what it did not. Put the file back, or begin anew with "
                "--fresh"
            )
        if not resendable and run.delivered:
            named = (*other.shared, *other.changed)[0]
            raise ConfigError(
                f"{named} was sent, in part at least, by run {run.name}, with other inputs or "
                "options: what must not go out twice would. Repeat that command to go on with it; "
                "--fresh sends everything"
            )
        if run.delivered:
            named = (*other.shared, *other.changed)[0]
            said = (
                f"! {named} was sent by run {run.name} too, as it was then, or with other inputs "
                "or options: this is a run of its own, and sends again what that one delivered"
            )
            console.print(Text(said, style="yellow"), soft_wrap=True)


def begun(
    kept: Journaled,
    source: Source,
    sink: HttpSink,
    letters: Letters,
    options: SendOptions,
    *,
    name: str,
    now: float,
) -> Run:
    """Write down that the run begins, with what was decided of its columns, or goes on."""
    frozen: dict[str, Any] = {"cwd": os.getcwd()}
    if isinstance(source, MixedSource) and source.has_tables:
        frozen[PLANS] = frozen_plans(source)
    if kept.run is not None:
        # What was typed last goes on best: with what had to be said in between.
        kept.journal.reopen(kept.run, frozen=frozen, command=options.command)
        return kept.run
    return kept.journal.begin(
        kept.identity,
        name=name,
        hash_of=sink.credential_hash,
        letters=letters,
        frozen=frozen,
        command=options.command,
        now=now,
    )


def starts_of(settling: Settling) -> dict[int, Start]:
    """Return where reading goes on, by part."""
    return {
        part: Start(place.offset, place.line, place.ordinal)
        for part, place in settling.places.items()
    }


def recall_letters(
    run: Run, source: Source, sink: HttpSink, ledger: Ledger, options: SendOptions
) -> None:
    """Let the ledger mark the dead letters of earlier processes too, where a run goes on.

    Raises `LocalFailure` for a file of them that cannot be read.
    """

    def key_of(record: Any) -> UserKey | None:
        judged = sink.schema.examine(KINDS[ATTRIBUTES], record, 0.0, validate=validate)
        return None if isinstance(judged[0], Problem) else judged[0]

    validate = not options.no_validate
    if KINDS[ATTRIBUTES] in sink.endpoint.kinds:
        parts = {name: part for part, name in enumerate(source.names)}
        ledger.recall(DeadLetterFile(Path(run.letters_path), run=run.name), parts, key_of)


def say_going_on(console: Console, run: Run) -> None:
    """Say what was done before."""
    began = datetime.fromtimestamp(run.started, UTC)
    settled = run.records["read"] - run.records["pending"]
    console.print(
        Text(
            f"Going on with run {run.name}, begun {began:%Y-%m-%d %H:%M} UTC: {settled:,} records "
            "are settled already",
            style="cyan",
        )
    )


def say_unsure(console: Console, settling: Settling) -> None:
    """Say how many records may have been sent, where nobody can know: after a power cut."""
    if settling.unsure:
        perhaps = settling.unsure + len(settling.doubtful)
        said = (
            f"! The machine was started anew since this run was stopped: up to {perhaps:,} records "
            "may have been sent that are not written down as such. They go again and are counted "
            "as perhaps doubled; those that must not go twice are held"
        )
        console.print(Text(said, style="yellow"), soft_wrap=True)


def say_finished(console: Console, run: Run) -> None:
    """Say that there is nothing to do."""
    console.print(
        Text(
            f"This input was sent by run {run.name}; nothing is sent again (--fresh begins anew). "
            "Its report:",
            style="cyan",
        )
    )


def _read_once(source: Source) -> str | None:
    """Return the input that cannot be known again, None if all can."""
    for part, name in enumerate(source.names):
        if is_url(name) or not source.readable_again(part):
            return name
    return None


def _say_unkept(once: str, console: Console, *, resendable: bool) -> None:
    """Say that the run cannot be gone on with (law 9)."""
    again = "begins anew and sends again what was delivered" if resendable else "must not be made"
    said = (
        f"! {once} cannot be known again, so nobody can go on with this run if it is stopped: a "
        f"second one {again}. Save it as a file to have a journal"
    )
    console.print(Text(said, style="yellow"), soft_wrap=True)


def _identity(source: Source, sink: Sink, options: SendOptions) -> RunIdentity:
    """Say what makes this run the same as an earlier one."""
    names = source.names
    shape = {
        "endpoint": options.target.endpoint.name,
        "kind": options.kind,
        "update_existing_only": options.update_existing_only,
        "on_bad_field": options.on_bad_field,
        "strict": options.strict,
        "no_validate": options.no_validate,
        "settings": dict(options.settings),
        "types": options.types,
        "map": None if options.map is None else options.map.read_text(),
        "timezone": options.timezone,
        "null_text": options.null_text,
        "delimiter": options.delimiter,
        "encoding": options.encoding,
        "even_if_older": options.even_if_older,
    }
    inputs = tuple(fingerprint(Path(name)) for name in names)
    return RunIdentity(inputs, shape, sink.name, sink.host, options.workspace or "")
