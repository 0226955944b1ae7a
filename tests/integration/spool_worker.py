"""An intake over a spool in a process of its own, to be killed: `serve|list STATE [OPTION...]`.

`serve` says its address on stdout, one line, and takes posts in until it is killed; nobody reads
the spool. Options: `spool_bytes=N`, `fsize=BYTES` (limits the size of files), `memory=N`. `list`
prints the lines that are in the spool. Exit status 4 and a sentence on stderr if that fails.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from ingest.errors import LocalFailure
from ingest.intake import IntakeRules
from ingest.judging import LineJudge
from ingest.segments import SpoolRules
from ingest.sources.http import HttpIntake
from ingest.sources.http_settings import BODY_BYTES, HttpIntakeSettings
from ingest.sources.spooled import SpoolSource
from ingest.state.directory import StateDirectory
from ingest.state.keys import Keys
from ingest.state.spool import Spool


async def serve(state: Path, given: dict[str, int]) -> None:
    """Serve until killed."""
    with StateDirectory(state):
        most = given.get("spool_bytes", 1_000_000_000)
        spool = Spool(state / "spool", SpoolRules(most, min(most // 8, 16_000_000)))
        keys = Keys(state, spool.id)
        keys.recover(spool.notes(keys.mark))
        if "fsize" in given:
            resource.setrlimit(resource.RLIMIT_FSIZE, (given["fsize"],) * 2)
        settings = HttpIntakeSettings(
            port=0,
            memory=given.get("memory", 64_000_000),
            body_bytes=min(BODY_BYTES, spool.rules.largest // 2),
        )
        async with HttpIntake(spool, LineJudge(IntakeRules()), keys, settings=settings) as intake:
            print(intake.url, flush=True)
            await asyncio.Event().wait()


async def listed(state: Path) -> list[bytes]:
    """Read the spool as a driver does."""
    with StateDirectory(state):
        spool = Spool(state / "spool")
        source = SpoolSource(spool, "http")
        lines: list[bytes] = []
        async for session in source.sessions():
            total = sum(map(spool.end, spool.sizes))
            if total:
                read = 0
                before: dict[int, int] = {}
                async for block in session.blocks():
                    lines += [line for line in block.lines() if line]
                    read += block.end_offset - before.get(block.part, 0)
                    before[block.part] = block.end_offset
                    if read == total:
                        break
            source.stop()
            await session.end()
        await spool.aclose()
        return lines


def main() -> int:
    """Do as the arguments say."""
    what, state = sys.argv[1], Path(sys.argv[2])
    given = {name: int(value) for name, _, value in (arg.partition("=") for arg in sys.argv[3:])}
    try:
        if what == "serve":
            asyncio.run(serve(state, given))
        else:
            sys.stdout.buffer.write(b"".join(line + b"\n" for line in asyncio.run(listed(state))))
    except LocalFailure as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
