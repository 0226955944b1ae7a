"""Text of a destination, made fit to be shown: redacted, on one line, capped, and masked.

Such text is hostile until proven otherwise: it may echo the credential, and it may echo a record.
`quote` is the only way from there into a reason, and `masked` the only way from there into what is
counted and reported. It does not know what an answer means, nor where its text is shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from ingest import codec
from ingest.validation.profile import PROFILE

REASON_CHARS: Final = 300
"""Longest text of a destination that is passed on, in characters: a sentence, not a page."""

QUOTED_CHARS: Final = 8192
"""Most characters of a text that are looked at to make a reason of it."""

MASKED_CHARS: Final = 160
"""Longest masked sentence, in characters: a line of a report, beside the words of ours."""

SLUG_CHARS: Final = 60
"""Longest slug of a sentence, in characters: what a column of a report still holds."""

LONGEST_WORD: Final = 20
"""Letters of a word that may be one of a sentence; ids and tokens are longer."""

REDACTED: Final = "[redacted]"

MASK: Final = "…"
"""Stands for what could be a value of a record."""


class HasBody(Protocol):
    """An answer, as far as it is read here."""

    @property
    def body(self) -> bytes: ...


# --- redacting and quoting ----------------------------------------------------------------------


_ECHOED: Final = re.compile(
    r"""(?i)(\b(?:api|app)[ _-]?(?:key|group[ _-]?id)["']?\s*[:=]\s*["']?|\bbearer\s+)[^\s"',}]+"""
)
"""A credential by what stands before it, such as `Invalid API key: ...`."""
_TITLE: Final = re.compile(r"(?i)<title[^>]{0,100}>([^<]{1,200})")


def redact(text: str, secrets: Sequence[str]) -> str:
    """Replace every secret, in any letter case, and whatever follows a credential's name."""
    lower = text.lower()
    # The longest first: one may be a part of another, of which the rest would stay.
    for secret in sorted(secrets, key=len, reverse=True):
        if secret and secret.lower() in lower:  # a look is cheap, and nearly always enough
            text = re.sub(re.escape(secret), REDACTED, text, flags=re.IGNORECASE)
    return _ECHOED.sub(rf"\1{REDACTED}", text)


def quote(text: str, secrets: Sequence[str], chars: int = REASON_CHARS) -> str:
    """Make text of a destination fit to show: one line, no control characters, no secret, capped.

    Redacts before it cuts, so that no half of a secret is left over.
    """
    return _capped(_harmless(text, secrets), chars)


def _harmless(text: str, secrets: Sequence[str]) -> str:
    """Return the beginning of a text as one printable line without a secret, or a part of one."""
    window = text[:QUOTED_CHARS]  # a huge answer must not cost time
    shown = redact(window, secrets)
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in shown)
    # Again: what is taken out may have stood in the middle of a secret.
    shown = redact(" ".join(shown.split()), secrets)
    if len(window) < len(text):
        # Where the window ends, half a secret may stand that was not found as one.
        shown = shown[: max(0, len(shown) - max(map(len, secrets), default=0))]
    return shown


