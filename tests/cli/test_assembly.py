"""The parts of a run, as they are put together."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ingest.cli.assembly import assembled, host_of
from ingest.cli.main import cli
from ingest.cli.options import SendOptions, collected
from ingest.codec import dumps, loads
from ingest.errors import ConfigError
from ingest.inflight import InFlight
from ingest.observer import Observer
from ingest.pipeline import Driver
from ingest.rates import largest_cost
from ingest.samples import samples
from ingest.sinks.base import Choice
from ingest.sinks.registry import DESTINATIONS
from ingest.testing import SandboxSettings, running_sandbox

EVERY = [
    pytest.param(name, endpoint.name, endpoint.name in row.sends, id=f"{name}-{endpoint.name}")
    for name, row in DESTINATIONS.items()
    for endpoint in (*row.endpoints.values(), *row.sends.values())
]


class Heard(Observer):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        """Keep a sentence."""
        self.said.append(text)


def options_of(destination: str, name: str, *, row: bool = False, **asked: Any) -> SendOptions:
    """Return the defaults of the command line for an endpoint, and what is asked beside."""
    values: dict[str, Any] = {
        "to": f"sandbox:{destination}",
        "settings": (),
        "limits": "auto",
        "rate": None,
        "share": "80%",
        "in_flight": "adaptive",
        "memory": "96MB",
        "state": Path("nowhere"),
        "auth": "bearer",
        "if_unanswered": "resend",
        "on_bad_field": "reject",
        "strict": False,
        "no_validate": False,
        "give_up_after": "30m",
        "report": None,
        "dead_letters": None,
        "progress": "none",
        "allow_http": False,
        "faults": "",
    }
    values |= {} if row else {"endpoint": name}
    return collected(values | asked, row=name if row else None)


def pipeline_of(options: SendOptions, observer: Heard | None = None) -> Driver:
    """Return the pipeline that the options ask for; nothing of it is started."""
    destination = options.target.destination
    sink = destination.open(
        destination.sandboxed("http://127.0.0.1:1", "key"),
        Choice(endpoint=options.target.endpoint.name, settings=options.settings),
    )
    return assembled(options, sink, run="run", name_of=str, observer=observer or Heard())


@pytest.mark.parametrize(("destination", "name", "row"), EVERY)
@given(
    share=st.integers(1, 100),
    rate=st.none() | st.tuples(st.integers(1, 50_000), st.sampled_from(["1s", "3s", "1m", "1h"])),
    limits=st.just("auto") | st.integers(1, 20_000).map(str),
)
def test_no_request_costs_more_than_its_budget_ever_grants(
    destination: str,
    name: str,
    row: bool,
    share: int,
    rate: tuple[int, str] | None,
    limits: str,
) -> None:
    """Whatever rate, share and limits are asked for, the fullest request gets its permit."""
    asked = {"share": f"{share}%", "limits": limits}
    windows = None if rate is None else f"{rate[0]}/{rate[1]}"
    options = options_of(destination, name, row=row, rate=windows, **asked)
    pipeline = pipeline_of(options)
    budget, endpoint = pipeline._throttle._budget, options.target.endpoint
    caps = pipeline.ladder.current
    cost = caps.fill if endpoint.counts == "users" else 1
    assert 1 <= cost <= largest_cost(budget.limits)
    assert budget.delay(0.0, cost) < math.inf
    if limits != "auto":
        assert caps.fill <= int(limits)


def test_caps_learned_by_one_run_are_known_to_the_next(tmp_path: Path) -> None:
    """The first run of an account meets its refusals; the second one meets none."""
    path = tmp_path / "users.ndjson"
    path.write_bytes(b"".join(samples(600)))
    refused = []
    with running_sandbox(SandboxSettings(limits=50)) as sandbox:
        environ = os.environ | {"BRAZE_REST_URL": sandbox.url, "BRAZE_API_KEY": sandbox.key}
        for _ in range(2):
            before = sandbox.stats()["by_status"].get("400", 0)
            command = [sys.executable, "-m", "ingest", "import", str(path), "--to", "braze"]
            subprocess.run(command, cwd=tmp_path, env=environ, check=True, capture_output=True)
            refused.append(sandbox.stats()["by_status"].get("400", 0) - before)
    assert 1 <= refused[0] <= 3
    assert refused[1] == 0


def test_caps_are_remembered_for_an_endpoint_and_only_where_there_is_a_choice(
    tmp_path: Path,
) -> None:
    """Two destinations at one host with one key do not learn from each other; one step is known."""
    path = tmp_path / "users.ndjson"
    lines = ({"attributes": {"external_id": f"u{i}", "plan": "pro"}} for i in range(200))
    path.write_bytes(b"\n".join(map(dumps, lines)))
    common = ["--state", str(tmp_path / "state")]
    with running_sandbox(SandboxSettings(limits=50)) as sandbox:
        environ: dict[str, str] = {}
        for destination in DESTINATIONS.values():
            environ |= destination.sandboxed(sandbox.url, sandbox.key)
        for name in DESTINATIONS:
            said = CliRunner().invoke(
                cli, ["import", str(path), "--to", name, *common], env=environ
            )
            assert said.exit_code == 0, said.stderr
    accounts = loads((tmp_path / "state" / "limits.json").read_bytes())["accounts"]
    assert [account.partition(":")[2] for account in accounts] == ["braze:track"]


@pytest.mark.parametrize(("destination", "name", "row"), EVERY)
def test_requests_in_flight_are_expected_by_what_each_costs(
    destination: str, name: str, row: bool
) -> None:
    """Where users are counted, a full request is many: as many fewer requests reach the rate."""
    pipeline = pipeline_of(options_of(destination, name, row=row))
    in_flight, endpoint = pipeline._dispatcher._in_flight, pipeline._sink.endpoint
    assert isinstance(in_flight, InFlight)
    cost = pipeline.ladder.current.fill if endpoint.counts == "users" else 1
    assert in_flight.rate == pipeline._throttle.rate / cost


@pytest.mark.parametrize(("destination", "name", "row"), EVERY)
@pytest.mark.parametrize("asked", ["resend", "hold"])
def test_what_must_not_repeat_is_held_in_any_case(
    destination: str, name: str, row: bool, asked: str
) -> None:
    """One sentence says so where nobody asked for it, and none where it goes without saying."""
    heard = Heard()
    options = options_of(destination, name, row=row, if_unanswered=asked)
    pipeline = pipeline_of(options, heard)
    resendable = options.target.endpoint.resendable
    held = pipeline._policy.hold_unanswered
    assert held == (
        frozenset()
        if resendable and asked == "resend"
        else frozenset(range(len(options.target.endpoint.slots)))
    )
    assert len(heard.said) == (not resendable and asked == "resend")


@pytest.mark.parametrize("name", DESTINATIONS)
def test_where_it_goes_is_said_for_people(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host of an account, never a credential; and what is missing of it is named."""
    options = options_of(name, next(iter(DESTINATIONS[name].endpoints)))
    assert host_of(options) == f"a sandbox in this process, as {name}"
    environ = DESTINATIONS[name].sandboxed("http://127.0.0.1:4711", "a-key")
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    account = options_of(name, options.target.endpoint.name, to=name)
    assert host_of(account) == "127.0.0.1:4711"
    monkeypatch.delenv(next(iter(environ)))
    with pytest.raises(ConfigError, match=next(iter(environ))):
        host_of(account)


def test_combined_is_75_in_total_wherever_records_are_counted() -> None:
    """Also where the caps of an account are no ladder."""
    for name in ("braze", "appboy"):
        for endpoint in DESTINATIONS[name].endpoints:
            ladder = pipeline_of(options_of(name, endpoint, limits="combined")).ladder
            assert ladder.current.total == ladder.confirmed <= 75
