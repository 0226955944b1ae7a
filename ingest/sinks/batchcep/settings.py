"""What a user may choose about Batch CEP: limits that are not certain, and how to translate.

Decides which values make sense. The documents of several ages do not agree on the limits, so each
is a setting. Knows neither records nor requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from ingest.errors import ConfigError
from ingest.settings import format_bytes, parse_bytes
from ingest.sinks.batchcep.names import SLUG_CHARS, is_slug, slug

Subscribed = Literal["reject", "reset"]
Phones = Literal["international", "any"]

EVENTS_PER_EDIT: Final = 15
"""Events that one edit may carry, as two independent implementations of others say."""

ATTRIBUTES_PER_EDIT: Final = 50
"""Attributes of one edit, native ones among them: a connector kept by the vendor cuts there."""

_EVENTS: Final = range(1, 1_001)
_ATTRIBUTES: Final = range(10, 1_001)
"""The least leaves room for every native attribute."""

_EDITS: Final = range(1, 10_001)

_BODY: Final = range(1_000_000, 64_000_001)
"""Bytes of a request. The least holds what the edits of 10,000 users have around their pieces, and
a record; the most is in memory as often as requests are in flight."""

_VERSION: Final = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)


class BatchCepSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between accounts and tastes. Raises `ConfigError` for what makes no sense.

    `urls` are the fields (as written in the source, or slugged) whose texts become URLs. `edits`
    are users per request and `body_bytes` the bytes of one, counted with the records as they came;
    None is what the endpoint takes.
    """

    version: str = "2.11"
    purchase_event: str = "purchase"
    urls: tuple[str, ...] = ()
    subscribed: Subscribed = "reject"
    phones: Phones = "international"
    events_per_edit: int = EVENTS_PER_EDIT
    attributes_per_edit: int = ATTRIBUTES_PER_EDIT
    edits: int | None = None
    body_bytes: int | None = None

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise _refusal("version", "two numbers, such as 2.11")
        if not is_slug(self.purchase_event):
            raise _refusal(
                "purchase_event", f"1 to {SLUG_CHARS} of the characters a-z, 0-9 and underscore"
            )
        if not all(is_slug(slug(name)) for name in self.urls):
            raise _refusal("urls", f"names of 1 to {SLUG_CHARS} characters, with commas between")
        if self.subscribed not in get_args(Subscribed):
            raise _refusal("subscribed", " or ".join(get_args(Subscribed)))
        if self.phones not in get_args(Phones):
            raise _refusal("phones", " or ".join(get_args(Phones)))
        for name, value, allowed in (
            ("events_per_edit", self.events_per_edit, _EVENTS),
            ("attributes_per_edit", self.attributes_per_edit, _ATTRIBUTES),
            ("edits", self.edits, _EDITS),
        ):
            if value is not None and value not in allowed:
                raise _refusal(name, _numbers(allowed))
        if self.body_bytes is not None and self.body_bytes not in _BODY:
            raise _refusal("body_bytes", _sizes())

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> BatchCepSettings:
        """Read settings out of `MEANINGS` that came as text.

        Raises `ConfigError`, which names what is allowed.
        """
        values: dict[str, object] = {name: text.strip() for name, text in texts.items()}
        for name, allowed in _COUNTED.items():
            if name in texts:
                values[name] = _number(name, texts[name], allowed)
        if "body_bytes" in texts:
            values["body_bytes"] = _size(texts["body_bytes"])
        if "urls" in texts:
            names = (name.strip() for name in texts["urls"].split(","))
            values["urls"] = tuple(name for name in names if name)
        return cls(**values)  # type: ignore[arg-type]  # checked when it is made


_COUNTED: Final[Mapping[str, range]] = {
    "events_per_edit": _EVENTS,
    "attributes_per_edit": _ATTRIBUTES,
    "edits": _EDITS,
}

MEANINGS: Final[Mapping[str, str]] = {
    "version": "version of the API, a part of every path (2.11)",
    "purchase_event": "name of the event that a purchase becomes (purchase)",
    "urls": "fields whose texts are sent as URLs, with commas between (none)",
    "subscribed": "an email_subscribe of 'subscribed', which is neither: reject, or reset (reject)",
    "phones": "phone numbers that are taken: international ones with +, or any (international)",
    "events_per_edit": "events and purchases of one user in a request (15)",
    "attributes_per_edit": "attributes of one user in a request (50)",
    "edits": "users in a request (200; 2500 for mass-update, at most 10000)",
    "body_bytes": "size of a request at most, such as 8MB (4MB; 8MB for mass-update)",
}
"""Setting -> what it means, and its default."""


def _number(name: str, text: str, allowed: range) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _refusal(name, _numbers(allowed))
    return int(text)


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except ConfigError:
        raise _refusal("body_bytes", _sizes()) from None


def _sizes() -> str:
    least, most = format_bytes(_BODY.start), format_bytes(_BODY.stop - 1)
    return f"a size from {least} to {most}, such as 4MB"


def _numbers(allowed: range) -> str:
    return f"a number from {allowed.start} to {allowed.stop - 1:,}"


def _refusal(name: str, allowed: str) -> ConfigError:
    return ConfigError(f"the setting '{name}' of batch-cep must be {allowed}")
