"""`ingest verify` as its users run it: a run, its proof, and a proof that fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import msgspec
import pytest

from ingest.codec import dumps, loads
from tests.integration.processes import COMMAND, KEY, Served, eventually, served

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT.parent / "shared" / "data"
SHOP: Final = DATA / "ecom-events" / "ecom.csv.gz"
SAMPLES: Final = DATA / "braze-cdi-samples"

NO_LIMIT: Final = ("--limits", "combined", "--rate", "1000000/1s")


class Ended(msgspec.Struct):
    """How a command ended: the report only if it was asked for."""

    status: int
    stderr: str
    report: dict[str, Any]


def ran(where: Path, sandbox: Served, *arguments: str | Path, key: str = KEY) -> Ended:
    """Run `ingest ARGUMENTS` in a directory."""
    env = {**os.environ, "COLUMNS": "200"}
    env |= {"BRAZE_REST_URL": sandbox.url, "BRAZE_API_KEY": key}
    env |= {"APPBOY_REST_URL": sandbox.url, "APPBOY_APP_GROUP_ID": key}
    ended = subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=where, env=env, capture_output=True, timeout=120
    )
    report = loads(ended.stdout) if ended.stdout.startswith(b"{") else {}
    return Ended(ended.returncode, ended.stderr.decode(), report)


def verified(where: Path, sandbox: Served, *options: str, key: str = KEY) -> Ended:
    """Verify the latest run, all of its users unless told."""
    options = ("--sample", "100000", "--patience", "0s", "--rate", "10000/1s", *options)
    return ran(where, sandbox, "verify", "last", "--report", "-", *options, key=key)


def real(path: Path) -> Path:
    """Return a path of the real data, or skip the test."""
    if not path.exists():
        pytest.skip(f"there is no {path.relative_to(ROOT.parent)} beside the project")
    return path


def sample(where: Path, *options: str) -> Path:
    """Write synthetic records to a file."""
    made = subprocess.run([*COMMAND, "sample", *options], capture_output=True, check=True)
    path = where / "sample.ndjson"
    path.write_bytes(made.stdout)
    return path


def posted(sandbox: Served, path: str, body: Any) -> None:
    """Let another system change something at the destination."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urlopen(Request(sandbox.url + path, dumps(body), headers), timeout=30):
        pass


@pytest.mark.parametrize(
    ("name", "kind", "users"),
    [
        ("attributes_sample.csv", "attributes", 50),
        ("attributes_sample.parquet", "attributes", 50),
        ("attributes_sample.json", "attributes", 7),
        ("custom_events_sample.json", "event", 2),
        ("purchases_sample.json", "purchase", 2),
    ],
)
def test_samples_of_cloud_data_ingestion_are_all_there(
    tmp_path: Path, name: str, kind: str, users: int
) -> None:
    """Whatever their form and kind."""
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="extra files")
    with served(*NO_LIMIT) as sandbox:
        sent = ran(tmp_path, sandbox, "import", real(SAMPLES / name), "--kind", kind, "--to=braze")
        ended = verified(tmp_path, sandbox)
    assert (sent.status, ended.status) == (0, 0), ended.stderr
    assert (ended.report["share"], ended.report["users"]) == (1, {"checked": users, "missing": 0})


def test_the_events_of_a_shop_are_all_there(tmp_path: Path) -> None:
    """31,106 of them, by name and user, though some requests were answered with errors."""
    with served(*NO_LIMIT, "--faults", "503:5%,429:3%") as sandbox:
        mapping = ROOT / "examples" / "shop.toml"
        ran(tmp_path, sandbox, "import", real(SHOP), "--map", mapping, "--to", "braze")
        sandbox.post("/sandbox/faults", {"faults": ""})
        ended = verified(tmp_path, sandbox)
    assert ended.status == 0, ended.stderr
    assert ended.report["users"]["checked"] == 600
    assert "100 % is there" in ended.stderr


