"""What `--to`, `--endpoint` and a row's name mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.cli.targets import DEFAULT, destination_of, endpoints_help, settings_help, sinks, target
from ingest.errors import ConfigError
from ingest.sinks.registry import DESTINATIONS

TEXTS = st.text() | st.sampled_from(
    [
        "sandbox",
        "sandbox:",
        "file:",
        "file:x",
        *DESTINATIONS,
        *(f"sandbox:{n}" for n in DESTINATIONS),
    ]
)


@given(to=TEXTS, endpoint=st.none() | TEXTS, row=st.none() | TEXTS | st.just("delete"))
def test_any_text_is_a_target_or_a_sentence(to: str, endpoint: str | None, row: str | None) -> None:
    """Whatever is typed, it means something that exists, or `ConfigError` says what does."""
    try:
        meant = target(to, endpoint=endpoint, row=row)
    except ConfigError:
        return
    table = meant.destination.endpoints if row is None else meant.destination.sends
    assert meant.endpoint in table.values()
    assert meant.row is (row is not None)


@pytest.mark.parametrize("name", DESTINATIONS)
def test_a_name_is_an_account_and_with_sandbox_before_it_none(name: str) -> None:
    """The same destination either way, and its first endpoint unless one is named."""
    first = next(iter(DESTINATIONS[name].endpoints.values()))
    for to, where in ((name, "account"), (f"sandbox:{name}", "sandbox")):
        meant = target(to)
        assert (meant.where, meant.destination.name, meant.endpoint) == (where, name, first)


def test_sandbox_and_file_are_of_the_default_destination() -> None:
    """Bodies in a file, and what a sandbox is asked, are those of the destination most people have.

    A path may hold colons.
    """
    assert target("sandbox").destination.name == DEFAULT
    meant = target("file:a:b")
    assert (meant.where, meant.destination.name, meant.path) == ("file", DEFAULT, "a:b")
    for name in DESTINATIONS:
        other = target(f"file:{name}:a:b")
        assert (other.where, other.destination.name, other.path) == ("file", name, "a:b")
        assert target(f"file:{name}").path == name


def test_nothing_names_the_choices() -> None:
    """Without `--to`, and with one that is not there, all that there are are named."""
    with pytest.raises(ConfigError) as missing:
        target(None)
    with pytest.raises(ConfigError) as wrong:
        target("mars")
    with pytest.raises(ConfigError, match=f"one of {', '.join(DESTINATIONS)}"):
        target("sandbox:mars")
    for name in (*DESTINATIONS, "sandbox", "file:PATH"):
        assert name in str(missing.value)
        assert name in str(wrong.value)
    assert set(DESTINATIONS) < set(sinks())


def test_an_unknown_endpoint_is_told_those_of_its_destination() -> None:
    """The names that follow are those that would work with this `--to`, and no others."""
    for name, destination in DESTINATIONS.items():
        with pytest.raises(ConfigError) as error:
            target(name, endpoint="mars")
        assert f"none of {name}" in str(error.value)
        assert str(error.value).endswith(", ".join(destination.endpoints))


def test_a_row_is_found_by_its_name_and_by_its_path() -> None:
    """With or without slashes around the path."""
    for name, endpoint in DESTINATIONS["braze"].sends.items():
        for text in (name, endpoint.path, endpoint.path.strip("/")):
            assert target("braze", row=text).endpoint is endpoint


def test_each_verb_names_the_other_for_what_is_not_its_own() -> None:
    """A row is not imported, an endpoint is not sent: the sentence is the command to type."""
    with pytest.raises(ConfigError, match=r"ingest send delete PATH"):
        target("braze", endpoint="delete")
    for text in ("track", "/users/track"):
        with pytest.raises(ConfigError, match=r"ingest import PATH\.\.\. --to braze"):
            target("braze", row=text)


def test_a_destination_without_rows_says_who_has_some() -> None:
    """And an unknown row is told those that there are."""
    with pytest.raises(ConfigError, match="those that have are braze, appboy"):
        target("batch-cep", row="delete")
    with pytest.raises(ConfigError, match="it is one of delete, alias-new"):
        target("braze", row="mars")


def test_a_destination_is_found_without_an_endpoint() -> None:
    """The table of `send --list` needs no more."""
    assert destination_of("sandbox:appboy") is DESTINATIONS["appboy"]


def test_help_is_built_from_the_table() -> None:
    """Every endpoint and every setting of every destination is in it."""
    for destination in DESTINATIONS.values():
        assert all(name in endpoints_help() for name in destination.endpoints)
        assert all(name in settings_help() for name in destination.settings)
