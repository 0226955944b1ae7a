"""What was decided, shown and saved."""

from __future__ import annotations

import pytest

from ingest.columns import Plan, Shown
from ingest.errors import ConfigError, InputError
from tests.columns.tables import plan_of

MAPPING = {
    "columns": {"n": {"on_bad_field": "drop"}, "x": {"drop": True}},
    "constants": {"source": "shop"},
    "templates": {"name": "{what}"},
}


def test_a_plan_is_shown_with_samples_and_saved_without() -> None:
    """Cells are personal data: the saved form has the names of columns only."""
    plan = plan_of("email,n,x,what", ("a@b.c", "77", "s", "w"), kind="event", mapping=MAPPING)
    assert plan.shown() == [
        Shown("email", "email", "string", "says whose record it is", ("a@b.c",)),
        Shown("n", "properties.n", "number", "every cell is a number", ("77",)),
        Shown("x", "", "", "dropped, as told", ()),
        Shown("what", "", "", "a part of a template", ()),
        Shown("", "properties.source", "constant", "the same in every record", ()),
        Shown("{what}", "name", "string", "a template", ()),
    ]
    saved = plan.to_dict()
    assert saved == {
        "v": 1,
        "kind": "event",
        "null_text": "null",
        "columns": {
            "email": {"to": "email", "type": "string"},
            "n": {"to": "properties.n", "type": "number", "on_bad_field": "drop"},
            "x": {"drop": True},
            "what": {"drop": True},
        },
        "constants": {"source": "shop"},
        "templates": {"name": "{what}"},
    }
    assert Plan.from_dict(saved).to_dict() == saved


def test_a_zone_and_types_are_saved() -> None:
    """Where there are any."""
    saved = plan_of("email,a", timezone="UTC", typed=True, null_text="").to_dict()
    assert (saved["timezone"], saved["typed"], saved["null_text"]) == ("UTC", True, "")
    assert Plan.from_dict(saved).to_dict() == saved


def test_a_saved_plan_is_fit_for_toml() -> None:
    """It has tables, arrays and scalars, and no null, which TOML has not."""

    def fits(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and fits(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(fits, value))
        return isinstance(value, (str, int, float, bool))

    assert fits(plan_of("email,n,x,what", kind="event", mapping=MAPPING).to_dict())


def test_a_mapping_for_a_file_alone_is_no_plan() -> None:
    """It needs a kind, and columns that make a table."""
    with pytest.raises(ConfigError, match="says its 'kind'"):
        Plan.from_dict({"columns": {"email": {}}})
    with pytest.raises(InputError, match="no header"):
        Plan.from_dict({"kind": "event"})
