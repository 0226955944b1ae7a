"""The log of a worker: a line of JSON each where a machine reads it, coloured words on a terminal.

Decides what a line looks like and what is too much: of an exception its type and, where it is known
to hold nothing of a record, its sentence; never a traceback, and of what other libraries say the
first line. Knows nothing of what is told.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from io import StringIO
from typing import Any, Final, TextIO

from rich.console import Console
from rich.text import Text

from ingest.codec import dumps
from ingest.errors import IngestError

OURS: Final = "ingest"

QUIET: Final = ("aiohttp.access", "aiokafka", "aiobotocore", "asyncio", "botocore")
"""Loggers that tell of every request, or more, unless told otherwise."""

LONGEST: Final = 2_000
"""Characters of a line that are kept: a sentence and its example, not a page."""

_SHOWN: Final = re.compile(r"[(<{\[]|b?['\"]")
"""Where asyncio goes over from words to objects, which may hold anything."""

STYLES: Final = {"warning": "yellow", "error": "red", "critical": "bold red"}


def configure(stderr: TextIO | None = None) -> None:
    """Send all that is logged in this process to stderr, from INFO on for what is ours.

    Called again, it takes the place of what it set up before.
    """
    stream = sys.stderr if stderr is None else stderr
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, Lines)]:
        root.removeHandler(handler)
    root.addHandler(Lines(stream))
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


class Lines(logging.Handler):
    """Writes records as lines to a stream, until nobody reads it any more."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream
        # Words are made apart from the stream: a console by itself ends the process that writes to
        # a closed pipe.
        self._words: Final = stream is not None and stream.isatty()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a closed pipe or a full disk ends the log, and not the run."""
        if self._stream is None:
            return
        try:
            self._stream.write(self._line(record))
            self._stream.flush()
        except OSError:
            self._stream = None

    def _line(self, record: logging.LogRecord) -> str:
        if not self._words:
            return _json(record) + "\n"
        made = StringIO()
        Console(file=made, force_terminal=True).print(_words(record), soft_wrap=True)
        return made.getvalue()


def _json(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    fields: dict[str, Any] = {
        "ts": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _message(record),
    }
    if record.exc_info and record.exc_info[1] is not None:
        fields["error"], fields["at"] = _error(record.exc_info[1])
    return dumps(fields).decode()


def _words(record: logging.LogRecord) -> Text:
    level = record.levelname.lower()
    text = Text.assemble(
        (f"{datetime.fromtimestamp(record.created):%H:%M:%S} ", "dim"),
        ("" if level == "info" else f"{level}: ", STYLES.get(level, "")),
        _message(record),
    )
    if record.exc_info and record.exc_info[1] is not None:
        error, at = _error(record.exc_info[1])
        text.append(f" ({error}; at {at})", "dim")
    return text


def _message(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # what was logged does not fit its own words
        message = str(record.msg)
    if record.name.partition(".")[0] != OURS:
        message = message.partition("\n")[0]
    if record.name == "asyncio" and (shown := _SHOWN.search(message)):
        message = message[: shown.start()].rstrip() + " …"
    return _printable(message)


def _printable(text: str) -> str:
    """Return a text on one line, in which nothing steers a terminal."""
    text = "".join(one if one.isprintable() else " " for one in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _error(error: BaseException) -> tuple[str, str]:
    """Return the type and sentence of an exception, and the place where it was raised."""
    said = ""
    if isinstance(error, IngestError):
        said = str(error)
    elif isinstance(error, OSError):
        said = error.strerror or ""
    kind = type(error).__name__
    return _printable(f"{kind}: {said}" if said else kind), _place(error)


def _place(error: BaseException) -> str:
    """Return the last place of ours on the way to an exception, else the last of all."""
    place = last = ""
    found = error.__traceback__
    while found is not None:
        last = f"{found.tb_frame.f_globals.get('__name__', '?')}:{found.tb_lineno}"
        if last.startswith(f"{OURS}."):
            place = last
        found = found.tb_next
    return place or last or "?"


def reset() -> None:
    """Take back what `configure` set up: for tests, and for whoever runs several verbs."""
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, Lines)]:
        root.removeHandler(handler)
    for name in (OURS, *QUIET):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)
