"""The raw folder: which files and columns it has, and its rows, each with its place; what is no row becomes a reject.

One file is read by one worker, because a row is named by its number in the file: a large log should come as several
files (`events-*.csv` or a folder `events/`), which are read in parallel.
"""

import dataclasses
import glob
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from beam_jobs.formats import RawDataError, columns_of, is_unicode, rows_of
from courier_tf import schema

NAMESPACE = "courier"  # Of all counters.
REJECTS = "rejects"  # Tags of side outputs.
ROWS_READ = "rows_read"
BROKEN_FILES = "broken_files"


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
    folder = glob.escape(raw)
    for extension in schema.RAW_EXTENSIONS:
        patterns = [FileSystems.join(folder, f"{table}{middle}.{extension}") for middle in ("", "-*")]
        patterns.append(FileSystems.join(folder, table, f"*.{extension}"))
        paths = [file.path for match in FileSystems.match(patterns) for file in match.metadata_list]
        if paths:
            found[extension] = sorted(set(paths))
    if not found:
        kinds = ", ".join(f"{table}.{extension}" for extension in schema.RAW_EXTENSIONS)
        raise RawDataError(f"{raw} holds none of {kinds}")
    if len(found) > 1:
        raise RawDataError(f"{raw} holds '{table}' in several formats ({', '.join(found)}): keep one")
    return next(iter(found.values()))


def require_columns(files: list[str], required: tuple[str, ...], every_line: bool = False) -> dict[str, list[str]]:
    """The columns of each file; `every_line` as in `columns_of`.

    Raises:
        RawDataError: a file lacks one of the required columns.
    """
    found = {file: columns_of(file, every_line) for file in files}
    for file, columns in found.items():
        missing = [column for column in required if column not in columns]
        if missing:
            raise RawDataError(f"{file} has no column '{missing[0]}'; its columns are {', '.join(columns)}")
    return found


def _log_kind(columns: dict[str, list[str]]) -> schema.LogKind:
    """What the event files are, all of them.

    Raises:
        RawDataError: they have one of the columns of an impression log alone, or not all of them have both.
    """
    present = {file: [name for name in schema.IMPRESSION_LOG_COLUMNS if name in own] for file, own in columns.items()}
    for file, names in present.items():
        if len(names) == 1:
            raise RawDataError(
                f"{file} has '{names[0]}' alone: an impression log needs both of "
                f"{', '.join(schema.IMPRESSION_LOG_COLUMNS)}, a positives-only log has neither"
            )
    without = [file for file, names in present.items() if not names]
    if without and len(without) < len(present):
        other = next(file for file, names in present.items() if names)
        raise RawDataError(
            f"{without[0]} has neither of {', '.join(schema.IMPRESSION_LOG_COLUMNS)}, but {other} has both: its "
            "impressions that were not clicked would count as clicks"
        )
    return "positives" if without else "impressions"


@dataclasses.dataclass(frozen=True)
class RawFolder:
    """What a look at the raw folder tells before any row is read."""

    path: str
    item_files: list[str]
    event_files: list[str]
    log_kind: schema.LogKind
    columns: list[str]  # Category first, then the further item columns, whichever file has them.

    @classmethod
    def inspect(cls, raw: str) -> "RawFolder":
        """Finds the files and checks their columns.

        Raises:
            RawDataError: files or columns are missing, or do not go together.
        """
        item_files, event_files = find_files(raw, schema.RAW_ITEMS), find_files(raw, schema.RAW_EVENTS)
        columns = require_columns(item_files, schema.ITEM_REQUIRED_COLUMNS, every_line=True)
        kind = _log_kind(require_columns(event_files, schema.EVENT_REQUIRED_COLUMNS))
        own = {*schema.ITEM_REQUIRED_COLUMNS, *schema.ITEM_OPTIONAL_COLUMNS}
        further = dict.fromkeys(column for names in columns.values() for column in names if column not in own)
        return cls(raw, item_files, event_files, kind, [schema.CATEGORY, *further])


class ReadRows(beam.DoFn):
    """A file name to its rows.

    Lines that are no rows go to the output `REJECTS`, (name, rows read) to `ROWS_READ`, and why a file could not be
    read to its end to `BROKEN_FILES`: a worker that raised would be tried again, and the user see its traceback only.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def process(self, file: str) -> Iterator:
        read = 0
        try:
            with FileSystems.open(file) as stream:
                for read, fields in enumerate(rows_of(file, stream), start=1):
                    yield self._row_or_reject(file, read, fields)
        except RawDataError as error:
            yield beam.pvalue.TaggedOutput(BROKEN_FILES, str(error))
        yield beam.pvalue.TaggedOutput(ROWS_READ, (f"{self.kind}_rows_read", read))

    def _row_or_reject(self, file: str, row: int, fields: dict[str, str] | str) -> RawRow | beam.pvalue.TaggedOutput:
        if isinstance(fields, str):
            bad, reason = "", fields
        else:
            bad, reason = next((name for name, text in fields.items() if not is_unicode(text)), None), "is not UTF-8"
            if bad is None:
                return RawRow(file, row, fields)
        return beam.pvalue.TaggedOutput(REJECTS, schema.Reject(file, row, bad, reason, self.kind))
