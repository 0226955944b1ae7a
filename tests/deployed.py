"""The files in deploy/, read: what the tests of them ask for."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from ingest.configuration import Configuration, parsed

ROOT: Final = Path(__file__).parents[1]
DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
WRITTEN: Final = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
YAML: Final = [path for path in WRITTEN if path.suffix in (".yaml", ".yml")]
IMAGE_ENVIRONMENT: Final = {"INGEST_STATE": "/state"}


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML takes the last in silence."""


def _mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"a key is there twice {node.start_mark}"
    return dict(loader.construct_pairs(node, deep=True))


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file."""
    return list(yaml.load_all(path.read_text(), Loader=Strict))


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    """Return the objects of the manifests that are of these kinds."""
    found = [one for path in KUBERNETES for one in documents(path)]
    return [one for one in found if one["kind"] in kinds]


COMPOSE: Final = documents(DEPLOY / "compose.yaml")[0]
SERVICES: Final[Mapping[str, Any]] = COMPOSE["services"]
SCRAPE: Final = documents(DEPLOY / "prometheus" / "prometheus.yml")[0]
ALERTS: Final = [
    rule
    for group in documents(DEPLOY / "prometheus" / "alerts.yml")[0]["groups"]
    for rule in group["rules"]
]
CONTROLLERS: Final = of_kind("Deployment", "StatefulSet")


def configured() -> dict[str, str]:
    """Return the text of every configuration that is deployed, by the name of its file."""
    maps = {name: text for one in of_kind("ConfigMap") for name, text in one["data"].items()}
    return {"compose": (DEPLOY / "worker.toml").read_text(), **maps}


def settings_of(name: str) -> Configuration:
    return parsed(configured()[name], IMAGE_ENVIRONMENT, name=name)


def config_of(controller: Mapping[str, Any]) -> tuple[str, Configuration]:
    """Return the path and the configuration that the worker of a controller is started with."""
    verb, path = worker_of(controller)["args"]
    assert verb == "run"
    return path, settings_of(Path(path).name)


def pod_of(controller: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = controller["spec"]["template"]["spec"]
    return found


def containers_of(controller: Mapping[str, Any]) -> list[dict[str, Any]]:
    pod = pod_of(controller)
    return [*pod.get("initContainers", ()), *pod["containers"]]


def worker_of(controller: Mapping[str, Any]) -> dict[str, Any]:
    [found] = [one for one in containers_of(controller) if one["name"] == "ingest"]
    return found


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
