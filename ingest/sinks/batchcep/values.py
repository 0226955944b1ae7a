"""Values for Batch CEP: names that become slugs, texts that become dates, what a profile holds.

Decides what one field becomes and what is wrong with it. Does not know which fields a record of a
kind has (`ingest.sinks.batchcep.translation`).
"""

from __future__ import annotations

import re
from typing import Any, Final

from ingest.sinks.batchcep.names import SLUG_CHARS, Names, slug
from ingest.sinks.batchcep.rules import MAX_DEPTH, MAX_NUMBER, MAX_TEXT, MAX_URL, problem
from ingest.sinks.batchcep.settings import BatchCepSettings
from ingest.sinks.batchcep.times import as_date
from ingest.validation.problems import Findings, Step

Path = tuple[Step, ...]

ATTRIBUTE_NAMES: Final = "attribute"
EVENT_NAMES: Final = "event"
PROPERTY_NAMES: Final = "property"
"""The spaces in which a name must be unique."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_LINK: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://")
"""How a text begins that is good for nothing if it is cut."""

_OPERATORS: Final = {"add": "$add", "remove": "$remove"}


class Work:
    """The translation of one record: what was found, and which names it wants to take."""

    __slots__ = ("claims", "found", "names", "settings", "urls")

    def __init__(self, settings: BatchCepSettings, urls: frozenset[str], names: Names) -> None:
        self.settings = settings
        self.urls = urls
        self.names = names
        self.found = Findings()
        self.claims: dict[tuple[str, str], str] = {}  # space and slug -> name of the source

    def add(
        self, code: str, *path: Step, short: str = "", other: str = "", cut: bool = True
    ) -> None:
        """Note a finding."""
        self.found.put(problem(code, *path, short=short, other=other, cut=cut))

    # names

    def name(
        self, space: str, path: Path, name: str, used: dict[str, str], within: tuple[str, str]
    ) -> str:
        """Return the slug of a key, which may be used once in its object.

        `used` are the slugs of that object, and `within` the slugs and the names that lead to it:
        what is unique in a run is the way to a value. A key that is refused takes no slug, so that
        it keeps none back that is good.
        """
        short = slug(name)
        way, source = within[0] + short, within[1] + name
        holder = self.names.holder(space, way)
        if holder is not None and holder != source:
            self.add("name-taken", *path, short=way, other=holder)
        elif short in used:
            self.add("name-collision", *path, short=way, other=used[short])
        elif not 0 < len(short) <= SLUG_CHARS:
            used[short] = name  # on trust it is sent
            self.add("long-name", *path)
        elif self.claims.get((space, way), source) != source:  # in another object of a list
            self.add("name-collision", *path, short=way, other=self.claims[space, way])
        elif holder is None and not self.names.has_room(way, source):
            self.add("too-many-names", *path)
        else:
            used[short] = name
            if holder is None:
                self.claims[space, way] = source
        return short

    def event_name(self, name: str, source: str) -> None:
        """Take a slug for the event `source`, which is no text of a report: it is a value."""
        holder = self.names.holder(EVENT_NAMES, name)
        if holder is None:
            if not self.names.has_room(name, source):
                self.add("too-many-event-names", "name")
            self.claims[EVENT_NAMES, name] = source
        elif holder != source:
            self.add("event-name-collision", "name")

    # single values

    def scalar(self, path: Path, name: str, value: Any) -> tuple[str, Any]:
        """Return key and value of a text, a number or a truth value: the type may be in the key."""
        if isinstance(value, str):
            if name in self.urls:
                if not _URL.fullmatch(value) or len(value) > MAX_URL:
                    self.add("bad-url", *path)
                return f"url({name})", value
            date = as_date(value)
            if date is not None:
                return f"date({name})", date
            self.text(path, value)
        elif not isinstance(value, bool) and not -MAX_NUMBER < value < MAX_NUMBER:
            self.add("bad-number", *path)
        return name, value

    def text(self, path: Path, value: str) -> None:
        """Note a text that is empty or too long."""
        if not value:
            self.add("empty-string", *path)
        elif len(value) > MAX_TEXT:
            self.add("long-string", *path, cut=not _LINK.match(value))

    def texts(self, path: Path, values: list[Any], otherwise: str = "bad-array") -> None:
        """Note a list that holds anything but texts, and what is wrong with each of them."""
        if not all(isinstance(value, str) for value in values):
            self.add(otherwise, *path)
            return
        for i, value in enumerate(values):
            self.text((*path, i), value)

    # attributes of a profile

    def attribute(self, name: str, value: Any, used: dict[str, str]) -> tuple[str, Any]:
        """Return key and value of a custom attribute; a null deletes, whatever its type was."""
        path = (name,)
        short = self.name(ATTRIBUTE_NAMES, path, name, used, ("", ""))
        if value is None:
            return short, None
        if isinstance(value, list):
            self.texts(path, value)
            return short, value
        if isinstance(value, dict):
            return short, self._operator(path, value)
        return self.scalar(path, short, value)

    def _operator(self, path: Path, value: dict[str, Any]) -> Any:
        """Translate what adds to a list and removes from it; nothing else is in an object."""
        names = value.keys()
        if names == {"inc"}:
            self.add("no-increment", *path)
        elif names == _OPERATORS.keys():
            self.add("two-operators", *path)
        elif len(names) == 1 and names <= _OPERATORS.keys():
            (name,) = names
            operand = value[name]
            if isinstance(operand, list):
                self.texts((*path, name), operand, "odd-operator")
            else:
                self.add("odd-operator", *path)
            return {_OPERATORS[name]: operand}
        else:
            self.add("nested-object", *path)
        return value

    # attributes of an event

    def properties(
        self,
        path: Path,
        source: dict[str, Any],
        into: dict[str, Any],
        used: dict[str, str],
        within: tuple[str, str] = ("", ""),
        depth: int = 0,
    ) -> dict[str, Any]:
        """Put the properties of an event, or an object in them, into `into`; return that."""
        for name, value in source.items():
            here = (*path, name)
            if value is None:
                self.add("null-property", *here)
            if name.startswith("$"):
                self.add("bad-property-name", *here)
            short = self.name(PROPERTY_NAMES, here, name, used, within)
            below = (f"{within[0]}{short}.", f"{within[1]}{name}.")
            if isinstance(value, dict):
                into[short] = self._object(here, value, below, depth + 1)
            elif isinstance(value, list):
                into[short] = self._list(here, value, below, depth + 1)
            elif value is None:
                into[short] = None
            else:
                key, value = self.scalar(here, short, value)
                into[key] = value
        return into

    def _object(self, path: Path, value: dict[str, Any], below: tuple[str, str], depth: int) -> Any:
        if depth > MAX_DEPTH:
            self.add("deep-object", *path)
            return value
        return self.properties(path, value, {}, {}, below, depth)

    def _list(self, path: Path, values: list[Any], below: tuple[str, str], depth: int) -> Any:
        if values and all(isinstance(value, dict) for value in values):
            return [self._object((*path, i), value, below, depth) for i, value in enumerate(values)]
        self.texts(path, values)
        return values
