"""Headers: what becomes of each column, and which tables are refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.columns import Options, Survey
from ingest.errors import ConfigError, InputError
from tests.columns.tables import plan_of


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("", "column 1 of the header has no name"),
        ("email,,b", "column 2 of the header has no name"),
        ("email,\ud800", "name of column 2 of the header is no valid text"),
        ("email,a, a ,a", "names 'a' 3 times"),
        ("ID,PAYLOAD", r"no column says whose record.*The columns are 'ID', 'PAYLOAD'"),
        ("EXTERNAL_ID,a", r"'EXTERNAL_ID' may be meant for 'external_id'"),
        ("External Id,a", r"'External Id' may be meant for 'external_id'"),
        (",".join(f"c{i}" for i in range(15)), "'c11' and 3 more"),
        ("email,a..b", r"'a..b' has an empty name.*--map"),
        ("email,external_id.x", "nests inside of 'external_id'"),
        ("email,address,address.city", "'address.city' and the column 'address' would both"),
        ("email,address.city,address", "'address' and the column 'address.city' would both"),
        ("alias_name,alias_label,user_alias_name", "would both be 'user_alias.alias_name'"),
        ("email,alias_name", "one part of an alias, 'user_alias.alias_name', and no 'alias_label'"),
        ("user_alias_label,a", "one part of an alias, .* and no 'alias_name'"),
        ("external_id,payload,plan", "'plan' stands beside it"),
        ("external_id,payload,_merge_objects", "'_merge_objects' stands beside it"),
    ],
)
def test_a_header_that_cannot_be(header: str, said: str) -> None:
    """Each is an error of the input that says what to change."""
    with pytest.raises(InputError, match=said):
        plan_of(header)


def test_a_table_without_a_header_is_refused() -> None:
    """There is nothing to go by."""
    with pytest.raises(InputError, match="no header"):
        Survey([], Options(kind="event"))


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"columns": {"b": {}}}, "the mapping names a column 'b' that the table has not"),
        ({"templates": {"x": "{b}"}}, "the template of 'x' names a column 'b'"),
        ({"columns": {"email": {"type": "number"}}}, "'email' says whose record it is"),
    ],
)
def test_a_mapping_that_is_not_of_the_header(mapping: dict[str, Any], said: str) -> None:
    """It is an error of the mapping."""
    with pytest.raises(ConfigError, match=said):
        plan_of("email,a", mapping=mapping)


@pytest.mark.parametrize(
    "mapping",
    [
        {"columns": {"a": {"to": "email"}}},
        {"constants": {"a": 1}},
        {"constants": {"a.b": 1}},
        {"templates": {"email": "{a}"}},
    ],
)
def test_a_mapping_puts_two_things_into_no_field(mapping: dict[str, Any]) -> None:
    """Renamed, constant or made by a template: one field has one source."""
    with pytest.raises(InputError, match="would both be"):
        plan_of("email,a,b", mapping=mapping)


def test_columns_have_their_places() -> None:
    """Names are stripped; notes are ignored, switches are kept, dots nest."""
    plan = plan_of(" external_id ,_reason,_line,_merge_objects,address.city,address.zip")
    assert plan.header[0] == "external_id"
    assert [(c.path, c.type) for c in plan.columns] == [
        (("external_id",), "string"),
        ((), ""),
        ((), ""),
        (("_merge_objects",), "boolean"),
        (("address", "city"), "string"),
        (("address", "zip"), "string"),
    ]


def test_a_part_of_a_template_is_sent_by_itself_if_told() -> None:
    """Else it is only the part."""
    said = {"templates": {"name": "{what}"}, "columns": {"what": {"to": "properties.what"}}}
    assert plan_of("email,what", kind="event", mapping=said).columns[1].path != ()
    del said["columns"]
    assert plan_of("email,what", kind="event", mapping=said).columns[1].path == ()


def test_a_constant_can_say_the_label_of_an_alias_or_the_user() -> None:
    """So a table needs no column that is the same in all rows."""
    label = {"constants": {"alias_label": "crm"}}
    assert plan_of("alias_name,a", mapping=label).columns[0].path == ("user_alias", "alias_name")
    assert plan_of("a", mapping={"constants": {"external_id": "u"}}).columns[0].path == ("a",)


def test_cdi_tables_may_have_their_own_time_column() -> None:
    """Of which nothing is sent; a payload can come from a column of another name."""
    plan = plan_of("UPDATED_AT,external_id,payload,_line")
    assert plan.cdi
    assert [c.path for c in plan.columns] == [(), ("external_id",), ("payload",), ()]
    said = {"columns": {"body": {"to": "payload"}, "x": {"drop": True}}}
    assert plan_of("email,body,x", mapping=said).cdi
    with pytest.raises(InputError, match="'a' stands beside it"):
        plan_of("email,payload", mapping={"constants": {"a": 1}})
    dropped = {"columns": {"payload": {"drop": True}}}
    assert not plan_of("email,payload,a", mapping=dropped).cdi