@pytest.mark.parametrize("sink", ["braze", "appboy"])
def test_synthetic_records_are_all_there(tmp_path: Path, sink: str) -> None:
    """With operators, aliases and addresses among them; what cannot be known is counted apart."""
    with served(*NO_LIMIT) as sandbox:
        ran(tmp_path, sandbox, "import", sample(tmp_path, "2000"), "--to", sink)
        ended = verified(tmp_path, sandbox)
    assert ended.status == 0, ended.stderr
    assert ended.report["checked"] == ended.report["there"] > 1000
    assert ended.report["not_compared"]["fields"] > 0


def test_exactly_what_was_damaged_is_shown(tmp_path: Path) -> None:
    """A changed value and a deleted user; what was refused is not missed. No value is written."""
    lines = [
        {"attributes": {"external_id": f"u{n}", "plan": "secret-plan", "age": n}} for n in range(20)
    ]
    lines.append({"attributes": {"external_id": "u5", "age": 99, "_sandbox_reject": "no"}})
    users = tmp_path / "users.ndjson"
    users.write_bytes(b"\n".join(map(dumps, lines)))
    with served(*NO_LIMIT) as sandbox:
        ran(tmp_path, sandbox, "import", users, "--to", "braze")
        before = verified(tmp_path, sandbox)
        changed = {"external_id": "u3", "plan": "changed-by-others"}
        posted(sandbox, "/users/track", {"attributes": [changed]})
        posted(sandbox, "/users/delete", {"external_ids": ["u7"]})
        after = verified(tmp_path, sandbox)
        shown = verified(tmp_path, sandbox, "--show-values")
    assert before.status == 0, before.stderr
    assert after.status == 1
    assert "  u3: plan: differs (users.ndjson:4)\n" in after.stderr
    assert "  u7: there is no such user\n" in after.stderr
    fields = {row.pop("field"): row for row in after.report["fields"]}
    assert fields["plan"]["differences"] == {"differs": 1}
    assert (fields["plan"]["there"], fields["age"]["there"]) == (18, 19)
    assert (fields["plan"]["checked"], fields["age"]["checked"]) == (20, 20)
    assert after.report["users"] == {"checked": 20, "missing": 1}
    for text in (after.stderr, str(after.report), str(shown.report)):
        assert "changed-by-others" not in text
        assert "secret-plan" not in text
    assert '"secret-plan" was sent, "changed-by-others" is there' in shown.stderr


def test_of_an_unfinished_run_what_was_settled_is_there(tmp_path: Path) -> None:
    """And nothing else is asked for."""
    with served(*NO_LIMIT) as sandbox:
        records = sample(tmp_path, "20000", "--kind", "event", "--users", "500")
        env = {**os.environ, "BRAZE_REST_URL": sandbox.url, "BRAZE_API_KEY": KEY}
        to = ("--kind", "event", "--to", "braze", "--rate", "20/1s")
        command = [*COMMAND, "import", str(records), *to]
        sending = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: sandbox.requests > 20, "some requests")
        finally:
            sending.kill()
            sending.wait()
        ended = verified(tmp_path, sandbox)
    assert ended.status == 0, ended.stderr
    assert "only what it settled is looked at" in ended.stderr


def test_what_cannot_be_verified_is_a_sentence(tmp_path: Path) -> None:
    """An unknown run, a changed input, another key, a destination that is down."""
    users = tmp_path / "users.ndjson"
    users.write_bytes(b'{"attributes": {"external_id": "u", "plan": "x"}}\n')
    with served(*NO_LIMIT) as sandbox:
        none = ran(tmp_path, sandbox, "verify", "last")
        ran(tmp_path, sandbox, "import", users, "--to", "braze")
        refused = verified(tmp_path, sandbox, key="wrong-key")
        users.write_bytes(b'{"attributes": {"external_id": "v", "plan": "x"}}\n')
        changed = verified(tmp_path, sandbox)
    assert none.status == 2
    assert "no run is in .ingest" in none.stderr
    assert refused.status == 3
    assert "wrong-key" not in refused.stderr
    assert changed.status == 2
    assert "users.ndjson was changed since run" in changed.stderr
    for ended in (none, refused, changed):
        assert "Traceback" not in ended.stderr
