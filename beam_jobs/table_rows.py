"""The rows of a raw table that is no file: of BigQuery.

Its rows have no numbers and no order. What names a row, and decides between two of one time, is a hash of its fields.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_jobs import bigquery, parquet_rows
from beam_jobs.raw_rows import NoRow, RawFile, RawRow
from beam_jobs.stable import stable_hash

BATCH = 1_000  # Rows that become columns of Arrow together.


def rows_of(file: RawFile) -> Iterator[RawRow | NoRow]:
    """The rows of a table for a look at it, page by page.

    Raises:
        RawDataError: the table cannot be read, or an id is a list or a record.
    """
    return _named(parquet_rows.rows_of_batches(file, parquet_rows.batches_of_table(file)))


class ReadTable(beam.PTransform):
    """Reads all rows of a table, as lists of dictionaries.

    Args:
        table: the table, as a raw file.
    """

    def __init__(self, table: RawFile) -> None:
        super().__init__(f"Read {table.path}")
        self.table = table

    def expand(self, pipeline: Any) -> Any:
        rows = pipeline | "Rows" >> bigquery.read_rows(self.table.path, self.table.columns)
        return rows | "Batches" >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)


def rows_of_dictionaries(
    table: RawFile, types: dict[str, pa.DataType], rows: Iterable[dict[str, Any]]
) -> Iterator[RawRow | NoRow]:
    """The rows of a table from dictionaries by the table's names.

    Raises:
        RawDataError: an id is a list or a record.
    """
    batch = bigquery.batch_of(table.path, types, table.columns, rows)
    return _named(parquet_rows.rows_of_batches(table, [batch]))


def _named(rows: Iterable[RawRow | NoRow]) -> Iterator[RawRow | NoRow]:
    for row in rows:
        fields = sorted(row.fields.items()) if isinstance(row, RawRow) else (row.reason, row.field)
        yield row._replace(row=stable_hash(*fields))
