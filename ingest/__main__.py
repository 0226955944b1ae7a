"""`python -m ingest` and the command `ingest`: the command line, or what to install for it."""

from __future__ import annotations

import gc
import sys

from ingest.sources import early

INTERRUPTED = 130
"""The exit status of an interrupted process, by the shells' convention: 128 + SIGINT."""


def main() -> None:
    """Run the command line; end with one sentence where its packages are missing."""
    try:
        _run()
    finally:
        early.let_go()


def _run() -> None:
    try:
        early.begin(sys.argv[1:])
        gc.disable()  # till all that stays is imported
        from ingest.cli.main import cli
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        from ingest.errors import MissingExtra

        missing = MissingExtra("The command line", "cli")
        print(f"ingest: {missing}", file=sys.stderr)
        sys.exit(missing.exit_status)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)  # importing takes a moment, and nothing was sent
    cli()


if __name__ == "__main__":
    main()
