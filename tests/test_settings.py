"""What people write is read strictly, and answered in sentences that never hold a secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import ConfigError
from ingest.settings import (
    MAX_SECRET_BYTES,
    format_bytes,
    format_duration,
    optional,
    parse_bytes,
    parse_duration,
    parse_in_flight,
    parse_share,
    secret,
)

KEY = "s3cr3t-k3y"


def test_a_secret_comes_from_its_variable_or_its_file(tmp_path: Path) -> None:
    """Either source gives the bare value: an editor's final newline and its mark go."""
    path = tmp_path / "key"
    assert secret({"API_KEY": KEY}, "API_KEY") == KEY
    assert secret({"API_KEY": KEY + "\n"}, "API_KEY") == KEY
    for text in (KEY, KEY + "\n", KEY + "\r\n", "\ufeff" + KEY):
        path.write_text(text, encoding="utf-8", newline="")
        assert secret({"API_KEY_FILE": str(path)}, "API_KEY") == KEY


def test_an_optional_secret_may_be_absent_but_not_wrong() -> None:
    """Absent is None; present, it is held to the same rules."""
    assert optional({}, "API_KEY") is None
    assert optional({"API_KEY": KEY}, "API_KEY") == KEY
    with pytest.raises(ConfigError, match="API_KEY is empty"):
        optional({"API_KEY": ""}, "API_KEY")


def environments(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Every way to get a secret wrong, by what the sentence says."""
    files = {"empty": b" \n", "binary": b"\xff" + KEY.encode(), "two": f"{KEY}\n{KEY}".encode()}
    files["large"] = KEY.encode() * MAX_SECRET_BYTES
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return {
        "API_KEY is not set: export it": {"OTHER": KEY},
        "API_KEY and API_KEY_FILE are both set": {"API_KEY": KEY, "API_KEY_FILE": KEY},
        "API_KEY is empty": {"API_KEY": "\n"},
        "API_KEY is empty: set the file": {"API_KEY_FILE": str(tmp_path / "empty")},
        "API_KEY holds a line break": {"API_KEY": f"{KEY}\n{KEY}"},
        "control character.*look at the file": {"API_KEY_FILE": str(tmp_path / "two")},
        "API_KEY_FILE names cannot be read: it is not text": {
            "API_KEY_FILE": str(tmp_path / "binary")
        },
        "it has more than 65.5 KB": {"API_KEY_FILE": str(tmp_path / "large")},
        "cannot be read: No such file": {"API_KEY_FILE": KEY},
        "cannot be read: the name is not a path": {"API_KEY_FILE": KEY + "\0"},
    }


def test_a_secret_that_cannot_be_used_is_an_error_without_its_value(tmp_path: Path) -> None:
    """Each sentence says what to do, and neither the value nor a path, which may be the key."""
    for words, environ in environments(tmp_path).items():
        with pytest.raises(ConfigError, match=words) as told:
            secret(environ, "API_KEY")
        assert KEY not in str(told.value)
        assert told.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("96MB", 96_000_000),
        ("96 mb", 96_000_000),
        ("1.5GB", 1_500_000_000),
        ("2TB", 2 * 10**12),
        ("64KiB", 65_536),
        ("1GiB", 2**30),
        ("10kb", 10_000),
        (" 1000 ", 1000),
        ("7B", 7),
        (4096, 4096),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    """Powers of ten, powers of two where the unit says so, plain bytes without one."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("1.5s", 1.5),
        ("2h", 7200),
        ("90", 90),
        (90, 90),
        (0.5, 0.5),
        ("250ms", 0.25),
        ("1d", 86400),
        ("1h 5m", 3900),
        ("1h30m", 5400),
        ("0", 0),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    """Seconds where no unit is said; units may follow one another."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "share"),
    [("80%", 0.8), (0.8, 0.8), ("0.8", 0.8), ("100 %", 1), (1, 1), ("0.5%", 0.005)],
)
def test_shares(text: str | float, share: float) -> None:
    """Percent with its sign, or a part of one."""
    assert parse_share(text) == pytest.approx(share)


def test_requests_in_flight() -> None:
    """A number, or None for the word that leaves it to the control."""
    assert [parse_in_flight(text) for text in ("adaptive", "20", 1, "1000")] == [None, 20, 1, 1000]


@pytest.mark.parametrize(
    ("parse", "texts", "example"),
    [
        (parse_bytes, ["", "MB", "0", "-1MB", "96M", "9" * 400, "1e9", "inf", True], "96MB"),
        (parse_duration, ["", "m", "-1s", "1w", "nan", "5 m m", "1:30", "9" * 400, True], "30m"),
        (parse_share, ["", "0", "0%", "101%", "80", 1.5, "-1%", "nan", True], "80%"),
        (parse_in_flight, ["", "0", "1001", "2.5", "auto", "-3", "²", True], "20"),
    ],
)
def test_anything_else_is_refused_with_the_option_and_an_example(
    parse: Callable[..., object], texts: list[object], example: str
) -> None:
    """The sentence begins with what was meant, and ends with something that works."""
    for text in texts:
        with pytest.raises(ConfigError, match=f"^--opt is .* must be .*such as {example}[.]$"):
            parse(text, what="--opt")
    parse(example)


@given(st.integers(1, 10**16))
def test_a_size_shown_is_the_size_to_three_digits(size: int) -> None:
    """What is printed can be typed, and means the same, half of the third digit aside."""
    assert parse_bytes(format_bytes(size)) == pytest.approx(size, rel=0.00501)


@given(st.floats(0.0005, 10**7))
def test_a_duration_shown_is_the_duration(seconds: float) -> None:
    """What is printed can be typed, and is right to its second unit."""
    shown = format_duration(seconds)
    assert parse_duration(shown) == pytest.approx(seconds, rel=0.06, abs=0.0006)
    assert not {"60s", "60m", "24h", "1000ms"} & set(shown.split())


def test_shown_values() -> None:
    """Few digits, no needless zeros."""
    sizes = {1: "1 B", 999: "999 B", 1000: "1 KB", 96_000_000: "96 MB", 1_234_567: "1.23 MB"}
    sizes |= {999_499: "999 KB", 999_500: "1 MB", 9_996: "10 KB", 100_000: "100 KB"}
    assert {size: format_bytes(size) for size in sizes} == sizes
    times = {0: "0ms", 0.25: "250ms", 0.9997: "1s", 1.5: "1.5s", 5.0: "5s", 9.96: "10s", 59.6: "1m"}
    times |= {90: "1m 30s", 3599.7: "1h", 3900: "1h 5m", 3629: "1h", 86400: "1d", 90000: "1d 1h"}
    assert {seconds: format_duration(seconds) for seconds in times} == times
