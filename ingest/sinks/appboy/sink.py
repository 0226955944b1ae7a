"""Legacy Appboy on the wire: the group id in the body, and errors that name no record.

Decides how a batch is put into a body and what an answer means. Pure: sends nothing and knows no
time. An error beside a success is a plain text there: the rest was processed, and which record it
was is not told. So all count as delivered, and the texts are counted. What a record must be is
`ingest.sinks.appboy.schema`; which endpoints there are, `ingest.sinks.appboy.rows`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from ingest import codec
from ingest.outcomes import (
    HINTS,
    MOST_REMARKS,
    Delivered,
    Outcome,
    Refused,
    Response,
    Unauthorized,
    Words,
    remarks_of,
)
from ingest.quoting import masked, quote, read_body
from ingest.rates import parse_rate
from ingest.records import Batch
from ingest.settings import secret
from ingest.sinks.appboy.rows import ENDPOINTS, ROWS, SENDS
from ingest.sinks.appboy.schema import (
    ARRAY_ELEMENTS,
    MOST_ARRAY_ELEMENTS,
    AppboySchema,
    elements_of,
)
from ingest.sinks.base import Choice, Destination, HttpSink, Transport, credential
from ingest.sinks.export import ReadBack
from ingest.sinks.http import HttpSettings, HttpTransport
from ingest.sinks.rows import row_named
from ingest.sinks.rows.data import Row
from ingest.sinks.rows.wire import RowWire

# --- reading an answer --------------------------------------------------------------------------

COMPLAINT: Final = "the destination refused something of the request without saying which record"
"""What any complaint beside a success comes to."""


def _without_texts(response: Response, secrets: tuple[str, ...]) -> tuple[Response, list[str]]:
    """Return a success without the errors that are plain texts, and these."""
    fields = read_body(response, secrets).fields
    errors = fields.get("errors") or []
    errors = errors if isinstance(errors, list) else [errors]
    texts = [error for error in errors if isinstance(error, str)]
    if not texts:
        return response, []
    rest = {**fields, "errors": [error for error in errors if not isinstance(error, str)]}
    try:
        return msgspec.structs.replace(response, body=codec.dumps(rest)), texts
    except (TypeError, RecursionError):  # nested more deeply than can be written again
        return response, []


# --- the wire and the sink ----------------------------------------------------------------------


class AppboyWire(RowWire):
    """Requests to, and answers of, the endpoint of one row, for one app group.

    Raises `ConfigError` for a group id that is none, and for an impossible `array_elements`.
    """

    def __init__(self, row: Row, group_id: str, array_elements: int = ARRAY_ELEMENTS) -> None:
        credential(group_id, "Appboy app group id")
        tracked = AppboySchema(array_elements)
        check = "check APPBOY_APP_GROUP_ID, and that APPBOY_REST_URL is the host of that group"
        super().__init__(
            row,
            name="appboy",
            extra=b'"app_group_id":' + codec.dumps(group_id),
            secrets=(group_id,),
            hints={
                **HINTS,
                401: check,
                403: "check that the plan includes the API and that the account is active",
                404: check,
            },
            schema=None if row.items else tracked,
        )

    def interpret(self, batch: Batch, response: Response) -> Outcome:
        """Say what the response means for the batch. Total: never raises."""
        texts: list[str] = []
        if 200 <= response.status < 300 and b'"errors"' in response.body:
            response, texts = _without_texts(response, self.secrets)
        outcome = super().interpret(batch, response)
        if isinstance(outcome, Delivered):
            said = remarks_of((Words(COMPLAINT, text) for text in texts), secrets=self.secrets)
            return msgspec.structs.replace(outcome, remarks=outcome.remarks + said)
        if isinstance(outcome, Refused) and outcome.status == 404:
            # An unknown group: no record is at fault, and no wait helps.
            return Unauthorized(404, outcome.reason)
        if isinstance(outcome, Refused) and outcome.status == 400:
            return self._explained(outcome, response)
        return outcome

    def _explained(self, outcome: Refused, response: Response) -> Refused:
        """Add what the errors of a refusal say: its message alone is often 'Bad Request'."""
        fields = read_body(response, self.secrets).fields
        errors = fields.get("errors") if "message" in fields else None
        texts = errors[:MOST_REMARKS] if isinstance(errors, list) else [errors]
        said = [masked(quote(text, self.secrets)) for text in texts if isinstance(text, str)]
        reason = "; ".join((outcome.reason, *filter(None, dict.fromkeys(said))))
        return Refused(outcome.status, quote(reason, self.secrets))


class AppboySink(HttpSink):
    """Delivers to legacy Appboy.

    `url` is the REST URL, `group_id` the app group id, which is the credential too, and `endpoint`
    a name or path out of `ROWS`. `array_elements` is how many elements the array attributes of the
    account hold. Plain http is for this machine only, unless `allow_http`. Raises `ConfigError`.
    """

    def __init__(
        self,
        url: str,
        group_id: str,
        endpoint: str = "track",
        *,
        array_elements: int = ARRAY_ELEMENTS,
        allow_http: bool = False,
        settings: HttpSettings | None = None,
        transport: Transport | None = None,
    ) -> None:
        wire = AppboyWire(row_named(endpoint, ROWS), group_id, array_elements)
        super().__init__(
            wire, transport or HttpTransport(url, settings or HttpSettings(), allow_http=allow_http)
        )

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        endpoint: str = "track",
        array_elements: int = ARRAY_ELEMENTS,
        allow_http: bool = False,
    ) -> AppboySink:
        """Take APPBOY_REST_URL and APPBOY_APP_GROUP_ID (or each with _FILE) from the environment.

        Raises `ConfigError` that names what is missing.
        """
        environ = os.environ if environ is None else environ
        return cls(
            secret(environ, "APPBOY_REST_URL"),
            secret(environ, "APPBOY_APP_GROUP_ID"),
            endpoint,
            array_elements=array_elements,
            allow_http=allow_http,
        )


# --- the row of the registry --------------------------------------------------------------------

SETTINGS: Final[Mapping[str, str]] = {
    "array_elements": f"elements that array attributes hold, as the dashboard says: 1 to "
    f"{MOST_ARRAY_ELEMENTS} ({ARRAY_ELEMENTS})",
}
"""Setting -> what it means, and its default."""


READS: Final = ReadBack(
    path="/users/export/ids",
    most=50,
    kinds=frozenset(),  # external ids alone
    # No figure of its own is documented: that of Braze, far below the 50,000 an hour for all.
    limits=parse_rate("250/1m"),
    hints={
        **HINTS,
        401: "check APPBOY_APP_GROUP_ID",
        403: "check that the plan includes the API and that the account is active",
        404: "check APPBOY_APP_GROUP_ID, and that APPBOY_REST_URL is the host of that group",
    },
    elements=ARRAY_ELEMENTS,
)
"""How users are read back."""


def _opened(environ: Mapping[str, str], choice: Choice) -> AppboySink:
    """Make a sink of an environment and a choice. Raises `ConfigError`."""
    return AppboySink.from_env(
        environ,
        endpoint=choice.endpoint,
        array_elements=elements_of(choice.settings.get("array_elements", str(ARRAY_ELEMENTS))),
        allow_http=choice.allow_http,
    )


DESTINATION: Final = Destination(
    name="appboy",
    endpoints=ENDPOINTS,
    sends=SENDS,
    opened=_opened,
    sandboxed=lambda url, key: {"APPBOY_REST_URL": url, "APPBOY_APP_GROUP_ID": key},
    settings=SETTINGS,
    data_points=True,
    reads=READS,
)
"""Legacy Appboy, for the registry."""
