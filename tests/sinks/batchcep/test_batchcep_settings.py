"""What a user may choose about Batch CEP."""

from __future__ import annotations

import pytest

from ingest.errors import ConfigError
from ingest.sinks.batchcep.settings import MEANINGS, BatchCepSettings


def test_settings_are_read_from_text() -> None:
    """Each of them may be set on the command line."""
    settings = BatchCepSettings.of(
        {
            "version": "2.13",
            "purchase_event": "validated_purchase",
            "urls": "image_url, Site ,",
            "subscribed": "reset",
            "phones": "any",
            "events_per_edit": "10",
            "attributes_per_edit": " 40",
            "edits": "100",
        }
    )
    assert settings == BatchCepSettings(
        version="2.13",
        purchase_event="validated_purchase",
        urls=("image_url", "Site"),
        subscribed="reset",
        phones="any",
        events_per_edit=10,
        attributes_per_edit=40,
        edits=100,
    )


def test_every_setting_has_a_meaning() -> None:
    """What can be set is documented, and the other way round."""
    assert tuple(MEANINGS) == BatchCepSettings.__struct_fields__
    assert BatchCepSettings.of({}) == BatchCepSettings()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("version", "2", "two numbers"),
        ("version", "2.11/x", "two numbers"),
        ("purchase_event", "Order Paid", "a-z, 0-9 and underscore"),
        ("urls", "x" * 31, "1 to 30"),
        ("subscribed", "ignore", "reject or reset"),
        ("phones", "all", "international or any"),
        ("events_per_edit", "0", "from 1 to 1,000"),
        ("attributes_per_edit", "9", "from 10 to 1,000"),
        ("edits", "10001", "from 1 to 10,000"),
        ("edits", "many", "from 1 to 10,000"),
        ("edits", "1" * 5000, "from 1 to 10,000"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(name: str, text: str, said: str) -> None:
    """The error names the setting and what is allowed."""
    with pytest.raises(ConfigError, match=f"'{name}' of batch-cep must be .*{said}"):
        BatchCepSettings.of({name: text})


def test_an_unknown_setting_is_refused() -> None:
    """The error names those there are."""
    with pytest.raises(ConfigError, match=r"unknown setting 'speed' .*version, purchase_event"):
        BatchCepSettings.of({"speed": "9"})
