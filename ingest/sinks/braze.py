"""Braze: its credentials on the wire, and the sink of an environment.

Decides how the key travels and what an operator should check. What the endpoints take and answer is
data, and is read, in `ingest.sinks.rows`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from ingest import codec
from ingest.errors import ConfigError
from ingest.outcomes import HINTS
from ingest.rates import parse_rate
from ingest.settings import secret
from ingest.sinks.base import Choice, Destination, Endpoint, HttpSink, Transport, credential
from ingest.sinks.export import ReadBack
from ingest.sinks.http import HttpSettings, HttpTransport
from ingest.sinks.rows import ENDPOINTS, SENDS, row_named
from ingest.sinks.rows.wire import RowWire

__all__ = ["AUTHS", "DESTINATION", "ENDPOINTS", "BrazeSink", "BrazeWire"]

AUTHS: Final = ("bearer", "body")
"""How the key travels: in the Authorization header, or (accounts of 2018-2020) as `api_key`."""


class BrazeWire(RowWire):
    """Requests to, and answers of, one endpoint of the table (`ingest.sinks.rows`) with one key.

    Raises `ConfigError` for a key that no header can carry, and for an unknown `auth`.
    """

    def __init__(self, endpoint: Endpoint, key: str, auth: str = "bearer") -> None:
        if auth not in AUTHS:
            raise ConfigError(f"unknown auth '{auth}': it is one of {', '.join(AUTHS)}")
        credential(key, "Braze API key")
        bearer = auth == "bearer"
        permission = endpoint.path.strip("/").replace("/", ".")
        super().__init__(
            msgspec.structs.replace(row_named(endpoint.name), endpoint=endpoint),
            name="braze",
            headers=[("Authorization", f"Bearer {key}")] if bearer else (),
            extra=b"" if bearer else b'"api_key":' + codec.dumps(key),
            secrets=(key,),
            hints={
                **HINTS,
                401: "check the API key, and that the REST URL is the one of the key's own "
                "instance",
                403: f"check that the key has the permission {permission}, and its IP allowlist",
                404: f"check the REST URL: {endpoint.path} is not known there",
            },
        )


class BrazeSink(HttpSink):
    """Delivers to Braze.

    `url` is the REST URL of the instance and `endpoint` the name of a row, or its path. Plain http
    is for this machine only, unless `allow_http`. Raises `ConfigError`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        endpoint: str = "track",
        *,
        auth: str = "bearer",
        allow_http: bool = False,
        settings: HttpSettings | None = None,
        transport: Transport | None = None,
    ) -> None:
        wire = BrazeWire(row_named(endpoint).endpoint, key, auth)
        super().__init__(
            wire, transport or HttpTransport(url, settings or HttpSettings(), allow_http=allow_http)
        )

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        endpoint: str = "track",
        auth: str = "bearer",
        allow_http: bool = False,
    ) -> BrazeSink:
        """Take BRAZE_REST_URL and BRAZE_API_KEY (or BRAZE_API_KEY_FILE) from the environment.

        Raises `ConfigError` that names what is missing.
        """
        environ = os.environ if environ is None else environ
        return cls(
            secret(environ, "BRAZE_REST_URL"),
            secret(environ, "BRAZE_API_KEY"),
            endpoint,
            auth=auth,
            allow_http=allow_http,
        )


READS: Final = ReadBack(
    path="/users/export/ids",
    most=50,
    kinds=frozenset({"alias", "braze_id", "email", "phone"}),
    # Documented: of accounts since 2024-08-22; older ones have ten times as much.
    limits=parse_rate("250/1m"),
    hints={
        **HINTS,
        401: "check the API key, and that the REST URL is the one of the key's own instance",
        403: "check that the key has the permission users.export.ids, and its IP allowlist",
        404: "check the REST URL: /users/export/ids is not known there",
    },
)
"""How users are read back."""


def _opened(environ: Mapping[str, str], choice: Choice) -> BrazeSink:
    return BrazeSink.from_env(
        environ,
        endpoint=choice.endpoint,
        auth=choice.auth,
        allow_http=choice.allow_http,
    )


DESTINATION: Final = Destination(
    name="braze",
    endpoints=ENDPOINTS,
    opened=_opened,
    sandboxed=lambda url, key: {"BRAZE_REST_URL": url, "BRAZE_API_KEY": key},
    sends=SENDS,
    auths=AUTHS,
    data_points=True,
    reads=READS,
)
"""Braze as a row of the registry."""
