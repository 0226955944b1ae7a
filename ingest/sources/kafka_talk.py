"""What a client of Kafka says, made fit for people: its own log is for its makers.

Decides which lines are passed on. Knows no client but by the name of its log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable


class Heard(logging.Handler):
    """Keeps aiokafka's own lines to itself, and remembers the last error in them.

    The client says why it cannot connect to its log alone, and that a broker is away ten times a
    second. Used as a context; `tell` gets each line that is worth a look.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        self._cause: BaseException | None = None

    def __enter__(self) -> Heard:
        log = logging.getLogger("aiokafka")
        log.addHandler(self)
        log.propagate = False
        return self

    def __exit__(self, *raised: object) -> None:
        log = logging.getLogger("aiokafka")
        log.removeHandler(self)
        # A source and dead letters may listen together; they need not end in their order.
        log.propagate = not any(isinstance(one, Heard) for one in log.handlers)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        args = record.args if isinstance(record.args, tuple) else ()
        found = [one for one in args if isinstance(one, BaseException)]
        if found:
            self._cause = found[-1]
        # Its warnings tell of every rebalance, which is nothing to worry about.
        if self._tell is not None and record.levelno >= logging.ERROR:
            self._tell(f"The client of Kafka says: {record.getMessage()}")

    def why(self, error: BaseException) -> str:
        """Say what went wrong, by what was heard, else by the error itself."""
        cause = self._cause or error
        name = type(cause).__name__
        said = getattr(cause, "strerror", None) or str(cause) or name
        return f"{name}: {said.removeprefix(f'{name}: ')}".removesuffix(".")
