"""Reads the rows of raw files and tables in a job, and sorts out what is no row."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import apache_beam as beam
import pyarrow as pa

from beam_jobs.formats import RawDataError, rows_of
from beam_jobs.packing import BLOCK, pack
from beam_jobs.raw_rows import NoRow, RawFile, RawRow
from beam_jobs.sources import BROKEN_FILES, REJECTS, ROWS_READ
from beam_jobs.table_rows import rows_of_dictionaries
from beam_jobs.work_done import EVENT_ROWS, ITEM_ROWS, USER_ROWS, Pieces
from courier_tf import schema

TableKind = Literal["item", "event", "user"]
ROWS_AT_A_TIME = 1_000  # Rows that are counted at once.


class ReadRows(beam.DoFn):
    """Turns a RawFile into its rows.

    What is no row goes to the output `REJECTS`, and (file, rows read) to `ROWS_READ`. The reason why a file
    could not be read to its end goes to `BROKEN_FILES`. Beam would run a worker that raises again, and show the user
    only its traceback.
    """

    def __init__(self, kind: TableKind) -> None:
        self.kind: TableKind = kind
        self.done = Pieces({"item": ITEM_ROWS, "event": EVENT_ROWS, "user": USER_ROWS}[kind])

    def process(self, file: RawFile) -> Iterator[Any]:
        return self.sorted_out(file.path, rows_of(file))

    def sorted_out(self, path: str, rows: Iterable[RawRow | NoRow]) -> Iterator[Any]:
        """The outputs of some rows of a file or table."""
        read = 0
        try:
            for row in rows:
                read += 1
                if read % ROWS_AT_A_TIME == 0:
                    self.done.add(ROWS_AT_A_TIME)
                if isinstance(row, RawRow):
                    yield row
                else:
                    reject = schema.Reject(path, row.row, row.field, row.reason, self.kind)
                    yield beam.pvalue.TaggedOutput(REJECTS, reject)
        except RawDataError as error:
            yield beam.pvalue.TaggedOutput(BROKEN_FILES, str(error))
        self.done.add(read % ROWS_AT_A_TIME)
        yield beam.pvalue.TaggedOutput(ROWS_READ, (path, read))


class ReadBlocks(beam.DoFn):
    """Reads and checks rows in one step, and packs what is left of them into lists of plain tuples.

    Beam takes as long for each row that goes from step to step as it takes to check one. The outputs are those of
    `read` and `check`.

    Args:
        read: reads rows.
        check: turns a row into named tuples, or into other outputs.
    """

    def __init__(self, read: ReadRows, check: beam.DoFn) -> None:
        self.read, self.check = read, check

    def setup(self) -> None:
        self.check.setup()

    def start_bundle(self) -> None:
        self.check.start_bundle()

    def process(self, element: Any) -> Iterator[Any]:
        block: list[tuple[Any, ...]] = []
        for row in self.read.process(element):
            for made in self.check.process(row) if isinstance(row, RawRow) else (row,):
                if isinstance(made, beam.pvalue.TaggedOutput):
                    yield made
                    continue
                block.append(tuple(made))
                if len(block) == BLOCK:
                    yield pack(block)
                    block = []
        if block:
            yield pack(block)

    def finish_bundle(self) -> Iterator[Any]:
        return self.check.finish_bundle()


class ReadDictionaries(ReadRows):
    """Turns lists of dictionaries, rows of a table that is no file, into its rows; the outputs are those of `ReadRows`.

    Args:
        kind: of the rows.
        table: the table.
        types: its columns with their types.
    """

    def __init__(self, kind: TableKind, table: RawFile, types: dict[str, pa.DataType]) -> None:
        super().__init__(kind)
        self.table, self.types = table, types

    def process(self, rows: list[dict[str, Any]]) -> Iterator[Any]:  # type: ignore[override]  # Other elements.
        return self.sorted_out(self.table.path, rows_of_dictionaries(self.table, self.types, rows))
