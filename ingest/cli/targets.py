"""Where a run sends: from what `--to`, `--endpoint` and a row's name say to a row of a table.

Decides which destination and which of its endpoints are meant, and says what there is instead of
what there is not. Knows no destination by name but the default one, and opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from ingest.errors import ConfigError
from ingest.sinks.base import Destination, Endpoint
from ingest.sinks.registry import DESTINATIONS

DEFAULT: Final = "braze"
"""The destination that `--to sandbox` plays, and whose bodies `--to file:PATH` holds, where it does
not say another one."""

SANDBOX: Final = "sandbox"
FILE: Final = "file"

Where = Literal["sandbox", "file", "account"]


class Target(msgspec.Struct, frozen=True):
    """Where a run sends, and what: `where` is a sandbox in this process, a file, or an account.

    `path` is that of the file. `row` tells that `ingest send` is what sends.
    """

    where: Where
    destination: Destination
    endpoint: Endpoint
    path: str = ""
    row: bool = False


def sinks() -> tuple[str, ...]:
    """Return what `--to` may be, for people."""
    return (SANDBOX, f"{SANDBOX}:NAME", *DESTINATIONS, f"{FILE}:PATH", f"{FILE}:NAME:PATH")


def target(to: str | None, *, endpoint: str | None = None, row: str | None = None) -> Target:
    """Return what `--to` means, with the endpoint or the row of that name, or its first endpoint.

    Raises `ConfigError` that names what there is.
    """
    if to is None:
        raise ConfigError(
            f"nothing says where to send: add --to {SANDBOX} to try it, or --to with one of "
            f"{', '.join(sinks()[1:])}"
        )
    where, destination, path = _meant(to)
    found = (
        _endpoint(destination, endpoint) if row is None else _row(destination, row, needed_for=to)
    )
    return Target(where, destination, found, path, row is not None)


def destination_of(to: str) -> Destination:
    """Return the destination that `--to` means. Raises `ConfigError` that names what there is."""
    return _meant(to)[1]


def _meant(to: str) -> tuple[Where, Destination, str]:
    scheme, _, rest = to.partition(":")
    if scheme == FILE and rest:
        name, _, path = rest.partition(":")
        if path and name in DESTINATIONS:
            return "file", DESTINATIONS[name], path
        return "file", DESTINATIONS[DEFAULT], rest
    if to == SANDBOX:
        return "sandbox", DESTINATIONS[DEFAULT], ""
    if scheme == SANDBOX and rest in DESTINATIONS:
        return "sandbox", DESTINATIONS[rest], ""
    if to in DESTINATIONS:
        return "account", DESTINATIONS[to], ""
    if scheme == SANDBOX:
        raise ConfigError(
            f"--to {to!r} names no destination that the sandbox plays: it is {SANDBOX}:NAME with "
            f"one of {', '.join(DESTINATIONS)}"
        )
    raise ConfigError(f"--to {to!r} is no destination: it is one of {', '.join(sinks())}")


def _endpoint(destination: Destination, name: str | None) -> Endpoint:
    if name is None:
        return next(iter(destination.endpoints.values()))
    if (found := destination.endpoints.get(name)) is not None:
        return found
    if (row := _named(destination.sends, name)) is not None:
        raise ConfigError(
            f"{row.name} is no endpoint of `ingest import`: type  ingest send {row.name} PATH..."
        )
    raise ConfigError(
        f"--endpoint {name!r} is none of {destination.name}: it is one of "
        f"{', '.join(destination.endpoints)}"
    )


def _row(destination: Destination, name: str, *, needed_for: str) -> Endpoint:
    """Return a row by its name or path; `needed_for` is what `--to` said."""
    if (found := _named(destination.sends, name)) is not None:
        return found
    if (endpoint := _named(destination.endpoints, name)) is not None:
        raise ConfigError(
            f"{endpoint.name} is no row of `ingest send`: type  ingest import PATH... "
            f"--to {needed_for} --endpoint {endpoint.name}"
        )
    raise ConfigError(
        f"{name!r} is no row of {destination.name}: it is one of {', '.join(destination.sends)} "
        "(ingest send --list shows them)"
        if destination.sends
        else f"{destination.name} has no rows for `ingest send`: {_others()}"
    )


def _others() -> str:
    """Say which destinations have rows."""
    having = [name for name, row in DESTINATIONS.items() if row.sends]
    return f"those that have are {', '.join(having)}" if having else "no destination has any"


def _named(table: Mapping[str, Endpoint], name: str) -> Endpoint | None:
    """Return the endpoint of this name, or of this path with or without its slashes."""
    if name in table:
        return table[name]
    path = name.strip("/")
    return next((row for row in table.values() if row.path.strip("/") == path), None)


# --- what the help says of the table --------------------------------------------------------------


def epilog() -> str:
    """Say of every destination what the help of an option has no room for, a line each."""
    return "\n\n".join((endpoints_help(), settings_help(), environment_help()))


def row_epilog() -> str:
    """Say the same for rows, which `--list` shows."""
    return "\n\n".join((settings_help(), environment_help()))


def endpoints_help() -> str:
    """Name the endpoints of every destination, with what each is for."""
    return _listed(
        "Endpoints, the default one first (--endpoint):",
        {
            f"{name}: {row.name}": row.summary
            for name, destination in DESTINATIONS.items()
            for row in destination.endpoints.values()
        },
    )


def settings_help() -> str:
    """Name the settings that only one destination knows, with what each means."""
    return _listed(
        "Settings of one destination alone (--set):",
        {
            f"{name}: {setting}": means
            for name, destination in DESTINATIONS.items()
            for setting, means in destination.settings.items()
        },
    )


def environment_help() -> str:
    """Name the environment variables of every destination."""
    return _listed(
        "The environment says where an account is, and its secrets (also as NAME_FILE):",
        {name: ", ".join(row.sandboxed("", "")) for name, row in DESTINATIONS.items()},
    )


def _listed(title: str, table: Mapping[str, str]) -> str:
    """Return a paragraph that click leaves as it is: a title, and a line for each entry."""
    width = max(map(len, table), default=0)
    lines = (f"  {name.ljust(width)}  {means}".rstrip() for name, means in table.items())
    return "\n".join(("\b", title, *lines))
