"""Reading the raw files: rows as dicts of text, each with its place; what is no row at all becomes a reject.

One file is read by one worker, because a quoted field of a CSV file may hold a line break: a large log should come as
several files (`events-*.csv` or a folder `events/`), which are read in parallel.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from courier_tf import schema

NAMESPACE = "courier"  # Of all counters.
REJECTS = "rejects"  # Tag of the side output.


class RawDataError(ValueError):
    """The raw folder cannot be used at all; the message says which file and why."""


class RawRow(NamedTuple):
    """One row of a raw file: where it stands, and its fields as text."""

    file: str
    row: int  # 1-based; the header of a CSV file is not counted.
    fields: dict[str, str]


def find_files(raw: str, table: str) -> list[str]:
    """The files of a raw table: `table.EXT`, `table-*.EXT` or `table/*.EXT`, of one extension.

    Raises:
        RawDataError: there are none, or files of several extensions.
    """
    found: dict[str, list[str]] = {}
    for extension in schema.RAW_EXTENSIONS:
        patterns = [FileSystems.join(raw, f"{table}{middle}.{extension}") for middle in ("", "-*")]
        patterns.append(FileSystems.join(raw, table, f"*.{extension}"))
        paths = [file.path for match in FileSystems.match(patterns) for file in match.metadata_list]
        if paths:
            found[extension] = sorted(set(paths))
    if not found:
        kinds = ", ".join(f"{table}.{extension}" for extension in schema.RAW_EXTENSIONS)
        raise RawDataError(f"{raw} holds none of {kinds}")
    if len(found) > 1:
        raise RawDataError(f"{raw} holds '{table}' in several formats ({', '.join(found)}): keep one")
    return next(iter(found.values()))


def columns_of(file: str) -> list[str]:
    """The columns of a raw file (of a .jsonl file: those of its first line).

    Raises:
        RawDataError: the file is empty or unreadable.
    """
    with FileSystems.open(file) as stream:
        if file.endswith(".parquet"):
            return pq.read_schema(io.BytesIO(stream.read())).names
        line = stream.readline().decode("utf-8-sig", errors="replace")
    if not line.strip():
        raise RawDataError(f"{file} is empty")
    if file.endswith(".csv"):
        return next(csv.reader([line.rstrip("\r\n")]))
    try:
        return list(json.loads(line))
    except (json.JSONDecodeError, TypeError) as error:
        raise RawDataError(f"{file}, row 1 is not a JSON object: {error}") from error


def require_columns(files: list[str], required: tuple[str, ...]) -> list[str]:
    """The columns that all files share.

    Raises:
        RawDataError: a file lacks one of the required columns.
    """
    shared: list[str] | None = None
    for file in files:
        columns = columns_of(file)
        missing = [column for column in required if column not in columns]
        if missing:
            raise RawDataError(f"{file} has no column '{missing[0]}'; its columns are {', '.join(columns)}")
        shared = columns if shared is None else [column for column in shared if column in columns]
    return shared or []


@dataclasses.dataclass(frozen=True)
class RawFolder:
    """What a look at the raw folder tells before any row is read."""

    path: str
    item_files: list[str]
    event_files: list[str]
    log_kind: schema.LogKind
    columns: list[str]  # Category first, then the further item columns.

    @classmethod
    def inspect(cls, raw: str) -> "RawFolder":
        """Finds the files and checks their columns.

        Raises:
            RawDataError: files or columns are missing, or do not go together.
        """
        item_files, event_files = find_files(raw, schema.RAW_ITEMS), find_files(raw, schema.RAW_EVENTS)
        columns = require_columns(item_files, schema.ITEM_REQUIRED_COLUMNS)
        event_columns = require_columns(event_files, schema.EVENT_REQUIRED_COLUMNS)
        present = [column for column in schema.IMPRESSION_LOG_COLUMNS if column in event_columns]
        if len(present) == 1:
            raise RawDataError(
                f"{event_files[0]} has '{present[0]}' alone: an impression log needs both of "
                f"{', '.join(schema.IMPRESSION_LOG_COLUMNS)}, a positives-only log has neither"
            )
        own = {*schema.ITEM_REQUIRED_COLUMNS, *schema.ITEM_OPTIONAL_COLUMNS}
        further = [column for column in columns if column not in own]
        kind = "impressions" if present else "positives"
        return cls(raw, item_files, event_files, kind, [schema.CATEGORY, *further])


class ReadRows(beam.DoFn):
    """A file name to its rows; lines that are no rows go to the output `rejects`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.read = Metrics.counter(NAMESPACE, f"{kind}_rows_read")

    def process(self, file: str) -> Iterator:
        reader = {"csv": _csv_rows, "jsonl": _jsonl_rows, "parquet": _parquet_rows}[file.rsplit(".", 1)[1]]
        with FileSystems.open(file) as stream:
            for row, fields in enumerate(reader(stream), start=1):
                self.read.inc()
                if isinstance(fields, dict):
                    bad = next((k for k, v in fields.items() if not _is_unicode(v)), None)
                    if bad is None:
                        yield RawRow(file, row, fields)
                        continue
                    reject = schema.Reject(file, row, bad, "is not UTF-8", self.kind)
                else:
                    reject = schema.Reject(file, row, "", fields, self.kind)
                yield beam.pvalue.TaggedOutput(REJECTS, reject)


def _is_unicode(text: str) -> bool:
    """False where undecodable bytes were carried along as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv_rows(stream) -> Iterator[dict[str, str] | str]:
    rows = csv.reader(io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline=""))
    header = next(rows, [])
    for values in rows:
        if len(values) == len(header):
            yield dict(zip(header, values, strict=True))
        elif values:
            yield f"has {len(values)} fields, the header has {len(header)}"
        else:
            yield "is an empty line"


def _jsonl_rows(stream) -> Iterator[dict[str, str] | str]:
    for line in io.TextIOWrapper(stream, "utf-8", errors="surrogateescape"):
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            yield f"is not JSON: {error}"
            continue
        yield {k: _text(v) for k, v in fields.items()} if isinstance(fields, dict) else "is not a JSON object"


def _parquet_rows(stream) -> Iterator[dict[str, str]]:
    for batch in pq.ParquetFile(io.BytesIO(stream.read())).iter_batches(8192):
        for fields in batch.to_pylist():
            yield {k: _text(v) for k, v in fields.items()}


def _text(value: object) -> str:
    """A typed value as a CSV file would hold it: numbers that are whole without a point, nothing as an empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
