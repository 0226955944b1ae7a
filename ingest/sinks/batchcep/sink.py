"""Batch CEP on the wire: requests that update profiles, many users at a time.

Decides where a batch goes and with which headers. Records of Braze are translated
(`ingest.sinks.batchcep.translation`), those of one user are folded into one edit
(`ingest.sinks.batchcep.folding`), and an answer names pieces of edits
(`ingest.sinks.batchcep.answers`).
Pure: sends nothing and knows no time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from ingest.errors import ConfigError
from ingest.outcomes import HINTS, Outcome, Response
from ingest.profiles import Caps
from ingest.rates import BucketLimit, PaceLimit, RateLimit
from ingest.records import ATTRIBUTES, KINDS, Batch
from ingest.settings import secret
from ingest.sinks.base import (
    Choice,
    Destination,
    Endpoint,
    HttpSink,
    Request,
    Transport,
    credential,
)
from ingest.sinks.batchcep.answers import interpret_update
from ingest.sinks.batchcep.folding import EDIT_OVERHEAD, EditFolding, Edits, record_in
from ingest.sinks.batchcep.settings import MEANINGS, BatchCepSettings
from ingest.sinks.batchcep.translation import BatchCepSchema
from ingest.sinks.http import HttpSettings, HttpTransport

UPDATE_BYTES: Final = 4_000_000
"""No cap is documented, so that it is a setting too (`body_bytes`). Counted with the records as
they came: a body has half of it."""

MASS_UPDATE_USERS: Final = 2_500
"""Users of a request by default, a quarter of what is documented at most. A request of 10,000 is
the budget of a whole second: if two arrive 40 ms closer than they were sent, as happens, that
second has too many."""

MASS_UPDATE_BYTES: Final = 8_000_000
"""The same for 2,500 users: 3,200 bytes each, four times what most have."""

RECORDS_PER_USER: Final = 64
"""A bound of records where users are what is counted: 15 events and many attributes records."""

ANSWER_BYTES: Final = 8_000_000
"""Answers are kept up to this: one error for each of 10,000 users, in 800 bytes."""

UPDATE_BURST: Final = 1_000
"""Users that `update` takes at once after a pause; 300 a second on average."""

MASS_UPDATE_RATE: Final = 10_000
"""Users a second that `mass-update` takes, without any burst."""

_SLOTS: Final = ("attributes", "events", "purchases")

_EXAMPLE: Final = '{"attributes": {"external_id": "u1", "plan": "pro"}}'


def _caps(users: int, body_bytes: int) -> Caps:
    records = users * RECORDS_PER_USER
    return Caps((records,) * len(KINDS), total=records, body_bytes=body_bytes, users=users)


def _endpoint(name: str, caps: Caps, limit: RateLimit, summary: str) -> Endpoint:
    return Endpoint(
        name=name,
        path=_path(name, BatchCepSettings().version),
        slots=_SLOTS,
        kinds=KINDS,
        caps=(caps,),
        limits=(limit,),
        counts="users",
        example=_EXAMPLE,
        summary=summary,
    )


def _path(name: str, version: str) -> str:
    return f"/{version}/profiles/{name}"


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    row.name: row
    for row in (
        _endpoint(
            "update",
            _caps(200, UPDATE_BYTES),
            BucketLimit(300, UPDATE_BURST),
            "profiles and events, up to 200 users at a time: for a stream",
        ),
        _endpoint(
            "mass-update",
            _caps(MASS_UPDATE_USERS, MASS_UPDATE_BYTES),
            PaceLimit(MASS_UPDATE_RATE),
            "the same, up to 2,500 users at a time: for a dump, once or twice a day",
        ),
    )
}
"""The batchable endpoints of Batch CEP, by the name that `--endpoint` takes."""

_MOST_EDITS: Final = {"update": UPDATE_BURST, "mass-update": MASS_UPDATE_RATE}
"""Users in one request at most: a budget never grants more at once."""


def endpoint_of(name: str, settings: BatchCepSettings) -> Endpoint:
    """Return an endpoint with the version, the number of users and the bytes that were set.

    Raises `ConfigError` for an unknown one, and for more users than its budget grants at once.
    """
    if name not in ENDPOINTS:
        raise ConfigError(
            f"unknown endpoint '{name}' of batch-cep: it is one of {', '.join(ENDPOINTS)}"
        )
    row = ENDPOINTS[name]
    (caps,) = row.caps
    if settings.body_bytes is not None:
        caps = msgspec.structs.replace(caps, body_bytes=settings.body_bytes)
    if settings.edits is not None:
        if settings.edits > _MOST_EDITS[name]:
            raise ConfigError(
                f"the setting 'edits' of batch-cep must be at most {_MOST_EDITS[name]:,} for the "
                f"endpoint {name}: its budget grants no more at once"
            )
        caps = _caps(settings.edits, caps.body_bytes)
    return msgspec.structs.replace(row, path=_path(name, settings.version), caps=(caps,))


class BatchCepWire:
    """Requests to, and answers of, one endpoint with one key and project.

    Raises `ConfigError` for a key or project that no header can carry.
    """

    name: Final = "batch-cep"

    def __init__(
        self, endpoint: Endpoint, key: str, project: str, settings: BatchCepSettings
    ) -> None:
        credential(key, "Batch REST API key")
        credential(project, "Batch project key")
        self.endpoint: Final = endpoint
        self.secrets: Final = (key, project)
        self.schema: Final = BatchCepSchema(settings)
        self.folding: Final = EditFolding(settings.events_per_edit, settings.attributes_per_edit)
        users = max(caps.users or 0 for caps in endpoint.caps)
        self.overhead: Final = 2 + users * EDIT_OVERHEAD
        self._headers = (
            ("Content-Type", "application/json"),
            ("Authorization", f"Bearer {key}"),
            ("X-Batch-Project", project),
        )
        self._hints = {
            **HINTS,
            401: "check the REST API key, and that the project key is one of the same company",
            403: "check that the REST API key may write to this project",
            404: f"check the REST URL and the version: {endpoint.path} is not known there",
        }

    def __repr__(self) -> str:
        return f"BatchCepWire({self.endpoint.name})"

    def request(self, batch: Batch) -> Request:
        """Encode a batch: an edit for each user. At most `batch.nbytes + overhead` bytes."""
        return Request("POST", self.endpoint.path, self._headers, Edits(batch).body())

    def interpret(self, batch: Batch, response: Response) -> Outcome:
        """Say what the response means for the batch. Total: never raises."""
        return interpret_update(batch, response, secrets=self.secrets, hints=self._hints)

    def repeatable(self, slot: int, fragment: bytes) -> bool:
        """Whether a second copy of a record changes nothing: so it is with attributes.

        To set, delete, add to a list of texts or remove from it twice is to do it once.
        """
        return slot == ATTRIBUTES

    def record_of(self, batch: Batch, slot: int, fragment: bytes) -> bytes:
        """Return the record as it came: the second of the pair."""
        return record_in(fragment)


class BatchCepSink(HttpSink):
    """Delivers to Batch CEP.

    `url` is the base of the REST API without a version, `endpoint` a name out of `ENDPOINTS`. Plain
    http is for this machine only, unless `allow_http`. Raises `ConfigError`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        project: str,
        endpoint: str = "update",
        *,
        settings: BatchCepSettings | None = None,
        allow_http: bool = False,
        http: HttpSettings | None = None,
        transport: Transport | None = None,
    ) -> None:
        chosen = settings or BatchCepSettings()
        wire = BatchCepWire(endpoint_of(endpoint, chosen), key, project, chosen)
        http = http or HttpSettings(answer_bytes=ANSWER_BYTES)
        super().__init__(wire, transport or HttpTransport(url, http, allow_http=allow_http))

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        endpoint: str = "update",
        settings: BatchCepSettings | None = None,
        allow_http: bool = False,
    ) -> BatchCepSink:
        """Take BATCH_REST_URL, BATCH_API_KEY and BATCH_PROJECT_KEY from the environment.

        Each may be in a file that the variable with _FILE at its end names. Raises `ConfigError`
        that names what is missing.
        """
        environ = os.environ if environ is None else environ
        return cls(
            secret(environ, "BATCH_REST_URL"),
            secret(environ, "BATCH_API_KEY"),
            secret(environ, "BATCH_PROJECT_KEY"),
            endpoint,
            settings=settings,
            allow_http=allow_http,
        )


def _opened(environ: Mapping[str, str], choice: Choice) -> BatchCepSink:
    return BatchCepSink.from_env(
        environ,
        endpoint=choice.endpoint,
        settings=BatchCepSettings.of(choice.settings),
        allow_http=choice.allow_http,
    )


def _sandboxed(url: str, key: str) -> Mapping[str, str]:
    return {
        "BATCH_REST_URL": url,
        "BATCH_API_KEY": key,
        "BATCH_PROJECT_KEY": "sandbox-project",
    }


DESTINATION: Final = Destination(
    name="batch-cep",
    endpoints=ENDPOINTS,
    opened=_opened,
    sandboxed=_sandboxed,
    settings=MEANINGS,
    updates_only=False,
)
"""The row of the registry."""
