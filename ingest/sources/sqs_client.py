"""The client of SQS: the one module that imports aiobotocore (extra `sqs`).

Decides where a queue lies, and what the errors of its client mean: wait, or tell the user. Knows
what a queue is asked for in tens, and nothing of what a message holds. Credentials are found by the
SDK's own chain, and are never looked at here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ingest.errors import ConfigError, InputError, MissingExtra
from ingest.receipts import Ask

TEN: Final = 10
"""Messages in one request, at most."""

POLL_SECONDS: Final = 20
"""How long a poll waits for messages: the longest that there is, and the cheapest."""

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = POLL_SECONDS + 10.0
"""A request that is silent for so long is given up."""

KIND: Final = "kind"
"""Attribute of a message that says the kind of a bare object."""

FIFO: Final = ".fifo"
"""How the name of an ordered queue ends."""

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_REGION: Final = re.compile(r"(?:^|\.)([a-z]{2}(?:-[a-z]+)+-\d+)\.")
_OF_AWS: Final = re.compile(r".*\.(amazonaws\.com(\.cn)?|api\.aws)")

_NO_QUEUE: Final = (
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "InvalidAddress",
)
_FORBIDDEN: Final = ("AccessDenied", "AccessDeniedException", "KmsAccessDenied", "KMS.AccessDenied")
_NOT_KNOWN: Final = (
    *("InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"),
    *("InvalidAccessKeyId", "ExpiredToken", "ExpiredTokenException", "InvalidSecurity"),
    *("IncompleteSignature", "MissingAuthenticationToken", "OptInRequired"),
)
_GONE: Final = (
    *("ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"),
    *("AWS.SimpleQueueService.MessageNotInflight",),
)
"""Said of one message of a request: it is ours no more, or gone, or was ours for too long."""


class Trouble(Exception):
    """The queue did not do what it was asked to; the text is a sentence without its end.

    `lasting`: somebody has to mend it, though it is never known for how long. `refused`: it is the
    credentials that are not taken, or not allowed enough.
    """

    def __init__(self, said: str, *, lasting: bool = False, refused: bool = False) -> None:
        super().__init__(said)
        self.lasting = lasting
        self.refused = refused


class Where(msgspec.Struct, frozen=True):
    """A queue: its name, and what the client has to be told of it."""

    url: str
    name: str
    region: str | None
    endpoint: str | None

    @property
    def ordered(self) -> bool:
        """Whether it keeps an order."""
        return self.name.endswith(FIFO)

    @property
    def in_the_clear(self) -> bool:
        """Whether messages can be read on their way to it."""
        parts = urlsplit(self.endpoint or self.url)
        return parts.scheme == "http" and parts.hostname not in LOOPBACK


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is read of a message; `kind` is the value of the attribute, `group` that of FIFO."""

    message_id: str
    handle: str
    body: str
    kind: str | None = None
    group: str = ""


class Ends(msgspec.Struct, frozen=True):
    """What became of a request of ten: by the place of each message in it."""

    done: list[int]
    gone: list[int]  # ours no more
    failed: list[int]
    why: str = ""  # of the last that failed


def where(queue_url: str, region: str | None, endpoint_url: str | None, *, table: str) -> Where:
    """Return where a queue lies. Without them, its URL says its region, and an endpoint that is
    not of AWS. Raises `ConfigError`; `table` is that of the configuration."""
    for what, url in (("queue_url", queue_url), ("endpoint_url", endpoint_url)):
        if url is None:
            continue
        try:
            parts = urlsplit(url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname)
            named = parts.username is not None or parts.password is not None
        except ValueError:
            known, named = False, False
        if not known:
            raise ConfigError(f"'{what}' in {table} must be a URL that begins with https://.")
        if named:
            raise ConfigError(
                f"'{what}' in {table} holds a credential, which has no place there: take it out; "
                "the SDK finds credentials in the environment, in its files, or by the machine."
            )
    parts = urlsplit(queue_url)
    name = parts.path.rstrip("/").rpartition("/")[2]
    if not name:
        raise ConfigError(
            f"'queue_url' in {table} names no queue: it is https://HOST/ACCOUNT/NAME, as the "
            "console shows it."
        )
    host = parts.hostname or ""
    aws = _OF_AWS.fullmatch(host) is not None
    if region is None and aws and (found := _REGION.search(host)):
        region = found[1]
    if endpoint_url is None and (not aws or ".vpce." in host):
        endpoint_url = f"{parts.scheme}://{parts.netloc}"
    return Where(queue_url, name, region, endpoint_url)


