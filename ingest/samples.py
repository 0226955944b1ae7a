"""Synthetic records for trials, demonstrations and benchmarks: the same for the same arguments.

This module decides what a sample looks like: every record is one that the destination takes without
an error or a warning, and carries its own number, so that copies can be counted. It knows neither
files nor requests. Record i depends on users, kinds, seed and i alone, so that a longer run begins
like a shorter one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ingest.codec import dumps
from ingest.errors import ConfigError
from ingest.records import KINDS

SAMPLE_NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
"""The end of the days that samples happened in; fixed, since samples do not depend on the day."""

SAMPLE_DAYS: Final = 30
"""Days before `SAMPLE_NOW` over which the times are spread."""

RECORDS_PER_USER: Final = 4
"""Records of a user on the average, where the number of users is not given."""

Fields = dict[str, Any]

_MASK: Final = (1 << 64) - 1
_DAYS: Final = tuple(
    (SAMPLE_NOW - timedelta(days=days)).strftime("%Y-%m-%d")
    for days in range(1, SAMPLE_DAYS + 1)
)  # fmt: skip
_MINUTES: Final = tuple(f"T{hour:02}:{minute:02}:" for hour in range(24) for minute in range(60))
_SECONDS: Final = tuple(f"{second:02}Z" for second in range(60))

_NAMES: Final = (
    ("Ada", "Lovelace", "GB", "en", "London"),
    ("Zoë", "Brontë", "US", "en", "New York"),
    ("José", "Núñez", "MX", "es", "Ciudad de México"),
    ("Jürgen", "Weiß", "DE", "de", "Köln"),
    ("Łukasz", "Żółć", "PL", "pl", "Łódź"),
    ("Мария", "Иванова", "BG", "bg", "София"),
    ("Αλέξης", "Παπαδόπουλος", "GR", "el", "Αθήνα"),
    ("李", "小龍", "TW", "zh", "臺北"),
    ("さくら", "田中", "JP", "ja", "東京"),
    ("지민", "김", "KR", "ko", "서울"),
    ("فاطمة", "الزهراء", "EG", "ar", "القاهرة"),
    ("प्रिया", "शर्मा", "IN", "hi", "मुंबई"),
    ("נועה", "לוי", "IL", "he", "חיפה"),
    ("Chloé", "D'Aubigné", "FR", "fr", "Orléans"),
    ("สมชาย", "ใจดี", "TH", "th", "กรุงเทพฯ"),
    ("Nguyễn", "Thị Hoa", "VN", "vi", "Đà Nẵng"),
)
_PLANS: Final = ("free", "basic", "pro", "family", "business")
_TAGS: Final = (
    "sale",
    "new in",
    "outlet",
    "vegan",
    "vinyl",
    "running",
    "câmera",
    "本",
    "☕",
    "garden",
)
_TITLES: Final = (
    "Alien",
    "Amélie",
    "Оно",
    "千と千尋の神隠し",
    "Das Boot",
    "기생충",
    "Roma",
    "Léon 🎬",
)
_EVENTS: Final = (
    "viewed_product",
    "added_to_list",
    "rented_movie",
    "searched",
    "opened_app",
    "completed_level",
    "shared_article",
    "contacted_support",
)
_PRODUCTS: Final = tuple(f"sku-{number:04}" for number in range(400))
_CURRENCIES: Final = (
    ("USD", 100), ("EUR", 100), ("GBP", 100), ("JPY", 1), ("BRL", 100), ("INR", 100), ("CHF", 100)
)  # fmt: skip
"""Currencies with the parts that one unit has."""


def samples(
    n: int,
    *,
    users: int | None = None,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    bare: bool = False,
) -> Iterator[bytes]:
    """Yield `n` NDJSON lines, each with its newline: enveloped records, or `bare` objects.

    `kinds` are drawn evenly. Of `users` (by default one for four records) some 3 % are known by an
    alias and 1 % by their e-mail alone. Raises `ConfigError` for numbers or kinds that make no
    sense, before the first line.
    """
    if n < 0:
        raise ConfigError(f"The number of samples is {n}, and must be 0 or more; such as 1000.")
    users = max(1, n // RECORDS_PER_USER) if users is None else users
    if users < 1:
        raise ConfigError(f"The number of users is {users}, and must be 1 or more; such as 100.")
    if not kinds or (unknown := [kind for kind in kinds if kind not in _MAKERS]):
        named = ", ".join(unknown) if kinds else "no kind at all"
        raise ConfigError(f"Samples of {named} cannot be made: choose among {', '.join(KINDS)}.")
    return _lines(n, users, tuple(kinds), seed, bare)


def _lines(n: int, users: int, kinds: tuple[str, ...], seed: int, bare: bool) -> Iterator[bytes]:
    start = _mixed(seed * 2 + 1)
    makers = [_MAKERS[kind] for kind in kinds]
    openings = [b"" if bare else b'{"%s":' % kind.encode() for kind in kinds]
    end = b"\n" if bare else b"}\n"
    for number in range(n):
        luck, kind = divmod(_mixed(start + number), len(kinds))
        luck, user = divmod(luck, users)
        yield openings[kind] + dumps(makers[kind](number, user, _mixed(luck))) + end


def _mixed(x: int) -> int:
    """Return 64 bits that look like dice (the finaliser of splitmix64)."""
    x = (x * 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _identity(user: int) -> Fields:
    """Return who a user is: always the same for the same number, 3 % an alias, 1 % an e-mail."""
    match (user * 7 + 50) % 100:
        case 0 | 1 | 2:
            alias = {"alias_name": f"visitor-{user}", "alias_label": "web"}
            return {"user_alias": alias, "_update_existing_only": False}
        case 3:
            return {"email": f"user{user}@example.com"}
        case _:
            return {"external_id": f"user-{user}"}


def _time(luck: int) -> str:
    luck, day = divmod(luck, SAMPLE_DAYS)
    luck, minute = divmod(luck, 1440)
    return _DAYS[day] + _MINUTES[minute] + _SECONDS[luck % 60]


def _attributes(number: int, user: int, luck: int) -> Fields:
    fields = _identity(user)
    fields["sample"] = number
    luck, shape = divmod(luck, len(_SHAPES))
    fields.update(_SHAPES[shape](user, luck))
    return fields


def _person(user: int, luck: int) -> Fields:
    first, last, country, language, city = _NAMES[luck % len(_NAMES)]
    return {
        "first_name": first,
        "last_name": last,
        "email": f"user{user}@example.com",
        "country": country,
        "language": language,
        "home_city": city,
        "dob": f"{1950 + luck % 55}-{luck % 12 + 1:02}-{luck % 28 + 1:02}",
        "email_subscribe": ("opted_in", "subscribed", "unsubscribed")[luck % 3],
    }


def _counters(user: int, luck: int) -> Fields:
    return {
        "visits": {"inc": luck % 5 + 1},
        "credits": {"inc": -(luck % 9) - 1},
        "last_seen": _time(luck),
        "plan": _PLANS[luck % 5],
    }


def _added(user: int, luck: int) -> Fields:
    return {"interests": {"add": _two_tags(luck)}, "newsletter": luck & 16 == 0}


def _removed(user: int, luck: int) -> Fields:
    return {"interests": {"remove": [_TAGS[luck % len(_TAGS)]]}, "score": luck % 10_000 / 100}


def _nested(user: int, luck: int) -> Fields:
    return {
        "loyalty": {
            "tier": ("bronze", "silver", "gold")[luck % 3],
            "points": luck % 5000,
            "since": {"$time": _time(luck)},
        },
        "plan": _PLANS[luck % 5],
    }


def _merged(user: int, luck: int) -> Fields:
    return {
        "_merge_objects": True,
        "loyalty": {"points": luck % 5000, "card": {"active": luck & 1 == 0, "digits": 4}},
    }


def _arrays(user: int, luck: int) -> Fields:
    return {
        "favourite_sizes": [36 + luck % 10, 36 + luck % 7],
        "interests": _two_tags(luck),
        "balance": luck % 100_000 / 100,
        "is_member": luck & 1 == 0,
    }


def _wide(user: int, luck: int) -> Fields:
    fields = _person(user, luck)
    fields.update(plan=_PLANS[luck % 5], lifetime_value=luck % 1_000_000 / 100, is_member=True)
    fields["signup_date"] = _time(luck)
    return fields


_SHAPES: Final[tuple[Callable[[int, int], Fields], ...]] = (
    _person, _counters, _added, _removed, _nested, _merged, _arrays, _wide
)  # fmt: skip


def _two_tags(luck: int) -> list[str]:
    return [_TAGS[luck % 5], _TAGS[5 + luck // 5 % 5]]


def _event(number: int, user: int, luck: int) -> Fields:
    fields = _identity(user)
    properties: Fields = {"sample": number}
    if luck & 1:
        properties["title"] = _TITLES[luck % len(_TITLES)]
        properties["seconds"] = luck % 3600
    if luck & 2:
        properties["position"] = luck % 10_000 / 10_000
        properties["from_search"] = luck & 4 == 0
    if luck & 24 == 0:
        properties["filters"] = _two_tags(luck)
        properties["device"] = {"os": ("ios", "android", "web")[luck % 3], "year": 2026 - luck % 9}
    fields["name"] = _EVENTS[luck % len(_EVENTS)]
    fields["time"] = _time(luck >> 8)
    fields["properties"] = properties
    return fields


def _purchase(number: int, user: int, luck: int) -> Fields:
    fields = _identity(user)
    currency, parts = _CURRENCIES[luck % len(_CURRENCIES)]
    price = luck % 50_000 + 99
    fields["product_id"] = _PRODUCTS[luck % len(_PRODUCTS)]
    fields["currency"] = currency
    fields["price"] = price if parts == 1 else price / parts
    if luck & 1:
        fields["quantity"] = luck % 5 + 1
    fields["time"] = _time(luck >> 8)
    fields["properties"] = {"sample": number, "gift": luck & 6 == 0, "size": "SMLX"[luck % 4]}
    return fields


_MAKERS: Final = {"attributes": _attributes, "event": _event, "purchase": _purchase}
