"""The three raw formats: the columns of a file, and its rows as dicts of text.

A row of a CSV file is one line. A quoted field may hold commas and doubled quotes, but no line break; use .jsonl or
.parquet for such texts. So a quote that is not closed costs its own line only, and not all lines up to the next quote.
Each line is a row or a reject, and none is lost without being counted.
"""

import contextlib
import csv
import io
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems


class RawDataError(ValueError):
    """The raw folder cannot be used. The message names the file and the reason."""


class _NoRow(ValueError):
    """A line is not a row. The message is the reason."""


def columns_of(file: str, every_line: bool = False) -> list[str]:
    """The columns of a raw file, in the order of their first occurrence.

    Args:
        file: path of the file.
        every_line: read a .jsonl file to its end, for columns that its first line leaves out.

    Raises:
        RawDataError: the file is empty or unreadable.
    """
    with FileSystems.open(file) as stream:
        if file.endswith(".parquet"):
            with _naming(file):
                return pq.read_schema(io.BytesIO(stream.read())).names
        lines = _lines(stream)
        first = next(lines, "")
        if not first.strip():
            raise RawDataError(f"{file} is empty")
        try:
            columns = _csv_fields(first) if file.endswith(".csv") else list(_json_object(first))
        except _NoRow as error:
            raise RawDataError(f"{file}, its first line {error}") from error
        if every_line and file.endswith(".jsonl"):
            columns = list(dict.fromkeys(itertools.chain(columns, _further_columns(lines))))
    if not all(map(is_unicode, columns)):
        raise RawDataError(f"{file}, its column names are not UTF-8")
    return columns


def _further_columns(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):  # The line is rejected when the rows are read.
            fields = json.loads(line)
            if isinstance(fields, dict):
                yield from filter(is_unicode, fields)


def rows_of(file: str, stream: BinaryIO) -> Iterator[dict[str, str] | str]:
    """The rows of an open raw file, in order. A line that is not a row gives the reason, as a text.

    Bytes that are not UTF-8 are decoded to surrogates; see `is_unicode`.

    Raises:
        RawDataError: a Parquet file breaks off. In the other formats this costs one line only.
    """
    if file.endswith(".parquet"):
        with _naming(file):
            yield from _parquet_rows(stream)
        return
    lines = _lines(stream)
    header = _csv_fields(next(lines, "")) if file.endswith(".csv") else None
    for line in lines:
        try:
            yield _json_object(line) if header is None else _csv_row(line, header)
        except _NoRow as error:
            yield str(error)


def is_unicode(text: str) -> bool:
    """Whether a text holds no surrogates, which stand for bytes that could not be decoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(stream: BinaryIO) -> Iterator[str]:
    with io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text:
        yield from text


def _csv_fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        open_quote = "end of data" in str(error)
        reason = "a quote is not closed on its line (line breaks inside a field are not read)" if open_quote else error
        raise _NoRow(f"is not CSV: {reason}") from error


def _csv_row(line: str, header: list[str]) -> dict[str, str]:
    values = _csv_fields(line)
    if not values:
        raise _NoRow("is an empty line")
    if len(values) != len(header):
        raise _NoRow(f"has {len(values)} fields, the header has {len(header)}")
    return dict(zip(header, values, strict=True))


def _json_object(line: str) -> dict[str, str]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:  # Not JSON, a number of thousands of digits, or nested too deeply.
        raise _NoRow(f"is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _NoRow("is not a JSON object")
    return {name: _text(value) for name, value in fields.items()}


def _parquet_rows(stream: BinaryIO) -> Iterator[dict[str, str]]:
    for batch in pq.ParquetFile(io.BytesIO(stream.read())).iter_batches(8192):
        # Arrow does not check texts that are read as bytes. A text that is not UTF-8 must cost its row only.
        columns = [column.cast(pa.large_binary()) if _is_text(column) else column for column in batch.columns]
        for fields in pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist():
            yield {name: _text(value) for name, value in fields.items()}


def _is_text(column: pa.Array) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


@contextlib.contextmanager
def _naming(file: str) -> Iterator[None]:
    """Turns the errors that Arrow raises for a broken file into a RawDataError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())  # Arrow's messages have several lines.
        raise RawDataError(f"{file} is no readable Parquet file: {reason}") from error


def _text(value: object) -> str:
    """A typed value as a CSV file would hold it: whole numbers without a point, a missing value as an empty text.

    >>> [_text(value) for value in (None, 3.0, 2.5, True, b"a")]
    ['', '3', '2.5', '1', 'a']
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):  # pandas writes missing values as NaN.
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