def package() -> Any:
    """Return aiobotocore. Raises `MissingExtra`."""
    try:
        import aiobotocore.session  # type: ignore[import-untyped, import-not-found, unused-ignore]
        import botocore.config  # type: ignore[import-untyped, import-not-found, unused-ignore]
        import botocore.exceptions  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        raise MissingExtra("SQS", "sqs") from None
    for name in ("aiobotocore", "botocore"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)  # below that it writes down signatures and messages
    return aiobotocore, botocore


class Queue:
    """One queue. `connections` is how many requests may be under way at once."""

    def __init__(self, at: Where, connections: int, *, table: str) -> None:
        self._aio, self._boto = package()
        self._errors = self._boto.exceptions
        self._at = at
        self._table = table
        self._connections = connections
        self._client: Any = None
        self._making: Any = None

    async def open(self) -> dict[str, str]:
        """Connect, and return the attributes of the queue. Raises `ConfigError`, `InputError`."""
        config = self._boto.config.Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            max_pool_connections=self._connections,
            retries={"total_max_attempts": 1, "mode": "standard"},  # who asks knows what to do
        )
        making = self._aio.session.get_session().create_client(
            "sqs",
            region_name=self._at.region,
            endpoint_url=self._at.endpoint,
            config=config,
        )
        try:
            self._client = await making.__aenter__()
        except self._errors.NoRegionError:
            raise ConfigError(
                f"The region of the queue {self._at.name} is not known: add 'region' to "
                f"{self._table}, or set AWS_REGION."
            ) from None
        except (self._errors.BotoCoreError, ValueError) as error:
            raise ConfigError(
                f"The client of SQS cannot be made for {self._at.name} ({type(error).__name__}): "
                f"see 'region' and 'endpoint_url' in {self._table}, and the SDK's own settings."
            ) from None
        self._making = making
        try:
            return await self.attributes("All")
        except Trouble as why:
            await self.aclose()
            raise InputError(f"{why}.") from why

    async def attributes(self, *names: str) -> dict[str, str]:
        """Return attributes of the queue. Raises `Trouble`."""
        said = await self._ask("get_queue_attributes", AttributeNames=list(names))
        return dict(said.get("Attributes", {}))

    async def receive(self, seconds: int, wait: int) -> list[Message]:
        """Return up to ten messages, ours for `seconds`, or none after `wait`. Raises `Trouble`."""
        said = await self._ask(
            "receive_message",
            MaxNumberOfMessages=TEN,
            WaitTimeSeconds=wait,
            VisibilityTimeout=seconds,
            MessageAttributeNames=[KIND],
            **({"MessageSystemAttributeNames": ["MessageGroupId"]} if self._at.ordered else {}),
        )
        return [_message(one) for one in said.get("Messages", ())]

    async def delete(self, asks: Sequence[Ask]) -> Ends:
        """Delete ten messages at most. Raises `Trouble`."""
        return await self._ten(
            "delete_message_batch", [{"ReceiptHandle": one.handle} for one in asks]
        )

    async def keep(self, asks: Sequence[tuple[Ask, int]]) -> Ends:
        """Make ten messages at most ours for some seconds from now; 0 gives one back.

        Raises `Trouble`.
        """
        entries = [{"ReceiptHandle": ask.handle, "VisibilityTimeout": s} for ask, s in asks]
        return await self._ten("change_message_visibility_batch", entries)

    async def send(self, entries: Sequence[dict[str, Any]]) -> Ends:
        """Send ten messages at most. Raises `Trouble`."""
        return await self._ten("send_message_batch", entries)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._making is not None:
            making, self._making, self._client = self._making, None, None
            await making.__aexit__(None, None, None)

    async def _ten(self, what: str, entries: Sequence[Mapping[str, Any]]) -> Ends:
        said = await self._ask(
            what, Entries=[{"Id": str(at), **entry} for at, entry in enumerate(entries)]
        )
        ends = Ends([int(one["Id"]) for one in said.get("Successful", ())], [], [])
        why = ""
        for one in said.get("Failed", ()):
            gone = one.get("SenderFault", False) and one.get("Code") in _GONE
            (ends.gone if gone else ends.failed).append(int(one["Id"]))
            why = why if gone else str(one.get("Code"))
        heard = {*ends.done, *ends.gone, *ends.failed}
        ends.failed.extend(at for at in range(len(entries)) if at not in heard)
        return Ends(ends.done, ends.gone, ends.failed, why)

    async def _ask(self, what: str, **told: Any) -> Any:
        if self._client is None:
            raise Trouble(f"The queue {self._at.name} is closed")
        try:
            return await getattr(self._client, what)(QueueUrl=self._at.url, **told)
        except self._errors.ClientError as error:
            raise self._said(error) from None
        except (self._errors.NoCredentialsError, self._errors.PartialCredentialsError):
            raise Trouble(
                f"The SDK finds no credentials for the queue {self._at.name}: set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile by AWS_PROFILE, or "
                "give the machine a role",
                lasting=True,
                refused=True,
            ) from None
        except (self._errors.HTTPClientError, self._errors.ConnectionError) as error:
            raise Trouble(
                f"The queue {self._at.name} cannot be reached at {self._endpoint} "
                f"({type(error).__name__}): see that the address is right and that it is up"
            ) from None
        except (self._errors.BotoCoreError, OSError, TimeoutError) as error:
            # Their words may quote what was sent, or the credentials that were tried.
            raise Trouble(
                f"The queue {self._at.name} cannot be asked ({type(error).__name__})"
            ) from None

    def _said(self, error: Any) -> Trouble:
        said = error.response.get("Error", {})
        code = str(said.get("Code", "")).removeprefix("com.amazonaws.sqs#")
        name, at = self._at.name, self._endpoint
        if code in _NO_QUEUE:
            return Trouble(
                f"There is no queue {name} at {at}: see 'queue_url' and 'region' in {self._table}",
                lasting=True,
            )
        if code in _FORBIDDEN:
            return Trouble(
                f"The queue {name} does not allow these credentials to do what is needed ({code}): "
                "allow sqs:ReceiveMessage, DeleteMessage, ChangeMessageVisibility and "
                "GetQueueAttributes to read it, sqs:SendMessage and GetQueueAttributes to write",
                lasting=True,
                refused=True,
            )
        if code in _NOT_KNOWN:
            return Trouble(
                f"The credentials that the SDK found are not taken for the queue {name} ({code}): "
                "see that they are valid, not expired, and of the right account",
                lasting=True,
                refused=True,
            )
        return Trouble(f"The queue {name} does not answer as it should ({code or 'no code'})")

    @property
    def _endpoint(self) -> str:
        if self._client is None:
            return self._at.endpoint or self._at.url
        return str(self._client.meta.endpoint_url)


def _message(said: Mapping[str, Any]) -> Message:
    kind = said.get("MessageAttributes", {}).get(KIND, {}).get("StringValue")
    group = said.get("Attributes", {}).get("MessageGroupId", "")
    return Message(said["MessageId"], said["ReceiptHandle"], said.get("Body", ""), kind, group)
