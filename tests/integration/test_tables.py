"""What must hold of tables, with real processes, real sockets and, where it is, real data."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.integration.processes import sent, served

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT.parent / "shared" / "data"
SHOP: Final = DATA / "ecom-events" / "ecom.csv.gz"
SAMPLES: Final = DATA / "braze-cdi-samples"

NO_LIMIT: Final = ("--limits", "combined", "--rate", "1000000/1s")
"""For a sandbox whose rate is not the point."""


def real(path: Path) -> Path:
    """Return a path of the real data, or skip the test."""
    if not path.exists():
        pytest.skip(f"there is no {path.relative_to(ROOT.parent)} beside the project")
    return path


def test_the_events_of_a_shop(tmp_path: Path) -> None:
    """A click stream of 31,106 rows arrives by the mapping of the examples, under faults, once."""
    shop = real(SHOP)
    faults = ("--faults", "503:5%,429:3%,reset-before:2%", "--seed", "7")
    with served(*faults, *NO_LIMIT) as sandbox:
        mapping = ROOT / "examples" / "shop.toml"
        ended = sent(tmp_path, sandbox.url, "import", shop, "--map", mapping)
        stats = sandbox.stats()
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": 31_106, "delivered": 31_106}
    same = 30  # rows of the file that say what another one says
    assert stats["objects"]["event"] == 31_106
    assert (stats["distinct_objects"], stats["copies"]) == (31_106 - same, same)
    assert "Without a zone: 31,106 times, taken to be of UTC\n" in ended.stderr


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("attributes_sample.csv", "attributes", 50),
        ("attributes_sample.parquet", "attributes", 50),
        ("attributes_sample.json", "attributes", 7),
        ("custom_events_sample.json", "event", 2),
        ("purchases_sample.json", "purchase", 2),
    ],
)
def test_samples_of_cloud_data_ingestion(tmp_path: Path, name: str, kind: str, count: int) -> None:
    """What Braze shows as samples arrives as it is: a user, and a payload in a cell."""
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="extra files")
    sample = real(SAMPLES / name)
    with served(*NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", sample, "--kind", kind)
        assert sandbox.stats()["objects"][kind] == count
    assert ended.status == 0, ended.stderr
    assert ended.records == {"read": count, "delivered": count}


def test_a_catalog_is_no_user_data(tmp_path: Path) -> None:
    """A table of products is refused with its columns, before anything is sent."""
    catalog = real(SAMPLES / "catalog_sample.csv")
    with served(*NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", catalog, "--kind", "attributes")
        assert sandbox.requests == 0
    assert ended.status == 2
    assert "no column says whose record a row is" in ended.stderr
    assert "The columns are 'ID', 'PAYLOAD'" in ended.stderr


def test_rows_refused_here_and_there_come_back(tmp_path: Path) -> None:
    """Bad rows among 5,000, under faults, are mended in their file, and then all has arrived."""
    path, state = tmp_path / "in.csv", tmp_path / "state"
    rows = [f'user-{i},"{i}\nx",{i}' for i in range(5_000)]
    bad = {i: f"user-{i},note,none" for i in range(0, 5_000, 499)}
    text = "\n".join(bad.get(i, row) for i, row in enumerate(rows))
    path.write_text(f"external_id,note,visits\n{text}\n")
    table = ("--kind", "attributes", "--types", "visits=integer", "--state", state)
    with served("--faults", "500:5%,reset-before:3%", "--seed", "2", *NO_LIMIT) as sandbox:
        ended = sent(tmp_path, sandbox.url, "import", path, *table)
        assert ended.status == 1, ended.stderr
        assert ended.records == {"read": 5_000, "delivered": 5_000 - len(bad), "invalid": len(bad)}
        [rejects] = state.glob("rejects-*.csv")
        mended = tmp_path / "mended.csv"
        mended.write_text(rejects.read_text().replace(",none", ",7"))
        ended = sent(tmp_path, sandbox.url, "import", mended, *table)
        assert ended.status == 0, ended.stderr
        assert ended.records == {"read": len(bad), "delivered": len(bad)}
        stats = sandbox.stats()
        user = sandbox.get("/sandbox/users/user-499")
    assert (stats["distinct_objects"], stats["copies"]) == (5_000, 0)
    assert user["attributes"] == {"note": "note", "visits": 7}
