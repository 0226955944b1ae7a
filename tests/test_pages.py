"""The pages in docs/ and deploy/: what they show can be read by what it is for."""

from __future__ import annotations

import re
import tomllib

import pytest

from ingest.configuration import parsed
from tests.deployed import (
    DEPLOY,
    ROOT,
)


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the code blocks of the pages in a language, with the place of each."""
    pages = [*sorted((ROOT / "docs").glob("*.md")), DEPLOY / "README.md"]
    return [
        (f"{page.name}-{at}", block)
        for page in pages
        for at, block in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S), 1
        )
    ]


@pytest.mark.parametrize("block", [pytest.param(text, id=at) for at, text in blocks("toml")])
def test_configurations_of_the_pages_are_read(block: str) -> None:
    """A block with a source and a sink is whole; another is put into the place of its tables."""
    whole = {"source": {"type": "stdin"}, "sink": {"type": "sandbox"}}
    given = tomllib.loads(block)
    text = block
    for name, table in whole.items():
        if name not in given:
            text += f'\n[{name}]\ntype = "{table["type"]}"\n'
    parsed(text, {}, name="a page")


@pytest.mark.parametrize("block", [pytest.param(text, id=at) for at, text in blocks("python")])
def test_programs_of_the_pages_are_python(block: str) -> None:
    """Each can be compiled by itself."""
    compile(block, "a page", "exec")
