"""Inputs of any form as one sequence of blocks: NDJSON, text tables and Parquet.

This module decides which form an input is of, by its first bytes and then its name, and keeps the
numbers of the inputs as they were named. All the rest is done by the source of each form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ingest.errors import InputError
from ingest.sources.base import Block, Start
from ingest.sources.dialects import UTF8, TableOptions
from ingest.sources.files import FileSource, lines_of
from ingest.sources.formats import Form, conclusive, form_of, refusal
from ingest.sources.inputs import Inputs
from ingest.sources.parquet import ParquetSource
from ingest.sources.paths import StrPath
from ingest.sources.rejects import Reasons, Rejects, write_rejects
from ingest.sources.rows import TEXT_BYTES
from ingest.sources.streams import Stream
from ingest.sources.table import Header, Table
from ingest.sources.tables import Beside, Columns, Progress, TableSource, encoded

_Source = FileSource | TableSource | ParquetSource


class MixedSource(Inputs):
    """The inputs named by paths, directories, globs and URLs, each read by its own form.

    `columns`, `options` and `plans` are those of `TableSource`. Everything that can be known before
    reading is checked here, as each form's source does it; a stream (stdin, a pipe) is looked at
    when it is read. With options that tell a delimiter or an encoding, a stream is a table.
    """

    def __init__(
        self,
        paths: Sequence[StrPath],
        columns: Columns,
        *,
        options: TableOptions | None = None,
        plans: Mapping[Header, Any] | None = None,
        stdin: BinaryIO | None = None,
    ) -> None:
        super().__init__(paths, stdin=stdin, tables=True)
        self._columns = columns
        self._options = (options or TableOptions()).checked()
        self._given = dict(plans or {})
        self._sources: dict[Form, _Source] = {}
        self._places: dict[int, tuple[Form, int]] = {}
        self.forms: dict[int, Form] = {}
        """The form of each part that could be looked at before reading."""
        for part in range(len(self)):
            if self.readable_again(part):
                file = self.open(part)
                try:
                    self.forms[part] = self._form(Stream(file, self.name(part), 4096, conclusive))
                finally:
                    self.close(part, file)
        for form in sorted(set(self.forms.values())):
            parts = [part for part, found in self.forms.items() if found == form]
            self._places |= {part: (form, at) for at, part in enumerate(parts)}
            self._sources[form] = self._source(form, [self._paths[part] for part in parts])

    def _form(self, stream: Stream) -> Form:
        found = form_of(stream.head, stream.name)
        told = self._options.delimiter is not None or self._options.encoding != UTF8
        text = not stream.head.lstrip().startswith(b"{")
        return "table" if told and text and found == "ndjson" else found

    def _source(self, form: Form, paths: Sequence[str]) -> _Source:
        if form == "ndjson":
            return FileSource(paths)
        if form == "parquet":
            return ParquetSource(paths, self._columns, plans=self._given)
        return TableSource(paths, self._columns, options=self._options, plans=self._given)

    @property
    def has_tables(self) -> bool:
        """Whether one of the inputs that were looked at is a table."""
        return bool(self._sources.keys() - {"ndjson"})

    @property
    def headers(self) -> dict[int, Header]:
        """The names of the columns of each part that is a table and was looked at."""
        found: dict[int, Header] = {}
        for part, (form, at) in self._places.items():
            source = self._sources[form]
            if not isinstance(source, FileSource) and at in source.headers:
                found[part] = source.headers[at]
        return found

    def plan(
        self, progress: Progress = lambda consumed: None, *, beside: Beside | None = None
    ) -> Mapping[Header, Any]:
        """Survey the text tables that have no plan; return the plans of all headers.

        `progress` is told the raw bytes of the text tables read so far, of `tables_bytes`; `beside`
        may survey the latter half of them. Typed columns and text ones of the same names have one
        plan: that of the text tables.
        """
        plans: dict[Header, Any] = dict(self._given)
        for form in ("parquet", "table"):
            source = self._sources.get(form)
            if isinstance(source, TableSource):
                plans |= source.plan(progress, beside=beside)
            elif isinstance(source, ParquetSource):
                plans |= source.plan(progress)
        return plans

    def findings(self, part: int, offset: int) -> Mapping[Header, Any]:
        """Return what the text tables hold behind an offset, as `TableSource.findings` does.

        The part is that of `beside`: it counts the text tables alone.
        """
        tables = self._sources["table"]
        assert isinstance(tables, TableSource)
        return tables.findings(part, offset)

    @property
    def plans(self) -> dict[Form, dict[Header, Any]]:
        """The plans there are, by the form of the tables that they are for."""
        return {
            form: dict(source.plans)
            for form, source in self._sources.items()
            if not isinstance(source, FileSource)
        }

    def alone(self) -> MixedSource:
        """Return the same as it is now, without what a subclass adds: to be handed over."""
        copy = MixedSource.__new__(MixedSource)
        copy.__dict__ |= self.__dict__
        return copy

    def go_by(self, plans: Mapping[Form, Mapping[Header, Any]]) -> None:
        """Take plans that were decided before: for their headers nothing is surveyed."""
        for form, source in self._sources.items():
            if not isinstance(source, FileSource):
                source.plans |= plans.get(form, {})

    @property
    def tables_bytes(self) -> int:
        """Raw bytes of the text tables, which are read twice where no plan is given."""
        found = self._sources.get("table")
        return 0 if found is None else sum(size or 0 for size in found.sizes)

    def start_at(self, starts: Mapping[int, Start]) -> None:
        """Let each of these parts begin at a place that an earlier reading of it told."""
        super().start_at(starts)
        for form, source in self._sources.items():
            places = {
                at: starts[part]
                for part, (of, at) in self._places.items()
                if of == form and part in starts
            }
            source.start_at(places)

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all inputs in order; blocks the caller, so drive it from a thread.

        Raises what the source of each form raises. Streams are looked at before the first block.
        """
        self.plan()
        with ExitStack() as stack:
            streams: dict[int, Iterator[Block]] = {}
            for part in range(len(self)):
                if not self.readable_again(part):
                    file = self.open(part)
                    stack.callback(self.close, part, file)
                    streams[part] = self._streamed(file, part)
            for part in range(len(self)):
                if part in streams:
                    yield from streams[part]
                    continue
                form, at = self._places[part]
                for block in self._sources[form].blocks_of(at):
                    yield block if at == part else msgspec.structs.replace(block, part=part)

    def _streamed(self, file: BinaryIO, part: int) -> Iterator[Block]:
        stream = Stream(file, self.name(part), TEXT_BYTES, conclusive)
        form = self._form(stream)
        start = self.start(part)
        if form == "table":
            table = Table(stream, part, self._options)
            if not table.header:
                return iter(())
            plan = self._given.get(table.header)
            if plan is None:
                survey = self._columns.survey(table.header, guess=False, typed=False)
                plan = self._given[table.header] = survey.plan()
            return encoded(table.rows(start), part, self._columns.encoder(plan))
        if form == "parquet":
            raise InputError(
                f"{self.name(part)} is Parquet, which is read from its end, and needs a file: "
                "save it first."
            )
        if sentence := refusal(stream.head, stream.name):
            raise InputError(sentence)
        return lines_of(stream, part, start=start)

    def write_rejects(self, reasons: Mapping[int, Reasons], path: Path) -> list[Rejects]:
        """Write the bad rows of tables, as `rejects.write_rejects` does; parts as named here.

        Other parts, and streams, which cannot be read again, are passed over.
        """
        written: list[Rejects] = []
        for form, source in self._sources.items():
            if isinstance(source, FileSource):
                continue
            own = {
                at: reasons[part]
                for part, (of, at) in self._places.items()
                if of == form and part in reasons
            }
            if own:
                written += write_rejects(source, own, path, after=len(written))
        return written
