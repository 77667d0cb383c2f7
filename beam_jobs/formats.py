"""The columns and the rows of a raw file, whatever its format. It is read as a stream."""

from collections.abc import Iterator

from beam_jobs import bigquery, csv_rows, json_rows, parquet_rows, table_rows
from beam_jobs.dialects import Dialect
from beam_jobs.file_windows import window
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import NoRow, RawFile, RawRow, is_unicode, require_columns
from beam_jobs.raw_streams import naming, opened, seekable

__all__ = ["NoRow", "RawDataError", "RawFile", "RawRow", "columns_of", "is_unicode", "rows_of"]


def columns_of(file: str, dialect: Dialect, every_row: bool = False) -> list[str]:
    """The columns of a raw file, in the order of their first occurrence. A file without any byte has none.

    Args:
        file: path of the file.
        dialect: how it is written.
        every_row: read a file of JSON to its end, for columns that its first rows leave out.

    Raises:
        RawDataError: the file is unreadable, has too many columns, or two of one name.
    """
    if dialect.format == "empty":
        return []
    if dialect.format in (*parquet_rows.TYPED, bigquery.FORMAT):
        columns = list(parquet_rows.types_of(file, dialect))
    elif dialect.format == "csv":
        columns = csv_rows.header_of(file, dialect)
    else:
        columns = list(json_rows.columns_of(file, dialect, every_row))
    require_columns(file, columns)
    return columns


def rows_of(file: RawFile) -> Iterator[RawRow | NoRow]:
    """The rows of a raw file, or of a part of it, in order. What is no row comes with its reason.

    Raises:
        RawDataError: the file breaks off, or does not tell ids apart.
    """
    dialect = file.dialect
    if dialect.format == bigquery.FORMAT:
        yield from table_rows.rows_of(file)
    elif dialect.format in parquet_rows.TYPED:
        with naming(file.path, parquet_rows.TYPED[dialect.format]), seekable(file.path, dialect.compression) as stream:
            yield from parquet_rows.rows_of(file, stream)
    elif dialect.format != "empty":
        of_format = csv_rows if dialect.format == "csv" else json_rows
        with naming(file.path), opened(file.path, dialect.compression) as stream:
            yield from of_format.rows_of(file, window(stream, file.part))
