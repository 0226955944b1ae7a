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
            "body_bytes": "8MB",
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
        body_bytes=8_000_000,
    )
    assert BatchCepSettings.of({"body_bytes": "2000000"}).body_bytes == 2_000_000


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
        ("body_bytes", "999KB", "from 1 MB to 64 MB"),
        ("body_bytes", "65MB", "from 1 MB to 64 MB"),
        ("body_bytes", "lots", "from 1 MB to 64 MB"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(name: str, text: str, said: str) -> None:
    """The error names the setting and what is allowed."""
    with pytest.raises(ConfigError, match=f"'{name}' of batch-cep must be .*{said}"):
        BatchCepSettings.of({name: text})
