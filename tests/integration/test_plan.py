"""What a plan foretells, held against what an import then needs of a sandbox of its own."""

from __future__ import annotations

import csv
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.codec import dumps, loads
from ingest.samples import samples
from tests.integration.processes import COMMAND, Served, sent, served, written

pytestmark = pytest.mark.integration

TOLERANCE = 0.02
"""Share by which the forecast may be off: what is promised."""

FAST = "1000000/1s"
"""A rate that holds nobody back: the sandbox answers as fast as it can."""

SHOP = Path(__file__).parents[3] / "shared/data/ecom-events/ecom.csv.gz"
"""Real events of a shop, where they are at hand."""


def planned(*arguments: str | Path) -> dict[str, Any]:
    """Return the report of a plan that has no credential."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("BRAZE_")}
    ended = subprocess.run(
        [*COMMAND, "plan", *map(str, arguments), "--report", "-"],
        capture_output=True,
        env=env,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    report: dict[str, Any] = loads(ended.stdout)
    return report


def mixed(path: Path, users: int) -> tuple[str | Path, ...]:
    """Write records of all kinds."""
    lines = samples(6_000, users=users, seed=3)
    return (written(path / "mixed.ndjson", list(lines)),)


def flat(path: Path) -> tuple[str | Path, ...]:
    """Write a table of users."""
    table = path / "flat.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("external_id", "plan", "zip", "visits"))
        rows.writerows((f"u{at}", "pro", f"{at:05}", at % 7) for at in range(6_000))
    return table, "--kind", "attributes"


def fat(path: Path) -> tuple[str | Path, ...]:
    """Write events of which some dozens fill a body."""
    dice = random.Random(5)
    lines = [
        dumps(
            {
                "event": {
                    "external_id": f"u{dice.randrange(300)}",
                    "name": "saw",
                    "time": "2026-01-31",
                    "properties": {f"p{n}": "x" * 250 for n in range(dice.randrange(150, 380))},
                }
            }
        )
        for _ in range(600)
    ]
    return (written(path / "fat.ndjson", lines),)


def shop(path: Path) -> tuple[str | Path, ...]:
    """Return real events, where they are at hand."""
    if not SHOP.exists():
        pytest.skip(f"no real data at {SHOP}")
    return SHOP, "--map", Path(__file__).parents[2] / "examples/shop.toml"


CORPORA = {
    "many users": lambda path: mixed(path, 2_000),
    "few users": lambda path: mixed(path, 20),
    "a table": flat,
    "fat records": fat,
    "a shop": shop,
}


@pytest.fixture(scope="module", params=["per-array", "combined"])
def account(request: pytest.FixtureRequest) -> Iterator[tuple[str, Served]]:
    """Serve an account of each kind."""
    with served("--limits", request.param, "--rate", FAST) as sandbox:
        yield request.param, sandbox


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_forecast_of_requests_is_right(
    corpus: str, account: tuple[str, Served], tmp_path: Path
) -> None:
    """An import needs the requests that were foretold, within 2 %, and delivers what would go."""
    limits, sandbox = account
    what = (*CORPORA[corpus](tmp_path), "--limits", limits)
    found = planned(*what, "--to", "braze")
    ended = sent(tmp_path, sandbox.url, "import", *what, "--rate", FAST, "--to", "braze")
    requests = ended.report["requests"]["sent"]
    assert ended.records["delivered"] == found["records"]["would_go"]
    assert abs(found["requests"]["needed"] - requests) <= max(1, TOLERANCE * requests)


def test_an_unknown_account_is_foretold_for_each_it_may_be(tmp_path: Path) -> None:
    """Where nothing is known, the forecast of the account's own caps is right."""
    what = mixed(tmp_path, 2_000)
    found = planned(*what, "--to", "braze")["requests"]["if_the_account_takes"]
    needed = {rung["limits"]: rung["requests"] for rung in found}
    for limits, name in (("per-array", "75/75/75"), ("combined", "75 in total")):
        with served("--limits", limits, "--rate", FAST) as sandbox:
            ended = sent(tmp_path, sandbox.url, "import", *what, "--rate", FAST)
        requests = ended.report["requests"]["sent"]
        assert abs(needed[name] - requests) <= max(2, TOLERANCE * requests)
