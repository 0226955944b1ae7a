"""The log of a worker: lines of JSON for machines, words for people, and nothing of a record."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.cli.logs import LONGEST, Lines, configure, reset
from ingest.codec import loads
from ingest.errors import LocalFailure

SECRET = "somebody@example.com"
"""Stands for a value of a record."""


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    reset()


def lines(say: Callable[[], None]) -> list[dict[str, Any]]:
    """Return what is logged meanwhile, as a machine reads it."""
    stream = io.StringIO()
    configure(stream)
    say()
    return [loads(line) for line in stream.getvalue().splitlines()]


def raised(error: Exception, name: str = "ingest") -> Callable[[], None]:
    """Return what logs an exception as a handler does."""

    def say() -> None:
        try:
            raise error
        except Exception:
            logging.getLogger(name).exception("it broke")

    return say


def test_a_machine_reads_json() -> None:
    """A line each, with time, level, logger and message."""
    (line,) = lines(lambda: logging.getLogger("ingest").info("%d delivered", 7))
    assert line.pop("ts").endswith("Z")
    assert line == {"level": "info", "logger": "ingest", "message": "7 delivered"}


def test_a_person_reads_words() -> None:
    """With colours, and without what steers a terminal; markup is text."""
    stream = Terminal()
    configure(stream)
    logging.getLogger("ingest").warning("[red]away\x1b[2J\nfor now")
    (line,) = stream.getvalue().splitlines()
    assert "warning: " in line
    assert "[red]away [2J for now" in line


def test_an_exception_is_its_type_and_sentence() -> None:
    """Of errors that hold nothing of a record; of all others the type alone, and the place."""
    (ours,) = lines(raised(LocalFailure("the disk is full: make room")))
    assert ours["error"] == "LocalFailure: the disk is full: make room"
    (system,) = lines(raised(OSError(28, "No space left on device", f"/tmp/{SECRET}")))
    assert system["error"] == "OSError: No space left on device"
    (other,) = lines(raised(ValueError(f"bad e-mail {SECRET}")))
    assert other["error"] == "ValueError"
    assert other["at"].startswith(__name__)


def test_no_line_holds_a_traceback() -> None:
    """Nor on a terminal: a frame shows source, and an exception its arguments."""
    stream = Terminal()
    configure(stream)
    raised(ValueError(SECRET), "aiohttp.server")()
    assert len(stream.getvalue().splitlines()) == 1
    assert SECRET not in stream.getvalue()


def test_of_other_libraries_only_the_words_are_kept() -> None:
    """Of asyncio the words before the first object: it shows what a task held."""
    said = f"Task exception was never retrieved\nfuture: <Task exception=ValueError('{SECRET}')>"
    (line,) = lines(lambda: logging.getLogger("asyncio").error(said))
    assert line["message"] == "Task exception was never retrieved"
    called = f"Exception in callback take(b'{SECRET}')"
    (line,) = lines(lambda: logging.getLogger("asyncio").error(called))
    assert line["message"] == "Exception in callback take …"


@pytest.mark.parametrize("name", ["aiohttp.access", "aiokafka.consumer", "botocore.auth", "other"])
def test_others_are_heard_from_warnings_on(name: str) -> None:
    """Below that they tell of every request."""

    def say() -> None:
        logging.getLogger(name).info("request")
        logging.getLogger(name).warning("odd")

    assert [line["message"] for line in lines(say)] == ["odd"]


def test_to_configure_twice_says_nothing_twice() -> None:
    """The later one holds."""
    first = io.StringIO()
    configure(first)
    assert len(lines(lambda: logging.getLogger("ingest").info("once"))) == 1
    assert first.getvalue() == ""
    assert sum(isinstance(one, Lines) for one in logging.getLogger().handlers) == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_a_closed_pipe_ends_the_log_alone(terminal: bool) -> None:
    """What runs goes on, and nothing is raised."""

    class Gone(io.StringIO):
        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure(Gone())
    logging.getLogger("ingest").warning("nobody")
    logging.getLogger("ingest").warning("nobody")
    handler = Lines(None)
    handler.emit(logging.makeLogRecord({"msg": "nobody"}))


def test_what_does_not_fit_its_words_is_told_all_the_same() -> None:
    """A line of somebody's that is wrong does not cost another."""
    stream = io.StringIO()
    record = {"name": "ingest", "msg": "%d of %d", "args": (1,)}
    Lines(stream).emit(logging.makeLogRecord(record))
    assert loads(stream.getvalue())["message"] == "%d of %d"


@given(st.text(max_size=3 * LONGEST))
def test_any_text_is_one_line_of_json(text: str) -> None:
    """Whatever it holds, and never longer than a page."""
    (line,) = lines(lambda: logging.getLogger("ingest").warning("%s", text))
    assert len(line["message"]) <= LONGEST
    assert line["message"].isprintable()
