"""What people may say of columns, and how they are told what they may not."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from ingest.columns import parsed_types
from ingest.columns.mapping import Piece, Told, parsed_rules, pieces_of
from ingest.errors import ConfigError


def test_a_whole_mapping_is_read() -> None:
    """Every key, and constants by both ways to write a path."""
    rules = parsed_rules(
        {
            "kind": "events",
            "timezone": "Europe/Paris",
            "null_text": "",
            "columns": {
                "user_id": {"to": "external_id"},
                "n": {"type": "int", "on_bad_field": "drop"},
                "secret": {"drop": True},
            },
            "constants": {
                "app_id": "a",
                "properties": {"day": date(2024, 1, 31), "list": [1, 0.5, True, {"a": "b"}]},
                "properties.at": datetime(2024, 1, 31, 10),
            },
            "templates": {"name": "{event}"},
        }
    )
    assert (rules.kind, rules.timezone, rules.null_text) == ("event", "Europe/Paris", "")
    assert rules.columns["n"] == Told(type="integer", on_bad_field="drop")
    assert rules.columns["secret"].drop
    assert rules.constants == {
        "app_id": "a",
        "properties.day": "2024-01-31",
        "properties.list": [1, 0.5, True, {"a": "b"}],
        "properties.at": "2024-01-31T10:00:00",
    }
    assert rules.templates == {"name": "{event}"}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"colums": {}}, "'colums': it may have kind, "),
        ({"v": 2}, "another version"),
        ({"kind": "catalog"}, "'kind' of the mapping must be one of attributes"),
        ({"kind": ["event"]}, "'kind'"),
        ({"timezone": 1}, "'timezone' of the mapping must be a text"),
        ({"typed": 1}, "'typed' of the mapping must be true or false"),
        ({"columns": []}, "'columns' of the mapping must be a table"),
        ({"columns": {"a": "b"}}, "'a' of the mapping must be a table with to, type"),
        ({"columns": {"a": {"name": "b"}}}, "'a' of the mapping has a key 'name'"),
        ({"columns": {"a": {"to": 1}}}, "'to' of .*'a'.* must be a text"),
        ({"columns": {"a": {"to": "b..c"}}}, "'to' of .*'a'.* has an empty name"),
        ({"columns": {"a": {"to": "_b"}}}, "'to' of .*'a'.* begins with an underscore"),
        ({"columns": {"a": {"type": "money"}}}, "'type' of .*'a'.* must be one of string"),
        ({"columns": {"a": {"type": 1}}}, "'type' of .*'a'.* must be one of string"),
        ({"columns": {"a": {"drop": "yes"}}}, "'drop' of .*'a'.* must be true or false"),
        ({"columns": {"a": {"drop": True, "to": "b"}}}, "'a'.* is dropped"),
        ({"columns": {"a": {"on_bad_field": "truncate"}}}, "must be one of reject, drop"),
        ({"constants": {"payload": "{}"}}, "'payload'.* differs from row to row"),
        ({"constants": {"a": float("nan")}}, "'a' of the mapping must be a text, a number"),
        ({"constants": {"a": 2**64}}, "'a' of the mapping must be a text, a number"),
        ({"constants": {"a": ["\ud800"]}}, "'a' of the mapping must be a text, a number"),
        ({"constants": {"a": [{"\ud800": 1}]}}, "'a' of the mapping must be a text, a number"),
        ({"constants": {"a.b": 1, "a": {"b": 2}}}, "'a.b' twice"),
        ({"templates": {"name": 1}}, "'name' of the mapping must be a text such as {event}"),
        ({"templates": {"name": "view"}}, "'name' of the mapping names no column"),
        ({"templates": {"name": "{a"}}, "'name' of the mapping has a brace alone"),
    ],
)
def test_what_a_mapping_may_not_hold(mapping: dict[str, Any], said: str) -> None:
    """Every complaint names the key, and what is allowed."""
    with pytest.raises(ConfigError, match=said):
        parsed_rules(mapping)


def test_a_template_is_cut_at_its_columns() -> None:
    """A brace that is written twice is one."""
    assert pieces_of("{{{a}-{b c}}}", "t") == (
        Piece("{"),
        Piece(column="a"),
        Piece("-"),
        Piece(column="b c"),
        Piece("}"),
    )


def test_types_are_a_list_of_pairs() -> None:
    """With the names people use, and any space; a name may hold an equals sign."""
    told = {"zip": "string", "joined": "date", "a=b": "number"}
    assert parsed_types(" zip=text, joined = DateTime ,a=b=float,") == told
    assert parsed_types("") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [("zip", "list of COLUMN=TYPE"), ("=int", "list of"), ("a=x", "'a' in --types must be one of")],
)
def test_types_that_are_none_are_refused(text: str, said: str) -> None:
    """With a sentence that names the column, or shows the form."""
    with pytest.raises(ConfigError, match=said):
        parsed_types(text)


def test_a_column_has_one_type() -> None:
    """Of two, neither is taken in silence."""
    with pytest.raises(ConfigError, match="'a' twice"):
        parsed_types("a=int,a=string")
