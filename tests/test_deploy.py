"""What is deployed, checked without an engine: schemas, secrets, and that the files agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from ingest.configuration import Http, Kafka, Sqs
from ingest.settings import parse_bytes, parse_duration, parse_share
from ingest.sources.kafka_client import CLOSE_SECONDS
from ingest.sources.kafka_session import END_SECONDS
from tests.deployed import (
    CONTROLLERS,
    DEPLOY,
    KUBERNETES,
    ROOT,
    SCRAPE,
    SERVICES,
    WRITTEN,
    YAML,
    config_of,
    configured,
    containers_of,
    documents,
    of_kind,
    pod_of,
    settings_of,
    version,
    worker_of,
)

OLDEST: Final = "1.29"
"""The first Kubernetes that has native sidecars unless told otherwise."""

AIR_SECONDS: Final = END_SECONDS + 2 * CLOSE_SECONDS
"""Between the end of the drain and SIGKILL, at a broker that is away: for the last commit, and for
both clients to take their leave."""


# --- each file by itself --------------------------------------------------------------------------


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_is_well_formed(path: Path) -> None:
    """Every document is a mapping, and says nothing twice."""
    assert all(isinstance(document, dict) for document in documents(path))


@pytest.mark.parametrize("release", [OLDEST, "1.33"])
@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_manifests_are_what_kubernetes_takes(path: Path, release: str) -> None:
    """Each object has the schema of its kind, in which no unknown field is allowed."""
    schemas = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate, which has the schemas, is not there"
    )
    for one in documents(path):
        assert schemas.validate(one, release, strict=True) == release


def test_the_compose_file_is_what_compose_takes() -> None:
    """It has the schema of compose files, in which no unknown field is allowed."""
    pytest.importorskip(
        "check_jsonschema", reason="check-jsonschema, which has the schema, is not there"
    )
    command = ("-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    ran = subprocess.run(
        [sys.executable, *command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", configured())
def test_configurations_are_read(name: str) -> None:
    """Each is taken with the environment of the image, and keeps its state on the volume."""
    settings = settings_of(name)
    assert settings.state == "/state"
    assert settings.ops.host == "0.0.0.0"


# --- the files agree ------------------------------------------------------------------------------


def images() -> Iterator[str]:
    """Yield the images of ours that are named."""
    named = [one["image"] for one in SERVICES.values()]
    named += [one["image"] for controller in CONTROLLERS for one in containers_of(controller)]
    yield from (name for name in named if re.search(r"(^|/)ingest:", name))


def test_one_image_is_deployed_everywhere() -> None:
    """Its tag is the version of the package; nobody else's image is without a tag."""
    assert {name.rpartition("/")[2] for name in images()} == {f"ingest:{version()}"}
    for service in SERVICES.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_the_broker_is_the_one_of_the_tests() -> None:
    """The tag of Kafka's image is the version that the integration tests run."""
    pom = (ROOT / "tests" / "kafka" / "pom.xml").read_text()
    [tested] = re.findall(r"<artifactId>kafka_[^<]*</artifactId>\s*<version>([^<]*)<", pom)
    assert {SERVICES[name]["image"] for name in ("kafka", "topics")} == {f"apache/kafka:{tested}"}


def test_the_image_has_the_extras_of_its_sources() -> None:
    """Everything that a configuration here, or the default of the image, asks for is installed."""
    [extras] = re.findall(r"\$\{wheel\}\[([\w,]+)\]", (ROOT / "Dockerfile").read_text())
    there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = {"cli", "kafka", "sqs", "speed"}
    assert set(extras.split(",")) == needed <= set(there)