def _capped(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"


# --- the body of an answer ----------------------------------------------------------------------


class Body(msgspec.Struct, frozen=True):
    """The body of an answer: `value` if it is JSON (else None), and what it says, fit to show."""

    value: Any
    is_json: bool
    says: str

    @property
    def fields(self) -> Mapping[str, Any]:
        """The JSON object, or an empty one for anything else."""
        return self.value if isinstance(self.value, dict) else {}


def read_body(response: HasBody, secrets: Sequence[str]) -> Body:
    """Read the body as JSON, and its message as text, if it has any. Never raises."""
    try:
        value = codec.loads(response.body)
    except ValueError:
        return Body(None, False, _says_text(response.body, secrets))
    return Body(value, True, quote(_message(value), secrets))


def _message(value: Any) -> str:
    """Find the sentence in the error bodies that are around, else the first plain strings."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    for name in ("message", "error_message", "error", "detail", "title"):
        if isinstance(text := value.get(name), str) and text:
            return text
    errors = value.get("errors")
    if isinstance(errors, list):
        return "; ".join(error for error in errors[:3] if isinstance(error, str))
    return ""


def _says_text(body: bytes, secrets: Sequence[str]) -> str:
    # Free of secrets before the title is looked for: it may end in the middle of one.
    text = _harmless(body.decode("utf-8", "replace"), secrets)
    if "<" not in text:
        return _capped(text, REASON_CHARS)
    title = _TITLE.search(text)
    return f"an HTML page titled '{title[1].strip()}'" if title else "an HTML page"


# --- masking ------------------------------------------------------------------------------------

FIELDS: Final = frozenset(PROFILE) | {
    *("alias_label", "alias_name", "appboy_id", "appboy_ids", "braze_ids", "external_ids"),
    *("external_user_id", "external_user_ids", "user_aliases", "recipients"),
    *("bio", "foursquare", "foursquare_access_token", "longitude", "latitude", "device_id"),
    *("name", "time", "properties", "product_id", "currency", "price", "quantity", "token"),
    *("inc", "add", "remove", "id", "type", "index", "input_array", "message", "errors"),
    *("attribute", "attributes", "event", "events", "purchase", "purchases", "update", "updates"),
    *("app_group_id", "api_key", "campaign_id", "subscription_state", "subscription_group_id"),
    *("custom_id", "string", "integer", "float", "number", "boolean", "array", "object", "null"),
}
"""Names that a sentence may quote: those of documented fields, and of the types of values."""

_QUOTED: Final = re.compile(
    r"""(?<!\w)'(?P<single>.*?)(?:'(?!\w)|\Z)|"(?P<double>.*?)(?:"|\Z)|`(?P<tick>.*?)(?:`|\Z)"""
    r"""|“(?P<curly>.*?)(?:”|\Z)|\u2018(?P<one>.*?)(?:\u2019|\Z)|«(?P<angle>.*?)(?:»|\Z)"""
    r"""|\[(?P<square>.*?)(?:\]|\Z)|\{(?P<brace>.*?)(?:\}|\Z)|<(?P<tag>.*?)(?:>|\Z)""",
    re.DOTALL,
)
"""What stands in quotes or brackets; without its end, all that follows. A single quote after a
letter is an apostrophe."""

_NAMES: Final = "|".join(sorted(map(re.escape, FIELDS), key=len, reverse=True))
_WORD: Final = re.compile(
    rf"\({{0,2}}(?:(?P<field>'(?:{_NAMES})'|{_NAMES})|(?P<word>[A-Z]?[a-z]+(?:['-][a-z]+)*|[A-Z]+))"
    r"[).,;:!?]{0,3}|[-.,;:!?()&/]{1,3}"
)
"""A token of a sentence that is none of a record: a field, an English word, punctuation."""


def masked(text: str) -> str:
    """Return a sentence of a destination without what could be a value of a record.

    Quoted words that name no documented field, digits, addresses, names with underscores or signs
    and long words are each replaced by `MASK`: complaints that differ by their record alone become
    one sentence. No secret may be in `text`; it may be longer than what is looked at. The result
    has no line break and at most `MASKED_CHARS` characters, and masking it changes nothing.

    A value that looks like a plain English word, in no quotes and after no colon, is not noticed.
    """
    window = text[:QUOTED_CHARS]
    tokens = _QUOTED.sub(_without_value, window).split()
    if len(window) < len(text):
        tokens[-1:] = [MASK]  # it may be the beginning of anything
    kept: list[str] = []
    for token in tokens:
        shown = token if _is_plain(token) else MASK
        if shown != MASK or kept[-1:] != [MASK]:
            kept.append(shown)
    if len(kept) > 1 and kept[-2].endswith(":") and not _is_field(kept[-1]):
        kept[-1] = MASK  # what was given, after what is wrong with it
    return _joined(kept)


def slug(sentence: str) -> str:
    """Return a code for a masked sentence: lower-case words with dashes, at most `SLUG_CHARS`.

    Empty if the sentence has no word.
    """
    words = re.sub("[^a-z]+", "-", sentence.lower()).strip("-")
    return words[:SLUG_CHARS].rstrip("-")


def _without_value(found: re.Match[str]) -> str:
    inside = found[found.lastgroup or 0]
    return f"'{inside}'" if inside in FIELDS else MASK


def _is_plain(token: str) -> bool:
    match = _WORD.fullmatch(token)
    return match is not None and len(match["word"] or "") <= LONGEST_WORD


def _is_field(token: str) -> bool:
    match = _WORD.fullmatch(token)
    return match is not None and match["field"] is not None


def _joined(tokens: Sequence[str]) -> str:
    """Join tokens by spaces; what would be over `MASKED_CHARS` is one mask at the end."""
    text = " ".join(tokens)
    if len(text) <= MASKED_CHARS:
        return text
    room = MASKED_CHARS - len(MASK) - 1
    # One character more shows whether the last word that fits is a whole one.
    return text[: room + 1].rpartition(" ")[0].removesuffix(f" {MASK}").rstrip() + f" {MASK}"
