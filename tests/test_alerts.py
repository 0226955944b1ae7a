"""Alert rules: they ask for what there is, fire for what they are for, and say what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any, Final

import pytest

from ingest.configuration import Http
from ingest.settings import parse_bytes
from tests.deployed import (
    ALERTS,
    DEPLOY,
    configured,
    documents,
    settings_of,
)

OWN_LABELS: Final = {"job", "instance"}
"""Labels that Prometheus gives to whatever it scrapes."""


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("test", "rules", "alerts.test.yml")],
    ids=["the configuration", "the alerts"],
)
def test_prometheus_takes_its_files(arguments: tuple[str, ...]) -> None:
    """The configuration and the rules are read, and each alert fires for what it is for."""
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it comes with Prometheus")
    ran = subprocess.run(
        [promtool, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def exported() -> dict[str, set[str]]:
    """Return the labels of each sample that a worker exports, by its name."""
    pytest.importorskip("prometheus_client", reason="prometheus_client is not there: extra cli")
    from ingest.metrics import Metrics, Vitals

    vitals = Vitals(
        records={("delivered", "event"): 1},
        requests={"201": 1},
        letters={"bad-time": 1},
        spool_bytes=1,
        rate_limit_remaining=1,
        lag=1,
    )
    samples: dict[str, set[str]] = {}
    for line in Metrics(lambda: vitals).text().decode().splitlines():
        if line and not line.startswith("#"):
            name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()  # type: ignore[union-attr]  # raises
            found = samples.setdefault(name, set())
            found.update(re.findall(r'(\w+)="', labels or ""))
    return samples


def test_alerts_ask_for_what_a_worker_exports() -> None:
    """Every name and every label of every rule is one of a scrape, or Prometheus' own."""
    samples = exported()
    for alert in ALERTS:
        expression = alert["expr"]
        selectors = re.findall(r"\b(up|ingest_\w+)(?:\{([^}]*)\})?", expression)
        assert selectors, alert["alert"]
        for name, matchers in selectors:
            assert name == "up" or name in samples, f"{alert['alert']}: {name}"
            asked = set(re.findall(r"(\w+)\s*[=!]~?\"", matchers))
            assert asked <= samples.get(name, set()) | OWN_LABELS, f"{alert['alert']}: {asked}"
        for grouped in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", expression):
            assert {label.strip() for label in grouped.split(",")} <= OWN_LABELS


def test_columns_that_alerts_name_are_columns() -> None:
    """A column in a matcher is one that a record can end in."""
    from ingest.balance import COLUMNS

    named = {name for one in ALERTS for name in re.findall(r'column="(\w+)"', one["expr"])}
    assert named
    assert named <= set(COLUMNS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: Mapping[str, Any]) -> None:
    """It has a severity, a summary and a runbook line, and a section of the runbook."""
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "runbook"}
    assert all(len(text) > 20 for text in alert["annotations"].values())
    assert f"\n### {alert['alert']}\n" in (DEPLOY / "README.md").read_text()


def test_the_runbook_has_no_section_too_many() -> None:
    """Each section is that of an alert there is, in the order of the rules."""
    text = (DEPLOY / "README.md").read_text()
    assert re.findall(r"^### (Ingest\w+)$", text, re.MULTILINE) == [one["alert"] for one in ALERTS]


def test_each_alert_is_proved() -> None:
    """Each is fired by a test of the rules, and is in the test of a worker that is well."""
    [proof] = documents(DEPLOY / "prometheus" / "alerts.test.yml")
    fired = {
        name
        for test in proof["tests"]
        for asked in test.get("promql_expr_test", ())
        for name in re.findall(r'alertname="(\w+)"', asked["expr"])
    }
    well = {one["alertname"] for one in proof["tests"][0]["alert_rule_test"]}
    assert fired == well == {one["alert"] for one in ALERTS}


def test_the_alert_of_the_spool_knows_its_size() -> None:
    """It fires at 80 % of the `spool_bytes` of every intake."""
    [alert] = [one for one in ALERTS if one["alert"] == "IngestSpoolNearlyFull"]
    threshold = int(alert["expr"].rpartition(">")[2])
    sources = [settings_of(name).source for name in configured()]
    sizes = {parse_bytes(one.spool_bytes) for one in sources if isinstance(one, Http)}
    assert sizes == {threshold * 10 // 8}
