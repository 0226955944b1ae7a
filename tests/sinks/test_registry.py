"""Every destination of the registry, as its row says it is."""

from __future__ import annotations

import pytest

from ingest.errors import ConfigError
from ingest.sinks.base import Choice, Destination, Endpoint
from ingest.sinks.registry import DESTINATIONS

ROWS = [
    pytest.param(destination, endpoint, id=f"{destination.name}-{endpoint.name}")
    for destination in DESTINATIONS.values()
    for endpoint in (*destination.endpoints.values(), *destination.sends.values())
]


def test_the_first_destination_is_the_one_most_people_have() -> None:
    """What is shown first, and is played by the sandbox unless said otherwise."""
    assert next(iter(DESTINATIONS)) == "braze"


@pytest.mark.parametrize("destination", DESTINATIONS.values(), ids=list(DESTINATIONS))
def test_tables_are_by_name_and_no_name_is_in_both(destination: Destination) -> None:
    """A name means one endpoint, whichever verb it is given to."""
    assert DESTINATIONS[destination.name] is destination
    assert destination.endpoints
    for table in (destination.endpoints, destination.sends):
        assert all(endpoint.name == name for name, endpoint in table.items())
    assert destination.endpoints.keys().isdisjoint(destination.sends)


@pytest.mark.parametrize(("destination", "endpoint"), ROWS)
def test_a_sandbox_is_reached_by_the_environment_that_the_row_names(
    destination: Destination, endpoint: Endpoint
) -> None:
    """With nothing else in the environment each endpoint opens, and says whose and which it is."""
    environ = destination.sandboxed("http://127.0.0.1:8080", "sandbox-key")
    sink = destination.open(environ, Choice(endpoint=endpoint.name))
    assert (sink.name, sink.endpoint, sink.host) == (destination.name, endpoint, "127.0.0.1:8080")
    assert sink.overhead > 0


@pytest.mark.parametrize("destination", DESTINATIONS.values(), ids=list(DESTINATIONS))
def test_what_is_missing_is_named(destination: Destination) -> None:
    """Each variable is asked for by its name when it is not there."""
    environ = dict(destination.sandboxed("http://127.0.0.1:8080", "sandbox-key"))
    for variable in environ:
        left = {name: value for name, value in environ.items() if name != variable}
        with pytest.raises(ConfigError, match=variable):
            destination.open(left, Choice())


def test_which_destinations_know_records_of_existing_users_only() -> None:
    """Where a user is always created, nobody may ask for the contrary."""
    assert {row.name for row in DESTINATIONS.values() if not row.updates_only} == {"batch-cep"}