def test_all_is_written_to_the_volume() -> None:
    """The root is read-only, and /state is a mount, wherever a worker runs."""
    [volume] = re.findall(r"^VOLUME (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for controller in CONTROLLERS:
        worker = worker_of(controller)
        assert worker["securityContext"]["readOnlyRootFilesystem"] is True
        assert volume in [one["mountPath"] for one in worker["volumeMounts"]]
    assert SERVICES["worker"]["read_only"] is True
    assert any(one.endswith(f":{volume}") for one in SERVICES["worker"]["volumes"])


def test_no_pod_runs_as_root() -> None:
    """The user is that of the image, with no privileges; its group may read the secret."""
    [user] = re.findall(r"^USER (\d+):\d+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for controller in CONTROLLERS:
        context = pod_of(controller)["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["fsGroup"] == int(user)
        for container in containers_of(controller):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_drain_ends_before_it_is_killed() -> None:
    """There is air between `drain_timeout` and the end of the patience of whoever stops it."""
    graces = [(parse_duration(SERVICES["worker"]["stop_grace_period"]), settings_of("compose"))]
    for controller in CONTROLLERS:
        grace = pod_of(controller)["terminationGracePeriodSeconds"]
        graces.append((float(grace), config_of(controller)[1]))
    for grace, settings in graces:
        assert parse_duration(settings.drain_timeout) + AIR_SECONDS <= grace


def test_ports_and_paths_agree() -> None:
    """Who asks for probes and metrics asks where the configuration says that they are."""
    for controller in CONTROLLERS:
        worker = worker_of(controller)
        path, settings = config_of(controller)
        ops = settings.ops.port
        assert worker["ports"] == [{"name": "ops", "containerPort": ops}]
        annotations = controller["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(ops)
        assert annotations["prometheus.io/path"] == "/metrics"
        probes = [worker[name]["httpGet"] for name in worker if name.endswith("Probe")]
        assert all(probe["port"] == "ops" for probe in probes)
        assert {probe["path"] for probe in probes} == {"/healthz", "/readyz"}
        mounts = {one["mountPath"]: one["name"] for one in worker["volumeMounts"]}
        assert mounts[str(Path(path).parent)] == "config"
    worker, ops = SERVICES["worker"], settings_of("compose").ops.port
    assert worker["command"][0] == "run"
    assert f"./worker.toml:{worker['command'][1]}:ro" in worker["volumes"]
    assert worker["expose"] == [str(ops)]
    assert f"127.0.0.1:{ops}/healthz" in worker["healthcheck"]["test"][-1]
    [job] = SCRAPE["scrape_configs"]
    assert job["job_name"] == "ingest"
    assert [(one["names"], one["port"]) for one in job["dns_sd_configs"]] == [(["worker"], ops)]


def test_the_worker_of_compose_finds_its_broker_and_its_destination() -> None:
    """Hosts are services, ports are theirs, and the topics are made before it starts."""
    settings = settings_of("compose")
    assert isinstance(settings.source, Kafka)
    broker = SERVICES["kafka"]["environment"]
    assert broker["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{settings.source.bootstrap}"
    port = SERVICES["sandbox"]["command"][-1]
    assert settings.sink.url == f"http://sandbox:{port}"
    assert SERVICES["sandbox"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    [script] = SERVICES["topics"]["command"]
    made = re.findall(r"([\w.-]+):\d+", script.partition(" in ")[2].partition(";")[0])
    assert made == [*settings.source.topics, settings.dead_letters.topic]


def test_a_service_posts_to_its_sidecar() -> None:
    """The address in the container beside it is the intake's, on loopback."""
    [controller] = [one for one in CONTROLLERS if "initContainers" in pod_of(one)]
    _, settings = config_of(controller)
    assert isinstance(settings.source, Http)
    assert worker_of(controller)["restartPolicy"] == "Always"
    [service] = pod_of(controller)["containers"]
    url = f"http://{settings.source.host}:{settings.source.port}/v1/records"
    assert {"name": "INGEST_URL", "value": url} in service["env"]
    assert settings.source.host == "127.0.0.1"


def test_what_must_last_is_not_in_a_pod() -> None:
    """A spool has a claim of its own, with room for it; else dead letters are with the broker."""
    for controller in CONTROLLERS:
        _, settings = config_of(controller)
        if isinstance(settings.source, Kafka | Sqs):
            assert settings.dead_letters.type in ("kafka", "sqs")
            continue
        assert isinstance(settings.source, Http)
        [claim] = controller["spec"]["volumeClaimTemplates"]
        mounts = {one["name"]: one["mountPath"] for one in worker_of(controller)["volumeMounts"]}
        assert mounts[claim["metadata"]["name"]] == settings.state
        size = claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")
        assert int(size) * 2**30 >= 1.5 * parse_bytes(settings.source.spool_bytes)


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda one: one["metadata"]["name"])
def test_replicas_do_not_exceed_the_account(controller: Mapping[str, Any]) -> None:
    """All of them together take no more than the whole, while they are replaced as well."""
    _, settings = config_of(controller)
    surge = controller["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 0)
    most = controller["spec"]["replicas"] + surge
    assert most * parse_share(settings.sink.share) <= 1


# --- secrets --------------------------------------------------------------------------------------


def test_secrets_come_by_file() -> None:
    """No container of ours has a credential in its environment, and no manifest holds one."""
    assert not of_kind("Secret")
    for controller in CONTROLLERS:
        for one in worker_of(controller)["env"]:
            assert one["name"].endswith("_FILE")
            assert one["value"].startswith("/var/run/secrets/")


def test_no_file_holds_a_secret() -> None:
    """What looks like a credential is a reference, or what the sandbox takes from anybody."""
    looks = re.compile(r"(?i)^\s*(?:- )?[\w.-]*(?:api_?key|token|password|secret)\s*[:=]\s*(\S.*)$")
    for path in WRITTEN:
        for line in path.read_text().splitlines():
            if (found := looks.match(line)) is not None:
                harmless = ("${BRAZE_API_KEY:-sandbox-key}", "false")
                assert found[1] in harmless, f"{path.name}: {line}"
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}", path.read_text())
